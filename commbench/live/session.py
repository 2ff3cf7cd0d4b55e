# SPDX-License-Identifier: Apache-2.0
"""Ranks that have met: the group for the data, and the control plane for everything else (``live.control``)."""

import os
import resource
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from commbench.errors import InputError, RunError
from commbench.live.agree import describe, require_agreement
from commbench.live.backend import AUTO, BACKENDS, Backend, usable
from commbench.live.control import Control
from commbench.live.hosts import HostCores, host_facts, own_cores
from commbench.live.interfaces import avoid_loopback, require_interfaces
from commbench.live.job import LiveJob
from commbench.live.observe import SessionFacts
from commbench.live.rank_info import RankInfo
from commbench.live.seats import choose_backend, local_ranks_of, offer_of
from commbench.live.timing import Clock
from commbench.live.watch import Watch
from commbench.results.environment import collect_environment, differences_by_rank, differing_note
from commbench.terminal import tell

__all__ = ["Session", "open_session"]

_AGAIN_S = 0.1
_OWN_FILES = 256  # of a rank, without its store
_WATCHES = count()
_MEETINGS = count()  # of this process; a store may outlive one


@dataclass(frozen=True, slots=True)
class Session:
    """Ranks that have met.

    Attributes:
        rank, device, clock: of this process.
        backend: of ``data``.
        data: group that the measured collective runs on. control: of the same ranks, for everything else.
        timeout_s: how long torch.distributed waits for another rank before it raises.
        shares_clock: whether all ranks have one monotonic clock; the same on every rank.
        facts: known to rank 0 in full; on other ranks the environment is their own machine's.
    """

    rank: int
    device: torch.device
    clock: Clock
    backend: Backend
    data: dist.ProcessGroup
    control: Control
    timeout_s: float
    shares_clock: bool
    facts: SessionFacts = field(repr=False)

    def meet(self) -> None:
        """A barrier that names the ranks that do not come."""
        self.control.meet()

    def barrier(self) -> None:
        """A barrier of the data group, as tight as the backend has."""
        self.backend.barrier(self.data)

    def gather(self, value: object) -> list[Any]:
        """The values of all ranks in rank order on rank 0, an empty list elsewhere."""
        return self.control.gather(value)

    def agreed(self, seconds: float) -> float:
        """The largest that a rank has: where all must go on alike, they go by this; every rank calls it."""
        longest: float = self.control.decide(seconds, max)
        return longest

    def close(self) -> None:
        """Leave the groups."""
        self.backend.close()
        dist.destroy_process_group()


def open_session(job: LiveJob, info: RankInfo, timeout_s: float, watch: Watch | None = None) -> Session:
    """Meet the other ranks and agree on the backend.

    Args:
        job: what is to run.
        info: this rank's.
        timeout_s: how long torch.distributed waits for a rank before it raises.
        watch: over ranks that others started; begins once they have met at the store.

    Raises:
        InputError: the job asks for a backend that this rank has no device for, or gloo for an interface that is not
            there, both before anything is waited for; or ranks that others started are to do different things, or share
            a device.
        RunError: a rank does not come.
    """
    if job.backend != AUTO and info.local_rank is not None:
        BACKENDS[job.backend].require_device(info.local_rank)
    require_interfaces()
    store, notes = _join(job, info, watch)
    control = Control(dist.PrefixStore("control", store), info.rank, info.world_size, timeout_s)  # type: ignore[attr-defined]
    place = own_cores()
    told = control.gather((place, info.local_rank))
    places: list[HostCores] = [where for where, _ in told]
    local_ranks, one_clock = control.tell(
        lambda: (local_ranks_of([number for _, number in told], places), len({where.machine for where in places}) == 1)
    )
    local_rank = local_ranks[info.rank]
    names = usable(on_host=job.on_host) if job.backend == AUTO else [job.backend]
    offer = offer_of(place, local_rank, names)
    name, chosen = control.decide(offer, lambda offers: choose_backend(job.backend, names, offers))
    backend = BACKENDS[name]
    device = backend.take_device(local_rank)
    if watch is not None:
        watch.on(str(device))
    # before the backend opens, which may set variables of its own
    environment = collect_environment() | _torch_facts() | backend.facts(device) | dict(job.facts)
    data = backend.open(dist.PrefixStore("data", store), info.rank, info.world_size, timeout_s)  # type: ignore[attr-defined]
    everyone = control.gather(environment)
    if info.rank == 0:
        apart = differences_by_rank(everyone)
        environment = environment | host_facts(places) | dict(job.facts) | ({"by_rank": apart} if apart else {})
        notes += differing_note(apart)
    notes = [*notes, *chosen, *_detected(info, local_rank, device), *backend.notes]
    facts = SessionFacts(name, info.launcher, info.world_size, environment, notes)
    clock = backend.clock(device)
    return Session(info.rank, device, clock, backend, data, control, timeout_s, one_clock, facts)


