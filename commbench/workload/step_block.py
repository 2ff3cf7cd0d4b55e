# SPDX-License-Identifier: Apache-2.0
"""The operations of one step of a pipeline as a block, made once and repeated for every microbatch.

What a block waits for is not known when it is made: the latest operation of a unit, what brings its input, the layers
before. These stand in it as numbers below 0 (:class:`StepState.symbolic`), which :meth:`PlacedBlock.place` replaces.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from commbench.program.operations import COMPUTE_STREAM, COPY_STREAM, HOST_STREAM, NOTHING, Block, ProgramBuilder
from commbench.units import PS_PER_S
from commbench.workload.compute import work_seconds
from commbench.workload.offload import with_moves
from commbench.workload.operator import Work as Cost
from commbench.workload.pipeline.schedule import Action, Pass
from commbench.workload.pipeline.schedule import Step as PipelineStep
from commbench.workload.step_passes import Begin, Call, End, Item, Join, Landed, Layer, Move, Work, merged, pass_items
from commbench.workload.step_plan import StepPlan
from commbench.workload.step_units import Communications, Units
from commbench.workload.step_ways import Ways
from commbench.workload.traffic import Traffic

__all__ = ["BlockMaker", "PassSpan", "PlacedBlock", "Stage", "StepState", "sends_each"]

_PURPOSE = {Pass.FORWARD: "forward", Pass.BACKWARD: "backward", Pass.INPUT: "backward", Pass.WEIGHT: "backward"}


@dataclass(frozen=True, slots=True)
class PassSpan:
    """A pass on a unit: it begins with operation ``first`` of the program and ends with operation ``last``."""

    unit: int
    action: Action
    first: int
    last: int


class Stage(Protocol):
    """What a block is made from."""

    layers: tuple[Layer, ...]
    parameters: int

    def gathers(self, when: str, layer: int) -> list[Traffic]:
        """What ZeRO 3 fetches before a layer."""

    def gradients(self, layer: int) -> list[Traffic]:
        """What is sent once a layer's gradients are there."""


def sends_each(plan: StepPlan, action: Action) -> bool:
    """Whether the gradients of each microbatch are sent."""
    return plan.zero >= 2 and action.kind in (Pass.BACKWARD, Pass.WEIGHT)


@dataclass(slots=True)
class StepState:
    """Operations that what is still to come must wait for, by unit.

    Attributes:
        last: the latest on its compute stream. wait: what its next one waits for. beside: under way beside it.
        data: gradients on their way. layers: ends of its last two layers. ends: where gradients of a tied embedding are
            there.
    """

    last: dict[int, int] = field(default_factory=dict)
    wait: dict[int, list[int]] = field(default_factory=dict)
    beside: dict[int, list[int]] = field(default_factory=dict)
    data: dict[int, list[int]] = field(default_factory=dict)
    layers: dict[int, tuple[int, ...]] = field(default_factory=dict)
    ends: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def empty(cls, units: Iterable[int]) -> "StepState":
        """Before everything."""
        wait, beside, data = ({unit: list[int]() for unit in units} for _ in range(3))
        return cls({}, wait, beside, data, dict.fromkeys(units, ()), {})

    @classmethod
    def symbolic(cls, units: Sequence[int], real: "StepState") -> "StepState":
        """Numbers below 0 for what the real state has of these units."""
        own = cls.empty(units)
        for unit in units:
            at = 4 * (unit - units[0])
            own.wait[unit] = [-1 - at]
            if unit in real.last:
                own.last[unit] = -2 - at
            own.layers[unit] = (-3 - at, -4 - at)[2 - len(real.layers[unit]) :]
        return own

    def meaning(self, units: Sequence[int]) -> dict[int, list[int]]:
        """What the numbers below 0 stand for."""
        found: dict[int, list[int]] = {}
        for unit in units:
            at = 4 * (unit - units[0])
            found[-1 - at] = self.wait[unit]
            if unit in self.last:
                found[-2 - at] = [self.last[unit]]
            for place, end in zip((-4 - at, -3 - at), reversed(self.layers[unit]), strict=False):
                found[place] = [end]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class PlacedBlock:
    """A block, what of it waits for what stands before, and the state behind it in its own numbers."""

    block: Block
    entries: tuple[tuple[int, int], ...]  # (operation, number below 0)
    passes: tuple[tuple[int, int, int, int], ...]  # (part of the step, unit, first, last)
    units: range
    state: StepState

    def place(
        self, program: ProgramBuilder, state: StepState, step: PipelineStep, labels: Sequence[int]
    ) -> list[PassSpan]:
        """Append it, and bring the state up to date; returns its passes."""
        means = state.meaning(self.units)
        base = program.repeat(
            self.block, labels, [(waiting, earlier) for waiting, slot in self.entries for earlier in means[slot]]
        )
        own = self.state

        def real(number: int) -> int:
            return base + number if number >= 0 else means[number][0]

        for unit in self.units:
            state.last[unit], state.wait[unit] = real(own.last[unit]), []
            state.data[unit] += map(real, own.data[unit])
            state.layers[unit] = tuple(map(real, own.layers[unit]))
            if unit in own.ends:
                state.ends[unit] = list(map(real, own.ends[unit]))
        return [PassSpan(unit, step.parts[part], base + first, base + last) for part, unit, first, last in self.passes]


