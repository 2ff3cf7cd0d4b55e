# SPDX-License-Identifier: Apache-2.0
"""From a checked topology file to the topology: which section calls which builder."""

from commbench.errors import TopologyError
from commbench.topology import fabrics, hosts
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
    TopologyFile,
    quantities,
)

__all__ = ["build_topology"]


def build_topology(document: TopologyFile, origin: str) -> Topology:
    """The topology that ``document`` describes; ``origin`` is the file it came from.

    Raises:
        TopologyError: a value out of its range; the message starts with the key path.
    """
    count = _num_hosts(document.fabric)
    if count < 1:
        raise TopologyError(f"fabric.hosts: {count} must be at least 1")
    parts = _join_hosts(document.fabric, [_build_host(document.host, h) for h in range(count)])
    costs = EndpointCosts(
        message_overhead_ps=document.costs.message_overhead.picoseconds,
        reduction_ps_per_byte=document.costs.reduction_ps_per_byte,
        cores_per_host=_cores(document.host),
    )
    return assemble(
        parts,
        name=document.name,
        routing=document.routing,
        costs=costs,
        description=document.description,
        numbers=dict(quantities(document)),
        origin=origin,
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
            return fabric.k * fabrics.check_arity(fabric.k) ** 2
        case _:
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
        case StarFabric():
            return fabrics.star(parts, downlink=fabric.downlink.wire)
        case RailOnlyFabric():
            return fabrics.rail_only(parts, downlink=fabric.downlink.wire)
        case FatTreeFabric():
            return fabrics.fat_tree(
                parts,
                k=fabric.k,
                leaf_oversubscription=fabric.oversubscription.leaf,
                spine_oversubscription=fabric.oversubscription.spine,
                downlink=fabric.downlink.wire,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
                core_latency_ps=fabric.core_link.latency.picoseconds,
            )
        case LeafSpineFabric() | RailOptimizedFabric():
            join = fabrics.leaf_spine if isinstance(fabric, LeafSpineFabric) else fabrics.rail_optimized
            return join(
                parts,
                hosts_per_leaf=fabric.hosts_per_leaf,
                spines=fabric.spines,
                oversubscription=fabric.oversubscription,
                downlink=fabric.downlink.wire,
                uplink_latency_ps=fabric.uplink.latency.picoseconds,
            )
