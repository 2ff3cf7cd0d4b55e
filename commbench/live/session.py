# SPDX-License-Identifier: Apache-2.0
"""The process groups of a run: one for the data, one on gloo for gathering and for naming who is missing."""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from commbench.errors import InputError
from commbench.live.hosts import host_facts, own_place
from commbench.live.job import Job
from commbench.live.observe import SessionFacts
from commbench.live.seat import Seat
from commbench.results.environment import collect_environment

__all__ = ["Session", "open_session"]


@dataclass(frozen=True, slots=True)
class Session:
    """Ranks that have met.

    Attributes:
        rank, device: of this process.
        data: group that the measured collective runs on. control: gloo group of the same ranks for everything
            else.
        timeout_s: how long torch.distributed waits for another rank before it raises.
        facts: known to rank 0 in full; on other ranks the environment is their own machine's.
    """

    rank: int
    device: torch.device
    data: dist.ProcessGroup
    control: dist.ProcessGroup
    timeout_s: float
    facts: SessionFacts = field(repr=False)

    def meet(self) -> None:
        """A barrier that names the ranks that do not come."""
        dist.monitored_barrier(self.control, timeout=timedelta(seconds=self.timeout_s), wait_all_ranks=True)

    def barrier(self) -> None:
        """A barrier of the data group, as tight as the backend has."""
        if self.device.type == "cuda":
            dist.barrier(self.data, device_ids=[self.device.index])
        else:
            dist.barrier(self.data)

    def gather(self, value: object) -> list[Any]:
        """The values of all ranks in rank order on rank 0, an empty list elsewhere."""
        values: list[Any] = [None] * self.facts.ranks if self.rank == 0 else []
        dist.gather_object(value, values if self.rank == 0 else None, dst=0, group=self.control)
        return values

    def close(self) -> None:
        """Leave the groups."""
        dist.destroy_process_group()


def open_session(job: Job, seat: Seat, timeout_s: float) -> Session:
    """Meet the other ranks and agree on the backend.

    Args:
        job: what is to run.
        seat: this rank's.
        timeout_s: how long torch.distributed waits for a rank before it raises.

    Raises:
        InputError: the job asks for nccl and this rank has no CUDA device; raised before anything is waited
        for.
    """
    if job.backend == "nccl":
        _require_device(seat)
    _join(seat, timeout_s)
    control = dist.group.WORLD
    assert control is not None  # made by _join
    backend = job.backend if job.backend != "auto" else _agree_on_backend(seat)
    device, data = torch.device("cpu"), control
    if backend == "nccl":
        device = torch.device("cuda", seat.local_rank)
        torch.cuda.set_device(device)
        data = dist.new_group(backend="nccl", timeout=timedelta(seconds=timeout_s))
    environment = collect_environment() | _torch_facts(device) | _host_facts(seat) | dict(job.facts)
    facts = SessionFacts(backend, seat.launcher, seat.world_size, environment)
    return Session(seat.rank, device, data, control, timeout_s, facts)


def _join(seat: Seat, timeout_s: float) -> None:
    timeout = timedelta(seconds=timeout_s)
    if seat.store is not None:
        store = dist.FileStore(str(seat.store), seat.world_size)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=seat.rank, world_size=seat.world_size, timeout=timeout)
        return
    os.environ.update(seat.rendezvous)
    dist.init_process_group("gloo", rank=seat.rank, world_size=seat.world_size, timeout=timeout)


def _devices() -> int:
    """CUDA devices that NCCL could use from this process."""
    return torch.cuda.device_count() if torch.cuda.is_available() and dist.is_nccl_available() else 0


def _require_device(seat: Seat) -> None:
    devices = _devices()
    if devices == 0:
        raise InputError("backend nccl needs a CUDA device; torch sees none; use --backend gloo")
    if seat.local_rank >= devices:
        raise InputError(
            f"backend nccl needs a CUDA device per rank; local rank {seat.local_rank} has none, "
            f"torch sees {devices}; use --backend gloo or fewer ranks"
        )


def _agree_on_backend(seat: Seat) -> str:
    """Nccl if every rank has a device of its own."""
    mine = torch.tensor([int(seat.local_rank < _devices())])
    dist.all_reduce(mine, op=dist.ReduceOp.MIN)
    return "nccl" if mine.item() else "gloo"


def _torch_facts(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
        facts["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]
    return facts


def _host_facts(seat: Seat) -> dict[str, Any]:
    """Of the hosts of all ranks on rank 0, nothing elsewhere."""
    places: list[Any] = [None] * seat.world_size if seat.rank == 0 else []
    dist.gather_object(own_place(), places if seat.rank == 0 else None, dst=0)
    return host_facts(places)
