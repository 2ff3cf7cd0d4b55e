# SPDX-License-Identifier: Apache-2.0
"""What surrounds the ranks of a job: the bandwidth around sets of them, of their ports, and how far apart they are.

Read off the graph of a Topology, or in closed form off a Tree; both give the same numbers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from commbench.topology.model import NodeKind, Topology
from commbench.topology.tree import Tree

__all__ = ["Cuts", "Endpoints", "Surroundings", "around"]

_TIERS = (NodeKind.CORE, NodeKind.SPINE, NodeKind.LEAF)  # from the top

Endpoints = Sequence[str] | Sequence[int] | NDArray[np.int64]
"""Where each rank of a job runs: node names, or numbers among the fabric's own ranks."""

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


class Surroundings(Protocol):
    """A job's ranks on a fabric."""

    def cuts(self, root: int) -> Cuts:
        """Each rank alone (its port), each host, and what hangs together when the cores, then the spines, then the
        leaves are taken away: pods, leaf groups.
        """

    def ports(self) -> tuple[float, float]:
        """Bytes/s that all ranks together can send, and receive."""

    def farthest_ps(self, root: int, others: Ints, *, backwards: bool) -> int:
        """Least latency from the root to the farthest of ``others``; ``backwards`` from that one to the root."""


def around(fabric: Topology | Tree, endpoints: Endpoints) -> Surroundings:
    """What surrounds ranks that run on ``endpoints``; names are known to a Topology only."""
    if isinstance(fabric, Tree):
        return _OnTree(fabric, np.asarray(endpoints, np.int64))
    return _OnGraph(fabric, tuple(e if isinstance(e, str) else fabric.ranks[e] for e in endpoints))


@dataclass(frozen=True, slots=True)
class _OnTree:
    """Every set is one of the subtrees below a stage, and every subtree of a stage has the same links."""

    tree: Tree
    hosts: Ints

    def cuts(self, root: int) -> Cuts:
        inside, holds_root, bandwidth = [], [], []
        for stage in self.tree.stages:
            subtree = self.hosts // stage.subtree
            counts = np.bincount(subtree)
            some = np.flatnonzero((counts > 0) & (counts < len(self.hosts)))
            inside.append(counts[some])
            holds_root.append(some == subtree[root])
            bandwidth.append(np.full(len(some), stage.bandwidth))
        both = np.concatenate(bandwidth)
        return Cuts(len(self.hosts), np.concatenate(inside), np.concatenate(holds_root), both, both)

    def ports(self) -> tuple[float, float]:
        port = self.tree.stages[0]
        total = len(self.hosts) * port.above * port.wire.bandwidth
        return total, total

    def farthest_ps(self, root: int, others: Ints, *, backwards: bool) -> int:
        reached = self.hosts[others]
        crossed = [s for s in self.tree.stages if np.any(reached // s.subtree != self.hosts[root] // s.subtree)]
        return 2 * sum(stage.wire.latency_ps for stage in crossed)


@dataclass(frozen=True, slots=True)
class _OnGraph:
    """Any shape at all, by searching the graph."""

    topology: Topology
    names: tuple[str, ...]

    def cuts(self, root: int) -> Cuts:
        count, ranks = Counter(self.names), len(self.names)
        rows = []
        for nodes in self._sets():
            inside = sum(count[name] for name in nodes if name in count)
            leave, enter = self._bandwidths(nodes) if 0 < inside < ranks else (0.0, 0.0)
            if leave and enter:
                rows.append((inside, self.names[root] in nodes, leave, enter))
        inside_all, holds_root, leave_all, enter_all = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Cuts(
            ranks,
            np.array(inside_all, np.int64),
            np.array(holds_root, np.bool_),
            np.array(leave_all, np.float64),
            np.array(enter_all, np.float64),
        )

    def _sets(self) -> Iterator[frozenset[str]]:
        import networkx as nx

        graph = self.topology.graph
        sets = {frozenset({name}) for name in self.names}
        left = set(graph.nodes)
        for tier in _TIERS:
            left -= {node.name for node in self.topology.of_kind(tier)}
            sets |= {frozenset(part) for part in nx.weakly_connected_components(graph.subgraph(left))}
        yield from sets

    def _bandwidths(self, nodes: frozenset[str]) -> tuple[float, float]:
        """Bytes/s out of a set of nodes and into it. Exact sums, so that the order of links does not matter."""
        graph = self.topology.graph
        leave = fsum(d["link"].bandwidth for _, b, d in graph.out_edges(nodes, data=True) if b not in nodes)
        enter = fsum(d["link"].bandwidth for a, _, d in graph.in_edges(nodes, data=True) if a not in nodes)
        return leave, enter

    def ports(self) -> tuple[float, float]:
        graph = self.topology.graph
        out = fsum(d["link"].bandwidth for name in self.names for _, _, d in graph.out_edges(name, data=True))
        into = fsum(d["link"].bandwidth for name in self.names for _, _, d in graph.in_edges(name, data=True))
        return out, into

    def farthest_ps(self, root: int, others: Ints, *, backwards: bool) -> int:
        import networkx as nx

        graph = self.topology.graph.reverse(copy=False) if backwards else self.topology.graph
        reached = nx.single_source_dijkstra_path_length(
            graph, self.names[root], weight=lambda _a, _b, data: data["link"].latency_ps
        )
        return int(max(reached[self.names[other]] for other in others.tolist()))
