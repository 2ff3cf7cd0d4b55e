# SPDX-License-Identifier: Apache-2.0
"""What ranks must know of the torch.distributed backend that they run on: one class for each, in :data:`BACKENDS`.

Whatever two backends do in different ways is a member here; nobody else asks for a backend's name. torch is loaded only
by the members that need it: a job names its backend long before.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from commbench.errors import InputError
from commbench.live.nccl_log import NcclLog, Transports
from commbench.live.reductions import BY_SCHEDULE, OPS

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

    from commbench.live.timing import Clock

__all__ = [
    "AUTO",
    "BACKENDS",
    "Backend",
    "Gloo",
    "Nccl",
    "Pair",
    "Post",
    "Posting",
    "Strict",
    "may_find_gpus",
    "usable",
]

AUTO = "auto"
"""The first of :data:`BACKENDS` that every rank has a device for."""

_GPU_FILES = ("nvidia[0-9]*", "kfd")  # below /dev

Pair = tuple[int, int]
"""(sender, receiver)."""

Post = Callable[[], list[Any]]
"""Posts transfers and returns their torch.distributed works."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One send or receive; ``tensor`` is where the data stands or lands, ``peer`` the other's rank in the group."""

    sends: bool
    tensor: "torch.Tensor"
    peer: int
    tag: int = 0


class Backend(ABC):
    """A torch.distributed backend, as ranks see it.

    Attributes:
        name: as torch knows it. device_type: of the tensors that it moves.
        streams: work is enqueued: a call returns at once, ``Work.wait`` only orders what is enqueued later, and the
            host learns of the end when it settles (:class:`~commbench.live.timing.Clock`). So seconds that the host
            counts between are no phases of the work, and nothing may be left posted that settling would wait for in
            vain. Otherwise ``Work.wait`` returns when the work is done.
        tags: whether messages of two ranks may overtake each other by their tags.
        ops: reductions of its own collectives. float8: whether these have elements of 8-bit floats.
        graphs: whether what it enqueues can be recorded and launched at once.
        automatic: whether :data:`AUTO` may take it. notes: what people must know who run on it.
    """

    name: ClassVar[str]
    device_type: ClassVar[str]
    streams: ClassVar[bool]
    tags: ClassVar[bool]
    ops: ClassVar[tuple[str, ...]] = BY_SCHEDULE
    float8: ClassVar[bool] = False
    graphs: ClassVar[bool] = False
    automatic: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = ()

    def lacks(self, local_rank: int) -> str:
        """Why a rank cannot use it, by its number among those of its host; "" if it can."""
        return ""

    def num_devices(self) -> int:
        """Devices of its own that this process sees; none where it needs none."""
        return 0

    def device_id(self, local_rank: int) -> str:
        """What tells the rank's device from all others of its host; "" where ranks may share one."""
        return ""

    @abstractmethod
    def take_device(self, local_rank: int) -> "torch.device":
        """The rank's device, from now on the process's own."""

    def facts(self, device: "torch.device") -> dict[str, Any]:
        """What it runs on, for the environment of a record, where the machine's own facts do not say it."""
        return {}

    def transports(self) -> Transports | None:
        """What its library chose to move data with, as far as it has told until now."""
        return None

    def close(self) -> None:  # noqa: B027  most have nothing to end
        """Nothing more is asked of it."""

    def open(self, store: Any, rank: int, ranks: int, timeout_s: float) -> "dist.ProcessGroup":
        """The group for data, torch's default one; every rank calls this.

        Where ranks have waited for ``timeout_s``, gloo raises; NCCL ends the process.

        Args:
            store: of these ranks alone, for meeting. rank, ranks: this process's place.
        """
        import torch.distributed as dist

        timeout = timedelta(seconds=timeout_s)
        dist.init_process_group(self.name, store=store, rank=rank, world_size=ranks, timeout=timeout)
        group = dist.group.WORLD
        assert group is not None  # made by now
        return group

    def open_pairs(
        self, pairs: Sequence[Pair], data: "dist.ProcessGroup", device: "torch.device", timeout_s: float
    ) -> Mapping[Pair, "dist.ProcessGroup"]:
        """The group for the messages of each pair of ranks, connected; every rank calls this, with the same pairs."""
        return dict.fromkeys(pairs, data)

    def open_group(self, ranks: Sequence[int], timeout_s: float) -> "dist.ProcessGroup":
        """A group of some ranks of the world, ascending; every rank of the world calls this, for one after another."""
        import torch.distributed as dist

        timeout = timedelta(seconds=timeout_s)
        group: dist.ProcessGroup = dist.new_group(list(ranks), backend=self.name, timeout=timeout)
        return group

    @abstractmethod
    def bind(self, transfers: Iterable[Posting], group: "dist.ProcessGroup") -> Post:
        """What posts these transfers together, prepared as far as it can be."""

    def barrier(self, group: "dist.ProcessGroup") -> None:
        """Torch's own: as tight as it has one; the host waits for it."""
        import torch.distributed as dist

        dist.barrier(group)

    def record(self, run: Callable[[], None], times: int) -> Callable[[], None]:
        """What launches ``times`` runs as one graph; only where it has ``graphs``, and once ``run`` has run."""
        raise NotImplementedError

    def clock(self, device: "torch.device") -> "Clock":
        """The clock of what it enqueues, or does at once."""
        from commbench.live.timing import clock_of

        return clock_of(device)

    def require_device(self, local_rank: int) -> None:
        """Refuse a rank that cannot use it.

        Raises:
            InputError: says why.
        """
        if why := self.lacks(local_rank):
            raise InputError(f"backend {self.name} {why}")


