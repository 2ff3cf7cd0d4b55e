# SPDX-License-Identifier: Apache-2.0
"""Memory of a rank by kind, at its worst moment.

Bytes per parameter come from a named recipe (:data:`PRECISIONS`). ZeRO (arXiv 1910.02054, section 5) divides, over the
ranks that hold the same weights, the optimizer's state (1), also the gradients (2), also the parameters (3); Megatron's
distributed optimizer is ZeRO 1. Dense weights are divided over dp x cp, experts over the expert-data-parallel ranks.

Activations are what the pipeline schedule holds at its worst moment, from the stages' own bytes. The worst moment of
all is in the loss, in a layer's backward pass, or in the optimizer's step, when activations are gone. What the software
adds (context, communicators, the allocator's fragments) is that of its stack (:mod:`stack_memory`), or left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType

from commbench.errors import InputError, unknown
from commbench.workload.cost import activation_bytes, layer_activation_bytes
from commbench.workload.groups import Degrees
from commbench.workload.offload import Offload
from commbench.workload.operators import head_operators, layer_operators, stage_operators
from commbench.workload.pipeline.check import peak_activations
from commbench.workload.pipeline.schedule import PipelineSchedule
from commbench.workload.stack_memory import StackMemory
from commbench.workload.transformer import Execution, Transformer, stage_kinds

__all__ = ["PRECISIONS", "MemoryUse", "Precision", "get_precision", "memory_per_rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes per parameter.

    Attributes:
        name: as users type it. source: where the recipe is described.
        parameter_bytes: weights that passes read. gradient_bytes: gradients between steps.
        optimizer_bytes: master weights and moments, and what the step makes.
        step_bytes: of the optimizer's, what exists during its step only.
        unsummed_bytes: gradients of a microbatch beside those that are added up in another format.
    """

    name: str
    source: str
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    step_bytes: int = 0
    unsummed_bytes: int = 0


_ZERO = "arXiv 1910.02054, section 3.1: FP16 weights and gradients; FP32 weights, momentum and variance"
_MEGATRON = "Megatron-LM core docs, distributed optimizer, table of bytes per parameter"
_PRECISIONS = (
    Precision(name="mixed-adam", source=_ZERO, parameter_bytes=2, gradient_bytes=2, optimizer_bytes=12),
    Precision(
        name="megatron-bf16",
        source=f"{_MEGATRON}: bf16 parameters, fp32 gradients, 18 = 6 + 12/d",
        parameter_bytes=2,
        gradient_bytes=4,
        optimizer_bytes=12,
    ),
    Precision(
        name="megatron-fp16",
        source=f"{_MEGATRON}: fp16 parameters and gradients, 20 = 4 + 16/d (with an FP32 copy of the gradients)",
        parameter_bytes=2,
        gradient_bytes=2,
        optimizer_bytes=16,
        step_bytes=4,
    ),
    Precision(
        name="deepspeed-bf16",
        source="DeepSpeed, runtime/bf16_optimizer.py: bf16 parameters and gradients, gradients added up in fp32",
        parameter_bytes=2,
        gradient_bytes=4,
        optimizer_bytes=12,
        unsummed_bytes=2,
    ),
    Precision(
        name="fp32-adam",
        source=f"{_MEGATRON}: fp32 parameters and gradients, 16 = 8 + 8/d",
        parameter_bytes=4,
        gradient_bytes=4,
        optimizer_bytes=8,
    ),
)
PRECISIONS: Mapping[str, Precision] = MappingProxyType({precision.name: precision for precision in _PRECISIONS})


