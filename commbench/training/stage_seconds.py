# SPDX-License-Identifier: Apache-2.0
"""What the passes, gradients and optimizer of a pipeline stage take: no events, and the links of other ranks free.

Beside a pass there is what ZeRO 3 fetches and reduces: beside each layer the reduction of the one before, then the
gather of the next. While computing or a collective of the layer runs beside one of these, both are longer. Under hybrid
sharding the sum of a rank's share over those that hold the same follows a reduction, beside whatever comes next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from commbench.training.link_time import NO_TIME, LinkTime, slowed_s
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
from commbench.workload.transformer import Execution

__all__ = ["Edges", "LayerPass", "Passes", "Shapes", "StageParts", "StageSeconds", "sent", "stage_times"]


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

_Parts = tuple[LinkTime, ...]
"""One after the other."""


@dataclass(frozen=True)
class LayerPass:
    """A pass of a layer: what it consists of, one after the other, and the seconds in which the host launches it."""

    parts: tuple[LinkTime, ...]
    host_s: float

    @cached_property
    def device_s(self) -> float:
        """Of all parts."""
        return sum(part.total_s for part in self.parts)

    @cached_property
    def idle_s(self) -> float:
        """In which ranks wait for each other before bytes of a collective move."""
        return sum(part.latency_s for part in self.parts)

    @cached_property
    def moving(self) -> _Parts:
        """Its collectives, each kind of load once."""
        return _by_loads(self.parts)

    def lasting(self, seconds: float) -> "LayerPass":
        """The same, but no shorter."""
        waits = LinkTime(max(0.0, seconds - self.device_s), 0.0)
        return replace(self, parts=(*self.parts, waits)) if waits.total_s else self


_Layers = list[tuple[LayerPass, tuple[int, ...]]]
"""Passes of layers, and the numbers of the stage's layers that take them."""
Passes = dict[Execution, dict[tuple[int, Pass], LayerPass]]
"""Passes of layers that were timed, by execution, then by number and kind."""


def stage_times(
    plan: StepPlan, stack: StackCosts, machine: StepPrices, *, shapes: Shapes, passes: Passes, alone: bool = False
) -> list["StageSeconds"]:
    """What every stage of a plan takes.

    Args:
        plan, stack, machine, shapes: as ``closed_form`` has them.
        passes: of layers that were timed before, of plans that differ in nothing that is not part of their keys.
        alone: whether nothing is slowed by what runs beside it.
    """
    form = _Form(plan, stack, machine, shapes, passes, alone)
    return [form.stage(number) for number in range(len(plan.layers))]


