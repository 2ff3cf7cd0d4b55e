# SPDX-License-Identifier: Apache-2.0
"""``run tensor-parallel``: its table, what it appends to the journal, and what fails."""

from dataclasses import replace
from pathlib import Path

import pytest

from commbench.cli.run_tensor_parallel import tensor_parallel_table
from commbench.errors import CheckFailedError
from commbench.experiments.tensor_parallel import BlockTwins, compare_all, judge
from commbench.results.journal import read_records
from tests.validate.made_up_blocks import MEBI, TRUTH, alone, as_the_machine_has_it, block, spans_of

CALLS = [("all-reduce", MEBI)] * 4
RANKS = (spans_of(CALLS, [0.010] * 4), spans_of(CALLS, [0.012] * 4))
POINTS = [alone(size) for size in (MEBI // 4, MEBI, 4 * MEBI)]
SLOW = replace(TRUTH, machine=replace(TRUTH.machine, latency_s=2e-3))


def found(tmp_path: Path, machine: object = TRUTH, max_error: float | None = None) -> list[BlockTwins]:
    """Twins of a block that this machine has measured, calibrated on all-reduces of TRUTH."""
    measured = as_the_machine_has_it(block([RANKS] * 3), machine)  # type: ignore[arg-type]
    twins, points = compare_all([*POINTS, measured], tmp_path / "r.jsonl", max_error)
    assert points == POINTS
    return twins


def _joined(lines: list[str]) -> str:
    """Sentences above the table without their breaks."""
    return " ".join(line.removeprefix("#").strip() for line in lines)


def test_table_has_measured_and_simulated_side_by_side(tmp_path: Path) -> None:
    (both,) = found(tmp_path)
    lines = tensor_parallel_table([both], POINTS).splitlines()
    assert "calibrated on all-reduces alone, 256 KiB to 4 MiB, which it explains to 0.0% (median)" in _joined(lines)
    time = f"{4e3 * (TRUTH.predict_s(POINTS[1]) + 0.002):.2f}"
    *_, measured, spread, simulated, error, _ = lines[-1].split()
    assert (measured, spread, error.strip("+-")) == (time, "0.00", "0.0")
    assert float(simulated) == pytest.approx(float(time), rel=0.001)
    assert [len(line) for line in lines[-3:]] == [len(lines[-1])] * 3


def test_without_all_reduces_alone_nothing_is_simulated(tmp_path: Path) -> None:
    twins, points = compare_all([block([RANKS])], tmp_path / "r.jsonl")
    assert points == []
    assert twins == [BlockTwins(block([RANKS]))]
    assert not (tmp_path / "r.jsonl").exists()
    table = tensor_parallel_table(twins)
    assert "simulated: not simulated (gloo ranks of one host are)" in _joined(table.splitlines())
    assert table.splitlines()[-1].split()[-3:-1] == ["n/a", "n/a"]


def test_twins_are_appended_to_the_journal(tmp_path: Path) -> None:
    (both,) = found(tmp_path)
    assert read_records(tmp_path / "r.jsonl") == [both.simulated, both.compared]


def test_a_threshold_fails_only_where_it_is_given(tmp_path: Path) -> None:
    both = found(tmp_path, SLOW)
    assert both[0].compared is not None
    assert both[0].compared.error < -0.15
    assert both[0].compared.ok is False
    right = [replace(each, measured=replace(each.measured, counts=())) for each in both]
    right = [replace(each, measured=replace(each.measured, counts=(), formula_bytes_times_ranks=0)) for each in right]
    judge(right, None)
    given = [replace(one, compared=each.compared) for one, each in zip(right, found(tmp_path, SLOW, 0.2), strict=True)]
    with pytest.raises(CheckFailedError, match=r"by hand, sequence parallel no: .* is more than 20.0%"):
        judge(given, 0.2)
    judge([replace(one, compared=replace(one.compared, max_error=0.9)) for one in given], 0.9)  # type: ignore[type-var]


def test_wrong_gradients_and_bytes_come_first(tmp_path: Path) -> None:
    (both,) = found(tmp_path, SLOW, 0.2)
    with pytest.raises(CheckFailedError, match=r"gradients are off by 0\.5"):
        judge([replace(both, measured=replace(both.measured, largest_error=0.5))], 0.2)
    with pytest.raises(CheckFailedError, match="B were moved, the formula says"):
        judge([replace(both, measured=replace(both.measured, formula_bytes_times_ranks=7))], 0.2)