def get_precision(name: str) -> Precision:
    """The recipe of that name.

    Raises:
        InputError: the name is unknown; lists the known ones.
    """
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r} {unknown(name, PRECISIONS)}")
    return PRECISIONS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Bytes on one rank at its worst moment.

    Attributes:
        parameters, gradients, optimizer: see :class:`Precision`, after ZeRO.
        activations: kept for backward at the worst moment of the schedule.
        logits: of the last stage: what the loss keeps of every microbatch in flight, and needs for its own.
        workspace: for a moment only: what recomputation brings back of one layer; under ZeRO 3 the gathered weights of
            two layers (the one that computes and the next); under ZeRO 2 and 3 gradients that are being reduced.
        buffers: of communicators, and flat ones into which is copied what is sent.
        fragments: what the allocator holds and nothing can use.
        runtime: CUDA context, kernels, workspaces of libraries.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    logits: int = 0
    workspace: int = 0
    buffers: int = 0
    fragments: int = 0
    runtime: int = 0

    @property
    def total(self) -> int:
        """All kinds together."""
        held = self.parameters + self.gradients + self.optimizer + self.activations + self.logits
        return held + self.workspace + self.buffers + self.fragments + self.runtime

    @property
    def reserved(self) -> int:
        """What the framework's allocator has taken from the device, fragments among it."""
        return self.total - self.buffers - self.runtime

    @property
    def allocated(self) -> int:
        """What tensors are in."""
        return self.reserved - self.fragments

    def fits(self, capacity_bytes: int) -> bool:
        """Whether it fits into a device's memory."""
        return self.total <= capacity_bytes


@dataclass(frozen=True, slots=True)
class _Moments:
    """Bytes of a pipeline rank that come and go."""

    activations: int
    loss_kept: int
    loss: int
    layer: int
    gathered: int


def memory_per_rank(
    model: Transformer,
    run: Execution,
    schedule: PipelineSchedule,
    layers_per_stage: Sequence[int],
    degrees: Degrees,
    precision: Precision,
    *,
    zero: int,
    stack: StackMemory | None = None,
    unreduced: Sequence[int] = (),
    zero_group: int = 0,
    offload: Offload | None = None,
) -> tuple[MemoryUse, ...]:
    """Memory of every pipeline rank; the ranks of its tensor and data groups use as much.

    Args:
        model, run: what is trained, and how a rank executes it.
        schedule: the pipeline schedule.
        layers_per_stage: layers of every stage, from ``split_layers``.
        degrees: how many ranks hold the same weights.
        precision: bytes per parameter.
        zero: ZeRO stage, 0 to 3. zero_group: ranks that it divides dense weights over; 0: all that hold them.
        stack: what the software adds; None: nothing.
        unreduced: per stage, gradients that wait to be reduced; none where empty.
        offload: what lies in host memory instead (:func:`host_memory_per_rank`); None: nothing.

    Raises:
        InputError: an unknown ZeRO stage, stages or degrees that do not match, or a model that cannot be split so.
    """
    _check(run, schedule, layers_per_stage, degrees, zero)
    groups = sum(ranks > 1 for ranks in (degrees.tp, degrees.pp, degrees.dp * degrees.cp, degrees.cp, degrees.ep))
    uses = []
    layers = stage_kinds(model, tuple(layers_per_stage))
    moves = offload is not None and offload.activations
    divided = (zero == 3 and (zero_group or degrees.dp * degrees.cp) > 1, zero == 3 and degrees.edp > 1)
    moments = _moments(model, run, schedule, layers, precision, divided, stack, unreduced, moves=moves)
    for rank, moment in enumerate(moments):
        last = schedule.num_stages - 1
        weights = [
            _weights(model, run, layers[stage], stage == 0, stage == last)
            for stage in schedule.stages_of(rank)
        ]
        held = sum(dense for dense, _ in weights), sum(expert for _, expert in weights)
        states = _states(held, degrees, precision, zero, zero_group)
        if offload is not None and offload.optimizer:
            states = (*states[:2], 0, 0)
        use = _at_worst(moment, states, precision.unsummed_bytes * sum(held) if zero < 2 else 0)
        if stack is not None:
            use = replace(
                use,
                buffers=int(stack.communicator * groups + (stack.buckets if groups else 0)),
                fragments=int(stack.fragments * use.total),
                runtime=int(stack.context),
            )
        uses.append(use)
    return tuple(uses)


