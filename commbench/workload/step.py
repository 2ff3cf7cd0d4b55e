# SPDX-License-Identifier: Apache-2.0
"""From a training step's plan to its program: pipeline passes, their collectives, gradients, optimizer.

Rules, beside those of the pipeline schedule and of ``step_passes``:

* A pass runs on (unit, "compute"), and so do the collectives that nothing runs beside: a unit does one thing at a time.
* Where the host takes longer to launch a pass than its work lasts, it does so on (unit, "host"), and the pass ends when
  both are through.
* A stage's output goes to the neighbouring stage on a stream of its own (``pipeline.lower``). With a software stack
  the sender waits until it is there, as Megatron's and torch's do, but for zero-bubble schedules: theirs run beside.
* Gradients of a bucket are sent on (unit, "data") when the last pass that adds to them has left the layer that the
  bucket waits for. They run beside the backward pass of the layers before it; where gradients are not overlapped,
  behind the last pass of the unit; where they are those of the step before, from the beginning. Under ZeRO 2 and 3,
  which keep no more than a rank's own share of the gradients, every microbatch's are sent.
* ZeRO 3 gathers a layer once the layer two before it is through: one layer computes, the next is fetched beside it.
  That too is on (unit, "data"), before what the computing layer will send: gathers and reductions are calls of the same
  communicator, which runs one after the other; sums over groups that hold the same (``zero_group``) are those of
  another, and run beside. What comes after a pass that sent gradients, the
  gathers too, waits until these are reduced, as in FSDP and DeepSpeed: a rank has no room for the gradients of two.
* The optimizer follows when all gradients are there: it reads gradients, reads and writes its state and writes the
  parameters, at the memory's bandwidth. ZeRO 1 and 2 gather the parameters behind it, or, where they are overlapped,
  those of the step before from the beginning on: a stage's first forward pass waits for its first bucket, and what
  follows that pass for the others.
* What lies in host memory goes there and back as ``offload`` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.errors import InputError
from commbench.program.operations import Program, ProgramBuilder
from commbench.units import PS_PER_S
from commbench.workload.operators import stage_operators
from commbench.workload.pipeline.check import lockstep
from commbench.workload.pipeline.lower import Deliveries, boundary
from commbench.workload.pipeline.schedule import Action, Pass
from commbench.workload.pipeline.schedule import Step as PipelineStep
from commbench.workload.step_block import BlockMaker, PassSpan, StepState, sends_each
from commbench.workload.step_passes import Work, stage_layers
from commbench.workload.step_plan import StepPlan
from commbench.workload.step_units import Communications, Folding, Units
from commbench.workload.step_ways import Ways
from commbench.workload.traffic import Traffic, boundary_bytes

__all__ = ["COMMUNICATION", "COMPUTING", "HOST", "MOST_OPERATIONS", "Step", "build_step"]

COMPUTING = ("forward", "recompute", "backward", "optimizer")
HOST = "host"
COMMUNICATION = ("tensor", "context", "expert", "pipeline", "data", "zero", "offload")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A training step as a program.

    Attributes:
        plan: what it was made from.
        units: what the ranks of the program stand for.
        program: its operations; the purpose of each is one of COMPUTING, COMMUNICATION or HOST.
        passes: where the passes of the pipeline schedule are.
    """

    plan: StepPlan
    units: Units
    program: Program
    passes: tuple[PassSpan, ...]


