# SPDX-License-Identifier: Apache-2.0
"""Which channels NCCL's search would find on a machine: rings, trees and NVLS, each with the rate of one channel.

NCCL tries rates from the largest down and lays as many channels of that rate as the links carry. On a machine whose
GPUs are alike that is a division; only the hybrid cube mesh needs a search, whose results are a table here.
"""

from dataclasses import dataclass
from math import floor

import numpy as np

from commbench.libraries.nccl.channel_graph import ChannelGraph
from commbench.libraries.nccl.machine import NcclMachine
from commbench.libraries.nccl.tables import Tables

__all__ = ["Graphs", "graphs_of", "speeds_row"]

CUBE_MESH_RINGS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 2, 6: 2, 7: 4, 8: 6}
"""Rings of one link each among the first GPUs of a hybrid cube mesh (DGX-1V), which share no link."""
_NEXT_BEST = 0.49  # of the best rate found, below which the search stops (src/graph/search.cc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """All graphs of a machine.

    Attributes:
        ring, tree: nvls: None where there is none. channels: of the communicator. nvls_channels: of NVLS.
        ll128: whether the protocol is allowed on its links.
    """

    ring: ChannelGraph
    tree: ChannelGraph
    nvls: ChannelGraph | None = None
    channels: int = 1
    nvls_channels: int = 0
    ll128: bool = True


def speeds_row(capability: int) -> str:
    """Row of the rates that the search tries, by compute capability."""
    return "old" if capability < 90 else "hopper" if capability < 100 else "blackwell"


def graphs_of(machine: NcclMachine, tables: Tables) -> Graphs:
    """What the search would find, or found on the machine itself."""
    intra, found = _intra_total(machine, tables), dict(machine.searched)
    nvlink = machine.link in ("nvswitch", "cube-mesh", "nvlink") and machine.gpus_per_node > 1
    ring = found.get("ring") or _ring(machine, tables, intra, nvlink)
    tree = found.get("tree") or (ring if machine.nodes == 1 else _tree(machine, ring))
    channels = min(ring.channels, tree.channels) * 2
    if machine.nodes > 1 and machine.kind.compute_capability >= 90 and ring.intra > 45 and channels < 16:
        channels *= 2
    nvls = _nvls(machine, tables, intra) if not found or "nvls" in found else None
    nvls = None if nvls is None else found.get("nvls", nvls)  # the switches may be told not to add
    return Graphs(
        ring=ring,
        tree=tree,
        nvls=nvls,
        channels=max(1, min(channels, tables.channels["most"])),
        nvls_channels=_nvls_channels(machine, tables) if nvls else 0,
        ll128=_ll128(machine, tables, ring.nvlink),
    )


def _intra_total(machine: NcclMachine, tables: Tables) -> float:
    """GB/s of one GPU to the others of its node, as NCCL counts it."""
    gpu = machine.kind
    if machine.link in ("nvswitch", "cube-mesh", "nvlink") and gpu.nvlink_GBps:
        return _per_nvlink(machine, tables) * round(machine.link_GBps / gpu.nvlink_GBps)
    if machine.link == "pcie":
        return _pcie(machine.link_GBps)
    return machine.link_GBps


def _per_nvlink(machine: NcclMachine, tables: Tables) -> float:
    """GB/s that NCCL counts for one NVLink: that of the newest compute capability that is not above the GPU's."""
    known = [int(capability) for capability in tables.nvlink]
    return tables.nvlink[str(max(c for c in known if c <= machine.kind.compute_capability))]


def _pcie(line_GBps: float) -> float:  # noqa: N803
    """A line rate of PCIe as NCCL counts it: 12 GB/s for x16 gen3, doubled with each generation."""
    return min((rate for rate in (3.0, 6.0, 12.0, 24.0, 48.0, 96.0)), key=lambda rate: abs(rate * 1.3125 - line_GBps))


def _nic(machine: NcclMachine) -> float:
    """GB/s of one NIC as NCCL counts it, behind PCIe as fast as needed."""
    return machine.nic_Gbps / 8


def _to_nic(capability: int) -> float:
    """GB/s of a GPU's PCIe as NCCL counts it: gen6 with data-centre Blackwell, whose workstation cards have gen5."""
    return 96.0 if 100 <= capability < 120 else 48.0 if capability >= 90 else 24.0 if capability >= 80 else 12.0


