# SPDX-License-Identifier: Apache-2.0
"""Right or wrong, exactly, for every collective: inputs are small integers chosen so that every sum is exact.

What goes in and what must come out is read off the collective's own conditions (``spec.CollectiveSpec.before`` and
``after``), at the coarsest cut of the buffer in which they can be told: one piece, a block per rank, or one per pair.
Everything else in memory is poisoned, so that a value that nobody sent does not look right by luck.

A rank's input is a row of ``_PERIOD`` pseudo-random integers, repeated. The period is a prime, so that a chunk that
landed in another chunk's place does not find its own values there. Any order of adding gives the same sum, so an
element is right only if it is equal; products are of ones and twos. Where a contribution may be added more than once
(``covers``: a barrier), rank r puts a one into every n-th element from r on, and an element is right if it is not less
than one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from types import MappingProxyType

import torch

from commbench.collectives.schedule import Schedule, chunk_offsets
from commbench.collectives.spec import Contribution, Shape, State, get_collective
from commbench.errors import InputError
from commbench.live.reductions import MULTIPLIER, largest_of_one, reduced

__all__ = ["BufferLayout", "count_wrong", "fill_input", "layout_of", "own_part", "own_part_of", "plain_layout"]

_PERIOD = 8191
_LARGEST = 96
_MOST_TWOS = 20
_POISONS = {torch.int8: -113, torch.uint8: 255}  # for integers: no result of inputs is this
_POISON = -(2**29) - 7  # for all others

_EXACT_UP_TO: Mapping[torch.dtype, int] = MappingProxyType(
    {
        # every integer up to 2^p is exact in a floating format with p bits of significand (IEEE 754)
        torch.float64: 2**53,
        torch.float32: 2**24,
        torch.float16: 2**11,
        torch.bfloat16: 2**8,
        torch.float8_e4m3fn: 2**4,
        torch.float8_e5m2: 2**3,
        torch.int64: 2**62,
        torch.int32: 2**30,
        torch.int8: 2**7 - 1,
        torch.uint8: 2**7,
    }
)


@dataclass(frozen=True, slots=True)
class BufferLayout:
    """Where inputs and results stand in a rank's memory: equal buffers one behind the other, each cut into pieces.

    Attributes:
        collective: a key of ``spec.COLLECTIVES``.
        shape: its ``num_chunks`` is the number of pieces of one buffer.
        borders: element offsets of the pieces in one buffer, ``shape.num_chunks + 1`` of them.
        num_buffers, output: as in a Schedule; buffer 0 holds the input.
        starts: of one rank's memory, which holds some pieces alone: the element offset of every piece of every buffer,
            one behind the other, and the length of all. Empty where every buffer is whole.
    """

    collective: str
    shape: Shape
    borders: tuple[int, ...]
    num_buffers: int = 1
    output: int = 0
    starts: tuple[int, ...] = ()

    @property
    def num_elements(self) -> int:
        """Elements of one whole buffer."""
        return self.borders[-1]

    @property
    def memory_elements(self) -> int:
        """Elements of the memory of a rank."""
        return self.starts[-1] if self.starts else self.num_buffers * self.num_elements

    def piece(self, memory: torch.Tensor, buffer: int, piece: int, count: int = 1) -> torch.Tensor:
        """View of ``count`` consecutive pieces of a buffer."""
        if self.starts:
            first = buffer * self.shape.num_chunks + piece
            return memory[self.starts[first] : self.starts[first + count]]
        start = buffer * self.num_elements
        return memory[start + self.borders[piece] : start + self.borders[piece + count]]


def layout_of(schedule: Schedule, num_elements: int) -> BufferLayout:
    """The layout of a schedule's memory with ``num_elements`` in each buffer.

    Raises:
        InputError: the schedule's chunks do not make up the blocks that its collective speaks of.
    """
    shape = _coarsest(schedule.collective, schedule.num_ranks, schedule.root)
    if schedule.num_chunks % shape.num_chunks:
        raise InputError(
            f"schedule {schedule.algorithm!r}: {schedule.num_chunks} chunks are no multiple of the "
            f"{shape.num_chunks} blocks of {schedule.collective} on {schedule.num_ranks} ranks"
        )
    offsets = chunk_offsets(num_elements, schedule.num_chunks, schedule.weights).tolist()
    borders = tuple(offsets[:: schedule.num_chunks // shape.num_chunks])
    return BufferLayout(schedule.collective, shape, borders, schedule.num_buffers, schedule.output)


def plain_layout(
    collective: str,
    num_ranks: int,
    num_elements: int,
    root: int = 0,
    weights: tuple[int, ...] = (),
    in_place: bool = True,
) -> BufferLayout:
    """The layout of a backend's own collective: in place where the collective allows it, else a second buffer.

    Args:
        collective: a key of ``spec.COLLECTIVES``.
        num_ranks: world size.
        num_elements: of one buffer.
        root: of rooted collectives.
        weights: relative sizes of the pieces where they may differ (all-to-all-v); empty means equal ones.
        in_place: False for a second buffer in any case.
    """
    shape = _coarsest(collective, num_ranks, root)
    borders = tuple(chunk_offsets(num_elements, shape.num_chunks, weights).tolist())
    num_buffers = 1 if in_place and get_collective(collective).in_place else 2
    return BufferLayout(collective, shape, borders, num_buffers, num_buffers - 1)


def own_part(layout: BufferLayout, rank: int) -> BufferLayout:
    """The layout of a rank's memory that has room for its own input and result and for nothing else."""
    what, after = (layout.collective, layout.shape, rank), layout.output * layout.shape.num_chunks
    kept = {piece for piece, _ in _held_before(*what)} | {after + piece for piece, _ in _held_after(*what)}
    return replace(layout, starts=_starts(layout.borders, layout.num_buffers, kept))


