# SPDX-License-Identifier: Apache-2.0
"""Calibration finds the machine that made the measurements."""

from dataclasses import replace
from pathlib import Path

import pytest

from commbench.calibrate.fit import calibrate, predict_s
from commbench.calibrate.machine import Machine
from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind
from commbench.collectives.text import digest
from commbench.errors import InputError
from commbench.results.records import Measured
from commbench.topology.load import load_fabric

TRUTH = Machine(
    name="truth",
    cores=2,
    message_overhead_s=20e-6,
    latency_s=30e-6,
    bandwidth=4e9,
    reduction=6e9,
    source="made up",
)
SIZES = [2**k for k in range(16, 25)]  # 64 KiB to 16 MiB


def measured(size: int, algorithm: str = "ring", ranks: int = 4, **changes: object) -> Measured:
    """A point as TRUTH would have given it: simulated time, and phases from its own numbers."""
    schedule = build_schedule("all-reduce", algorithm, ranks, 1)
    blank = Measured(
        run="r", collective="all-reduce", algorithm=schedule.algorithm, backend="gloo", ranks=ranks, size_bytes=size,
        num_elements=size // 4, dtype="float32", op="sum", samples_s=((1.0,),) * ranks,
        busbw_factor=2 * (ranks - 1) / ranks,
        timing="isolated", launcher="commbench", started_at="2026-01-01T00:00:00Z",
        environment={"hostname": "truth", "cores_usable": 2},
    )  # fmt: skip
    time_s = predict_s(TRUTH, blank)
    post = [[len(schedule.ops_of(rank)) * TRUTH.message_overhead_s] * 3 for rank in range(ranks)]
    chunk = size / schedule.num_chunks
    adds = [sum(op.kind is Kind.REDUCE for op in schedule.ops_of(rank)) for rank in range(ranks)]
    reduce = [[count * chunk / TRUTH.reduction] * 3 for count in adds]
    point = replace(blank, samples_s=((time_s,) * 3,) * ranks, phases_s={"post": post, "wait": post, "reduce": reduce})
    return replace(point, **changes)


def test_it_recovers_the_numbers_of_the_machine_that_was_measured() -> None:
    found = calibrate([measured(size) for size in SIZES], name="found", source="test")
    assert found.cores == 2
    assert found.message_overhead_s == pytest.approx(20e-6, rel=1e-6)
    assert found.reduction == pytest.approx(6e9, rel=1e-3)
    assert found.latency_s == pytest.approx(30e-6, rel=0.01)
    assert found.bandwidth == pytest.approx(4e9, rel=0.01)


def test_another_schedule_under_the_same_name_is_refused() -> None:
    right = digest(build_schedule("all-reduce", "ring", 4, 1))
    calibrate([measured(size, schedule=right) for size in SIZES], name="found", source="test")
    other = digest(build_schedule("all-reduce", "double-binary-tree", 4, 1))
    with pytest.raises(InputError, match="is another schedule than commbench's own"):
        calibrate([measured(size, schedule=other) for size in SIZES], name="found", source="test")


def test_one_disturbed_point_does_not_decide() -> None:
    points = [measured(size) for size in SIZES]
    points[4] = replace(points[4], samples_s=tuple(tuple(3 * t for t in row) for row in points[4].samples_s))
    found = calibrate(points, name="found", source="test")
    assert found.bandwidth == pytest.approx(4e9, rel=0.15)
    assert found.latency_s == pytest.approx(30e-6, rel=0.5)


def test_what_is_written_reads_back_as_the_same_machine(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    TRUTH.write(path, 4)
    topology = load_fabric(path)
    assert topology.num_ranks == 4
    assert topology.costs == TRUTH.topology(4).costs
    assert topology.costs.cores_per_host == 2
    assert [link.bandwidth for link in topology.links] == [link.bandwidth for link in TRUTH.topology(4).links]
    assert (
        topology.numbers[
            "memory.bandwidth" if "memory.bandwidth" in topology.numbers else "host.memory.bandwidth"
        ].provenance
        == "fitted"
    )


@pytest.mark.parametrize(
    ("points", "rule"),
    [
        ([measured(2**20)], "two sizes"),
        ([measured(2**20), measured(2**21, phases_s={})], "none"),
        (
            [measured(2**20), measured(2**21, environment={"hostname": "other", "cores_usable": 2})],
            "one machine",
        ),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(points: list[Measured], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        calibrate(points, name="found", source="test")


def test_a_run_on_two_channels_is_predicted_with_two() -> None:
    schedule = build_schedule("all-reduce", "ring", 4, 1, channels=2)
    point = replace(measured(2**20), channels=2, schedule=digest(schedule))
    assert predict_s(TRUTH, point) != predict_s(TRUTH, measured(2**20))  # before: refused as another schedule
