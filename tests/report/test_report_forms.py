# SPDX-License-Identifier: Apache-2.0
"""``report`` as Markdown, and as curves for papers and slides."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.errors import InputError
from commbench.report.plots import plot
from commbench.results.journal import read_records


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("forms") / "sim.jsonl"
    given = ["sim", "all-reduce", "-t", "star-8", "-a", "ring", "-b", "1K", "-e", "4M", "-f", "64", "--out", str(file)]
    assert CliRunner().invoke(app, given).exit_code == 0
    return file


def test_markdown_has_the_answer_and_every_row(simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    done = CliRunner().invoke(app, ["report", str(simulated), "--out", str(out), "--title", "ring | *star*"])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert text.startswith("# ring \\| \\*star\\*\n")
    assert "- **" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and ("KiB" in line or "MiB" in line)]
    assert len(rows) >= 3
    heads = [line for line in text.splitlines() if line.startswith("|---") or line.startswith("|--")]
    assert all(line.count("|") == heads[0].count("|") for line in rows[:3])


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_curves_are_files_for_papers(simulated: Path, tmp_path: Path, form: str, begins: bytes) -> None:
    written = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.{form}"
        assert CliRunner().invoke(app, ["report", str(simulated), "--out", str(out)]).exit_code == 0
        written.append(out.read_bytes())
    assert written[0].startswith(begins)
    assert written[0] == written[1]


def test_a_figure_shows_what_the_records_have(simulated: Path) -> None:
    records = list(read_records(simulated))
    left, right = plot(records).axes
    lines = {line.get_label(): line for line in left.get_lines()}
    ring = lines["ring"]
    assert list(ring.get_xdata()) == [record.size_bytes for record in records]  # type: ignore[arg-type]
    assert list(ring.get_ydata()) == [record.busbw_GBps for record in records]  # type: ignore[arg-type]
    assert ring.get_linestyle() == "--"
    assert list(right.get_lines()[0].get_ydata()) == [record.time_s for record in records]  # type: ignore[arg-type]


def test_bounds_of_two_fabrics_are_told_apart(simulated: Path) -> None:
    """Both were dotted in one grey, so that the key told nothing."""
    records = list(read_records(simulated))
    there = [replace(one, topology="there", lower_bound_s=one.lower_bound_s / 2) for one in records]  # type: ignore[call-arg]
    left, _ = plot([*records, *there]).axes
    bounds = [line for line in left.get_lines() if str(line.get_label()).startswith("bound")]
    assert len(bounds) == 2
    assert len({(str(line.get_linestyle()), line.get_color()) for line in bounds}) == 2


def test_nothing_to_plot_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of these records has a size and a time to plot"):
        plot([])
