# SPDX-License-Identifier: Apache-2.0
"""The page: whole HTML, every record's numbers, nothing from outside, the same every time, no text taken for markup."""

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.report.page import ReportInput, render
from commbench.report.text import signed_percent, time_parts
from commbench.results.records import Compared, Measured, Simulated
from commbench.topology.load import load_fabric
from tests.report import samples

VOID = {"meta", "link", "br", "hr", "img", "input"}
EVIL = '<script>alert("x")</script>&$a$'


def inputs() -> dict[str, ReportInput]:
    """One page for each combination of what may be there."""
    simulation = samples.simulation()
    measured, simulated = samples.measured_records(), samples.simulated_records()
    compared = samples.compared_records(measured, simulated)
    fabrics = [load_fabric("shared-memory-4"), load_fabric("fat-tree-16")]
    return {
        "everything": ReportInput(
            title="everything",
            records=samples.everything(),
            topologies=fabrics,
            simulation=simulation,
            command=samples.COMMAND,
            notes=["4 ranks on 8 cores."],
            calibration=samples.CALIBRATION,
        ),
        "fell short": ReportInput("fell short", samples.everything(ok=False)),
        "measured": ReportInput("measured", measured, command=samples.COMMAND),
        "simulated": ReportInput("simulated", simulated, simulation=simulation),
        "compared": ReportInput("compared", compared),
        "summary": ReportInput("summary", [samples.summary()]),
        "topology": ReportInput("topology", [], topologies=fabrics),
        "chart": ReportInput("chart", [], simulation=simulation),
        "one point": ReportInput("one point", [samples.measured()]),
        "one rank": ReportInput("one rank", [samples.measured("native", ranks=1)]),
        "no bytes": ReportInput("no bytes", [samples.measured(size=0)]),
    }


PAGES = {name: render(report) for name, report in inputs().items()}
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())


