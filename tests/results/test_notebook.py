# SPDX-License-Identifier: Apache-2.0
"""Records in a notebook: a table of what they hold, names of others as text."""

from dataclasses import replace
from xml.etree import ElementTree

from tests.report import samples
from tests.report.test_live_steps import TRAFFIC


def cells(html: str) -> dict[str, str]:
    rows = ElementTree.fromstring(html).iter("tr")
    return {name.text or "": value.text or "" for name, value in rows}


def test_a_record_shows_its_figures_and_plain_fields() -> None:
    record = samples.measured()
    shown = cells(record._repr_html_())
    assert shown["kind"] == "measured"
    assert float(shown["time_s"]) == record.time_s
    assert float(shown["busbw_GBps"]) == record.busbw_GBps
    assert shown["size_bytes"] == str(record.size_bytes)
    assert not shown.keys() & {"samples_s", "environment"}


def test_names_of_others_are_text() -> None:
    evil = "<script>alert(1)</script>&"
    assert cells(replace(samples.measured(), launcher=evil)._repr_html_())["launcher"] == evil
    assert "spans" not in cells(TRAFFIC._repr_html_())
