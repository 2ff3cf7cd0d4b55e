# SPDX-License-Identifier: Apache-2.0
"""What one rank does: meet the others, and for each size warm up, time, check, gather and record."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from commbench.collectives.sizes import dtype_bytes
from commbench.collectives.spec import get_collective
from commbench.errors import CommbenchError, RunError
from commbench.live.check import count_wrong, fill_input
from commbench.live.execute import ScheduleExecutor
from commbench.live.native import NativeCollective
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.seat import Seat
from commbench.live.session import Session, open_session
from commbench.live.timing import Operation, Timed, clock_of, time_operation
from commbench.results.journal import Journal
from commbench.results.records import Measured

__all__ = ["run_rank"]

_LONGEST_MESSAGE = 300


def run_rank(plan: Plan, seat: Seat, *, progress: Progress, observer: Observer, timeout_s: float) -> list[Measured]:
    """Do this rank's part of a plan.

    Args:
        plan: the same on every rank.
        seat: this rank's.
        progress: told where the rank is.
        observer: hears of each record, on rank 0 only.
        timeout_s: how long torch.distributed waits for another rank before it raises.

    Returns:
        The records on rank 0, nothing elsewhere.

    Raises:
        InputError: the plan cannot run here.
        RunError: torch.distributed failed; one line that names the rank and where it was.
    """
    progress.reach("joining the other ranks")
    try:
        session = open_session(plan, seat, timeout_s)
        records = _measure_all(plan, session, progress, observer, timeout_s)
        progress.reach("leaving")
        session.close()
    except CommbenchError:
        raise
    except Exception as error:  # whatever torch raises, the user gets one line
        raise RunError(f"rank {seat.rank} failed at {progress.place}: {_one_line(error)}") from error
    return records


def _measure_all(
    plan: Plan, session: Session, progress: Progress, observer: Observer, timeout_s: float
) -> list[Measured]:
    journal, records = Journal(plan.out), []
    if session.rank == 0:
        observer.started(session.facts)
    for size_bytes in plan.sizes_bytes:
        progress.size(size_bytes)
        session.meet(timeout_s)
        record = _measure_size(plan, session, size_bytes, progress)
        if record is not None:
            journal.append(record)
            records.append(record)
            observer.measured(record)
    return records


@dataclass(frozen=True, slots=True)
class _Observed:
    """What one rank saw of one size; small, for it travels to rank 0."""

    warmup: Timed
    timed: Timed
    wrong: int | None


def _measure_size(plan: Plan, session: Session, size_bytes: int, progress: Progress) -> Measured | None:
    """The record of one size on rank 0, None elsewhere."""
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    # zeros: sums that are repeated in place neither overflow nor become denormal
    buffer = torch.empty(
        size_bytes // dtype_bytes(plan.dtype), dtype=getattr(torch, plan.dtype), device=session.device
    ).zero_()
    operation: Operation = (
        NativeCollective(plan.collective, buffer, session.data)
        if plan.schedule is None
        else ScheduleExecutor(plan.schedule, buffer, session.data)
    )
    try:
        observed = _observe(plan, session, operation, buffer, progress)
    finally:
        operation.close()
    progress.reach("gathering samples")
    everyone: list[_Observed] = session.gather(observed)
    return _record(plan, session, size_bytes, started_at, everyone) if everyone else None


def _observe(plan: Plan, session: Session, operation: Operation, buffer: torch.Tensor, progress: Progress) -> _Observed:
    def timed(iterations: int, phase: str) -> Timed:
        tick: Callable[[int], None] = lambda iteration: progress.reach(phase, iteration)  # noqa: E731
        return time_operation(
            operation,
            iterations,
            timing=plan.timing,
            clock=clock_of(session.device),
            barrier=session.barrier,
            tick=tick,
        )

    warmup = timed(plan.warmup, "warm-up iteration")
    samples = timed(plan.iters, "timed iteration")
    wrong = None
    if plan.check:
        progress.reach("correctness run")
        fill_input(buffer, session.rank, plan.ranks)
        session.barrier()
        operation.run()
        clock_of(session.device).settle()
        wrong = count_wrong(plan.collective, buffer, plan.ranks)
    return _Observed(warmup, samples, wrong)


def _record(plan: Plan, session: Session, size_bytes: int, started_at: str, everyone: list[_Observed]) -> Measured:
    phases = everyone[0].timed.phases_s
    return Measured(
        run=plan.run,
        collective=plan.collective,
        algorithm=plan.algorithm,
        backend=session.facts.backend,
        ranks=plan.ranks,
        size_bytes=size_bytes,
        num_elements=size_bytes // dtype_bytes(plan.dtype),
        dtype=plan.dtype,
        op=plan.op,
        slices=plan.slices,
        samples_s=tuple(seen.timed.samples_s for seen in everyone),
        warmup_s=tuple(seen.warmup.samples_s for seen in everyone),
        phases_s={name: tuple(seen.timed.phases_s[name] for seen in everyone) for name in phases},
        timing=plan.timing,
        wrong=sum(seen.wrong or 0 for seen in everyone) if plan.check else None,
        busbw_factor=get_collective(plan.collective).busbw_factor(plan.ranks),
        launcher=session.facts.launcher,
        environment=session.facts.environment,
        started_at=started_at,
    )


def _one_line(error: Exception) -> str:
    """The first line of what torch says; the rest is its C++ stack."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_MESSAGE]
