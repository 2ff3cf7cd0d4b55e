# SPDX-License-Identifier: Apache-2.0
"""Text that no one should write does not break a drawing, an SVG or a page."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.report.draw import topology_svg
from commbench.report.page import ReportInput, render
from commbench.report.text import printable
from commbench.results.outfile import write_whole
from commbench.topology.load import load_fabric
from tests.report import samples

HOSTILE = ["$\\frac{$", "a\0b", "\x1b[31mred", "lone \ud800 surrogate", "<b>&\"'", "\x85\uffff\x0b", "_under"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_drawings_and_pages_survive(text: str) -> None:
    topology = load_fabric("star-8")
    hostile = dataclasses.replace(topology, name=text, description=text)
    ElementTree.fromstring(topology_svg(hostile))
    record = dataclasses.replace(samples.measured(), algorithm=text, run=text, dtype=text, launcher=text)
    simulated = dataclasses.replace(samples.simulation().record, topology=text, scenario=text, algorithm=text)
    page = render(ReportInput(title=text, records=[record, simulated], topologies=[hostile], command=text))
    assert page == printable(page)
    page.encode()


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, "new")
    assert path.read_text("utf-8") == "new"


def test_a_picture_is_svg_and_its_name_says_so(tmp_path: Path) -> None:
    for words in (["topology", "draw", "star-8"], ["algorithm", "crossover", "-t", "star-8"]):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "x.png")])
        assert "pictures are written as SVG; name it x.svg" in str(done.exception)
    assert not list(tmp_path.iterdir())