def _ring(machine: NcclMachine, tables: Tables, total: float, nvlink: bool) -> ChannelGraph:
    capability = machine.kind.compute_capability
    if machine.link == "cube-mesh" and machine.nodes == 1:
        rings = CUBE_MESH_RINGS.get(machine.gpus_per_node, 1)
        per_link = _per_nvlink(machine, tables)
        return ChannelGraph(channels=rings, intra=per_link, inter=per_link)
    row, most = speeds_row(capability), tables.channels["most"] // 2
    if machine.nodes == 1:
        count, speed = _lay(tables.speeds["intra"][row], [total], total, most)
    else:
        top = min(_nic(machine), _to_nic(capability))
        local = machine.gpus_per_node  # of whose GPUs each channel leaves one by the network
        inside = total * local / (local - 1) if local > 1 else np.inf
        count, speed = _lay(tables.speeds["inter"][row], [top] * machine.nics, inside, most)
    doubled = speed >= 25 and not (capability > 80 and speed < 50 and count > 4)
    if doubled:
        count, speed = min(2 * count, most), speed / 2
    return ChannelGraph(channels=count, intra=speed, inter=speed, nvlink=nvlink)


def _lay(speeds: list[float], ways: list[float], total: float, most: int) -> tuple[int, float]:
    """Channels and their rate: most bandwidth in all, of equal ones the fastest rate.

    Args:
        speeds: that are tried. ways: GB/s of each NIC, or of a GPU's links; a channel takes one.
        total: GB/s that all channels may take together. most: of channels.
    """
    best = (1, 0.1)
    for speed in speeds:
        if best[1] > 0.1 and speed / best[1] <= _NEXT_BEST:
            break
        count = min(sum(floor(way / speed + 1e-9) for way in ways), floor(min(total / speed, most) + 1e-9), most)
        if count * speed > best[0] * best[1] + 1e-9:
            best = (count, speed)
    return best


def _tree(machine: NcclMachine, ring: ChannelGraph) -> ChannelGraph:
    """Trees use the channels of rings; from Hopper on all of a node's traffic enters by one GPU (pattern 3)."""
    pattern = 3 if machine.kind.compute_capability >= 90 and machine.gpus_per_node > 1 else 1
    return ChannelGraph(channels=ring.channels, intra=ring.intra, inter=ring.inter, nvlink=ring.nvlink, pattern=pattern)


def _nvls(machine: NcclMachine, tables: Tables, total: float) -> ChannelGraph | None:
    able = machine.link == "nvswitch" and machine.kind.generation in ("hopper", "blackwell")
    wanted = machine.kind.nvls if machine.nvls is None else machine.nvls
    if not (able and wanted) or machine.gpus_per_node < 2:
        return None
    row = speeds_row(machine.kind.compute_capability)
    many = machine.gpus_per_node if machine.nodes == 1 else min(machine.nics, machine.gpus_per_node)
    heads = min(many, 32)
    if heads < 2:
        return None
    kind = "intra" if machine.nodes == 1 else "inter"
    speeds = tables.speeds[kind][row]
    if machine.nodes > 1:  # the rate of the NICs, and inside what is left
        each = min(_nic(machine) * max(1, machine.nics // heads), 48.0 if row == "hopper" else 96.0)
        inter = max((s for s in speeds if s <= each), default=speeds[-1])
        fits = max((s for s in speeds if s * (heads + 1) <= total and s <= inter), default=speeds[-1])
        return ChannelGraph(channels=heads, intra=fits, inter=inter, pattern=5)
    fits = max((s for s in speeds if s * (heads + 1) <= total), default=speeds[-1])
    inter = max(s for s in speeds if s <= 2 * fits)
    return ChannelGraph(channels=heads, intra=fits, inter=inter, pattern=5)


def _nvls_channels(machine: NcclMachine, tables: Tables) -> int:
    if machine.kind.generation == "hopper":
        return tables.channels["nvls"]
    return tables.channels["nvls-blackwell" if machine.nodes == 1 else "nvls-blackwell-nodes"]


def _ll128(machine: NcclMachine, tables: Tables, nvlink: bool) -> bool:
    """Needs NVLinks inside a node, and a way to the NIC over PCIe switches alone."""
    inside = nvlink or machine.gpus_per_node == 1
    return machine.kind.compute_capability >= tables.rules["ll128-from"] and inside and machine.link != "pcie"
