# SPDX-License-Identifier: Apache-2.0
"""Recursive doubling and halving: partners whose numbers differ in one bit, another bit in every step.

Sources: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in MPICH",
Int. J. High Performance Computing Applications 19 (2005) 49-66, sections 4 and 5; R. Rabenseifner, "Optimization of
collective reduction operations", ICCS 2004, LNCS 3036, 1-9.

Worlds of n ranks that are no power of two are folded first, as MPICH does in its reduce: with p the largest power of
two below n and x = n - p, ranks 1, 3, .. 2x - 1 hand their buffer to the rank before them and sit out. Place i of the p
that remain is then rank i + min(i, x). At the end those that sat out are given their result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from commbench.arrays import IntArray
from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.messages import Numbers, made_by, messages, table
from commbench.collectives.schedule import Kind, Schedule

__all__ = [
    "ALGORITHMS",
    "halving_doubling_all_reduce",
    "rabenseifner_reduce",
    "recursive_doubling_all_gather",
    "recursive_doubling_all_reduce",
    "recursive_halving_reduce_scatter",
]


@dataclass(frozen=True, slots=True)
class _Fold:
    """A world, numbered from ``root``, and the largest power of two in it, 2^bits."""

    num_ranks: int
    root: int = 0

    @property
    def bits(self) -> int:
        """log2 p."""
        return self.num_ranks.bit_length() - 1

    @property
    def places(self) -> IntArray:
        """0..p-1."""
        return np.arange(1 << self.bits)

    @property
    def num_out(self) -> int:
        """Ranks that sit out."""
        return self.num_ranks - (1 << self.bits)

    @property
    def first_step(self) -> int:
        """The step behind the fold."""
        return min(1, self.num_out)

    def offset(self, place: IntArray) -> IntArray:
        """How far the rank at a place is from the root; for place p it is n."""
        return place + np.minimum(place, self.num_out)

    def rank(self, place: IntArray) -> IntArray:
        """The rank at a place."""
        return (self.root + self.offset(place)) % self.num_ranks

    def folding(self, count: int) -> IntArray:
        """Step 0: who sits out hands its buffer of ``count`` chunks to the place before it."""
        taker = self.rank(self.places[: self.num_out])
        return messages(0, (taker + 1) % self.num_ranks, taker, 0, 0, count=count, kind=Kind.REDUCE)

    def unfolding(self, step: int, chunk: Numbers, count: int) -> IntArray:
        """Who sat out is given ``count`` chunks by the place before it."""
        giver = self.rank(self.places[: self.num_out])
        return messages(step, giver, (giver + 1) % self.num_ranks, chunk, chunk, count=count)

    def swap(self, step: int, bit: int, chunk: Numbers, count: Numbers, kind: Kind) -> IntArray:
        """Every place sends ``count`` chunks to the place that differs in ``bit``."""
        partner = self.rank(self.places ^ (1 << bit))
        return messages(step, self.rank(self.places), partner, chunk, chunk, count=count, kind=kind)


# Doubling -----------------------------------------------------------------------------------------------------------


def recursive_doubling_all_gather(num_ranks: int) -> Schedule:
    """All-gather in log2 n steps: in step s rank r swaps the 2^s blocks it has with those of rank r XOR 2^s.

    For powers of two only. Each rank sends (n-1)/n of the buffer.
    """
    n, fold = num_ranks, _Fold(num_ranks)
    rows = [fold.swap(bit, bit, fold.places >> bit << bit, 1 << bit, Kind.RECV) for bit in range(fold.bits)]
    return Schedule("all-gather", "recursive-doubling", n, n, table(*rows))


def recursive_doubling_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in log2 n steps in which partners swap and add whole buffers; a fold adds two steps.

    Each rank sends log2 n buffers; in folded worlds the busiest sends floor(log2 n) + 1.
    """
    fold = _Fold(num_ranks)
    rows = [fold.folding(1)]
    rows += [fold.swap(fold.first_step + bit, bit, 0, 1, Kind.REDUCE) for bit in range(fold.bits)]
    rows.append(fold.unfolding(fold.first_step + fold.bits, 0, 1))
    return Schedule("all-reduce", "recursive-doubling", num_ranks, 1, table(*rows))


# Halving ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Halving:
    """A step of recursive halving between places that differ in ``bit``.

    ``kept`` and ``given`` are the first of the ``width`` units that a place keeps and hands to its partner.
    """

    bit: int
    kept: IntArray
    given: IntArray
    width: int


