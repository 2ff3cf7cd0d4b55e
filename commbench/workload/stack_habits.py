# SPDX-License-Identifier: Apache-2.0
"""What training software does beside computing unless it is told otherwise, by the name of its stack.

Sources. Megatron-LM before Megatron Core: its own arguments. Megatron Core with Transformer Engine, as NeMo and
Megatron-Bridge run it: NeMo's user guide, "Communication Overlap" (gradients and parameters of each virtual stage,
transfers of interleaved schedules, tensor collectives in products, keys and values of context ranks in attention), and
Transformer Engine's ``is_first_microbatch`` (weights in 8 bits are kept over microbatches) and
``fuse_wgrad_accumulation``. torchtitan: PyTorch's asynchronous tensor parallelism.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from commbench.workload.memory import Precision
from commbench.workload.transformer import Execution

__all__ = ["PLAIN", "Habits", "habits_of", "software_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What software does unless it is told otherwise.

    Attributes:
        gradients: are sent beside backward passes. parameters: that ZeRO 1 and 2 gather arrive beside the first
            forward passes, instead of behind the optimizer.
        transfers: between stages run beside compute, where ranks hold several stages; otherwise their sender waits.
        products: tensor collectives that are told to overlap do so with the very product that reads or makes their
            tensor, forward too; otherwise with another's gradients alone.
        context: keys and values of other context ranks arrive beside attention.
        casts: weights in 8 bits are kept over the microbatches of a step. sums: weight gradients are added up by the
            product that makes them.
    """

    gradients: bool = True
    parameters: bool = False
    transfers: bool = False
    products: bool = False
    context: bool = False
    casts: bool = False
    sums: bool = False


_MEGATRON = Habits(gradients=False)
PLAIN = Habits()
"""PyTorch's."""
_HABITS: Mapping[str, Habits] = MappingProxyType(
    {
        "megatron": _MEGATRON,
        "megatron-deepspeed": _MEGATRON,
        "megatron-core": Habits(
            parameters=True, transfers=True, products=True, context=True, casts=True, sums=True
        ),
        "torchtitan": Habits(products=True),
        "torchtitan-compiled": Habits(products=True),
    }
)


def habits_of(stack: str) -> Habits:
    """Of a stack; of others, and of none, those of PyTorch."""
    return _HABITS.get(stack, PLAIN)


def software_run(run: Execution, habits: Habits, precision: Precision) -> Execution:
    """How software with these habits executes; bytes of a gradient are the precision's."""
    casts = habits.casts and run.formats.cast_bytes > 0
    return replace(run, keeps_casts=casts, summed_bytes=2 * precision.gradient_bytes if habits.sums else 0)
