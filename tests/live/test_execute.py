# SPDX-License-Identifier: Apache-2.0
"""The executor on real gloo ranks: right schedules give right values, broken ones do not.

Starting ranks costs seconds, so each world starts once and runs a whole list of cases.
"""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import schedules

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import InputError

pytestmark = pytest.mark.live
torch = pytest.importorskip("torch")

DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "int64")


@dataclass(frozen=True)
class Case:
    schedule: Schedule | None  # None: the backend's own
    num_elements: int
    dtype: str = "float32"
    batched: bool = False
    runs: int = 1

    def __str__(self) -> str:
        name = "native" if self.schedule is None else self.schedule.algorithm
        return f"{name} x{self.runs}, {self.num_elements} {self.dtype}{', batched' * self.batched}"


def _rank(rank: int, num_ranks: int, store: str, cases: list[Case], results: Any) -> None:
    try:
        results.put((rank, _run_cases(rank, num_ranks, store, cases)))
    except Exception as error:
        results.put((rank, f"{type(error).__name__}: {error}"))


def _run_cases(rank: int, num_ranks: int, store: str, cases: list[Case]) -> list[int]:
    import torch.distributed as dist

    from commbench.live.check import count_wrong, fill_input
    from commbench.live.execute import PHASES, ScheduleExecutor
    from commbench.live.native import NativeCollective

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, num_ranks),
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=20),
    )
    group = dist.group.WORLD
    wrong = []
    for case in cases:
        buffer = torch.zeros(case.num_elements, dtype=getattr(torch, case.dtype))
        operation = (
            NativeCollective("all-reduce", buffer, group)
            if case.schedule is None
            else ScheduleExecutor(case.schedule, buffer, group, batched=case.batched)
        )
        count = 0
        for _ in range(case.runs):
            fill_input(buffer, rank, num_ranks)
            dist.barrier()
            operation.run()
            count += count_wrong("all-reduce", buffer, num_ranks)
        if case.schedule is not None:
            assert set(operation.phases) == set(PHASES)
            assert all(seconds >= 0 for seconds in operation.phases.values())
        operation.close()
        wrong.append(count)
    dist.barrier()
    dist.destroy_process_group()
    return wrong


def _wrong(num_ranks: int, folder: Path, cases: list[Case]) -> dict[str, int]:
    """Wrong elements over all ranks, by case."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    store = str(folder / "store")
    ranks = [
        context.Process(target=_rank, args=(rank, num_ranks, store, cases, results), daemon=True)
        for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    try:
        told = dict(results.get(timeout=60) for _ in ranks)
    finally:
        for process in ranks:
            process.join(timeout=5)
            process.kill()
    assert [outcome for outcome in told.values() if isinstance(outcome, str)] == []
    return {str(case): sum(told[rank][i] for rank in range(num_ranks)) for i, case in enumerate(cases)}


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
    right += [Case(build(num_ranks), size, batched=True) for build in builders for size in (1, 300_001)]
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
    with pytest.raises(InputError, match="channels meet in different orders at ranks 0 and 1"):
        execute.ScheduleExecutor(schedules.crossed_channels(), torch.zeros(8), None, batched=True)
    for num_ranks in (2, 3, 4):
        execute._require_same_order(schedules.two_channels(num_ranks))


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