def build_step(plan: StepPlan, folding: Folding | None = None) -> Step:
    """The program of a step; ``folding`` None folds all that can be.

    Raises:
        InputError: a shape or a device that does not serve.
        ScheduleError: the pipeline schedule deadlocks.
    """
    units = Units(plan.degrees, folding or Folding.whole(plan.degrees))
    build = _Builder(plan, units)
    build.add_gathers()
    steps = [(position, step) for row in lockstep(plan.schedule) for position, step in enumerate(row) if step]
    for number, (position, step) in enumerate(steps, start=1):
        build.add_step(position, step)
        if number % _LOOK_EVERY == 0:
            _check_size(len(build.program) * len(steps) // number, folded=units.per_position == 1)
    build.add_ends()
    for position in range(plan.degrees.pp):
        build.add_optimizer(position)
    return Step(plan, units, build.program.build(), tuple(build.passes))


_LOOK_EVERY = 64  # steps of the pipeline: enough for an estimate of all
MOST_FOLDED = 1_200_000  # operations of a folded step: a minute and 1 GiB or so
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


Ready = dict[int, list[int]]
"""Unit -> operations that it waits for."""


class _Builder:
    """Puts the blocks of a step one behind the other; remembers what everything still to come must wait for."""

    def __init__(self, plan: StepPlan, units: Units) -> None:
        self.plan, self.units = plan, units
        self.program = ProgramBuilder(units.num_units, units.of_rank)
        self.passes: list[PassSpan] = []
        last = len(plan.layers) - 1
        shapes = [(kinds, stage == 0, stage == last) for stage, kinds in enumerate(plan.kinds)]
        each = {shape: _Stage(plan, shapes.index(shape)) for shape in dict.fromkeys(shapes)}
        self._stages = [each[shape] for shape in shapes]
        communications = Communications(units)
        self._blocks = BlockMaker(plan, units, self.program, communications, self._stages)
        self._communications = communications
        self._ways = Ways(self.program, communications)
        self._state = StepState.empty(range(units.num_units))
        self._final = _final_passes(plan)
        self._deliveries: Deliveries[Ready] = Deliveries(plan.schedule, self._send)
        self._gathers: dict[int, list[Ready]] = {}  # of a stage's parameters

    def add_gathers(self) -> None:
        """The parameters that the optimizers of the step before have changed, stage by stage."""
        if not self.plan.overlap_parameters:
            return
        for stage, position in enumerate(self.plan.schedule.rank_of_stage):
            for one in (one for one in self._stages[stage].traffic if one.when == "step"):
                done = self._ways.collectives(one, position, "data")
                self._gathers.setdefault(stage, []).append({unit: [number] for unit, number in done.items()})

    def add_step(self, position: int, step: PipelineStep) -> None:
        """One step of a position: a pass, or two that overlap, one behind the other from where both have their inputs
        to where both results go off.
        """
        state = self._state
        for ready in self._deliveries.wanted(position, step):
            for unit, numbers in ready.items():
                state.wait[unit] += numbers
        gathers = [
            self._gathers.get(action.stage, [])
            for action in step.parts
            if (action.kind, action.microbatch) == (Pass.FORWARD, 0)
        ]
        self._await([ready for each in gathers for ready in each[:1]])
        finals = tuple(self._final[action.stage] == action for action in step.parts)
        block = self._blocks.block(position, step, finals, state)
        labels = [self.program.labels[str(action)] for action in step.parts]
        self.passes += block.place(self.program, state, step, labels)
        self._await([ready for each in gathers for ready in each[1:]])
        for action in step.parts:
            self._deliveries.deliver(position, action, {unit: [state.last[unit]] for unit in self.units.at(position)})
        if self.plan.zero == 3 and any(sends_each(self.plan, action) for action in step.parts):
            self._await_gradients(position)

    def _await(self, gathers: Sequence[Ready]) -> None:
        """What comes next waits for these."""
        for ready in gathers:
            for unit, numbers in ready.items():
                self._state.wait[unit] += numbers

    def _await_gradients(self, position: int) -> None:
        """Nothing of a later pass, gathers included, begins before this one's gradients are reduced."""
        state = self._state
        for unit in self.units.at(position):
            state.wait[unit] += state.data[unit]
            state.data[unit] = []
            self._compute(unit, Work("backward", 0), "gradients reduced")
            state.layers[unit] = (state.last[unit], state.last[unit])  # a gather waits for the one two before it

    def add_ends(self) -> None:
        """The tied embedding's gradients, between the first and the last position."""
        holder = self.plan.schedule.rank_of_stage
        if holder[0] == holder[-1]:  # both ends on one rank: it adds them by itself
            return
        for one in (one for one in self._stages[0].traffic if one.group == "pp-ends"):
            for unit, number in self._ways.collectives(one, 0, "ends", self._state.ends).items():
                self._state.data[unit].append(number)

    def add_optimizer(self, position: int) -> None:
        """The optimizer of a position's units, and the parameters that are gathered behind it."""
        stages = [self._stages[stage] for stage in self.plan.schedule.stages_of(position)]
        state = self._state
        if self.plan.stale_gradients or not self.plan.overlap_gradients:
            self._send_gradients(position, stages)
        for unit in self.units.at(position):
            state.wait[unit] += state.data[unit]
            for parts in zip(*(stage.optimizer for stage in stages), strict=True):
                lasts = sum(part.duration_ps for part in parts)
                self._compute(unit, Work(parts[0].kind, lasts), "optimizer")
        after = {unit: [state.last[unit]] for unit in self.units.at(position)}
        for stage in stages:
            for one in stage.traffic:
                if one.when == "step" and not self.plan.overlap_parameters:
                    self._ways.collectives(one, position, "data", after)

    def _send_gradients(self, position: int, stages: "Sequence[_Stage]") -> None:
        """All gradients of a position behind its last pass; those of the step before wait for nothing."""
        waits = not self.plan.stale_gradients
        after = {unit: [self._state.last[unit]] if waits else [] for unit in self.units.at(position)}
        for stage in stages:
            sent = [one for one in stage.traffic if one.when == "backward" and one.group != "pp-ends"]
            for unit, number in self._ways.gradients(sent, position, after):
                self._state.data[unit].append(number)

    def _compute(self, unit: int, work: Work, label: str) -> None:
        state = self._state
        after, state.wait[unit] = state.wait[unit], []
        state.last[unit] = self.program.compute(unit, work.duration_ps, after=after, label=label, purpose=work.kind)

    def _send(self, src: int, dst: int, action: Action, ready: Ready) -> Ready:
        """Bring a result to another position."""
        plan, arrived, name = self.plan, Ready(), boundary(action)
        whole = boundary_bytes(plan.model, plan.run)
        size = -(-whole // plan.degrees.tp) if plan.scatter_gather else whole
        receivers = set(self.units.at(dst))
        for of in self._communications.pairs(src, dst):
            after = [number for unit in of.units for number in ready.get(unit, ())]
            what = self._communications.transfer(f"pipeline {name}", of, size)
            number = self.program.communicate(what, stream=name, after=after, purpose="pipeline")
            if plan.sender_waits:
                for unit in set(of.units) - receivers:
                    self._state.wait[unit].append(number)
            arrived.update({unit: [number] for unit in of.units if unit in receivers})
        if plan.scatter_gather and plan.degrees.tp > 1:
            gather = Traffic(kind="pipeline", group="tp", collective="all-gather", size_bytes=whole, when="forward")
            done = self._ways.collectives(gather, dst, f"gather of {name}", arrived)
            arrived = {unit: [number] for unit, number in done.items()}
        return arrived


def _final_passes(plan: StepPlan) -> dict[int, Action]:
    """Per stage the pass that adds the last gradients."""
    final = {}
    for _, _, action in plan.schedule.actions():
        if action.kind in (Pass.BACKWARD, Pass.WEIGHT):
            final[action.stage] = action
    return final


class _Stage:
    """Stages with the same kinds of layers, the first, the last or in between: their layers, what they send for data
    parallelism, and how long their optimizer takes.
    """

    def __init__(self, plan: StepPlan, stage: int) -> None:
        first, last, kinds = stage == 0, stage == len(plan.layers) - 1, plan.kinds[stage]
        self.layers = stage_layers(plan.model, plan.run, kinds, first=first, last=last)
        self.traffic = plan.traffic(stage)
        own = stage_operators(plan.model, plan.run, kinds, first=first, last=last)
        dense, expert = (sum(op.parameters for op in own if op.expert is which) for which in (False, True))
        self.parameters = dense + expert
        host_s = 0.0
        if plan.stack is not None:
            shared = plan.zero_ranks if plan.zero in (1, 2) else 0
            host_s = plan.stack.host_step_s / len(plan.schedule.stages_of(0)) + plan.stack.zero_rank_s * shared
        parts = plan.optimizer_parts(dense, expert)
        works = max(number for number, (kind, _) in enumerate(parts) if kind != "offload")  # beside the host
        self.optimizer = tuple(
            Work(kind, round((time_s + (host_s if number == works else 0.0)) * PS_PER_S))
            for number, (kind, time_s) in enumerate(parts)
        )

    def gathers(self, when: str, layer: int) -> list[Traffic]:
        """What ZeRO 3 fetches before a layer."""
        return [t for t in self.traffic if (t.when, t.layer, t.collective) == (when, layer, "all-gather")]

    def gradients(self, layer: int) -> list[Traffic]:
        """What is sent once a layer's gradients are there."""
        return [t for t in self.traffic if t.when == "backward" and t.layer == layer and t.collective != "all-gather"]
