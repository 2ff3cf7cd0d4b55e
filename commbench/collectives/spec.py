# SPDX-License-Identifier: Apache-2.0
"""What each collective promises, as a precondition and a postcondition over chunks.

The value in a chunk is the multiset of contributions summed into it. A contribution is ``(rank, chunk)``: the input
that this rank held in that chunk. "Added twice" and "never added" then both show, and so does data that landed in the
wrong place, and so does memory that nobody wrote: it holds the contribution :data:`GARBAGE`.

Sizes follow nccl-tests (doc/PERFORMANCE.md): the size is that of the full buffer, so an all-gather of n ranks has n
blocks and rank r contributes block r. Of all-to-all-v it is what one rank sends (the mean, where ranks differ), as
rccl-tests counts it (src/alltoallv.cu); the buffer of a schedule, which holds the pieces of all pairs, is n times that.
A barrier has no size: its token is one element.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from commbench.errors import InputError, unknown

__all__ = [
    "COLLECTIVES",
    "GARBAGE",
    "MOST_CONTRIBUTIONS",
    "CollectiveSpec",
    "Contribution",
    "Shape",
    "State",
    "contributions",
    "get_collective",
]

Contribution = tuple[int, int]
"""(rank, chunk) of the input that was summed in."""

State = dict[tuple[int, int], Counter[Contribution]]
"""Multiset of contributions in every (rank, chunk)."""

GARBAGE: Contribution = (-1, -1)
"""What stands in memory before anybody has written there."""


@dataclass(frozen=True, slots=True)
class Shape:
    """World size, chunks of the full buffer, and root (0 where there is none)."""

    num_ranks: int
    num_chunks: int
    root: int = 0

    @property
    def ranks(self) -> range:
        """All ranks."""
        return range(self.num_ranks)

    @property
    def chunks(self) -> range:
        """All chunks of a buffer."""
        return range(self.num_chunks)

    def block(self, rank: int) -> range:
        """The chunks of a rank's block: the buffer is n blocks, one behind the other."""
        size = self.num_chunks // self.num_ranks
        return range(rank * size, (rank + 1) * size)

    def piece(self, src: int, dst: int) -> range:
        """The chunks that go from one rank to another where the buffer is n x n pieces."""
        size = self.num_chunks // self.num_ranks**2
        first = (src * self.num_ranks + dst) * size
        return range(first, first + size)


@dataclass(frozen=True, slots=True)
class CollectiveSpec:
    """One collective.

    Attributes:
        name: as users type it, for example "all-reduce".
        summary: one line for people.
        busbw_factor: world size -> factor from algbw to busbw (nccl-tests doc/PERFORMANCE.md).
        before: the input: what the listed (rank, chunk) hold at the start; the rest of the memory holds garbage.
        after: what the listed (rank, chunk) of the output must hold at the end; others are free.
        blocked: whether the buffer is n blocks; sizes are then whole multiples of n elements.
        reduces: whether contributions are added up. rooted: whether it has a root.
        in_place: whether the result may stand where the input stood.
        covers: whether each listed contribution must be there at least once, instead of exactly once; such a collective
            moves a token and has no size.
        rows: whether the buffer is n x n pieces, one row of n for every rank; the size is that of one row.
        neighbours: whether a rank's result is that of the rank before it, so that ranks cannot change roles.
    """

    name: str
    summary: str
    busbw_factor: Callable[[int], float]
    before: Callable[[Shape], State]
    after: Callable[[Shape], State]
    blocked: bool = False
    reduces: bool = False
    rooted: bool = False
    in_place: bool = True
    covers: bool = False
    rows: bool = False
    neighbours: bool = False

    @property
    def by_rank(self) -> int:
        """How many ranks the place of a piece in the buffer names: 1 in blocks, 2 in rows of pieces, else 0."""
        return 2 if self.rows else int(self.blocked)


MOST_CONTRIBUTIONS = 2**22
"""What a file's schedule may speak of; it takes the verifier some seconds and some hundred megabytes."""


def contributions(collective: CollectiveSpec, num_ranks: int, num_chunks: int) -> int:
    """Contributions in the results of all ranks together: what a verifier has to look at."""
    return num_ranks * num_chunks * (num_ranks if collective.reduces else 1)


def _full(shape: Shape) -> State:
    """Every rank holds its own input in every chunk."""
    return {(r, c): Counter({(r, c): 1}) for r in shape.ranks for c in shape.chunks}


def _own_block(shape: Shape) -> State:
    """Every rank holds its own block."""
    return {(r, c): Counter({(r, c): 1}) for r in shape.ranks for c in shape.block(r)}


def _at_root(shape: Shape) -> State:
    """The root holds its whole buffer."""
    return {(shape.root, c): Counter({(shape.root, c): 1}) for c in shape.chunks}


def _sum(shape: Shape, chunk: int) -> Counter[Contribution]:
    """Every rank's contribution to a chunk, each once."""
    return Counter({(origin, chunk): 1 for origin in shape.ranks})


def _sum_everywhere(shape: Shape) -> State:
    return {(r, c): _sum(shape, c) for r in shape.ranks for c in shape.chunks}


def _sum_by_block(shape: Shape) -> State:
    return {(r, c): _sum(shape, c) for r in shape.ranks for c in shape.block(r)}


