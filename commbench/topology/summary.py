# SPDX-License-Identifier: Apache-2.0
"""A topology in counts: what ``topology show``, the pictures and the reports say about it."""

from dataclasses import dataclass

import numpy as np

from commbench.topology.fabric import LINK_KINDS, NODE_KINDS, Fabric
from commbench.topology.model import LinkKind, NodeKind
from commbench.units import GB, PS_PER_S, format_bandwidth, format_time, seconds

__all__ = [
    "LinkClass",
    "describe_costs",
    "details",
    "headline",
    "host_rate",
    "link_classes",
    "network_rate",
    "node_counts",
]


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


def node_counts(fabric: Fabric) -> dict[NodeKind, int]:
    """Number of nodes of each kind that occurs, in the order of :class:`NodeKind`."""
    counts = np.bincount(fabric.node_kinds, minlength=len(NODE_KINDS)).tolist()
    return {kind: count for kind, count in zip(NODE_KINDS, counts, strict=True) if count}


def link_classes(fabric: Fabric) -> tuple[LinkClass, ...]:
    """Links grouped by kind, kinds of their ends, bandwidth and latency, in order of first appearance.

    A link with an equal link the other way is one full-duplex link, told from its first direction.
    """
    kinds, size = len(NODE_KINDS), fabric.num_nodes
    ends = [fabric.node_kinds[nodes].astype(np.int64) for nodes in (fabric.src, fabric.dst)]
    rates, latencies = (np.unique(each, return_inverse=True)[1] for each in (fabric.bandwidths, fabric.latencies_ps))
    make = (fabric.link_kinds * (latencies.max(initial=0) + 1) + latencies) * (rates.max(initial=0) + 1) + rates
    there, back = ((make * kinds + a) * kinds + b for a, b in (ends, ends[::-1]))
    found: dict[tuple[int, bool], LinkClass] = {}
    for link in np.sort(np.unique(there, return_index=True)[1]).tolist():
        own, others = np.flatnonzero(there == there[link]), np.flatnonzero(there == back[link])
        twins = fabric.dst[others].astype(np.int64) * size + fabric.src[others]
        twinned = np.isin(fabric.src[own].astype(np.int64) * size + fabric.dst[own], twins)
        for duplex in (True, False):
            count = int(np.count_nonzero(twinned == duplex)) // (2 if duplex and there[link] == back[link] else 1)
            if count and not (duplex and (int(back[link]), True) in found):
                found[int(there[link]), duplex] = LinkClass(
                    LINK_KINDS[fabric.link_kinds[link]],
                    NODE_KINDS[ends[0][link]],
                    NODE_KINDS[ends[1][link]],
                    count,
                    duplex,
                    float(fabric.bandwidths[link]),
                    int(fabric.latencies_ps[link]),
                )
    return tuple(found.values())


def network_rate(topology: Fabric) -> float:
    """Bytes/s of the fastest network link, or of the fastest link where there is no network."""
    in_network = topology.link_kinds == LINK_KINDS.index(LinkKind.NETWORK)
    rates = topology.bandwidths[in_network] if in_network.any() else topology.bandwidths
    return float(rates.max(initial=0.0))


def host_rate(topology: Fabric) -> float:
    """Bytes/s that the first host can send into the network; without one, that its first endpoint can send."""
    own = topology.to_network[topology.node_hosts[topology.src[topology.to_network]] == 0]
    if not len(own):
        own = np.flatnonzero(topology.src == topology.endpoints[0])
    return float(topology.bandwidths[own].sum())


def headline(topology: Fabric) -> dict[str, object]:
    """Name, size and purpose, as the machine-readable ``topology list`` has them."""
    return {
        "name": topology.name,
        "ranks": topology.num_ranks,
        "hosts": topology.num_hosts,
        "routing": topology.routing,
        "description": topology.description,
        "origin": topology.origin,
    }


def details(topology: Fabric) -> dict[str, object]:
    """Everything that ``topology show`` says; times in seconds, bandwidths in GB/s (1e9 bytes/s)."""
    costs = topology.costs
    return headline(topology) | {
        "device": topology.device,
        "cpu": topology.cpu,
        "network": topology.network,
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


def describe_costs(topology: Fabric) -> str:
    """The per-rank costs in words."""
    costs = topology.costs
    rate = costs.reduction_ps_per_byte
    overhead = format_time(seconds(costs.message_overhead_ps)) if costs.message_overhead_ps else "none"
    adding = format_bandwidth(PS_PER_S / rate) if rate else "at line rate"
    return f"message overhead {overhead}, reduction {adding}"
