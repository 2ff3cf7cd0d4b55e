# SPDX-License-Identifier: Apache-2.0
"""The backend's own collectives, each bound to one piece of memory before the clock starts.

In place, or from the first buffer into the second, as their layout says (:func:`~commbench.live.check.plain_layout`);
torch has some collectives in one of these ways only (``plan.ASIDE``).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

import torch
import torch.distributed as dist

from commbench.errors import InputError
from commbench.live.backend import Backend
from commbench.live.check import BufferLayout
from commbench.live.reductions import torch_op

__all__ = ["NATIVE", "NativeCollective"]

_LATE_S = 0.01  # far longer than ranks take to leave a barrier that holds nobody
_MOST_LATE = 16  # ranks that come late to the checked barriers, one at a time

# names since torch 2.13, and before
_all_gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter_single = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class _RankMemory:
    """A rank's memory in its group; pieces are the blocks of blocked collectives, else the whole buffer."""

    layout: BufferLayout
    memory: torch.Tensor
    group: dist.ProcessGroup
    backend: Backend
    rank: int
    op: str = "sum"

    @property
    def ranks(self) -> range:
        return self.layout.shape.ranks

    @property
    def root(self) -> int:
        """The root as torch numbers it: in the whole world."""
        return dist.get_global_rank(self.group, self.layout.shape.root)

    @property
    def is_root(self) -> bool:
        return self.rank == self.layout.shape.root

    @property
    def whole(self) -> torch.Tensor:
        """The input buffer."""
        return self.layout.piece(self.memory, 0, 0, self.layout.shape.num_chunks)

    @property
    def result(self) -> torch.Tensor:
        """The output buffer."""
        return self.layout.piece(self.memory, self.layout.output, 0, self.layout.shape.num_chunks)

    def block(self, rank: int) -> torch.Tensor:
        """One rank's block of the input buffer."""
        return self.layout.piece(self.memory, 0, rank)

    def blocks(self) -> list[torch.Tensor]:
        """Every rank's block."""
        return [self.block(rank) for rank in self.ranks]

    def outcome(self, rank: int) -> torch.Tensor:
        """One rank's block of the output buffer."""
        return self.layout.piece(self.memory, self.layout.output, rank)


def _nothing() -> None:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """A collective bound to its memory.

    Attributes:
        run: does it once.
        settle: puts the result where the postcondition looks for it, where the call itself cannot; never timed.
    """

    run: Call
    settle: Call = _nothing


def _all_reduce(at: _RankMemory) -> _Bound:
    whole, op = at.whole, torch_op(at.op)
    return _Bound(lambda: dist.all_reduce(whole, op=op, group=at.group))


def _reduce_scatter(at: _RankMemory) -> _Bound:
    mine, whole, op = at.outcome(at.rank), at.whole, torch_op(at.op)
    return _Bound(lambda: _reduce_scatter_single(mine, whole, op=op, group=at.group))


def _all_gather(at: _RankMemory) -> _Bound:
    mine, whole = at.block(at.rank), at.result
    return _Bound(lambda: _all_gather_single(whole, mine, group=at.group))


def _broadcast(at: _RankMemory) -> _Bound:
    whole, root = at.whole, at.root
    return _Bound(lambda: dist.broadcast(whole, root, group=at.group))


def _reduce(at: _RankMemory) -> _Bound:
    whole, root, op = at.whole, at.root, torch_op(at.op)
    return _Bound(lambda: dist.reduce(whole, root, op=op, group=at.group))


def _gather(at: _RankMemory) -> _Bound:
    mine, root = at.block(at.rank), at.root
    all_of_them = [at.outcome(rank) for rank in at.ranks] if at.is_root else None
    return _Bound(lambda: dist.gather(mine, all_of_them, dst=root, group=at.group))


def _scatter(at: _RankMemory) -> _Bound:
    mine, root, all_of_them = at.outcome(at.rank), at.root, at.blocks() if at.is_root else None
    return _Bound(lambda: dist.scatter(mine, all_of_them, src=root, group=at.group))


def _all_to_all(at: _RankMemory) -> _Bound:
    whole, result = at.whole, at.result
    return _Bound(lambda: dist.all_to_all_single(result, whole, group=at.group))


