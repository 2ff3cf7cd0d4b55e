# SPDX-License-Identifier: Apache-2.0
"""Rooted trees: binomial, k-ary, and flat. Place v of a tree is rank root + v, so that any rank can be the root.

Sources: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in MPICH",
Int. J. High Performance Computing Applications 19 (2005) 49-66, section 4 (binomial). J. Pjesivac-Grbovic, T. Angskun,
G. Bosilca, G. E. Fagg, E. Gabriel, J. J. Dongarra, "Performance analysis of MPI collective operations", Cluster
Computing 10 (2007) 127-143 (pipelined trees; of any arity here). Flat: gloo/gather.cc and scatter.cc; NCCL 2.30.7.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from commbench.arrays import IntArray
from commbench.collectives.algorithm import Algorithm
from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.schedule import Kind, Schedule

__all__ = [
    "ALGORITHMS",
    "binomial_broadcast",
    "binomial_gather",
    "binomial_reduce",
    "binomial_scatter",
    "direct_gather",
    "direct_scatter",
    "k_ary_all_reduce",
    "k_ary_broadcast",
    "k_ary_reduce",
]


# Binomial -----------------------------------------------------------------------------------------------------------


def binomial_broadcast(num_ranks: int, root: int = 0) -> Schedule:
    """Broadcast in ceil(log2 n) steps, the farthest place first; the root sends the whole buffer in each."""
    n = num_ranks
    rows = [
        messages(step, (root + upper) % n, (root + lower) % n, 0, 0)
        for step, (upper, lower, _) in enumerate(_levels(n))
    ]
    return Schedule("broadcast", "binomial", n, 1, table(*rows), root=root)


def binomial_reduce(num_ranks: int, root: int = 0) -> Schedule:
    """Reduce in ceil(log2 n) steps, the broadcast backwards: every rank but the root sends its partial sum once."""
    n = num_ranks
    rows = [
        messages(step, (root + lower) % n, (root + upper) % n, 0, 0, kind=Kind.REDUCE)
        for step, (upper, lower, _) in enumerate(reversed(list(_levels(n))))
    ]
    return Schedule("reduce", "binomial", n, 1, table(*rows), root=root)


def binomial_gather(num_ranks: int, root: int = 0) -> Schedule:
    """Gather in ceil(log2 n) steps: every rank but the root sends once, the blocks of all places below its own.

    They follow on in the buffer; where they wrap round its end they go as two messages. With m the largest power of two
    below n, place m sends n - m blocks and place m/2 sends m/2: one of the two is the busiest.
    """
    n = num_ranks
    rows = [
        _blocks(step, n, lower, upper, count, root)
        for step, (upper, lower, count) in enumerate(reversed(list(_levels(n))))
    ]
    return Schedule("gather", "binomial", n, n, table(*rows), root=root)


def binomial_scatter(num_ranks: int, root: int = 0) -> Schedule:
    """Scatter in ceil(log2 n) steps, the gather backwards; the root sends (n-1)/n of the buffer."""
    n = num_ranks
    rows = [_blocks(step, n, upper, lower, count, root) for step, (upper, lower, count) in enumerate(_levels(n))]
    return Schedule("scatter", "binomial", n, n, table(*rows), root=root)


def _levels(num_ranks: int) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Edges from the root down: places that are above, places below them, and how many places hang from the latter.

    Place v hangs from v without its lowest set bit; all places of v's subtree follow v.
    """
    for bit in reversed(range((num_ranks - 1).bit_length())):
        lower = np.arange(1 << bit, num_ranks, 2 << bit)
        yield lower - (1 << bit), lower, np.minimum(1 << bit, num_ranks - lower)


def _blocks(step: int, num_ranks: int, sender: IntArray, receiver: IntArray, count: IntArray, root: int) -> IntArray:
    """Messages between places with the blocks of ``count`` places from the farther one; in two where they wrap."""
    n = num_ranks
    source, target, first = (root + sender) % n, (root + receiver) % n, (root + np.maximum(sender, receiver)) % n
    straight = np.minimum(count, n - first)
    return np.concatenate(
        [
            messages(step, source, target, first, first, count=straight),
            messages(step, source, target, 0, 0, count=count - straight),
        ]
    )


# Flat ---------------------------------------------------------------------------------------------------------------


def direct_gather(num_ranks: int, root: int = 0) -> Schedule:
    """Gather in one step: the root posts all n - 1 receives at once, from the next rank on."""
    other = (root + np.arange(1, num_ranks)) % num_ranks
    return Schedule("gather", "direct", num_ranks, num_ranks, table(messages(0, other, root, other, other)), root=root)


