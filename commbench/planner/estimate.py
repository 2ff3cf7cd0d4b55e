# SPDX-License-Identifier: Apache-2.0
"""A strategy's time and memory without simulating it: thousands in seconds, for what they share is computed once.

Passes, transfers and gradients take what they take alone (``training.closed_form.stage_times`` with the prices of the
fabric), and the pipeline is walked. Contention can only add to that, so :attr:`Estimated.bound_s` is a lower bound of
what the simulator gives, where every pipeline position is placed no better than the first; gradients begin there with
the last backward pass of their stage. :attr:`Estimated.time_s` lets them begin when that pass's first layer is through.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from commbench.planner.layers import Layers, LayerSeconds
from commbench.planner.prices import Free, Prices, StagePrices
from commbench.planner.strategy import Strategy
from commbench.planner.walk import KINDS, Given, Laid, Walked, lay, walk
from commbench.training.closed_form import Passes, StageParts, StageSeconds, sent_s, stage_times
from commbench.workload.gradient_traffic import compressed, data_traffic
from commbench.workload.groups import Degrees
from commbench.workload.operators import stage_operators
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.step_costs import StackCosts
from commbench.workload.step_passes import distinct_layers
from commbench.workload.step_plan import StepPlan
from commbench.workload.transformer import Execution

__all__ = ["SLACK", "Estimated", "Estimator"]

FloatArray = npt.NDArray[np.float64]
SLACK = 0.002
"""Taken off lower bounds, as a share: for positions that are placed better than the first, and for rounding. Of 500
random strategies (``benchmarks.planning``) the bare bound of 5 was above the simulated time, by 0.08 % at most."""
Place = tuple[bool, bool, tuple[int, ...]]
"""Of a stage: whether it is the first, whether it is the last, its layers' kinds."""

