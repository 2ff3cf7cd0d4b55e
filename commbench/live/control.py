# SPDX-License-Identifier: Apache-2.0
"""The control plane: what ranks tell each other beside the data, through the store that they met at.

Every rank has its connection to the store and none to another rank: n connections for n ranks, where a process group
of gloo's has one for every two. Rank 0 is the centre: it hears of all, and what it says all read. So each word crosses
the network once for each rank, and nothing that grows with their number goes to all of them.
"""

import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from commbench.errors import CommbenchError, RunError
from commbench.live.seats import ranks_text

__all__ = ["Control", "WaitingStore"]

T = TypeVar("T")

_PIECE = 4 * 2**20  # bytes; torch's TCPStore takes 8 MiB (TCPStoreLibUvBackend.cpp, MAX_PAYLOAD_LEN)
_AT_ONCE = 64  # values that are asked for in one request


class WaitingStore(Protocol):
    """What is used of torch.distributed's stores."""

    def set(self, key: str, value: bytes, /) -> None:
        """Put a value."""

    def get(self, key: str, /) -> bytes:
        """A value, when it is there."""

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """Values, when all of them are there."""

    def check(self, keys: list[str], /) -> bool:
        """Whether all of them are there."""

    def wait(self, keys: list[str], timeout: timedelta, /) -> None:
        """Return when all of them are there."""

    def delete_key(self, key: str, /) -> bool:
        """Forget a value."""


class Control:
    """One rank's side; all ranks call the same methods in the same order.

    Args:
        store: of these ranks alone. rank, ranks: this process's place.
        timeout_s: how long a rank is waited for.
    """

    def __init__(self, store: Any, rank: int, ranks: int, timeout_s: float) -> None:
        self._store: WaitingStore = store
        self._rank, self._ranks, self._timeout_s = rank, ranks, timeout_s
        self._count = 0
        self._left: list[str] = []  # keys that this rank has put there and somebody may still read

    def gather(self, value: object) -> list[Any]:
        """The values of all ranks in rank order on rank 0, an empty list elsewhere, where nobody waits.

        Raises:
            RunError: a rank does not come.
        """
        key = self._next()
        if self._rank:
            self._put(f"{key}/{self._rank}", value)
            return []
        keys = [f"{key}/{rank}" for rank in range(1, self._ranks)]
        self._await(keys)
        return [value, *self._taken(keys)]

    def decide(self, value: object, decision: Callable[[list[Any]], T]) -> T:
        """What rank 0 decides from the values of all ranks, told to all.

        Args:
            value: this rank's. decision: called on rank 0; what it gives is read by every rank, and so should be small.

        Raises:
            CommbenchError: what the decision raised, the same on every rank.
            RunError: a rank does not come.
        """
        values = self.gather(value)
        return self.tell(lambda: decision(values))

    def tell(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, told to all; errors as of :meth:`decide`."""
        key = self._next()
        if self._rank:
            self._await([key])
            (told,) = self._taken([key])
        else:
            try:
                told = make()
            except CommbenchError as error:
                told = error
            self._put(key, told)
        if isinstance(told, CommbenchError):
            raise told
        answer: T = told
        return answer

    def meet(self) -> None:
        """A barrier that names the ranks that do not come.

        Raises:
            RunError: names them.
        """
        before = self._left
        self._left = []
        self.decide(None, lambda _: None)
        for key in before:  # rank 0 has read everything that was sent before it opened the barrier
            with suppress(RuntimeError):  # a store that forgets nothing
                self._store.delete_key(key)

    def _next(self) -> str:
        self._count += 1
        return f"control{self._count}"

    def _put(self, key: str, value: object) -> None:
        """In pieces, as stores limit the size of a value; the first one tells how many follow, and comes last."""
        data = pickle.dumps(value)
        pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
        for number, piece in enumerate(pieces[1:], start=1):
            self._store.set(f"{key}/piece{number}", piece)
            self._left.append(f"{key}/piece{number}")
        self._store.set(key, len(pieces).to_bytes(4, "big") + pieces[0])
        self._left.append(key)

    def _taken(self, keys: Sequence[str]) -> list[Any]:
        """Values that are there."""
        values = []
        for at in range(0, len(keys), _AT_ONCE):
            some = list(keys[at : at + _AT_ONCE])
            for key, first in zip(some, self._store.multi_get(some), strict=True):
                pieces = [first[4:]]
                pieces += [self._store.get(f"{key}/piece{n}") for n in range(1, int.from_bytes(first[:4], "big"))]
                values.append(pickle.loads(b"".join(pieces)))  # of ranks of this job, as torch's own gather_object
        return values

    def _await(self, keys: list[str]) -> None:
        """Wait until they are there, or say whose are missing."""
        if not keys:
            return
        try:
            self._store.wait(keys, timedelta(seconds=self._timeout_s))
        except RuntimeError:  # torch's, for a wait in vain, and for a store that is gone, which the next line meets
            missing = [rank for rank, key in enumerate(keys, start=1) if not self._store.check([key])]
            raise RunError(
                f"{ranks_text(missing if self._rank == 0 else [0])} of {self._ranks} did not come within "
                f"{self._timeout_s:g} s"
            ) from None
