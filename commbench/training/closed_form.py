# SPDX-License-Identifier: Apache-2.0
"""The time of a step from the times of its passes: no events, and no contention but beside what a rank itself sends.

A filter and a yardstick, never the simulator's answer. What collectives cost is said by ``StepPrices``; passes take
what ``stage_seconds`` has, and a walk through the schedule (``schedule_walk``) puts them one behind the other.
Gradients are sent when the first layer of the last pass that adds to them is through, beside the rest of it and the
passes behind; parameters that do not wait for the optimizer to end arrive beside the first forward passes. By rules
that only make a step shorter the same is a lower bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise

import numpy as np

from commbench.arrays import FloatArray
from commbench.training.crowding import Crowds, crowded
from commbench.training.link_time import NO_TIME, LinkTime, slowed_s
from commbench.training.schedule_walk import KINDS, Given, Laid, Walked, laid_out, lay, walk
from commbench.training.stage_seconds import Edges, Shapes, StageSeconds, sent, stage_times
from commbench.training.step_hosts import StepPrices
from commbench.workload.pipeline.registry import PIPELINES
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.step_costs import StackCosts
from commbench.workload.step_plan import StepPlan

__all__ = ["Estimate", "StepForm", "closed_form", "laid_of", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds of a step, and what they consist of."""

    iteration_s: float
    terms: dict[str, float]


def closed_form(plan: StepPlan, stack: StackCosts, machine: StepPrices, *, shapes: Shapes | None = None) -> Estimate:
    """The time of a step.

    Args:
        plan: what is trained. stack: what the software adds. machine: where.
        shapes: of this plan's stages; what is missing is added. For who asks again with other constants.
    """
    times = stage_times(plan, stack, machine, shapes={} if shapes is None else shapes, passes={})
    schedule = plan.schedule
    form = StepForm(plan, stack, machine, schedule.num_microbatches)
    walked = form.walked(form.given(times))
    whole = form.end_s(times)
    after = max(sum(times[stage].after for stage in schedule.stages_of(rank)) for rank in range(schedule.num_ranks))
    terms = {"passes": float(walked.ends.max()), "optimizer": after, "host": form.host_s}
    return Estimate(iteration_s=whole, terms={**terms, "data": whole - sum(terms.values())})


def laid_of(name: str, ranks: int, microbatches: int, per_rank: int, fewer: int = 0) -> Laid:
    """A schedule of some rounds of microbatches, by which it repeats itself, ``fewer`` rounds less; of all, where these
    are fewer, or where ranks keep all of them.
    """
    if name in _KEEPING:
        return lay(name, ranks, microbatches, per_rank)
    most = (3 + (name in _LATE) - fewer) * ranks
    return lay(name, ranks, min(microbatches, most), per_rank)


_LATE = ("zbv", "dualpipev")  # whose steady state begins when the second half of their stages has begun
_KEEPING = ("gpipe", "looped-bfs")  # what a rank keeps for backward grows with the microbatches


