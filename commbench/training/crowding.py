# SPDX-License-Identifier: Apache-2.0
"""Transfers between stages that meet other communication at the ranks where they begin or end.

In a walk everything has the links for itself. Where two things overlap in it that want more of a link than there is,
both are longer by what they want too much, for as long as they overlap: two transfers to one rank or from one, a
transfer and the collectives of a pass at either of its ends, or what ZeRO 3 fetches or reduces while its rank waits for
what it sends. Transfers and passes of a stage are longer by the mean of that, and the walk is walked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from commbench.arrays import FloatArray, IntArray
from commbench.engine.kernel import entry
from commbench.training.link_time import LinkTime, slowed_s
from commbench.training.schedule_walk import KINDS, Given, Laid, Walked
from commbench.training.stage_seconds import StageSeconds

__all__ = ["Crowds", "crowded"]


@dataclass(frozen=True, slots=True, eq=False)
class Crowds:
    """By how much each second of a transfer and of something beside it is longer, in the mean, by stage (row).

    Attributes:
        others: of a transfer to the next stage or the one before (column), beside one like it.
        fetches, reduces: the same, beside what ZeRO 3 fetches and reduces on the stage.
        alike: of a transfer, its row in ``passes``: beside a pass of a stage, by kind.
    """

    others: FloatArray
    fetches: FloatArray
    reduces: FloatArray
    alike: IntArray
    passes: FloatArray

    @classmethod
    def of(cls, sent: Sequence[Sequence[LinkTime]], times: Sequence[StageSeconds]) -> "Crowds":
        """Of stages whose output takes so long to the next and to the one before."""
        kinds = {one: number for number, one in enumerate(dict.fromkeys(one for pair in sent for one in pair))}
        stages = list({id(one): one for one in times}.values())
        numbers = {id(one): number for number, one in enumerate(stages)}
        place = np.array([numbers[id(one)] for one in times])
        alike = np.array([[kinds[one] for one in pair] for pair in sent])
        passes = np.array([[_of_passes(one, stage) for stage in stages] for one in kinds])
        others = np.array([_beside(one, one) for one in kinds])
        zero = np.array([[[_beside(one, own) for own in stage.sharded] for stage in stages] for one in kinds])
        fetches, reduces = np.ascontiguousarray(np.moveaxis(zero[alike, place[:, None]], 2, 0))
        return cls(others[alike], fetches, reduces, alike, np.ascontiguousarray(passes[:, place]))

    @property
    def most(self) -> float:
        """By how much any second may be longer beside something."""
        return float(max(one.max(initial=0.0) for one in (self.passes, self.others, self.fetches, self.reduces)))


def _of_passes(sent: LinkTime, stage: StageSeconds) -> list[float]:
    """Beside each kind of pass."""
    part = sent.wire_s / max(sent.total_s, 1e-12)
    slowed = [sum(one.wire_s * sent.slows(one, 0.0) for one in stage.moving(kind)) for kind in KINDS]
    return [part * one / max(stage.times.get(kind, 0.0), 1e-12) for one, kind in zip(slowed, KINDS, strict=True)]


def _beside(sent: LinkTime, other: LinkTime) -> float:
    """Beside another that begins with it."""
    both = min(sent.total_s, other.total_s)
    return slowed_s([sent], [other], 0.0) / both if both else 0.0


def crowded(laid: Laid, given: Given, walked: Walked, crowds: Crowds, *, blocks: bool) -> Given:
    """The transfers and passes of a walk, longer by what they meet in it.

    Args:
        laid: the schedule. given: with the links for itself. walked: as it is so far.
        crowds: what meets. blocks: whether senders wait until what they send is there.
    """
    met = _Met(laid, walked, given, crowds, blocks)
    sent, lasts, edges = given.sent.copy(), given.lasts.copy(), given.edges.copy()
    lasts += met.passes_s / laid.passes
    sent += met.mean(met.longer)
    if blocks and edges.any():
        more, reduced = met.sharded()
        sent += met.mean(more)
        edges[2, :, 1] += met.mean(reduced)[:, 1]
    return replace(given, sent=sent, lasts=lasts, edges=edges)


class _Met:
    """The transfers of a walk, and seconds by which they (``longer``) and passes (``passes_s``) are longer."""

    def __init__(self, laid: Laid, walked: Walked, given: Given, crowds: Crowds, blocks: bool) -> None:
        self._laid, self._given, self._crowds = laid, given, crowds
        self._stage, self._way = laid.stage[laid.sends], laid.way
        ends = walked.arrived[laid.sends]
        whole = walked.sent_s[self._stage, self._way]
        begins, longest = ends - whole, float(walked.ended.max()) * 2 + 1.0
        crowd, self.passes_s = np.zeros(len(ends)), np.zeros_like(given.lasts)
        each = np.arange(len(ends))
        for where, other, runs in ((laid.dst, -1 - 0 * each, laid.by_dst), (laid.src, laid.dst, each)):
            order = runs[np.argsort((where * longest + begins)[runs], kind="stable")]  # quick for what is in order
            _meet(
                order, where, other, begins, ends, self._stage, self._way,
                laid.rank_first, laid.last, laid.stage, laid.kind, walked.begun, walked.ended, crowds.others,
                crowds.alike, crowds.passes, where is laid.dst or not blocks, crowd, self.passes_s,
            )  # fmt: skip
        self.longer = whole * crowd / np.maximum(1e-12, whole + crowd)

    def mean(self, amounts: FloatArray) -> FloatArray:
        """Of each stage's transfers to the next and the one before."""
        count = self._laid.transfers
        sums = np.bincount(self._stage * 2 + self._way, weights=amounts, minlength=count.size)
        return sums.reshape(count.shape) / count

    def sharded(self) -> tuple[FloatArray, FloatArray]:
        """Seconds by which transfers are longer beside what ZeRO 3 does of a rank that waits for them, and those by
        which reductions are.
        """
        laid, edges, stage, way = self._laid, self._given.edges, self._stage, self._way
        step = np.searchsorted(laid.part_first, laid.sends, side="right")  # the one behind
        goes_on = (step < laid.rank_first[laid.src + 1]) & (laid.kind[laid.sends] != 1)
        kind, sent_s = laid.kind[laid.sends], self._given.sent[stage, way]
        at = laid.part_first[np.minimum(step, len(laid.part_first) - 2)]
        first, second, lone = (edges[name, laid.stage[at], laid.kind[at]] for name in (0, 1, 7))
        second = np.where(lone > 0, np.where(laid.kind[at] % 2 == 0, first, 0.0), second)
        fetched = np.maximum(0.0, first - edges[4, stage, kind]) + second
        more = np.where(goes_on, np.minimum(sent_s, fetched), 0.0) * self._crowds.fetches[stage, way]
        reduced = np.where(kind == 1, np.minimum(sent_s, edges[2, stage, 1]), 0.0)
        reduced *= self._crowds.reduces[stage, way]
        return more + reduced, reduced