class _Rows:
    """The operations of a block while it is made."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.pairs: list[tuple[int, int]] = []

    def add(self, row: tuple[int, ...], after: Iterable[int]) -> int:
        number = len(self.rows)
        self.pairs += [(number, earlier) for earlier in after]
        self.rows.append(row)
        return number

    def block(self) -> tuple[Block, tuple[tuple[int, int], ...]]:
        inner = np.array([pair for pair in self.pairs if pair[1] >= 0], dtype=np.int64).reshape(-1, 2)
        outer = tuple(dict.fromkeys(pair for pair in self.pairs if pair[1] < 0))
        return Block(np.array(self.rows, dtype=np.int64).reshape(-1, 6), inner[:, 0], inner[:, 1]), outer


class BlockMaker:
    """Makes the block of a pipeline step, each only once."""

    def __init__(
        self,
        plan: StepPlan,
        units: Units,
        program: ProgramBuilder,
        communications: Communications,
        stages: Sequence[Stage],
    ) -> None:
        self._plan, self._units, self._program, self._stages = plan, units, program, stages
        self._communications = communications
        self._made: dict[tuple[object, ...], PlacedBlock] = {}
        self._durations: dict[tuple[Cost, bool], int] = {}
        self._items: dict[tuple[int, Pass, bool], tuple[Item, ...]] = {}

    def block(self, position: int, step: PipelineStep, finals: tuple[bool, ...], state: StepState) -> PlacedBlock:
        """The block of a step.

        Args:
            position: of the pipeline. step: of it. finals: of every part, whether it adds the last gradients.
            state: before it; what is there decides what can be waited for.
        """
        units = self._units.at(position)
        there = tuple((unit in state.last, len(state.layers[unit])) for unit in units)
        key = (position, *((part.stage, part.kind) for part in step.parts), finals, there)
        if key not in self._made:
            self._made[key] = self._make(position, step, finals, StepState.symbolic(units, state))
        return self._made[key]

    def _make(self, position: int, step: PipelineStep, finals: tuple[bool, ...], state: StepState) -> PlacedBlock:
        rows, units, passes = _Rows(), self._units.at(position), list[tuple[int, int, int, int]]()
        for part, (action, final) in enumerate(zip(step.parts, finals, strict=True)):
            add = _PassAdder(self, rows, state, position, action, part, final=final)
            items = self.items_of(action, final)
            passes += [(part, *span) for span in add.add(items, self.host_ps(action, items))]
        block, entries = rows.block()
        return PlacedBlock(block, entries, tuple(passes), units, state)

    def items_of(self, action: Action, final: bool) -> tuple[Item, ...]:
        """The items of a pass."""
        plan = self._plan
        marks = final or sends_each(plan, action) or (plan.zero == 3 and action.kind is not Pass.WEIGHT)
        layers = self._stages[action.stage].layers
        key = (id(layers), action.kind, marks)
        if key not in self._items:
            items = pass_items(layers, plan.run, action.kind, self._lasts, beside=plan.beside)
            if plan.launch_blocking:
                items = self._blocked(items, action.kind)
            items = tuple(with_moves(items, plan.moves_s(plan.kinds[action.stage])))
            if action.kind in (Pass.BACKWARD, Pass.WEIGHT):
                adding = plan.adding_s(self._stages[action.stage].parameters)
                items = (*items, Work("backward", round(adding * PS_PER_S)))
            self._items[key] = merged(items, marks=marks)
        return self._items[key]

    def _blocked(self, items: Iterable[Item], kind: Pass) -> tuple[Item, ...]:
        """The items of a pass whose kernels wait for the host, which waits for them: each layer takes its time, too."""
        found: list[Item] = []
        calls = 0
        for item in items:
            calls += isinstance(item, Call)
            if isinstance(item, End):
                found.append(Work("host", round(self._plan.host_s(1, calls, kind) * PS_PER_S)))
                calls = 0
            found.append(item)
        return tuple(found)

    def host_ps(self, action: Action, items: Sequence[Item]) -> int:
        """Picoseconds in which the host launches a pass, where it may be slower than the device; else 0."""
        if self._plan.launch_blocking:
            return 0  # part of the items
        layers, calls = self._stages[action.stage].layers, sum(isinstance(item, Call) for item in items)
        host_ps = round(self._plan.host_s(len(layers), calls, action.kind) * PS_PER_S)
        return host_ps if host_ps > sum(item.duration_ps for item in items if isinstance(item, Work)) else 0

    def _lasts(self, work: Cost, core: bool) -> int:
        key = (work, core)
        if key not in self._durations:
            plan = self._plan
            dtype = plan.run.formats.products if work.layer_product else plan.run.formats.others
            time_s = work_seconds(work, plan.device, dtype, plan.efficiency, core=core)
            self._durations[key] = round(time_s * PS_PER_S)
        return self._durations[key]


class _PassAdder:
    """Adds one pass on all units of a position, with what its gradients set off."""

    def __init__(
        self, maker: BlockMaker, rows: _Rows, state: StepState, position: int, action: Action, part: int, *, final: bool
    ) -> None:
        self._plan, self._stage = maker._plan, maker._stages[action.stage]
        self._program, self._rows, self._state = maker._program, rows, state
        self._ways = Ways(maker._program, maker._communications, rows)
        self._units, self._position = maker._units.at(position), position
        self._action, self._part, self._final = action, part, final
        self._fetched: dict[int, list[int]] = {}  # unit -> what the next layer waits for
        self._moves: list[int] = []
        self._first: dict[int, int] = {}  # unit -> its first operation of the pass on the compute stream

    def add(self, items: Iterable[Item], host_ps: int) -> list[tuple[int, int, int]]:
        """Add it; returns (unit, first, last) of every unit. It is over when the host has launched it, too."""
        state, begin = self._state, len(self._rows.rows)
        hosts = [self._launch(unit, host_ps, HOST_STREAM) for unit in self._units] if host_ps else []
        for item in items:
            self._add_item(item)
        for unit, number in zip(self._units, hosts, strict=False):
            state.wait[unit] = [*state.wait[unit], number]
        for unit in self._units:
            if state.wait[unit] or state.last.get(unit, -1) < begin:  # nothing to compute, or something still beside
                self._compute(unit, Work(_PURPOSE[self._action.kind], 0))
        return [(unit, self._first[unit], state.last[unit]) for unit in self._units]

    def _launch(self, unit: int, duration_ps: int, stream: str) -> int:
        """Work beside what the unit computes, from where it stands now; streams of it are called as their purpose."""
        program, state = self._program, self._state
        row = (unit, duration_ps, NOTHING, program.streams[stream], -1 - self._part, program.purposes[stream])
        return self._rows.add(row, [*state.wait[unit], *self._stands(unit)])

    def _compute(self, unit: int, work: Work) -> None:
        program, state = self._program, self._state
        label, purpose = -1 - self._part, program.purposes[work.kind]
        row = (unit, work.duration_ps, NOTHING, program.streams[COMPUTE_STREAM], label, purpose)
        self._stand(unit, self._rows.add(row, state.wait[unit]))

    def _stand(self, unit: int, number: int) -> None:
        """An operation on the unit's compute stream."""
        self._state.last[unit], self._state.wait[unit] = number, []
        self._first.setdefault(unit, number)

    def _add_item(self, item: Item) -> None:
        match item:
            case Work():
                for unit in self._units:
                    self._compute(unit, item)
            case Call():
                self._add_call(item)
            case Begin():
                self._prefetch(item.layer)
            case End():
                self._layer_done()
                if self._final or sends_each(self._plan, self._action):
                    self._send_gradients(item.layer)
            case Move():
                self._moves = [self._launch(unit, item.duration_ps, COPY_STREAM) for unit in self._units]
            case Landed():
                for unit, number in zip(self._units, self._moves, strict=True):
                    self._state.wait[unit] = [*self._state.wait[unit], number]
            case Join():
                for unit in self._units:
                    self._state.wait[unit] = self._state.wait[unit] + self._state.beside[unit]
                    self._state.beside[unit] = []

    def _add_call(self, item: Call) -> None:
        """On the compute stream, or beside it from where its units stand now."""
        state = self._state
        if not item.beside:
            done = self._ways.collectives(item.traffic, self._position, COMPUTE_STREAM, state.wait)
            for unit, number in done.items():
                self._stand(unit, number)
            return
        after = {unit: state.wait[unit] + self._stands(unit) for unit in self._units}
        for unit, number in self._ways.collectives(item.traffic, self._position, "beside", after).items():
            state.beside[unit].append(number)

    def _stands(self, unit: int) -> list[int]:
        """The latest operation on the unit's compute stream, if there is one."""
        return [self._state.last[unit]] if unit in self._state.last else []

    def _prefetch(self, layer: int) -> None:
        """What a layer that begins needs of ZeRO 3: its weights, and behind them those of the next to be fetched."""
        if self._plan.zero != 3 or self._action.kind is Pass.WEIGHT:
            return
        numbers = [one.number for one in self._stage.layers]
        if self._action.kind is not Pass.FORWARD:
            numbers.reverse()
        place, state = numbers.index(layer), self._state
        if place == 0:
            self._fetched = self._gather(layer, {unit: ends[:1] for unit, ends in state.layers.items() if ends[1:]})
        for unit, fetched in self._fetched.items():
            state.wait[unit] = [*state.wait[unit], *fetched]
        if place + 1 < len(numbers):
            self._fetched = self._gather(numbers[place + 1], {unit: ends[-1:] for unit, ends in state.layers.items()})

    def _gather(self, layer: int, before: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
        """Fetch a layer once what stands before it is through; returns unit -> operations."""
        found: dict[int, list[int]] = {unit: [] for unit in self._units}
        for one in self._stage.gathers("forward" if self._action.kind is Pass.FORWARD else "backward", layer):
            for unit, number in self._ways.collectives(one, self._position, "data", before).items():
                found[unit].append(number)
        return found

    def _layer_done(self) -> None:
        for unit in self._units:
            self._state.layers[unit] = (*self._state.layers[unit], *self._stands(unit))[-2:]

    def _send_gradients(self, layer: int) -> None:
        after, sent = {unit: self._stands(unit) for unit in self._units}, self._stage.gradients(layer)
        own = [one for one in sent if one.group != "pp-ends"]
        if self._final and len(own) < len(sent):
            self._state.ends.update(after)
        if self._plan.stale_gradients or not self._plan.overlap_gradients:
            return
        for unit, number in self._ways.gradients(own, self._position, after):
            self._state.data[unit].append(number)