class StepForm:
    """A step, from what its stages take.

    Args:
        plan, stack, machine: as :func:`closed_form` has them; of the schedule only its name, ranks and stages count.
        microbatches: of the step.
    """

    def __init__(self, plan: StepPlan, stack: StackCosts, machine: StepPrices, microbatches: int) -> None:
        self._plan, self._stack, self._machine, self._microbatches = plan, stack, machine, microbatches
        schedule = plan.schedule
        self._how = (schedule.name, schedule.num_ranks, microbatches, schedule.num_stages // schedule.num_ranks)
        self.laid = laid_of(*self._how) if schedule.name in PIPELINES else laid_out(schedule)

    @property
    def blocks(self) -> bool:
        """Whether a rank waits until what it sends is there."""
        return self._plan.sender_waits

    @property
    def host_s(self) -> float:
        """Seconds of the host that come once a step."""
        plan, stack = self._plan, self._stack
        shared = plan.zero_ranks if plan.zero in (1, 2) else 0
        return stack.host_step_s + stack.zero_rank_s * shared * len(plan.schedule.stages_of(0))

    @cached_property
    def _sent(self) -> list[list[LinkTime]]:
        """Of every stage, what its output takes to its neighbours: the next, the one before."""
        found = [[NO_TIME, NO_TIME] for _ in self.laid.rank_of_stage]
        for stage, (here, there) in enumerate(pairwise(self.laid.rank_of_stage.tolist())):
            if here != there:
                found[stage][0] = found[stage + 1][1] = sent(self._plan, self._machine, here, there)
        return found

    def given(self, times: Sequence[StageSeconds], *, bound: bool = False) -> Given:
        """What a walk needs; ``bound``: by rules that can only make it shorter."""
        laid, plan = self.laid, self._plan
        lasts, slack, idle = (table(times, name) for name in ("times", "slack", "idle"))
        final, h = laid.kind[laid.final], 0.0 if bound else self._stack.hidden_data
        stages = np.arange(len(times))
        wire, each = (np.array([getattr(time.data, name) for time in times]) for name in ("wire_s", "total_s"))
        last, spare, slower = lasts[stages, final], slack[stages, final], np.zeros(len(times))
        share = h * (1 - idle[stages, final] / np.maximum(last, 1e-12))
        if plan.zero < 2 and plan.overlap_gradients and not plan.stale_gradients:
            slower = np.maximum(0, share * _beside(laid, wire, last) - spare)
        ahead = last * (1.0 if bound else 1 - 1 / np.maximum(1, np.array(plan.layers)))
        flow = each if plan.zero == 2 and not bound else 0 * each
        both = h * wire / np.maximum(each, 1e-12)
        edges = _edges(times) if plan.zero == 3 else np.zeros((len(_EDGES), *lasts.shape))
        sent_s = np.array([[one.total_s for one in pair] for pair in self._sent])
        return Given(lasts, sent_s, edges, slower, flow, ahead, both, idle, slack)

    def met(self, given: Given, times: Sequence[StageSeconds]) -> Given:
        """What is given to a walk, longer by what transfers meet in it."""
        sent_s = given.sent.sum()
        whole, added, found = given.lasts.sum() + sent_s, 0.0, given
        if sent_s < _FEW * whole:
            return given
        crowds = Crowds.of(self._sent, times)
        if sent_s * crowds.most < _FEW * whole:
            return given
        laid = laid_of(*self._how, 1) if self._microbatches > self.laid.schedule.num_microbatches else self.laid
        for _ in range(_TURNS):
            found = crowded(laid, given, walk(laid, found, blocks=self.blocks), crowds, blocks=self.blocks)
            before, added = added, found.lasts.sum() + found.sent.sum() - whole
            if abs(added - before) < _EXACT * whole:
                break
        return found

    def walked(self, given: Given) -> Walked:
        """The walk with what is given to it, its steady state as long as the microbatches want it."""
        walked = walk(self.laid, given, blocks=self.blocks)
        beyond = self._microbatches - self.laid.schedule.num_microbatches
        if not beyond:
            return walked
        before, rounds = walk(laid_of(*self._how, 1), given, blocks=self.blocks), beyond / self.laid.schedule.num_ranks
        longer = (float((getattr(walked, name) - getattr(before, name)).max()) for name in ("ends", "sent", "slowed"))
        return walked.later(*(rounds * each for each in longer))

    def end_s(self, times: Sequence[StageSeconds], *, bound: bool = False) -> float:
        """Seconds of the step."""
        laid, plan = self.laid, self._plan
        given = self.given(times, bound=bound)
        if not bound:
            given = self.met(given, times)
        data, ends, after = np.array([(time.data.total_s, time.ends.total_s, time.after) for time in times]).T
        walked = self.walked(given)
        order = np.lexsort((walked.finals, laid.rank_of_stage)).reshape(laid.schedule.num_ranks, -1)
        sent = walked.sent
        if plan.zero == 2:
            sent = np.maximum(sent, self._microbatches * data[order].sum(axis=1))
        elif plan.zero < 2 and plan.stale_gradients:
            wire = np.array([time.data.wire_s for time in times])[order].sum(axis=1)
            slowed = 0.0 if bound else self._stack.hidden_data * np.minimum(wire, walked.ends) + ends[order].sum(axis=1)
            sent = np.maximum(data[order].sum(axis=1), walked.ends + slowed)
        elif plan.zero < 2 and not plan.overlap_gradients:  # when they begin depends on the schedule
            sent = walked.ends + (0.0 if bound else (data + ends)[order].sum(axis=1))
        elif plan.zero < 2:
            sent = np.zeros(laid.schedule.num_ranks)
            begins, sending = walked.finals - given.ahead - given.slower, data + ends + given.slower
            for stage in order.T:
                sent = np.maximum(sent, begins[stage]) + sending[stage]
        whole = np.maximum(walked.ends, sent) + (0.0 if bound or plan.zero < 2 else ends[order].sum(axis=1))
        if not bound and plan.overlap_parameters:
            whole += self._gathering(times, walked)
        return float((whole + after[order].sum(axis=1)).max()) + self.host_s

    def _gathering(self, times: Sequence[StageSeconds], walked: Walked) -> FloatArray:
        """Seconds by which every rank is longer for parameters that arrive beside its first forward passes."""
        laid, found = self.laid, list[float]()
        firsts = np.flatnonzero((laid.kind == KINDS.index(Pass.FORWARD)) & (laid.microbatch == 0))
        steps = np.searchsorted(laid.part_first, firsts, side="right") - 1
        for rank in range(laid.schedule.num_ranks):
            own = laid.rank_of_stage[laid.stage[firsts]] == rank
            opening = float(walked.ended[steps[own]].max() - walked.begun[steps[own]].min())
            stages = [times[stage] for stage in laid.schedule.stages_of(rank)]
            gathered = sum([one.gathered for one in stages], NO_TIME)
            slowed = slowed_s([LinkTime(0.0, opening)], [gathered], self._stack.hidden_data)
            ahead = times[int(laid.stage[firsts[own][0]])].ahead
            found.append(max(0.0, gathered.total_s - opening) + slowed + ahead)
        return np.array(found)

    def busy(self, lasts: FloatArray) -> FloatArray:
        """Seconds of every rank's passes."""
        several = [np.bincount(
            laid.rank_of_stage[laid.stage], weights=lasts[laid.stage, laid.kind], minlength=laid.schedule.num_ranks
        ) for laid in (self.laid, laid_of(*self._how, 1))]  # fmt: skip
        beyond = self._microbatches - self.laid.schedule.num_microbatches
        rounds = beyond / self.laid.schedule.num_ranks
        return np.asarray(several[0] + (rounds * (several[0] - several[1]) if beyond else 0.0))


_NO_EDGES, _EDGES = Edges(), tuple(one.name for one in fields(Edges))


def _edges(times: Sequence[StageSeconds]) -> FloatArray:
    """Edges by name, stage and pass."""
    rows = {}
    for one in times:
        if id(one) not in rows:
            own = [one.edges.get(kind, _NO_EDGES) for kind in KINDS]
            rows[id(one)] = np.array([[getattr(edge, name) for edge in own] for name in _EDGES])
    return np.ascontiguousarray(np.stack([rows[id(one)] for one in times], axis=1))


_FEW = 0.02
"""Of passes and transfers: what transfers meet is looked at where it may make them longer by more."""
_TURNS = 3
_EXACT = 0.002
"""Walks, until what is met in one and in the one before differ by less."""


def table(times: Sequence[StageSeconds], name: str) -> FloatArray:
    """Seconds by stage (row) and pass (column)."""
    return np.array([[getattr(one, name).get(kind, 0.0) for kind in KINDS] for one in times])


def _beside(laid: Laid, wire: FloatArray, lasts: FloatArray) -> FloatArray:
    """Seconds, by stage, of its last pass beside which gradients are sent: its own, and what is left of those before
    on the same rank.
    """
    found, left = np.zeros(len(wire)), np.zeros(laid.schedule.num_ranks)
    for stage in laid.stage[np.sort(laid.final)].tolist():
        rank = laid.rank_of_stage[stage]
        found[stage] = min(left[rank] + wire[stage], lasts[stage])
        left[rank] += wire[stage] - found[stage]
    return found
