# SPDX-License-Identifier: Apache-2.0
"""The time of a step from the times of its passes, in milliseconds of computing: no events, no contention.

A filter and a yardstick, never the simulator's answer: what collectives cost comes from the constants of their links
(``workload.step_costs``), pipelines are 1F1B's formula or a walk through the schedule with the stages' own times, and
gradients are sent when the last pass is over, the part of them that is hidden beside it taken off; of ranks that hold
several stages all passes from the first that ends one's gradients on are beside them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from commbench.training.link_time import NO_TIME, LinkTime
from commbench.training.pipeline_walk import PipelineTimes, pipeline_times
from commbench.training.step_hosts import StepPrices
from commbench.units import PS_PER_S
from commbench.workload.compute import work_seconds
from commbench.workload.operator import Work as Cost
from commbench.workload.operators import stage_operators
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.step_costs import StackCosts
from commbench.workload.step_passes import Call, Join, Layer, Work, distinct_layers, pass_items
from commbench.workload.step_plan import StepPlan
from commbench.workload.traffic import Traffic, boundary_bytes

__all__ = [
    "Estimate",
    "Passes",
    "Shapes",
    "StageParts",
    "StageSeconds",
    "closed_form",
    "sent_s",
    "stage_times",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds of a step, and what they consist of."""

    iteration_s: float
    terms: dict[str, float]


@dataclass(frozen=True, slots=True)
class StageParts:
    """What a stage consists of: its layers (step_passes.distinct_layers), what it sends, its weights."""

    layers: tuple[tuple[Layer, tuple[int, ...]], ...]
    traffic: tuple[Traffic, ...]
    dense: int
    expert: int


def shape_of(plan: StepPlan, number: int) -> StageParts:
    """The shape of a stage; nothing of it depends on any constant."""
    first, last, kinds = number == 0, number == len(plan.layers) - 1, plan.kinds[number]
    operators = stage_operators(plan.model, plan.run, kinds, first=first, last=last)
    dense, expert = (sum(op.parameters for op in operators if op.expert is which) for which in (False, True))
    layers = distinct_layers(plan.model, plan.run, kinds, first=first, last=last)
    return StageParts(layers, plan.traffic(number), dense, expert)


Shapes = dict[tuple[bool, bool, tuple[int, ...]], StageParts]
"""Shapes that were made, by whether a stage is the first, whether it is the last, and its layers' kinds."""

Passes = dict[tuple[object, ...], tuple[float, float, float]]
"""Seconds on the device and of the host of a layer's pass, and of the device's in which ranks wait for each other
before bytes move, by execution, number and kind."""


