# SPDX-License-Identifier: Apache-2.0
"""Double binary tree: two trees that share the ranks so that an inner rank of one is a leaf of the other.

Source: P. Sanders, J. Speck, J. L. Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan",
Parallel Computing 35 (2009) 581-594. The shape of the trees is the one of NCCL 2.30.7, src/graph/trees.cc.
"""

from collections.abc import Iterator

from commbench.collectives.algorithms.messages import made_by
from commbench.collectives.passes import pipeline
from commbench.collectives.schedule import Kind, Op, Schedule

__all__ = ["ALGORITHMS", "NO_PARENT", "binary_tree", "double_binary_tree", "double_binary_tree_all_reduce"]

NO_PARENT = -1


def binary_tree(num_ranks: int) -> tuple[int, ...]:
    """Parent of every rank in NCCL's binary tree, NO_PARENT for the root (rank 0).

    With b the lowest set bit of r, the parent is r with bit b cleared and bit 2b set, or, if that leaves the world,
    just with bit b cleared.
    """
    parents = [NO_PARENT]
    for rank in range(1, num_ranks):
        bit = rank & -rank
        parent = (rank ^ bit) | (bit << 1)
        parents.append(parent if parent < num_ranks else rank ^ bit)
    return tuple(parents)


def double_binary_tree(num_ranks: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Parents in the two trees: the second is the first one mirrored (even worlds) or shifted by one rank (odd)."""
    n = num_ranks
    first = binary_tree(n)

    def rename(rank: int) -> int:
        if rank == NO_PARENT:
            return NO_PARENT
        return n - 1 - rank if n % 2 == 0 else (rank + 1) % n

    second = [NO_PARENT] * n
    for rank in range(n):
        second[rename(rank)] = rename(first[rank])
    return first, tuple(second)


def double_binary_tree_all_reduce(num_ranks: int, num_slices: int = 1) -> Schedule:
    """All-reduce up and down both trees; each tree is a channel that carries half of the buffer.

    Every half is cut into ``num_slices`` chunks which follow one another up and down the tree, one step apart.
    """
    ops = [op for channel, parents in enumerate(double_binary_tree(num_ranks)) for op in _up_and_down(parents, channel)]
    single = Schedule.from_ops("all-reduce", "double-binary-tree", num_ranks, 2, ops)
    return pipeline(single, num_slices)


def _up_and_down(parents: tuple[int, ...], channel: int) -> Iterator[Op]:
    """Reduce chunk ``channel`` to the root, then broadcast it; a rank acts one step after the last it waits for."""
    height = _heights(parents)
    top = max(height)
    depth = _depths(parents)
    for rank, parent in enumerate(parents):
        if parent == NO_PARENT:
            continue
        up, down = height[rank], top + depth[parent]
        yield Op(up, rank, channel, Kind.SEND, parent, channel)
        yield Op(up, parent, channel, Kind.REDUCE, rank, channel)
        yield Op(down, parent, channel, Kind.SEND, rank, channel)
        yield Op(down, rank, channel, Kind.RECV, parent, channel)


def _depths(parents: tuple[int, ...]) -> list[int]:
    """Hops from the root."""

    def depth(rank: int) -> int:
        return 0 if parents[rank] == NO_PARENT else 1 + depth(parents[rank])

    return [depth(rank) for rank in range(len(parents))]


def _heights(parents: tuple[int, ...]) -> list[int]:
    """Hops to the farthest leaf below."""
    height = [0] * len(parents)
    for rank in sorted(range(len(parents)), key=_depths(parents).__getitem__, reverse=True):
        if parents[rank] != NO_PARENT:
            height[parents[rank]] = max(height[parents[rank]], height[rank] + 1)
    return height


ALGORITHMS = (
    made_by(
        double_binary_tree_all_reduce,
        "all-reduce",
        "double-binary-tree",
        "Sanders, Speck and Traeff 2009; tree shape of NCCL 2.30.7",
        aliases=("tree",),
        default_slices=4,
    ),
)
