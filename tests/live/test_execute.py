# SPDX-License-Identifier: Apache-2.0
"""The executor on real gloo ranks: right schedules give right values, broken ones do not."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import schedules
from groups import Case, count_wrong_elements

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import InputError
from commbench.live.backend import Gloo, Nccl

pytestmark = pytest.mark.live
torch = pytest.importorskip("torch")

DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "int64")


def _wrong(num_ranks: int, folder: Path, cases: list[Case]) -> dict[str, int]:
    """Wrong elements over all ranks, by case."""
    return dict(zip(map(str, cases), count_wrong_elements(num_ranks, folder, cases), strict=True))


def _sizes(num_ranks: int) -> tuple[int, ...]:
    """Fewer elements than chunks, one more than a multiple, a multiple, and more than one segment on the wire."""
    return (1, num_ranks - 1, 2 * num_ranks + 1, 4 * num_ranks, 300_001)


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_values_are_right_exactly_where_the_schedule_is(num_ranks: int, tmp_path: Path) -> None:
    from commbench.collectives.registry import build_schedule

    builders: list[Callable[[int], Schedule]] = [
        schedules.ring,
        schedules.two_channels,
        schedules.window_two,
        lambda n: build_schedule("all-reduce", "tree", n),
    ]
    right = [Case(build(num_ranks), size) for build in builders for size in _sizes(num_ranks)]
    right += [Case(build(num_ranks), size, strict=True) for build in builders for size in (1, 300_001)]
    right += [Case(None, size) for size in _sizes(num_ranks)]
    right += [Case(schedules.ring(num_ranks), 1000, dtype) for dtype in DTYPES]
    right += [Case(schedules.two_channels(num_ranks), 1000, runs=50)]
    right += [Case(schedules.crossed_channels(), 1000)] if num_ranks == 2 else []
    broken = [
        Case(build(num_ranks), 1200, dtype)  # chunks of equal size, so that a wrong place fits
        for build in (schedules.overwrites, schedules.adds_twice, schedules.misplaces)
        for dtype in DTYPES
    ]
    wrong = _wrong(num_ranks, tmp_path, right + broken)
    assert {case: wrong[str(case)] for case in right if wrong[str(case)]} == {}
    assert [str(case) for case in broken if not wrong[str(case)]] == []


def test_channels_that_only_tags_keep_apart_are_refused_without_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    from commbench.live import execute

    monkeypatch.setattr(execute.dist, "get_rank", lambda group: 0)
    refused = "cannot run on nccl: channels meet in different orders at ranks 0 and 1, and nccl has no tags"
    with pytest.raises(InputError, match=refused):
        execute.ScheduleExecutor(schedules.crossed_channels(), torch.zeros(8), None, Nccl())
    for num_ranks in (2, 3, 4):
        execute.require_same_order(schedules.two_channels(num_ranks), "nccl")


def test_temporaries_are_shared_only_by_steps_never_in_flight_together() -> None:
    from commbench.live.execute import _compile

    buffer = torch.zeros(64)
    (channel,) = _compile(schedules.window_two(4), 0, buffer)
    for first, second in pairwise(channel):  # window 2: neighbours are in flight together
        ours = {temporary.data_ptr() for _, temporary in first.reductions}
        assert ours.isdisjoint(temporary.data_ptr() for _, temporary in second.reductions)


def test_empty_chunks_are_not_sent() -> None:
    from commbench.live.execute import _compile

    ops = [Op(0, 0, 0, Kind.SEND, 1, 0), Op(1, 0, 0, Kind.SEND, 1, 1)]
    schedule = Schedule.from_ops("all-reduce", "two", 2, 2, ops)
    # one element over two chunks: floor(1 * 1 / 2) = 0, so chunk 0 is empty and chunk 1 holds it
    (channel,) = _compile(schedule, 0, torch.zeros(1))
    assert [step.number for step in channel] == [1]


def test_what_a_rank_sends_itself_is_copied_when_the_later_record_is_posted() -> None:
    from commbench.live.execute import _compile

    ops = [
        Op(0, 0, 0, Kind.SEND, 0, 0),  # met two steps later
        Op(1, 0, 0, Kind.SEND, 0, 1),
        Op(2, 0, 0, Kind.RECV, 0, 2),
        Op(2, 0, 0, Kind.REDUCE, 0, 3),
    ]
    schedule = Schedule.from_ops("all-to-all", "own", 1, 2, ops, window=3, num_buffers=2, output=1)
    memory = torch.tensor([1.0, 2.0, 0.0, 10.0])
    (steps,) = _compile(schedule, 0, memory)
    assert [(step.number, len(step.transfers), len(step.copies), len(step.reductions)) for step in steps] == [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (2, 0, 2, 1),
    ]
    for target, source in steps[-1].copies:
        target.copy_(source)
    assert memory.tolist() == [1.0, 2.0, 1.0, 10.0]  # the addition waits for the end of the step
    for view, arrived in steps[-1].reductions:
        view.add_(arrived)
    assert memory.tolist() == [1.0, 2.0, 1.0, 12.0]


def test_switches_that_add_are_refused() -> None:
    from commbench.live.execute import ScheduleExecutor

    ops = [Op(0, r, 0, Kind.SEND, 2, 0) for r in range(2)] + [Op(0, 2, 0, Kind.REDUCE, r, 0) for r in range(2)]
    ops += [Op(1, 2, 0, Kind.SEND, r, 0) for r in range(2)] + [Op(1, r, 0, Kind.RECV, 2, 0) for r in range(2)]
    schedule = Schedule.from_ops("all-reduce", "star", 2, 1, ops, num_switches=1)
    with pytest.raises(InputError, match="schedule 'star' adds inside 1 switches"):
        ScheduleExecutor(schedule, torch.zeros(4), None, Gloo())
