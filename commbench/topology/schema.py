# SPDX-License-Identifier: Apache-2.0
"""The shape of a topology file: its sections and what their keys must obey (docs/topology-files.md)."""

from typing import Annotated, Literal, Union

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from commbench.errors import TopologyError
from commbench.topology import dragonfly, fabrics, hosts, torus, user_graph
from commbench.topology.kinds import FABRIC_KINDS, FabricKind, when_known
from commbench.topology.search import matching_devices
from commbench.topology.sections import (
    Bandwidth,
    BundleSection,
    Duration,
    Gpus,
    Hosts,
    LinkSection,
    MaybeNics,
    Nics,
    PcieSwitches,
    Ranks,
    Section,
    Sockets,
    Text,
    Trays,
)
from commbench.units import PS_PER_S

__all__ = [
    "Costs",
    "CubeMeshHost",
    "GpuHost",
    "HostSection",
    "MeshHost",
    "MixedHosts",
    "NvlinkRack",
    "NvswitchHost",
    "OneHost",
    "PcieHost",
    "PlainHost",
    "SharedMemoryHost",
    "TopologyFile",
]

SHIPPED = (fabrics, torus, dragonfly, user_graph)
"""Modules whose kinds of fabric are registered by being imported here."""


def _known_device(name: str) -> str:
    try:
        matching_devices(name)
    except TopologyError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
    return name


DeviceName = Annotated[Text, AfterValidator(_known_device)]
"""A device, or how the names of those begin that such hosts are sold with."""


Network = Literal["ib", "roce", "efa", "efa2", "tcpx", "tcpxo", "slingshot", "socket"]
"""What NICs speak, as communication libraries tell them apart: efa2 from p5 on, tcpx and tcpxo of Google's A3."""
Cpu = Literal["intel", "amd", "arm", "power"]


class PlainHost(Section):
    """``wiring: plain``: one CPU rank and its NICs."""

    wiring: Literal["plain"]
    nics: Nics
    bus: LinkSection
    device: DeviceName | None = None


class SharedMemoryHost(Section):
    """``wiring: shared-memory``: CPU ranks of one machine that contend for its memory and its cores."""

    wiring: Literal["shared-memory"]
    ranks: Ranks
    cores: Ranks
    rank_link: LinkSection
    memory: LinkSection
    device: DeviceName | None = None


class GpuHost(Section):
    """What every GPU host states."""

    wiring: str
    gpus: Gpus
    nics: MaybeNics
    pcie_switches: PcieSwitches
    sockets: Sockets
    pcie: LinkSection
    socket: LinkSection
    device: DeviceName | None = None
    cpu: Cpu | None = None

    @property
    def tree(self) -> hosts.PcieTree:
        """The PCIe and socket side."""
        return hosts.PcieTree(self.pcie_switches, self.sockets, self.pcie.wire, self.socket.wire)

    def check(self) -> None:
        """Devices share out to switches, and switches to sockets, evenly."""
        hosts.check_tree(self.gpus, self.nics, self.tree)


class PcieHost(GpuHost):
    """``wiring: pcie``: GPUs without NVLink."""

    wiring: Literal["pcie"]


class NvswitchHost(GpuHost):
    """``wiring: nvswitch``: ``nvlink.links`` is the number of NVLinks of one GPU."""

    wiring: Literal["nvswitch"]
    nvlink: BundleSection


class MeshHost(GpuHost):
    """``wiring: mesh``: ``nvlink.links`` is the number of links between two accelerators."""

    wiring: Literal["mesh"]
    nvlink: BundleSection


class CubeMeshHost(GpuHost):
    """``wiring: cube-mesh``: which pairs have one or two NVLinks is fixed."""

    wiring: Literal["cube-mesh"]
    nvlink: LinkSection

    def check(self) -> None:
        """Eight GPUs, as in the drawing."""
        hosts.check_cube_mesh(self.gpus)
        super().check()


class NvlinkRack(GpuHost):
    """``wiring: nvlink-rack``: ``trays`` hosts whose GPUs share one NVLink domain; all other counts are one tray's."""

    wiring: Literal["nvlink-rack"]
    trays: Trays
    nvlink: BundleSection


OneHost = PlainHost | SharedMemoryHost | PcieHost | NvswitchHost | NvlinkRack | MeshHost | CubeMeshHost


class HostGroup(Section):
    """Some hosts of one make."""

    hosts: Hosts
    host: Annotated[OneHost, Field(discriminator="wiring")]


class MixedHosts(Section):
    """``wiring: mixed``: hosts of different makes in one fabric, group by group."""

    wiring: Literal["mixed"]
    groups: Annotated[list[HostGroup], Field(min_length=1, max_length=64)]

    @property
    def nics(self) -> int:
        """NICs of a host, of the group that has the fewest."""
        return min(getattr(group.host, "nics", 0) for group in self.groups)


HostSection = OneHost | MixedHosts


class Costs(Section):
    """Per-rank costs. ``reduction`` is the rate at which a rank adds what it receives, or ``line-rate``."""

    message_overhead: Duration
    reduction: Bandwidth | None

    @field_validator("reduction", mode="before")
    @classmethod
    def _line_rate(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("reduction", "must be line-rate or a bandwidth, for example 20 GB/s")
        return None if value == "line-rate" else value

    @property
    def reduction_ps_per_byte(self) -> float:
        """Picoseconds to add one received byte; 0 at line rate."""
        return PS_PER_S / self.reduction.bytes_per_s if self.reduction else 0.0


class TopologyFile(Section):
    """A whole topology file; ``fabric`` is a section of one of the registered kinds."""

    name: Text
    description: Text
    routing: Literal["d-mod-k", "ecmp", "rail-aware"]
    host: Annotated[HostSection, Field(discriminator="wiring")]
    fabric: FabricKind
    costs: Costs
    network: Network | None = None

    def check(self) -> None:
        """What host and fabric together must obey."""
        self.fabric.check_hosts(getattr(self.host, "nics", 0), self.routing)


def _know_all_kinds() -> None:
    """Let ``fabric`` be a section of any registered kind, those of today or with one that was added."""
    field = TopologyFile.model_fields["fabric"]
    field.annotation, field.discriminator = Union[tuple(FABRIC_KINDS.values())], "kind"  # type: ignore[assignment] # noqa: UP007
    TopologyFile.model_rebuild(force=True)


when_known(_know_all_kinds)
