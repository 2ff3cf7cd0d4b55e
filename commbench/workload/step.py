# SPDX-License-Identifier: Apache-2.0
"""From a training step's plan to its program: pipeline passes, their collectives, gradients, optimizer.

Rules, beside those of the pipeline schedule and of ``step_passes``:

* A pass runs on (unit, "compute"), and so do the collectives that nothing runs beside: a unit does one thing at a time.
* A stage's output goes to the neighbouring stage on a stream of its own (``pipeline.lower``).
* Gradients of a bucket are sent on (unit, "data") when the last pass that adds to them has left the layer that the
  bucket waits for. They run beside the backward pass of the layers before it. Under ZeRO 2 and 3, which keep no more
  than a rank's own share of the gradients, every microbatch's are sent.
* ZeRO 3 gathers a layer on (unit, "gather") once the layer two before it is through: one layer computes, the next is
  fetched, and what is reduced on (unit, "data") goes beside both. What comes after a pass that sent gradients, the
  gathers too, waits until these are reduced, as in FSDP and DeepSpeed: a rank has no room for the gradients of two.
* The optimizer follows when all gradients are there: it reads gradients, reads and writes its state and writes the
  parameters, at the memory's bandwidth. ZeRO 1 and 2 gather the parameters behind it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from commbench.errors import InputError
from commbench.program.ir import Compute, CoupledCall, Operation, Pattern, Program, ranks_of
from commbench.units import PS_PER_S
from commbench.workload.compute import work_seconds
from commbench.workload.operators import Work as Cost
from commbench.workload.operators import stage_operators
from commbench.workload.pipeline.check import lockstep
from commbench.workload.pipeline.schedule import Action, Pass, Result, gives, needs
from commbench.workload.pipeline.schedule import Step as PipelineStep
from commbench.workload.step_passes import Begin, Call, End, Item, Join, Work, merged, pass_items, stage_layers
from commbench.workload.step_plan import StepPlan
from commbench.workload.step_units import Class, Folding, Patterns, Units
from commbench.workload.traffic import Traffic, boundary_bytes

__all__ = ["COMMUNICATION", "COMPUTING", "MOST_OPERATIONS", "PassSpan", "Step", "build_step"]

COMPUTING = ("forward", "recompute", "backward", "optimizer")
COMMUNICATION = ("tensor", "context", "expert", "pipeline", "data", "zero")


@dataclass(frozen=True, slots=True)
class PassSpan:
    """A pass on a unit: it begins with operation ``first`` of the program and ends with operation ``last``."""

    unit: int
    action: Action
    first: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A training step as a program.

    Attributes:
        plan: what it was made from.
        units: what the ranks of the program stand for.
        program: its operations.
        kinds: of every operation, one of COMPUTING or COMMUNICATION.
        passes: where the passes of the pipeline schedule are.
    """

    plan: StepPlan
    units: Units
    program: Program
    kinds: tuple[str, ...]
    passes: tuple[PassSpan, ...]


