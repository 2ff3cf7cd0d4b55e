# SPDX-License-Identifier: Apache-2.0
"""What a Linux machine says of itself below /sys and /proc; all readers take a root, so that tests can give another.

Nothing is guessed: what a file does not tell is None.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from commbench.results.environment import cores, cpu_quota, kept_variables

__all__ = ["HostFacts", "InfinibandPort", "Interface", "PciDevice", "read_machine"]

_GPU_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_DISPLAY, _BRIDGE, _NETWORK = "0x03", "0x0680", "0x02"  # PCI classes (PCI Code and ID Assignment 1.11, 1.4, 1.7, 1.3)
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.\d")
_NCCL_PACKAGE = re.compile(r"nvidia-nccl-cu\d+|rccl")


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A GPU, an NVSwitch or a NIC on the PCI bus.

    Attributes:
        address: such as "0000:1b:00.0". kind: "gpu", "nvswitch" or "nic". vendor, device: identifiers, "0x10de".
        switch: address of the PCIe switch nearest to the CPU that it is below, "" where it hangs on the CPU itself.
        numa: node, None where there is none. speed, width: GT/s of a lane, and lanes; most_speed, most_width: at most.
    """

    address: str
    kind: str
    vendor: str
    device: str
    switch: str
    numa: int | None
    speed: float | None
    most_speed: float | None
    width: int | None
    most_width: int | None


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that is hardware: ``speed`` in bit/s, ``pci``: address of its device, "" where none."""

    name: str
    state: str
    speed: float | None
    mtu: int | None
    pci: str


@dataclass(frozen=True, slots=True)
class InfinibandPort:
    """A port of an RDMA device: ``state`` such as "ACTIVE", ``rate`` in bit/s, ``layer`` "InfiniBand" or "Ethernet"."""

    device: str
    port: int
    state: str
    rate: float | None
    layer: str
    pci: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What was seen.

    Attributes:
        cpu: name of the model; cpu_model: its number. cpu_vendor: "GenuineIntel" and the like, "ARM" of those.
        cores: that this process may run on; online: that there are. quota: cores' worth of time of its control group,
            None without a limit. numa: cores of every node. governors: of frequency, that are in use.
        memory_bytes, memlock_bytes: there; that a process may lock, None without a limit. hugepages: free ones of 2 MiB
            or what is the default. transparent: mode of transparent huge pages.
        pci: GPUs, NVSwitches and NICs. interfaces, ports: of the network.
        driver: version of NVIDIA's, "" without. peermem: whether nvidia_peermem is loaded, by which RDMA reaches GPUs.
        namespaces: that a user may make, None where the system does not say; restricted: whether AppArmor or a sysctl
            keeps ordinary users from it.
        nccl: packages of NCCL for this Python, with versions. variables: of NCCL, gloo and others that change runs.
    """

    cpu: str | None
    cpu_vendor: str
    cpu_model: int | None
    cores: int
    online: int | None
    quota: float | None
    numa: Mapping[int, int]
    governors: tuple[str, ...]
    memory_bytes: int | None
    memlock_bytes: int | None
    hugepages: int | None
    transparent: str
    pci: tuple[PciDevice, ...]
    interfaces: tuple[Interface, ...]
    ports: tuple[InfinibandPort, ...]
    driver: str
    peermem: bool
    namespaces: int | None
    restricted: str
    nccl: Mapping[str, str]
    variables: Mapping[str, str]

    def of_kind(self, kind: str) -> tuple[PciDevice, ...]:
        """The PCI devices of one kind."""
        return tuple(one for one in self.pci if one.kind == kind)


