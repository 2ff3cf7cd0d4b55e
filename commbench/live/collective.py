# SPDX-License-Identifier: Apache-2.0
"""What one rank does for a plan: for each size warm up, time, check, gather and record."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from commbench.collectives.sizes import buffer_elements, dtype_bytes
from commbench.collectives.text import digest
from commbench.live.check import BufferLayout, count_wrong, fill_input, layout_of, plain_layout
from commbench.live.execute import ScheduleExecutor
from commbench.live.job_barrier import JobBarrier
from commbench.live.native import NativeCollective
from commbench.live.plan import Plan
from commbench.live.processors import ProcessorClock, Spent, idle_share
from commbench.live.progress import TIMED, Progress
from commbench.live.session import Session
from commbench.live.timing import Operation, Timed, time_operation
from commbench.results.records import Measured

__all__ = ["measure_collective"]


def measure_collective(plan: Plan, session: Session, progress: Progress) -> Iterator[Measured]:
    """Do this rank's part of a plan; gives each record, on rank 0, as soon as its size is done.

    Args:
        plan: the same on every rank.
        session: this rank's; the ranks meet before each size.
        progress: told where the rank is.
    """
    job_barrier = JobBarrier.of(os.environ) if session.rank == 0 else None

    def meet_runs() -> None:
        if job_barrier is not None:
            job_barrier.wait(lambda: progress.reach("waiting for the other runs"))

    for size_bytes in plan.sizes_bytes:
        progress.size(size_bytes)
        meet_runs()
        for in_place in plan.in_places:
            session.meet()
            record = _measure_size(plan, session, size_bytes, in_place, progress, meet_runs)
            if record is not None:
                yield record
    if job_barrier is not None:
        job_barrier.leave()


@dataclass(frozen=True, slots=True)
class _CollectiveObserved:
    """What one rank saw of one size; small, for it travels to rank 0."""

    warmup: Timed
    timed: Timed
    wrong: int | None
    spent: Spent | None  # in the timed iterations, where the fabric is emulated


@dataclass(frozen=True, slots=True)
class _CollectiveBench:
    """An operation and the memory that it works on."""

    operation: Operation
    memory: torch.Tensor
    layout: BufferLayout


@contextmanager
def _bench(
    plan: Plan, session: Session, size_bytes: int, in_place: bool, per_token: int = 1
) -> Iterator[_CollectiveBench]:
    """The plan's operation on memory for one size; a barrier's chunks are tokens of ``per_token`` elements each."""
    schedule = plan.schedule_for(size_bytes, in_place)
    if plan.spec.covers:
        num_elements = per_token * (1 if schedule is None else schedule.num_chunks)
    else:
        num_elements = buffer_elements(plan.spec, plan.ranks, size_bytes // dtype_bytes(plan.dtype))
    if schedule is None:
        layout = plain_layout(plan.collective, plan.ranks, num_elements, plan.root, in_place=in_place)
    else:
        layout = layout_of(schedule, num_elements)
    # zeros: sums that are repeated in place neither overflow nor become denormal
    memory = torch.empty(
        layout.num_buffers * num_elements, dtype=getattr(torch, plan.dtype), device=session.device
    ).zero_()
    operation: Operation = (
        NativeCollective(layout, memory, session.data, session.backend)
        if schedule is None
        else ScheduleExecutor(schedule, memory, session.data, session.backend)
    )
    try:
        yield _CollectiveBench(operation, memory, layout)
    finally:
        operation.close()


def _measure_size(
    plan: Plan, session: Session, size_bytes: int, in_place: bool, progress: Progress, meet_runs: Callable[[], None]
) -> Measured | None:
    """The record of one size on rank 0, None elsewhere; other runs are met before all that they must not disturb."""
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with _bench(plan, session, size_bytes, in_place) as bench:
        warmup, timed, spent = _time(plan, session, bench.operation, progress, meet_runs)
        if plan.timing == "isolated":
            meet_runs()
        wrong = _check(plan, session, bench, size_bytes, in_place, progress) if plan.check else None
    progress.reach("gathering samples")
    everyone: list[_CollectiveObserved] = session.gather(_CollectiveObserved(warmup, timed, wrong, spent))
    return _record(plan, session, size_bytes, in_place, started_at, everyone) if everyone else None


def _time(
    plan: Plan, session: Session, operation: Operation, progress: Progress, meet_runs: Callable[[], None]
) -> tuple[Timed, Timed, Spent | None]:
    """The warm-up, the timed iterations, and in a lab the processors' time that these took."""

    def timed(iterations: int, phase: str) -> Timed:
        def tick(iteration: int) -> None:
            if plan.timing == "isolated":  # what is back to back has no moment for it
                meet_runs()
            progress.reach(phase, iteration)

        return time_operation(
            operation,
            iterations,
            timing=plan.timing,
            clock=session.clock,
            barrier=session.barrier,
            tick=tick,
        )

    warmup = timed(plan.warmup, "warm-up iteration")
    clock = ProcessorClock() if "emulated" in plan.facts else None
    return warmup, timed(plan.iters, TIMED), None if clock is None else clock.spent()