def closed_form(
    plan: StepPlan, stack: StackCosts, machine: StepPrices, *, shapes: Shapes | None = None
) -> Estimate:
    """The time of a step.

    Args:
        plan: what is trained. stack: what the software adds. machine: where.
        shapes: of this plan's stages; what is missing is added. For who asks again with other constants.
    """
    form = _Form(plan, stack, machine, {} if shapes is None else shapes)
    stages = [form.stage(number) for number in range(len(plan.layers))]
    walked = form.pipeline(stages)
    passes = walked.seconds
    sendings = plan.schedule.num_microbatches if plan.zero == 2 else 1
    stages = [replace(one, data=one.data.times(sendings) + one.ends) for one in stages]
    ranks = [[stages[stage] for stage in plan.schedule.stages_of(rank)] for rank in range(plan.degrees.pp)]
    last = max(ranks, key=lambda own: sum(one.data.total_s + one.after for one in own))
    data, beside = sum([one.data for one in last], NO_TIME), sum(one.times[Pass.BACKWARD] for one in last)
    if plan.zero == 2:  # of each microbatch beside its own
        beside *= plan.schedule.num_microbatches
    exposed = data.total_s
    if plan.stale_gradients:  # beside all passes
        exposed = data.beside(passes, stack.hidden_data) - passes
    elif plan.overlap_gradients and walked.closing and plan.zero < 2 and len(stages) > plan.degrees.pp:
        beside = max(beside, walked.closing[ranks.index(last)])
        exposed = max(0.0, data.total_s - beside)
        exposed += sum(one.data.delays(one.times[Pass.BACKWARD], stack.hidden_data) for one in stages)
    elif plan.overlap_gradients:  # the last passes of other ranks end later, too, and each waits for the one behind it
        others = [one for own in ranks if own is not last for one in own]
        exposed = data.beside(beside, stack.hidden_data) - beside
        exposed += sum(one.data.delays(one.times[Pass.BACKWARD], stack.hidden_data) for one in others)
    if plan.overlap_parameters:
        opening = walked.opening[ranks.index(last)] if walked.opening else last[0].times[Pass.FORWARD]
        gathered = sum([one.gathered for one in last], NO_TIME)
        exposed += gathered.beside(opening, stack.hidden_data) - opening + last[0].ahead
    terms = {
        "passes": passes,
        "data": exposed,
        "optimizer": sum(one.after for one in last),
        "host": stack.host_step_s + (stack.zero_rank_s * plan.zero_ranks if plan.zero in (1, 2) else 0.0),
    }
    return Estimate(iteration_s=sum(terms.values()), terms=terms)


