# SPDX-License-Identifier: Apache-2.0
"""A strategy's time and memory without simulating it: thousands in seconds, for what they share is computed once.

Passes, transfers and gradients take what they take alone (``training.closed_form.stage_times`` with the prices of the
fabric), and the pipeline is walked. Contention can only add to that, so :attr:`Estimated.bound_s` is a lower bound of
what the simulator gives, where every pipeline position is placed no better than the first; gradients begin there with
the last backward pass of their stage. :attr:`Estimated.time_s` lets them begin when that pass's first layer is through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.planner.prices import Free, Prices, StagePrices
from commbench.planner.sharded import LayerPass, sharded
from commbench.planner.strategy import Strategy
from commbench.planner.walk import KINDS, Laid, Walked, lay, walk
from commbench.training.closed_form import Passes, StageParts, StageSeconds, stage_times
from commbench.workload.cost import activation_bytes
from commbench.workload.gradient_traffic import data_traffic, unreduced_gradient_bytes
from commbench.workload.groups import Degrees
from commbench.workload.operators import stage_operators
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.step_costs import StackCosts
from commbench.workload.step_passes import Layer, stage_layers
from commbench.workload.step_plan import StepPlan
from commbench.workload.traffic import Traffic, boundary_bytes
from commbench.workload.transformer import Execution

__all__ = ["SLACK", "Estimated", "Estimator"]

FloatArray = npt.NDArray[np.float64]
SLACK = 0.002
"""Taken off lower bounds, as a share: for positions that are placed better than the first, and for rounding. Of 500
random strategies (``benchmarks.planning``) the bare bound of 5 was above the simulated time, by 0.08 % at most."""
Place = tuple[bool, bool, int]
"""Of a stage: whether it is the first, whether it is the last, its layers."""

_NO_STACK = StackCosts(
    host_pass_s=0.0, host_call_s=0.0, host_step_s=0.0, memory_passes=1.0, accumulation_bytes=0.0, hidden_data=0.0,
    hidden_sharded=0.0, hidden_tensor=0.0, zero_rank_s=0.0, sharded_share=1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Timed:
    """A stage: seconds of its passes, of these at least, of its gradients each time they are sent, of what follows the
    last, of its gradients beside other communication, and of what ZeRO 3 sends for a microbatch at least.
    """

    times: Mapping[Pass, float]
    least: Mapping[Pass, float]
    data: float
    after: float
    busy: float
    sharded: float


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
        prices: of the fabric. margin_bytes: of a device's memory, that a step cannot have.
    """

    def __init__(self, base: StepPlan, prices: Prices, margin_bytes: int) -> None:
        self._base, self._prices, self._margin = base, prices, margin_bytes
        stack = _NO_STACK if base.stack is None else base.stack
        self._stack = replace(stack, hidden_data=0.0, hidden_sharded=0.0, hidden_tensor=0.0, sharded_share=1.0)
        self._runs: dict[tuple[object, ...], Execution] = {}
        self._layers: dict[tuple[Execution, bool, bool], tuple[Layer, ...]] = {}
        self._sends: dict[tuple[object, ...], tuple[tuple[Traffic, ...], int, int, int]] = {}
        self._kept: dict[tuple[Execution, Place], int] = {}
        self._workspace: dict[Execution, int] = {}
        self._passes: dict[int, Passes] = {}
        self._machines: dict[int, StagePrices] = {}
        self._layer_s: dict[Execution, tuple[float, float]] = {}

    def plan(self, strategy: Strategy) -> StepPlan:
        """The step, with a schedule of no more microbatches than tell how it goes on."""
        degrees = Degrees(tp=strategy.tp, cp=strategy.cp, ep=strategy.ep, dp=strategy.dp, pp=strategy.pp)
        laid = _laid(strategy)
        return replace(
            self._base, run=self._run(strategy), degrees=degrees, schedule=laid.schedule, layers=strategy.layers,
            zero=strategy.zero,
        )  # fmt: skip

    def _run(self, one: Strategy) -> Execution:
        key = (one.microbatch, one.tp, one.cp, one.ep, one.recompute, one.sequence_parallel)
        if key not in self._runs:
            self._runs[key] = replace(
                self._base.run, micro_batch=one.microbatch, tp=one.tp, cp=one.cp, ep=one.ep, recompute=one.recompute,
                sequence_parallel=one.sequence_parallel,
            )  # fmt: skip
        return self._runs[key]

    # -- memory

    def memory(self, strategy: Strategy) -> int:
        """Bytes of the fullest rank, margin included, nearly: each stage's activations where all stages' are most."""
        run, laid = self._run(strategy), _laid(strategy)
        places, of_stage = _places(strategy.layers)
        kept = np.array([self._kept_bytes(run, place) for place in places], dtype=np.int64)[of_stage]
        states = np.array([self._states(strategy, run, place) for place in places], dtype=np.int64)[of_stage]
        waiting = np.array([self._parts_of(strategy, run, place)[3] for place in places], dtype=np.int64)[of_stage]
        rank_of_stage = laid.rank_of_stage
        whole = np.bincount(rank_of_stage, weights=states, minlength=strategy.pp) + laid.held @ kept
        if strategy.zero >= 2 and strategy.dp * strategy.cp > 1:
            most = np.zeros(strategy.pp)
            np.maximum.at(most, rank_of_stage, waiting)
            whole = whole + most
        return int(whole.max()) + self._moment(strategy, run) + self._margin

    def _kept_bytes(self, run: Execution, place: Place) -> int:
        key = (run, place)
        if key not in self._kept:
            first, last, count = place
            self._kept[key] = activation_bytes(self._base.model, run, count, first=first, last=last)
        return self._kept[key]

    def _states(self, one: Strategy, run: Execution, place: Place) -> int:
        """Bytes of parameters, gradients and optimizer state of a stage."""
        precision, total = self._base.precision, 0
        _, dense, expert, _ = self._parts_of(one, run, place)
        for count, shards in ((dense, one.dp * one.cp), (expert, one.dp * one.cp // one.ep)):
            for size, stage in (
                (precision.parameter_bytes, 3), (precision.gradient_bytes, 2), (precision.optimizer_bytes, 1),
            ):  # fmt: skip
                total += size * (-(-count // shards) if one.zero >= stage else count)
        return total

    def _moment(self, one: Strategy, run: Execution) -> int:
        """What recomputation brings back for a moment, and under ZeRO 3 two layers' weights."""
        if run not in self._workspace:
            plain = replace(run, recompute="none")
            layer = (False, False, 1)
            self._workspace[run] = self._kept_bytes(plain, layer) - self._kept_bytes(run, layer)
        gathered = 0
        if one.zero == 3:
            _, dense, expert, _ = self._parts_of(one, run, (False, False, 1))
            gathered = 2 * self._base.precision.parameter_bytes * (dense + expert)
        return self._workspace[run] + gathered

    def _parts_of(self, one: Strategy, run: Execution, place: Place) -> tuple[tuple[Traffic, ...], int, int, int]:
        """A stage's data-parallel traffic, dense and expert weights, and bytes of gradients that wait under ZeRO 2."""
        zero = one.zero
        key = (run.tp, run.ep, min(zero, 1) if zero < 3 else 3, place)
        if key not in self._sends:
            base, (first, last, count) = self._base, place
            traffic = data_traffic(
                base.model, run, count, base.precision, first=first, last=last, bucket_bytes=base.bucket_bytes,
                zero=zero,
            )  # fmt: skip
            own = stage_operators(base.model, run, count, first=first, last=last)
            dense, expert = (sum(op.parameters for op in own if op.expert is which) for which in (False, True))
            self._sends[key] = (traffic, dense, expert, unreduced_gradient_bytes(traffic))
        return self._sends[key]

    # -- time

    def estimate(self, strategy: Strategy) -> Estimated:
        """Time, bound and memory."""
        times, laid = self._times(strategy)
        estimated, bound = self._ends(strategy, times, laid, self._sent_s(strategy))
        return Estimated(strategy, estimated, bound * (1 - SLACK), self.memory(strategy))

    def _times(self, one: Strategy, machine: StagePrices | Free | None = None) -> tuple[list[_Timed], Laid]:
        plan, width = self.plan(one), one.tp * one.cp * one.dp
        shapes = {}
        for place in _places(one.layers)[0]:
            traffic, dense, expert, _ = self._parts_of(one, plan.run, place)
            shapes[place] = StageParts(self._stage_layers(plan.run, *place[:2]), traffic, dense, expert)
        passes: Passes = {} if machine is not None else self._passes.setdefault(width, {})
        own = machine or self._machine(width)
        alike = plan if one.zero < 3 else replace(plan, zero=0)  # what ZeRO 3 adds is added below
        times = stage_times(alike, self._stack, own, shapes=shapes, passes=passes)
        places, of_stage = _places(one.layers)
        first = [times[of_stage.tolist().index(number)] for number in range(len(places))]
        made = [self._timed(one, plan, shapes[place], place, first[i], own, passes) for i, place in enumerate(places)]
        return [made[number] for number in of_stage.tolist()], _laid(one)

    def _timed(
        self, one: Strategy, plan: StepPlan, parts: StageParts, place: Place, alone: StageSeconds,
        machine: StagePrices | Free, passes: Passes,
    ) -> _Timed:  # fmt: skip
        """A stage, what ZeRO 2 and 3 send beside its passes among it."""
        times, after = alone.times, alone.after
        if one.zero < 2 or one.dp * one.cp == 1:
            return _Timed(times, times, alone.data, after, alone.data, 0.0)
        strides = {"dp-cp": (one.dp * one.cp, one.tp), "edp": (plan.degrees.edp, one.tp * one.ep)}
        shares = machine.leaves_host(one.tp, 1) == machine.leaves_host(*strides["dp-cp"])
        if one.zero == 3:
            price = {
                each: machine.collective_s(each.collective, each.size_bytes, *strides[each.group])
                for each in parts.traffic
                if each.kind == "zero"
            }
            return self._sharded(plan, parts, place, alone, passes, price, shares=shares)
        many = [place[2] if layer.number == 0 else 1 for layer in parts.layers]
        own = sum(
            count * passes[plan.run, layer.number, kind][2]
            for kind in times
            for layer, count in zip(parts.layers, many, strict=True)
        )
        cycle = sum(times[kind] for kind in _kinds(times))
        if not shares or not cycle or not own:
            return _Timed(times, times, alone.data, after, alone.data, 0.0)
        last = Pass.WEIGHT if Pass.WEIGHT in times and Pass.INPUT in times else Pass.BACKWARD
        slowed = min(alone.data, cycle) * own / cycle
        slower = {**times, last: times[last] + slowed}
        return _Timed(slower, times, alone.data, after, alone.data + slowed, 0.0)

    def _sharded(
        self, plan: StepPlan, parts: StageParts, place: Place, alone: StageSeconds, passes: Passes,
        price: Mapping[Traffic, float], *, shares: bool,
    ) -> _Timed:  # fmt: skip
        """A stage under ZeRO 3."""
        adding, times = plan.adding_s(parts.dense + parts.expert), dict[Pass, float]()
        gathered = reduced = before = 0.0
        for kind, time_s in alone.times.items():
            layers, host = [], 0.0
            for layer in parts.layers:
                many = place[2] if layer.number == 0 else 1
                device, launched, sent = passes[plan.run, layer.number, kind]
                layers.append(LayerPass(layer.number, many, device, sent if shares else 0.0))
                host += many * launched
            found = sharded(layers, kind, place[2], parts.traffic, price, adding_s=adding, before_s=before)
            times[kind] = max(found.time_s, host, time_s)
            gathered, reduced = gathered + found.gathered_s, reduced + found.reduced_s
            before = layers[-1].device if kind is Pass.FORWARD else before  # what follows a forward pass
        per = self._base.precision
        moved = per.gradient_bytes + 2 * per.optimizer_bytes + per.parameter_bytes
        shares_of = parts.dense / (plan.degrees.dp * plan.degrees.cp) + parts.expert / plan.degrees.edp
        bandwidth = self._base.device.memory_bytes_per_s * self._base.efficiency.memory
        return _Timed(times, alone.times, 0.0, moved * shares_of / bandwidth, 0.0, max(gathered, reduced))

    def _machine(self, width: int) -> StagePrices:
        if width not in self._machines:
            self._machines[width] = self._prices.stage(width)
        return self._machines[width]

    def _stage_layers(self, run: Execution, first: bool, last: bool) -> tuple[Layer, ...]:
        key = (run, first, last)
        if key not in self._layers:
            self._layers[key] = stage_layers(self._base.model, run, 1, first=first, last=last)
        return self._layers[key]

    def _sent_s(self, one: Strategy) -> float:
        if one.pp == 1:
            return 0.0
        width = one.tp * one.cp * one.dp
        return self._machine(width).transfer_s(boundary_bytes(self._base.model, self._run(one)), width)

    def _ends(self, one: Strategy, times: Sequence[_Timed], laid: Laid, sent_s: float) -> tuple[float, float]:
        """Seconds of the step, and their lower bound."""
        lasts, least = _table([time.times for time in times]), _table([time.least for time in times])
        columns = (np.array([getattr(time, name) for time in times]) for name in ("data", "after", "busy", "sharded"))
        data, after, busy, beside = columns
        layers = np.maximum(1, np.array(one.layers))
        found = []
        for passes, share, flow in ((lasts, 1 - 1 / layers, busy), (least, np.ones(len(layers)), 0 * data)):
            ahead = passes[:, 3 if laid.split else 1] * share  # of the end, when gradients begin to be sent
            walked = _walked(one, laid, (passes, sent_s, flow if one.zero == 2 else 0 * flow, ahead))
            order = np.lexsort((walked.finals, laid.rank_of_stage)).reshape(one.pp, -1)
            whole_step = beside if one.zero == 3 else data
            sent = np.maximum(walked.sent, one.microbatches * whole_step[order].sum(axis=1))
            if one.zero < 2:
                sent = np.zeros(one.pp)
                for stage in order.T:
                    sent = np.maximum(sent, walked.finals[stage] - ahead[stage]) + data[stage]
            whole = np.maximum(walked.ends, sent) + after[order].sum(axis=1)
            found.append(float(whole.max()) + self._host_s(one))
        return found[0], found[1]

    def _host_s(self, one: Strategy) -> float:
        ranks = one.dp * one.cp if one.zero in (1, 2) else 0
        return self._stack.host_step_s + self._stack.zero_rank_s * ranks * one.stages_per_rank

    def layer_s(self, one: Strategy) -> tuple[float, float]:
        """Seconds of a layer's forward and whole backward pass, its collectives among them, on the strategy's ranks."""
        run = self._run(one)
        if run not in self._layer_s:
            alone = replace(
                one, dp=max(1, one.ep // one.cp), pp=1, layers=(1, 1, 1), schedule="interleaved-1f1b",
                stages_per_rank=3, microbatches=1, zero=0,
            )  # fmt: skip
            times = self._times(alone)[0][1].times
            self._layer_s[run] = times[Pass.FORWARD], times[Pass.BACKWARD]
        return self._layer_s[run]

    # -- why

    def terms(self, strategy: Strategy) -> dict[str, float]:
        """What the estimate consists of, on the rank whose passes take longest: they add up to it."""
        times, laid = self._times(strategy)
        bare, _ = self._times(strategy, Free())
        whole, _ = self._ends(strategy, times, laid, self._sent_s(strategy))
        kinds = _kinds(times[0].times)
        ranks = [np.flatnonzero(laid.rank_of_stage == rank).tolist() for rank in range(strategy.pp)]

        def passes(of: Sequence[_Timed], own: Sequence[int]) -> float:
            return strategy.microbatches * sum(of[stage].times[kind] for stage in own for kind in kinds)

        busiest = max(ranks, key=lambda own: passes(times, own))
        compute, busy = passes(bare, busiest), passes(times, busiest)
        quick = self._without_host(strategy)
        after = sum(times[stage].after for stage in busiest)
        optimizer = sum(bare[stage].after for stage in busiest) + self._host_s(strategy)
        lasts, none = _table([time.times for time in times]), np.zeros(len(times))
        end = float(_walked(strategy, laid, (lasts, self._sent_s(strategy), none, none)).ends.max())
        device = min(compute, passes(quick, busiest))
        rest = max(0.0, whole - end - after - self._host_s(strategy))
        return {
            "compute": device,
            "host": compute - device,
            "exposed communication": busy - compute + rest + after + self._host_s(strategy) - optimizer,
            "bubble": whole - busy - rest - after - self._host_s(strategy),
            "optimizer": optimizer,
        }

    def _without_host(self, one: Strategy) -> list[_Timed]:
        stack, self._stack = self._stack, replace(self._stack, host_pass_s=0.0, host_call_s=0.0)
        try:
            return self._times(one, Free())[0]
        finally:
            self._stack = stack


def _table(times: Sequence[Mapping[Pass, float]]) -> FloatArray:
    """Seconds by stage (row) and pass (column)."""
    rows: dict[int, list[float]] = {}
    return np.array([rows.setdefault(id(one), [one.get(kind, 0.0) for kind in KINDS]) for one in times])


def _kinds(times: Mapping[Pass, float]) -> tuple[Pass, ...]:
    """The passes that a microbatch makes through a stage."""
    return (Pass.FORWARD, Pass.INPUT, Pass.WEIGHT) if Pass.WEIGHT in times else (Pass.FORWARD, Pass.BACKWARD)


def _places(layers: tuple[int, ...]) -> tuple[list[Place], npt.NDArray[np.int64]]:
    """The distinct stages, and which of them each stage is."""
    last = len(layers) - 1
    each = [(number == 0, number == last, count) for number, count in enumerate(layers)]
    places = list(dict.fromkeys(each))
    return places, np.array([places.index(place) for place in each], dtype=np.int64)


def _laid(one: Strategy, fewer: int = 0) -> Laid:
    """The schedule of some rounds of microbatches, by which it repeats itself: of all, where these are fewer."""
    most = (3 + (one.schedule in _LATE) - fewer) * one.pp
    return lay(one.schedule, one.pp, min(one.microbatches, most), one.stages_per_rank)


_LATE = ("zbv", "dualpipev")  # whose steady state begins when the second half of their stages has begun


def _walked(one: Strategy, laid: Laid, given: tuple[FloatArray, float, FloatArray, FloatArray]) -> Walked:
    """The walk with what is given to it, its steady state as long as the microbatches want it."""
    walked = walk(laid, *given)
    beyond = one.microbatches - laid.schedule.num_microbatches
    if not beyond:
        return walked
    shorter = _laid(one, 1)
    before, rounds = walk(shorter, *given), beyond / one.pp
    longer = (float((getattr(walked, name) - getattr(before, name)).max()) for name in ("ends", "sent"))
    return walked.later(*(rounds * each for each in longer))
