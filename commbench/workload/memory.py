# SPDX-License-Identifier: Apache-2.0
"""Memory of a rank by kind: parameters, gradients, optimizer, activations, and what exists for a moment only.

Bytes per parameter come from a named recipe (:data:`PRECISIONS`). ZeRO (arXiv 1910.02054, section 5) divides, over the
ranks that hold the same weights, the optimizer's state (1), also the gradients (2), also the parameters (3); Megatron's
distributed optimizer is ZeRO 1. Dense weights are divided over dp x cp, experts over the expert-data-parallel ranks.

Activations are what the pipeline schedule holds at its worst moment, from the stages' own bytes. Left out: the
allocator's fragments, the CUDA context and NCCL's buffers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from commbench.errors import InputError, unknown
from commbench.workload.cost import activation_bytes, layer_activation_bytes
from commbench.workload.groups import Degrees
from commbench.workload.operators import Operator, layer_operators, stage_operators
from commbench.workload.pipeline.check import peak_activations
from commbench.workload.pipeline.schedule import PipelineSchedule
from commbench.workload.transformer import Execution, Transformer

__all__ = ["PRECISIONS", "MemoryUse", "Precision", "get_precision", "memory_per_rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes per parameter.

    Attributes:
        name: as users type it. source: where the recipe is described.
        parameter_bytes: weights that passes read. gradient_bytes: gradients between steps.
        optimizer_bytes: master weights and moments.
    """

    name: str
    source: str
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int


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
    """Bytes on one rank.

    Attributes:
        parameters, gradients, optimizer: see :class:`Precision`, after ZeRO.
        activations: kept for backward at the worst moment of the schedule.
        workspace: for a moment only: what recomputation brings back of one layer, and under ZeRO 3 the gathered
            weights of two layers (the one that computes and the next). StepPlan.memory adds the gradients that are
            being reduced under ZeRO 2 and 3.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """All kinds together."""
        return sum(getattr(self, f.name) for f in fields(self))

    def fits(self, capacity_bytes: int) -> bool:
        """Whether it fits into a device's memory."""
        return self.total <= capacity_bytes


def memory_per_rank(
    model: Transformer,
    run: Execution,
    schedule: PipelineSchedule,
    layers_per_stage: Sequence[int],
    degrees: Degrees,
    precision: Precision,
    *,
    zero: int,
    zero_group: int = 0,
) -> tuple[MemoryUse, ...]:
    """Memory of every pipeline rank; the ranks of its tensor and data groups use as much.

    Args:
        model, run: what is trained, and how a rank executes it.
        schedule: the pipeline schedule.
        layers_per_stage: layers of every stage, from ``split_layers``.
        degrees: how many ranks hold the same weights.
        precision: bytes per parameter.
        zero: ZeRO stage, 0 to 3. zero_group: ranks that it divides dense weights over; 0: all that hold them.

    Raises:
        InputError: an unknown ZeRO stage, stages or degrees that do not match, or a model that cannot be split so.
    """
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
    last = schedule.num_stages - 1
    kept = [
        activation_bytes(model, run, layers, first=stage == 0, last=stage == last)
        for stage, layers in enumerate(layers_per_stage)
    ]
    peaks = peak_activations(schedule, kept)
    workspace = _workspace(model, run, precision, zero)
    uses = []
    for rank, peak in enumerate(peaks):
        operators = [
            operator
            for stage in schedule.stages_of(rank)
            for operator in stage_operators(model, run, layers_per_stage[stage], first=stage == 0, last=stage == last)
        ]
        parameters, gradients, optimizer = _states(operators, degrees, precision, zero, zero_group)
        uses.append(
            MemoryUse(
                parameters=parameters,
                gradients=gradients,
                optimizer=optimizer,
                activations=peak,
                workspace=workspace,
            )
        )
    return tuple(uses)


def _states(
    operators: Sequence[Operator], degrees: Degrees, precision: Precision, zero: int, zero_group: int
) -> tuple[int, int, int]:
    """Bytes of parameters, gradients and optimizer state."""
    sums = [0, 0, 0]
    per_parameter = (precision.parameter_bytes, precision.gradient_bytes, precision.optimizer_bytes)
    for expert, shards in ((False, zero_group or degrees.dp * degrees.cp), (True, degrees.edp)):
        count = sum(operator.parameters for operator in operators if operator.expert is expert)
        for i, (size, from_stage) in enumerate(zip(per_parameter, (3, 2, 1), strict=True)):
            sums[i] += size * (-(-count // shards) if zero >= from_stage else count)
    return sums[0], sums[1], sums[2]


def _workspace(model: Transformer, run: Execution, precision: Precision, zero: int) -> int:
    """See :class:`MemoryUse`."""
    layer = layer_operators(model, run)
    recomputed = sum(operator.saved_bytes for operator in layer) - layer_activation_bytes(model, run, layer)
    gathered = 2 * precision.parameter_bytes * sum(operator.parameters for operator in layer) if zero == 3 else 0
    return recomputed + gathered
