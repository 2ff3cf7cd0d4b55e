# SPDX-License-Identifier: Apache-2.0
"""The parts of a fabric that can be slow, each as the links that it holds."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.arrays import IntArray
from commbench.topology.fabric import NODE_KINDS, Fabric
from commbench.topology.model import SWITCH_KINDS, NodeKind

__all__ = ["LINK", "ONE_WAY", "FabricPart", "parts_of"]


ONE_WAY, RAIL, HOST, LINK = "one way of a link", "rail", "host", "link"


@dataclass(frozen=True, slots=True, eq=False)
class FabricPart:
    """Something that may be slow.

    Attributes:
        name: as people say it: "h3", "h3/nic0", "link leaf0 - spine1", "leaf0 -> spine1", "spine1", "rail 2".
        kind: "host", "link", "rail", "one way of a link", or that of its node, such as "nic", "gpu", "leaf", "spine".
        links: numbers of the links that are slow with it, ascending.
        host: that it belongs to, -1 for those of the fabric.
    """

    name: str
    kind: str
    links: IntArray
    host: int


def parts_of(fabric: Fabric, links: IntArray, *, routes_known: bool = True) -> list[FabricPart]:
    """The parts that hold some of these links: those that a measurement crosses.

    What explains the same is named in this order, so what people exchange comes first: cables, NICs, GPUs, hosts,
    switches, rails; then single directions of cables.

    Args:
        fabric: whose parts. links: numbers of links that matter, ascending.
        routes_known: whether it is known which of several equal ways traffic takes; if not, what lies between leaves
            is no part: nothing could be said of it.
    """
    between = _between_switches(fabric)
    usable = links if routes_known else links[~between[links]]
    found = [*_cables(fabric, usable), *_nodes(fabric, usable, routes_known), *_hosts(fabric, usable)]
    return [*found, *_rails(fabric, usable), *_ways(fabric, usable)]


def _between_switches(fabric: Fabric) -> npt.NDArray[np.bool_]:
    outside = fabric.node_hosts < 0
    joined: npt.NDArray[np.bool_] = outside[fabric.src] & outside[fabric.dst]
    return joined


def _of_network(fabric: Fabric, links: IntArray) -> IntArray:
    """Those with an end outside of hosts."""
    return links[(fabric.node_hosts[fabric.src[links]] < 0) | (fabric.node_hosts[fabric.dst[links]] < 0)]


def _host(fabric: Fabric, link: int) -> int:
    """The host at one of its ends, -1 if there is none."""
    return int(max(fabric.node_hosts[fabric.src[link]], fabric.node_hosts[fabric.dst[link]]))


def _cables(fabric: Fabric, links: IntArray) -> Iterator[FabricPart]:
    """Both directions of what joins two nodes of the network."""
    joined: dict[tuple[int, int], list[int]] = {}
    for link in _of_network(fabric, links).tolist():
        ends = int(fabric.src[link]), int(fabric.dst[link])
        joined.setdefault((min(ends), max(ends)), []).append(link)
    for (a, b), own in joined.items():
        name = f"link {fabric.name_of(a)} - {fabric.name_of(b)}"
        yield FabricPart(name, LINK, np.array(own, np.int64), _host(fabric, own[0]))


def _nodes(fabric: Fabric, links: IntArray, routes_known: bool) -> Iterator[FabricPart]:
    """NICs, then what else hosts consist of, then switches: all links at a node."""
    kinds = [kind for kind in NODE_KINDS if kind is not NodeKind.MEMORY]
    order = [NodeKind.NIC, *(kind for kind in kinds if kind is not NodeKind.NIC)]
    if not routes_known:  # of the switches only leaves, by the links to their hosts
        order = [kind for kind in order if kind not in SWITCH_KINDS or kind is NodeKind.LEAF]
    by_node: dict[int, list[int]] = {}
    for link in links.tolist():
        for node in (int(fabric.src[link]), int(fabric.dst[link])):
            by_node.setdefault(node, []).append(link)
    rank = {kind: i for i, kind in enumerate(order)}
    known = [node for node in by_node if NODE_KINDS[fabric.node_kinds[node]] in rank]
    for node in sorted(known, key=lambda n: (rank[NODE_KINDS[fabric.node_kinds[n]]], n)):
        kind = NODE_KINDS[fabric.node_kinds[node]]
        host = int(fabric.node_hosts[node])
        yield FabricPart(fabric.name_of(node), kind.value, np.array(by_node[node], np.int64), host)


def _hosts(fabric: Fabric, links: IntArray) -> Iterator[FabricPart]:
    of_host: dict[int, list[int]] = {}
    for link in links.tolist():
        for host in {int(fabric.node_hosts[fabric.src[link]]), int(fabric.node_hosts[fabric.dst[link]])} - {-1}:
            of_host.setdefault(host, []).append(link)
    for host, own in sorted(of_host.items()):
        yield FabricPart(f"h{host}", HOST, np.array(own, np.int64), host)


def _rails(fabric: Fabric, links: IntArray) -> Iterator[FabricPart]:
    """All that hangs on the NICs of one number, where hosts have several."""
    if fabric.node_rails.max(initial=-1) < 1:
        return
    rails = np.maximum(fabric.node_rails[fabric.src[links]], fabric.node_rails[fabric.dst[links]])
    for rail in np.unique(rails[rails >= 0]).tolist():
        yield FabricPart(f"rail {rail}", RAIL, links[rails == rail], -1)


def _ways(fabric: Fabric, links: IntArray) -> Iterator[FabricPart]:
    for link in _of_network(fabric, links).tolist():
        name = fabric.link_name(link)
        yield FabricPart(name, ONE_WAY, np.array([link], np.int64), _host(fabric, link))