def _halvings(places: IntArray, bits: Sequence[int]) -> Iterator[_Halving]:
    """Of as many units as places, each place halves what it has; those whose number has the bit keep the upper half."""
    first, width = np.zeros_like(places), len(places)
    for bit in bits:
        width //= 2
        upper = places >> bit & 1
        kept, given = first + upper * width, first + (1 - upper) * width
        yield _Halving(bit, kept, given, width)
        first = kept


def recursive_halving_reduce_scatter(num_ranks: int) -> Schedule:
    """Reduce-scatter in log2 n steps, far partners first: each time half of what is left is swapped and added.

    The unit of a place is the block of its rank and, in folded worlds, of the rank that it stands in for, to which a
    last step hands it. Each rank sends (n-1)/n of the buffer; who sits out sends all of it.
    """
    n, fold = num_ranks, _Fold(num_ranks)
    rows = [fold.folding(n)]
    # Units in the order of places are blocks in the order of ranks, so a unit's first block has its rank's number.
    for step, halving in enumerate(_halvings(fold.places, range(fold.bits)[::-1]), start=fold.first_step):
        first, end = fold.offset(halving.given), fold.offset(halving.given + halving.width)
        rows.append(fold.swap(step, halving.bit, first, end - first, Kind.REDUCE))
    rows.append(fold.unfolding(fold.first_step + fold.bits, 2 * np.arange(fold.num_out) + 1, 1))
    return Schedule("reduce-scatter", "recursive-halving", n, n, table(*rows))


def halving_doubling_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in 2 log2 n steps: reduce-scatter by recursive halving, then all-gather by recursive doubling.

    Near partners swap the large halves (vector halving with distance doubling). Each rank sends 2(n-1)/n of the
    buffer. A fold adds two steps, and who stands in for another rank sends a buffer more: 2(p-1)/p + 1.
    """
    fold = _Fold(num_ranks)
    chunks, first_step = len(fold.places), fold.first_step
    last_step = first_step + 2 * fold.bits
    rows = [fold.folding(chunks)]
    for halving in _halvings(fold.places, range(fold.bits)):
        bit, width = halving.bit, halving.width
        rows.append(fold.swap(first_step + bit, bit, halving.given, width, Kind.REDUCE))
        rows.append(fold.swap(last_step - 1 - bit, bit, halving.kept, width, Kind.RECV))
    rows.append(fold.unfolding(last_step, 0, chunks))
    return Schedule("all-reduce", "halving-doubling", num_ranks, chunks, table(*rows))


def rabenseifner_reduce(num_ranks: int, root: int = 0) -> Schedule:
    """Reduce in 2 log2 n steps: reduce-scatter by recursive halving, then binomial gather to the root; a fold adds one.

    The root is place 0. The busiest rank sends (p-1)/p + 1/2 of the buffer (p > 1); who sits out sends it once.
    """
    fold = _Fold(num_ranks, root)
    chunks, first_step = len(fold.places), fold.first_step
    last_step = first_step + 2 * fold.bits
    rows = [fold.folding(chunks)]
    for halving in _halvings(fold.places, range(fold.bits)):
        bit, width = halving.bit, halving.width
        rows.append(fold.swap(first_step + bit, bit, halving.given, width, Kind.REDUCE))
        # The gather runs from the highest bit down: a place with a higher bit has handed its part over by now.
        giver = np.arange(1 << bit, 2 << bit)
        taker, kept = fold.rank(giver ^ (1 << bit)), halving.kept[giver]
        rows.append(messages(last_step - 1 - bit, fold.rank(giver), taker, kept, kept, count=width))
    return Schedule("reduce", "rabenseifner", num_ranks, chunks, table(*rows), root=root)


def _power_of_two(request: Request) -> str:
    n = request.num_ranks
    return "" if n & (n - 1) == 0 else f"needs a power of two, not {n} ranks"


_THAKUR = "Thakur, Rabenseifner and Gropp 2005"

ALGORITHMS = (
    made_by(
        recursive_doubling_all_gather,
        "all-gather",
        "recursive-doubling",
        f"{_THAKUR}, section 4.1",
        refuses=_power_of_two,
        worlds="powers of two",
    ),
    made_by(recursive_doubling_all_reduce, "all-reduce", "recursive-doubling", f"{_THAKUR}, section 4.5"),
    made_by(
        halving_doubling_all_reduce,
        "all-reduce",
        "halving-doubling",
        f"{_THAKUR}, section 5; Rabenseifner 2004",
        aliases=("rabenseifner",),
    ),
    made_by(recursive_halving_reduce_scatter, "reduce-scatter", "recursive-halving", f"{_THAKUR}, section 4.4"),
    made_by(rabenseifner_reduce, "reduce", "rabenseifner", f"{_THAKUR}, section 5; Rabenseifner 2004"),
)