def _check(
    run: Execution, schedule: PipelineSchedule, layers_per_stage: Sequence[int], degrees: Degrees, zero: int
) -> None:
    if zero not in range(4):
        raise InputError(f"zero = {zero} is unknown; ZeRO stages are 0, 1, 2 and 3")
    if len(layers_per_stage) != schedule.num_stages or degrees.pp != schedule.num_ranks:
        raise InputError(
            f"pipeline schedule {schedule.name} has {schedule.num_stages} stages on {schedule.num_ranks} ranks; given "
            f"are layers of {len(layers_per_stage)} stages and pp {degrees.pp}"
        )
    if (run.tp, run.cp, run.ep) != (degrees.tp, degrees.cp, degrees.ep):
        raise InputError(
            f"the execution's tp, cp, ep {run.tp}, {run.cp}, {run.ep} are not those of the degrees "
            f"{degrees.tp}, {degrees.cp}, {degrees.ep}"
        )


def _weights(model: Transformer, run: Execution, layers: tuple[int, ...], first: bool, last: bool) -> tuple[int, int]:
    """Dense and expert parameters of a stage."""
    return _held(model, replace(run, micro_batch=1, recompute="none"), layers, first, last)


@lru_cache(maxsize=4096)
def _held(model: Transformer, run: Execution, layers: tuple[int, ...], first: bool, last: bool) -> tuple[int, int]:
    operators = stage_operators(model, run, layers, first=first, last=last)
    dense, expert = (sum(op.parameters for op in operators if op.expert is which) for which in (False, True))
    return dense, expert


_kept = lru_cache(maxsize=4096)(activation_bytes)  # of a stage and a microbatch


@lru_cache(maxsize=1024)
def _sizes(model: Transformer, run: Execution) -> tuple[int, int]:
    """What the loss keeps, and what recomputation brings back of a layer; of the largest."""
    loss = sum(op.saved_bytes for op in head_operators(model, run, own_weights=True) if op.name == "loss")
    layers = [layer_operators(model, run, kind) for kind in model.kinds]
    again = [sum(op.saved_bytes for op in layer) - layer_activation_bytes(model, run, layer) for layer in layers]
    return loss, max(again)


def _gathered(model: Transformer, run: Execution, divided: tuple[bool, bool]) -> int:
    """Parameters of the layer that has most of those which are ``divided``: dense, and of experts."""
    layers = [_weights(model, run, (kind,), False, False) for kind in model.kinds]
    return max(sum(count for count, which in zip(layer, divided, strict=True) if which) for layer in layers)


