# SPDX-License-Identifier: Apache-2.0
"""Real gloo ranks for tests: starting them costs seconds, so a world starts once and runs a whole list of cases."""

import multiprocessing
import os
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from commbench.collectives.schedule import Schedule


@dataclass(frozen=True)
class Case:
    """One schedule, or one of the backend's own collectives, at one size.

    Attributes:
        num_elements: of one buffer; of every chunk's token, by the rank, where the collective is a barrier.
        runs: how often it is filled, run and checked. deaf: replace the backend's barrier by nothing.
    """

    schedule: Schedule | None
    num_elements: int
    dtype: str = "float32"
    batched: bool = False
    runs: int = 1
    collective: str = "all-reduce"
    root: int = 0
    weights: tuple[int, ...] = ()
    deaf: bool = False

    def __str__(self) -> str:
        one = self.schedule
        name = f"{self.collective}/native, root {self.root}"
        if one is not None:
            name = f"{one.collective}/{one.algorithm}, {one.num_chunks} chunks, root {one.root}"
        return f"{name} x{self.runs}, {self.num_elements} {self.dtype}{', batched' * self.batched}"


def count_wrong_elements(num_ranks: int, folder: Path, cases: Sequence[Case], *, timeout_s: float = 60) -> list[int]:
    """Wrong elements over all ranks, case by case."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    store = str(folder / f"store-{num_ranks}")
    ranks = [
        context.Process(target=_rank, args=(rank, num_ranks, store, cases, results), daemon=True)
        for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    told: dict[int, list[int] | str] = {}
    try:
        for _ in ranks:
            rank, outcome = results.get(timeout=timeout_s)
            told[rank] = outcome
    except queue.Empty:
        missing = set(range(num_ranks)) - set(told)
        raise AssertionError(f"ranks {missing} of {num_ranks} did not end; told: {told}") from None
    finally:
        for process in ranks:
            process.join(timeout=5)
            process.kill()
    assert [outcome for outcome in told.values() if isinstance(outcome, str)] == []
    return [sum(told[rank][i] for rank in range(num_ranks)) for i in range(len(cases))]  # type: ignore[misc]


def _rank(rank: int, num_ranks: int, store: str, cases: Sequence[Case], results: Any) -> None:
    import torch
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    case: Case | None = None
    try:
        meeting = dist.FileStore(store, num_ranks)
        wait = timedelta(seconds=20)
        dist.init_process_group("gloo", store=meeting, rank=rank, world_size=num_ranks, timeout=wait)
        wrong = []
        for case in cases:
            wrong.append(_run(case, rank, num_ranks))
        dist.barrier()
        dist.destroy_process_group()
        results.put((rank, wrong))
    except Exception as error:
        results.put((rank, f"rank {rank}, {case}: {type(error).__name__}: {error}"))


def _run(case: Case, rank: int, num_ranks: int) -> int:
    import torch
    import torch.distributed as dist

    from commbench.live import native
    from commbench.live.check import count_wrong, fill_input, layout_of, plain_layout
    from commbench.live.execute import PHASES, ScheduleExecutor

    group = dist.group.WORLD
    assert group is not None
    if case.schedule is None:
        layout = plain_layout(case.collective, num_ranks, case.num_elements, case.root, case.weights)
    else:
        layout = layout_of(case.schedule, case.num_elements)
    memory = torch.zeros(layout.num_buffers * case.num_elements, dtype=getattr(torch, case.dtype))
    operation = (
        native.NativeCollective(layout, memory, group)
        if case.schedule is None
        else ScheduleExecutor(case.schedule, memory, group, batched=case.batched)
    )
    wrong = 0
    for _ in range(case.runs):
        fill_input(memory, layout, rank)
        dist.barrier()
        hearing = dist.barrier
        try:
            if case.deaf:
                dist.barrier = lambda *_, **__: None
            operation.run_to_check()
        finally:
            dist.barrier = hearing
        wrong += count_wrong(memory, layout, rank)
    if case.schedule is not None:
        assert set(operation.phases) == set(PHASES)
        assert all(seconds >= 0 for seconds in operation.phases.values())
    operation.close()
    return wrong