@dataclass(frozen=True, slots=True)
class Edges:
    """Seconds at both ends of a pass under ZeRO 3, where what it fetches or reduces may be beside other passes.

    Attributes:
        first, second: of its first two gathers. last: of its last reduction, behind all that is computed.
        opening, closing: of its first layer and its last, beside nothing.
        opening_share, closing_share: by how much each of these seconds is longer, and each of what is fetched beside:
            the second gather, the next pass' first.
        lone: 1 of a pass of one layer, beside all of which the next pass' first gather is: it begins with the end of
            the layer before.
    """

    first: float = 0.0
    second: float = 0.0
    last: float = 0.0
    opening: float = 0.0
    closing: float = 0.0
    opening_share: float = 0.0
    closing_share: float = 0.0
    lone: float = 0.0


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds of a stage.

    Attributes:
        times: of its passes; under ZeRO 3 without the first gather and the last reduction. slack: of these, in which
            the device waits for the host. idle: in which ranks wait for each other before bytes of a collective move,
            and what runs beside is not slowed.
        edges: of its passes under ZeRO 3.
        layers: of its passes. moved: what ZeRO 3 fetches and reduces in one. sharded: the last that it fetches in one,
            and the last that it reduces.
        data: of its gradients, each time they are sent. ends: of a tied embedding's, between first and last.
        after: of the optimizer and of the parameters that are gathered behind it. gathered: of those that are gathered
            beside the first forward pass instead. ahead: of the first of these, beside nothing.
    """

    times: dict[Pass, float]
    slack: dict[Pass, float]
    idle: dict[Pass, float]
    edges: dict[Pass, Edges]
    layers: dict[Pass, _Layers]
    moved: dict[Pass, _Parts]
    sharded: tuple[LinkTime, LinkTime]
    data: LinkTime
    ends: LinkTime
    after: float
    gathered: LinkTime
    ahead: float

    def moving(self, kind: Pass) -> _Parts:
        """The collectives of a pass and beside it, each kind of load once."""
        own = [part.times(len(numbers)) for one, numbers in self.layers.get(kind, ()) for part in one.moving]
        return _by_loads([*own, *self.moved.get(kind, ())])


class _Form:
    def __init__(
        self, plan: StepPlan, stack: StackCosts, machine: StepPrices, shapes: Shapes, passes: Passes, alone: bool
    ) -> None:
        self._shapes, self._timed, self._alone = shapes, passes.setdefault(plan.run, {}), alone
        plan = plan if plan.stack == stack else replace(plan, stack=stack)
        self.plan, self.stack, self.machine = plan, stack, machine
        self._known: dict[tuple[Cost, bool], int] = {}
        self._priced: dict[tuple[str, str, str, int], LinkTime] = {}
        self._kinds = plan.kinds
        self._passes = tuple(Pass) if plan.schedule.splits else (Pass.FORWARD, Pass.BACKWARD)
        self._stages: dict[tuple[bool, bool, tuple[int, ...]], StageSeconds] = {}

    def _collective(self, one: Traffic) -> LinkTime:
        key = (one.kind, one.group, one.collective, one.size_bytes)
        if key not in self._priced:
            self._priced[key] = self._price(one)
        return self._priced[key]

    def _price(self, one: Traffic) -> LinkTime:
        ranks, stride = self.plan.degrees.span(one.group)
        share = self.stack.sharded_share if one.kind == "zero" and self.plan.zero == 3 else 1.0
        return self.machine.of_group(one.collective, one.size_bytes, ranks, stride, share)

    def _collectives(self, traffic: Iterable[Traffic]) -> LinkTime:
        """Of several, one after the other."""
        each = list(map(self._collective, traffic))
        return LinkTime(sum(one.latency_s for one in each), sum(one.wire_s for one in each))

    def _lasts(self, work: Cost, core: bool) -> int:
        key = (work, core)
        if key not in self._known:
            plan = self.plan
            dtype = plan.run.formats.products if work.layer_product else plan.run.formats.others
            self._known[key] = round(work_seconds(work, plan.device, dtype, plan.efficiency, core=core) * PS_PER_S)
        return self._known[key]

    def _pass(self, layer: Layer, kind: Pass) -> LayerPass:
        key = (layer.number, kind)
        if key not in self._timed:
            self._timed[key] = self._timed_pass(layer, kind)
        return self._timed[key]

    def _timed_pass(self, layer: Layer, kind: Pass) -> LayerPass:
        parts, calls, begun, beside = list[LinkTime](), 0, 0, list[LinkTime]()
        for item in pass_items([layer], self.plan.run, kind, self._lasts, beside=self.plan.beside):
            if isinstance(item, Work):
                _add(parts, item.duration_ps / PS_PER_S, begun)
            elif isinstance(item, Call):
                calls += 1
                lasts = self._collective(item.traffic)
                if item.beside:
                    begun = begun if beside else len(parts)
                    beside.append(lasts)
                else:
                    parts.append(lasts)
            elif isinstance(item, Join):
                own, sent_s = parts[begun:], _seconds(beside)
                slowed = 0.0 if self._alone else slowed_s(own, beside, self.stack.hidden_tensor)
                parts[begun:] = [LinkTime(0.0, max(_seconds(own), sent_s) + slowed, sum(beside, NO_TIME).loads)]
                begun, beside = len(parts), []
        host = self.plan.host_s(1, calls, kind)
        if self.plan.launch_blocking:
            _add(parts, host, begun)
        return LayerPass(tuple(parts), host)

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
        times, slack, idle, edges = dict[Pass, float](), dict[Pass, float](), dict[Pass, float](), dict[Pass, Edges]()
        passes, moves, sharded = dict[Pass, _Layers](), dict[Pass, _Parts](), (NO_TIME, NO_TIME)
        for kind in self._passes:
            passes[kind] = each = self._layers(shape, kinds, kind)
            host = sum(len(numbers) * one.host_s for one, numbers in each)
            adding = plan.adding_s(shape.dense + shape.expert) if kind in (Pass.BACKWARD, Pass.WEIGHT) else 0.0
            device = sum(len(numbers) * one.device_s for one, numbers in each) + adding
            if plan.zero == 3:
                order = {number: one for one, own in each for number in own}
                numbers = sorted(order, reverse=kind is not Pass.FORWARD)
                layers = [order[number] for number in numbers]
                gathers, reductions, sums = self._moved(kind, traffic, numbers)
                device, edges[kind] = self._sharded(layers, gathers, reductions, sums, adding)
                fetch, reduce = sum(gathers[-1], NO_TIME), sum((*reductions[-1], *sums[-1]), NO_TIME)
                sharded = (fetch if fetch.wire_s else sharded[0], reduce if reduce.wire_s else sharded[1])
                moves[kind] = tuple(chain.from_iterable([*gathers, *reductions, *sums]))
            idle[kind] = sum(len(numbers) * one.idle_s for one, numbers in each)
            times[kind], slack[kind] = max(device, host), max(0.0, host - device)
        tied = [one for one in traffic if one.group == "pp-ends"]
        holders = plan.schedule.rank_of_stage
        ends = NO_TIME if holders[0] == holders[-1] else self._collectives(tied)  # one rank adds them by itself
        own = [one for one in traffic if one.when == "backward" and plan.zero != 3 and one not in tied]
        data = self._collectives(own)
        after, gathered, ahead = plan.optimizer_s(shape.dense, shape.expert), NO_TIME, 0.0
        parameters = [one for one in traffic if one.when == "step"]
        if plan.overlap_parameters and parameters:
            gathered, ahead = self._collectives(parameters), self._collective(parameters[0]).total_s
        else:
            after += self._collectives(parameters).total_s
        return StageSeconds(times, slack, idle, edges, passes, moves, sharded, data, ends, after, gathered, ahead)

    def _layers(
        self, shape: StageParts, kinds: Sequence[int], kind: Pass
    ) -> _Layers:
        """A pass of the layers of a stage."""
        each = [(self._pass(layer, kind), numbers) for layer, numbers in shape.layers]
        moves = dict(enumerate(self.plan.moves_s(kinds), 1))  # each beside the next
        if not moves:
            return each
        return [(one.lasting(moves.get(number, 0.0)), (number,)) for one, numbers in each for number in numbers]

    def _sharded(
        self, layers: Sequence[LayerPass], gathers: Sequence[_Parts], reductions: Sequence[_Parts],
        sums: Sequence[_Parts], adding: float,
    ) -> tuple[float, Edges]:  # fmt: skip
        """A pass whose weights are fetched, and gradients reduced, beside the computing of neighbours: its seconds
        without the first gather and what is left to be reduced behind it, and what it is like at both ends.

        Args:
            layers: in the order of the pass. gathers: before each of them. reductions: behind each. sums: of shares,
                behind that, which nothing else waits for. adding: seconds behind all, beside the last of these.
        """
        total, left, summing, shares = 0.0, 0.0, 0.0, dict[tuple[object, ...], float]()
        adds = LayerPass((LinkTime(0.0, adding),), 0.0)
        for own, before, summed, after in zip(
            [*layers, adds], [(), *reductions], [(), *sums], [*gathers[1:], (), ()], strict=True
        ):
            left += _seconds(before)
            waits = max(0.0, left - summing) if summed else 0.0  # for what is reduced before
            summing += _seconds(summed)
            own_s, moved_s = own.device_s, left + _seconds(after)
            both = min(own_s, moved_s)
            ends_s = moved_s if after else 0.0  # the next layer waits for its weights, and these for what is before
            total += max(own_s, ends_s)
            summing_s = min(summing, max(0.0, own_s - waits))
            for beside, lasts in (((*before, *after), both), (summed, summing_s)):  # each makes the layer longer
                key = (id(own), *map(id, beside))  # prices are kept, each once
                if key not in shares:
                    shares[key] = self._share(own, beside)
                total += shares[key] * lasts
            summing = max(0.0, waits + summing - max(own_s, ends_s))
            left = 0.0 if after else moved_s - both
        opening, closing, (first, second) = layers[0], layers[-1], (*gathers, ())[:2]
        return total, Edges(
            first=_seconds(first), second=_seconds(second), last=max(left, summing),
            opening=opening.device_s, closing=closing.device_s,
            opening_share=self._share(opening, second), closing_share=self._share(closing, first),
            lone=float(len(layers) == 1),
        )  # fmt: skip

    def _moved(
        self, kind: Pass, traffic: Sequence[Traffic], numbers: Sequence[int]
    ) -> tuple[list[_Parts], list[_Parts], list[_Parts]]:
        """What a pass fetches before each of these layers, what it reduces behind it, and sums of shares."""
        when = "forward" if kind is Pass.FORWARD else "backward"
        fetches, reduces = kind is not Pass.WEIGHT, kind in (Pass.BACKWARD, Pass.WEIGHT)
        moved: tuple[dict[int | None, _Parts], ...] = ({}, {}, {})
        for one in traffic:
            gather = one.collective == "all-gather"
            if one.when == when and one.group != "pp-ends" and (fetches if gather else reduces):
                own = moved[0 if gather else 2 if "%" in one.group else 1]
                own[one.layer] = (*own.get(one.layer, ()), self._collective(one))
        gathers, reductions, sums = ([own.get(number, ()) for number in numbers] for own in moved)
        return gathers, reductions, sums

    def _slowed(self, own: Sequence[LinkTime], beside: Sequence[LinkTime]) -> float:
        return 0.0 if self._alone else slowed_s(own, beside, self.stack.hidden_sharded)

    def _share(self, own: LayerPass, beside: Sequence[LinkTime]) -> float:
        """By how much each second together is longer, in the mean."""
        both = min(own.device_s, _seconds(beside))
        return self._slowed(own.parts, beside) / both if both else 0.0


def _by_loads(parts: Iterable[LinkTime]) -> _Parts:
    """Those that load links, each kind of load once."""
    found: dict[tuple[float, ...], LinkTime] = {}
    for one in parts:
        if one.loads:
            old = found.get(one.loads, NO_TIME)
            found[one.loads] = LinkTime(old.latency_s + one.latency_s, old.wire_s + one.wire_s, one.loads)
    return tuple(found.values())


def _seconds(several: Iterable[LinkTime]) -> float:
    return sum(one.total_s for one in several)


def _add(parts: list[LinkTime], seconds: float, begun: int) -> None:
    """Computing behind these parts, those before number ``begun`` apart."""
    if len(parts) > begun and not parts[-1].loads and not parts[-1].latency_s:
        seconds += parts.pop().wire_s
    parts.append(LinkTime(0.0, seconds))


def sent(plan: StepPlan, machine: StepPrices, src: int, dst: int) -> LinkTime:
    """Of a stage's output from one pipeline rank to another."""
    degrees, size = plan.degrees, boundary_bytes(plan.model, plan.run)
    width = degrees.tp * degrees.cp * degrees.dp
    if plan.scatter_gather:
        gathered = machine.of_group("all-gather", size, degrees.tp, 1)
        return machine.of_boundary(-(-size // degrees.tp), src, dst, width) + gathered
    return machine.of_boundary(size, src, dst, width)
