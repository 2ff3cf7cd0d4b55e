# SPDX-License-Identifier: Apache-2.0
"""How tests execute models: everything stated, each test changes what it is about."""

from typing import Any

from commbench.workload.formats import FORMATS
from commbench.workload.transformer import Execution, Transformer

__all__ = ["execution"]


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
