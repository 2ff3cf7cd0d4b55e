# SPDX-License-Identifier: Apache-2.0
"""Real gloo ranks for tests: starting them costs time, so a world starts once and runs a whole list of cases."""

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from commbench.collectives.schedule import Schedule

_LOADED = [
    *("__main__", "torch.distributed"),
    *(f"commbench.live.{name}" for name in ("native", "pipeline", "session", "strict_group", "tensor_parallel")),
]


@dataclass(frozen=True)
class Case:
    """One schedule, or one of the backend's own collectives, at one size.

    Attributes:
        num_elements: of one buffer; of every chunk's token, by the rank, where the collective is a barrier.
        strict: on the strict backend. runs: how often it is filled, run and checked.
        deaf: replace the backend's barrier by nothing.
    """

    schedule: Schedule | None
    num_elements: int
    dtype: str = "float32"
    strict: bool = False
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
        return f"{name} x{self.runs}, {self.num_elements} {self.dtype}{', strict' * self.strict}"


def count_wrong_elements(num_ranks: int, folder: Path, cases: Sequence[Case], *, timeout_s: float = 60) -> list[int]:
    """Wrong elements over all ranks, case by case."""
    found = in_world(num_ranks, folder, _run_all, cases, timeout_s=timeout_s)
    return [sum(wrong) for wrong in zip(*found, strict=True)]


def in_world(
    num_ranks: int, folder: Path, work: Callable[..., Any], given: object, *, timeout_s: float = 60
) -> list[Any]:
    """What ``work(given, rank, num_ranks, store)`` returns on every rank; they meet through the file ``store``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)  # torch once, for the ranks of all worlds
    results = context.Queue()
    store = str(folder / f"store-{num_ranks}")
    ranks = [
        context.Process(target=_rank, args=(rank, num_ranks, store, work, given, results), daemon=True)
        for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    told: dict[int, Any] = {}
    failed: list[str] = []
    try:
        for _ in ranks:
            rank, told[rank], error = results.get(timeout=timeout_s)
            failed += [error] * bool(error)
    except queue.Empty:
        missing = set(range(num_ranks)) - set(told)
        raise AssertionError(f"ranks {missing} of {num_ranks} did not end; told: {failed or told}") from None
    finally:
        for process in ranks:
            process.join(timeout=5)
            process.kill()
    assert not failed, "; ".join(failed)
    return [told[rank] for rank in range(num_ranks)]


def _rank(rank: int, num_ranks: int, store: str, work: Callable[..., Any], given: object, results: Any) -> None:
    import torch

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        results.put((rank, work(given, rank, num_ranks, store), ""))
    except Exception as error:
        results.put((rank, None, f"rank {rank}: {type(error).__name__}: {error}"))


def _run_all(cases: Sequence[Case], rank: int, num_ranks: int, store: str) -> list[int]:
    import torch.distributed as dist

    from commbench.live.backend import Gloo, Strict
    from commbench.live.strict_group import register

    wait_s = 20
    meeting = dist.FileStore(store, num_ranks)
    dist.init_process_group(
        "gloo", store=meeting, rank=rank, world_size=num_ranks, timeout=timedelta(seconds=wait_s)
    )
    world = dist.group.WORLD
    assert world is not None
    register()
    strict = Strict()
    ways = {False: (Gloo(), world), True: (strict, strict.open_group(range(dist.get_world_size()), wait_s))}
    wrong = []
    for case in cases:
        try:
            wrong.append(_run(case, rank, num_ranks, *ways[case.strict]))
        except Exception as error:
            raise RuntimeError(f"{case}: {type(error).__name__}: {error}") from error
    dist.barrier()
    dist.destroy_process_group()
    return wrong


def _run(case: Case, rank: int, num_ranks: int, backend: Any, group: Any) -> int:
    import torch
    import torch.distributed as dist

    from commbench.collectives.spec import get_collective
    from commbench.live import native
    from commbench.live.check import count_wrong, fill_input, layout_of, own_part, own_part_of, plain_layout
    from commbench.live.execute import PHASES, ScheduleExecutor

    offsets: tuple[int, ...] = ()
    if case.schedule is None:
        layout = plain_layout(case.collective, num_ranks, case.num_elements, case.root, case.weights)
        layout = own_part(layout, rank) if get_collective(case.collective).rows else layout
    else:
        layout = layout_of(case.schedule, case.num_elements)
        if get_collective(case.schedule.collective).rows:
            layout, offsets = own_part_of(case.schedule, layout, rank)
    memory = torch.zeros(layout.memory_elements, dtype=getattr(torch, case.dtype))
    operation = (
        native.NativeCollective(layout, memory, group, backend)
        if case.schedule is None
        else ScheduleExecutor(case.schedule, memory, group, backend, offsets=offsets)
    )
    wrong = 0
    for _ in range(case.runs):
        fill_input(memory, layout, rank)
        backend.barrier(group)
        hearing = dist.barrier
        try:
            if case.deaf:
                dist.barrier = lambda *_, **__: None
            operation.run_to_check()
            backend.clock(memory.device).settle()
        finally:
            dist.barrier = hearing
        wrong += count_wrong(memory, layout, rank)
    if case.schedule is not None:
        assert set(operation.phases) == (set() if backend.streams else set(PHASES))
        assert all(seconds >= 0 for seconds in operation.phases.values())
    operation.close()
    return wrong
