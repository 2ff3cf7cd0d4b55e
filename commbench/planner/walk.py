# SPDX-License-Identifier: Apache-2.0
"""How long a pipeline takes whose passes and transfers take what they take alone: a walk through its schedule.

Schedules repeat themselves: of many microbatches so many as three times the ranks are walked, and the rest is what a
microbatch adds between twice and three times as many.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.engine.kernel import entry
from commbench.network.jit import jit
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import Pass, PipelineSchedule

__all__ = ["Given", "Laid", "Walked", "lay", "walk"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
KINDS = tuple(Pass)
"""Columns of what passes last."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """A schedule as arrays.

    Attributes:
        schedule: what was laid. rank_first, part_first, stage, kind, microbatch: its steps rank by rank, their parts.
        rank_of_stage: derived of it.
        final: of every stage, the part that brings its last gradients.
    """

    schedule: PipelineSchedule
    rank_first: IntArray
    part_first: IntArray
    stage: IntArray
    kind: IntArray
    microbatch: IntArray
    rank_of_stage: IntArray
    final: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """Seconds from the start: when a rank is through, when a stage's last gradients are there, and when all that a rank
    sends of every microbatch's is; and those by which its passes were longer beside that.
    """

    ends: FloatArray
    finals: FloatArray
    sent: FloatArray
    slowed: FloatArray

    def later(self, seconds: float, sent_s: float, slowed_s: float) -> "Walked":
        """The same with a steady state that is longer by so much, and by so much for what is sent, and slowed."""
        sent = np.maximum(self.sent, self.sent + sent_s)
        return Walked(self.ends + seconds, self.finals + seconds, sent, self.slowed + slowed_s)


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
    final = np.full(len(holders), -1, dtype=np.int64)
    np.maximum.at(final, stage, np.where((kind == 1) | (kind == 3), np.arange(len(kind)), -1))
    return Laid(schedule, first, steps, stage, kind, microbatch, holders, final)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Seconds for a walk, by stage (row).

    Attributes:
        lasts: of passes (columns as KINDS). sent: of its output to the next stage and to the one before (columns); 0 on
            the same rank.
        fetch: by which a pass (column) is longer behind one that sent gradients, and at the very beginning.
        reduce: by which what follows a pass (column) begins later, but not what waits for its output.
        slower: by which its last gradients' pass is longer. each: of sending its gradients after each microbatch,
            beside nothing; 0 where they add up. ahead: before the end of the pass that brings them, when sending
            begins.
        share: no seconds: by how much of each second together passes and sending are longer, both.
        idle: of a pass (column), which sending does not make longer. slack: by which it may be longer at no cost.
    """

    lasts: FloatArray
    sent: FloatArray
    fetch: FloatArray
    reduce: FloatArray
    slower: FloatArray
    each: FloatArray
    ahead: FloatArray
    share: FloatArray
    idle: FloatArray
    slack: FloatArray


def walk(laid: Laid, given: Given, *, blocks: bool) -> Walked:
    """Walk through a schedule; ``blocks``: whether senders wait until what they send is there."""
    ranks, stages = laid.schedule.num_ranks, laid.schedule.num_stages
    clock, at = np.zeros(ranks), laid.rank_first[:-1].copy()
    there = np.full((2, stages, laid.schedule.num_microbatches), -1.0)
    finals, sent, slowed = np.zeros(stages), np.zeros(ranks), np.zeros(ranks)
    _walk(
        laid.rank_first, laid.part_first, laid.stage, laid.kind, laid.microbatch, laid.final, given.lasts,
        given.sent, given.fetch, given.reduce, given.slower, given.each, given.ahead, given.share, given.idle,
        given.slack, blocks, clock, at, there, finals, sent, slowed, *np.zeros((3, ranks)),
    )  # fmt: skip
    return Walked(clock, finals, sent, slowed)