def _join(job: LiveJob, info: RankInfo, watch: Watch | None) -> tuple[Any, list[str]]:
    """The store that the other ranks meet at too; what is to be said of it."""
    notes: list[str] = []
    if info.store is not None:
        store = dist.FileStore(str(info.store), info.world_size)  # type: ignore[attr-defined]
    else:
        store = _shared_store(info, job.join_timeout_s)
        if info.local_size != info.world_size and not _names_itself(os.environ["MASTER_ADDR"]):
            notes = list(filter(None, [avoid_loopback()]))
        described = describe(job, torch.__version__)
        require_agreement(store, info.rank, info.world_size, described, job.join_timeout_s)
        if watch is not None:
            watch.begin(_beside(job.join_timeout_s), socket.gethostname(), store)
    return store, notes


def _detected(info: RankInfo, local_rank: int, device: torch.device) -> list[str]:
    """Where this rank was found to be, where a launcher had to tell."""
    if not info.said:
        return []
    counted = "" if info.local_rank is not None else f", local rank {local_rank} by counting the ranks of its machine"
    master = f"MASTER_ADDR={os.environ['MASTER_ADDR']}, MASTER_PORT={os.environ['MASTER_PORT']}"
    return [f"rank {info.rank} on {device}: {info.said}{counted}; {master}"]


def _shared_store(info: RankInfo, within_s: float) -> Any:
    """The store at MASTER_ADDR and MASTER_PORT: torchrun's, or else rank 0's process has it.

    As torch's own env://, but rank 0 does not wait for the others here, as it could not say which one is missing.
    """
    os.environ.update(info.rendezvous)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    has_it = info.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if has_it:
        _make_room(info.world_size)
    if unknown := _unresolved(address, port):
        if has_it:
            raise InputError(f"{unknown}; set it to a name or address of rank 0's host")
        tell(f"note: rank {info.rank}: {unknown}; trying again for {within_s:g} s (--join-timeout)")
    if not has_it:
        _until_there(info.rank, address, port, within_s)
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address,
            port,
            is_master=has_it,
            timeout=timedelta(seconds=within_s),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        doing = "listen at" if has_it else "meet rank 0 at"
        raise RunError(
            f"rank {info.rank} cannot {doing} MASTER_ADDR={address}, MASTER_PORT={port}: {str(error).splitlines()[0]}"
        ) from error
    return dist.PrefixStore(f"commbench{next(_MEETINGS)}", store)  # type: ignore[attr-defined]


def _make_room(ranks: int) -> None:
    """Let this process have a file for each connection to its store: two of every rank, one for its heartbeat.

    Raises:
        InputError: the system allows fewer.
    """
    needed = 2 * ranks + _OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(f"ulimit -n {hard}: rank 0 needs {needed} open files for {ranks} ranks; raise it on its host")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _beside(within_s: float) -> Any:
    """Another connection to the same store: a thread of its own waits there."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=within_s)
    other = dist.TCPStore(address, port, is_master=False, timeout=timeout)  # type: ignore[attr-defined]
    name = f"watch{next(_WATCHES)}"
    return dist.PrefixStore(name, other)  # type: ignore[attr-defined]


def _names_itself(address: str) -> bool:
    """Whether it means the same host wherever it is said: then all ranks are on one."""
    return address == "localhost" or address.startswith("127.")


def _unresolved(address: str, port: int) -> str:
    """What is wrong with the name of rank 0's host as this machine sees it; "" if nothing is."""
    try:
        socket.getaddrinfo(address, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label is too long or empty
        why = getattr(error, "strerror", None) or error
        return f"MASTER_ADDR={address!r} does not resolve on {socket.gethostname()} ({why})"
    return ""


def _until_there(rank: int, address: str, port: int, within_s: float) -> None:
    """Return when somebody listens there: torch would print its stack at every try, and take longer than it was told.

    Raises:
        RunError: nobody does in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection((address, port), timeout=within_s).close()
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                raise RunError(
                    f"rank {rank} did not meet rank 0 at MASTER_ADDR={address}, MASTER_PORT={port} within "
                    f"{within_s:g} s (--join-timeout): {getattr(error, 'strerror', None) or error}"
                ) from error
        time.sleep(_AGAIN_S)


def _torch_facts() -> dict[str, Any]:
    return {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