def own_part_of(schedule: Schedule, layout: BufferLayout, rank: int) -> tuple[BufferLayout, tuple[int, ...]]:
    """The same for a schedule, with room for what passes through the rank; and the offsets of the schedule's chunks."""
    finer = schedule.num_chunks // layout.shape.num_chunks
    plain = own_part(layout, rank)
    kept = {slot * finer + i for slot in range(len(plain.starts) - 1) if plain.starts[slot] < plain.starts[slot + 1]
            for i in range(finer)}  # fmt: skip
    kept |= {chunk for op in schedule.ops_of(rank) for chunk in range(op.chunk, op.chunk + op.count)}
    one = chunk_offsets(layout.num_elements, schedule.num_chunks, schedule.weights).tolist()
    starts = _starts(one, layout.num_buffers, kept)
    return replace(layout, starts=starts[::finer]), starts


def _starts(borders: Sequence[int], num_buffers: int, kept: Collection[int]) -> tuple[int, ...]:
    """Offsets of all pieces of all buffers and the length of all, where those that are not kept have no room."""
    sizes = [end - start for start, end in pairwise(borders)] * num_buffers
    return (0, *accumulate(size if slot in kept else 0 for slot, size in enumerate(sizes)))


def fill_input(memory: torch.Tensor, layout: BufferLayout, rank: int, op: str = "sum") -> None:
    """Write this rank's input into its memory, and poison into the rest of it; ``op``: that is checked."""
    memory.fill_(float("nan") if memory.dtype.is_floating_point else _POISONS.get(memory.dtype, _POISON))
    for piece, contributions in _held_before(layout.collective, layout.shape, rank):
        view = layout.piece(memory, 0, piece)
        row = _pattern(contributions, layout, memory, op).to(memory.dtype)
        whole = view.numel() // len(row) * len(row)
        view[:whole].view(-1, len(row)).copy_(row)
        view[whole:].copy_(row[: view.numel() - whole])


