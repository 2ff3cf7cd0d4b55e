# SPDX-License-Identifier: Apache-2.0
"""A step is data: a :class:`Program` is a DAG of compute, transfer and collective operations on (rank, stream).

A :class:`Collective` says what is wanted: by which algorithm and over which routes is decided when cluster and
library are known (:mod:`commbench.lowering`). Operations are columns, so that a step of a hundred thousand of them is a
few arrays; :class:`ProgramBuilder` writes them one by one, or a block that repeats.

A rank of a program may stand for many ranks of the world that do the same at the same time (a *representative rank*).
Communications name ranks of the world, and stand on the streams of those that represent them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from commbench.arrays import IntArray
from commbench.errors import InputError
from commbench.program.flat import compress

__all__ = [
    "COMPUTE_STREAM",
    "COPY_STREAM",
    "HOST_STREAM",
    "NOTHING",
    "Block",
    "Collective",
    "Communication",
    "Program",
    "ProgramBuilder",
    "Transfer",
]

COMPUTE_STREAM, HOST_STREAM, COPY_STREAM = "compute", "host", "offload"
"""Streams with a meaning: a rank's own processor does what stands on the first, its host what stands on the second, its
copy engines what stands on the third."""
NOTHING = -1
"""In columns: a compute operation has no communication, and a communication no rank of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """``num_bytes`` bytes from the first to the second rank of every pair, shape (pairs, 2), at the same time."""

    pairs: IntArray
    num_bytes: int
    name: str = ""

    @property
    def groups(self) -> IntArray:
        """The ranks that take part, as :class:`Collective` has them."""
        return self.pairs


@dataclass(frozen=True, slots=True, eq=False)
class Collective:
    """A collective that all ``groups`` have at the same time; known by its identity.

    Attributes:
        kind: a key of ``collectives.spec.COLLECTIVES``.
        groups: shape (groups, members); member g of a row is the group's rank g.
        num_elements: of the full buffer, as nccl-tests counts the size. element_bytes: of one element.
        root: rank inside the group, for rooted collectives.
        name: for people, for example "tensor all-reduce of stage 3".
    """

    kind: str
    groups: IntArray
    num_elements: int
    element_bytes: int
    root: int = 0
    name: str = ""

    @property
    def num_bytes(self) -> int:
        """Of the full buffer."""
        return self.num_elements * self.element_bytes

    def of_ranks(self, ranks: Iterable[int]) -> "Collective":
        """The same of one other group."""
        return replace(self, groups=np.array([list(ranks)], dtype=np.int64))


Communication = Transfer | Collective


@dataclass(frozen=True, eq=False)
class Program:
    """Operations 0 and up; on one (rank, stream) they run in this order, one at a time. Columns: one entry each.

    Attributes:
        num_ranks: of the program.
        communications: what ``communication`` numbers.
        rank: of a compute operation; NOTHING for communications.
        duration_ps: of a compute operation; 0 for communications.
        communication: NOTHING for compute operations.
        stream: number of its stream in ``streams``. label: of its label in ``labels``.
        purpose: number in ``purposes`` of what it is for, in its maker's own words ("forward", "tensor").
        first, after: compressed rows: operation i waits for ``after[first[i]:first[i + 1]]``, all of them before it.
        represented_by: for every rank of the world, the rank of the program that stands for it; None: each for itself.
    """

    num_ranks: int
    communications: tuple[Communication, ...]
    rank: IntArray
    duration_ps: IntArray
    communication: IntArray
    stream: IntArray
    streams: tuple[str, ...]
    label: IntArray
    labels: tuple[str, ...]
    purpose: IntArray
    purposes: tuple[str, ...]
    first: IntArray
    after: IntArray
    represented_by: IntArray | None = None

    @property
    def num_operations(self) -> int:
        """All of them."""
        return len(self.rank)

    def label_of(self, number: int) -> str:
        """Of an operation, for people."""
        return self.labels[int(self.label[number])]

    def waits_of(self, number: int) -> list[int]:
        """The operations that it names as those it waits for."""
        waits: list[int] = self.after[self.first[number] : self.first[number + 1]].tolist()
        return waits

    @cached_property
    def ranks_of(self) -> tuple[tuple[int, ...], ...]:
        """For every communication, the ranks of the program on whose streams it stands, ascending."""
        return tuple(_ranks_of(one, self.represented_by) for one in self.communications)

    @cached_property
    def standing(self) -> tuple[IntArray, IntArray]:
        """Compressed rows (first, ranks): operation i stands on ``ranks[first[i]:first[i + 1]]``."""
        own = [np.array(ranks, dtype=np.int64) for ranks in self.ranks_of]
        width = np.array([1, *map(len, own)], dtype=np.int64)[self.communication + 1]
        first = np.concatenate([[0], np.cumsum(width)])
        start = np.cumsum([0, *map(len, own)])
        every = np.concatenate([np.empty(0, np.int64), *own])
        ranks = np.repeat(self.rank, width)
        talks = np.repeat(self.communication, width)
        within = np.arange(len(ranks)) - np.repeat(first[:-1], width)
        moves = talks != NOTHING
        ranks[moves] = every[start[talks[moves]] + within[moves]]
        return first, ranks