def _all_to_all_v(at: _RankMemory) -> _Bound:
    """From the rank's row into its column; its memory holds these two alone (:func:`commbench.live.check.own_part`)."""
    n, layout = len(at.ranks), at.layout
    assert layout.starts, "memory with room for all rows has no column in one piece"
    mine = layout.piece(at.memory, 0, at.rank * n, n)
    column = layout.piece(at.memory, layout.output, 0, n * n)
    sent = [layout.piece(at.memory, 0, at.rank * n + receiver).numel() for receiver in at.ranks]
    arriving = [layout.piece(at.memory, layout.output, sender * n + at.rank).numel() for sender in at.ranks]
    return _Bound(lambda: dist.all_to_all_single(column, mine, arriving, sent, group=at.group))


def _send_recv(at: _RankMemory) -> _Bound:
    """To the next rank, from the one before; a rank alone copies, as torch has no message to oneself."""
    n, whole, result = len(at.ranks), at.whole, at.result
    if n == 1:
        return _Bound(lambda: result.copy_(whole))
    to, fro = (dist.get_global_rank(at.group, (at.rank + turn) % n) for turn in (1, -1))
    operations = [
        dist.P2POp(dist.isend, whole, to, group=at.group),
        dist.P2POp(dist.irecv, result, fro, group=at.group),
    ]

    def run() -> None:
        for work in dist.batch_isend_irecv(operations):
            work.wait()

    return _Bound(run)


_serial = count()  # barriers checked so far: the same on every rank


def _barrier(at: _RankMemory) -> _Bound:
    """Its check: in turn one rank comes late, and nobody may leave before every rank has announced that it came.

    Element i of the result is one if rank i had come whenever this rank left, else zero.
    """
    n = len(at.ranks)

    def run() -> None:
        at.backend.barrier(at.group)

    def settle() -> None:
        store = dist.distributed_c10d._get_default_store()
        heard = torch.ones(n, dtype=torch.bool)
        for late in range(0, n, -(-n // _MOST_LATE)):
            key = f"commbench/barrier/{next(_serial)}/{dist.get_global_rank(at.group, 0)}"  # groups do this at once
            time.sleep(_LATE_S * (at.rank == late))
            store.set(f"{key}/{at.rank}", "here")
            run()
            heard &= torch.tensor([store.check([f"{key}/{rank}"]) for rank in at.ranks])
        at.result.copy_(heard.repeat(at.result.numel() // n))

    return _Bound(run, settle)


NATIVE: Mapping[str, Callable[[_RankMemory], _Bound]] = MappingProxyType(
    {
        "all-reduce": _all_reduce,
        "reduce-scatter": _reduce_scatter,
        "all-gather": _all_gather,
        "broadcast": _broadcast,
        "reduce": _reduce,
        "all-to-all": _all_to_all,
        "all-to-all-v": _all_to_all_v,
        "gather": _gather,
        "scatter": _scatter,
        "send-recv": _send_recv,
        "barrier": _barrier,
    }
)


class NativeCollective:
    """One collective of the backend on one piece of memory; the counterpart of ``execute.ScheduleExecutor``.

    Args:
        layout: of the memory, from :func:`~commbench.live.check.plain_layout`.
        memory: flat contiguous tensor of the layout's buffers.
        group: process group of the ranks. backend: of the group. op: of reductions, one of ``reductions.OPS``.

    Attributes:
        phases: empty; a backend does not tell where its time went.

    Raises:
        InputError: no native call is known for this collective.
    """

    phases: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        layout: BufferLayout,
        memory: torch.Tensor,
        group: dist.ProcessGroup,
        backend: Backend,
        op: str = "sum",
    ) -> None:
        if layout.collective not in NATIVE:
            raise InputError(f"collective {layout.collective!r} has no native call; known: {', '.join(NATIVE)}")
        self._bound = NATIVE[layout.collective](_RankMemory(layout, memory, group, backend, dist.get_rank(group), op))

    def run(self) -> None:
        """Run it once."""
        self._bound.run()

    def run_to_check(self) -> None:
        """Run it once and leave the result where the collective's postcondition looks for it."""
        self._bound.run()
        self._bound.settle()

    def close(self) -> None:
        """Nothing to end."""