def count_wrong(memory: torch.Tensor, layout: BufferLayout, rank: int, op: str = "sum") -> int:
    """Elements of this rank's result that are not what the collective makes of the inputs of :func:`fill_input`.

    An average of floats may be rounded; everything else is exact.
    """
    spec = get_collective(layout.collective)
    right: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.ge if spec.covers else torch.eq  # NaN: neither
    rounded = op == "avg" and spec.reduces and memory.dtype.is_floating_point
    if rounded:
        right = partial(_near, share=4 / _EXACT_UP_TO[memory.dtype])
    wrong = 0
    for piece, contributions in _held_after(layout.collective, layout.shape, rank):
        view = layout.piece(memory, layout.output, piece)
        row = _pattern(contributions, layout, memory, op)
        row = row if rounded else row.to(memory.dtype)
        whole = view.numel() // len(row) * len(row)
        wrong += view.numel() - int(right(view[:whole].view(-1, len(row)), row).sum())
        wrong -= int(right(view[whole:], row[: view.numel() - whole]).sum())
    return wrong


Pieces = tuple[tuple[int, Mapping[Contribution, int]], ...]
"""Pieces of one rank, each with the contributions that it holds."""


@lru_cache(maxsize=4)  # the same at every size
def _held_before(collective: str, shape: Shape, rank: int) -> Pieces:
    return _of_rank(rank, get_collective(collective).before(shape))


@lru_cache(maxsize=4)
def _held_after(collective: str, shape: Shape, rank: int) -> Pieces:
    return _of_rank(rank, get_collective(collective).after(shape))


def _of_rank(rank: int, state: State) -> Pieces:
    return tuple((piece, contributions) for (owner, piece), contributions in state.items() if owner == rank)


@lru_cache(maxsize=4)
def _coarsest(collective: str, num_ranks: int, root: int) -> Shape:
    """The fewest pieces of the buffer in which the collective's conditions say anything."""
    spec = get_collective(collective)
    shapes = (Shape(num_ranks, pieces, root) for pieces in (1, num_ranks, num_ranks**2))
    return next(shape for shape in shapes if spec.before(shape) and spec.after(shape))


def _near(found: torch.Tensor, right: torch.Tensor, *, share: float) -> torch.Tensor:
    return (found.double() - right).abs() <= share * right.abs()


def _pattern(
    contributions: Mapping[Contribution, int], layout: BufferLayout, memory: torch.Tensor, op: str
) -> torch.Tensor:
    """One period of what these contributions make, from the start of the piece on, on the memory's device."""
    spec, num_ranks = get_collective(layout.collective), layout.shape.num_ranks
    op = op if spec.reduces and not spec.covers else "sum"
    rows = []
    for (origin, piece), times in contributions.items():
        row = _one_hot(origin, num_ranks) if spec.covers else _row(origin, num_ranks, memory.dtype, spec.reduces and op)
        rows += [row.roll(-layout.borders[piece])] * times
    return (reduced(op, rows, num_ranks) if len(rows) > 1 else rows[0]).to(memory.device)


def _one_hot(rank: int, num_ranks: int) -> torch.Tensor:
    return (torch.arange(num_ranks) == rank).to(torch.int64)


@lru_cache(maxsize=128)
def _row(rank: int, num_ranks: int, dtype: torch.dtype, op: str | bool) -> torch.Tensor:
    """One period of a rank's input, int64; where they are reduced, by ``op``, such that the result is exact."""
    place = torch.arange(_PERIOD, dtype=torch.int64)
    # a multiplicative mix of (rank, place); products stay below 2^63
    mixed = (place + 1) * 0x9E3779B1 + (rank + 1) * 0x85EBCA77
    mixed = (mixed ^ (mixed >> 15)) % 2**31 * 0x2C1B3C6D >> 17
    if op == "prod":  # ones, and twos of so few ranks at a time that their product is exact
        most = min(_EXACT_UP_TO[dtype].bit_length() - 1, _MOST_TWOS)
        return 1 + ((place * 7 + rank) % num_ranks < most) * (mixed % 2)
    exact = largest_of_one(op, _EXACT_UP_TO[dtype], num_ranks) if isinstance(op, str) else _EXACT_UP_TO[dtype]
    if exact < 1:  # even ones everywhere would not sum exactly: let as many ranks give a one as may
        most = _EXACT_UP_TO[dtype] // (MULTIPLIER if op == "mulsum" else 1)
        return ((place + rank) % num_ranks < most).to(torch.int64)
    return mixed % (min(exact, _LARGEST) + 1)
