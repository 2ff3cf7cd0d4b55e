# SPDX-License-Identifier: Apache-2.0
"""PAT, parallel aggregated trees: a binomial tree for every block, all trees walked together, far distances first.

Source: S. Jeaugey, "PAT: a new algorithm for all-gather and reduce-scatter operations at scale", arXiv 2506.20252
(2025). Directions as in NCCL 2.30.7: in an all-gather data go from higher to lower ranks.

The block that is ``offset`` ranks ahead of a rank comes to it from the rank 2^d ahead, 2^d being the lowest set bit of
the offset. One message carries the blocks of several offsets. Each rank packs its blocks into buffer 1 in an order in
which the blocks of every message are neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "pat_all_gather", "pat_reduce_scatter"]


@dataclass(frozen=True, slots=True)
class _Round:
    """An all-gather round: blocks at these ``offsets`` come from the rank ``distance`` ahead, which is nearer them."""

    distance: int
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Rounds in all-gather order, and the offset that stands at each place of buffer 1."""

    rounds: tuple[_Round, ...]
    order: tuple[int, ...]

    def place(self, offset: int) -> int:
        """Where in buffer 1 the block ``offset`` ranks ahead stands."""
        return self.order.index(offset)


def pat_all_gather(num_ranks: int, aggregation: int | None = None) -> Schedule:
    """All-gather in ceil(log2 n) rounds if fully aggregated, in n - 1 if not at all (in powers of two).

    Args:
        num_ranks: world size n, any.
        aggregation: most blocks that one message may carry, rounded down to a power of two; None: no limit.

    With at most A blocks per message, the trees are walked breadth first until A branches are open, then depth first:
    log2 A + 2^ceil(log2 n) / A - 1 rounds, fewer where branches leave the world. A step before the rounds and one
    after them only copy.
    """
    n = num_ranks
    plan = _plan(n, aggregation)
    rank = np.arange(n)
    rows = [messages(0, rank, rank, rank, n + plan.place(0))]
    for step, leg in enumerate(plan.rounds, start=1):
        first, count = leg.offsets[0], len(leg.offsets)
        sent, placed = n + plan.place(first - leg.distance), n + plan.place(first)
        rows.append(messages(step, rank, (rank - leg.distance) % n, sent, placed, count=count))
        slot = np.arange(count)[:, None]
        block = (rank + np.array(leg.offsets)[:, None]) % n
        rows.append(messages(step + 1, rank, rank, placed + slot, block))
    return Schedule("all-gather", "pat", n, n, table(*rows), num_buffers=2)


def pat_reduce_scatter(num_ranks: int, aggregation: int | None = None) -> Schedule:
    """Reduce-scatter: the all-gather backwards, partial sums going up the trees; see there for the arguments."""
    n = num_ranks
    plan = _plan(n, aggregation)
    rank = np.arange(n)
    block = (rank + np.array(plan.order)[:, None]) % n
    rows = [messages(0, rank, rank, block, n + np.arange(n)[:, None])]
    for step, leg in enumerate(reversed(plan.rounds), start=1):
        first, count = leg.offsets[0], len(leg.offsets)
        sent, placed = n + plan.place(first), n + plan.place(first - leg.distance)
        rows.append(messages(step, rank, (rank + leg.distance) % n, sent, placed, count=count, kind=Kind.REDUCE))
    rows.append(messages(len(plan.rounds) + 1, rank, rank, n + plan.place(0), rank))
    return Schedule("reduce-scatter", "pat", n, n, table(*rows), num_buffers=2)


def _plan(num_ranks: int, aggregation: int | None) -> _Plan:
    """Breadth first over the high bits of the offset, then depth first over the low ones, all branches together.

    A branch is one value of the high bits. Where the world is no power of two, the largest branch may lack some of the
    low values. It therefore stands last among the branches, so that those with a low value are always neighbours.
    """
    n = num_ranks
    span = 1 << (n - 1).bit_length()
    most = span // 2 if aggregation is None else min(aggregation, span // 2)
    width = span if most < 1 else span >> (most.bit_length() - 1)  # number of low parts
    branches, rounds = [0], []
    distance = span // 2
    while distance >= width:
        new = [branch + distance for branch in branches if branch + distance < n]
        rounds.append(_Round(distance, tuple(new)))
        branches = branches + new if len(new) == len(branches) else new + branches
        distance //= 2
    order = list(branches)
    for low in _depth_first(0, width // 2):
        offsets = [branch + low for branch in branches if branch + low < n]
        if offsets:
            rounds.append(_Round(low & -low, tuple(offsets)))
            order += offsets
    return _Plan(tuple(rounds), tuple(order))


def _depth_first(root: int, distance: int) -> Iterator[int]:
    """What hangs below ``root`` in a binomial tree, the farthest branch first."""
    while distance >= 1:
        yield root + distance
        yield from _depth_first(root + distance, distance // 2)
        distance //= 2


ALGORITHMS = (
    made_by(pat_all_gather, "all-gather", "pat", "Jeaugey 2025, fully aggregated"),
    made_by(pat_reduce_scatter, "reduce-scatter", "pat", "Jeaugey 2025, fully aggregated"),
)