class Gloo(Backend):
    """On CPUs, over TCP: what is posted goes on by itself, and messages have tags."""

    name, device_type, streams, tags = "gloo", "cpu", False, True

    def take_device(self, local_rank: int) -> "torch.device":
        """The CPU."""
        import torch

        return torch.device("cpu")

    def bind(self, transfers: Iterable[Posting], group: "dist.ProcessGroup") -> Post:
        """One by one; ``dist.isend`` ends in ``group.send`` too, 10 us later.

        Receives come first: gloo's sender waits for a notice that the receiver is ready (docs/gloo.md), and behind the
        rank's own data to the same peer that notice would wait for all of it. The order inside each kind stays, and
        tags keep the k-th with the k-th.
        """
        ordered = sorted(transfers, key=lambda t: t.sends)
        calls = [(group.send if t.sends else group.recv, [t.tensor], t.peer, t.tag) for t in ordered]
        return lambda: [call(tensors, peer, tag) for call, tensors, peer, tag in calls]


class Nccl(Backend):
    """On NVIDIA GPUs: enqueued on streams, no tags; what is posted at once must be a group, or it waits for itself.

    Two ranks of a group connect when one of them first posts something for the other, and until both have, their hosts
    stand still.
    """

    name, device_type, streams, tags = "nccl", "cuda", True, False
    ops: ClassVar[tuple[str, ...]] = OPS
    float8 = graphs = True

    def __init__(self) -> None:
        self._log = NcclLog()

    def num_devices(self) -> int:
        """GPUs."""
        import torch
        import torch.distributed as dist

        return torch.cuda.device_count() if torch.cuda.is_available() and dist.is_nccl_available() else 0

    def _index(self, local_rank: int) -> int:
        """Of the rank's device: where one alone is to be seen, the launcher has chosen it for this rank."""
        return 0 if self.num_devices() == 1 else local_rank

    def lacks(self, local_rank: int) -> str:
        """A rank needs a device of its own."""
        devices = self.num_devices()
        if devices == 0:
            return "needs a CUDA device; torch sees none; use --backend gloo"
        if self._index(local_rank) >= devices:
            return (
                f"needs a CUDA device per rank; local rank {local_rank} has none, torch sees {devices}; use --backend "
                "gloo or fewer ranks"
            )
        return ""

    def device_id(self, local_rank: int) -> str:
        """The GPU's UUID; NCCL holds two GPUs of equal place for two where ranks say that they are on two hosts."""
        import torch

        properties = torch.cuda.get_device_properties(self._index(local_rank))
        return f"{os.environ.get('NCCL_HOSTID', '')} GPU-{getattr(properties, 'uuid', self._index(local_rank))}".strip()

    def take_device(self, local_rank: int) -> "torch.device":
        """The device with the number of the rank, or the only one."""
        import torch

        device = torch.device(self.device_type, self._index(local_rank))
        torch.cuda.set_device(device)
        return device

    def facts(self, device: "torch.device") -> dict[str, Any]:
        """GPU and versions."""
        import torch

        version = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        return {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "nccl": ".".join(str(part) for part in version),
        }

    def open(self, store: Any, rank: int, ranks: int, timeout_s: float) -> "dist.ProcessGroup":
        """The same; NCCL logs from here on."""
        self._log.begin()
        return super().open(store, rank, ranks, timeout_s)

    def transports(self) -> Transports | None:
        """From NCCL's debug log; groups connect when they are first used."""
        return self._log.read()

    def close(self) -> None:
        """The log is read."""
        self._log.end()

    def open_pairs(
        self, pairs: Sequence[Pair], data: "dist.ProcessGroup", device: "torch.device", timeout_s: float
    ) -> Mapping[Pair, "dist.ProcessGroup"]:
        """One for each direction, as a group does one thing after the other, whichever way it goes.

        A message goes through each, in one order on all ranks: a rank that met a pair in the midst of a schedule would
        stand still there, and others with it.
        """
        import torch
        import torch.distributed as dist

        groups = {pair: self.open_group(pair, timeout_s) for pair in pairs}
        rank, first = dist.get_rank(), torch.zeros(1, device=device)
        for (sender, receiver), group in groups.items():
            if rank in (sender, receiver):
                peer = dist.get_group_rank(group, receiver if rank == sender else sender)
                for work in self.bind([Posting(rank == sender, first, peer)], group)():
                    work.wait()
        self.clock(device).settle()
        return groups

    def bind(self, transfers: Iterable[Posting], group: "dist.ProcessGroup") -> Post:
        """As one group."""
        import torch.distributed as dist

        operations = [
            dist.P2POp(dist.isend if t.sends else dist.irecv, t.tensor, group=group, tag=t.tag, group_peer=t.peer)
            for t in transfers
        ]
        return lambda: dist.batch_isend_irecv(operations) if operations else []

    def record(self, run: Callable[[], None], times: int) -> Callable[[], None]:
        """As a CUDA graph."""
        from commbench.live.graphs import cuda_graph

        return cuda_graph(run, times)

    def barrier(self, group: "dist.ProcessGroup") -> None:
        """On the process's device."""
        import torch
        import torch.distributed as dist

        dist.barrier(group, device_ids=[torch.cuda.current_device()])


