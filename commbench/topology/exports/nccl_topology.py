# SPDX-License-Identifier: Apache-2.0
"""One host as NCCL's topology XML (NCCL_TOPO_FILE), as NCCL_TOPO_DUMP_FILE writes it and ``topology import`` reads it.

The format holds what hangs where, PCIe speeds, counts of NVLinks and speeds of NICs. Its bus ids and other numbers that
a topology file does not have are made up; what is made up, and what the format cannot hold, is said in its head.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from commbench.errors import InputError, TopologyError
from commbench.topology.fabric import Fabric
from commbench.topology.hosts import CUBE_MESH
from commbench.topology.imports.base import one_nvlink_GBps, socket_GBps
from commbench.topology.imports.pci import CPU_MAKERS, GPUS, INTEL_SOCKETS, PCIE_SPEEDS, PciGpu, pcie_GBps
from commbench.topology.schema import (
    CubeMeshHost,
    GpuHost,
    MeshHost,
    MixedHosts,
    NvlinkRack,
    NvswitchHost,
    OneHost,
    TopologyFile,
)
from commbench.topology.search import matching_devices
from commbench.units import GB

__all__ = ["Exported", "nccl_topology"]

_NVSWITCH = "ffff:00:00.0"
_CLASSES = {"gpu": "0x030200", "switch": "0x060400", "nvswitch": "0x068000", "nic": "0x020000", "ib": "0x020700"}
_NEAR = 0.005  # a rate as near as this is the same but for rounding
_BROADWELL = 79
_MADE_UP = (
    "bus ids, classes, GUIDs, and names, ports and maxconn of adapters are made up, ranks are the numbers of GPUs, and "
    "every device does GPUDirect: put in those of a real machine before NCCL there takes it (NCCL_TOPO_FILE)",
    "affinity and host_hash of CPUs are left out, NCCL fills them in; latencies have no place in the format",
)


@dataclass(frozen=True, slots=True)
class Exported:
    """A host in the format of another program.

    Attributes:
        text: the file. said: what is made up in it, and what it cannot hold, a sentence each.
    """

    text: str
    said: tuple[str, ...]


def nccl_topology(document: TopologyFile, fabric: Fabric, host: int) -> Exported:
    """The XML of host number ``host``; of a rack the one of its first tray.

    Raises:
        InputError: a host without GPUs, or of GPUs that are not known by their PCI device.
    """
    section = _of_host(document, host)
    if not isinstance(section, GpuHost):
        raise InputError(f"{fabric.name}: {section.wiring} hosts have no GPUs, of which NCCL's topology is made")
    name, gpu = _gpu(section, fabric.name)
    downlink = getattr(document.fabric, "downlink", None)
    speeds, unsaid = _speeds(section, fabric, host, downlink.share if downlink else 1.0)
    said = [*_MADE_UP, *unsaid, *_lost(section, gpu, name)]
    if document.network:
        said.append(f"network {document.network} has no place in the format")
    root = Element("system", version="1")
    _fill(root, section, gpu, speeds, "ib" if document.network == "ib" else "nic")
    indent(root)
    head = [f"NCCL topology of one host of {fabric.name}, written by commbench", *(f"- {one}" for one in said)]
    lines = (textwrap.fill(one, 100, initial_indent="  ", subsequent_indent="    ") for one in head)
    comment = "\n".join(lines).replace("--", "- -")
    body = tostring(root, encoding="unicode").replace(" />", "/>")  # a space there is a nameless attribute to NCCL
    return Exported(f"<!--\n{comment}\n-->\n{body}\n", tuple(said))


def _of_host(document: TopologyFile, host: int) -> OneHost:
    """The section of a host, where several makes stand side by side the one of its group."""
    if not isinstance(document.host, MixedHosts):
        return document.host
    for group in document.host.groups:
        if host < group.hosts:
            return group.host
        host -= group.hosts
    raise TopologyError(f"host.groups: have no host {host}")


def _gpu(section: GpuHost, name: str) -> tuple[str, PciGpu]:
    """PCI device and what is known of the GPUs; of several that the name stands for the first that is known."""
    known = {gpu.device: (busid, gpu) for busid, gpu in GPUS.items()}
    if section.device is None:
        raise InputError(f"{name}: host.device is left out, and NCCL's topology says the compute capability of GPUs: "
                         "name what computes there, for example `device: h100-sxm5-80gb`")  # fmt: skip
    found = [known[one] for one in matching_devices(section.device) if one in known]
    if not found:
        raise InputError(f"{name}: host.device {section.device}: its PCI device is not known, which the XML names; "
                         f"known are {', '.join(sorted(known))}")  # fmt: skip
    return found[0]


def _speeds(section: GpuHost, fabric: Fabric, host: int, share: float) -> tuple[list[float], list[str]]:
    """Gbit/s of each NIC, of whose line rate flows get ``share``, and what is to be said of them."""
    nics = section.nics
    if not nics:
        return [], []
    links = fabric.to_network[fabric.node_hosts[fabric.src[fabric.to_network]] == host]
    rates = np.zeros(nics * getattr(section, "trays", 1))
    np.add.at(rates, fabric.node_indices[fabric.src[links]], fabric.bandwidths[links] * 8 / GB)
    if rates[:nics].all():
        unsaid = ["efficiency of downlink has no place in the format"] if share < 1 else []
        return (rates[:nics] / share).tolist(), unsaid
    speed = next((told for told in (800, 400, 200, 100) if told / 8 <= section.pcie.line.bandwidth / GB), 50)
    return [float(speed)] * nics, [f"the NICs have no fabric and so no speed: {speed} Gbit/s, what their PCIe carries"]


def _lost(section: GpuHost, gpu: PciGpu, busid: str) -> Iterator[str]:
    """What of a host section the format cannot hold."""
    if isinstance(section, NvlinkRack) and section.trays > 1:
        yield f"one tray of {section.trays}: that their GPUs share an NVLink domain has no place in the format"
    if section.device != gpu.device:
        yield f"{section.device} is sold as {', '.join(matching_devices(section.device or ''))}; PCI device {busid} is {gpu.device}"  # noqa: E501
    speed, width = _lanes(section.pcie.line.bandwidth / GB)
    if abs(pcie_GBps(speed, width) * GB / section.pcie.line.bandwidth - 1) > _NEAR:
        yield f"pcie.bandwidth {section.pcie.bandwidth.value}: of no PCIe link; {speed} GT/s x {width} is nearest"
    nvlink = getattr(section, "nvlink", None)
    if nvlink is not None:
        told = one_nvlink_GBps(gpu.compute_capability, gpu.xgmi_GBps)
        if abs(nvlink.bandwidth.bytes_per_s / GB / told - 1) > _NEAR:
            yield f"nvlink.bandwidth {nvlink.bandwidth.value}: the format counts links, which are {told:g} GB/s of {gpu.device}"  # noqa: E501
    told = socket_GBps(section.cpu or "", _model(section))
    if section.sockets > 1 and abs(section.socket.line.bandwidth / GB / told - 1) > _NEAR:
        yield f"socket.bandwidth {section.socket.bandwidth.value}: the format names the CPU, for which NCCL counts {told:g} GB/s"  # noqa: E501
    if section.cpu is None:
        yield "cpu is not said: architecture and vendor are left out, NCCL fills them in"
    shares = {key: getattr(section, key) for key in ("nvlink", "pcie", "socket") if getattr(section, key, None)}
    if given := [key for key, link in shares.items() if link.efficiency]:
        yield f"efficiency of {', '.join(given)} has no place in the format"


def _lanes(rate_GBps: float) -> tuple[float, int]:  # noqa: N803
    """GT/s of a lane and number of lanes whose rate is nearest; of equal ones the most lanes."""
    made = product(PCIE_SPEEDS, (16, 8, 4, 2, 1))
    return min(made, key=lambda one: abs(round(pcie_GBps(*one) / rate_GBps - 1, 3)))


def _model(section: GpuHost) -> int:
    """The model of Intel's CPU whose socket link NCCL counts nearest to the host's; 0 for other makers."""
    if section.cpu != "intel":
        return 0
    rate = section.socket.line.bandwidth / GB
    return min(INTEL_SOCKETS, key=lambda one: abs(one[1] - rate))[0] or _BROADWELL


def _fill(root: Element, section: GpuHost, gpu: PciGpu, speeds: list[float], nic_class: str) -> None:
    """CPUs, PCIe switches, GPUs and NICs, shared out as a topology file does (``hosts.pcie_host``)."""
    buses = (f"{n >> 8:04x}:{n & 255:02x}:00.0" for n in count(1))
    speed, width = _lanes(section.pcie.line.bandwidth / GB)
    link = {"link_speed": f"{speed:.1f} GT/s PCIe", "link_width": str(width)}

    def pci(parent: Element, kind: str, **more: str) -> Element:
        return SubElement(parent, "pci", {"busid": next(buses), "class": _CLASSES[kind], **more, **link})

    cpus = [SubElement(root, "cpu", {"numaid": str(i), **_cpu(section)}) for i in range(section.sockets)]
    switches = [pci(cpus[i * len(cpus) // section.pcie_switches], "switch") for i in range(section.pcie_switches)]
    points = switches or cpus
    busid, maker = next(busid for busid, one in GPUS.items() if one is gpu), "0x1002" if gpu.xgmi_GBps else "0x10de"
    gpus = []
    for i in range(section.gpus):
        own = pci(points[i * len(points) // section.gpus], "gpu", vendor=maker, device=busid)
        gpus.append(own)
        told = {"dev": str(i), "sm": str(gpu.compute_capability), "rank": str(i), "gdr": "1"}
        SubElement(own, "gpu", told)
    for i, rate in enumerate(speeds):
        own = SubElement(pci(points[i * len(points) // len(speeds)], nic_class), "nic")
        told = {"name": f"nic{i}", "dev": str(i), "speed": f"{rate * 1000:.0f}", "port": "1", "latency": "0.000000"}
        SubElement(own, "net", {**told, "guid": f"0x{i + 1:x}", "maxconn": "131072", "gdr": "1"})
    for number, own in enumerate(gpus):
        for target, links, kind in _nvlinks(section, number, [one.get("busid", "") for one in gpus]):
            tag = "xgmi" if gpu.xgmi_GBps else "nvlink"
            SubElement(own[0], tag, target=target, count=str(links), tclass=_CLASSES[kind])


def _cpu(section: GpuHost) -> dict[str, str]:
    """What an element says of a CPU."""
    if section.cpu is None:
        return {}
    arch, vendor = CPU_MAKERS[section.cpu]
    model = {"intel": ("6", str(_model(section))), "amd": ("25", "1")}.get(section.cpu)
    told = {"arch": arch} | ({"vendor": vendor} if vendor else {})
    return told | ({"familyid": model[0], "modelid": model[1]} if model else {})


def _nvlinks(section: GpuHost, gpu: int, buses: list[str]) -> list[tuple[str, int, str]]:
    """Where the NVLinks of a GPU lead: bus, how many, what is there."""
    match section:
        case NvswitchHost() | NvlinkRack():
            return [(_NVSWITCH, section.nvlink.links, "nvswitch")]
        case MeshHost():
            return [(bus, section.nvlink.links, "gpu") for i, bus in enumerate(buses) if i != gpu]
        case CubeMeshHost():
            ends = {b if a == gpu else a: links for (a, b), links in CUBE_MESH.items() if gpu in (a, b)}
            return [(buses[peer], links, "gpu") for peer, links in sorted(ends.items())]
        case _:
            return []