class Reader(HTMLParser):
    """Reads a page strictly: every tag closed in order. Gathers attributes, and text by the tag around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> at {self.getpos()} closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} out of order"

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


@every_page
def test_tags_are_balanced_and_ids_are_unique(page: str) -> None:
    reader = Reader(page)
    twice = [name for name, count in Counter(reader.values("id")).items() if count > 1]
    assert twice == []
    assert sum(tag == "script" for tag, _ in reader.text) == 1


@every_page
def test_nothing_comes_from_outside(page: str) -> None:
    reader = Reader(page)
    ids = set(reader.values("id"))
    for target in reader.values("href", "src", "xlink:href", "data", "action", "srcset"):
        assert target == "data:," or target.removeprefix("#") in ids, target
    for text in [
        *reader.values("style", "clip-path", "fill", "filter"),
        *(d for tag, d in reader.text if tag == "style"),
    ]:
        assert "@import" not in text
        for target in re.findall(r"url\(([^)]*)\)", text):
            assert target in {f"#{name}" for name in ids}, target
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|import|WebSocket)\b", "".join(d for t, d in reader.text if t == "script")
    )
    assert "default-src 'none'" in page


@every_page
def test_no_stand_in_colour_is_left(page: str) -> None:
    """Figures are drawn in colours that page.css replaces; one that is left would be black on black."""
    assert re.findall(r"#0[12]0[12][0-9a-f]{2}\b", page) == []
    used, known = set(re.findall(r"var\((--[a-z0-9-]+)\)", page)), set(re.findall(r"(--[a-z0-9-]+):", page))
    assert used <= known


def test_the_same_input_gives_the_same_bytes() -> None:
    """In another process, with other hashes."""
    code = "from tests.report.test_report_page import PAGES; import sys; sys.stdout.write(''.join(PAGES.values()))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "12345", "PYTHONIOENCODING": "utf-8"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    ).stdout
    again = out.decode()
    same = {name: page in again for name, page in PAGES.items()}
    assert all(same.values()), same


def test_every_record_is_there_with_its_numbers() -> None:
    page = PAGES["everything"]
    sortable = set(Reader(page).values("data-sort"))
    for record in samples.everything():
        match record:
            case Measured():
                wanted = [record.time_s, record.spread_s, record.algbw_GBps, record.busbw_GBps, max(record.slowest_s)]
                shown = [time_parts(record.time_s)[0], f"{record.busbw_GBps:.3f}"]
            case Simulated():
                wanted = [record.time_s, record.lower_bound_s, record.transfers]
                shown = [time_parts(record.time_s)[0], f"{record.busbw_GBps:.3f}"]
            case Compared():
                wanted = [record.error, record.measured_s, record.simulated_s]
                shown = [f'<span class="v">{signed_percent(record.error)}</span>']
            case _:
                wanted, shown = [], ["4.1", "11.2"]
        assert {str(value) for value in wanted} <= sortable, record
        assert all(text in page for text in shown), (record, shown)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "everything",
            "Within thresholds 9 test points: median |error| 4.1 %, 95th percentile 11.2 % (at most 5 % and 15 %).",
        ),
        (
            "fell short",
            "Fell short 9 test points: median |error| 4.1 %, 95th percentile 11.2 % (at most 3 % and 10 %).",
        ),
        ("compared", "Compared 14 points, 9 of them for test; no summary record, so nothing was judged."),
        ("one rank", "Measured all-reduce on 1 rank: 1 size, bus bandwidth has no meaning."),
    ],
)
def test_the_verdict_is_a_sentence(name: str, words: str) -> None:
    text = " ".join("".join(data for _, data in Reader(PAGES[name]).text).split())
    assert words in text


def test_wrong_values_come_before_any_other_verdict() -> None:
    page = render(
        ReportInput("wrong", [samples.summary(), samples.measured(wrong=2), samples.measured("native", wrong=None)])
    )
    assert page.index("Wrong results") < page.index("Within thresholds")
    assert "2 wrong values at 1 measured size" in page
    assert "not checked" in page


def test_where_the_numbers_came_from() -> None:
    page = PAGES["everything"]
    for key, quantity in load_fabric("fat-tree-16").numbers.items():
        assert f"<code>{key}</code>" in page
        assert quantity.text in page
    for words in (
        samples.COMMAND,
        "AMD EPYC 7713P",
        "2.13.0+cpu",
        "31.25 GiB",
        "least squares on 6 fit points",
        "lab-03 × 4",
    ):
        assert words in page
    assert page.count('class="badge assumed"') > page.count('class="badge fitted"') > 0


def test_text_of_others_is_never_markup() -> None:
    report = ReportInput(
        title=EVIL,
        records=[
            samples.measured(
                EVIL, run=EVIL, launcher=EVIL, started_at=EVIL, environment={"hostname": EVIL, EVIL: [EVIL]}
            ),
            samples.compared_records(samples.measured_records(), samples.simulated_records())[0],
        ],
        command=EVIL,
        notes=[EVIL],
    )
    reader = Reader(render(report))
    assert sum(tag == "script" for tag, _ in reader.text) == 1
    assert sum(EVIL in text for _, text in reader.text) >= 8, "as text it is there, dollar signs and all"
    assert [text for tag, text in reader.text if tag == "text" and "script" in text] == [EVIL] * 2, "in both curves"


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(InputError, match="'empty': no records, no topologies and no simulation"):
        render(ReportInput("empty", []))


def test_records_of_one_kind_bring_no_other_section() -> None:
    assert 'id="error"' not in PAGES["measured"]
    assert 'id="curves"' not in PAGES["compared"]
    assert 'id="ranks"' not in PAGES["compared"]
    assert 'id="topology"' not in PAGES["simulated"]
    for name, page in PAGES.items():
        assert 'id="origin"' in page, name


def test_definitions_are_of_words_that_the_page_has() -> None:
    assert "<dt>region</dt>" in PAGES["compared"]
    assert "<dt>region</dt>" not in PAGES["measured"]
    assert "<dt>busbw</dt>" not in PAGES["topology"]