def _ranks_of(what: Communication, represented_by: IntArray | None) -> tuple[int, ...]:
    groups = what.groups if represented_by is None else represented_by[what.groups]
    if represented_by is None and len(groups) == 1:
        return tuple(groups[0].tolist())  # in the order of the group
    return tuple(np.unique(groups).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Operations that are the same at many places of a program but for their labels and what comes before.

    Attributes:
        rows: shape (operations, 6), in the order of _COLUMNS; a label below 0 is number -1 - label of those that
            :meth:`ProgramBuilder.repeat` gives.
        waiting, needed: operations of the block that wait for each other, pair by pair.
    """

    rows: IntArray
    waiting: IntArray
    needed: IntArray


_COLUMNS = ("rank", "duration_ps", "communication", "stream", "label", "purpose")


class _Names:
    """Names by number, in the order of their first use."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        """Number of a name, a new one if it is new."""
        return self._number.setdefault(name, len(self._number))

    def all(self) -> tuple[str, ...]:
        """The names in the order of their numbers."""
        return tuple(self._number)


class ProgramBuilder:
    """Collects the operations of a program of ``num_ranks`` ranks.

    Raises (of all that adds):
        InputError: a rank outside 0..num_ranks-1, a negative amount, a rank that sends to itself, a group that is empty
            or names a rank twice, or a dependency that does not point back; names the operation's number and the value.
    """

    def __init__(self, num_ranks: int, represented_by: IntArray | None = None) -> None:
        self.num_ranks, self.represented_by = num_ranks, represented_by
        self.streams, self.labels, self.purposes = _Names(), _Names(), _Names()
        self._size = 0
        self._rows: list[tuple[int, ...]] = []
        self._places: list[int] = []  # of the rows
        self._pairs: list[tuple[int, int]] = []
        self._repeats: dict[int, tuple[Block, list[int], list[Sequence[int]]]] = {}
        self._communications: dict[int, tuple[int, Communication]] = {}

    def __len__(self) -> int:
        """Operations so far: the number of the next one."""
        return self._size

    def compute(
        self,
        rank: int,
        duration_ps: int,
        *,
        stream: str = "compute",
        after: Iterable[int] = (),
        label: str = "",
        purpose: str = "",
    ) -> int:
        """``duration_ps`` picoseconds of work on ``rank``; returns the operation's number."""
        self._check((rank,), self.num_ranks, duration_ps)
        return self.add(
            (rank, duration_ps, NOTHING, self.streams[stream], self.labels[label], self.purposes[purpose]), after
        )

    def transfer(
        self,
        src: int,
        dst: int,
        num_bytes: int,
        *,
        stream: str = "transfer",
        after: Iterable[int] = (),
        label: str = "",
    ) -> int:
        """``num_bytes`` bytes from rank ``src`` to rank ``dst``; starts when both streams have come to it."""
        what = Transfer(np.array([[src, dst]]), num_bytes, label)
        return self.communicate(what, stream=stream, after=after, purpose="transfer")

    def communicate(
        self, what: Communication, *, stream: str = "collective", after: Iterable[int] = (), purpose: str = ""
    ) -> int:
        """A transfer or collective, which may stand at many places; starts when all its ranks have come to it."""
        return self.add(
            (NOTHING, 0, self.number_of(what), self.streams[stream], self.labels[what.name], self.purposes[purpose]),
            after,
        )

    def number_of(self, what: Communication) -> int:
        """Number of a communication, for the column."""
        known = self._communications.get(id(what))
        if known is None:
            self._check_communication(what)
            known = self._communications[id(what)] = (len(self._communications), what)
        return known[0]

    def add(self, row: tuple[int, ...], after: Iterable[int] = ()) -> int:
        """An operation by its columns, in the order of _COLUMNS."""
        number = self._size
        for earlier in after:
            if not 0 <= earlier < number:
                raise InputError(
                    f"operation {number}: 'after' names operation {earlier}, which does not stand before it"
                )
            self._pairs.append((number, earlier))
        self._rows.append(row)
        self._places.append(number)
        self._size += 1
        return number

    def repeat(self, block: Block, labels: Sequence[int], after: Iterable[tuple[int, int]]) -> int:
        """A block once more; returns the number of its first operation.

        Args:
            block: what; the rows of all its places are written at the end.
            labels: numbers of the labels that it leaves open.
            after: (operation of the block, earlier operation of the program) that it waits for.
        """
        base, size = self._size, len(block.rows)
        self._pairs += [(base + waiting, earlier) for waiting, earlier in after]
        _, bases, given = self._repeats.setdefault(id(block), (block, [], []))
        bases.append(base)
        given.append(labels)
        self._size += size
        return base

    def build(self) -> Program:
        """The program."""
        rows = np.empty((self._size, len(_COLUMNS)), dtype=np.int64)
        rows[self._places] = np.array(self._rows, dtype=np.int64).reshape(-1, len(_COLUMNS))
        pairs = [np.array(self._pairs, dtype=np.int64).reshape(-1, 2)]
        for block, bases, labels in self._repeats.values():
            at = np.array(bases, dtype=np.int64)[:, None]
            copies = np.broadcast_to(block.rows, (len(bases), *block.rows.shape)).copy()
            names = copies[:, :, _COLUMNS.index("label")]
            given = np.array(labels, dtype=np.int64)
            open_ = block.rows[:, _COLUMNS.index("label")]
            names[:, open_ < 0] = given[:, -1 - open_[open_ < 0]]
            rows[at + np.arange(len(block.rows))] = copies
            pairs.append(np.stack([(at + block.waiting).ravel(), (at + block.needed).ravel()], axis=1))
        waits = np.concatenate(pairs)
        first, after = compress(waits[:, 0], waits[:, 1], self._size)
        return Program(
            num_ranks=self.num_ranks,
            communications=tuple(what for _, what in self._communications.values()),
            **{name: np.ascontiguousarray(rows[:, i]) for i, name in enumerate(_COLUMNS)},
            streams=self.streams.all(),
            labels=self.labels.all(),
            purposes=self.purposes.all(),
            first=first,
            after=after,
            represented_by=self.represented_by,
        )

    def _check(self, ranks: Iterable[int], world: int, amount: int) -> None:
        for rank in ranks:
            if not 0 <= rank < world:
                raise InputError(f"operation {len(self)}: rank {rank} is outside the world 0..{world - 1}")
        if amount < 0:
            raise InputError(f"operation {len(self)}: amount {amount} must not be negative")

    def _check_communication(self, what: Communication) -> None:
        world = self.num_ranks if self.represented_by is None else len(self.represented_by)
        if not what.groups.size:
            raise InputError(f"operation {len(self)}: a communication needs a group, and a group a rank")
        self._check((int(what.groups.min()), int(what.groups.max())), world, what.num_bytes)
        ordered = np.sort(what.groups, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if not twice.any():
            return
        group = tuple(what.groups[twice.argmax()].tolist())
        if isinstance(what, Transfer):
            raise InputError(f"operation {len(self)}: rank {group[0]} cannot send to itself")
        raise InputError(f"operation {len(self)}: group {group} names a rank twice")
