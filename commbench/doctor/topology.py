# SPDX-License-Identifier: Apache-2.0
"""A topology of this machine: what was seen of it in the form of NCCL's topology XML, which the importer reads.

So what a host of GPUs, NVLinks, PCIe switches and NICs looks like as a topology is decided in one place
(``topology.imports.nccl_topology``), for NCCL's own dump and for what the system tells alike.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement

from commbench.doctor.gpus import GpuState
from commbench.doctor.machine import HostFacts, PciDevice
from commbench.errors import InputError
from commbench.topology.imports.base import Imported, valid_name
from commbench.topology.imports.nccl_topology import import_nccl_topology

__all__ = ["topology_of"]

_ARCHITECTURE = {"GenuineIntel": "x86_64", "AuthenticAMD": "x86_64", "ARM": "arm64"}
_GPU, _SWITCH, _NIC, _BRIDGE = "0x030200", "0x068000", "0x020000", "0x060400"  # PCI classes, as in NCCL's file
_MBIT = 1e6
_INSTEAD = (
    "`commbench topology new` writes a file to begin with, `commbench topology import` one from NCCL's dump "
    "(NCCL_TOPO_DUMP_FILE) of a machine with GPUs"
)


def topology_of(machine: HostFacts, gpus: Sequence[GpuState], name: str, why_not: str = "") -> Imported:
    """The topology of one such host, with what is odd about it.

    Args:
        machine, gpus: what was seen. name: of the file. why_not: why nothing is known of the GPUs.

    Raises:
        InputError: there is no GPU, nobody tells how its NVLinks go, or no topology can say what is there.
    """
    if not machine.of_kind("gpu") and not gpus:
        raise InputError(f"--write: no GPU is to be seen here, so there is nothing to write; {_INSTEAD}")
    if not gpus:
        raise InputError(f"--write: {why_not or 'nobody tells how the GPUs are joined'}; {_INSTEAD}")
    found = import_nccl_topology(_host(machine, gpus), valid_name(name), "this machine", "its system")
    if not found.text:
        raise InputError(f"--write: no topology file says what is here: {found.why_none}; {_INSTEAD}")
    return found


def _host(machine: HostFacts, gpus: Sequence[GpuState]) -> Element:
    """The machine as NCCL writes it: CPUs, below them switches, below them devices."""
    root = Element("system", version="1")
    devices = {one.address: one for one in machine.pci}
    at: dict[tuple[int | None, str], Element] = {}

    def below(one: PciDevice | None) -> Element:
        """The element that a device hangs on."""
        numa, switch = (None, "") if one is None else (one.numa, one.switch)
        if (numa, "") not in at:
            at[numa, ""] = SubElement(root, "cpu", dict(_cpu(machine, numa)))
        if (numa, switch) not in at:
            at[numa, switch] = SubElement(at[numa, ""], "pci", {"busid": switch, "class": _BRIDGE})
        return at[numa, switch]

    for gpu in gpus:
        own = devices.get(gpu.address)
        slot = SubElement(below(own), "pci", {"busid": gpu.address, "class": _GPU, **_lanes(own)})
        element = SubElement(slot, "gpu", {"dev": str(gpu.index), "sm": str(gpu.capability or "")})
        for peer, count in sorted(Counter(gpu.peers).items()):
            kind = _GPU if peer else _SWITCH
            SubElement(element, "nvlink", {"target": peer, "count": str(count), "tclass": kind})
    for address, name, rate in _nets(machine):
        own = devices.get(address)
        slot = SubElement(below(own), "pci", {"busid": address or name, "class": _NIC, **_lanes(own)})
        nic = SubElement(slot, "nic")
        SubElement(nic, "net", {"name": name, "speed": str(round(rate / _MBIT))})
    return root


def _cpu(machine: HostFacts, numa: int | None) -> Iterator[tuple[str, str]]:
    yield "numaid", str(numa or 0)
    yield "arch", _ARCHITECTURE.get(machine.cpu_vendor, "")
    yield "vendor", machine.cpu_vendor if machine.cpu_vendor != "ARM" else ""
    if machine.cpu_model is not None:
        yield "modelid", str(machine.cpu_model)


def _lanes(one: PciDevice | None) -> dict[str, str]:
    """Speed of a lane, at most, as an idle device lowers it; and the lanes that it has now, which it does not."""
    if one is None:
        return {}
    speed = one.most_speed or one.speed
    told = {"vendor": one.vendor, "device": one.device}
    told |= {"link_speed": f"{speed:.1f} GT/s PCIe"} if speed else {}
    return told | ({"link_width": str(one.width)} if one.width else {})


def _nets(machine: HostFacts) -> Iterator[tuple[str, str, float]]:
    """PCI address, name and bit/s of what NCCL would send over: RDMA ports that are up, else interfaces."""
    ports = [port for port in machine.ports if port.state == "ACTIVE" and port.rate]
    for port in ports:
        yield port.pci, f"{port.device}:{port.port}", port.rate or 0.0
    for each in machine.interfaces if not ports else ():
        if each.state == "up" and each.speed:
            yield each.pci, each.name, each.speed
