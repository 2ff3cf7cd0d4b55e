# SPDX-License-Identifier: Apache-2.0
"""A transformer block, whole and split over ranks by hand; activations are sequence x batch x hidden.

Pre-norm, causal attention, an MLP with GELU, no biases; rows of the fused QKV weight are grouped by head, so that
an even cut of the rows gives every rank whole heads. The split is Megatron's: QKV and up column-parallel, projection
and down row-parallel (arXiv 1909.08053, section 3), and with sequence parallelism norms and residuals on a share of
the sequence (arXiv 2205.05198, section 4.2), the gathered inputs kept for backward.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch._dynamo  # the first functional collective loads it: here it is loaded once for all ranks that are forked
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import nn
from torch.nn import functional as F  # noqa: N812  torch's own habit

__all__ = ["HandBlock", "Sizes", "TransformerBlock", "cut"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of the residual stream and the MLP, attention heads, and bytes of what flows between."""

    hidden: int
    heads: int
    ffn: int
    sequence: int
    micro_batch: int


class TransformerBlock(nn.Module):
    """The whole block; also what DTensor splits, so head counts are read off the tensors."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.head_size = sizes.hidden // sizes.heads
        self.norm1 = nn.LayerNorm(sizes.hidden, bias=False)
        self.qkv = nn.Linear(sizes.hidden, 3 * sizes.hidden, bias=False)
        self.projection = nn.Linear(sizes.hidden, sizes.hidden, bias=False)
        self.norm2 = nn.LayerNorm(sizes.hidden, bias=False)
        self.up = nn.Linear(sizes.hidden, sizes.ffn, bias=False)
        self.down = nn.Linear(sizes.ffn, sizes.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the block, shape as the input."""
        x = x + self.projection(attend(self.qkv(self.norm1(x)), self.head_size))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return x


def attend(qkv: torch.Tensor, head_size: int) -> torch.Tensor:
    """Causal attention of the heads in ``qkv`` (s, b, heads x 3 x head_size), shape (s, b, heads x head_size)."""
    sequence, batch, _ = qkv.shape
    parts = qkv.view(sequence, batch, -1, 3, head_size).permute(3, 1, 2, 0, 4)  # (3, b, heads, s, head_size)
    mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
    return mixed.permute(2, 0, 1, 3).reshape(sequence, batch, -1)


def cut(weight: torch.Tensor, dim: int, rank: int, num_ranks: int) -> torch.Tensor:
    """A rank's share of a weight."""
    return weight.chunk(num_ranks, dim)[rank].contiguous()


# names since torch 2.13, and before
_all_gather_single = getattr(functional, "all_gather_single", None) or functional.all_gather_tensor
_reduce_scatter_single = getattr(functional, "reduce_scatter_single", None) or functional.reduce_scatter_tensor


def _waited(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = functional.wait_tensor(x)  # type: ignore[no-untyped-call]
    return result


def _all_reduce(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    return _waited(functional.all_reduce(x, "sum", group))


def _all_gather(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    return _waited(_all_gather_single(x.contiguous(), 0, group))


def _reduce_scatter(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    return _waited(_reduce_scatter_single(x.contiguous(), "sum", 0, group))


class _Enter(torch.autograd.Function):
    """Into a split region: nothing forward and an all-reduce backward; or all-gather and reduce-scatter."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup, sequence_parallel: bool) -> torch.Tensor:
        ctx.group, ctx.sequence_parallel = group, sequence_parallel
        return _all_gather(x, group) if sequence_parallel else x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        back = _reduce_scatter if ctx.sequence_parallel else _all_reduce
        return back(gradients[0], ctx.group), None, None


class _Leave(torch.autograd.Function):
    """Out of a split region: an all-reduce forward and nothing backward; or reduce-scatter and all-gather."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup, sequence_parallel: bool) -> torch.Tensor:
        ctx.group, ctx.sequence_parallel = group, sequence_parallel
        return (_reduce_scatter if sequence_parallel else _all_reduce)(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _all_gather(gradients[0], ctx.group) if ctx.sequence_parallel else gradients[0], None, None


class HandBlock(nn.Module):
    """A rank's share of a block, its collectives called where they belong.

    Args:
        whole: the block to split; its norms are shared with it, its products are cut.
        group: the ranks that share it.
        sequence_parallel: whether norms and residuals see a share of the sequence only.
    """

    def __init__(self, whole: TransformerBlock, group: dist.ProcessGroup, sequence_parallel: bool) -> None:
        super().__init__()
        self._group, self._sequence_parallel, self.head_size = group, sequence_parallel, whole.head_size
        rank, num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self.norm1, self.norm2 = whole.norm1, whole.norm2

        def share(layer: nn.Linear, dim: int) -> nn.Parameter:
            return nn.Parameter(cut(layer.weight.detach(), dim, rank, num_ranks))

        self.qkv, self.projection = share(whole.qkv, 0), share(whole.projection, 1)
        self.up, self.down = share(whole.up, 0), share(whole.down, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the block: whole, or with sequence parallelism this rank's share of the sequence, as ``x`` is."""
        qkv = F.linear(self._enter(self.norm1(x)), self.qkv)
        x = x + self._leave(F.linear(attend(qkv, self.head_size), self.projection))
        return x + self._leave(F.linear(F.gelu(F.linear(self._enter(self.norm2(x)), self.up)), self.down))

    def _enter(self, x: torch.Tensor) -> torch.Tensor:
        split: torch.Tensor = _Enter.apply(x, self._group, self._sequence_parallel)  # type: ignore[no-untyped-call]
        return split

    def _leave(self, x: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = _Leave.apply(x, self._group, self._sequence_parallel)  # type: ignore[no-untyped-call]
        return whole
