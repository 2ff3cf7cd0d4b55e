# SPDX-License-Identifier: Apache-2.0
"""An algorithm is data: a :class:`Schedule` is a table of sends and receives, and nothing else.

Meaning (the one definition that the verifier, the simulator and the live executor all obey)
--------------------------------------------------------------------------------------------
The buffer of every rank is cut into ``num_chunks`` chunks (:func:`chunk_offsets`). Schedules that need more memory have
further buffers of the same shape behind it; chunk ``c`` of buffer ``b`` is then numbered ``b * num_chunks + c``. Buffer
0 holds the input, buffer ``output`` the result. A record says that ``rank``, in its own step ``step`` on ``channel``,
exchanges ``count`` consecutive chunks starting at ``chunk`` with ``peer``:

* ``send``: the chunks leave ``rank``; ``chunk`` is their place in the sender's buffer.
* ``recv``: the chunks arrive and overwrite; ``chunk`` is their place in the receiver's buffer.
* ``reduce``: the chunks arrive and are added to what stands there, when the step ends.

On one rank and channel, steps run in order. The operations of a step are posted together, in the order of the table,
as soon as every operation of all steps up to ``step - window`` has ended; a step ends when its own operations and all
earlier steps have ended and its reductions are done. Channels of one rank do not wait for each other. The k-th send
from a to b on a channel meets the k-th receive of b from a on that channel, and the transfer starts when both are
posted (rendezvous). A rank that exchanges with itself copies.

Ranks ``num_ranks .. num_ranks + num_switches - 1`` are switches that can add and multicast (NVLS, SHARP): they hold no
input, their memory starts at zero, and only a simulator can run them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.errors import ScheduleError

__all__ = [
    "MOST_CHANNELS",
    "MOST_CHUNKS",
    "MOST_RANKS",
    "MOST_STEPS",
    "Kind",
    "Op",
    "Schedule",
    "chunk_offsets",
]

IntArray = npt.NDArray[np.int32]


MOST_RANKS = 2**20
MOST_STEPS = 2**20
MOST_CHANNELS = 2**10
MOST_CHUNKS = 2**24
"""Bounds of what one schedule may count (chunks: of all buffers of a rank); far above what a machine has."""


class Kind(IntEnum):
    """What a record does; the value is its code in the table."""

    SEND = 0
    RECV = 1
    REDUCE = 2

    @property
    def receives(self) -> bool:
        """Whether data arrives at the record's rank."""
        return self is not Kind.SEND


_KINDS = {int(kind): kind for kind in Kind}  # looked up far faster than Kind(code)
@dataclass(frozen=True, slots=True, order=True)
class Op:
    """One record; see the module docstring for its meaning."""

    step: int
    rank: int
    channel: int
    kind: Kind
    peer: int
    chunk: int
    count: int = 1

    def __str__(self) -> str:
        arrow = {Kind.SEND: ">", Kind.RECV: "<", Kind.REDUCE: "+"}[self.kind]
        chunks = f"{self.chunk}" if self.count == 1 else f"{self.chunk}-{self.chunk + self.count - 1}"
        return f"{chunks}{arrow}{self.peer}"


COLUMNS = tuple(f.name for f in fields(Op))


