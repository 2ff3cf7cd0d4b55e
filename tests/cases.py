# SPDX-License-Identifier: Apache-2.0
"""Small topologies made in code, and the grids that several tests share. All are small enough to draw."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from commbench.cluster import Cluster, make_cluster
from commbench.collectives.algorithm import Algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import get_collective
from commbench.engine.engines import Run
from commbench.errors import TopologyError
from commbench.libraries.base import Library
from commbench.libraries.ideal import Ideal
from commbench.network.transport import Connections
from commbench.sim.collective import Extras, Simulation
from commbench.sim.collective import simulate_collective as simulated
from commbench.topology import EndpointCosts, Fabric, Link, LinkKind, Node, NodeKind, tiers
from commbench.topology.cabling import Cabling, copies
from commbench.topology.clos import clos
from commbench.topology.fabric import LINK_KINDS, NODE_KINDS, require_connected
from commbench.topology.hosts import plain_host
from commbench.topology.parts import Wire

_FREE = EndpointCosts()

US = 10**6  # picoseconds in a microsecond
MIB = 2**20

_OF_CLUSTER = ("num_ranks", "placement", "ranks_per_host", "routing", "seed")

ALL_WORLD_SIZES = range(1, 18)
ALL_SLICES = (1, 2, 3, 5, 8)


def fabric_of(
    name: str,
    nodes: Sequence[Node],
    links: Sequence[Link],
    ranks: Sequence[str],
    routing: str,
    *,
    nics_of: Mapping[str, Sequence[str]] | None = None,
    costs: EndpointCosts = _FREE,
) -> Fabric:
    """A fabric from nodes and links by name.

    Args:
        name, routing, costs: of the fabric.
        nodes, links: in order; ``links[i].index == i``. Hosts are numbered from 0.
        ranks: names of the endpoints that run a rank, in rank order.
        nics_of: endpoint -> its NICs.

    Raises:
        TopologyError: a duplicate or unknown name, a self link, a rank that is no endpoint, or a rank that cannot reach
            another.
    """
    number = {node.name: i for i, node in enumerate(nodes)}
    if len(number) != len(nodes):
        names = [node.name for node in nodes]
        twice = next(each for each in names if names.count(each) > 1)
        raise TopologyError(f"topology {name}: node name {twice!r} is used twice")
    for i, link in enumerate(links):
        if link.index != i or link.src == link.dst or not {link.src, link.dst} <= number.keys():
            raise TopologyError(f"topology {name}: link {i} {link.src!r} -> {link.dst!r} is not a link between nodes")
    for rank in ranks:
        if rank not in number or nodes[number[rank]].kind not in (NodeKind.GPU, NodeKind.CPU):
            raise TopologyError(f"topology {name}: rank on {rank!r}, which is no GPU or CPU of it")
    near = [[number[nic] for nic in (nics_of or {}).get(rank, ())] for rank in ranks]
    hosts = [-1 if node.host is None else node.host for node in nodes]
    fabric = Fabric(
        node_kinds=np.array([NODE_KINDS.index(node.kind) for node in nodes], np.int8),
        node_hosts=np.array(hosts, np.int32),
        node_indices=np.array([node.index or 0 for node in nodes], np.int32),
        node_rails=np.array([-1 if node.rail is None else node.rail for node in nodes], np.int32),
        src=np.array([number[link.src] for link in links], np.int32),
        dst=np.array([number[link.dst] for link in links], np.int32),
        link_kinds=np.array([LINK_KINDS.index(link.kind) for link in links], np.int8),
        bandwidths=np.array([link.bandwidth for link in links], np.float64),
        latencies_ps=np.array([link.latency_ps for link in links], np.int64),
        endpoints=np.array([number[rank] for rank in ranks], np.int32),
        nics_first=np.cumsum([0, *(len(each) for each in near)]),
        nics=np.array([nic for each in near for nic in each], np.int32),
        wirings=np.arange(max(hosts, default=-1) + 1, dtype=np.int32),
        labels=tuple(node.name for node in nodes),
        name=name,
        routing=routing,
        costs=costs,
    )
    require_connected(fabric)
    return fabric


def star(
    num_ranks: int,
    *,
    bandwidth: float = 12.5e9,
    latency_ps: int = US,
    overhead_ps: int = 0,
    reduction_ps_per_byte: float = 0.0,
) -> Fabric:
    """An ideal switch: every rank has one link to it and one from it.

    ::

        cpu0 <--> switch <--> cpu1      two links join any two ranks: a route's latency is 2 x latency_ps
                    ^
                    '-------> cpu2

    Link 2r goes from rank r to the switch, link 2r + 1 back.
    """
    ranks = [Node(f"cpu{r}", NodeKind.CPU, host=0, index=r) for r in range(num_ranks)]
    links = []
    for rank in ranks:
        links.append(_link(len(links), rank.name, "switch", bandwidth, latency_ps))
        links.append(_link(len(links), "switch", rank.name, bandwidth, latency_ps))
    return _one_host("star", ranks, ["switch"], links, overhead_ps, reduction_ps_per_byte)


def leaf_star(num_ranks: int, *, bandwidth: float = 12.5e9, latency_ps: int = US) -> Fabric:
    """The same with a host for each rank, whose NIC costs nothing, and a leaf for a switch."""
    ranks = [Node(f"h{r}/cpu0", NodeKind.CPU, host=r, index=0) for r in range(num_ranks)]
    nics = [Node(f"h{r}/nic0", NodeKind.NIC, host=r, index=0) for r in range(num_ranks)]
    leaf = Node("leaf0", NodeKind.LEAF, index=0)
    links: list[Link] = []
    for rank, nic in zip(ranks, nics, strict=True):
        for ends in ((rank.name, nic.name), (nic.name, rank.name)):
            links.append(Link(len(links), *ends, LinkKind.PCIE, 1e18, 0))
        for ends in ((nic.name, leaf.name), (leaf.name, nic.name)):
            links.append(Link(len(links), *ends, LinkKind.NETWORK, bandwidth, latency_ps))
    near = {rank.name: (nic.name,) for rank, nic in zip(ranks, nics, strict=True)}
    return fabric_of(
        "leaf-star", (*ranks, *nics, leaf), links, [rank.name for rank in ranks], "d-mod-k", nics_of=near
    )


def shared_link(num_pairs: int, *, bandwidth: float, latency_ps: int = 0, overhead_ps: int = 0) -> Fabric:
    """Pairs of ranks with one thin link pair between them; the ranks' own links are 1000 times wider.

    ::

        cpu0 --.                  .-- cpu2        rank i talks to rank num_pairs + i
        cpu1 --+- left == right --+-- cpu3        link 0 goes left -> right, link 1 right -> left

    Only the middle has latency.
    """
    ranks = [Node(f"cpu{r}", NodeKind.CPU, host=0, index=r) for r in range(2 * num_pairs)]
    links = [_link(0, "left", "right", bandwidth, latency_ps), _link(1, "right", "left", bandwidth, latency_ps)]
    for number, rank in enumerate(ranks):
        side = "left" if number < num_pairs else "right"
        links.append(_link(len(links), rank.name, side, 1000 * bandwidth, 0))
        links.append(_link(len(links), side, rank.name, 1000 * bandwidth, 0))
    return _one_host("shared-link", ranks, ["left", "right"], links, overhead_ps, 0.0)


def leaf_spine(num_hosts: int, *, hosts_per_leaf: int, spines: int, latency_ps: int = US) -> Fabric:
    """One-NIC hosts under leaves and spines, 12.5 GB/s everywhere; like fat-tree-16 with 16 hosts, 4 and 4."""
    wire = Wire(12.5e9, latency_ps)
    shape = tiers.two_tier(
        num_hosts,
        1,
        hosts_per_leaf=hosts_per_leaf,
        spines=spines,
        oversubscription=hosts_per_leaf / spines,
        downlink=wire,
        uplink_latency_ps=latency_ps,
    )
    net = Cabling([copies(plain_host(0, nics=1, bus=Wire(12.5e9, 0)), num_hosts)])
    return net.fabric(stages=clos(net, shape), name="leaf-spine", routing="d-mod-k")


def _link(index: int, src: str, dst: str, bandwidth: float, latency_ps: int) -> Link:
    return Link(index, src, dst, LinkKind.NVLINK, bandwidth, latency_ps)


def _one_host(
    name: str, ranks: list[Node], switches: Iterable[str], links: list[Link], overhead_ps: int, reduction: float
) -> Fabric:
    middle = [Node(switch, NodeKind.NVSWITCH, host=0, index=i) for i, switch in enumerate(switches)]
    costs = EndpointCosts(message_overhead_ps=overhead_ps, reduction_ps_per_byte=reduction)
    return fabric_of(name, (*ranks, *middle), links, [rank.name for rank in ranks], "d-mod-k", costs=costs)


def simulate_collective(
    fabric: Fabric,
    collective: str,
    algorithm: str | Algorithm | Schedule,
    size_bytes: int,
    *,
    library: Library | None = None,
    cluster: Cluster | None = None,
    connections: Connections | None = None,
    **options: Any,
) -> Simulation:
    """A collective by one algorithm: options of ``make_cluster``, of ``Ideal``, of ``Run``, extras and all others of
    :func:`commbench.sim.collective.simulate_collective` in one list, each by its name.
    """
    given = {name: options.pop(name) for name in list(options) if name in _OF_CLUSTER}
    cluster = make_cluster(fabric, **given) if cluster is None else cluster
    if options.get("jobs") is not None:
        cluster = replace(cluster, whole_hosts=False)
    ideal = Ideal(
        algorithms={get_collective(collective).name: algorithm}, ranks_per_host=cluster.ranks_per_host,
        connections=connections,
        **{name: options.pop(name) for name in list(options) if name in ("slices", "channels", "group")},
    )  # fmt: skip
    run = Run(**{one.name: options.pop(one.name) for one in fields(Run) if one.name in options})
    extras = Extras(**{one.name: options.pop(one.name) for one in fields(Extras) if one.name in options})
    return simulated(collective, size_bytes, cluster, library or ideal, run, extras=extras, **options)
