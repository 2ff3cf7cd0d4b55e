# SPDX-License-Identifier: Apache-2.0
"""From a checked topology file to the topology: which section calls which builder."""

from dataclasses import replace
from functools import partial

from commbench.errors import TopologyError
from commbench.topology import fabrics, hosts, tiers
from commbench.topology.model import EndpointCosts, Topology
from commbench.topology.parts import Parts, assemble
from commbench.topology.schema import (
    CubeMeshHost,
    FabricSection,
    HostSection,
    LeafSpineFabric,
    MeshHost,
    NoFabric,
    NvswitchHost,
    PcieHost,
    PlainHost,
    RailOnlyFabric,
    RailOptimizedFabric,
    RailThreeTierFabric,
    SharedMemoryHost,
    StarFabric,
    TopologyFile,
    TreeFabric,
)
from commbench.topology.sections import quantities
from commbench.topology.tree import Tree

__all__ = ["MOST_GRAPH_LINKS", "MOST_TREE_LINKS", "build_topology", "build_tree"]

MOST_GRAPH_LINKS = 2**18
"""Directed links of a graph: some seconds and 0.3 GB."""
MOST_TREE_LINKS = 2**24
"""Directed links of a tree in closed form: some 0.5 GB of arrays."""


def build_topology(document: TopologyFile, origin: str) -> Topology:
    """The topology that ``document`` describes; ``origin`` is the file it came from.

    Raises:
        TopologyError: a value out of its range; the message starts with the key path.
    """
    num_hosts, first = _num_hosts(document.fabric), _build_host(document.host, 0)
    inside = len(first.cables) * num_hosts
    _bounded(inside + _fabric_links(document.fabric, num_hosts, document.host), MOST_GRAPH_LINKS)
    parts = _join_hosts(document.fabric, [first, *(_build_host(document.host, h) for h in range(1, num_hosts))])
    return assemble(
        parts,
        name=document.name,
        routing=document.routing,
        costs=_costs(document),
        description=document.description,
        numbers=dict(quantities(document)),
        origin=origin,
        device=document.host.device or "",
    )


def build_tree(document: TopologyFile, origin: str) -> Tree | None:
    """The same in closed form where ``document`` describes a tree of plain hosts, else None.

    Raises:
        TopologyError: as build_topology.
    """
    host, fabric = document.host, document.fabric
    if not isinstance(host, PlainHost) or not isinstance(fabric, TreeFabric):
        return None
    num_hosts = _num_hosts(fabric)
    _bounded(2 * num_hosts * host.nics + _fabric_links(fabric, num_hosts, host), MOST_TREE_LINKS)
    return Tree(
        name=document.name,
        num_hosts=num_hosts,
        nics=host.nics,
        bus=host.bus.wire,
        tiers=_tiers(fabric, num_hosts, host.nics),
        routing=document.routing,
        build=partial(build_topology, document, origin),
        costs=_costs(document),
        description=document.description,
        numbers=dict(quantities(document)),
        origin=origin,
        device=host.device or "",
    )


def _costs(document: TopologyFile) -> EndpointCosts:
    return EndpointCosts(
        message_overhead_ps=document.costs.message_overhead.picoseconds,
        reduction_ps_per_byte=document.costs.reduction_ps_per_byte,
        cores_per_host=_cores(document.host),
    )


def _cores(host: HostSection) -> int | None:
    """Processors that the ranks of one host share; None where each rank has its own."""
    if not isinstance(host, SharedMemoryHost):
        return None
    if host.cores < 1:
        raise TopologyError(f"host.cores: {host.cores} must be at least 1")
    return host.cores


def _num_hosts(fabric: FabricSection) -> int:
    return 1 if isinstance(fabric, NoFabric) else fabric.hosts


