# SPDX-License-Identifier: Apache-2.0
"""From a pipeline schedule to operations: who needs which result, and what crosses the boundaries between stages.

:class:`Deliveries` is that for every pipeline, of training steps too; :func:`pipeline_program` is the plain one, with a
compute operation per step and a transfer per boundary that data crosses. Its rules:

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
from typing import Generic, TypeVar

from commbench.errors import InputError
from commbench.program.operations import Program, ProgramBuilder
from commbench.workload.pipeline.check import lockstep
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, Result, Step, gives, needs

__all__ = ["Deliveries", "Durations", "StageTimes", "add_pipeline", "boundary", "pipeline_program"]

Ready = TypeVar("Ready")
"""What says that a result is there: an operation, or several."""

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


def pipeline_program(
    schedule: PipelineSchedule,
    durations: Durations,
    num_bytes: int,
    *,
    overlap: float = 1.0,
    ranks: Sequence[int] | None = None,
    num_ranks: int | None = None,
    one_stream: bool = False,
) -> Program:
    """The program of one pipeline.

    Args:
        schedule: what every rank does.
        durations: how long.
        num_bytes: activation of one microbatch at a stage boundary; its gradient is as large.
        overlap: time of an overlapped pair over the sum of its passes.
        ranks: world rank of every pipeline rank; None takes 0, 1, 2 and so on.
        num_ranks: world size; None takes what the ranks need.
        one_stream: whether all that a rank sends to another goes one at a time, as over one connection, and not only
            what crosses one boundary.

    Raises:
        InputError: a negative size, an overlap that is not above 0, or not one world rank per pipeline rank.
        ScheduleError: the schedule deadlocks.
    """
    world = tuple(range(schedule.num_ranks)) if ranks is None else tuple(ranks)
    build = ProgramBuilder(max(world, default=0) + 1 if num_ranks is None else num_ranks)
    add_pipeline(build, schedule, durations, num_bytes, overlap=overlap, ranks=world, one_stream=one_stream)
    return build.build()


class Deliveries(Generic[Ready]):
    """Brings the result of every pass to its own rank and to the stage that waits for it.

    Args:
        schedule: of the pipeline.
        send: (pipeline rank, pipeline rank of the receiver, action, what it waits for) -> what its arrival is told by.
    """

    def __init__(self, schedule: PipelineSchedule, send: Callable[[int, int, Action, Ready], Ready]) -> None:
        self._schedule, self._send = schedule, send
        self._there: dict[tuple[Result, int], Ready] = {}

    def wanted(self, rank: int, step: Step) -> list[Ready]:
        """What a step waits for on its rank; each result once."""
        results = dict.fromkeys(r for action in step.parts for r in needs(action, self._schedule.num_stages))
        return [self._there[result, rank] for result in results if (result, rank) in self._there]

    def deliver(self, rank: int, action: Action, ready: Ready) -> None:
        """An action's result is there."""
        result = gives(action)
        if result is None:
            return
        self._there[result, rank] = ready
        to_stage = _next_stage(action)
        if 0 <= to_stage < self._schedule.num_stages:
            peer = self._schedule.rank_of_stage[to_stage]
            self._there[result, peer] = ready if peer == rank else self._send(rank, peer, action, ready)


def _next_stage(action: Action) -> int:
    return action.stage + (1 if action.kind is Pass.FORWARD else -1)


def boundary(action: Action) -> str:
    """Of the stream that an action's result goes on."""
    return f"stage {action.stage} to {_next_stage(action)}"


def add_pipeline(
    build: ProgramBuilder,
    schedule: PipelineSchedule,
    durations: Durations,
    num_bytes: int,
    *,
    ranks: Sequence[int],
    overlap: float = 1.0,
    one_stream: bool = False,
) -> None:
    """Add the operations of one pipeline, so that several can stand in one program.

    Arguments and errors as for :func:`pipeline_program`.
    """
    if num_bytes < 0 or not overlap > 0:
        raise InputError(f"activation bytes must not be negative and overlap be above 0, not {num_bytes} and {overlap}")
    if len(ranks) != schedule.num_ranks:
        raise InputError(
            f"pipeline schedule {schedule.name} has {schedule.num_ranks} ranks; {len(ranks)} world ranks are given"
        )

    def send(src: int, dst: int, action: Action, ready: int) -> int:
        if not num_bytes:
            return ready
        label = f"{action.stage}SEND_{'F' if action.kind is Pass.FORWARD else 'B'}{action.microbatch}"
        stream = f"{ranks[src]} to {ranks[dst]}" if one_stream else boundary(action)
        return build.transfer(ranks[src], ranks[dst], num_bytes, stream=stream, after=(ready,), label=label)

    deliveries = Deliveries(schedule, send)
    for row in lockstep(schedule):
        for rank, step in enumerate(row):
            if step is None:
                continue
            lasts = sum(durations(action) for action in step.parts)
            number = build.compute(
                ranks[rank],
                lasts if len(step.parts) == 1 else round(lasts * overlap),
                after=sorted(set(deliveries.wanted(rank, step))),
                label=str(step),
            )
            for action in step.parts:
                deliveries.deliver(rank, action, number)
