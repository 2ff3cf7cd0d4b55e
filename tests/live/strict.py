# SPDX-License-Identifier: Apache-2.0
"""A backend on CPUs that is as strict as NCCL about messages: what would hang or read too early there, does so here.

* What is posted runs in the order of its group, each batch whole before the next one begins, without tags.
* A group connects when it is first used, and its ranks stand still until all of them have come.
* What arrives is poison until somebody has waited for it, or for everything.
* Settling waits for all that is enqueued; after :data:`DEADLINE_S` it is a deadlock.

Products run at once, as CPUs have no streams: ``wait`` blocks where NCCL would make a stream wait. Collectives of torch
are gloo's own; only messages between two ranks and barriers are strict.
"""

import time
from collections.abc import Iterable
from datetime import timedelta
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
import torch.distributed as dist

from commbench.live.backend import Nccl, Post, Posting
from commbench.live.timing import Clock

DEADLINE_S = 5.0
_POISON = -99


class _Batch:
    """Transfers that run together, and the work that is waited for."""

    def __init__(self, transfers: list[Posting]) -> None:
        self.transfers = transfers
        self.landings = [t.tensor if t.sends else torch.empty_like(t.tensor) for t in transfers]
        self.done = Event()
        self.error: Exception | None = None

    def wait(self) -> None:
        """Let what has arrived be seen."""
        if not self.done.wait(DEADLINE_S):
            raise TimeoutError("deadlock: what is enqueued does not come to its end")
        if self.error is not None:
            raise self.error
        for transfer, landing in zip(self.transfers, self.landings, strict=True):
            if not transfer.sends:
                transfer.tensor.copy_(landing)
        self.transfers, self.landings = [], []


class _Communicator:
    """What one group has enqueued."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._queue: SimpleQueue[_Batch] = SimpleQueue()
        self.connected = False
        self.unsettled: list[_Batch] = []
        Thread(target=self._serve, daemon=True).start()

    def connect(self) -> None:
        """Stand still until every rank of the group has come here for the first time."""
        if self.connected:
            return
        store, key = dist.distributed_c10d._get_default_store(), f"strict/{self._group.group_name}"
        deadline, size = time.monotonic() + DEADLINE_S, self._group.size()
        store.add(key, 1)
        while store.add(key, 0) < size:
            if time.monotonic() > deadline:
                raise TimeoutError(f"deadlock: ranks do not meet to connect {self._group.group_desc or key}")
            time.sleep(0.001)
        self.connected = True

    def post(self, transfers: list[Posting]) -> _Batch:
        self.connect()
        batch = _Batch(transfers)
        for transfer in transfers:
            if not transfer.sends:
                transfer.tensor.fill_(_POISON)
        self.unsettled.append(batch)
        self._queue.put(batch)
        return batch

    def _serve(self) -> None:
        while True:
            batch = self._queue.get()
            try:
                pairs = list(zip(batch.transfers, batch.landings, strict=True))
                works = [(self._group.send if t.sends else self._group.recv)([x], t.peer, 0) for t, x in pairs]
                for work in works:
                    work.wait()
            except Exception as error:
                batch.error = error
            batch.done.set()


class Strict(Nccl):
    """NCCL's manners, gloo's wires; one of them for a process."""

    name, device_type = "strict", "cpu"

    def __init__(self) -> None:
        self.communicators: dict[dist.ProcessGroup, _Communicator] = {}

    def lacks(self, local_rank: int) -> str:
        return ""

    def take_device(self, local_rank: int) -> torch.device:
        return torch.device("cpu")

    def facts(self, device: torch.device) -> dict[str, Any]:
        return {}

    def clock(self, device: torch.device) -> Clock:
        return Clock(time.perf_counter, lambda start, end: end - start, self.settle, lambda mark: self.settle())

    def settle(self) -> None:
        """Everything that is enqueued, of all groups."""
        for communicator in self.communicators.values():
            while communicator.unsettled:
                communicator.unsettled.pop(0).wait()

    def _new_group(self, ranks: list[int] | None, timeout_s: float) -> dist.ProcessGroup:
        group = dist.new_group(ranks, backend="gloo", timeout=timedelta(seconds=timeout_s))
        if ranks is None or dist.get_rank() in ranks:
            self.communicators[group] = _Communicator(group)
        return group

    def bind(self, transfers: Iterable[Posting], group: dist.ProcessGroup) -> Post:
        together = list(transfers)
        return lambda: [self.communicators[group].post(together)] if together else []

    def barrier(self, group: dist.ProcessGroup) -> None:
        self.communicators[group].connect()
        dist.barrier(group)