def read_machine(root: Path = Path("/"), variables: Mapping[str, str] = os.environ) -> HostFacts:
    """All that the files below ``root`` tell of the machine; ``variables`` are the environment's."""
    quota = cpu_quota(root / "sys/fs/cgroup", root / "proc/self/cgroup")
    own = _count(_field(_text(root / "proc/self/status"), "Cpus_allowed_list") or "")
    online = _count(_text(root / "sys/devices/system/cpu/online"))
    memory, cpus = _meminfo(root), _text(root / "proc/cpuinfo")
    return HostFacts(
        cpu=_field(cpus, "model name"),
        cpu_vendor=_field(cpus, "vendor_id") or ("ARM" if _field(cpus, "CPU implementer") else ""),
        cpu_model=_whole(_field(cpus, "model") or ""),
        cores=own or online or len(cores()),
        online=online,
        quota=None if quota is None else quota[1],
        numa=_numa(root),
        governors=_governors(root),
        memory_bytes=memory.get("MemTotal"),
        memlock_bytes=_memlock(root),
        hugepages=memory.get("HugePages_Free"),
        transparent=_chosen(_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        pci=tuple(_pci(root)),
        interfaces=tuple(_interfaces(root)),
        ports=tuple(_ports(root)),
        driver=_driver(root),
        peermem=(root / "sys/module/nvidia_peermem").exists(),
        namespaces=_whole(_text(root / "proc/sys/user/max_user_namespaces")),
        restricted=_restricted(root),
        nccl=_packages() if root == Path("/") else {},
        variables=kept_variables(variables),
    )


def _text(path: Path) -> str:
    """A system file, "" where there is none or the device behind it does not answer."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _count(text: str) -> int | None:
    """How many a list such as "0-3,8" has."""
    parts = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) for part in text.split(",")] if text else []
    if not parts or not all(parts):
        return None
    return sum(int(part[2] or part[1]) - int(part[1]) + 1 for part in parts if part)


def _chosen(text: str) -> str:
    """The word in brackets."""
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else text


def _numa(root: Path) -> dict[int, int]:
    nodes = (root / "sys/devices/system/node").glob("node[0-9]*")
    found = {int(node.name[4:]): _count(_text(node / "cpulist")) or 0 for node in nodes if node.name[4:].isdigit()}
    return dict(sorted(found.items()))


def _governors(root: Path) -> tuple[str, ...]:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return tuple(sorted({_text(file) for file in files} - {""}))


def _meminfo(root: Path) -> dict[str, int]:
    """Bytes of what has a unit, counts of the rest."""
    rows = re.findall(r"^(\w+):\s+(\d{1,15})( kB)?$", _text(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in rows}


def _memlock(root: Path) -> int | None:
    found = re.search(r"^Max locked memory\s+(\d{1,20}|unlimited)", _text(root / "proc/self/limits"), re.MULTILINE)
    return None if found is None or found[1] == "unlimited" else int(found[1])


def _pci(root: Path) -> list[PciDevice]:
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor, kind = _text(folder / "vendor"), _text(folder / "class")
        what = (
            "gpu" if kind.startswith(_DISPLAY) and vendor in _GPU_VENDORS
            else "nvswitch" if kind.startswith(_BRIDGE) and vendor == "0x10de"
            else "nic" if kind.startswith(_NETWORK) else ""
        )  # fmt: skip
        if not what:
            continue
        numa = _whole(_text(folder / "numa_node"))
        found.append(
            PciDevice(
                address=folder.name,
                kind=what,
                vendor=vendor,
                device=_text(folder / "device"),
                switch=_switch(folder),
                numa=None if numa is None or numa < 0 else numa,
                speed=_rate(_text(folder / "current_link_speed")),
                most_speed=_rate(_text(folder / "max_link_speed")),
                width=_whole(_text(folder / "current_link_width")),
                most_width=_whole(_text(folder / "max_link_width")),
            )
        )
    return found


def _switch(folder: Path) -> str:
    """Of the bridges above a device the first below the root port, if one more is between: a switch's upward port."""
    above = [part for part in folder.resolve().parts[:-1] if _PCI_ADDRESS.fullmatch(part)]
    return above[1] if len(above) > 2 else ""


def _rate(text: str) -> float | None:
    """The number of "16.0 GT/s PCIe" or "400 Gb/sec (4X NDR)"."""
    found = re.match(r"(\d{1,6}(?:\.\d{1,3})?) G", text)
    return float(found[1]) if found else None


def _address(device: Path) -> str:
    """PCI address of what a ``device`` link leads to, "" where it is none."""
    name = device.resolve().name if device.exists() else ""
    return name if _PCI_ADDRESS.fullmatch(name) else ""


def _interfaces(root: Path) -> list[Interface]:
    found = []
    for folder in sorted((root / "sys/class/net").glob("*")):
        if not (folder / "device").exists():  # loopback, bridges, veth
            continue
        speed = _whole(_text(folder / "speed"))  # Mbit/s; -1 where the link is down
        rate = speed * 1e6 if speed is not None and speed > 0 else None
        state, mtu = _text(folder / "operstate"), _whole(_text(folder / "mtu"))
        found.append(Interface(folder.name, state, rate, mtu, _address(folder / "device")))
    return found


def _ports(root: Path) -> list[InfinibandPort]:
    found = []
    for folder in sorted((root / "sys/class/infiniband").glob("*/ports/*")):
        device = folder.parent.parent
        rate = _rate(_text(folder / "rate"))
        state = _text(folder / "state").partition(":")[2].strip()
        found.append(InfinibandPort(device.name, _whole(folder.name) or 0, state, None if rate is None else rate * 1e9,
                                    _text(folder / "link_layer"), _address(device / "device")))  # fmt: skip
    return found


def _driver(root: Path) -> str:
    found = re.search(r"Module\s+(?:for \S+\s+)?(\d+[.\d]*)", _text(root / "proc/driver/nvidia/version"))
    return found[1] if found else ""


def _restricted(root: Path) -> str:
    """The setting that keeps ordinary users from making namespaces; "" if there is none."""
    settings = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}
    shut = [name for name, value in settings.items() if _text(root / "proc/sys" / name) == value]
    return shut[0].replace("/", ".") if shut else ""


def _packages() -> dict[str, str]:
    found = {}
    for one in distributions():
        name = str(one.metadata["Name"] or "").lower()
        if _NCCL_PACKAGE.fullmatch(name):
            found[name] = one.version
    return found
