# SPDX-License-Identifier: Apache-2.0
"""What one rank does for a plan: for each size warm up, time, check, gather and record."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
import torch.distributed as dist

from commbench.collectives.sizes import buffer_elements, dtype_bytes
from commbench.collectives.text import digest
from commbench.live.check import (
    BufferLayout,
    count_wrong,
    fill_input,
    layout_of,
    own_part,
    own_part_of,
    plain_layout,
)
from commbench.live.execute import ScheduleExecutor
from commbench.live.iterations import time_bench
from commbench.live.job_barrier import JobBarrier
from commbench.live.native import NativeCollective
from commbench.live.nccl_log import Transports, merged
from commbench.live.plan import Plan
from commbench.live.processors import Spent, idle_share
from commbench.live.progress import Progress
from commbench.live.resume import done_before
from commbench.live.session import Session
from commbench.live.timing import Operation, Timed
from commbench.results.records import Measured

__all__ = [
    "CollectiveObserved",
    "Membership",
    "check_bench",
    "measure_collective",
    "open_bench",
    "record_of",
]


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

    plan.require_known_to(session.backend)
    done = done_before(plan, session) if plan.resume else frozenset()
    for size_bytes in plan.sizes_bytes:
        progress.size(size_bytes)
        meet_runs()
        for in_place in plan.in_places:
            session.meet()
            if (size_bytes, in_place) in done:
                continue
            record = _measure_size(plan, session, size_bytes, in_place, progress, meet_runs)
            if record is not None:
                yield record
    if job_barrier is not None:
        job_barrier.leave()


@dataclass(frozen=True, slots=True)
class CollectiveObserved:
    """What one rank saw of one size; small, for it travels to rank 0."""

    warmup: Timed
    timed: Timed
    wrong: int | None
    spent: Spent | None  # in the timed iterations, where the fabric is emulated
    transports: Transports | None = None  # that the library chose, where it tells


@dataclass(frozen=True, slots=True)
class Membership:
    """A rank among those that run the collective.

    Attributes:
        rank: its number among them. group: process group that they are in.
        ranks: their numbers in that group, where it has others beside; empty for all of it, in order.
    """

    rank: int
    group: dist.ProcessGroup
    ranks: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.ranks) or self.group.size()


@dataclass(frozen=True, slots=True)
class CollectiveBench:
    """An operation and the memory that it works on."""

    operation: Operation
    memory: torch.Tensor
    layout: BufferLayout


@contextmanager
def open_bench(
    plan: Plan, session: Session, member: Membership, size_bytes: int, in_place: bool, per_token: int = 1
) -> Iterator[CollectiveBench]:
    """The plan's operation on memory for one size; a barrier's chunks are tokens of ``per_token`` elements each."""
    schedule = plan.schedule_for(size_bytes, in_place)
    if plan.spec.covers:
        num_elements = per_token * (1 if schedule is None else schedule.num_chunks)
    else:
        num_elements = buffer_elements(plan.spec, plan.ranks, size_bytes // dtype_bytes(plan.dtype))
    offsets: tuple[int, ...] = ()
    if schedule is None:
        layout = plain_layout(
            plan.collective, plan.ranks, num_elements, plan.root, plan.weights, in_place=in_place
        )
        layout = own_part(layout, member.rank) if plan.spec.rows else layout
    else:
        layout = layout_of(schedule, num_elements)
        if plan.spec.rows:
            layout, offsets = own_part_of(schedule, layout, member.rank)
    # zeros: sums that are repeated in place neither overflow nor become denormal
    memory = torch.empty(layout.memory_elements, dtype=getattr(torch, plan.dtype), device=session.device).zero_()
    operation: Operation = (
        NativeCollective(layout, memory, member.group, session.backend, plan.op)
        if schedule is None
        else ScheduleExecutor(schedule, memory, member.group, session.backend, member.ranks, offsets, plan.op)
    )
    try:
        yield CollectiveBench(operation, memory, layout)
    finally:
        operation.close()


def _measure_size(
    plan: Plan, session: Session, size_bytes: int, in_place: bool, progress: Progress, meet_runs: Callable[[], None]
) -> Measured | None:
    """The record of one size on rank 0, None elsewhere; other runs are met before all that they must not disturb."""
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    member = Membership(session.rank, session.data)
    with open_bench(plan, session, member, size_bytes, in_place) as bench:
        warmup, timed, spent = time_bench(plan, session, bench.operation, progress, meet_runs)
        if plan.timing == "isolated":
            meet_runs()
        wrong = check_bench(plan, session, member, bench, size_bytes, in_place, progress) if plan.check else None
    progress.reach("gathering samples")
    everyone: list[CollectiveObserved] = session.gather(
        CollectiveObserved(warmup, timed, wrong, spent, session.backend.transports())
    )
    if not everyone:
        return None
    environment = _with_idleness(session.facts.environment, everyone)
    return record_of(plan, session, size_bytes, in_place, started_at, everyone, environment)


def check_bench(
    plan: Plan,
    session: Session,
    member: Membership,
    bench: CollectiveBench,
    size_bytes: int,
    in_place: bool,
    progress: Progress,
) -> int:
    """Wrong elements of this rank after one run.

    A barrier is checked on tokens of an element per rank, for one element cannot show whom it has heard of.
    """
    progress.reach("correctness run")
    tokens = open_bench(plan, session, member, size_bytes, in_place, per_token=plan.ranks)
    with tokens if plan.spec.covers else nullcontext(bench) as tested:
        fill_input(tested.memory, tested.layout, member.rank, plan.op)
        session.barrier()
        tested.operation.run_to_check()
        session.clock.settle()
        return count_wrong(tested.memory, tested.layout, member.rank, plan.op)


def record_of(
    plan: Plan,
    session: Session,
    size_bytes: int,
    in_place: bool,
    started_at: str,
    everyone: Sequence[CollectiveObserved],
    environment: Mapping[str, Any],
) -> Measured:
    """The record of one size, from what all ranks of the collective have seen."""
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
        op=plan.recorded_op,
        channels=plan.channels,
        slices=plan.slices,
        group=plan.group,
        root=plan.root,
        weights=plan.weights,
        cold_cache=plan.cold_cache,
        graphed=plan.graphed,
        schedule="" if schedule is None else digest(schedule),
        samples_s=tuple(seen.timed.samples_s for seen in everyone),
        warmup_s=tuple(seen.warmup.samples_s for seen in everyone),
        phases_s={name: tuple(seen.timed.phases_s[name] for seen in everyone) for name in phases},
        timing=plan.timing,
        in_place=in_place,
        wrong=sum(seen.wrong or 0 for seen in everyone) if plan.check else None,
        busbw_factor=plan.spec.busbw_factor(plan.ranks),
        launcher=session.facts.launcher,
        environment=_with_transports(environment, everyone),
        started_at=started_at,
    )


def _with_transports(environment: Mapping[str, Any], everyone: Sequence[CollectiveObserved]) -> Mapping[str, Any]:
    """With what the library of all ranks chose, where it tells."""
    found = merged([seen.transports for seen in everyone])
    return {**environment, "transports": found} if found else environment


def _with_idleness(environment: Mapping[str, Any], everyone: Sequence[CollectiveObserved]) -> Mapping[str, Any]:
    """With what the timed iterations left of the processors' time, where the fabric is emulated."""
    spent = [seen.spent for seen in everyone if seen.spent is not None]
    if not spent:
        return environment
    lab = environment["emulated"]
    idle = idle_share(spent, [seen.timed.samples_s for seen in everyone], sum(map(len, lab["jobs"])))
    return {**environment, "emulated": lab | {"idle": idle}}
