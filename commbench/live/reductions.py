# SPDX-License-Identifier: Apache-2.0
"""Reductions by their names in nccl-tests: what torch calls them, how a schedule does them, and their exact results.

No torch at import: a plan names a reduction long before.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from commbench.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["BY_SCHEDULE", "MULTIPLIER", "OPS", "into", "largest_of_one", "reduced", "torch_op"]

BY_SCHEDULE = ("sum", "prod", "min", "max")
"""What ranks can do themselves, chunk by chunk in any order."""
OPS = (*BY_SCHEDULE, "avg", "mulsum")
MULTIPLIER = 2
"""Of mulsum: every input is multiplied by it before it is added."""


def torch_op(op: str) -> Any:
    """As torch.distributed has it.

    Raises:
        InputError: this torch has none such.
    """
    import torch.distributed as dist

    if op == "mulsum":
        # builds without NCCL have none; where it stands differs between releases
        makers = (getattr(room, "_make_nccl_premul_sum", None) for room in (dist, dist.distributed_c10d))
        maker: Any = next(filter(None, makers), None)
        if maker is None:
            raise InputError("--op mulsum: this build of torch has no premultiplied sum; give another --op")
        return maker(float(MULTIPLIER))
    names = {"sum": "SUM", "prod": "PRODUCT", "min": "MIN", "max": "MAX", "avg": "AVG"}
    return getattr(dist.ReduceOp, names[op])


def into(op: str) -> "Callable[[torch.Tensor, torch.Tensor], Any]":
    """What reduces the second tensor into the first, of :data:`BY_SCHEDULE`."""
    import torch

    made: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
        "sum": torch.Tensor.add_,
        "prod": torch.Tensor.mul_,
        "min": lambda whole, arrived: torch.minimum(whole, arrived, out=whole),
        "max": lambda whole, arrived: torch.maximum(whole, arrived, out=whole),
    }
    return made[op]


def largest_of_one(op: str, exact: int, num_ranks: int) -> int:
    """Largest input of one rank with which the results of all are exact, where whole numbers are up to ``exact``."""
    return {"min": exact, "max": exact, "mulsum": exact // (MULTIPLIER * num_ranks)}.get(op, exact // num_ranks)


def reduced(op: str, rows: "Sequence[torch.Tensor]", num_ranks: int) -> "torch.Tensor":
    """The result of whole numbers; of an average in float64."""
    import torch

    whole = torch.stack(list(rows))
    if op == "prod":
        return whole.prod(0)
    if op in ("min", "max"):
        return whole.amin(0) if op == "min" else whole.amax(0)
    total = whole.sum(0)
    return total * MULTIPLIER if op == "mulsum" else total / num_ranks if op == "avg" else total
