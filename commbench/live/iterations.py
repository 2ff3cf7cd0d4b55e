# SPDX-License-Identifier: Apache-2.0
"""Warm-up and timed iterations of a plan: as many as it says, or for as long; with caches as they are, or cold."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from commbench.live.graphs import Graphed
from commbench.live.plan import Plan
from commbench.live.processors import ProcessorClock, Spent
from commbench.live.progress import TIMED, Progress
from commbench.live.session import Session
from commbench.live.timing import Operation, Timed, time_operation

__all__ = ["MOST_IN_BUDGET", "ColdCache", "largest_cache_bytes", "time_bench"]

FEWEST_IN_BUDGET, MOST_IN_BUDGET = 3, 100_000
"""Iterations of a size that has a budget: the spread needs some, and every sample is kept."""

_ON_DEVICE_BYTES = 2**28  # above the last-level cache of every GPU: H200 50 MiB, MI300X 256 MiB (vendors' data sheets)
_UNKNOWN_CACHE_BYTES = 2**26
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def time_bench(
    plan: Plan,
    session: Session,
    operation: Operation,
    progress: Progress,
    meet_runs: Callable[[], None] = lambda: None,
) -> tuple[Timed, Timed, Spent | None]:
    """The warm-up, the timed iterations, and in a lab the processors' time that these took."""
    cold = ColdCache(session.device) if plan.cold_cache else None

    def timed(iterations: int, phase: str, first: int = 0, what: Operation = operation) -> Timed:
        def tick(iteration: int) -> None:
            if plan.timing == "isolated":  # what is back to back has no moment for it
                meet_runs()
            if cold is not None:
                cold.evict()
            progress.reach(phase, first + iteration)

        return time_operation(
            what, iterations, timing=plan.timing, clock=session.clock, barrier=session.barrier, tick=tick
        )

    started = time.perf_counter()
    warmup = timed(plan.warmup, "warm-up iteration")
    clock = ProcessorClock() if "emulated" in plan.facts else None
    if plan.graphs:
        progress.reach("recording a graph")
        launch = session.backend.record(operation.run, plan.iters)
        launches = timed(plan.graphs, TIMED, what=Graphed(operation, launch))
        found = replace(launches, samples_s=tuple(each / plan.iters for each in launches.samples_s))
    elif plan.budget_s:
        each_s = session.agreed(time.perf_counter() - started) / plan.warmup
        found = _within(plan.budget_s, each_s, session, lambda count, first: timed(count, TIMED, first))
    else:
        found = timed(plan.iters, TIMED)
    return warmup, found, None if clock is None else clock.spent()


def _within(budget_s: float, each_s: float, session: Session, run: Callable[[int, int], Timed]) -> Timed:
    """Iterations until the budget is spent, in a few goes: each as long as the last one says; all ranks alike.

    Args:
        each_s: seconds of one iteration, with all that is around it, as the warm-up had it.
        run: takes how many, and how many there were before.
    """
    parts: list[Timed] = []
    done, spent_s = 0, 0.0
    while done < FEWEST_IN_BUDGET or (spent_s < budget_s and done < MOST_IN_BUDGET):
        wanted = int((budget_s - spent_s) / max(each_s, 1e-9))
        count = min(max(wanted, FEWEST_IN_BUDGET - done, 1), MOST_IN_BUDGET - done)
        started = time.perf_counter()
        parts.append(run(count, done))
        went_s = session.agreed(time.perf_counter() - started)
        done, spent_s, each_s = done + count, spent_s + went_s, went_s / count
    names = parts[0].phases_s
    return Timed(
        tuple(sample for part in parts for sample in part.samples_s),
        {name: tuple(sample for part in parts for sample in part.phases_s[name]) for name in names},
    )


class ColdCache:
    """Memory larger than the last-level cache, which is written to put everything else out of it.

    Args:
        device: that the buffers of the collective are on.
    """

    def __init__(self, device: torch.device) -> None:
        size = 2 * largest_cache_bytes() if device.type == "cpu" else _ON_DEVICE_BYTES
        self._memory = torch.zeros(size // 4, dtype=torch.int32, device=device)

    def evict(self) -> None:
        """Read and write all of it (on GPUs: is enqueued before what comes next)."""
        self._memory.add_(1)


def largest_cache_bytes(caches: Path = _CACHES) -> int:
    """Of the first processor, as the kernel tells; 64 MiB where it does not."""
    found = [_UNKNOWN_CACHE_BYTES]
    try:
        texts = [path.read_text(encoding="ascii").strip() for path in caches.glob("index*/size")]
        found = [int(text.rstrip("KM")) * (2**20 if text.endswith("M") else 2**10) for text in texts] or found
    except (OSError, ValueError):
        pass
    return max(found)
