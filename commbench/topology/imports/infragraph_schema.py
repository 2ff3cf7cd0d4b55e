# SPDX-License-Identifier: Apache-2.0
"""The keys of InfraGraph files, as github.com/Keysight/infragraph has them in its directory ``schema``."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from commbench.topology.imports.pci import pcie_GBps
from commbench.topology.sections import Section, Text

__all__ = ["Component", "Infra", "InfraDevice", "InfraLink", "Instance", "Wrapped"]

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Rate = Annotated[float, Field(ge=1e-6, le=1e6)]
Time = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=2**16)]
Scheme = Literal["one2one", "many2many", "ring"]


class LinkBandwidth(Section):
    """Of a link, one direction, in one of three units; transfers are those of one lane."""

    choice: str | None = None
    gigabits_per_second: Rate | None = None
    gigabytes_per_second: Rate | None = None
    gigatransfers_per_second: Rate | None = None

    @property
    def GBps(self) -> float | None:  # noqa: N802
        """The rate where it is one of bits or bytes."""
        return self.gigabits_per_second / 8 if self.gigabits_per_second else self.gigabytes_per_second


class LinkLatency(Section):
    """Of a link, in one of three units."""

    choice: str | None = None
    ms: Time | None = None
    us: Time | None = None
    ns: Time | None = None

    @property
    def text(self) -> str | None:
        """In whole picoseconds."""
        units = ((self.ms, 1e9), (self.us, 1e6), (self.ns, 1e3))
        return next((f"{round(value * scale)} ps" for value, scale in units if value is not None), None)


class Physical(Section):
    """What a link is made of."""

    bandwidth: LinkBandwidth | None = None
    latency: LinkLatency | None = None


class InfraLink(Section):
    """A kind of link."""

    name: Name
    description: Any = None
    physical: Physical | None = None

    @property
    def words(self) -> str:
        """Its name and description."""
        return f"{self.name} {self.description or ''}"

    @property
    def GBps(self) -> float | None:  # noqa: N802
        """Rate of one, one direction; transfers are taken as those of 16 lanes of PCIe. None where it is not said."""
        told = self.physical and self.physical.bandwidth
        if not told:
            return None
        transfers = told.gigatransfers_per_second
        return told.GBps or (pcie_GBps(transfers, 16) if transfers and re.search("(?i)pci", self.words) else None)

    @property
    def latency(self) -> str | None:
        """With its unit; None where it is not said."""
        return self.physical.latency.text if self.physical and self.physical.latency else None


class Custom(Section):
    """A component of a type that the schema does not have."""

    type: Text


class Component(Section):
    """Some equal parts of a device; ``choice: device`` is another device of that name."""

    name: Name
    description: Any = None
    count: Count
    choice: Literal["custom", "device", "cpu", "xpu", "npu", "nic", "memory", "port", "switch"]
    custom: Custom | None = None
    device: dict[str, Any] | None = None
    cpu: dict[str, Any] | None = None
    xpu: dict[str, Any] | None = None
    npu: dict[str, Any] | None = None
    nic: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    port: dict[str, Any] | None = None
    switch: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """Choice, in one word for GPUs; what is custom and called a switch is one."""
        words = f"{self.custom.type if self.custom else ''} {self.description or ''}".lower()
        switch = self.choice == "custom" and ("switch" in words or self.name.lower().endswith(("sw", "switch")))
        return "switch" if switch else {"npu": "xpu"}.get(self.choice, self.choice)


class DeviceEnd(Section):
    """Components of a device, ``device`` those of a device inside it."""

    device: Text | None = None
    component: Text

    @property
    def path(self) -> str:
        """Both as one."""
        return f"{self.device}.{self.component}" if self.device else self.component


class InstanceEnd(Section):
    """Components of instances."""

    instance: Text
    component: Text


class DeviceEdge(Section):
    """Links between components of a device."""

    ep1: DeviceEnd
    ep2: DeviceEnd
    link: Text
    scheme: Scheme | None = None


class InfraEdge(Section):
    """Links between instances."""

    ep1: InstanceEnd
    ep2: InstanceEnd
    link: Text
    scheme: Scheme | None = None


class InfraDevice(Section):
    """What instances are of."""

    name: Name
    description: Any = None
    components: list[Component] = Field(default_factory=list)
    links: list[InfraLink] = Field(default_factory=list)
    edges: list[DeviceEdge] = Field(default_factory=list)


class Instance(Section):
    """Some devices of one kind."""

    name: Name
    description: Any = None
    device: Text
    count: Count


class Infra(Section):
    """A whole file."""

    name: Name | None = None
    description: Any = None
    devices: list[InfraDevice] = Field(default_factory=list)
    links: list[InfraLink] = Field(default_factory=list)
    instances: list[Instance] = Field(default_factory=list)
    edges: list[InfraEdge] = Field(default_factory=list)


class Wrapped(Section):
    """The same under one key, as the examples of its documentation are."""

    infrastructure: Infra
