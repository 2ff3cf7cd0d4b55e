# SPDX-License-Identifier: Apache-2.0
"""How tests execute models: everything stated, each test changes what it is about; what weights models have."""

from collections.abc import Sequence
from typing import Any

from commbench.collectives.spec import get_collective
from commbench.workload.formats import FORMATS
from commbench.workload.operators import stage_operators
from commbench.workload.traffic import Traffic
from commbench.workload.transformer import Execution, Transformer

__all__ = ["active_parameters", "execution", "moved_bytes", "num_parameters"]


def execution(model: Transformer, **changes: Any) -> Execution:
    """One sequence of the model's length in BF16, full attention kept in memory, nothing recomputed."""
    plain: dict[str, Any] = {
        "micro_batch": 1,
        "sequence": model.sequence,
        "formats": FORMATS["bf16"],
        "attention": "full",
        "flash": False,
        "recompute": "none",
    }
    return Execution(**(plain | changes))


def num_parameters(model: Transformer) -> int:
    """All weights of the model, tied ones once."""
    operators = stage_operators(model, execution(model), range(model.num_layers), first=True, last=True)
    return sum(operator.parameters for operator in operators)


def active_parameters(model: Transformer) -> int:
    """The weights that a token meets: of the experts, those it visits."""
    operators = stage_operators(model, execution(model), range(model.num_layers), first=True, last=True)
    experts = sum(op.parameters for op in operators if op.expert)
    return num_parameters(model) - experts + experts * model.experts_per_token // model.num_experts


def moved_bytes(traffic: Sequence[Traffic], num_ranks: int) -> float:
    """Bytes that a rank of groups of ``num_ranks`` ranks sends: size x busbw factor of each collective."""
    return sum(one.size_bytes * get_collective(one.collective).busbw_factor(num_ranks) for one in traffic)
