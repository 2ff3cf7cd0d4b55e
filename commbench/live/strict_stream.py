# SPDX-License-Identifier: Apache-2.0
"""What a communicator of the strict backend has enqueued: one stream, on which operations run in their order.

A thread is the stream. What an operation reads it takes when its turn has come, as a GPU would. What it writes is
poison from then on until somebody has waited for it, for a later operation of the stream or for everything; or until a
later operation of the same stream reads that memory, for which the stream itself is order enough.

Wires are a gloo group of the communicator's own. Before anything is moved, the ranks tell each other what they are
about to do: where that does not fit together, NCCL hangs or corrupts, and here it is an error that says who does what.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any
from weakref import WeakSet

import torch
import torch.distributed as dist

__all__ = ["Communicator", "Enqueued", "recording", "settle_all"]

_POISON = -99
_POLL_S = 0.001
_TOLD_S = 0.5  # after a deadlock ranks tell each other for so long where they are
_WORDS = 256  # bytes of what a rank says that it is about to do

_everything: "WeakSet[Communicator]" = WeakSet()
_recording = Event()


def settle_all() -> None:
    """Wait for everything that this process has enqueued, and let it be seen; as ``torch.cuda.synchronize``.

    Raises:
        RuntimeError: a graph is being recorded.
    """
    _refuse_while_recording("waits for the device")
    for communicator in list(_everything):
        communicator.settle()


@contextmanager
def recording() -> Iterator[None]:
    """While it lasts, what a CUDA graph cannot hold is refused: a host waits for its device, ranks connect."""
    _recording.set()
    try:
        yield
    finally:
        _recording.clear()


def _refuse_while_recording(what: str) -> None:
    if _recording.is_set():
        raise RuntimeError(f"the host {what} while a graph is recorded")


@dataclass(slots=True, eq=False)
class Enqueued:
    """An operation on a stream.

    Attributes:
        words: what it is, for people.
        reads, writes: the memory that it takes from and that its results land in.
        run: moves it over the wires, when its turn has come; gives what lands, a tensor for each of ``writes``.
        done: its turn is over. error: how it failed.
    """

    words: str
    reads: Sequence[torch.Tensor]
    writes: Sequence[torch.Tensor]
    run: Callable[[], Sequence[torch.Tensor]]
    done: Event = field(default_factory=Event)
    error: Exception | None = None
    landed: Sequence[torch.Tensor] | None = None

    def touches(self, memory: Sequence[torch.Tensor]) -> bool:
        """Whether its results land in some of this memory."""
        return any(_overlap(one, other) for one in self.writes for other in memory)


class Communicator:
    """Ranks that are connected, and this rank's stream to them.

    Args:
        name: for people. store: of these ranks alone, for meeting.
        rank, size: this process's place among them.
        timeout_s: after which ranks that wait for each other are a deadlock.
    """

    def __init__(self, name: str, store: Any, rank: int, size: int, timeout_s: float) -> None:
        self.name, self.rank, self.size = name, rank, size
        self._store, self._timeout_s = store, timeout_s
        self._wires: dist.ProcessGroup | None = None
        self._directions: set[str] = set()
        self._stream: SimpleQueue[Enqueued] = SimpleQueue()
        self._order: list[Enqueued] = []
        self._lock = Lock()

    @property
    def connected(self) -> bool:
        """Whether the ranks have met."""
        return self._wires is not None

    @property
    def wires(self) -> dist.ProcessGroup:
        """The gloo group beneath; connects at first use, when the host stands still until all ranks have come."""
        if self._wires is None:
            here = [f"rank {rank}" for rank in range(self.size)]
            self._meet(f"{self.name} to connect", [here[self.rank]], here)
            self._wires = self._wired()
            _everything.add(self)
            Thread(target=self._serve, daemon=True, name=f"strict {self.name}").start()
        return self._wires

    def connect_pairs(self, mine: Sequence[str], others: Sequence[str]) -> None:
        """Directions between two ranks connect when they are first used, and both hosts stand still until both have.

        Args:
            mine: this rank's ends, a key for each. others: the other ends of the same, in the same order.
        """
        fresh = [(end, other) for end, other in zip(mine, others, strict=True) if end not in self._directions]
        if fresh:
            self._meet(f"a peer in {self.name}", [end for end, _ in fresh], [other for _, other in fresh])
            self._directions |= {end for end, _ in fresh}

    def enqueue(self, operation: Enqueued) -> Enqueued:
        """Put an operation behind all others; the host goes on."""
        assert self._wires is not None, "connects before it enqueues"
        with self._lock:
            self._order.append(operation)
        self._stream.put(operation)
        return operation

    def wait(self, operation: Enqueued) -> None:
        """Return when an operation is done, its results and those before it to be seen.

        Raises:
            RuntimeError: it, or one before it, failed; or it is a deadlock.
        """
        if not operation.done.wait(self._timeout_s + 2 * _TOLD_S):
            raise RuntimeError(f"deadlock on {self.name}: {operation.words} does not come to its end")
        with self._lock:
            if operation in self._order:
                at = self._order.index(operation) + 1
                before, self._order = self._order[:at], self._order[at:]
            else:
                before = [operation]
            for one in before:
                _reveal(one)
        if (failed := next((one for one in before if one.error is not None), None)) is not None:
            assert failed.error is not None
            raise failed.error

    def settle(self) -> None:
        """Wait for all of them."""
        while self._order:
            self.wait(self._order[-1])

    def require_same(self, words: str) -> None:
        """Refuse a collective that another rank does not call, or calls with other sizes; all ranks call this.

        Raises:
            RuntimeError: says which rank calls what.
        """
        text = torch.tensor(list(words.encode()[:_WORDS].ljust(_WORDS)), dtype=torch.uint8)
        heard = [torch.empty_like(text) for _ in range(self.size)]
        self.wires.allgather([heard], [text]).wait()
        said = [bytes(one.tolist()).decode(errors="replace").strip() for one in heard]
        if len(set(said)) > 1:
            raise RuntimeError(f"ranks of {self.name} call different things: {_by_rank(said)}")

    def _wired(self) -> dist.ProcessGroup:
        """A gloo group, as torch makes one, but of these ranks alone and unknown to others."""
        store = dist.PrefixStore("wires", self._store)  # type: ignore[attr-defined]
        group = dist.ProcessGroup(store, self.rank, self.size)
        timeout = timedelta(seconds=self._timeout_s)
        gloo = dist.ProcessGroupGloo(store, self.rank, self.size, timeout=timeout)
        group._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, gloo)
        group._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
        return group

    def _meet(self, whom: str, mine: Sequence[str], others: Sequence[str]) -> None:
        """Stand still until all keys of the others are there.

        Raises:
            RuntimeError: they are not, in time; or a graph is being recorded.
        """
        _refuse_while_recording("connects")
        for key in mine:
            self._store.set(key, "")
        deadline = time.monotonic() + self._timeout_s
        while not self._store.check(list(others)):
            if time.monotonic() > deadline:
                missing = ", ".join(key for key in others if not self._store.check([key]))
                raise RuntimeError(f"deadlock: rank {self.rank} waits for {whom}; what has not come: {missing}")
            time.sleep(_POLL_S)

    def _serve(self) -> None:
        """The stream."""
        broken: Exception | None = None
        while True:
            operation = self._stream.get()
            if broken is None:
                broken = self._run(operation)
            else:  # what comes after a failure never runs
                operation.error = broken
            operation.done.set()

    def _run(self, operation: Enqueued) -> Exception | None:
        """One operation; how it failed, if it did."""
        memory = [*operation.reads, *operation.writes]
        with self._lock:
            for one in self._order[: self._order.index(operation)]:
                if one.touches(memory):
                    _reveal(one)
        try:
            with torch.no_grad():  # memory may be that of a leaf
                operation.landed = operation.run()
        except Exception as error:
            operation.error = self._explained(operation, error)
        return operation.error

    def _explained(self, operation: Enqueued, error: Exception) -> Exception:
        """A failure, with what the other ranks were doing when it came, as far as they have failed too."""
        keys = [f"stuck{rank}" for rank in range(self.size)]
        self._store.set(keys[self.rank], operation.words)
        time.sleep(_TOLD_S)
        there = [rank for rank, key in enumerate(keys) if self._store.check([key])]
        at = "; ".join(f"rank {rank}: {self._store.get(keys[rank]).decode()}" for rank in there)
        away = ", ".join(str(rank) for rank in range(self.size) if rank not in there)
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        rest = f"; ranks that have failed nowhere: {away}" if away else ""
        return RuntimeError(f"{self.name}, rank {self.rank}, {operation.words}: {what} ({at}{rest})")


def _reveal(operation: Enqueued) -> None:
    """Let the results of an operation be seen, once."""
    landed, operation.landed = operation.landed, None
    if landed is not None:
        with torch.no_grad():
            for target, source in zip(operation.writes, landed, strict=True):
                target.copy_(source)


def poison(memory: Sequence[torch.Tensor]) -> None:
    """Make what has not been waited for wrong to read."""
    for tensor in memory:
        tensor.fill_(float("nan") if tensor.dtype.is_floating_point else _POISON)


def _overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
        return False
    (a, a_end), (b, b_end) = _extent(one), _extent(other)
    return a < b_end and b < a_end


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """First and last byte but one of contiguous memory."""
    start = tensor.data_ptr()
    return start, start + tensor.numel() * tensor.element_size()


def _by_rank(said: Sequence[str]) -> str:
    """What ranks say, those that say the same together."""
    ranks: dict[str, list[int]] = {}
    for rank, words in enumerate(said):
        ranks.setdefault(words, []).append(rank)
    return "; ".join(f"{words} on rank{'s' * (len(of) > 1)} {', '.join(map(str, of))}" for words, of in ranks.items())
