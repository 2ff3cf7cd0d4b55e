# SPDX-License-Identifier: Apache-2.0
"""How long a pipeline takes whose passes and transfers take what they take alone: a walk through its schedule.

Schedules repeat themselves: of many microbatches so many as three times the ranks are walked, and the rest is what a
microbatch adds between twice and three times as many.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.engine.kernel import entry
from commbench.network.jit import jit
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import Pass, PipelineSchedule

__all__ = ["KINDS", "Given", "Laid", "Walked", "laid_out", "lay", "walk"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
KINDS = tuple(Pass)
"""Columns of what passes last."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """A schedule as arrays.

    Attributes:
        schedule: what was laid. rank_first, part_first, stage, kind, microbatch: its steps rank by rank, their parts.
        rank_of_stage: derived of it. sends: parts whose result goes to another rank. src, dst: these two. way: 0 to the
            next stage, 1 to the one before. by_dst: their numbers by where they go, then whence they come.
        last: of every step, its last part. passes, transfers: how many there are, by stage, and kind or way.
        final: of every stage, the part that brings its last gradients.
    """

    schedule: PipelineSchedule
    rank_first: IntArray
    part_first: IntArray
    stage: IntArray
    kind: IntArray
    microbatch: IntArray
    rank_of_stage: IntArray
    sends: IntArray
    src: IntArray
    dst: IntArray
    way: IntArray
    by_dst: IntArray
    last: IntArray
    passes: IntArray
    transfers: IntArray
    final: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """Seconds from the start: when a rank is through, when a stage's last gradients are there, and when all that a rank
    sends of every microbatch's is; and those by which its passes were longer beside that.

    Attributes:
        begun, ended: when every step did. arrived: when every part's result was where it is needed. sent_s: seconds of
            outputs, as they were given.
    """

    ends: FloatArray
    finals: FloatArray
    sent: FloatArray
    slowed: FloatArray
    begun: FloatArray
    ended: FloatArray
    arrived: FloatArray
    sent_s: FloatArray

    def later(self, seconds: float, sent_s: float, slowed_s: float) -> "Walked":
        """The same with a steady state that is longer by so much, and by so much for what is sent, and slowed."""
        sent = np.maximum(self.sent, self.sent + sent_s)
        ends, finals, slowed = self.ends + seconds, self.finals + seconds, self.slowed + slowed_s
        return replace(self, ends=ends, finals=finals, sent=sent, slowed=slowed)


@lru_cache(maxsize=1024)
def lay(name: str, ranks: int, microbatches: int, per_rank: int) -> Laid:
    """A named schedule.

    Raises:
        InputError: what it cannot run.
    """
    return laid_out(build_pipeline(name, ranks, microbatches, per_rank))


def laid_out(schedule: PipelineSchedule) -> Laid:
    """A schedule as arrays."""
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
    way = np.where(kind == KINDS.index(Pass.FORWARD), 0, 1)
    there = np.clip(stage + 1 - 2 * way, 0, len(holders) - 1)
    sends = np.flatnonzero((kind != KINDS.index(Pass.WEIGHT)) & (holders[stage] != holders[there]))
    src, dst, way = holders[stage[sends]], holders[there[sends]], way[sends]
    passes, transfers = np.zeros((len(holders), len(KINDS)), np.int64), np.zeros((len(holders), 2), np.int64)
    np.add.at(passes, (stage, kind), 1)
    np.add.at(transfers, (stage[sends], way), 1)
    return Laid(
        schedule, first, steps, stage, kind, microbatch, holders, sends, src, dst, way, np.lexsort((src, dst)),
        steps[1:] - 1, np.maximum(1, passes), np.maximum(1, transfers), final,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Seconds for a walk, by stage (row).

    Attributes:
        lasts: of passes (columns as KINDS). sent: of its output to the next stage and to the one before (columns); 0 on
            the same rank.
        edges: of ZeRO 3, in the order of ``stage_seconds.Edges``, then by stage and pass (column).
        slower: by which its last gradients' pass is longer. each: of sending its gradients after each microbatch,
            beside nothing; 0 where they add up. ahead: before the end of the pass that brings them, when sending
            begins.
        share: no seconds: by how much of each second together passes and sending are longer, both.
        idle: of a pass (column), which sending does not make longer. slack: by which it may be longer at no cost.
    """

    lasts: FloatArray
    sent: FloatArray
    edges: FloatArray
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
    finals, sent, slowed, fetched = np.zeros(stages), np.zeros(ranks), np.zeros(ranks), np.zeros(ranks)
    begun, ended = np.zeros((2, len(laid.part_first) - 1))
    arrived = np.zeros(len(laid.kind))
    _walk(
        laid.rank_first, laid.part_first, laid.stage, laid.kind, laid.microbatch, laid.final, given.lasts, given.sent,
        given.edges, given.slower, given.each, given.ahead, given.share, given.idle, given.slack, blocks,
        bool(given.each.any()), bool(given.edges.any()), clock, at, there, finals, sent, slowed,
        *np.zeros((3, ranks)), fetched, begun, ended, arrived, np.zeros((2, stages)),
    )  # fmt: skip
    return Walked(clock, finals, sent, slowed, begun, ended, arrived, given.sent)


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


