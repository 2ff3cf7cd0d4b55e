# SPDX-License-Identifier: Apache-2.0
"""Lower bounds: no schedule can be faster on this topology. Shown beside every simulated time.

Bounds, never answers: they leave out every conflict inside the network.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import networkx as nx

from commbench.errors import InputError
from commbench.topology.model import NodeKind, Topology
from commbench.units import PS_PER_S

__all__ = ["lower_bound_s"]

_TIERS = (NodeKind.CORE, NodeKind.SPINE, NodeKind.LEAF)  # from the top


@dataclass(frozen=True, slots=True)
class _Cut:
    """A set of nodes that holds ``inside`` of ``ranks`` ranks, and the root or not."""

    inside: int
    ranks: int
    holds_root: bool


_Shares = Callable[[_Cut], tuple[float, float]]
"""Cut -> buffers that must leave the set, and that must enter it, at the least."""


def _all_reduce(cut: _Cut) -> tuple[float, float]:
    """The sum over the inside must get out, the sum over the outside must get in."""
    return 1.0, 1.0


def _reduce_scatter(cut: _Cut) -> tuple[float, float]:
    """Sums for the blocks of the other side."""
    return 1 - cut.inside / cut.ranks, cut.inside / cut.ranks


def _all_gather(cut: _Cut) -> tuple[float, float]:
    """The blocks of the other side."""
    return cut.inside / cut.ranks, 1 - cut.inside / cut.ranks


def _all_to_all(cut: _Cut) -> tuple[float, float]:
    """A block of 1/n for each pair across the cut, and each rank's buffer is n blocks."""
    crossing = cut.inside * (cut.ranks - cut.inside) / cut.ranks
    return crossing, crossing


def _broadcast(cut: _Cut) -> tuple[float, float]:
    return (1.0, 0.0) if cut.holds_root else (0.0, 1.0)


def _reduce(cut: _Cut) -> tuple[float, float]:
    return (0.0, 1.0) if cut.holds_root else (1.0, 0.0)


def _gather(cut: _Cut) -> tuple[float, float]:
    return (0.0, 1 - cut.inside / cut.ranks) if cut.holds_root else (cut.inside / cut.ranks, 0.0)


def _scatter(cut: _Cut) -> tuple[float, float]:
    leave, enter = _gather(cut)
    return enter, leave


def _send_recv(cut: _Cut) -> tuple[float, float]:
    """Of a ring shift, at least one buffer leaves any set and one enters."""
    return 1.0, 1.0


def _nothing(cut: _Cut) -> tuple[float, float]:
    """No data, or amounts that only the schedule knows."""
    return 0.0, 0.0


_SHARES: Mapping[str, _Shares] = MappingProxyType(
    {
        "all-reduce": _all_reduce,
        "reduce-scatter": _reduce_scatter,
        "all-gather": _all_gather,
        "all-to-all": _all_to_all,
        "all-to-all-v": _nothing,
        "broadcast": _broadcast,
        "reduce": _reduce,
        "gather": _gather,
        "scatter": _scatter,
        "send-recv": _send_recv,
        "barrier": _nothing,
    }
)


def lower_bound_s(
    collective: str,
    topology: Topology,
    endpoints: tuple[str, ...],
    size_bytes: int,
    *,
    root: int = 0,
    in_switch: bool = False,
) -> float:
    """The largest of the bounds, in seconds.

    - *Latency*: data must reach the farthest rank that needs it (from the root, to the root, or from rank 0), over
      links that take at least their latencies, with the message overhead at both ends. No factor for rounds: a rank
      may send to many at once.
    - *Cut*: what must leave or enter a set of nodes crosses the links around it. The sets are each rank (its port),
      each host, and what hangs together when the cores, then the spines, then the leaves are taken away: pods, leaf
      groups.
    - *Messages*, all-reduce without switches that add: for every byte, n inputs become one result that all ranks
      hold, which takes at least 2(n-1) one-way messages; all ranks together send and receive them by their ports.

    Source: F. Harary, A. Schwenk, "The communication problem on graphs and digraphs", J. Franklin Institute 297
    (1974) 491-495, for the 2(n-1) messages (one-way gossip).

    Args:
        collective: key of ``spec.COLLECTIVES``.
        topology: the graph.
        endpoints: node of every rank.
        size_bytes: of the full buffer.
        root: of rooted collectives.
        in_switch: whether switches add, so that the bound by messages does not hold.

    Raises:
        InputError: no bound is known for the collective.
    """
    if collective not in _SHARES:
        raise InputError(f"no lower bound is known for {collective}")
    n = len(endpoints)
    if n == 1:
        return 0.0
    bounds = [_latency_s(collective, topology, endpoints, root)]
    for inside, (leave, enter) in _cuts(topology, endpoints):
        cut = _Cut(sum(name in inside for name in endpoints), n, endpoints[root] in inside)
        if 0 < cut.inside < n:
            out_share, in_share = _SHARES[collective](cut)
            bounds += [out_share * size_bytes / leave, in_share * size_bytes / enter]
    if collective == "all-reduce" and not in_switch:
        for edges in (topology.graph.out_edges, topology.graph.in_edges):
            ports = sum(data["link"].bandwidth for name in endpoints for _, _, data in edges(name, data=True))
            bounds.append(2 * (n - 1) * size_bytes / ports)
    return max(bounds)


def _cuts(topology: Topology, endpoints: tuple[str, ...]) -> Iterator[tuple[frozenset[str], tuple[float, float]]]:
    """Sets of nodes and the bandwidth (bytes/s) that leaves and enters each."""
    graph = topology.graph
    sets = [frozenset({name}) for name in endpoints]
    left = set(graph.nodes)
    for tier in _TIERS:
        left -= {node.name for node in topology.of_kind(tier)}
        sets += [frozenset(part) for part in nx.weakly_connected_components(graph.subgraph(left))]
    for inside in set(sets):
        leave = sum(d["link"].bandwidth for _, b, d in graph.out_edges(inside, data=True) if b not in inside)
        enter = sum(d["link"].bandwidth for a, _, d in graph.in_edges(inside, data=True) if a not in inside)
        if leave and enter:
            yield inside, (leave, enter)


def _latency_s(collective: str, topology: Topology, endpoints: tuple[str, ...], root: int) -> float:
    """Least latency over which some datum must travel, with the message overhead at both ends."""
    if collective == "all-to-all-v":
        return 0.0  # its matrix may leave every pair empty
    graph = topology.graph.reverse(copy=False) if collective in ("reduce", "gather") else topology.graph
    reached = nx.single_source_dijkstra_path_length(
        graph, endpoints[root], weight=lambda _a, _b, data: data["link"].latency_ps
    )
    targets = (endpoints[(root + 1) % len(endpoints)],) if collective == "send-recv" else endpoints
    farthest_ps = int(max(reached[name] for name in targets))
    return (farthest_ps + 2 * topology.costs.message_overhead_ps) / PS_PER_S
