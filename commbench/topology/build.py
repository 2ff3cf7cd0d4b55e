# SPDX-License-Identifier: Apache-2.0
"""From a checked topology file to the topology: which section calls which builder."""

from functools import partial

from commbench.errors import TopologyError
from commbench.topology import fabrics, hosts, tiers
from commbench.topology.model import EndpointCosts, Topology
from commbench.topology.parts import Parts, assemble
from commbench.topology.schema import (
    CubeMeshHost,
    FabricSection,
    FatTreeFabric,
    GpuHost,
    HostSection,
    LeafSpineFabric,
    MeshHost,
    NoFabric,
    NvswitchHost,
    PcieHost,
    PlainHost,
    RailOnlyFabric,
    RailOptimizedFabric,
    SharedMemoryHost,
    StarFabric,
    ThreeTierFabric,
    TopologyFile,
    TreeFabric,
    quantities,
)
from commbench.topology.tree import Tree

__all__ = ["build_topology", "build_tree"]


def build_topology(document: TopologyFile, origin: str) -> Topology:
    """The topology that ``document`` describes; ``origin`` is the file it came from.

    Raises:
        TopologyError: a value out of its range; the message starts with the key path.
    """
    parts = _join_hosts(document.fabric, [_build_host(document.host, h) for h in range(_num_hosts(document.fabric))])
    return assemble(
        parts,
        name=document.name,
        routing=document.routing,
        costs=_costs(document),
        description=document.description,
        numbers=dict(quantities(document)),
        origin=origin,
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
    hosts.at_least("nics", host.nics, 1)
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
    match fabric:
        case NoFabric():
            return 1
        case FatTreeFabric():
            return fabric.k * tiers.k_ary(fabric.k).hosts
    if fabric.hosts < 1:
        raise TopologyError(f"fabric.hosts: {fabric.hosts} must be at least 1")
    return fabric.hosts


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
    gpus, nics, tree = host.gpus, host.nics, _tree(host)
    match host:
        case PcieHost():
            return hosts.pcie_host(number, gpus=gpus, nics=nics, tree=tree)
        case NvswitchHost():
            return hosts.nvswitch_host(number, gpus=gpus, nics=nics, tree=tree, nvlink=host.nvlink.wire)
        case MeshHost():
            return hosts.mesh_host(number, gpus=gpus, nics=nics, tree=tree, link=host.nvlink.wire)
        case CubeMeshHost():
            return hosts.cube_mesh_host(number, gpus=gpus, nics=nics, tree=tree, link=host.nvlink.wire)


def _tree(host: GpuHost) -> hosts.PcieTree:
    return hosts.PcieTree(host.pcie_switches, host.sockets, host.pcie.wire, host.socket.wire)


def _join_hosts(fabric: FabricSection, parts: list[Parts]) -> Parts:
    match fabric:
        case NoFabric():
            return fabrics.single(parts)
        case RailOnlyFabric():
            return fabrics.rail_only(parts, downlink=fabric.downlink.wire)
        case RailOptimizedFabric():
            return fabrics.rail_optimized(
                parts,
                hosts_per_leaf=fabric.hosts_per_leaf,
                spines=fabric.spines,
                oversubscription=fabric.oversubscription,
                downlink=fabric.downlink.wire,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
            )
        case _:
            return fabrics.clos(parts, _tiers(fabric, len(parts), fabrics.num_nics(parts)))


def _tiers(fabric: TreeFabric, num_hosts: int, nics: int) -> tuple[tiers.Tier, ...]:
    """The tree of switches over this many hosts of this many NICs each."""
    match fabric:
        case StarFabric():
            return tiers.star(num_hosts, downlink=fabric.downlink.wire)
        case LeafSpineFabric():
            return tiers.leaf_spine(
                num_hosts,
                nics,
                hosts_per_leaf=fabric.hosts_per_leaf,
                spines=fabric.spines,
                oversubscription=fabric.oversubscription,
                downlink=fabric.downlink.wire,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
            )
        case _:
            return tiers.three_tier(
                num_hosts,
                nics,
                pods=_pods(fabric),
                leaf_oversubscription=fabric.oversubscription.leaf,
                spine_oversubscription=fabric.oversubscription.spine,
                downlink=fabric.downlink.wire,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
                core_latency_ps=fabric.core_link.latency.picoseconds,
            )


def _pods(fabric: FatTreeFabric | ThreeTierFabric) -> tiers.Pods:
    if isinstance(fabric, FatTreeFabric):
        return tiers.k_ary(fabric.k)
    return tiers.Pods(fabric.hosts_per_leaf, fabric.leaves_per_pod, fabric.spines_per_pod, fabric.cores)