def _sharding(
    edges: Any, stage: Any, kind: Any, first: Any, behind: Any, fetch: Any, begun: Any, free: Any, end: Any
) -> tuple[float, float]:
    """A step under ZeRO 3: its end, and when the first gather of the next is there, which takes ``fetch`` and does not
    wait for gradients; ``free``: since when its own second gather was under way.
    """
    s, k = stage[first], kind[first]
    second, opening = edges[1, s, k], edges[3, s, k]
    left = max(0.0, second - (begun - free))
    end -= max(opening, second) - max(opening, left) + edges[5, s, k] * (min(opening, second) - min(opening, left))
    for part in range(first + 1, behind):  # each fetches beside the one before
        s, k, own = stage[part - 1], kind[part - 1], edges[0, stage[part], kind[part]]
        end += edges[6, s, k] * min(edges[4, s, k], own) + max(0.0, own - edges[4, s, k])
    s, k = stage[behind - 1], kind[behind - 1]
    if k == 1 or k == 3:
        return end, end
    if edges[7, s, k] > 0.0:
        fetch = max(0.0, fetch - (begun - free))
    closing = edges[4, s, k]
    end += edges[6, s, k] * min(closing, fetch)
    return end, end + max(0.0, fetch - closing)


sharding: Any = jit(_sharding)  # called by compiled code alone


def _ready(
    parts: Any, stage: Any, kind: Any, microbatch: Any, last: Any, there: Any, start: Any
) -> float:
    """When what a step waits for is there, no earlier than ``start``; below 0 where it is not known yet."""
    for part in range(parts[0], parts[1]):
        s, k = stage[part], kind[part]
        needed = s - 1 if k == 0 else s + 1 if s < last and k != 3 else -1
        if needed >= 0:
            arrives = there[0 if k == 0 else 1, needed, microbatch[part]]
            if arrives < 0.0:
                return -1.0
            start = max(start, arrives)
    return float(start)


ready: Any = jit(_ready)


def _delivered(
    parts: Any, stage: Any, kind: Any, microbatch: Any, end: Any, tail: Any, sends: Any, boundary: Any, there: Any,
    arrived: Any, finals: Any,
) -> float:  # fmt: skip
    """Note when the results of a step are where they are needed; returns seconds from its end until the last is."""
    blocked = 0.0
    for part in range(parts[0], parts[1]):
        s, k = stage[part], kind[part]
        if k < 3:
            way = 0 if k == 0 else 1
            arrived[part] = end
            if sends[s, way] > 0.0:  # one after the other over a boundary
                arrived[part] = max(end, boundary[way, s]) + sends[s, way]
                boundary[way, s] = arrived[part]
            there[way, s, microbatch[part]] = arrived[part]
            blocked = max(blocked, arrived[part] - end)
        if k == 1 or k == 3:
            finals[s] = end + tail
    return blocked


delivered: Any = jit(_delivered)


def _walk_loop(
    rank_first: Any, part_first: Any, stage: Any, kind: Any, microbatch: Any, final: Any, lasts: Any, sends: Any,
    edges: Any, slower: Any, each: Any, ahead: Any, share: Any, idle: Any, slack: Any, blocks: Any, flows: Any,
    sharded: Any, clock: Any, at: Any, there: Any, finals: Any, sent: Any, slowed: Any, queue: Any, since: Any,
    how: Any, fetched: Any, started: Any, ended: Any, arrived: Any, boundary: Any,
) -> None:  # fmt: skip
    last, moved = len(finals) - 1, True
    for rank in range(len(clock)):
        part = part_first[rank_first[rank]]
        fetched[rank] = edges[0, stage[part], kind[part]]
    while moved:
        moved = False
        for rank in range(len(clock)):
            while at[rank] < rank_first[rank + 1]:
                step = at[rank]
                first, behind = part_first[step], part_first[step + 1]
                start = ready(part_first[step : step + 2], stage, kind, microbatch, last, there, clock[rank])
                if start < 0.0:
                    break
                lasting = spare = fetch = tail = 0.0
                for part in range(first, behind):
                    lasting += lasts[stage[part], kind[part]]
                    spare += slack[stage[part], kind[part]]
                    if final[stage[part]] == part:
                        lasting += slower[stage[part]]
                begun = max(start, fetched[rank])
                if flows:
                    longer, queue[rank], how[rank] = sending(
                        part_first[step : step + 2], stage, kind, lasts, each, ahead, share, idle, slack,
                        max(0.0, queue[rank] - (begun - since[rank])), how[rank],
                    )  # fmt: skip
                    slowed[rank] += longer
                    lasting += longer
                device = begun + lasting - spare
                if sharded:
                    if step + 1 < rank_first[rank + 1]:
                        fetch = edges[0, stage[behind], kind[behind]]
                    free = max(since[rank], fetched[rank])
                    device, fetched[rank] = sharding(edges, stage, kind, first, behind, fetch, begun, free, device)
                end = max(device, start + lasting) if spare > 0.0 else device  # the host launches from the start on
                s, k = stage[behind - 1], kind[behind - 1]
                if sharded:
                    tail = max(0.0, edges[2, s, k] - (end - device))
                since[rank] = end
                started[step], ended[step] = begun, end
                if queue[rank] > 0.0:
                    sent[rank] = max(sent[rank], end + queue[rank])
                blocked = delivered(
                    part_first[step : step + 2], stage, kind, microbatch, end, tail, sends, boundary, there, arrived,
                    finals,
                )  # fmt: skip
                clock[rank] = end + max(tail, blocked if blocks else 0.0)
                if sharded and (k == 1 or k == 3):  # its gradients are reduced before anything else is fetched
                    fetched[rank] = clock[rank] + fetch
                at[rank] += 1
                moved = True


_walk = entry(_walk_loop, beside, sending, sharding, ready, delivered)
