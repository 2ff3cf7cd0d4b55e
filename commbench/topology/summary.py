# SPDX-License-Identifier: Apache-2.0
"""A topology in counts: what ``topology show``, the pictures and the reports say about it."""

from collections import Counter
from dataclasses import dataclass

from commbench.topology.model import LinkKind, NodeKind, Topology
from commbench.topology.tree import Tree
from commbench.units import GB, PS_PER_S, format_bandwidth, format_time, seconds

__all__ = ["LinkClass", "describe_costs", "details", "headline", "link_classes", "network_rate", "node_counts"]


@dataclass(frozen=True, slots=True)
class LinkClass:
    """Links that differ only in their ends.

    Attributes:
        kind: what the links are made of.
        src_kind: kind of the node at the near end.
        dst_kind: kind of the node at the far end.
        count: number of links; a full-duplex link counts once.
        duplex: whether each link has an equal twin the other way.
        bandwidth: bytes/s, one direction.
        latency_ps: picoseconds.
    """

    kind: LinkKind
    src_kind: NodeKind
    dst_kind: NodeKind
    count: int
    duplex: bool
    bandwidth: float
    latency_ps: int


def node_counts(topology: Topology | Tree) -> dict[NodeKind, int]:
    """Number of nodes of each kind that occurs, in the order of :class:`NodeKind`."""
    counts = topology.node_counts if isinstance(topology, Tree) else Counter(node.kind for node in topology.nodes)
    return {kind: counts[kind] for kind in NodeKind if kind in counts}


def link_classes(topology: Topology | Tree) -> tuple[LinkClass, ...]:
    """Links grouped by kind, kinds of their ends, bandwidth and latency, in order of first appearance.

    A link with an equal link the other way is one full-duplex link, told from its first direction.
    """
    if isinstance(topology, Tree):
        return tuple(
            LinkClass(s.kind, s.lower, s.upper, s.num_links // 2, True, s.wire.bandwidth, s.wire.latency_ps)
            for s in topology.stages
        )
    groups: Counter[tuple[LinkKind, NodeKind, NodeKind, bool, float, int]] = Counter()
    seen: set[tuple[str, str]] = set()
    make = {(link.src, link.dst): (link.bandwidth, link.latency_ps) for link in topology.links}
    for link in topology.links:
        duplex = make.get((link.dst, link.src)) == (link.bandwidth, link.latency_ps)
        seen.add((link.src, link.dst))
        if not (duplex and (link.dst, link.src) in seen):
            ends = topology.by_name[link.src].kind, topology.by_name[link.dst].kind
            groups[(link.kind, *ends, duplex, link.bandwidth, link.latency_ps)] += 1
    return tuple(
        LinkClass(kind, src, dst, count, duplex, bandwidth, latency)
        for (kind, src, dst, duplex, bandwidth, latency), count in groups.items()
    )


def network_rate(topology: Topology | Tree) -> float:
    """Bytes/s of the fastest network link, or of the fastest link where there is no network."""
    links = [(make.kind is LinkKind.NETWORK, make.bandwidth) for make in link_classes(topology)]
    return max(links, default=(False, 0.0))[1]


def headline(topology: Topology | Tree) -> dict[str, object]:
    """Name, size and purpose, as the machine-readable ``topology list`` has them."""
    return {
        "name": topology.name,
        "ranks": topology.num_ranks,
        "hosts": topology.num_hosts,
        "routing": topology.routing,
        "description": topology.description,
        "origin": topology.origin,
    }


def details(topology: Topology | Tree) -> dict[str, object]:
    """Everything that ``topology show`` says; times in seconds, bandwidths in GB/s (1e9 bytes/s)."""
    costs = topology.costs
    return headline(topology) | {
        "device": topology.device,
        "nodes": {kind.value: count for kind, count in node_counts(topology).items()},
        "links": [
            {
                "kind": make.kind.value,
                "src_kind": make.src_kind.value,
                "dst_kind": make.dst_kind.value,
                "count": make.count,
                "duplex": make.duplex,
                "bandwidth_GBps": make.bandwidth / GB,
                "latency_s": seconds(make.latency_ps),
            }
            for make in link_classes(topology)
        ],
        "message_overhead_s": seconds(costs.message_overhead_ps),
        "reduction_s_per_byte": costs.reduction_ps_per_byte / PS_PER_S,
        "numbers": {
            path: {"value": number.text, "provenance": number.provenance.value, "source": number.source}
            for path, number in topology.numbers.items()
        },
    }


def describe_costs(topology: Topology | Tree) -> str:
    """The per-rank costs in words."""
    costs = topology.costs
    rate = costs.reduction_ps_per_byte
    overhead = format_time(seconds(costs.message_overhead_ps)) if costs.message_overhead_ps else "none"
    adding = format_bandwidth(PS_PER_S / rate) if rate else "at line rate"
    return f"message overhead {overhead}, reduction {adding}"