@dataclass(frozen=True, eq=False)
class Schedule:
    """A collective algorithm for one world size.

    Attributes:
        collective: name of the collective it implements, a key of ``spec.COLLECTIVES``.
        algorithm: name of the algorithm, for people and records.
        num_ranks: world size n; ranks are 0..n-1.
        num_chunks: pieces the buffer is cut into.
        table: int32 array of shape (operations, 7); columns are the fields of :class:`Op` in order, rows sorted by
            (rank, channel, step) with the posting order kept inside a step. Read-only.
        window: how many steps may be in flight on one rank and channel; 1 means a step waits for the one before.
        root: root rank of rooted collectives, 0 otherwise.
        num_buffers: buffers of ``num_chunks`` chunks on every rank. output: the one that the result stands in.
        num_switches: switches that take part, numbered behind the ranks.
        weights: relative sizes of the chunks; empty means equal ones.
    """

    collective: str
    algorithm: str
    num_ranks: int
    num_chunks: int
    table: IntArray
    window: int = 1
    root: int = 0
    num_buffers: int = 1
    output: int = 0
    num_switches: int = 0
    weights: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        name = f"schedule {self.collective}/{self.algorithm}"
        if self.num_ranks < 1 or self.num_chunks < 1 or self.window < 1:
            raise ScheduleError(
                f"{name}: ranks, chunks and window must be at least 1, "
                f"not {self.num_ranks}, {self.num_chunks} and {self.window}"
            )
        if not (0 <= self.output < self.num_buffers and 0 <= self.root < self.num_ranks and self.num_switches >= 0):
            raise ScheduleError(
                f"{name}: output {self.output} must be one of {self.num_buffers} buffers, root {self.root} one of "
                f"{self.num_ranks} ranks, and switches {self.num_switches} not negative"
            )
        if self.weights and (len(self.weights) != self.num_chunks or min(self.weights) < 0 or not any(self.weights)):
            raise ScheduleError(f"{name}: weights must be {self.num_chunks} numbers, none negative, not all zero")
        table = np.asarray(self.table, dtype=np.int32).reshape(-1, len(COLUMNS))
        for what, number, most in (
            ("ranks and switches", self.num_ranks + self.num_switches, MOST_RANKS),
            ("chunks in all buffers of a rank", self.num_slots, MOST_CHUNKS),
            ("steps", int(table[:, 0].max(initial=-1)) + 1, MOST_STEPS),
            ("channels", int(table[:, 2].max(initial=-1)) + 1, MOST_CHANNELS),
        ):
            if number > most:
                raise ScheduleError(f"{name}: {number} {what}; at most {most}")
        table = table[np.lexsort((table[:, 0], table[:, 2], table[:, 1]))]  # stable: posting order survives
        table.setflags(write=False)
        object.__setattr__(self, "table", table)

    @classmethod
    def from_ops(
        cls,
        collective: str,
        algorithm: str,
        num_ranks: int,
        num_chunks: int,
        ops: Iterable[Op],
        **attributes: Any,
    ) -> "Schedule":
        """A schedule from single records; ``attributes`` are those of the class (window, root, num_buffers ...)."""
        rows = [(op.step, op.rank, op.channel, int(op.kind), op.peer, op.chunk, op.count) for op in ops]
        table = np.array(rows, dtype=np.int32).reshape(-1, len(COLUMNS))
        return cls(collective, algorithm, num_ranks, num_chunks, table, **attributes)

    def column(self, name: str) -> IntArray:
        """One column of the table by field name."""
        return self.table[:, COLUMNS.index(name)]

    def __iter__(self) -> Iterator[Op]:
        for step, rank, channel, kind, peer, chunk, count in self.table.tolist():
            yield Op(step, rank, channel, _KINDS[kind], peer, chunk, count)

    def __len__(self) -> int:
        return len(self.table)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        names = [f.name for f in fields(self) if f.name != "table"]
        same = all(getattr(self, name) == getattr(other, name) for name in names)
        return same and np.array_equal(self.table, other.table)

    __hash__ = None  # type: ignore[assignment]  # holds an array

    @property
    def num_channels(self) -> int:
        """Channels used, numbered 0..num_channels-1."""
        return int(self.column("channel").max()) + 1 if len(self) else 1

    @property
    def num_slots(self) -> int:
        """Chunks of all buffers of a rank together."""
        return self.num_chunks * self.num_buffers

    def offsets(self, num_elements: int) -> npt.NDArray[np.int64]:
        """Element offsets of all chunk borders in a memory that holds the buffers one behind the other.

        Args:
            num_elements: of one buffer.

        Returns:
            int64 array of shape (num_slots + 1,); chunk number c spans [offsets[c], offsets[c + 1]).
        """
        one = chunk_offsets(num_elements, self.num_chunks, self.weights)
        starts = np.arange(self.num_buffers, dtype=np.int64)[:, None] * num_elements + one[:-1]
        return np.append(starts.ravel(), self.num_buffers * num_elements)

    @property
    def num_steps(self) -> int:
        """Steps of the longest channel."""
        return int(self.column("step").max()) + 1 if len(self) else 0

    def ops_of(self, rank: int) -> list[Op]:
        """Records of one rank, ordered by channel and step."""
        first, last = np.searchsorted(self.column("rank"), [rank, rank + 1])
        return [Op(s, r, ch, Kind(k), p, c, n) for s, r, ch, k, p, c, n in self.table[first:last].tolist()]


def chunk_offsets(num_elements: int, num_chunks: int, weights: tuple[int, ...] = ()) -> npt.NDArray[np.int64]:
    """Element offsets of the chunk borders: chunk c spans [offsets[c], offsets[c + 1]).

    Without weights, chunks differ by at most one element; some are empty where there are fewer elements than chunks.
    With weights, chunk c gets its share of the elements, the borders rounded down; weights that add up to
    ``num_elements`` are the sizes themselves. Simulator and executor both cut by this function, so that they speak of
    the same bytes.

    Returns:
        int64 array of shape (num_chunks + 1,).
    """
    if not weights:
        return np.arange(num_chunks + 1, dtype=np.int64) * num_elements // num_chunks
    borders = np.concatenate([[0], np.cumsum(np.array(weights, dtype=np.int64))])
    total = int(borders[-1])
    if total * num_elements < 2**63:
        return borders * num_elements // total
    return np.array([border * num_elements // total for border in borders.tolist()], dtype=np.int64)
