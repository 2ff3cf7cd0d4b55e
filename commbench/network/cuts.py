# SPDX-License-Identifier: Apache-2.0
"""What surrounds the ranks of a job: the bandwidth around sets of them, of their ports, and how far apart they are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commbench.topology.fabric import NODE_KINDS, Fabric
from commbench.topology.model import NodeKind

__all__ = ["Cuts", "Surroundings"]

_TIERS = (NodeKind.CORE, NodeKind.SPINE, NodeKind.LEAF)  # from the top
_MOST_RATES = 64  # up to so many different ones, sums are exact products, whatever the order of links

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Sets of nodes, a column for each; every set holds some of the job's ranks, but not all.

    Attributes:
        ranks: ranks of the job.
        inside: how many of them each set holds.
        holds_root: whether the root is among these.
        leave, enter: bytes/s over the links out of the set, and into it.
    """

    ranks: int
    inside: Ints
    holds_root: NDArray[np.bool_]
    leave: Floats
    enter: Floats


class Surroundings:
    """A job's ranks on a fabric."""

    def __init__(self, fabric: Fabric, placed: Ints) -> None:
        """``placed`` is the endpoint of every rank, as a number among the fabric's own ranks."""
        self._fabric = fabric
        self._nodes = fabric.endpoints[placed].astype(np.int64)

    def cuts(self, root: int) -> Cuts:
        """Each rank alone (its port), each host, and what hangs together when the cores, then the spines, then the
        leaves are taken away: pods, leaf groups.
        """
        fabric, found = self._fabric, []
        for of_node in self._sets():
            members = np.bincount(of_node[self._nodes], minlength=fabric.num_nodes)
            some = np.flatnonzero((members > 0) & (members < len(self._nodes)))
            if not len(some):
                continue
            across = of_node[fabric.src] != of_node[fabric.dst]
            leave, enter = (
                self._sums(of_node[ends[across]], fabric.bandwidths[across])[some] for ends in (fabric.src, fabric.dst)
            )
            found.append((members[some], some == of_node[self._nodes[root]], leave, enter))
        empty = (np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0), np.zeros(0))
        inside, holds_root, leave, enter = (np.concatenate(each) for each in zip(empty, *found, strict=True))
        linked = (leave > 0) & (enter > 0)
        return Cuts(len(self._nodes), inside[linked], holds_root[linked], leave[linked], enter[linked])

    def _sets(self) -> Iterator[Ints]:
        """Partitions of the nodes, as a number below the number of nodes for each."""
        fabric = self._fabric
        yield np.arange(fabric.num_nodes)
        hosts = fabric.node_hosts.astype(np.int64)
        outer = np.flatnonzero(hosts < 0)
        hosts[outer] = fabric.num_hosts + np.arange(len(outer))  # the inside of a host hangs together
        cables = np.flatnonzero(hosts[fabric.src] != hosts[fabric.dst])
        src, dst = hosts[fabric.src[cables]], hosts[fabric.dst[cables]]
        gone = np.zeros(fabric.num_hosts + len(outer), np.bool_)
        for tier in _TIERS:
            gone[hosts[fabric.node_kinds == NODE_KINDS.index(tier)]] = True
            left = ~(gone[src] | gone[dst])
            yield _components(len(gone), src[left], dst[left])[hosts]

    def _sums(self, key: NDArray[np.integer], rates: Floats) -> Floats:
        """Bytes/s by key."""
        size = self._fabric.num_nodes
        different, rest = list[float](), rates
        while len(rest) and len(different) <= _MOST_RATES:  # np.unique may load numpy.ma, for longer than this takes
            different.append(float(rest[0]))
            rest = rest[rest != rest[0]]
        if len(different) > _MOST_RATES:
            return np.bincount(key, weights=rates, minlength=size).astype(np.float64)
        total = np.zeros(size)
        for rate in sorted(different):
            total += np.bincount(key[rates == rate], minlength=size) * rate
        return total

    def ports(self) -> tuple[float, float]:
        """Bytes/s that all ranks together can send, and receive."""
        fabric = self._fabric
        out, into = (self._sums(ends, fabric.bandwidths)[self._nodes] for ends in (fabric.src, fabric.dst))
        return float(out.sum()), float(into.sum())

    def farthest_ps(self, root: int, others: Ints, *, backwards: bool) -> int:
        """Least latency from the root to the farthest of ``others``; ``backwards`` from that one to the root."""
        fabric = self._fabric
        near, far = (fabric.dst, fabric.src) if backwards else (fabric.src, fabric.dst)
        reached = np.full(fabric.num_nodes, np.iinfo(np.int64).max // 2)
        reached[self._nodes[root]] = 0
        while True:
            before = reached.copy()
            np.minimum.at(reached, far, reached[near] + fabric.latencies_ps)
            if np.array_equal(before, reached):
                return int(reached[self._nodes[others]].max())


def _components(size: int, src: Ints, dst: Ints) -> Ints:
    """The least number that each of ``size`` nodes hangs together with."""
    least = np.arange(size)
    while True:
        before = least.copy()
        lower = np.minimum(least[src], least[dst])
        np.minimum.at(least, src, lower)
        np.minimum.at(least, dst, lower)
        least = least[least]
        if np.array_equal(before, least):
            return least
