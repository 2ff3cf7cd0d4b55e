# SPDX-License-Identifier: Apache-2.0
"""The shape of a topology file: exact keys, strict types, nothing optional.

Every physical number is a mapping of ``value`` (text with its unit), ``provenance`` and ``source``; counts
and oversubscription ratios are plain numbers, because they are choices and not observations.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from commbench.errors import UnitError
from commbench.topology.model import Provenance, Quantity
from commbench.topology.parts import Wire
from commbench.units import PS_PER_S, parse_bandwidth, parse_duration_ps

__all__ = [
    "Bandwidth",
    "Costs",
    "CubeMeshHost",
    "Duration",
    "FabricSection",
    "FatTreeFabric",
    "GpuHost",
    "HostSection",
    "LeafSpineFabric",
    "LinkSection",
    "MeshHost",
    "NoFabric",
    "NvswitchHost",
    "PcieHost",
    "PlainHost",
    "RailOnlyFabric",
    "RailOptimizedFabric",
    "Section",
    "SharedMemoryHost",
    "StarFabric",
    "ThreeTierFabric",
    "TopologyFile",
    "TreeFabric",
    "quantities",
]

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Section(BaseModel):
    """A mapping with exactly its own keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _exact_keys(cls, data: object) -> object:
        known = {"known": ", ".join(cls.model_fields)}
        if not isinstance(data, (dict, cls)):
            raise PydanticCustomError("not_a_mapping", "must be a mapping with the keys {known}", known)
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                known |= {"key": str(key)}
                raise PydanticCustomError("unknown_key", "unknown key; known keys here: {known}", known)
        return data


class Amount(Section):
    """A number with unit and origin; subclasses say what it measures."""

    value: str
    provenance: Annotated[Provenance, Field(strict=False)]
    source: Text

    @property
    def quantity(self) -> Quantity:
        """The number as the topology keeps it."""
        return Quantity(self.value, self.provenance, self.source)


class Bandwidth(Amount):
    """A rate above zero, such as ``100 Gbit/s``."""

    @field_validator("value", mode="before")
    @classmethod
    def _parses(cls, value: object) -> object:
        return _with_unit(value, parse_bandwidth)

    @property
    def bytes_per_s(self) -> float:
        """The rate in bytes per second."""
        return parse_bandwidth(self.value)


class Duration(Amount):
    """A time of zero or more, such as ``1 us``."""

    @field_validator("value", mode="before")
    @classmethod
    def _parses(cls, value: object) -> object:
        return _with_unit(value, parse_duration_ps)

    @property
    def picoseconds(self) -> int:
        """The time in whole picoseconds."""
        return parse_duration_ps(self.value)


def _with_unit(value: object, parse: Callable[[object], float]) -> object:
    try:
        parse(value)
    except UnitError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
    return value


class LinkSection(Section):
    """One direction of one link."""

    bandwidth: Bandwidth
    latency: Duration

    @property
    def wire(self) -> Wire:
        """Bandwidth in bytes/s and latency in picoseconds."""
        return Wire(self.bandwidth.bytes_per_s, self.latency.picoseconds)


class BundleSection(LinkSection):
    """``links`` equal links side by side; bandwidth is that of one of them, one direction."""

    links: Annotated[int, Field(gt=0)]

    @property
    def wire(self) -> Wire:
        """All links of the bundle as one."""
        return Wire(self.bandwidth.bytes_per_s * self.links, self.latency.picoseconds)


class DerivedLinkSection(Section):
    """A link whose bandwidth follows from the links below it and the oversubscription."""

    latency: Duration


class PlainHost(Section):
    """``wiring: plain``: one CPU rank and its NICs."""

    wiring: Literal["plain"]
    nics: int
    bus: LinkSection


class SharedMemoryHost(Section):
    """``wiring: shared-memory``: CPU ranks of one machine that contend for its memory and its cores."""

    wiring: Literal["shared-memory"]
    ranks: int
    cores: int
    rank_link: LinkSection
    memory: LinkSection


class GpuHost(Section):
    """What every GPU host states."""

    wiring: str
    gpus: int
    nics: int
    pcie_switches: int
    sockets: int
    pcie: LinkSection
    socket: LinkSection


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


class NoFabric(Section):
    """``kind: none``: one host."""

    kind: Literal["none"]


class StarFabric(Section):
    """``kind: star``: all NICs on one switch."""

    kind: Literal["star"]
    hosts: int
    downlink: LinkSection


class RailOnlyFabric(Section):
    """``kind: rail-only``: one leaf per rail, no spines."""

    kind: Literal["rail-only"]
    hosts: int
    downlink: LinkSection


class LeafSpineFabric(Section):
    """``kind: leaf-spine``: two tiers."""

    kind: Literal["leaf-spine"]
    hosts: int
    hosts_per_leaf: int
    spines: int
    oversubscription: float
    downlink: LinkSection
    uplink: DerivedLinkSection


class RailOptimizedFabric(Section):
    """``kind: rail-optimized``: one leaf per rail and unit, under common spines."""

    kind: Literal["rail-optimized"]
    hosts: int
    hosts_per_leaf: int
    spines: int
    oversubscription: float
    downlink: LinkSection
    uplink: DerivedLinkSection


class TierRatios(Section):
    """Oversubscription of the leaves and of the spines, in three tiers."""

    leaf: float
    spine: float


class ThreeTierFabric(Section):
    """``kind: three-tier``: pods of leaves and spines, under cores in one plane for each spine of a pod."""

    kind: Literal["three-tier"]
    hosts: int
    hosts_per_leaf: int
    leaves_per_pod: int
    spines_per_pod: int
    cores: int
    oversubscription: TierRatios
    downlink: LinkSection
    uplink: DerivedLinkSection
    core_link: DerivedLinkSection


class FatTreeFabric(Section):
    """``kind: fat-tree``: k-ary, three tiers, k^3/4 hosts."""

    kind: Literal["fat-tree"]
    k: int
    oversubscription: TierRatios
    downlink: LinkSection
    uplink: DerivedLinkSection
    core_link: DerivedLinkSection


HostSection = PlainHost | SharedMemoryHost | PcieHost | NvswitchHost | MeshHost | CubeMeshHost
TreeFabric = StarFabric | LeafSpineFabric | FatTreeFabric | ThreeTierFabric
FabricSection = NoFabric | TreeFabric | RailOptimizedFabric | RailOnlyFabric


class Costs(Section):
    """Per-rank costs. ``reduction`` is the rate at which a rank adds what it receives, or ``line-rate``."""

    message_overhead: Duration
    reduction: Bandwidth | None

    @field_validator("reduction", mode="before")
    @classmethod
    def _line_rate(cls, value: object) -> object:
        if value == "line-rate":
            return None
        if not isinstance(value, (dict, Bandwidth)):
            rule = "must be line-rate or a mapping with the keys value, provenance, source"
            raise PydanticCustomError("reduction", rule)
        return value

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


def quantities(section: Section, path: str = "") -> Iterator[tuple[str, Quantity]]:
    """Every number with an origin under ``section``, with its key path, in file order."""
    for key in type(section).model_fields:
        value, here = getattr(section, key), f"{path}.{key}" if path else key
        if isinstance(value, Amount):
            yield here, value.quantity
        elif isinstance(value, Section):
            yield from quantities(value, here)
