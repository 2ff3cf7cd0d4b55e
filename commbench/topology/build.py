# SPDX-License-Identifier: Apache-2.0
"""From a checked topology file to the fabric: hosts from their section, joined by their kind of fabric."""

from itertools import accumulate

from commbench.errors import TopologyError
from commbench.topology import hosts
from commbench.topology.cabling import Cabling, copies
from commbench.topology.fabric import Fabric, Graph, require_connected
from commbench.topology.model import EndpointCosts
from commbench.topology.parts import Parts
from commbench.topology.schema import (
    CubeMeshHost,
    HostSection,
    MeshHost,
    MixedHosts,
    NvlinkRack,
    NvswitchHost,
    OneHost,
    PcieHost,
    PlainHost,
    SharedMemoryHost,
    TopologyFile,
)
from commbench.topology.sections import quantities

__all__ = ["build_fabric"]


def build_fabric(document: TopologyFile, origin: str) -> Fabric:
    """The fabric that ``document`` describes; ``origin`` is the file it came from.

    Raises:
        TopologyError: a value out of its range; the message starts with the key path.
    """
    net = Cabling(_hosts(document.host, document.fabric.num_hosts))
    stages = document.fabric.join(net)
    fabric = net.fabric(
        stages=stages,
        name=document.name,
        routing=document.routing,
        costs=EndpointCosts(
            message_overhead_ps=document.costs.message_overhead.picoseconds,
            reduction_ps_per_byte=document.costs.reduction_ps_per_byte,
            cores_per_host=_cores(document.host),
        ),
        description=document.description,
        numbers=dict(quantities(document)),
        origin=origin,
        device=getattr(document.host, "device", None) or "",  # hosts of several kinds name none for all
        cpu=getattr(document.host, "cpu", None) or "",
        network=document.network or "",
    )
    if not stages:
        require_connected(fabric)
    return fabric


def _hosts(host: HostSection, count: int) -> list[Graph]:
    """All hosts, in runs of equal ones."""
    if not isinstance(host, MixedHosts):
        return [copies(_build_host(host), count)]
    groups = host.groups
    if sum(group.hosts for group in groups) != count:
        total = sum(group.hosts for group in groups)
        raise TopologyError(f"host.groups: {total} hosts in all groups, but the fabric joins {count}")
    firsts = accumulate((group.hosts for group in groups), initial=0)
    return [
        copies(_build_host(group.host), group.hosts, first, wiring)
        for wiring, (group, first) in enumerate(zip(groups, firsts, strict=False))
    ]


def _cores(host: HostSection) -> int | None:
    """Processors that the ranks of one host share; None where each rank has its own."""
    if not isinstance(host, SharedMemoryHost):
        return None
    if host.cores < 1:
        raise TopologyError(f"host.cores: {host.cores} must be at least 1")
    return host.cores


def _build_host(host: OneHost) -> Parts:
    match host:
        case PlainHost():
            return hosts.plain_host(0, nics=host.nics, bus=host.bus.wire)
        case SharedMemoryHost():
            wires = {"rank_link": host.rank_link.wire, "memory": host.memory.wire}
            return hosts.shared_memory_host(0, ranks=host.ranks, **wires)
        case _:
            return _build_gpu_host(host)


def _build_gpu_host(host: PcieHost | NvswitchHost | NvlinkRack | MeshHost | CubeMeshHost) -> Parts:
    base = hosts.pcie_host(0, gpus=host.gpus, nics=host.nics, tree=host.tree)
    match host:
        case PcieHost():
            return base
        case NvswitchHost():
            return hosts.under_nvswitch(base, host.nvlink.wire)
        case NvlinkRack():
            return hosts.under_nvswitch(hosts.rack(base, host.trays), host.nvlink.wire)
        case MeshHost():
            return hosts.mesh(base, host.nvlink.wire)
        case CubeMeshHost():
            return hosts.cube_mesh(base, host.nvlink.wire)