_NO_STACK = StackCosts(
    host_pass_s=0.0, host_call_s=0.0, host_step_s=0.0, memory_passes=1.0, accumulation_bytes=0.0, hidden_data=0.0,
    hidden_sharded=0.0, hidden_tensor=0.0, zero_rank_s=0.0, sharded_share=1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimated:
    """A strategy, its time, a lower bound of its simulated time, and the memory of its fullest rank with the margin."""

    strategy: Strategy
    time_s: float
    bound_s: float
    memory_bytes: int


class Estimator:
    """Estimates strategies of one model on one cluster.

    Args:
        base: a plan of the model; a strategy changes degrees, execution, schedule and ZeRO stage of it.
        prices: of the fabric. sharded: the same under ZeRO 3. margin_bytes: of a device's memory, that a step cannot
            have beside what its plan says.
    """

    def __init__(self, base: StepPlan, prices: Prices, sharded: Prices, margin_bytes: int) -> None:
        self._base, self._margin = base, margin_bytes
        self._stack = _NO_STACK if base.stack is None else base.stack
        self._runs: dict[tuple[object, ...], Execution] = {}
        self._sends: dict[tuple[object, ...], StageParts] = {}
        self._needs: dict[Strategy, int] = {}
        self._latest: tuple[Strategy, StepPlan] | None = None
        self._layers = Layers(base)
        self._price(prices, sharded)

    def priced(self, prices: Prices, sharded: Prices) -> "Estimator":
        """The same on another fabric: what does not depend on one is known to both."""
        other = copy(self)
        other._price(prices, sharded)
        return other

    def _price(self, prices: Prices, sharded: Prices) -> None:
        self._prices = (prices, sharded)
        self._machines: dict[tuple[int, bool], StagePrices] = {}
        self._passes: dict[tuple[int, bool, bool], Passes] = {}
        self._layer_s: dict[Execution, tuple[LayerSeconds, ...]] = {}

    def plan(self, strategy: Strategy) -> StepPlan:
        """The step, with a schedule of no more microbatches than tell how it goes on."""
        if self._latest is None or self._latest[0] is not strategy:
            self._latest = strategy, self._plan(strategy)
        return self._latest[1]

    def _plan(self, strategy: Strategy) -> StepPlan:
        degrees = Degrees(tp=strategy.tp, cp=strategy.cp, ep=strategy.ep, dp=strategy.dp, pp=strategy.pp)
        laid = _laid(strategy)
        return replace(
            self._base, run=self._run(strategy), degrees=degrees, schedule=laid.schedule, layers=strategy.layers,
            zero=strategy.zero, overlap_gradients=self._base.overlap_gradients or strategy.zero > 1,
        )  # fmt: skip

    def _run(self, one: Strategy) -> Execution:
        key = (one.microbatch, one.tp, one.cp, one.ep, one.recompute, one.sequence_parallel)
        if key not in self._runs:
            self._runs[key] = replace(
                self._base.run, micro_batch=one.microbatch, tp=one.tp, cp=one.cp, ep=one.ep, recompute=one.recompute,
                sequence_parallel=one.sequence_parallel,
            )  # fmt: skip
        return self._runs[key]

    def memory(self, strategy: Strategy) -> int:
        """Bytes of the fullest rank, margin included."""
        if strategy not in self._needs:
            self._needs[strategy] = max(use.total for use in self.plan(strategy).memory()) + self._margin
        return self._needs[strategy]

    def _parts(self, run: Execution, zero: int, place: Place) -> StageParts:
        """A stage's layers, data-parallel traffic and weights."""
        key = (run, min(zero, 1) if zero < 3 else 3, place)
        if key not in self._sends:
            base, (first, last, kinds) = self._base, place
            traffic = data_traffic(
                base.model, run, kinds, base.precision, first=first, last=last, bucket_bytes=base.bucket_bytes,
                zero=zero,
            )  # fmt: skip
            traffic = compressed(traffic, base.gradient_ratio)
            own = stage_operators(base.model, run, kinds, first=first, last=last)
            dense, expert = (sum(op.parameters for op in own if op.expert is which) for which in (False, True))
            layers = distinct_layers(base.model, run, kinds, first=first, last=last)
            self._sends[key] = StageParts(layers, traffic, dense, expert)
        return self._sends[key]

    def _machine(self, width: int, sharded: bool) -> StagePrices:
        key = (width, sharded)
        if key not in self._machines:
            self._machines[key] = StagePrices(self._prices[sharded], width)
        return self._machines[key]

    def estimate(self, strategy: Strategy) -> Estimated:
        """Time, bound and memory."""
        times = self._times(strategy)
        slowed = strategy.zero == 3 or bool(self._base.beside)
        least = self._times(strategy, stack=self._plain) if slowed else times
        time_s, bound_s = self._end_s(strategy, times), self._end_s(strategy, least, bound=True)
        return Estimated(strategy, time_s, bound_s * (1 - SLACK), self.memory(strategy))

    def _times(
        self, one: Strategy, *, free: bool = False, stack: StackCosts | None = None
    ) -> list[StageSeconds]:
        """What every stage takes; ``free``: where communication takes no time. ``stack``: other than the plan's."""
        plan, width, sharded = self.plan(one), one.tp * one.cp * one.dp, one.zero == 3
        shapes = {place: self._parts(plan.run, one.zero, place) for place in _places(plan.kinds)}
        kept = not free and stack in (None, self._plain)
        passes = self._passes.setdefault((width, sharded, stack is None), {}) if kept else {}
        machine = Free() if free else self._machine(width, sharded)
        return stage_times(plan, stack or self._stack, machine, shapes=shapes, passes=passes)

    @property
    def _plain(self) -> StackCosts:
        """The stack, were nothing slowed by what runs beside it."""
        return replace(self._stack, hidden_data=0.0, hidden_sharded=0.0, hidden_tensor=0.0)

    def _given(self, one: Strategy, times: Sequence[StageSeconds], *, bound: bool = False) -> Given:
        """What a walk needs; ``bound``: by rules that can only make it shorter."""
        laid = _laid(one)
        lasts, slack, idle = (_table(times, name) for name in ("times", "slack", "idle"))
        final, h = laid.kind[laid.final], 0.0 if bound else self._stack.hidden_data
        stages = np.arange(len(times))
        wire, each = (np.array([getattr(time.data, name) for time in times]) for name in ("wire_s", "total_s"))
        fetch, reduce, slower = _table(times, "first"), _table(times, "last"), np.zeros(len(times))
        lasts[:, _FORWARD] -= fetch[:, _FORWARD]
        lasts -= reduce
        last, spare = lasts[stages, final], slack[stages, final]
        share = h * (1 - idle[stages, final] / np.maximum(last, 1e-12))
        if one.zero < 2 and self._base.overlap_gradients and not self._base.stale_gradients:
            slower = np.maximum(0, share * _beside(laid, wire, last) - spare)
        ahead = lasts[stages, final] * (1.0 if bound else 1 - 1 / np.maximum(1, np.array(one.layers)))
        flow = each if one.zero == 2 and not bound else 0 * each
        both = h * wire / np.maximum(each, 1e-12)
        return Given(lasts, self._sent(one, laid), fetch, reduce, slower, flow, ahead, both, idle, slack)

    def _sent(self, one: Strategy, laid: Laid) -> FloatArray:
        """Seconds of every stage's output to its neighbours."""
        plan, machine = self.plan(one), self._machine(one.tp * one.cp * one.dp, one.zero == 3)
        sent = np.zeros((len(laid.rank_of_stage), 2))
        for stage, (here, there) in enumerate(pairwise(laid.rank_of_stage.tolist())):
            if here != there:
                sent[stage, 0] = sent[stage + 1, 1] = sent_s(plan, machine, here, there)
        return sent

    def _end_s(self, one: Strategy, times: Sequence[StageSeconds], *, bound: bool = False) -> float:
        """Seconds of the step."""
        laid, given = _laid(one), self._given(one, times, bound=bound)
        data, ends, after = np.array([(time.data.total_s, time.ends.total_s, time.after) for time in times]).T
        walked = self._walked(one, given)
        order = np.lexsort((walked.finals, laid.rank_of_stage)).reshape(one.pp, -1)
        sent = walked.sent
        if one.zero == 2:
            sent = np.maximum(sent, one.microbatches * data[order].sum(axis=1))
        elif one.zero < 2 and self._base.stale_gradients:
            wire = np.array([time.data.wire_s for time in times])[order].sum(axis=1)
            slowed = 0.0 if bound else self._stack.hidden_data * np.minimum(wire, walked.ends) + ends[order].sum(axis=1)
            sent = np.maximum(data[order].sum(axis=1), walked.ends + slowed)
        elif one.zero < 2 and not self._base.overlap_gradients:  # when they begin depends on the schedule
            sent = walked.ends + (0.0 if bound else (data + ends)[order].sum(axis=1))
        elif one.zero < 2:
            sent = np.zeros(one.pp)
            begins, sending = walked.finals - given.ahead - given.slower, data + ends + given.slower
            for stage in order.T:
                sent = np.maximum(sent, begins[stage]) + sending[stage]
        whole = np.maximum(walked.ends, sent) + (0.0 if bound or one.zero < 2 else ends[order].sum(axis=1))
        return float((whole + after[order].sum(axis=1)).max()) + self._host_s(one)

    def _walked(self, one: Strategy, given: Given) -> Walked:
        """The walk with what is given to it, its steady state as long as the microbatches want it."""
        laid = _laid(one)
        blocks = self.plan(one).sender_waits
        walked = walk(laid, given, blocks=blocks)
        beyond = one.microbatches - laid.schedule.num_microbatches
        if not beyond:
            return walked
        before, rounds = walk(_laid(one, 1), given, blocks=blocks), beyond / one.pp
        longer = (float((getattr(walked, name) - getattr(before, name)).max()) for name in ("ends", "sent", "slowed"))
        return walked.later(*(rounds * each for each in longer))

    def _busy(self, one: Strategy, lasts: FloatArray) -> FloatArray:
        """Seconds of every rank's passes."""
        several = [np.bincount(
            laid.rank_of_stage[laid.stage], weights=lasts[laid.stage, laid.kind], minlength=one.pp
        ) for laid in (_laid(one), _laid(one, 1))]  # fmt: skip
        beyond = one.microbatches - _laid(one).schedule.num_microbatches
        return np.asarray(several[0] + (beyond / one.pp * (several[0] - several[1]) if beyond else 0.0))

    def _host_s(self, one: Strategy) -> float:
        ranks = one.dp * one.cp if one.zero in (1, 2) else 0
        return self._stack.host_step_s + self._stack.zero_rank_s * ranks * one.stages_per_rank

    def layer_s(self, one: Strategy) -> tuple[LayerSeconds, ...]:
        """Of every kind of layer, on no more ranks than hold it, its collectives among it."""
        run = self._run(one)
        if run not in self._layer_s:
            alone = replace(
                one, dp=max(1, one.ep // one.cp), pp=1, layers=(self._base.model.num_layers,), schedule="1f1b",
                stages_per_rank=1, microbatches=1, zero=0,
            )  # fmt: skip
            machine = self._machine(alone.tp * alone.cp * alone.dp, sharded=False)
            self._layer_s[run] = self._layers.seconds(self._plan(alone), machine)
        return self._layer_s[run]

    def terms(self, strategy: Strategy) -> dict[str, float]:
        """What the estimate consists of, on the rank whose passes take longest: they add up to it."""
        times, laid = self._times(strategy), _laid(strategy)
        bare = self._times(strategy, free=True)
        quick = self._times(strategy, free=True, stack=replace(self._stack, host_pass_s=0.0, host_call_s=0.0))
        whole, given = self._end_s(strategy, times), self._given(strategy, times)
        busy_of, bare_of, quick_of = (
            self._busy(strategy, lasts) for lasts in (given.lasts, _table(bare, "times"), _table(quick, "times"))
        )
        rank = int(busy_of.argmax())
        busiest = np.flatnonzero(laid.rank_of_stage == rank)
        busy, compute = float(busy_of[rank]), float(bare_of[rank])
        device = min(compute, float(quick_of[rank]))
        if self.plan(strategy).sender_waits:  # until what it sends is there
            busy += strategy.microbatches * float(given.sent[busiest].sum())
        after, host = sum(times[stage].after for stage in busiest), self._host_s(strategy)
        optimizer = sum(bare[stage].after for stage in busiest) + host
        none = np.zeros(len(times))
        busy += float(self._walked(strategy, given).slowed[rank])
        end = float(self._walked(strategy, replace(given, slower=none)).ends.max())
        rest = max(0.0, whole - end - after - host)
        return {
            "compute": device,
            "host": compute - device,
            "exposed communication": busy - compute + rest + after + host - optimizer,
            "bubble": whole - busy - rest - after - host,
            "optimizer": optimizer,
        }


def _table(times: Sequence[StageSeconds], name: str) -> FloatArray:
    """Seconds by stage (row) and pass (column)."""
    return np.array([[getattr(one, name).get(kind, 0.0) for kind in KINDS] for one in times])


_FORWARD = KINDS.index(Pass.FORWARD)


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


def _places(stages: Sequence[tuple[int, ...]]) -> list[Place]:
    """The distinct stages."""
    last = len(stages) - 1
    return list(dict.fromkeys((number == 0, number == last, kinds) for number, kinds in enumerate(stages)))


def _laid(one: Strategy, fewer: int = 0) -> Laid:
    """The schedule of some rounds of microbatches, by which it repeats itself: of all, where these are fewer, or where
    ranks keep all of them.
    """
    if one.schedule in _KEEPING:
        return lay(one.schedule, one.pp, one.microbatches, one.stages_per_rank)
    most = (3 + (one.schedule in _LATE) - fewer) * one.pp
    return lay(one.schedule, one.pp, min(one.microbatches, most), one.stages_per_rank)


_LATE = ("zbv", "dualpipev")  # whose steady state begins when the second half of their stages has begun
_KEEPING = ("gpipe", "looped-bfs")  # what a rank keeps for backward grows with the microbatches
