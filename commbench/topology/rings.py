# SPDX-License-Identifier: Apache-2.0
"""Rings that share no link, on hosts whose ranks are linked to each other directly (a full mesh, a cube mesh).

A channel that goes round one ring uses one of a rank's direct links; to use them all, channels go round rings that
share none. On a full mesh of n ranks these are known: n(n-1) one-way links make n - 1 rings, except for n = 4 and 6.
On another mesh they are searched for.

Sources: E. Lucas, "Recreations mathematiques", vol. 2 (1883), with Walecki's zigzags (odd n: (n-1)/2 rings, both ways;
B. Alspach, "The wonderful Walecki construction", Bull. ICA 52 (2008) 7-20); T. W. Tillson, "A Hamiltonian
decomposition of K*_2m, 2m >= 8", J. Combinatorial Theory B 29 (1980) 68-74 (n - 1 one-way rings exist; those for 8
are listed here, found by search); E. J. Williams, "Experimental designs balanced for the estimation of residual
effects of treatments", Australian J. Sci. Res. A 2 (1949) 149-168 (even n: n one-way paths).
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from commbench.topology.fabric import Fabric

__all__ = ["direct_ways", "mesh_paths", "mesh_rings"]

_LARGEST = 16
"""Ranks of a host up to which rings are searched for."""

_MOST_FOUND = 2000
"""Rings after which the search is content with what it has."""

_RINGS_OF_8 = (
    (0, 1, 2, 3, 4, 5, 6, 7),
    (0, 2, 5, 1, 6, 4, 7, 3),
    (0, 3, 6, 2, 7, 4, 1, 5),
    (0, 4, 2, 1, 3, 5, 7, 6),
    (0, 5, 2, 6, 3, 7, 1, 4),
    (0, 6, 5, 4, 3, 1, 7, 2),
    (0, 7, 5, 3, 2, 4, 6, 1),
)

Way = tuple[int, ...]
_Wires = Counter[tuple[int, int]]
"""One-way links between members of a host, in units of the thinnest."""


def direct_ways(fabric: Fabric, placed: NDArray[np.int64]) -> tuple[Way, ...]:
    """Orders of the ranks of every host that go along its direct links and share none: rings on one host, else paths.

    Args:
        fabric: where.
        placed: endpoint of every rank, as a number among the fabric's ranks; ways are told in ranks of the job.

    Returns:
        Those of one host behind those of another; none of a host whose ranks have no direct links, or no ring of them.
    """
    rank_at = np.full(fabric.num_nodes, -1)
    rank_at[fabric.endpoints[placed]] = np.arange(len(placed))
    ends = rank_at[fabric.src], rank_at[fabric.dst]
    direct = np.flatnonzero((ends[0] >= 0) & (ends[1] >= 0))
    if not len(direct):
        return ()
    columns = (ends[0][direct].tolist(), ends[1][direct].tolist(), fabric.bandwidths[direct].tolist())
    bandwidth = {(a, b): rate for a, b, rate in zip(*columns, strict=True)}
    members: dict[int, list[int]] = {}
    for rank, host in enumerate(fabric.host_of[placed].tolist()):
        members.setdefault(host, []).append(rank)
    ways: list[Way] = []
    for ranks in members.values():
        local = {rank: i for i, rank in enumerate(ranks)}
        wires = {(local[a], local[b]): rate for (a, b), rate in bandwidth.items() if a in local and b in local}
        found = _ways(len(ranks), wires, closed=len(members) == 1) if wires and len(ranks) > 2 else []
        ways += [tuple(ranks[i] for i in way) for way in found]
    return tuple(ways)


def _ways(n: int, bandwidth: dict[tuple[int, int], float], *, closed: bool) -> list[Way]:
    thinnest = min(bandwidth.values())
    wires = Counter({pair: round(rate / thinnest) for pair, rate in bandwidth.items()})
    full = len(wires) == n * (n - 1) and len(set(wires.values())) == 1
    if full and not closed and n % 2 == 0:
        return mesh_paths(n)
    rings = mesh_rings(n) if full else _search(n, wires)
    if closed or not rings:
        return rings
    starts = [rings[i % len(rings)] for i in range(n)]
    return [ring[ring.index(i) :] + ring[: ring.index(i)] for i, ring in enumerate(starts)]


def mesh_rings(n: int) -> list[Way]:
    """Rings through all of n members, every two linked both ways, that share no one-way link; the first is 0, 1, 2 ...

    n - 1 of them for odd n and for 8; n - 2 for other even n, where Walecki's leave one matching unused.
    """
    if n == 8:
        return list(_RINGS_OF_8)
    turning = n - 1  # the last member stands still
    forth = [(*_zigzag(turning, i), turning) for i in range((n - 1) // 2)]
    return _named_by_first([*forth, *(ring[:1] + ring[:0:-1] for ring in forth)])


def mesh_paths(n: int) -> list[Way]:
    """For even n: n paths through all members that share no one-way link; path i starts at i, path 0 is 0, 1, 2 ..."""
    return sorted(_named_by_first([_zigzag(n, i) for i in range(n)]))


def _zigzag(n: int, first: int) -> Way:
    """first, first + 1, first - 1, first + 2 ... modulo n."""
    return tuple((first + (i + 1) // 2 * (1 if i % 2 else -1)) % n for i in range(n))


def _named_by_first(ways: list[Way]) -> list[Way]:
    """The same with members renamed so that the first way is 0, 1, 2 ..."""
    name = {member: i for i, member in enumerate(ways[0])} if ways else {}
    return [tuple(name[member] for member in way) for way in ways]


def _search(n: int, wires: _Wires) -> list[Way]:
    """As many rings as can be, each both ways; none if links differ by direction or the host is too large."""
    if n > _LARGEST or any(wires[b, a] != count for (a, b), count in wires.items()):
        return []
    found = [ring for _, ring in zip(range(_MOST_FOUND), _rings(n, wires, (0,)), strict=False)]
    forth = _most(found, wires, min(sum(wires[a, b] for b in range(n)) for a in range(n)) // 2)
    return [*forth, *(ring[:1] + ring[:0:-1] for ring in forth)]


def _rings(n: int, wires: _Wires, path: Way) -> Iterator[Way]:
    """Every ring once, not both ways."""
    if len(path) == n:
        if wires[path[-1], 0] and path[1] < path[-1]:
            yield path
        return
    for member in range(n):
        if member not in path and wires[path[-1], member]:
            yield from _rings(n, wires, (*path, member))


def _most(rings: list[Way], wires: _Wires, wanted: int) -> list[Way]:
    """The first rings of a largest set that fits the links; the search ends at ``wanted``, the most there can be."""
    best: list[Way] = []
    tries = 0

    def extend(taken: list[Way], left: _Wires, start: int) -> bool:
        nonlocal best, tries
        tries += 1
        if len(taken) > len(best):
            best = list(taken)
        if len(best) == wanted or tries > _MOST_FOUND:
            return True
        for i in range(start, len(rings)):
            pairs = zip(rings[i], rings[i][1:] + rings[i][:1], strict=True)
            used = Counter((min(pair), max(pair)) for pair in pairs)
            if all(left[pair] >= count for pair, count in used.items()):
                rest = left.copy()
                rest.subtract(used)
                if extend([*taken, rings[i]], rest, i):
                    return True
        return False

    extend([], wires, 0)
    return best