def _moments(
    model: Transformer, run: Execution, schedule: PipelineSchedule, stages: Sequence[tuple[int, ...]],
    precision: Precision, divided: tuple[bool, bool], stack: StackMemory | None, unreduced: Sequence[int], *,
    moves: bool,
) -> list[_Moments]:
    """Per pipeline rank what comes and goes; ``divided``: whether dense weights are, and experts; ``moves``: whether
    only the last layer of a stage keeps its own.
    """
    last = schedule.num_stages - 1
    loss_kept, again = _sizes(model, run)
    logits = run.tokens * -(-model.vocab // run.tp)
    loss = 0 if stack is None else max(0, int(stack.loss * logits) - loss_kept)
    sent = run.element_bytes * run.local_tokens * model.hidden if stack is not None and stack.outputs else 0
    kept = [
        _kept(model, run, layers[-1:] if moves else layers, first=stage == 0, last=stage == last)
        + (-loss_kept if stage == last else sent)
        for stage, layers in enumerate(stages)
    ]
    peaks = peak_activations(schedule, kept)
    of_loss = [loss_kept * (stage == last) for stage in range(last + 1)]
    in_flight = peak_activations(schedule, of_loss, for_weights=False)
    gathered = 2 * precision.parameter_bytes * _gathered(model, run, divided)
    moments = []
    for rank, (peak, losses) in enumerate(zip(peaks, in_flight, strict=True)):
        own = schedule.stages_of(rank)
        moving = max(_moving(model, run, stages[stage]) for stage in own) if moves else 0
        waiting = max((unreduced[stage] for stage in own), default=0) if unreduced else 0
        ends = _ends(model, run, 0 in own, last in own) if divided[0] and stack is not None and stack.root else 0
        whole = gathered + precision.parameter_bytes * ends
        moments.append(_Moments(peak, losses, loss if last in own else 0, again + waiting + moving, whole))
    return moments


def _ends(model: Transformer, run: Execution, first: bool, last: bool) -> int:
    """Parameters of embedding and head."""
    return sum(op.parameters for op in stage_operators(model, run, (), first=first, last=last))


@lru_cache(maxsize=1024)
def _of_layer(model: Transformer, run: Execution, kind: int) -> int:
    """What a layer of that kind keeps of a microbatch."""
    return layer_activation_bytes(model, run, layer_operators(model, run, kind))


def _moving(model: Transformer, run: Execution, layers: Sequence[int]) -> int:
    """What a stage with these layers has beside the last one's while others move: of a layer and the one before it."""
    sizes = [_of_layer(model, run, kind) for kind in layers]
    return max(map(sum, pairwise(sizes))) - sizes[-1] if len(sizes) > 1 else 0


def host_memory_per_rank(
    model: Transformer, run: Execution, schedule: PipelineSchedule, layers_per_stage: Sequence[int], degrees: Degrees,
    precision: Precision, offload: Offload, *, zero: int, zero_group: int = 0,
) -> dict[str, int]:
    """Bytes in host memory of the pipeline rank that has most there, by kind: the optimizer's state with the gradients
    that it reads, activations. Arguments as :func:`memory_per_rank` has them.
    """
    last, uses = schedule.num_stages - 1, list[dict[str, int]]()
    layers = stage_kinds(model, tuple(layers_per_stage))
    gone = [sum(_of_layer(model, run, kind) for kind in kinds[:-1]) for kinds in layers]
    for rank, activations in enumerate(peak_activations(schedule, gone)):
        found: dict[str, int] = {}
        if offload.optimizer:
            stages = schedule.stages_of(rank)
            weights = [_weights(model, run, layers[one], one == 0, one == last) for one in stages]
            held = sum(dense for dense, _ in weights), sum(expert for _, expert in weights)
            shares = _states(held, degrees, precision, max(zero, 2) if zero else 0, zero_group)
            found["optimizer"] = shares[1] + shares[2]
        if offload.activations:
            found["activations"] = activations
        uses.append(found)
    return max(uses, key=lambda one: sum(one.values()))


def _at_worst(moment: _Moments, states: tuple[int, int, int, int], unsummed: int) -> MemoryUse:
    """The worst of the moments: in the loss, in a layer's backward pass, in the optimizer's step; ``states`` from
    :func:`_states`, ``unsummed`` bytes of gradients that are yet to be added.
    """
    parameters, gradients, optimizer, stepping = states
    in_loss = moment.loss > moment.layer
    logits = moment.loss_kept + (moment.loss if in_loss else 0)
    workspace = moment.gathered + (0 if in_loss else moment.layer)
    if stepping > moment.activations + logits + workspace + unsummed:
        return MemoryUse(parameters=parameters, gradients=gradients, optimizer=optimizer, activations=0)
    return MemoryUse(
        parameters=parameters,
        gradients=gradients + unsummed,
        optimizer=optimizer - stepping,
        activations=moment.activations,
        logits=logits,
        workspace=workspace,
    )


def _states(
    weights: tuple[int, int], degrees: Degrees, precision: Precision, zero: int, zero_group: int
) -> tuple[int, int, int, int]:
    """Bytes of parameters, gradients and optimizer state, and of what the optimizer's step needs beside them;
    ``weights``: dense and expert parameters.
    """
    shards = zero_group or degrees.dp * degrees.cp, degrees.edp
    whole, divided = sum(weights), sum(-(-count // ranks) for count, ranks in zip(weights, shards, strict=True))
    sizes = precision.parameter_bytes, precision.gradient_bytes, precision.optimizer_bytes, precision.step_bytes
    of_3, of_2, of_1, stepping = (
        size * (divided if zero >= stage else whole) for size, stage in zip(sizes, (3, 2, 1, 1), strict=True)
    )
    return of_3, of_2, of_1, stepping