class Strict(Nccl):
    """On CPUs, as strict as NCCL: what would hang, abort or read too early there does so here; its times mean nothing.

    For trying what is to run on NCCL where no GPU is. All that :class:`Nccl` does with torch.distributed this does by
    the same code, on groups of ``live.strict_group``: work is enqueued and runs in the order of a stream; groups, pairs
    of ranks and directions connect when they are first used, and their hosts stand still meanwhile; nothing has arrived
    before somebody has waited for it; messages have no tags and are not buffered; ranks that call different things are
    told so. Products run at once, as CPUs have no streams: ``wait`` blocks the host where NCCL would make a stream
    wait, which forbids more than NCCL does, never less.
    """

    name, device_type, automatic = "strict", "cpu", False
    ops: ClassVar[tuple[str, ...]] = BY_SCHEDULE  # of the gloo beneath
    float8 = False
    notes = ("backend strict stands in for NCCL on CPUs: what it does counts, its times mean nothing",)

    def num_devices(self) -> int:
        """None that could run out."""
        return 0

    def lacks(self, local_rank: int) -> str:
        """Nothing."""
        return ""

    def device_id(self, local_rank: int) -> str:
        """Ranks share the CPU."""
        return ""

    def take_device(self, local_rank: int) -> "torch.device":
        """The CPU."""
        import torch

        return torch.device("cpu")

    def facts(self, device: "torch.device") -> dict[str, Any]:
        """None of its own."""
        return {}

    def open(self, store: Any, rank: int, ranks: int, timeout_s: float) -> "dist.ProcessGroup":
        """Of groups that torch does not know by itself, and which log nothing."""
        from commbench.live.strict_group import register

        register()
        return Backend.open(self, store, rank, ranks, timeout_s)

    def clock(self, device: "torch.device") -> "Clock":
        """The host's, which settles everything that is enqueued."""
        from commbench.live.strict_stream import settle_all
        from commbench.live.timing import Clock

        return Clock(time.perf_counter, lambda start, end: end - start, settle_all, lambda mark: None)

    def record(self, run: Callable[[], None], times: int) -> Callable[[], None]:
        """Nothing is recorded, but what a graph cannot hold is an error here too."""
        from commbench.live.graphs import strict_graph

        return strict_graph(run, times)

    def barrier(self, group: "dist.ProcessGroup") -> None:
        """On no device."""
        Backend.barrier(self, group)


BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Strict(), Gloo(), Nccl())}
"""By name; of those that ranks could take, :data:`AUTO` takes the last."""


def usable(*, on_host: bool) -> list[str]:
    """The names that :data:`AUTO` may stand for, best first; ``on_host``: only those whose tensors the CPU has."""
    return [
        name
        for name, backend in reversed(BACKENDS.items())
        if backend.automatic and not (on_host and backend.device_type != "cpu")
    ]


def may_find_gpus(name: str) -> bool:
    """Whether ranks of this machine may take GPUs, told without torch: buffers then lie in memory of their own."""
    if name == AUTO:
        return any(any(Path("/dev").glob(pattern)) for pattern in _GPU_FILES)
    return BACKENDS[name].device_type != "cpu"
