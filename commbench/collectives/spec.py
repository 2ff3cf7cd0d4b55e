# SPDX-License-Identifier: Apache-2.0
"""What each collective promises, as a precondition and a postcondition over chunks.

The value in a chunk is the multiset of contributions summed into it. A contribution is ``(rank, chunk)``: the input
that this rank held in that chunk. "Added twice" and "never added" then both show, and so does data that landed in the
wrong place.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from commbench.errors import InputError

__all__ = ["COLLECTIVES", "Collective", "Contribution", "State", "get_collective"]

Contribution = tuple[int, int]
"""(rank, chunk) of the input that was summed in."""

State = dict[tuple[int, int], Counter[Contribution]]
"""Multiset of contributions in every (rank, chunk)."""


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective.

    Attributes:
        name: as users type it, for example "all-reduce".
        busbw_factor: world size -> factor from algbw to busbw (nccl-tests doc/PERFORMANCE.md).
        before: (ranks, chunks, root) -> the state at the start.
        after: (ranks, chunks, root) -> what each listed (rank, chunk) must hold at the end; others are free.
    """

    name: str
    busbw_factor: Callable[[int], float]
    before: Callable[[int, int, int], State]
    after: Callable[[int, int, int], State]


def _own_input(num_ranks: int, num_chunks: int, root: int) -> State:
    """Every rank holds its own contribution in every chunk."""
    return {(r, c): Counter({(r, c): 1}) for r in range(num_ranks) for c in range(num_chunks)}


def _all_reduced(num_ranks: int, num_chunks: int, root: int) -> State:
    """Every rank holds every rank's contribution to every chunk, each exactly once."""
    return {
        (r, c): Counter({(origin, c): 1 for origin in range(num_ranks)})
        for r in range(num_ranks)
        for c in range(num_chunks)
    }


COLLECTIVES: Mapping[str, Collective] = MappingProxyType(
    {
        "all-reduce": Collective(
            name="all-reduce",
            busbw_factor=lambda n: 2 * (n - 1) / n,
            before=_own_input,
            after=_all_reduced,
        ),
    }
)


def get_collective(name: str) -> Collective:
    """The collective of this name.

    Raises:
        InputError: unknown name.
    """
    if name not in COLLECTIVES:
        raise InputError(f"collective {name!r} is unknown; known: {', '.join(COLLECTIVES)}")
    return COLLECTIVES[name]
