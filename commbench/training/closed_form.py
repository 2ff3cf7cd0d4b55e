# SPDX-License-Identifier: Apache-2.0
"""The time of a step from the times of its passes, in milliseconds of computing: no events, no contention.

A filter and a yardstick, never the simulator's answer: what collectives cost comes from the constants of their links
(``workload.step_costs``), pipelines are 1F1B's formula or a walk through the schedule with the stages' own times, and
gradients are sent when the last pass is over, the part of them that is hidden beside it taken off. Transfers between
stages block both sides, as Megatron's and torch's do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from commbench.collectives.spec import get_collective
from commbench.units import PS_PER_S
from commbench.workload.compute import work_seconds
from commbench.workload.operators import Work as Cost
from commbench.workload.operators import stage_operators
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule, gives, needs
from commbench.workload.step_costs import LinkCosts, StackCosts
from commbench.workload.step_passes import Call, Join, Layer, Work, pass_items, stage_layers
from commbench.workload.step_plan import StepPlan
from commbench.workload.traffic import Traffic, boundary_bytes

__all__ = [
    "Estimate",
    "Passes",
    "Shapes",
    "StageParts",
    "StageSeconds",
    "StepHosts",
    "StepPrices",
    "closed_form",
    "stage_times",
]


class StepPrices(Protocol):
    """What communication takes, of groups that stand alike."""

    def collective_s(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> float:
        """Seconds of a collective over ``ranks`` ranks that stand ``stride`` apart."""
        ...

    def transfer_s(self, size_bytes: int, stride: int) -> float:
        """Seconds of a transfer to a rank ``stride`` further."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHosts:
    """Hosts, as far as collectives of a step see them.

    Attributes:
        gpus: of a host. inside: bytes/s that a GPU sends to the others of its host. between: bytes/s that a host sends,
            all its NICs together. links_inside, links_between: what collectives reach of these.
    """

    gpus: int
    inside: float
    between: float
    links_inside: LinkCosts
    links_between: LinkCosts

    def collective_s(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> float:
        """Seconds of a collective over ``ranks`` ranks that stand ``stride`` apart; each GPU of a host is in one."""
        if ranks == 1:
            return 0.0
        here = min(ranks, max(1, self.gpus // stride))
        moved = size_bytes * get_collective(name).busbw_factor(ranks)
        time_s = 0.0
        if here > 1:
            time_s = self.links_inside.seconds(moved, self.inside * share, (here - 1).bit_length())
        if ranks > here:
            rate = self.between * here / self.gpus
            time_s = max(time_s, self.links_between.seconds(moved, rate * share, (-(-ranks // here) - 1).bit_length()))
        return time_s

    def transfer_s(self, size_bytes: int, stride: int) -> float:
        """Seconds of a transfer to a rank ``stride`` further, each GPU of the host sending one."""
        near = stride < self.gpus
        links = self.links_inside if near else self.links_between
        rate = self.inside if near else self.between / self.gpus
        return links.latency_s + size_bytes / (rate * links.transfer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds of a step, and what they consist of."""

    iteration_s: float
    terms: dict[str, float]


@dataclass(frozen=True, slots=True)
class StageParts:
    """What a stage consists of: one of its layers with embedding and head, what it sends, its weights."""

    layers: tuple[Layer, ...]
    traffic: tuple[Traffic, ...]
    dense: int
    expert: int


def shape_of(plan: StepPlan, number: int) -> StageParts:
    """The shape of a stage; nothing of it depends on any constant."""
    first, last, count = number == 0, number == len(plan.layers) - 1, plan.layers[number]
    operators = stage_operators(plan.model, plan.run, count, first=first, last=last)
    dense, expert = (sum(op.parameters for op in operators if op.expert is which) for which in (False, True))
    layers = stage_layers(plan.model, plan.run, 1, first=first, last=last)
    return StageParts(layers, plan.traffic(number), dense, expert)


Shapes = dict[tuple[bool, bool, int], StageParts]
"""Shapes that were made, by whether a stage is the first, whether it is the last, and its layers."""

Passes = dict[tuple[object, ...], tuple[float, float, float]]
"""Seconds that were found: on the device, of the host, and of the device's in collectives, of a layer's pass by
execution, number and kind; of what a stage sends, by degrees, ZeRO stage and weights."""


def closed_form(
    plan: StepPlan, stack: StackCosts, machine: StepPrices, *, overlap_data: bool = True, zero_ranks: int = 0,
    shapes: Shapes | None = None,
) -> Estimate:
    """The time of a step.

    Args:
        plan: what is trained. stack: what the software adds. machine: where.
        overlap_data: whether gradients are sent beside the last backward pass.
        zero_ranks: over which ZeRO divides, where these are fewer than the data ranks.
        shapes: of this plan's stages; what is missing is added. For who asks again with other constants.
    """
    zero_ranks = zero_ranks or plan.degrees.dp * plan.degrees.cp
    form = _Form(plan, stack, machine, zero_ranks, {} if shapes is None else shapes)
    stages = [form.stage(number) for number in range(len(plan.layers))]
    passes = form.pipeline(stages)
    ranks = [[stages[stage] for stage in plan.schedule.stages_of(rank)] for rank in range(plan.degrees.pp)]
    sendings = plan.schedule.num_microbatches if plan.zero == 2 else 1
    last = max(ranks, key=lambda own: sum(sendings * one.data + one.after for one in own))
    data, beside = sendings * sum(one.data for one in last), sum(one.times[Pass.BACKWARD] for one in last)
    hidden = min(data, beside) * (1 - stack.hidden_data) if overlap_data else 0.0
    terms = {
        "passes": passes,
        "data": data - hidden,
        "optimizer": sum(one.after for one in last),
        "host": stack.host_step_s + (stack.zero_rank_s * zero_ranks if plan.zero in (1, 2) else 0.0),
    }
    return Estimate(iteration_s=sum(terms.values()), terms=terms)


def stage_times(
    plan: StepPlan, stack: StackCosts, machine: StepPrices, *, shapes: Shapes | None = None,
    passes: Passes | None = None,
) -> list["StageSeconds"]:
    """What every stage of a plan takes, each beside nothing else.

    Args:
        plan, stack, machine, shapes: as :func:`closed_form` has them.
        passes: of layers that were timed before, of plans that differ in nothing that is not part of their keys.
    """
    shapes = {} if shapes is None else shapes
    form = _Form(plan, stack, machine, plan.degrees.dp * plan.degrees.cp, shapes, passes)
    return [form.stage(number) for number in range(len(plan.layers))]


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds of a stage's passes; of its gradients each time they are sent; of optimizer and gathered parameters."""

    times: dict[Pass, float]
    data: float
    after: float


class _Form:
    def __init__(
        self, plan: StepPlan, stack: StackCosts, machine: StepPrices, zero_ranks: int, shapes: Shapes,
        passes: Passes | None = None,
    ) -> None:
        self._shapes, self._timed = shapes, {} if passes is None else passes
        plan = plan if plan.stack == stack else replace(plan, stack=stack)
        self.plan, self.stack, self.machine, self.zero_ranks = plan, stack, machine, zero_ranks
        self._memory = plan.device.memory_bytes_per_s * plan.efficiency.memory
        self._known: dict[tuple[Cost, bool], int] = {}
        degrees = plan.degrees
        self._strides = {
            "tp": (degrees.tp, 1),
            "cp": (degrees.cp, degrees.tp),
            "ep": (degrees.ep, degrees.tp),
            "edp": (degrees.edp, degrees.tp * degrees.ep),
            "dp-cp": (degrees.dp * degrees.cp, degrees.tp),
            "pp-ends": (min(2, degrees.pp), degrees.tp * degrees.cp * degrees.dp),
        }
        split = plan.schedule.name != "1f1b" and any(
            action.kind is Pass.WEIGHT for step in plan.schedule.orders[0] for action in step.parts
        )
        self._passes = tuple(Pass) if split else (Pass.FORWARD, Pass.BACKWARD)
        self._stages: dict[tuple[bool, bool, int], StageSeconds] = {}

    def _collective_s(self, one: Traffic) -> float:
        whole, _, part = one.group.partition("/")
        ranks, stride = self._strides[whole]
        share = self.stack.sharded_share if one.kind == "zero" and self.plan.zero == 3 else 1.0
        ranks = int(part) if part else ranks
        return self.machine.collective_s(one.collective, one.size_bytes, ranks, stride, share)

    def _lasts(self, work: Cost, core: bool) -> int:
        key = (work, core)
        if key not in self._known:
            plan = self.plan
            dtype = plan.run.formats.products if work.layer_product else plan.run.formats.others
            self._known[key] = round(work_seconds(work, plan.device, dtype, plan.efficiency, core=core) * PS_PER_S)
        return self._known[key]

    def _pass(self, layer: Layer, kind: Pass) -> tuple[float, float, float]:
        """Seconds on the device, of the host, and of collectives, of one layer's pass."""
        key = (self.plan.run, layer.number, kind)
        if key not in self._timed:
            self._timed[key] = self._timed_pass(layer, kind)
        return self._timed[key]

    def _timed_pass(self, layer: Layer, kind: Pass) -> tuple[float, float, float]:
        device = beside = begun = sent = 0.0
        calls = 0
        for item in pass_items([layer], self.plan.run, kind, self._lasts, overlap=self.plan.overlap_tensor):
            if isinstance(item, Work):
                device += item.duration_ps / PS_PER_S
            elif isinstance(item, Call):
                calls += 1
                lasts = self._collective_s(item.traffic)
                sent += lasts
                if item.beside:
                    begun, beside = device, lasts
                else:
                    device += lasts
            elif isinstance(item, Join):
                under = min(beside, device - begun)
                device = max(device, begun + beside) + self.stack.hidden_tensor * under
                beside = 0.0
        return device, self.plan.host_s(1, calls, kind), sent

    def stage(self, number: int) -> StageSeconds:
        """Times of a stage."""
        plan = self.plan
        first, last = number == 0, number == len(plan.layers) - 1
        key = (first, last, plan.layers[number])
        if key not in self._stages:
            if key not in self._shapes:
                self._shapes[key] = shape_of(plan, number)
            self._stages[key] = self._stage(self._shapes[key], plan.layers[number])
        return self._stages[key]

    def _stage(self, shape: StageParts, count: int) -> StageSeconds:
        plan, traffic = self.plan, shape.traffic
        dense, expert = shape.dense, shape.expert
        adding = plan.adding_s(dense + expert)
        times: dict[Pass, float] = {}
        for kind in self._passes:
            device = host = 0.0
            for layer in shape.layers:
                own_device, own_host, _ = self._pass(layer, kind)
                many = count if 0 <= layer.number < 1 else 1
                if plan.zero == 3:
                    own_device = self._sharded(own_device, layer.number, kind, traffic, count)
                device += many * own_device
                host += many * own_host
            if kind in (Pass.BACKWARD, Pass.WEIGHT):
                device += adding
            times[kind] = max(device, host)
        if plan.zero == 3:
            for kind in (Pass.FORWARD, Pass.BACKWARD):
                times[kind] += self._sharded_ends(kind, traffic)
        data, after = self._data(shape, count)
        per = plan.precision.gradient_bytes + 2 * plan.precision.optimizer_bytes + plan.precision.parameter_bytes
        shards = self.zero_ranks if plan.zero else 1
        moved = per * (dense / shards + expert / (plan.degrees.edp if plan.zero else 1))
        return StageSeconds(times, data, after + moved / self._memory)

    def _data(self, shape: StageParts, count: int) -> tuple[float, float]:
        """Seconds of a stage's gradients each time they are sent, and of what is sent behind the optimizer."""
        plan, holders = self.plan, self.plan.schedule.rank_of_stage
        one_rank = holders[0] == holders[-1]  # holds both ends of a tied embedding, and adds them by itself
        key = (plan.degrees, plan.zero, count, shape.dense, shape.expert, one_rank)
        if key not in self._timed:
            traffic = [one for one in shape.traffic if one.group != "pp-ends" or not one_rank]
            data = sum(self._collective_s(one) for one in traffic if one.when == "backward" and plan.zero != 3)
            after = sum(self._collective_s(one) for one in traffic if one.when == "step")
            self._timed[key] = data, after, 0.0
        return self._timed[key][:2]

    def _sharded(self, compute: float, layer: int, kind: Pass, traffic: Sequence[Traffic], count: int) -> float:
        """A layer whose weights are fetched, and gradients reduced, beside the computing of its neighbours."""
        when = "forward" if kind is Pass.FORWARD else "backward"
        number = count if layer == 1 else layer  # the head of a stage of one layer
        beside = sum(self._collective_s(one) for one in traffic if one.when == when and one.layer == number)
        return max(compute, beside) + self.stack.hidden_sharded * min(compute, beside)

    def _sharded_ends(self, kind: Pass, traffic: Sequence[Traffic]) -> float:
        """What nothing runs beside: the first gather, the last reduction."""
        when, name = ("forward", "all-gather") if kind is Pass.FORWARD else ("backward", "reduce-scatter")
        ends = [self._collective_s(one) for one in traffic if (one.when, one.collective) == (when, name)]
        return (ends[0] if kind is Pass.FORWARD else ends[-1]) if ends else 0.0

    def pipeline(self, stages: Sequence[StageSeconds]) -> float:
        """Seconds of all passes."""
        plan, count = self.plan, self.plan.schedule.num_microbatches
        if len(stages) == 1:
            return count * (stages[0].times[Pass.FORWARD] + stages[0].times[Pass.BACKWARD])
        sent = self._sent_s()
        if plan.schedule.name == "1f1b":
            each = [one.times[Pass.FORWARD] + one.times[Pass.BACKWARD] for one in stages]
            return sum(each) + (count - 1) * max(each) + 2 * sent * (len(each) - 1 + count - 1)
        lasts = {
            (number, kind): time_s + (0.0 if kind is Pass.WEIGHT else sent)
            for number, one in enumerate(stages)
            for kind, time_s in one.times.items()
        }
        return _walk(plan.schedule, lasts)

    def _sent_s(self) -> float:
        plan, degrees = self.plan, self.plan.degrees
        if degrees.pp == 1:
            return 0.0
        size, stride = boundary_bytes(plan.model, plan.run), degrees.tp * degrees.cp * degrees.dp
        if plan.scatter_gather:
            gathered = self.machine.collective_s("all-gather", size, degrees.tp, 1)
            return self.machine.transfer_s(-(-size // degrees.tp), stride) + gathered
        return self.machine.transfer_s(size, stride)


@lru_cache(maxsize=64)
def _order(schedule: PipelineSchedule) -> tuple[tuple[int, tuple[Action, ...], tuple[int, ...]], ...]:
    """Steps in an order in which all that they wait for stands before them: (rank, passes, steps waited for)."""
    found: list[tuple[int, tuple[Action, ...], tuple[int, ...]]] = []
    where: dict[object, int] = {}
    places, left = [0] * schedule.num_ranks, sum(len(order) for order in schedule.orders)
    while left:
        for rank, order in enumerate(schedule.orders):
            while places[rank] < len(order):
                parts = order[places[rank]].parts
                wanted = [need for action in parts for need in needs(action, schedule.num_stages)]
                if any(need not in where for need in wanted):
                    break
                where.update({gives(action): len(found) for action in parts})
                found.append((rank, parts, tuple(where[need] for need in wanted)))
                places[rank] += 1
                left -= 1
    return tuple(found)


def _walk(schedule: PipelineSchedule, lasts: Mapping[tuple[int, Pass], float]) -> float:
    """When the last pass of a schedule ends; ``lasts``: of every stage's passes."""
    clocks, ends = [0.0] * schedule.num_ranks, list[float]()
    for rank, parts, wanted in _order(schedule):
        start = max([clocks[rank], *[ends[step] for step in wanted]])
        clocks[rank] = start + sum([lasts[action.stage, action.kind] for action in parts])
        ends.append(clocks[rank])
    return max(clocks)
