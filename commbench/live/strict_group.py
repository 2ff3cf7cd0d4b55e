# SPDX-License-Identifier: Apache-2.0
"""A process group of torch.distributed on CPUs that is as strict as ProcessGroupNCCL about what ranks call.

What torch.distributed calls a group's methods is found here, each one enqueued on a stream (``live.strict_stream``).
Which communicator it goes on is as there: collectives and batched messages on that of the whole group, a message that
is posted by itself on one of the two ranks alone, in one order with what goes the other way.
"""

import functools
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C import _distributed_c10d as c10d

from commbench.live.strict_stream import Communicator, Enqueued, poison

__all__ = ["NAME", "StrictGroup", "register"]

NAME = "strict"

_Tensors = list[torch.Tensor]
_Group: Any = dist.ProcessGroup  # whose methods torch declares once for each version of its interface


class _StrictWork(dist._Work):  # type: ignore[name-defined,misc]
    """An operation of a communicator, as torch knows works."""

    def __init__(self, communicator: Communicator, operation: Enqueued) -> None:
        super().__init__()
        self._communicator, self._operation = communicator, operation

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Let the results be seen; on a GPU that holds for what is enqueued later, and here for the host too."""
        self._communicator.wait(self._operation)
        return True

    def is_completed(self) -> bool:
        """Whether its turn is over."""
        return self._operation.done.is_set()


class StrictGroup(_Group):  # type: ignore[misc]
    """One rank's part of a group.

    Args:
        store: of the group alone. rank, size: this process's place in it. timeout: after which it is a deadlock.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        self._store, self._timeout_s = store, timeout.total_seconds()
        self._names = {"group_name": "", "group_desc": ""}
        self._whole = self._communicator("the group", "whole", rank, size)
        self._pairs: dict[int, Communicator] = {}

    def _communicator(self, name: str, key: str, rank: int, size: int) -> Communicator:
        store = dist.PrefixStore(key, self._store)  # type: ignore[attr-defined]
        return Communicator(name, store, rank, size, self._timeout_s)

    @property
    def connected(self) -> bool:
        """Whether the ranks of the group have met."""
        return self._whole.connected

    @property
    def group_name(self) -> str:
        """As torch has named it."""
        return self._names["group_name"]

    @property
    def group_desc(self) -> str:
        """As its maker has described it."""
        return self._names["group_desc"]

    def _set_group_name(self, name: str) -> None:
        self._names["group_name"] = name
        self._whole.name = f"group {name}"

    def _set_group_desc(self, desc: str) -> None:
        self._names["group_desc"] = desc

    def getBackendName(self) -> str:  # noqa: N802
        """For torch."""
        return NAME

    def _collective(
        self, words: str, call: Callable[..., Any], writes: Any, reads: Any, *rest: Any, kept: bool = False
    ) -> _StrictWork:
        """Enqueue one of gloo's collectives on copies.

        Args:
            words: what all ranks must call alike.
            call: ``call(wires, writes, reads, *rest)``, or without ``reads`` where they are None (in place).
            writes, reads: tensors, nested in lists as torch has them.
            kept: the results are the rank's own input, which stays readable.
        """
        outputs, inputs = _flat(writes), _flat(reads)
        _require_usable([*outputs, *inputs])
        wires = self._whole.wires  # connects now, on the host

        def run() -> Sequence[torch.Tensor]:
            copies = [_copied(one) for one in (writes, reads) if one is not None]
            if not kept:
                poison([one for one in outputs if reads is None or not _inside(one, inputs)])
            self._whole.require_same(words)
            call(wires, *copies, *rest).wait()
            return _flat(copies[0])

        return self._enqueued(self._whole, Enqueued(words, outputs if reads is None else inputs, outputs, run))

    @staticmethod
    def _enqueued(communicator: Communicator, operation: Enqueued) -> _StrictWork:
        return _StrictWork(communicator, communicator.enqueue(operation))

    def allreduce(self, tensors: _Tensors, opts: Any = None) -> _StrictWork:
        """In place, one tensor."""
        opts = _options(opts, c10d.AllreduceOptions)
        words = f"all_reduce {_op(opts)} of {_size(tensors[0])}"
        return self._collective(words, lambda wires, *given: wires.allreduce(*given), tensors, None, opts)

    def allreduce_coalesced(self, tensors: _Tensors, opts: Any = None) -> _StrictWork:
        """In place, one after the other."""
        works = []
        for tensor in tensors:
            each = c10d.AllreduceOptions()
            each.reduceOp = _options(opts, c10d.AllreduceCoalescedOptions).reduceOp
            works.append(self.allreduce([tensor], each))
        return works[-1]

    def broadcast(self, tensors: _Tensors, opts: Any = None) -> _StrictWork:
        """In place; ``opts.rootRank``."""
        opts = _options(opts, c10d.BroadcastOptions)
        words, root = f"broadcast from {opts.rootRank} of {_size(tensors[0])}", opts.rootRank == self.rank()
        return self._collective(words, lambda wires, *given: wires.broadcast(*given), tensors, None, opts, kept=root)

    def reduce(self, tensors: _Tensors, opts: Any = None) -> _StrictWork:
        """In place at the root; elsewhere what the tensor holds then is anybody's guess, as with NCCL."""
        opts = _options(opts, c10d.ReduceOptions)
        words = f"reduce {_op(opts)} to {opts.rootRank} of {_size(tensors[0])}"
        return self._collective(words, lambda wires, *given: wires.reduce(*given), tensors, None, opts)

    def allgather(self, outputs: list[_Tensors], inputs: _Tensors, opts: Any = None) -> _StrictWork:
        """Into a list of tensors."""
        opts = _options(opts, c10d.AllgatherOptions)
        words = f"all_gather of {_size(inputs[0])}"
        return self._collective(words, lambda wires, *given: wires.allgather(*given), outputs, inputs, opts)

    def all_gather_single(self, output: torch.Tensor, given: torch.Tensor, opts: Any = None) -> _StrictWork:
        """Into one tensor."""
        return self.allgather([list(output.view(-1).chunk(self.size()))], [given.view(-1)], opts)

    def all_gather_single_coalesced(self, outputs: _Tensors, inputs: _Tensors, opts: Any = None) -> _StrictWork:
        """One after the other."""
        return [self.all_gather_single(*pair, opts) for pair in zip(outputs, inputs, strict=True)][-1]

    def reduce_scatter(self, outputs: _Tensors, inputs: list[_Tensors], opts: Any = None) -> _StrictWork:
        """From a list of tensors."""
        opts = _options(opts, c10d.ReduceScatterOptions)
        words = f"reduce_scatter {_op(opts)} into {_size(outputs[0])}"
        return self._collective(words, lambda wires, *given: wires.reduce_scatter(*given), outputs, inputs, opts)

    def reduce_scatter_single(self, output: torch.Tensor, given: torch.Tensor, opts: Any = None) -> _StrictWork:
        """From one tensor."""
        return self.reduce_scatter([output.view(-1)], [list(given.view(-1).chunk(self.size()))], opts)

    def reduce_scatter_single_coalesced(self, outputs: _Tensors, inputs: _Tensors, opts: Any = None) -> _StrictWork:
        """One after the other."""
        return [self.reduce_scatter_single(*pair, opts) for pair in zip(outputs, inputs, strict=True)][-1]

    def gather(self, outputs: list[_Tensors], inputs: _Tensors, opts: Any = None) -> _StrictWork:
        """Into a list of tensors at the root."""
        opts = _options(opts, c10d.GatherOptions)
        words = f"gather to {opts.rootRank} of {_size(inputs[0])}"
        return self._collective(words, lambda wires, *given: wires.gather(*given), outputs, inputs, opts)

    def scatter(self, outputs: _Tensors, inputs: list[_Tensors], opts: Any = None) -> _StrictWork:
        """From a list of tensors at the root."""
        opts = _options(opts, c10d.ScatterOptions)
        words = f"scatter from {opts.rootRank} into {_size(outputs[0])}"
        return self._collective(words, lambda wires, *given: wires.scatter(*given), outputs, inputs, opts)

    def all_to_all_single(
        self, output: torch.Tensor, given: torch.Tensor, arriving: list[int], sent: list[int], opts: Any = None
    ) -> _StrictWork:
        """From one tensor into one; no splits mean equal ones."""
        opts = _options(opts, c10d.AllToAllOptions)
        amount = "uneven" if arriving or sent else str(given.numel())

        def call(wires: Any, output: torch.Tensor, given: torch.Tensor) -> Any:
            self._require_splits(wires, output, given, arriving, sent)
            name = "all_to_all_single" if hasattr(wires, "all_to_all_single") else "alltoall_base"
            return getattr(wires, name)(output, given, arriving, sent, opts)

        return self._collective(f"all_to_all of {amount} x {given.dtype}", call, output, given)

    def _require_splits(
        self, wires: Any, output: torch.Tensor, given: torch.Tensor, arriving: list[int], sent: list[int]
    ) -> None:
        """Refuse what one rank sends and another does not expect."""
        num = self.size()
        mine = torch.tensor([sent or [len(given) // num] * num, arriving or [len(output) // num] * num])
        heard = [torch.empty_like(mine) for _ in range(num)]
        wires.allgather([heard], [mine]).wait()
        leaving, expected = torch.stack(heard).unbind(1)  # sender x receiver, receiver x sender
        unlike = (leaving != expected.T).nonzero()
        if len(unlike):
            at, to = map(int, unlike[0])
            raise RuntimeError(
                f"rank {at} sends {int(leaving[at, to])} rows to rank {to}, which expects {int(expected[to, at])}"
            )

    def barrier(self, opts: Any = None) -> _StrictWork:
        """A sum of one element, which the host waits for."""
        return self.allreduce([torch.zeros(1)])

    _allgather_base, allgather_into_tensor_coalesced = all_gather_single, all_gather_single_coalesced
    _reduce_scatter_base, reduce_scatter_tensor_coalesced = reduce_scatter_single, reduce_scatter_single_coalesced
    alltoall_base = all_to_all_single  # names before torch 2.13

    def send(self, tensors: _Tensors, peer: int, tag: int) -> _StrictWork:
        """By itself; NCCL has no tags."""
        return self._alone(True, tensors[0], peer)

    def recv(self, tensors: _Tensors, peer: int, tag: int) -> _StrictWork:
        """By itself."""
        return self._alone(False, tensors[0], peer)

    def _alone(self, sends: bool, tensor: torch.Tensor, peer: int) -> _StrictWork:
        me = self.rank()
        if peer not in self._pairs:
            low, high = sorted((me, peer))
            name = f"pair {low}, {high} of {self._whole.name}"
            self._pairs[peer] = self._communicator(name, f"pair {low} {high}", int(me > peer), 2)
        return self._together(self._pairs[peer], [(sends, tensor, int(me < peer))])

    def batch(self, transfers: Sequence[tuple[bool, torch.Tensor, int]]) -> list[_StrictWork]:
        """Sends (True) and receives (False) with the peers of the group that begin together, in one work."""
        return [self._together(self._whole, transfers)] if transfers else []

    def _together(
        self, communicator: Communicator, transfers: Sequence[tuple[bool, torch.Tensor, int]]
    ) -> _StrictWork:
        _require_usable([tensor for _, tensor, _ in transfers])
        wires, me = communicator.wires, communicator.rank
        ways = [(f"{me}>{peer}", "sends", "receives") if sends else (f"{peer}>{me}", "receives", "sends")
                for sends, _, peer in transfers]  # fmt: skip
        communicator.connect_pairs([f"{way} {mine}" for way, mine, _ in ways], [f"{w} {its}" for w, _, its in ways])
        arriving = [tensor for sends, tensor, _ in transfers if not sends]
        leaving = [tensor for sends, tensor, _ in transfers if sends]
        words = ", ".join(f"{'send to' if s else 'recv from'} {p} of {_size(t)}" for s, t, p in transfers[:3])

        def run() -> Sequence[torch.Tensor]:
            moved = [tensor.clone() if sends else torch.empty_like(tensor) for sends, tensor, _ in transfers]
            poison(arriving)
            _move(wires, [(sends, one, peer) for (sends, _, peer), one in zip(transfers, moved, strict=True)])
            return [one for (sends, _, _), one in zip(transfers, moved, strict=True) if not sends]

        more = f" and {len(transfers) - 3} more" if len(transfers) > 3 else ""
        return self._enqueued(communicator, Enqueued(words + more, leaving, arriving, run))


_PLANNED, _EXPECTED, _DATA = range(3)  # tags on the wires


def _move(wires: dist.ProcessGroup, transfers: Sequence[tuple[bool, torch.Tensor, int]]) -> None:
    """Tell each peer what goes or is expected, compare, and move it; nothing is buffered."""
    heard, works = [], []
    for sends, tensor, peer in transfers:
        mine = torch.tensor([tensor.numel(), tensor.element_size(), _number(tensor.dtype)])
        theirs = torch.empty_like(mine)
        heard.append((mine, theirs, peer, sends))
        to, fro = (_PLANNED, _EXPECTED) if sends else (_EXPECTED, _PLANNED)
        works += [wires.send([mine], peer, to), wires.recv([theirs], peer, fro)]
    for work in works:
        work.wait()
    for mine, theirs, peer, sends in heard:
        if not torch.equal(mine, theirs):
            here, there = (f"{int(one[0])} elements of {int(one[1])} B" for one in (mine, theirs))
            ways = ("sends", "expects") if sends else ("expects", "sends")
            kind = " of another type" if int(mine[1]) == int(theirs[1]) and int(mine[0]) == int(theirs[0]) else ""
            raise RuntimeError(f"this rank {ways[0]} {here}, rank {peer} {ways[1]} {there}{kind}")
    works = [(wires.send if sends else wires.recv)([tensor], peer, _DATA) for sends, tensor, peer in transfers]
    for work in works:
        work.wait()


def _number(dtype: torch.dtype) -> int:
    """The same on all ranks."""
    return sum(ord(letter) << (8 * (at % 6)) for at, letter in enumerate(str(dtype)))


def _size(tensor: torch.Tensor) -> str:
    return f"{tensor.numel()} x {str(tensor.dtype).removeprefix('torch.')}"


def _op(opts: Any) -> str:
    return str(getattr(opts.reduceOp, "op", opts.reduceOp)).rpartition(".")[2].lower()


def _options(given: Any, kind: Callable[[], Any]) -> Any:
    return kind() if given is None else given


def _flat(nested: Any) -> _Tensors:
    """The tensors of nested lists, in their order."""
    if nested is None:
        return []
    return [nested] if isinstance(nested, torch.Tensor) else [one for each in nested for one in _flat(each)]


def _copied(nested: Any) -> Any:
    """The same with memory of its own."""
    return nested.clone() if isinstance(nested, torch.Tensor) else [_copied(each) for each in nested]


def _inside(tensor: torch.Tensor, others: _Tensors) -> bool:
    return any(tensor.data_ptr() == other.data_ptr() for other in others)


def _require_usable(tensors: _Tensors) -> None:
    """Refuse what NCCL would.

    Raises:
        RuntimeError: a tensor of another device, or one that is not contiguous.
    """
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise RuntimeError(f"{_size(tensor)} on {tensor.device}: backend {NAME} has tensors on cpu")
        if not tensor.is_contiguous():
            raise RuntimeError(f"{_size(tensor)} of shape {tuple(tensor.shape)} must be contiguous")


def register() -> None:
    """Make the backend known to torch.distributed, once.

    torch batches messages for its own type of group alone, and posts those of others one by one: for strict groups
    ``batch_isend_irecv`` is replaced.
    """
    if NAME in dist.Backend.backend_list:
        return
    dist.Backend.register_backend(NAME, StrictGroup, devices=["cpu"])
    torchs_own = dist.batch_isend_irecv

    @functools.wraps(torchs_own)
    def batch_isend_irecv(p2p_op_list: list[dist.P2POp]) -> list[Any]:
        group = p2p_op_list[0].group if p2p_op_list else None
        if not isinstance(group, StrictGroup):
            return torchs_own(p2p_op_list)
        return group.batch([(one.op is dist.isend, one.tensor, one.group_peer) for one in p2p_op_list])

    dist.batch_isend_irecv = dist.distributed_c10d.batch_isend_irecv = batch_isend_irecv
