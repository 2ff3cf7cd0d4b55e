# SPDX-License-Identifier: Apache-2.0
"""How long a pipeline takes whose passes and transfers take what they take alone: a walk through its schedule.

Schedules repeat themselves: of many microbatches so many as three times the ranks are walked, and the rest is what a
microbatch adds between twice and three times as many.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.engine.kernel import entry
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import Pass, PipelineSchedule

__all__ = ["Laid", "Walked", "lay", "walk"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
KINDS = tuple(Pass)
"""Columns of what passes last."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """A schedule as arrays.

    Attributes:
        schedule: what was laid. rank_first, part_first, stage, kind, microbatch: its steps rank by rank, their parts.
        rank_of_stage: derived of it. held: (rank, stage) microbatches kept where a rank keeps most of its stages'.
        split: whether gradients of inputs and of weights are passes of their own.
    """

    schedule: PipelineSchedule
    rank_first: IntArray
    part_first: IntArray
    stage: IntArray
    kind: IntArray
    microbatch: IntArray
    rank_of_stage: IntArray
    held: IntArray
    split: bool


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """Seconds from the start: when a rank is through, when a stage's last gradients are there, and when all that a rank
    sends of every microbatch's is.
    """

    ends: FloatArray
    finals: FloatArray
    sent: FloatArray

    def later(self, seconds: float, sent_s: float) -> "Walked":
        """The same with a steady state that is longer by so much, and by so much for what is sent."""
        return Walked(self.ends + seconds, self.finals + seconds, np.maximum(self.sent, self.sent + sent_s))


@lru_cache(maxsize=1024)
def lay(name: str, ranks: int, microbatches: int, per_rank: int) -> Laid:
    """A named schedule.

    Raises:
        InputError: what it cannot run.
    """
    schedule = build_pipeline(name, ranks, microbatches, per_rank)
    number = {kind: i for i, kind in enumerate(KINDS)}
    rank_first, part_first, parts = [0], [0], list[tuple[int, int, int]]()
    for order in schedule.orders:
        for step in order:
            parts += [(action.stage, number[action.kind], action.microbatch) for action in step.parts]
            part_first.append(len(parts))
        rank_first.append(len(part_first) - 1)
    stage, kind, microbatch = np.array(parts, dtype=np.int64).T.copy()
    first = np.array(rank_first, dtype=np.int64)
    steps = np.array(part_first, dtype=np.int64)
    holders = np.array(schedule.rank_of_stage, dtype=np.int64)
    held = _held(steps[first], stage, kind, len(holders))
    return Laid(schedule, first, steps, stage, kind, microbatch, holders, held, bool((kind > 1).any()))


def _held(of_rank: IntArray, stage: IntArray, kind: IntArray, stages: int) -> IntArray:
    """Microbatches of every stage that a rank keeps at its fullest moment, each stage counted alike."""
    held = np.zeros((len(of_rank) - 1, stages), dtype=np.int64)
    change = np.where(kind == 0, 1, np.where((kind == 1) | (kind == 3), -1, 0))
    for rank, (begin, end) in enumerate(pairwise(of_rank.tolist())):
        most = int(np.cumsum(change[begin:end]).argmax()) + 1
        np.add.at(held[rank], stage[begin : begin + most], change[begin : begin + most])
    return held


def walk(laid: Laid, lasts: FloatArray, sent_s: float, each: FloatArray, ahead: FloatArray) -> Walked:
    """Walk through a schedule.

    Args:
        laid: the schedule. lasts: seconds of every stage's (row) passes (column, as KINDS). sent_s: of a transfer.
        each: of sending every stage's gradients after each microbatch; 0 where they add up.
        ahead: before the end of the pass that brings them, when sending begins.
    """
    ranks, stages = laid.schedule.num_ranks, laid.schedule.num_stages
    clock, at = np.zeros(ranks), laid.rank_first[:-1].copy()
    there = np.full((2, stages, laid.schedule.num_microbatches), -1.0)
    finals, sent = np.zeros(stages), np.zeros(ranks)
    _walk(
        laid.rank_first, laid.part_first, laid.stage, laid.kind, laid.microbatch, laid.rank_of_stage, lasts, sent_s,
        each, ahead, clock, at, there, finals, sent,
    )  # fmt: skip
    return Walked(clock, finals, sent)


def _walk_loop(
    rank_first: Any, part_first: Any, stage: Any, kind: Any, microbatch: Any, rank_of_stage: Any, lasts: Any,
    sent_s: Any, each: Any, ahead: Any, clock: Any, at: Any, there: Any, finals: Any, sent: Any,
) -> None:  # fmt: skip
    last, moved = len(rank_of_stage) - 1, True
    while moved:
        moved = False
        for rank in range(len(clock)):
            while at[rank] < rank_first[rank + 1]:
                step = at[rank]
                start, waits, lasting = clock[rank], False, 0.0
                for part in range(part_first[step], part_first[step + 1]):
                    s, k, m = stage[part], kind[part], microbatch[part]
                    lasting += lasts[s, k]
                    if k == 0:
                        needed = s - 1 if s > 0 else -1
                        way = 0
                    else:
                        needed = s + 1 if s < last and k != 3 else -1
                        way = 1
                    if needed >= 0:
                        ready = there[way, needed, m]
                        if ready < 0.0:
                            waits = True
                            break
                        if rank_of_stage[needed] != rank:
                            ready += sent_s
                        start = max(start, ready)
                if waits:
                    break
                clock[rank] = start + lasting
                for part in range(part_first[step], part_first[step + 1]):
                    s, k = stage[part], kind[part]
                    if k == 0:
                        there[0, s, microbatch[part]] = clock[rank]
                    elif k < 3:
                        there[1, s, microbatch[part]] = clock[rank]
                    if k == 1 or k == 3:
                        finals[s] = clock[rank]
                        sent[rank] = max(sent[rank], clock[rank] - ahead[s]) + each[s]
                at[rank] += 1
                moved = True


_walk = entry(_walk_loop)