def build_step(plan: StepPlan, folding: Folding | None = None) -> Step:
    """The program of a step; ``folding`` None folds all that can be.

    Raises:
        InputError: a shape or a device that does not serve, or an algorithm that cannot serve a group.
        ScheduleError: the pipeline schedule deadlocks.
    """
    units = Units(plan.degrees, folding or Folding.whole(plan.degrees))
    build = _Builder(plan, units)
    steps = [(position, step) for row in lockstep(plan.schedule) for position, step in enumerate(row) if step]
    for number, (position, step) in enumerate(steps, start=1):
        build.add_step(position, step)
        if number % _LOOK_EVERY == 0:
            _check_size(len(build.operations) * len(steps) // number, folded=units.per_position == 1)
    build.add_ends()
    for position in range(plan.degrees.pp):
        build.add_optimizer(position)
    return Step(plan, units, Program(units.num_units, tuple(build.operations)), tuple(build.kinds), tuple(build.passes))


_LOOK_EVERY = 64  # steps of the pipeline: enough for an estimate of all
MOST_FOLDED = 300_000  # operations of a folded step: 20 s or so
MOST_OPERATIONS = 2_000_000
"""Of a step's program: a minute and 2 GiB or so."""


def _check_size(operations: int, *, folded: bool) -> None:
    """Raise for a program that would become too large."""
    most = MOST_FOLDED if folded else MOST_OPERATIONS
    if operations > most:
        raise InputError(
            f"the step would be about {operations:,} operations, more than {most:,}: give fewer microbatches "
            "(--global-batch) or ranks; the time of a step grows evenly with its microbatches"
        )


class _Builder:
    """Collects operations; remembers what everything still to come must wait for."""

    def __init__(self, plan: StepPlan, units: Units) -> None:
        self.plan, self.units = plan, units
        self.patterns = Patterns(units, plan.ranks_per_host, dict(plan.algorithms))
        self.operations: list[Operation] = []
        self.kinds: list[str] = []
        self.passes: list[PassSpan] = []
        self._stages = [_Stage(plan, stage) for stage in range(len(plan.layers))]
        self._brings: dict[tuple[Result, int], dict[int, list[int]]] = {}  # (result, position) -> unit -> operations
        self._last: dict[int, int] = {}  # unit -> its latest operation on the compute stream
        self._wait: dict[int, list[int]] = {unit: [] for unit in range(units.num_units)}  # what its next one waits for
        self._beside: dict[int, list[int]] = {unit: [] for unit in range(units.num_units)}
        self._data: dict[int, list[int]] = {unit: [] for unit in range(units.num_units)}  # gradients on their way
        self._done: dict[int, deque[int]] = {}  # unit -> ends of its last two layers, for ZeRO 3
        self._ends: dict[int, list[int]] = {}  # unit -> where gradients of a tied embedding are there
        self._durations: dict[tuple[Cost, bool], int] = {}
        self._items: dict[tuple[int, Pass, bool], tuple[Item, ...]] = {}
        self._final = _final_passes(plan)

    # -- operations

    def _append(self, operation: Operation, kind: str) -> int:
        self.operations.append(operation)
        self.kinds.append(kind)
        return len(self.operations) - 1

    def _compute(self, unit: int, work: Work, label: str) -> None:
        after, self._wait[unit] = tuple(self._wait[unit]), []
        self._last[unit] = self._append(
            Compute(rank=unit, duration_ps=work.duration_ps, after=after, label=label), work.kind
        )

    def _call(self, of: Class, pattern: Pattern, kind: str, stream: str, after: Iterable[int]) -> int:
        return self._append(
            CoupledCall(ranks=of.units, pattern=pattern, stream=stream, after=tuple(after), label=pattern.name), kind
        )

    def _collectives(
        self, one: Traffic, position: int, stream: str, after: dict[int, list[int]] | None = None
    ) -> dict[int, int]:
        """One collective of every class of groups; returns unit -> operation."""
        done = {}
        for of in self.patterns.classes(one.group, position):
            name = f"{one.kind} {one.collective} at position {position}"
            pattern = self.patterns.collective(name, of, one.collective, one.size_bytes)
            waits = [number for unit in of.units for number in (after or {}).get(unit, ())]
            number = self._call(of, pattern, one.kind, stream, waits)
            done.update(dict.fromkeys(of.units, number))
        return done

    # -- passes

    def add_step(self, position: int, step: PipelineStep) -> None:
        """One step of a position: a pass, or two that overlap, one behind the other from where both have their inputs
        to where both results go off.
        """
        for action in step.parts:
            for result in needs(action, len(self._stages)):
                for unit, numbers in self._brings.get((result, position), {}).items():
                    self._wait[unit] += numbers
        for action in step.parts:
            self._add_pass(position, action)
        for action in step.parts:
            self._send(position, action)
        if self.plan.zero == 3 and any(self._sends_each(action) for action in step.parts):
            self._await_gradients(position)

    def _add_pass(self, position: int, action: Action) -> None:
        """One pass on all units of a position, with what its gradients set off."""
        units = self.units.at(position)
        begin = len(self.operations)
        final = self._final[action.stage] == action
        for item in self._items_of(action, final):
            self._add_item(item, position, action, final)
        for unit in units:
            if self._wait[unit] or self._last.get(unit, -1) < begin:  # nothing to compute, or something still beside
                self._compute(unit, Work(_KINDS[action.kind], 0), str(action))
        self._note_pass(units, action, begin)

    def _note_pass(self, units: range, action: Action, begin: int) -> None:
        first: dict[int, int] = {}
        for number in range(begin, len(self.operations)):
            operation = self.operations[number]
            if operation.stream == "compute":
                for unit in ranks_of(operation):
                    first.setdefault(unit, number)
        self.passes += [PassSpan(unit, action, first[unit], self._last[unit]) for unit in units]

    def _items_of(self, action: Action, final: bool) -> tuple[Item, ...]:
        marks = final or self._sends_each(action) or (self.plan.zero == 3 and action.kind is not Pass.WEIGHT)
        key = (action.stage, action.kind, marks)
        if key not in self._items:
            layers = self._stages[action.stage].layers
            items = pass_items(layers, self.plan.run, action.kind, self._lasts, overlap=self.plan.overlap_tensor)
            self._items[key] = merged(items, marks=marks)
        return self._items[key]

    def _lasts(self, work: Cost, core: bool) -> int:
        key = (work, core)
        if key not in self._durations:
            plan = self.plan
            dtype = plan.run.formats.products if work.layer_product else plan.run.formats.others
            time_s = work_seconds(work, plan.device, dtype, plan.efficiency, core=core)
            self._durations[key] = round(time_s * PS_PER_S)
        return self._durations[key]

    def _add_item(self, item: Item, position: int, action: Action, final: bool) -> None:
        units = self.units.at(position)
        match item:
            case Work():
                for unit in units:
                    self._compute(unit, item, str(action))
            case Call():
                self._add_call(item, position)
            case Begin():
                if self.plan.zero == 3 and action.kind is not Pass.WEIGHT:
                    when = "forward" if action.kind is Pass.FORWARD else "backward"
                    self._gather(self._stages[action.stage].gathers(when, item.layer), position)
            case End():
                self._layer_done(units)
                if final or self._sends_each(action):
                    self._send_gradients(position, action.stage, item.layer, final=final)
            case Join():
                self._join(units)

    def _add_call(self, item: Call, position: int) -> None:
        """On the compute stream, or beside it from where its units stand now."""
        if not item.beside:
            for unit, number in self._collectives(item.traffic, position, "compute", self._wait).items():
                self._last[unit], self._wait[unit] = number, []
            return
        after = {unit: self._wait[unit] + self._stands(unit) for unit in self.units.at(position)}
        for unit, number in self._collectives(item.traffic, position, "beside", after).items():
            self._beside[unit].append(number)

    def _join(self, units: range) -> None:
        for unit in units:
            self._wait[unit] += self._beside[unit]
            self._beside[unit] = []

    def _stands(self, unit: int) -> list[int]:
        """The latest operation on the unit's compute stream, if there is one."""
        return [self._last[unit]] if unit in self._last else []

    def _gather(self, traffic: Sequence[Traffic], position: int) -> None:
        """Fetch a layer once the one two before it is through."""
        done = {unit: list(self._done.get(unit, ())) for unit in self.units.at(position)}
        before = {unit: ends[:1] for unit, ends in done.items() if len(ends) == 2}
        for one in traffic:
            for unit, number in self._collectives(one, position, "gather", before).items():
                self._wait[unit].append(number)

    def _layer_done(self, units: range) -> None:
        for unit in units:
            self._done.setdefault(unit, deque(maxlen=2)).extend(self._stands(unit))

    # -- gradients and optimizer

    def _sends_each(self, action: Action) -> bool:
        """Whether the gradients of each microbatch are sent."""
        return self.plan.zero >= 2 and action.kind in (Pass.BACKWARD, Pass.WEIGHT)

    def _send_gradients(self, position: int, stage: int, layer: int, *, final: bool) -> None:
        after = {unit: self._stands(unit) for unit in self.units.at(position)}
        for one in self._stages[stage].gradients(layer):
            if one.group == "pp-ends":
                if final:
                    self._ends.update(after)
                continue
            for unit, number in self._collectives(one, position, "data", after).items():
                self._data[unit].append(number)

    def _await_gradients(self, position: int) -> None:
        """Nothing of a later pass, gathers included, begins before this one's gradients are reduced."""
        units = self.units.at(position)
        for unit in units:
            self._wait[unit] += self._data[unit]
            self._data[unit] = []
            self._compute(unit, Work("backward", 0), "gradients reduced")
        self._layer_done(units)
        self._layer_done(units)  # twice: a gather waits for the one two before it

    def add_ends(self) -> None:
        """The tied embedding's gradients, between the first and the last position."""
        holder = self.plan.schedule.rank_of_stage
        if holder[0] == holder[-1]:  # both ends on one rank: it adds them by itself
            return
        for one in (one for one in self._stages[0].traffic if one.group == "pp-ends"):
            for unit, number in self._collectives(one, 0, "ends", self._ends).items():
                self._data[unit].append(number)

    def add_optimizer(self, position: int) -> None:
        """The optimizer of a position's units, and the parameters that are gathered behind it."""
        stages = [self._stages[stage] for stage in self.plan.schedule.stages_of(position)]
        lasts = sum(stage.optimizer_ps for stage in stages)
        for unit in self.units.at(position):
            self._wait[unit] += self._data[unit]
            self._compute(unit, Work("optimizer", lasts), "optimizer")
        after = {unit: [self._last[unit]] for unit in self.units.at(position)}
        for stage in stages:
            for one in stage.traffic:
                if one.when == "step":
                    self._collectives(one, position, "data", after)

    # -- between stages

    def _send(self, position: int, action: Action) -> None:
        """Bring an action's result to its own position and to the stage that waits for it."""
        result = gives(action)
        if result is None:
            return
        there = {unit: [self._last[unit]] for unit in self.units.at(position)}
        self._brings[result, position] = there
        to_stage = action.stage + (1 if action.kind is Pass.FORWARD else -1)
        if not 0 <= to_stage < len(self._stages):
            return
        peer = self.plan.schedule.rank_of_stage[to_stage]
        if peer != position:
            there = self._transfer(position, peer, f"stage {action.stage} to {to_stage}", there)
        self._brings[result, peer] = there

    def _transfer(self, src: int, dst: int, name: str, ready: dict[int, list[int]]) -> dict[int, list[int]]:
        plan, arrived = self.plan, dict[int, list[int]]()
        whole = boundary_bytes(plan.model, plan.run)
        size = -(-whole // plan.degrees.tp) if plan.scatter_gather else whole
        receivers = set(self.units.at(dst))
        for of in self.patterns.pairs(src, dst):
            after = [number for unit in of.units for number in ready.get(unit, ())]
            number = self._call(of, self.patterns.transfer(f"pipeline {name}", of, size), "pipeline", name, after)
            arrived.update({unit: [number] for unit in of.units if unit in receivers})
        if plan.scatter_gather and plan.degrees.tp > 1:
            gather = Traffic(kind="pipeline", group="tp", collective="all-gather", size_bytes=whole, when="forward")
            done = self._collectives(gather, dst, f"gather of {name}", arrived)
            arrived = {unit: [number] for unit, number in done.items()}
        return arrived


_KINDS = {Pass.FORWARD: "forward", Pass.BACKWARD: "backward", Pass.INPUT: "backward", Pass.WEIGHT: "backward"}


def _final_passes(plan: StepPlan) -> dict[int, Action]:
    """Per stage the pass that adds the last gradients."""
    final = {}
    for _, _, action in plan.schedule.actions():
        if action.kind in (Pass.BACKWARD, Pass.WEIGHT):
            final[action.stage] = action
    return final


class _Stage:
    """One stage: its layers, what it sends for data parallelism, and how long its optimizer takes."""

    def __init__(self, plan: StepPlan, stage: int) -> None:
        first, last, count = stage == 0, stage == len(plan.layers) - 1, plan.layers[stage]
        self.layers = stage_layers(plan.model, plan.run, count, first=first, last=last)
        self.traffic = plan.traffic(stage)
        moved = 0.0
        per_parameter = (
            plan.precision.gradient_bytes + 2 * plan.precision.optimizer_bytes + plan.precision.parameter_bytes
        )
        for op in stage_operators(plan.model, plan.run, count, first=first, last=last):
            shards = plan.degrees.edp if op.expert else plan.degrees.dp * plan.degrees.cp
            moved += op.parameters * per_parameter / (shards if plan.zero else 1)
        bandwidth = plan.device.memory_bytes_per_s * plan.efficiency.memory
        self.optimizer_ps = round(moved / bandwidth * PS_PER_S)

    def gathers(self, when: str, layer: int) -> list[Traffic]:
        """What ZeRO 3 fetches before a layer."""
        return [t for t in self.traffic if (t.when, t.layer, t.collective) == (when, layer, "all-gather")]

    def gradients(self, layer: int) -> list[Traffic]:
        """What is sent once a layer's gradients are there."""
        return [t for t in self.traffic if t.when == "backward" and t.layer == layer and t.collective != "all-gather"]