def _check(
    plan: Plan, session: Session, bench: _CollectiveBench, size_bytes: int, in_place: bool, progress: Progress
) -> int:
    """Wrong elements of this rank after one run.

    A barrier is checked on tokens of an element per rank, for one element cannot show whom it has heard of.
    """
    progress.reach("correctness run")
    tokens = _bench(plan, session, size_bytes, in_place, per_token=plan.ranks)
    with tokens if plan.spec.covers else nullcontext(bench) as tested:
        fill_input(tested.memory, tested.layout, session.rank)
        session.barrier()
        tested.operation.run_to_check()
        session.clock.settle()
        return count_wrong(tested.memory, tested.layout, session.rank)


def _record(
    plan: Plan,
    session: Session,
    size_bytes: int,
    in_place: bool,
    started_at: str,
    everyone: list[_CollectiveObserved],
) -> Measured:
    phases = everyone[0].timed.phases_s
    schedule = plan.schedule_for(size_bytes, in_place)
    return Measured(
        run=plan.run,
        collective=plan.collective,
        algorithm=plan.algorithm,
        backend=session.facts.backend,
        ranks=plan.ranks,
        size_bytes=size_bytes,
        num_elements=size_bytes // dtype_bytes(plan.dtype),
        dtype=plan.dtype,
        op=plan.op if plan.spec.reduces and not plan.spec.covers else "none",
        channels=plan.channels,
        slices=plan.slices,
        group=plan.group,
        root=plan.root,
        schedule="" if schedule is None else digest(schedule),
        samples_s=tuple(seen.timed.samples_s for seen in everyone),
        warmup_s=tuple(seen.warmup.samples_s for seen in everyone),
        phases_s={name: tuple(seen.timed.phases_s[name] for seen in everyone) for name in phases},
        timing=plan.timing,
        in_place=in_place,
        wrong=sum(seen.wrong or 0 for seen in everyone) if plan.check else None,
        busbw_factor=plan.spec.busbw_factor(plan.ranks),
        launcher=session.facts.launcher,
        environment=_with_idleness(session.facts.environment, everyone),
        started_at=started_at,
    )


def _with_idleness(environment: Mapping[str, Any], everyone: list[_CollectiveObserved]) -> Mapping[str, Any]:
    """With what the timed iterations left of the processors' time, where the fabric is emulated."""
    spent = [seen.spent for seen in everyone if seen.spent is not None]
    if not spent:
        return environment
    lab = environment["emulated"]
    idle = idle_share(spent, sum(everyone[0].timed.samples_s), sum(map(len, lab["jobs"])))
    return {**environment, "emulated": lab | {"idle": idle}}
