# SPDX-License-Identifier: Apache-2.0
"""From a pipeline schedule to a program: a compute operation per step, a transfer per boundary that data crosses.

Rules:

* A step is one operation on (rank, "compute"), in the order of the schedule. An overlapped pair is one operation that
  lasts ``overlap`` times the sum of its two passes: 1.0 (nothing gained) unless the caller says otherwise.
* The output of F(s, k) goes to stage s + 1, the gradient from B or I(s, k) to stage s - 1. Between stages on one rank
  nothing is sent; between ranks one transfer of ``num_bytes``. Zero bytes are no transfer but a plain dependency.
* Every directed boundary between stages has a stream of its own on both ranks, so sends overlap compute and each
  other, and messages over one boundary go one at a time in the order in which they are made. The receiver's buffer is
  always free: a send starts when its data is there, whatever the receiver does (torch's schedules post receives ahead).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from commbench.errors import InputError
from commbench.program.ir import Compute, Operation, Program, Transfer
from commbench.workload.pipeline.check import lockstep
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, Result, Step, gives, needs

__all__ = ["Durations", "StageTimes", "by_stage", "pipeline_operations", "pipeline_program"]

Durations = Callable[[Action], int]
"""Picoseconds that an action lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Picoseconds of one microbatch on one stage.

    Attributes:
        forward_ps: F. input_ps: I. weight_ps: W.
        backward_ps: B; None where a whole backward lasts as long as I and W together.
    """

    forward_ps: int
    input_ps: int
    weight_ps: int
    backward_ps: int | None = None

    def of(self, kind: Pass) -> int:
        """Picoseconds of one pass."""
        if kind is Pass.BACKWARD and self.backward_ps is None:
            return self.input_ps + self.weight_ps
        times = {Pass.FORWARD: self.forward_ps, Pass.INPUT: self.input_ps, Pass.WEIGHT: self.weight_ps}
        return times.get(kind, self.backward_ps or 0)


def by_stage(times: Sequence[StageTimes]) -> Durations:
    """Durations that depend on stage and pass alone; ``times[s]`` are those of stage s."""
    return lambda action: times[action.stage].of(action.kind)


def pipeline_program(
    schedule: PipelineSchedule,
    durations: Durations,
    num_bytes: int,
    *,
    overlap: float = 1.0,
    ranks: Sequence[int] | None = None,
    num_ranks: int | None = None,
) -> Program:
    """The program of one pipeline.

    Args:
        schedule: what every rank does.
        durations: how long; :func:`by_stage` makes one from times per stage.
        num_bytes: activation of one microbatch at a stage boundary; its gradient is as large.
        overlap: time of an overlapped pair over the sum of its passes.
        ranks: world rank of every pipeline rank; None takes 0, 1, 2 and so on.
        num_ranks: world size; None takes what the ranks need.

    Raises:
        InputError: a negative size, an overlap that is not above 0, or not one world rank per pipeline rank.
        ScheduleError: the schedule deadlocks.
    """
    world = tuple(range(schedule.num_ranks)) if ranks is None else tuple(ranks)
    operations = pipeline_operations(schedule, durations, num_bytes, overlap=overlap, ranks=world)
    return Program(max(world) + 1 if num_ranks is None else num_ranks, tuple(operations))


def pipeline_operations(
    schedule: PipelineSchedule,
    durations: Durations,
    num_bytes: int,
    *,
    ranks: Sequence[int],
    overlap: float = 1.0,
    first: int = 0,
) -> list[Operation]:
    """The operations of one pipeline, numbered from ``first``, so that several can stand in one program.

    Arguments and errors as for :func:`pipeline_program`.
    """
    if num_bytes < 0 or not overlap > 0:
        raise InputError(f"activation bytes must not be negative and overlap be above 0, not {num_bytes} and {overlap}")
    if len(ranks) != schedule.num_ranks:
        raise InputError(
            f"pipeline schedule {schedule.name} has {schedule.num_ranks} ranks; {len(ranks)} world ranks are given"
        )
    build = _Builder(schedule, durations, num_bytes, overlap, ranks, first)
    for row in lockstep(schedule):
        for rank, step in enumerate(row):
            if step is not None:
                build.add(rank, step)
    return build.operations


class _Builder:
    """Collects operations; remembers which one brings each result to the rank that needs it."""

    def __init__(
        self,
        schedule: PipelineSchedule,
        durations: Durations,
        num_bytes: int,
        overlap: float,
        ranks: Sequence[int],
        first: int,
    ) -> None:
        self.schedule, self.durations, self.num_bytes = schedule, durations, num_bytes
        self.overlap, self.ranks, self.first = overlap, ranks, first
        self.operations: list[Operation] = []
        self.brings: dict[tuple[Result, int], int] = {}  # (result, pipeline rank) -> operation that brings it there

    def append(self, operation: Operation) -> int:
        self.operations.append(operation)
        return self.first + len(self.operations) - 1

    def add(self, rank: int, step: Step) -> None:
        lasts = sum(self.durations(action) for action in step.parts)
        wanted = {result for action in step.parts for result in needs(action, self.schedule.num_stages)}
        number = self.append(
            Compute(
                rank=self.ranks[rank],
                duration_ps=lasts if len(step.parts) == 1 else round(lasts * self.overlap),
                after=tuple(sorted(self.brings[result, rank] for result in wanted)),
                label=str(step),
            )
        )
        for action in step.parts:
            self.send(rank, action, number)

    def send(self, rank: int, action: Action, number: int) -> None:
        """Bring an action's result to its own rank and to the stage that waits for it."""
        result = gives(action)
        if result is None:
            return
        self.brings[result, rank] = number
        forward = action.kind is Pass.FORWARD
        to_stage = action.stage + (1 if forward else -1)
        if not 0 <= to_stage < self.schedule.num_stages:
            return
        peer = self.schedule.rank_of_stage[to_stage]
        if peer != rank and self.num_bytes:
            number = self.append(
                Transfer(
                    src=self.ranks[rank],
                    dst=self.ranks[peer],
                    num_bytes=self.num_bytes,
                    stream=f"stage {action.stage} to {to_stage}",
                    after=(number,),
                    label=f"{action.stage}SEND_{'F' if forward else 'B'}{action.microbatch}",
                )
            )
        self.brings[result, peer] = number