def _fabric_links(fabric: FabricSection, num_hosts: int, host: HostSection) -> int:
    """Directed links between the NICs and the top, before any of them is made."""
    if isinstance(fabric, NoFabric) or isinstance(host, SharedMemoryHost):
        return 0
    if isinstance(fabric, RailOnlyFabric):
        return 2 * num_hosts * host.nics
    made, rails = _tiers(fabric, num_hosts, host.nics), isinstance(fabric, RailOptimizedFabric | RailThreeTierFabric)
    return tiers.num_links(num_hosts * host.nics, made, made[0].below * (1 if rails else host.nics))


def _bounded(num_links: int, most: int) -> None:
    if num_links > most:
        raise TopologyError(
            f"fabric: {num_links:,} links, counted in both directions: must be at most {most:,}, the most of a fabric "
            "of this make; type fewer hosts or switches"
        )


def _build_host(host: HostSection, number: int) -> Parts:
    match host:
        case PlainHost():
            return hosts.plain_host(number, nics=host.nics, bus=host.bus.wire)
        case SharedMemoryHost():
            wires = {"rank_link": host.rank_link.wire, "memory": host.memory.wire}
            return hosts.shared_memory_host(number, ranks=host.ranks, **wires)
        case _:
            return _build_gpu_host(host, number)


def _build_gpu_host(host: PcieHost | NvswitchHost | MeshHost | CubeMeshHost, number: int) -> Parts:
    gpus, nics, tree = host.gpus, host.nics, host.tree
    match host:
        case PcieHost():
            return hosts.pcie_host(number, gpus=gpus, nics=nics, tree=tree)
        case NvswitchHost():
            return hosts.nvswitch_host(number, gpus=gpus, nics=nics, tree=tree, nvlink=host.nvlink.wire)
        case MeshHost():
            return hosts.mesh_host(number, gpus=gpus, nics=nics, tree=tree, link=host.nvlink.wire)
        case CubeMeshHost():
            return hosts.cube_mesh_host(number, gpus=gpus, nics=nics, tree=tree, link=host.nvlink.wire)


def _join_hosts(fabric: FabricSection, parts: list[Parts]) -> Parts:
    match fabric:
        case NoFabric():
            return fabrics.single(parts)
        case RailOnlyFabric():
            return fabrics.rail_only(parts, downlink=fabric.downlink.wire)
        case _:
            rails = isinstance(fabric, RailOptimizedFabric | RailThreeTierFabric)
            return fabrics.clos(parts, _tiers(fabric, len(parts), fabrics.num_nics(parts)), rails=rails)


def _tiers(
    fabric: TreeFabric | RailOptimizedFabric | RailThreeTierFabric, num_hosts: int, nics: int
) -> tuple[tiers.Tier, ...]:
    """The tree of switches over this many hosts of this many NICs each: what flows get of each line rate."""
    match fabric:
        case StarFabric():
            return tiers.star(num_hosts, downlink=fabric.downlink.wire)
        case LeafSpineFabric() | RailOptimizedFabric():
            make = tiers.leaf_spine if isinstance(fabric, LeafSpineFabric) else tiers.rail_optimized
            made = make(
                num_hosts,
                nics,
                hosts_per_leaf=fabric.hosts_per_leaf,
                spines=fabric.spines,
                oversubscription=fabric.oversubscription,
                downlink=fabric.downlink.line,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
            )
            shares = [fabric.downlink.share, fabric.uplink.share]
        case _:
            made = tiers.three_tier(
                num_hosts,
                nics,
                pods=fabric.pods,
                leaf_oversubscription=fabric.oversubscription.leaf,
                spine_oversubscription=fabric.oversubscription.spine,
                downlink=fabric.downlink.line,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
                core_latency_ps=fabric.core_link.latency.picoseconds,
                rails=isinstance(fabric, RailThreeTierFabric),
            )
            shares = [fabric.downlink.share, fabric.uplink.share, fabric.core_link.share]
    return tuple(replace(tier, wire=tier.wire.times(share)) for tier, share in zip(made, shares, strict=True))