def _sum_at_root(shape: Shape) -> State:
    return {(shape.root, c): _sum(shape, c) for c in shape.chunks}


def _blocks_everywhere(shape: Shape) -> State:
    return {(r, c): Counter({(o, c): 1}) for r in shape.ranks for o in shape.ranks for c in shape.block(o)}


def _blocks_at_root(shape: Shape) -> State:
    return {(shape.root, c): Counter({(o, c): 1}) for o in shape.ranks for c in shape.block(o)}


def _root_everywhere(shape: Shape) -> State:
    return {(r, c): Counter({(shape.root, c): 1}) for r in shape.ranks for c in shape.chunks}


def _root_by_block(shape: Shape) -> State:
    return {(r, c): Counter({(shape.root, c): 1}) for r in shape.ranks for c in shape.block(r)}


def _transposed(shape: Shape) -> State:
    """Block s of rank r is what rank s held in its block r."""
    return {
        (r, mine): Counter({(s, theirs): 1})
        for r in shape.ranks
        for s in shape.ranks
        for mine, theirs in zip(shape.block(s), shape.block(r), strict=True)
    }


def _shifted(shape: Shape) -> State:
    """Every rank holds the input of the rank before it."""
    return {(r, c): Counter({((r - 1) % shape.num_ranks, c): 1}) for r in shape.ranks for c in shape.chunks}


def _rows(shape: Shape) -> State:
    """The buffer is n x n pieces; piece s * n + d is what rank s has for rank d. Every rank holds its row."""
    return {(s, c): Counter({(s, c): 1}) for s in shape.ranks for d in shape.ranks for c in shape.piece(s, d)}


def _columns(shape: Shape) -> State:
    return {(d, c): Counter({(s, c): 1}) for s in shape.ranks for d in shape.ranks for c in shape.piece(s, d)}


def _ring_share(n: int) -> float:
    return (n - 1) / n


def _whole(n: int) -> float:
    return 1.0


_blocked = partial(CollectiveSpec, busbw_factor=_ring_share, blocked=True)

_ALL = (
    CollectiveSpec(
        name="all-reduce",
        summary="every rank ends with the sum",
        busbw_factor=lambda n: 2 * (n - 1) / n,
        before=_full,
        after=_sum_everywhere,
        reduces=True,
    ),
    _blocked(
        name="reduce-scatter",
        summary="rank r ends with block r of the sum",
        before=_full,
        after=_sum_by_block,
        reduces=True,
    ),
    _blocked(
        name="all-gather",
        summary="every rank ends with every rank's block",
        before=_own_block,
        after=_blocks_everywhere,
    ),
    CollectiveSpec(
        name="broadcast",
        summary="every rank ends with the root's buffer",
        busbw_factor=_whole,
        before=_at_root,
        after=_root_everywhere,
        rooted=True,
    ),
    CollectiveSpec(
        name="reduce",
        summary="the root ends with the sum",
        busbw_factor=_whole,
        before=_full,
        after=_sum_at_root,
        reduces=True,
        rooted=True,
    ),
    _blocked(
        name="all-to-all",
        summary="block d of rank s becomes block s of rank d",
        before=_full,
        after=_transposed,
        in_place=False,
    ),
    CollectiveSpec(
        name="all-to-all-v",
        summary="all-to-all with a size of its own for every pair",
        busbw_factor=_ring_share,
        before=_rows,
        after=_columns,
        in_place=False,
        rows=True,
    ),
    _blocked(
        name="gather",
        summary="the root ends with every rank's block",
        before=_own_block,
        after=_blocks_at_root,
        rooted=True,
    ),
    _blocked(
        name="scatter",
        summary="rank r ends with the root's block r",
        before=_at_root,
        after=_root_by_block,
        rooted=True,
    ),
    CollectiveSpec(
        name="send-recv",
        summary="every rank ends with the buffer of the rank before it",
        busbw_factor=_whole,
        before=_full,
        after=_shifted,
        in_place=False,
        neighbours=True,
    ),
    CollectiveSpec(
        name="barrier",
        summary="every rank has heard of every rank",
        busbw_factor=lambda n: 0.0,
        before=_full,
        after=_sum_everywhere,
        reduces=True,
        covers=True,
    ),
)

COLLECTIVES: Mapping[str, CollectiveSpec] = MappingProxyType({collective.name: collective for collective in _ALL})

_ALSO = {"bcast": "broadcast", "allgatherintotensor": "all-gather", "reducescattertensor": "reduce-scatter",
         "alltoallsingle": "all-to-all"}  # fmt: skip
"""What MPI and torch.distributed call them, in letters alone."""


def get_collective(name: str) -> CollectiveSpec:
    """The collective of this name, in any spelling of the field: allreduce, all_reduce, AllReduce, all_reduce_perf.

    Raises:
        InputError: unknown name; says which are near.
    """
    if name in COLLECTIVES:
        return COLLECTIVES[name]
    letters = "".join(c for c in name.lower().removesuffix("_perf") if c.isalnum())
    by_letters = {known.replace("-", ""): known for known in COLLECTIVES} | _ALSO
    if letters in by_letters:
        return COLLECTIVES[by_letters[letters]]
    raise InputError(f"collective {name!r} {unknown(name, COLLECTIVES)}")
