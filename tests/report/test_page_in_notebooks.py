# SPDX-License-Identifier: Apache-2.0
"""What a notebook gets of results: headlines that hostile text cannot leave, a DataFrame, figures, a page."""

from pathlib import Path

import pytest

import commbench as cb
from commbench.errors import InputError
from commbench.results.journal import Journal
from tests.report import samples
from tests.training.plans import plan, simulate

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "runs.jsonl"
    Journal(file).extend(samples.everything())
    return file


def test_a_results_file_is_read_shown_and_written(kept: Path) -> None:
    runs = cb.read(kept)
    assert len(runs) == len(samples.everything()) == len(runs.frame())
    assert list(runs.frame()["file"].unique()) == [str(kept)]
    shown = runs._repr_html_()
    assert "<b>Within thresholds</b>" in shown
    assert f"{sum(r.kind == 'measured' for r in runs)} measured" in shown
    assert len(runs.plot().axes) == 2, "bus bandwidth and time of one panel"
    assert "<h2>Bandwidth and time by size</h2>" in runs.page(kept.with_suffix(".html")).read_text(encoding="utf-8")
    assert len(runs[:2]) == 2
    assert runs[0].kind == "measured"


def test_text_of_records_is_never_markup() -> None:
    record = samples.measured(HOSTILE, run=HOSTILE)
    assert HOSTILE not in cb.Results((record,), ("f",))._repr_html_()
    assert HOSTILE not in record._repr_html_()


def test_a_step_shows_its_passes_by_time() -> None:
    record = simulate(plan(tp=2, pp=2, dp=4)).record
    (axis,) = cb.plot(record).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["unit 0, position 0", "unit 1, position 1"]
    passes = sum(len(bars.get_paths()) for bars in axis.collections)
    assert passes == len(record.spans)


def test_a_result_shows_its_tasks_by_time() -> None:
    cluster = cb.load_cluster("shared-memory-4")
    program = cb.collective_program("all-reduce", "1 MiB", ranks=4)
    result = cb.simulate(program, cluster, cb.Ideal(algorithms={"all-reduce": "ring"}))
    (axis,) = cb.plot(result).axes
    assert sum(len(bars.get_paths()) for bars in axis.collections) >= result.transfers
    assert f"<td>{result.time_s}</td>" in result._repr_html_()


def test_what_cannot_be_plotted_says_what_can(kept: Path) -> None:
    with pytest.raises(InputError, match="give those of run, sim or import"):
        cb.plot([r for r in cb.read(kept) if r.kind == "summary"])