def _meet_loop(
    order: Any, where: Any, other: Any, begins: Any, ends: Any, stage: Any, way: Any, rank_first: Any, last: Any,
    part_stage: Any, kind: Any, begun: Any, ended: Any, others: Any, alike: Any, passes: Any, computes: Any, crowd: Any,
    passes_s: Any,
) -> None:  # fmt: skip
    """Overlaps at a rank, of transfers in the order of their beginning there, by how much both are longer in them."""
    step, before = 0, -1
    for place in range(len(order)):
        one = order[place]
        for behind in range(place + 1, len(order)):
            two = order[behind]
            if where[two] != where[one] or begins[two] >= ends[one]:
                break
            if other[two] != other[one] or other[one] < 0:  # else they met at the other end
                both = min(ends[one], ends[two]) - begins[two]
                crowd[one] += others[stage[one], way[one]] * both
                crowd[two] += others[stage[two], way[two]] * both
        if not computes:
            continue
        if where[one] != before:
            before = where[one]
            step = rank_first[before]
        while step < rank_first[before + 1] and ended[step] <= begins[one]:
            step += 1
        at = step
        while at < rank_first[before + 1] and begun[at] < ends[one]:
            both = min(ends[one], ended[at]) - max(begins[one], begun[at])
            s, k = part_stage[last[at]], kind[last[at]]
            more = passes[alike[stage[one], way[one]], s, k] * both
            crowd[one] += more
            passes_s[s, k] += more * (ends[one] - begins[one]) / (ends[one] - begins[one] + crowd[one])
            at += 1


_meet = entry(_meet_loop)
