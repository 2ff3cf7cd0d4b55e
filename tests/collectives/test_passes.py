# SPDX-License-Identifier: Apache-2.0
"""Passes: what they do to steps, channels and chunks, and that what comes out is still right."""

import numpy as np
import pytest

from commbench.collectives.passes import add_channels, pipeline
from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import COLUMNS, Kind, Op, Schedule
from commbench.collectives.verify import verify
from commbench.errors import InputError, ScheduleError
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective


def stretched(schedule: Schedule, factor: int) -> Schedule:
    """The same with ``factor`` - 1 idle steps after every step, and as many more steps in flight."""
    table = schedule.table.copy()
    table[:, COLUMNS.index("step")] *= factor
    return Schedule(
        schedule.collective, schedule.algorithm, schedule.num_ranks, schedule.num_chunks, table, window=factor
    )


@pytest.mark.parametrize("num_slices", [1, 2, 3, 8])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_pipeline_counts(window: int, num_slices: int) -> None:
    """A schedule of T steps has T + (k - 1) x window after cutting into k slices."""
    base = stretched(build_schedule("all-reduce", "ring", 4), window)
    steps = (2 * (4 - 1) - 1) * window + 1  # 6 steps, the last one without idle steps behind it
    assert base.num_steps == steps
    sliced = pipeline(base, num_slices)
    assert sliced.num_steps == steps + (num_slices - 1) * window
    assert sliced.num_chunks == 4 * num_slices
    assert len(sliced) == num_slices * len(base)
    assert sliced.window == window
    verify(sliced)


def test_pipeline_places_slices() -> None:
    """Slice j of chunk c is chunk 3c + j and goes j steps later."""
    op = Op(2, 0, 0, Kind.SEND, 1, 1)
    base = Schedule.from_ops("all-reduce", "x", 2, 2, [op])
    assert list(pipeline(base, 3)) == [Op(2 + j, 0, 0, Kind.SEND, 1, 3 + j) for j in range(3)]


def test_the_input_is_left_alone() -> None:
    base = build_schedule("all-reduce", "ring", 3)
    before = base.table.copy()
    pipeline(base, 2)
    add_channels(base, 2)
    assert np.array_equal(base.table, before)
    with pytest.raises(ValueError, match="read-only"):
        base.table[0, 0] = 9


@pytest.mark.parametrize("algorithm", ["ring", "tree"])
@pytest.mark.parametrize("num_channels", [1, 2, 3])
def test_channels(algorithm: str, num_channels: int) -> None:
    """As many steps as before, each slice on channels of its own."""
    base = build_schedule("all-reduce", algorithm, 5, 1)
    wide = add_channels(base, num_channels)
    assert wide.num_steps == base.num_steps
    assert wide.num_channels == base.num_channels * num_channels
    assert wide.num_chunks == base.num_chunks * num_channels
    verify(wide)


def test_passes_combine() -> None:
    both = add_channels(pipeline(build_schedule("all-reduce", "ring", 4), 2), 2)
    assert (both.num_steps, both.num_channels, both.num_chunks) == (6 + 1, 2, 16)
    verify(both)


def test_channels_leave_the_hosts_by_different_ranks() -> None:
    """2 hosts of 4: on channel c the ring crosses from local rank c - 1 of one host to local rank c of the other."""
    schedule = build_schedule("all-reduce", "ring", 8, channels=4, group=4)
    verify(schedule)
    leaving = [op for op in schedule if op.kind is Kind.SEND and op.rank // 4 != op.peer // 4]
    crossing = {(op.channel, op.rank % 4, op.peer % 4) for op in leaving}
    assert crossing == {(c, (c - 1) % 4, c) for c in range(4)}
    assert build_schedule("all-reduce", "ring", 8, channels=4, group=8) == build_schedule(
        "all-reduce", "ring", 8, channels=4
    )


def test_eight_rails_carry_eight_times_one() -> None:
    """4 DGX H100, ring over 32 GPUs, 1 GiB: one channel is bound by one NIC of 50 GB/s per host, eight use all eight.

    busbw of a flat ring is the rate of its slowest hop: at most 50 GB/s with one channel, at most 400 with eight.
    """
    topology = load_fabric("dgx-h100-x4")
    one, eight = (
        simulate_collective(topology, "all-reduce", "ring", 2**30, channels=c).record.busbw_GBps for c in (1, 8)
    )
    assert 49 < one <= 50
    assert 350 < eight <= 400


@pytest.mark.parametrize("slices", [0, -1])
def test_no_slices(slices: int) -> None:
    with pytest.raises(InputError, match=f"slices must be at least 1, not {slices}"):
        build_schedule("all-reduce", "ring", 4, slices)
    with pytest.raises(ScheduleError, match=f"slices must be at least 1, not {slices}"):
        pipeline(build_schedule("all-reduce", "ring", 4), slices)


def test_wide_operations_are_taken_apart_before_they_are_sliced() -> None:
    """Chunks 0, 1 in one record become slice 0 of both in step 0 and slice 1 of both in step 1."""
    base = Schedule.from_ops("all-reduce", "wide", 2, 2, [Op(0, 0, 0, Kind.SEND, 1, 0, 2)])
    assert [(op.step, op.chunk, op.count) for op in pipeline(base, 2)] == [(0, 0, 1), (0, 2, 1), (1, 1, 1), (1, 3, 1)]


def test_unequal_chunks_cannot_be_sliced() -> None:
    base = Schedule.from_ops("all-reduce", "uneven", 2, 2, [], weights=(1, 3))
    with pytest.raises(ScheduleError, match="chunks of unequal size cannot be sliced"):
        pipeline(base, 2)


def test_a_world_that_is_too_small() -> None:
    with pytest.raises(InputError, match="algorithm ring: num_ranks must be at least 1, not 0"):
        build_schedule("all-reduce", "ring", 0)
