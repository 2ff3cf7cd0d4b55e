# SPDX-License-Identifier: Apache-2.0
"""A strategy's time and memory without simulating it: thousands in seconds, for what they share is computed once.

Both are ``training.closed_form`` with the prices of the fabric. With what everything takes alone it gives a lower bound
of what the simulator does (:attr:`Estimated.bound_s`), where every pipeline position is placed no better than the
first: contention can only add to that, and gradients begin there with the last backward pass of their stage.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from commbench.planner.layers import Layers, LayerSeconds
from commbench.planner.prices import Free, Prices, StagePrices
from commbench.planner.strategy import Strategy
from commbench.training.closed_form import StepForm, laid_of, table
from commbench.training.stage_seconds import Passes, StageParts, StageSeconds, stage_times
from commbench.workload.gradient_traffic import compressed, data_traffic
from commbench.workload.groups import Degrees
from commbench.workload.operators import stage_operators
from commbench.workload.step_costs import StackCosts
from commbench.workload.step_passes import distinct_layers
from commbench.workload.step_plan import StepPlan
from commbench.workload.transformer import Execution

__all__ = ["SLACK", "Estimated", "Estimator"]

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
        laid = laid_of(strategy.schedule, strategy.pp, strategy.microbatches, strategy.stages_per_rank)
        return replace(
            self._base, run=self._run(strategy), degrees=degrees, schedule=laid.schedule, layers=strategy.layers,
            zero=strategy.zero, overlap_gradients=self._base.overlap_gradients or strategy.zero > 1,
        )  # fmt: skip

    def _run(self, one: Strategy) -> Execution:
        key = _executed(one)
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
        times, form = self._times(strategy), self._form(strategy)
        slowed = strategy.zero == 3 or bool(self._base.beside)
        least = self._times(strategy, alone=True) if slowed else times
        time_s, bound_s = form.end_s(times), form.end_s(least, bound=True)
        return Estimated(strategy, time_s, bound_s * (1 - SLACK), self.memory(strategy))

    def _form(self, one: Strategy) -> StepForm:
        machine = self._machine(one.tp * one.cp * one.dp, one.zero == 3)
        return StepForm(self.plan(one), self._stack, machine, one.microbatches)

    def _times(
        self, one: Strategy, *, free: bool = False, stack: StackCosts | None = None, alone: bool = False
    ) -> list[StageSeconds]:
        """What every stage takes; ``free``: where communication takes no time. ``stack``: other than the plan's.
        ``alone``: were nothing slowed by what runs beside it.
        """
        plan, width, sharded = self.plan(one), one.tp * one.cp * one.dp, one.zero == 3
        shapes = {place: self._parts(plan.run, one.zero, place) for place in _places(plan.kinds)}
        kept = not free and stack is None
        passes = self._passes.setdefault((width, sharded, alone), {}) if kept else {}
        machine = Free() if free else self._machine(width, sharded)
        return stage_times(plan, stack or self._stack, machine, shapes=shapes, passes=passes, alone=alone)

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
        times, form = self._times(strategy), self._form(strategy)
        bare = self._times(strategy, free=True)
        quick = self._times(strategy, free=True, stack=replace(self._stack, host_pass_s=0.0, host_call_s=0.0))
        whole, given, laid = form.end_s(times), form.given(times), form.laid
        busy_of, bare_of, quick_of = (
            form.busy(lasts) for lasts in (given.lasts, table(bare, "times"), table(quick, "times"))
        )
        rank = int(busy_of.argmax())
        busiest = np.flatnonzero(laid.rank_of_stage == rank)
        busy, compute = float(busy_of[rank]), float(bare_of[rank])
        device = min(compute, float(quick_of[rank]))
        if form.blocks:  # until what it sends is there
            busy += strategy.microbatches * float(given.sent[busiest].sum())
        after, host = sum(times[stage].after for stage in busiest), form.host_s
        optimizer = sum(bare[stage].after for stage in busiest) + host
        none = np.zeros(len(times))
        busy += float(form.walked(given).slowed[rank])
        end = float(form.walked(replace(given, slower=none)).ends.max())
        rest = max(0.0, whole - end - after - host)
        return {
            "compute": device,
            "host": compute - device,
            "exposed communication": busy - compute + rest + after + host - optimizer,
            "bubble": whole - busy - rest - after - host,
            "optimizer": optimizer,
        }


def _executed(one: Strategy) -> tuple[object, ...]:
    """What of a strategy is of its execution."""
    return one.microbatch, one.tp, one.cp, one.ep, one.recompute, one.sequence_parallel


def _places(stages: Sequence[tuple[int, ...]]) -> list[Place]:
    """The distinct stages."""
    last = len(stages) - 1
    return list(dict.fromkeys((number == 0, number == last, kinds) for number, kinds in enumerate(stages)))