def _beside(pass_s: float, busy: float, queue: float, share: float) -> tuple[float, float]:
    """Seconds by which a pass is longer beside what is queued to be sent, and what of that is left behind it: both take
    1 + share times as long together, in the part ``busy`` of the pass, which is spread over it.
    """
    both = min(pass_s, queue)
    return share * busy * both, queue - both


beside: Any = jit(_beside)  # called by compiled code alone


def _sending(
    parts: Any, stage: Any, kind: Any, lasts: Any, each: Any, ahead: Any, share: Any, idle: Any, slack: Any, left: Any,
    how: Any,
) -> tuple[float, float, float]:  # fmt: skip
    """Seconds by which a step's parts are longer beside what their rank sends, and what of that is left behind them,
    with its share; ``left``, ``how``: the same before them.
    """
    longer = 0.0
    for part in range(parts[0], parts[1]):
        s, k = stage[part], kind[part]
        whole = lasts[s, k]
        brings = each[s] > 0.0 and (k == 1 or k == 3)
        if left > 0.0 or brings:
            busy = max(0.0, 1 - idle[s, k] / whole) if whole > 0.0 else 0.0
            behind = min(ahead[s], whole) if brings else 0.0
            own, left = beside(whole - behind, busy, left, how)
            if brings:
                left, how = left + each[s], share[s]
                more, left = beside(behind, busy, left, how)
                own += more
            left = max(0.0, left - max(0.0, slack[s, k] - own))
            longer += max(0.0, own - slack[s, k])
    return longer, left, how


sending: Any = jit(_sending)


def _walk_loop(
    rank_first: Any, part_first: Any, stage: Any, kind: Any, microbatch: Any, final: Any, lasts: Any, sends: Any,
    fetch: Any, reduce: Any, slower: Any, each: Any, ahead: Any, share: Any, idle: Any, slack: Any, blocks: Any,
    clock: Any, at: Any, there: Any, finals: Any, sent: Any, slowed: Any, queue: Any, since: Any, how: Any,
) -> None:  # fmt: skip
    last, moved = len(finals) - 1, True
    while moved:
        moved = False
        for rank in range(len(clock)):
            while at[rank] < rank_first[rank + 1]:
                step = at[rank]
                start, waits, lasting = clock[rank], False, 0.0
                first, awaited = part_first[step], step == rank_first[rank]
                for part in range(part_first[step - 1] if step > rank_first[rank] else first, first):
                    awaited = awaited or kind[part] == 1 or kind[part] == 3
                if awaited:
                    lasting += fetch[stage[first], kind[first]]
                for part in range(first, part_first[step + 1]):
                    s, k, m = stage[part], kind[part], microbatch[part]
                    lasting += lasts[s, k]
                    if final[s] == part:
                        lasting += slower[s]
                    needed = s - 1 if k == 0 else s + 1 if s < last and k != 3 else -1
                    if needed >= 0:
                        way = 0 if k == 0 else 1
                        ready = there[way, needed, m]
                        if ready < 0.0:
                            waits = True
                            break
                        start = max(start, ready + sends[needed, way])
                if waits:
                    break
                longer, queue[rank], how[rank] = sending(
                    part_first[step : step + 2], stage, kind, lasts, each, ahead, share, idle, slack,
                    max(0.0, queue[rank] - (start - since[rank])), how[rank],
                )  # fmt: skip
                slowed[rank] += longer
                end, blocked, tail = start + lasting + longer, 0.0, 0.0
                since[rank] = end
                if queue[rank] > 0.0:
                    sent[rank] = max(sent[rank], end + queue[rank])
                for part in range(first, part_first[step + 1]):
                    s, k = stage[part], kind[part]
                    if k < 3:
                        way = 0 if k == 0 else 1
                        there[way, s, microbatch[part]] = end
                        blocked = max(blocked, sends[s, way])
                    tail = max(tail, reduce[s, k])
                    if k == 1 or k == 3:
                        finals[s] = end + reduce[s, k]
                clock[rank] = end + max(tail, blocked if blocks else 0.0)
                at[rank] += 1
                moved = True


_walk = entry(_walk_loop, beside, sending)
