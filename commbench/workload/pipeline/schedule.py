# SPDX-License-Identifier: Apache-2.0
"""A pipeline schedule is data: a :class:`PipelineSchedule` is one list of passes per rank, and nothing else.

Meaning
-------
The model is cut into ``num_stages`` stages; a rank holds one or several of them and each stage is on one rank. Passes:

* ``F`` forward; ``B`` whole backward; ``I`` gradient of the stage's input; ``W`` gradient of its weights (B = I and W).

A rank runs its list in order, one step at a time. A step starts when the step before it has ended and its inputs are
there: F(s, k) needs F(s-1, k); B or I(s, k) needs F(s, k) and, but on the last stage, B or I(s+1, k); W(s, k) needs
I(s, k). So the lists fix the order and the dependencies fix the times; communication follows from both.

An :class:`Overlap` is a forward and a backward pass of two microbatches that a rank runs as one step (DualPipeV): it
starts when both have their inputs, and both results are there when it ends.

The words and letters are those of torch.distributed.pipelining (2.13), and so is the text form (``text``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from commbench.arrays import IntArray
from commbench.errors import ScheduleError

__all__ = ["Action", "Overlap", "Pass", "PipelineSchedule", "Result", "Step", "gives", "needs"]


class Pass(StrEnum):
    """What an action computes; the value is its letter in the text form."""

    FORWARD = "F"
    BACKWARD = "B"
    INPUT = "I"
    WEIGHT = "W"


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One pass of one microbatch through one stage; printed like ``2F0``."""

    stage: int
    kind: Pass
    microbatch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind.value}{self.microbatch}"

    @property
    def parts(self) -> tuple["Action", ...]:
        """The actions of this step: itself."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Overlap:
    """A forward and a backward that run as one step; printed like ``(0F3;3B1)OVERLAP_F_B``."""

    forward: Action
    backward: Action

    def __str__(self) -> str:
        return f"({self.forward};{self.backward})OVERLAP_F_B"

    @property
    def parts(self) -> tuple[Action, ...]:
        """The actions of this step."""
        return (self.forward, self.backward)


Step = Action | Overlap

Result = tuple[Pass, int, int]
"""What is there: (FORWARD, stage, microbatch) a stage's output, (INPUT, stage, microbatch) its input's gradient."""


def gives(action: Action) -> Result | None:
    """The result that other actions wait for; None for weight gradients, which only the optimizer needs."""
    if action.kind is Pass.WEIGHT:
        return None
    kind = Pass.FORWARD if action.kind is Pass.FORWARD else Pass.INPUT
    return kind, action.stage, action.microbatch


def needs(action: Action, num_stages: int) -> tuple[Result, ...]:
    """The results that an action waits for; see the module docstring."""
    stage, microbatch = action.stage, action.microbatch
    if action.kind is Pass.FORWARD:
        return ((Pass.FORWARD, stage - 1, microbatch),) if stage else ()
    if action.kind is Pass.WEIGHT:
        return ((Pass.INPUT, stage, microbatch),)
    own = (Pass.FORWARD, stage, microbatch)
    return (own, (Pass.INPUT, stage + 1, microbatch)) if stage < num_stages - 1 else (own,)


@dataclass(frozen=True)
class PipelineSchedule:
    """The order of the passes on every rank of a pipeline.

    Attributes:
        name: for people and records.
        num_microbatches: microbatches 0..num_microbatches-1 of a step.
        orders: per rank its steps in order.
        rank_of_stage: derived: the rank that holds each stage.

    Raises:
        ScheduleError: no rank, no microbatch, a stage that is on two ranks or on none; names stage and ranks.
    """

    name: str
    num_microbatches: int
    orders: tuple[tuple[Step, ...], ...]
    rank_of_stage: tuple[int, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not self.orders or self.num_microbatches < 1:
            raise ScheduleError(
                f"pipeline schedule {self.name}: needs at least 1 rank and 1 microbatch, "
                f"not {len(self.orders)} and {self.num_microbatches}"
            )
        place: dict[int, int] = {}
        for rank, _, action in self.actions():
            if place.setdefault(action.stage, rank) != rank:
                raise ScheduleError(
                    f"pipeline schedule {self.name}: stage {action.stage} is on rank {place[action.stage]} and, by "
                    f"{action}, on rank {rank}; a stage stands on one rank"
                )
        last = max(place, default=0)
        missing = sorted(set(range(last + 1)) - place.keys())
        if missing:
            raise ScheduleError(
                f"pipeline schedule {self.name}: stage {missing[0]} has no action; stages are 0..{last}"
            )
        object.__setattr__(self, "rank_of_stage", tuple(place[stage] for stage in sorted(place)))

    @property
    def num_ranks(self) -> int:
        """Ranks of the pipeline."""
        return len(self.orders)

    @property
    def num_stages(self) -> int:
        """Stages on all ranks together."""
        return len(self.rank_of_stage)

    @cached_property
    def splits(self) -> bool:
        """Whether weight gradients are passes of their own, as in zero-bubble schedules."""
        return any(action.kind is Pass.WEIGHT for _, _, action in self.actions())

    @cached_property
    def columns(self) -> tuple[tuple[IntArray, IntArray], ...]:
        """Per rank its passes' stages and kinds (places in ``Pass``), forward passes first of a step's."""
        places = {kind: place for place, kind in enumerate(Pass)}
        found = []
        for order in self.orders:
            passes = [a for step in order for a in sorted(step.parts, key=lambda a: a.kind is not Pass.FORWARD)]
            rows = np.array([(a.stage, places[a.kind]) for a in passes], dtype=np.int64).reshape(-1, 2)
            found.append((rows[:, 0], rows[:, 1]))
        return tuple(found)

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """The stages that a rank holds, ascending."""
        return tuple(stage for stage, holder in enumerate(self.rank_of_stage) if holder == rank)

    def actions(self) -> Iterator[tuple[int, int, Action]]:
        """(rank, position in its list, action) of every action, both halves of an overlap at one position."""
        for rank, order in enumerate(self.orders):
            for position, step in enumerate(order):
                for action in step.parts:
                    yield rank, position, action