def direct_scatter(num_ranks: int, root: int = 0) -> Schedule:
    """Scatter in one step: the root posts all n - 1 sends at once, to the next rank first."""
    other = (root + np.arange(1, num_ranks)) % num_ranks
    return Schedule("scatter", "direct", num_ranks, num_ranks, table(messages(0, root, other, other, other)), root=root)


# k-ary --------------------------------------------------------------------------------------------------------------


def k_ary_broadcast(num_ranks: int, root: int = 0, arity: int = 2) -> Schedule:
    """Broadcast down a complete tree, one step per level; a rank sends to all its children at once.

    Args:
        num_ranks: world size. root: root rank.
        arity: children of a rank; place v hangs from place (v - 1) // arity.

    With K slices: height + K - 1 steps; an inner rank sends ``arity`` whole buffers.
    """
    return Schedule("broadcast", _k_ary_name(arity), num_ranks, 1, _down(num_ranks, root, arity), root=root)


def k_ary_reduce(num_ranks: int, root: int = 0, arity: int = 2) -> Schedule:
    """Reduce up a complete tree, one step per level, the deepest first; see :func:`k_ary_broadcast`."""
    return Schedule("reduce", _k_ary_name(arity), num_ranks, 1, _up(num_ranks, root, arity), root=root)


def k_ary_all_reduce(num_ranks: int, arity: int = 2) -> Schedule:
    """All-reduce up the tree to rank 0 and down again, in 2 height + K - 1 steps with K slices.

    An inner rank sends ``arity`` + 1 whole buffers.
    """
    height = _depths(num_ranks, arity)[-1]
    rows = np.concatenate([_up(num_ranks, 0, arity), _down(num_ranks, 0, arity, first_step=height)])
    return Schedule("all-reduce", _k_ary_name(arity), num_ranks, 1, rows)


def _k_ary_name(arity: int) -> str:
    return "k-ary-tree" if arity == 2 else f"{arity}-ary-tree"


def _down(num_ranks: int, root: int, arity: int, first_step: int = 0) -> npt.NDArray[np.int32]:
    """Rows that lead from the root to all."""
    place, depth = np.arange(1, num_ranks), np.array(_depths(num_ranks, arity)[1:], dtype=np.int_)
    parent = (root + (place - 1) // arity) % num_ranks
    return table(messages(first_step + depth - 1, parent, (root + place) % num_ranks, 0, 0))


def _up(num_ranks: int, root: int, arity: int) -> npt.NDArray[np.int32]:
    """Rows that add everything up at the root."""
    rows = _down(num_ranks, root, arity)
    step, rank, channel, kind, peer, chunk, count = rows.T
    turned = np.where(kind == Kind.SEND, Kind.REDUCE, Kind.SEND)
    return np.stack([step.max(initial=0) - step, rank, channel, turned, peer, chunk, count], axis=1)


def _depths(num_ranks: int, arity: int) -> list[int]:
    """Hops from the root to every place; the last place is the deepest."""
    depth = [0]
    for place in range(1, num_ranks):
        depth.append(depth[(place - 1) // arity] + 1)
    return depth


_K_ARY = "Pjesivac-Grbovic et al. 2007 (pipelined trees)"
_BINOMIAL = "Thakur, Rabenseifner and Gropp 2005, section 4"


def _k_ary(name: str, arity: int) -> tuple[Algorithm, ...]:
    """The three collectives on trees of this arity."""
    return (
        made_by(partial(k_ary_broadcast, arity=arity), "broadcast", name, _K_ARY, default_slices=4),
        made_by(partial(k_ary_reduce, arity=arity), "reduce", name, _K_ARY, default_slices=4),
        made_by(partial(k_ary_all_reduce, arity=arity), "all-reduce", name, _K_ARY, default_slices=4),
    )


ALGORITHMS = (
    made_by(binomial_broadcast, "broadcast", "binomial", _BINOMIAL),
    made_by(binomial_reduce, "reduce", "binomial", _BINOMIAL),
    made_by(binomial_gather, "gather", "binomial", _BINOMIAL),
    made_by(binomial_scatter, "scatter", "binomial", _BINOMIAL),
    made_by(direct_gather, "gather", "direct", "gloo/gather.cc; NCCL 2.30.7: all sends and receives in one group"),
    made_by(direct_scatter, "scatter", "direct", "gloo/scatter.cc; NCCL 2.30.7: all sends and receives in one group"),
    *_k_ary("k-ary-tree", 2),
    *_k_ary("4-ary-tree", 4),
)
