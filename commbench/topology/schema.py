# SPDX-License-Identifier: Apache-2.0
"""The shape of a topology file: its sections and what their keys must obey (docs/topology-files.md)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from commbench.errors import TopologyError
from commbench.topology import hosts, tiers
from commbench.topology.devices import matching_devices
from commbench.topology.sections import (
    Bandwidth,
    BundleSection,
    DerivedLinkSection,
    Duration,
    Gpus,
    Hosts,
    LinkSection,
    MaybeNics,
    Nics,
    PcieSwitches,
    Ports,
    Ranks,
    Ratio,
    Section,
    Sockets,
    Switches,
    Text,
)
from commbench.units import PS_PER_S

__all__ = [
    "Costs",
    "CubeMeshHost",
    "FabricSection",
    "FatTreeFabric",
    "GpuHost",
    "HostSection",
    "LeafSpineFabric",
    "MeshHost",
    "NoFabric",
    "NvswitchHost",
    "PcieHost",
    "PlainHost",
    "RailOnlyFabric",
    "RailOptimizedFabric",
    "RailThreeTierFabric",
    "SharedMemoryHost",
    "StarFabric",
    "ThreeTierFabric",
    "TopologyFile",
    "TreeFabric",
]


def _known_device(name: str) -> str:
    try:
        matching_devices(name)
    except TopologyError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
    return name


DeviceName = Annotated[Text, AfterValidator(_known_device)]
"""A device, or how the names of those begin that such hosts are sold with."""


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


class NoFabric(Section):
    """``kind: none``: one host."""

    kind: Literal["none"]


class StarFabric(Section):
    """``kind: star``: all NICs on one switch."""

    kind: Literal["star"]
    hosts: Hosts
    downlink: LinkSection


class RailOnlyFabric(Section):
    """``kind: rail-only``: one leaf per rail, no spines."""

    kind: Literal["rail-only"]
    hosts: Hosts
    downlink: LinkSection


class TwoTierFabric(Section):
    """Two tiers, of whichever kind."""

    kind: str
    hosts: Hosts
    hosts_per_leaf: Hosts
    spines: Switches
    oversubscription: Ratio
    downlink: LinkSection
    uplink: DerivedLinkSection

    def check(self) -> None:
        """Hosts fill whole leaves."""
        tiers.check_units(self.hosts, self.hosts_per_leaf)


class LeafSpineFabric(TwoTierFabric):
    """``kind: leaf-spine``: all NICs of a host on one leaf."""

    kind: Literal["leaf-spine"]


class RailOptimizedFabric(TwoTierFabric):
    """``kind: rail-optimized``: one leaf per rail and unit, under common spines."""

    kind: Literal["rail-optimized"]


class TierRatios(Section):
    """Oversubscription of the leaves and of the spines, in three tiers."""

    leaf: Ratio
    spine: Ratio


class PodsFabric(Section):
    """Three tiers in counts, of whichever kind."""

    kind: str
    hosts: Hosts
    hosts_per_leaf: Hosts
    leaves_per_pod: Switches
    spines_per_pod: Switches
    cores: Hosts
    oversubscription: TierRatios
    downlink: LinkSection
    uplink: DerivedLinkSection
    core_link: DerivedLinkSection

    @property
    def pods(self) -> tiers.Pods:
        """The counts together."""
        return tiers.Pods(self.hosts_per_leaf, self.leaves_per_pod, self.spines_per_pod, self.cores)


class ThreeTierFabric(PodsFabric):
    """``kind: three-tier``: pods of leaves and spines, under cores in one plane for each spine of a pod."""

    kind: Literal["three-tier"]

    def check(self) -> None:
        """Hosts fill whole pods, and cores whole planes."""
        tiers.check_pods(self.hosts, self.pods)


class RailThreeTierFabric(PodsFabric):
    """``kind: rail-three-tier``: the same with a leaf for each rail; ``leaves_per_pod`` counts those of all rails."""

    kind: Literal["rail-three-tier"]


class FatTreeFabric(Section):
    """``kind: fat-tree``: k-ary, three tiers, k^3/4 hosts."""

    kind: Literal["fat-tree"]
    k: Ports
    oversubscription: TierRatios
    downlink: LinkSection
    uplink: DerivedLinkSection
    core_link: DerivedLinkSection

    @property
    def pods(self) -> tiers.Pods:
        """The counts that follow from k."""
        return tiers.k_ary(self.k)

    @property
    def hosts(self) -> int:
        """Those of all k pods."""
        return self.k * self.pods.hosts

    def check(self) -> None:
        """Switches have as many ports up as down."""
        tiers.k_ary(self.k)


HostSection = PlainHost | SharedMemoryHost | PcieHost | NvswitchHost | MeshHost | CubeMeshHost
TreeFabric = StarFabric | LeafSpineFabric | FatTreeFabric | ThreeTierFabric
FabricSection = NoFabric | TreeFabric | RailOptimizedFabric | RailThreeTierFabric | RailOnlyFabric


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
    """A whole topology file."""

    name: Text
    description: Text
    routing: Literal["d-mod-k", "ecmp", "rail-aware"]
    host: Annotated[HostSection, Field(discriminator="wiring")]
    fabric: Annotated[FabricSection, Field(discriminator="kind")]
    costs: Costs

    def check(self) -> None:
        """What host and fabric together must obey."""
        nics = getattr(self.host, "nics", 0)
        if not nics and not isinstance(self.fabric, NoFabric):
            raise TopologyError("host.nics: 0 in every host; a fabric joins hosts by their NICs, so 1 or more")
        if isinstance(self.fabric, RailThreeTierFabric):
            tiers.check_pods(self.fabric.hosts, self.fabric.pods, rails=nics)
        one_leaf = isinstance(self.fabric, LeafSpineFabric | FatTreeFabric | ThreeTierFabric)
        if self.routing == "rail-aware" and nics > 1 and one_leaf:
            kind = "rail-optimized" if isinstance(self.fabric, LeafSpineFabric) else "rail-three-tier"
            raise TopologyError(
                f"fabric.kind: {self.fabric.kind!r} has all {nics} NICs of a host on one leaf, so routing rail-aware "
                f"finds no rails; type `kind: {kind}`, or `routing: d-mod-k`"
            )