def stage_times(
    plan: StepPlan, stack: StackCosts, machine: StepPrices, *, shapes: Shapes, passes: Passes
) -> list["StageSeconds"]:
    """What every stage of a plan takes, each beside nothing else.

    Args:
        plan, stack, machine, shapes: as :func:`closed_form` has them.
        passes: of layers that were timed before, of plans that differ in nothing that is not part of their keys.
    """
    form = _Form(plan, stack, machine, shapes, passes)
    return [form.stage(number) for number in range(len(plan.layers))]


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds of a stage.

    Attributes:
        times: of its passes. slack: of these, in which the device waits for the host. idle: in which ranks wait for
            each other before bytes of a collective move, and what runs beside is not slowed.
        first, last: under ZeRO 3, of a pass' first gather, beside which nothing computes if the pass before sent
            gradients, and of its last reduction; part of ``times``, but for the gather of passes with gradients.
        data: of its gradients, each time they are sent. ends: of a tied embedding's, between first and last.
        after: of the optimizer and of the parameters that are gathered behind it. gathered: of those that are gathered
            beside the first forward pass instead. ahead: of the first of these, beside nothing.
    """

    times: dict[Pass, float]
    slack: dict[Pass, float]
    idle: dict[Pass, float]
    first: dict[Pass, float]
    last: dict[Pass, float]
    data: LinkTime
    ends: LinkTime
    after: float
    gathered: LinkTime
    ahead: float


class _Form:
    def __init__(
        self, plan: StepPlan, stack: StackCosts, machine: StepPrices, shapes: Shapes, passes: Passes | None = None
    ) -> None:
        self._shapes, self._timed = shapes, {} if passes is None else passes
        plan = plan if plan.stack == stack else replace(plan, stack=stack)
        self.plan, self.stack, self.machine = plan, stack, machine
        self._known: dict[tuple[Cost, bool], int] = {}
        self._kinds = plan.kinds
        self._passes = tuple(Pass) if plan.schedule.splits else (Pass.FORWARD, Pass.BACKWARD)
        self._stages: dict[tuple[bool, bool, tuple[int, ...]], StageSeconds] = {}

    def _collective(self, one: Traffic) -> LinkTime:
        ranks, stride = self.plan.degrees.span(one.group)
        share = self.stack.sharded_share if one.kind == "zero" and self.plan.zero == 3 else 1.0
        return self.machine.of_group(one.collective, one.size_bytes, ranks, stride, share)

    def _collectives(self, traffic: Iterable[Traffic]) -> LinkTime:
        """Of several, one after the other."""
        return sum(map(self._collective, traffic), NO_TIME)

    def _lasts(self, work: Cost, core: bool) -> int:
        key = (work, core)
        if key not in self._known:
            plan = self.plan
            dtype = plan.run.formats.products if work.layer_product else plan.run.formats.others
            self._known[key] = round(work_seconds(work, plan.device, dtype, plan.efficiency, core=core) * PS_PER_S)
        return self._known[key]

    def _pass(self, layer: Layer, kind: Pass) -> tuple[float, float, float]:
        """Of one layer's pass, see :data:`Passes`."""
        key = (self.plan.run, layer.number, kind)
        if key not in self._timed:
            self._timed[key] = self._timed_pass(layer, kind)
        return self._timed[key]

    def _timed_pass(self, layer: Layer, kind: Pass) -> tuple[float, float, float]:
        device = begun = idle = 0.0
        calls, beside = 0, NO_TIME
        for item in pass_items([layer], self.plan.run, kind, self._lasts, beside=self.plan.beside):
            if isinstance(item, Work):
                device += item.duration_ps / PS_PER_S
            elif isinstance(item, Call):
                calls += 1
                lasts = self._collective(item.traffic)
                if item.beside:
                    begun, beside = (begun if beside.total_s else device), beside + lasts
                else:
                    device, idle = device + lasts.total_s, idle + lasts.latency_s
            elif isinstance(item, Join):
                device = begun + beside.beside(device - begun, self.stack.hidden_tensor)
                beside = NO_TIME
        host = self.plan.host_s(1, calls, kind)
        return device + (host if self.plan.launch_blocking else 0.0), host, idle

    def stage(self, number: int) -> StageSeconds:
        """Times of a stage."""
        plan = self.plan
        key = (number == 0, number == len(plan.layers) - 1, self._kinds[number])
        if key not in self._stages:
            if key not in self._shapes:
                self._shapes[key] = shape_of(plan, number)
            self._stages[key] = self._stage(self._shapes[key], self._kinds[number])
        return self._stages[key]

    def _stage(self, shape: StageParts, kinds: Sequence[int]) -> StageSeconds:
        plan, traffic = self.plan, shape.traffic
        dense, expert = shape.dense, shape.expert
        adding, moves = plan.adding_s(dense + expert), dict(enumerate(plan.moves_s(kinds), 1))  # each beside the next
        times, slack, idle, first, final = (dict[Pass, float]() for _ in range(5))
        for kind in self._passes:
            device = host = idle[kind] = 0.0
            each: list[tuple[int, float, float]] = []
            for layer, numbers in shape.layers:
                own_device, own_host, own_idle = self._pass(layer, kind)
                alike = [(number, max(own_device, moves.get(number, 0.0)), own_idle) for number in numbers]
                each += alike
                device += sum(time_s for _, time_s, _ in alike)
                idle[kind] += len(numbers) * own_idle
                host += len(numbers) * own_host
            if plan.zero == 3:
                order = sorted(each, reverse=kind is not Pass.FORWARD)
                device, first[kind], final[kind] = self._sharded(kind, order, traffic)
            if kind in (Pass.BACKWARD, Pass.WEIGHT):  # beside the last reduction, if there is one
                beside = min(adding, final.get(kind, 0.0))
                device += adding - beside
                final[kind] = final.get(kind, 0.0) - beside
            times[kind], slack[kind] = max(device, host), max(0.0, host - device)
        tied = [one for one in traffic if one.group == "pp-ends"]
        holders = plan.schedule.rank_of_stage
        ends = NO_TIME if holders[0] == holders[-1] else self._collectives(tied)  # one rank adds them by itself
        own = [one for one in traffic if one.when == "backward" and plan.zero != 3 and one not in tied]
        data = self._collectives(own)
        after, gathered, ahead = plan.optimizer_s(dense, expert), NO_TIME, 0.0
        gathers = [one for one in traffic if one.when == "step"]
        if plan.overlap_parameters and gathers:
            gathered, ahead = self._collectives(gathers), self._collective(gathers[0]).total_s
        else:
            after += self._collectives(gathers).total_s
        return StageSeconds(times, slack, idle, first, final, data, ends, after, gathered, ahead)

    def _sharded(
        self, kind: Pass, layers: Sequence[tuple[int, float, float]], traffic: Sequence[Traffic]
    ) -> tuple[float, float, float]:
        """A pass whose weights are fetched, and gradients reduced, beside the computing of neighbours: beside a layer
        the gather of the next and the reduction of the one before. The first gather of a step and the last reduction
        are beside nothing. Returns seconds of the pass, of its first gather and of its last reduction.

        Args:
            layers: number, seconds of computing and of these without bytes or FLOP, in the order of the pass.
        """
        when = "forward" if kind is Pass.FORWARD else "backward"
        gathers, reduces = kind is not Pass.WEIGHT, kind in (Pass.BACKWARD, Pass.WEIGHT)
        moved: dict[tuple[int | None, str], LinkTime] = {}
        for one in traffic:
            if one.when == when and one.kind == "zero" and (gathers if one.collective == "all-gather" else reduces):
                key = (one.layer, one.collective)
                moved[key] = moved.get(key, NO_TIME) + self._collective(one)
        gathered, reduced, shares = (
            [moved.get((number, name), NO_TIME) for number, *_ in layers]
            for name in ("all-gather", "reduce-scatter", "all-reduce")
        )
        last = reduced[-1] + shares[-1]
        total = (gathered[0] if kind is Pass.FORWARD else last).total_s
        for (_, compute, idle), after, before, beside in zip(
            layers, [*gathered[1:], NO_TIME], [NO_TIME, *reduced[:-1]], [NO_TIME, *shares[:-1]], strict=True
        ):
            busy = 1 - idle / compute if compute else 1.0
            sent = (after + before).followed(beside, compute)
            total += sent.beside(compute, self.stack.hidden_sharded * busy)
        return total, gathered[0].total_s, last.total_s

    def pipeline(self, stages: Sequence[StageSeconds]) -> PipelineTimes:
        """All passes; of one stage on each rank no more than their seconds."""
        schedule, count = self.plan.schedule, self.plan.schedule.num_microbatches
        if len(stages) == 1:
            return PipelineTimes(count * (stages[0].times[Pass.FORWARD] + stages[0].times[Pass.BACKWARD]), (), ())
        if schedule.name == "1f1b":
            sent = [0.0, *(self._sent_s(rank, rank + 1) for rank in range(len(stages) - 1)), 0.0]
            each = [one.times[Pass.FORWARD] + one.times[Pass.BACKWARD] for one in stages]
            slowest = max(own + before + behind for own, before, behind in zip(each, sent, sent[1:], strict=False))
            return PipelineTimes(sum(each) + 2 * sum(sent) + (count - 1) * slowest, (), ())
        lasts = {(number, kind): time_s for number, one in enumerate(stages) for kind, time_s in one.times.items()}
        return pipeline_times(schedule, lasts, self._sent_s, waits=self.plan.sender_waits)

    def _sent_s(self, src: int, dst: int) -> float:
        return sent_s(self.plan, self.machine, src, dst)


def sent_s(plan: StepPlan, machine: StepPrices, src: int, dst: int) -> float:
    """Seconds of a stage's output from one pipeline rank to another."""
    degrees, size = plan.degrees, boundary_bytes(plan.model, plan.run)
    width = degrees.tp * degrees.cp * degrees.dp
    if plan.scatter_gather:
        gathered = machine.of_group("all-gather", size, degrees.tp, 1)
        return (machine.of_boundary(-(-size // degrees.tp), src, dst, width) + gathered).total_s
    return machine.of_boundary(size, src, dst, width).total_s
