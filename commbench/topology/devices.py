# SPDX-License-Identifier: Apache-2.0
"""Devices: what computes in a host, and how fast; one YAML file each in ``topologies/devices/``.

What every device states is how fast it multiplies matrices, by number format, and its memory. Everything else may be
missing from a file, and is an error when it is asked for: nothing has a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError, field_validator

from commbench.errors import InputError, TopologyError
from commbench.topology.model import Quantity
from commbench.topology.search import find_file, is_path, matching_devices, shown
from commbench.topology.sections import Amount, Bandwidth, Duration, Section, Text, quantities, with_unit
from commbench.units import parse_flops, parse_size
from commbench.yaml_reader import read_yaml

__all__ = ["Device", "DeviceFile", "load_device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What its maker promises, and what is known beside it.

    Attributes:
        name: as users type it. description: one line for people.
        peak_flops: FLOP/s of dense products (no 2:4 sparsity) by number format.
        memory_bytes_per_s: bandwidth of its memory. memory_bytes: its size.
        others: by their keys, what a file need not say: ``memory_margin`` and ``l2`` in bytes, ``launch`` in
            picoseconds.
        numbers: every number by its key path, with its origin.
        origin: the file.
    """

    name: str
    peak_flops: Mapping[str, float]
    memory_bytes_per_s: float
    memory_bytes: int
    others: Mapping[str, int] = field(default_factory=dict)
    description: str = ""
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    origin: str = ""

    def peak(self, dtype: str) -> float:
        """FLOP/s of dense products.

        Raises:
            InputError: the device has no figure for the number format; names those it has, and key and file.
        """
        if dtype not in self.peak_flops:
            place = f" ({self.origin}: flops.{dtype})" if self.origin else ""
            known = ", ".join(self.peak_flops)
            raise InputError(f"device {self.name} has no peak for dtype {dtype!r}{place}; known: {known}")
        return self.peak_flops[dtype]

    def other(self, key: str, instead: str = "") -> int:
        """A figure that a device need not have (``others``); ``instead`` says what else may be done about it.

        Raises:
            InputError: it has not; names key and file.
        """
        if key not in self.others:
            add = f"add the key to {self.origin or 'it'}"
            raise InputError(f"device {self.name} has no {key}: {', '.join(filter(None, (add, instead)))}")
        return self.others[key]


class Flops(Amount):
    """FLOP/s of dense products, such as ``312 TFLOP/s``."""

    example = "312 TFLOP/s"
    value: str

    @field_validator("value", mode="before")
    @classmethod
    def _parses(cls, value: object) -> object:
        return with_unit(value, parse_flops)


class Bytes(Amount):
    """A size, such as ``80 GB`` (decimal) or ``2 GiB``."""

    example = "80 GB"
    value: str

    @field_validator("value", mode="before")
    @classmethod
    def _parses(cls, value: object) -> object:
        return with_unit(value, parse_size)

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return parse_size(self.value)


class FlopsSection(Section):
    """Peaks by number format, as ``workload.formats`` names them; those that the device has."""

    fp32: Flops | None = None
    tf32: Flops | None = None
    fp16: Flops | None = None
    bf16: Flops | None = None
    fp8: Flops | None = None
    fp4: Flops | None = None

    @property
    def peaks(self) -> dict[str, float]:
        """FLOP/s of those that are given."""
        return {key: parse_flops(amount.value) for key, amount in self if amount is not None}

    def check(self) -> None:
        """At least one."""
        if not self.peaks:
            raise TopologyError(f"flops: no number format; give one of {', '.join(type(self).model_fields)}")


class DeviceFile(Section):
    """A whole device file."""

    name: Text
    description: Text
    flops: FlopsSection
    memory_capacity: Bytes
    memory_bandwidth: Bandwidth
    memory_margin: Bytes | None = None
    l2: Bytes | None = None
    launch: Duration | None = None

    def check(self) -> None:
        """There is memory, and more than the margin."""
        least = self.memory_margin.bytes if self.memory_margin else 0
        if self.memory_capacity.bytes <= least:
            raise TopologyError(
                f"memory_capacity: {self.memory_capacity.value} must be above "
                f"{f'memory_margin, {self.memory_margin.value}' if self.memory_margin else 'zero'}"
            )


def load_device(name_or_path: str | Path) -> Device:
    """The device of that name, or the only one whose name begins so, or of the file at that path (ending in .yaml).

    Raises:
        TopologyError: no such device, several, or a file that breaks a rule; names file, key, value and rule.
    """
    text = str(name_or_path)
    if not is_path(text):
        text, *more = matching_devices(text)
        if more:
            raise TopologyError(f"device {name_or_path!r} is one of {', '.join([text, *more])}: say which")
    path = find_file("device", text)
    file = read_yaml(path, TopologyError, example="name: my-gpu", shown=shown(path))
    try:
        document = DeviceFile.model_validate(file.data)
    except ValidationError as error:
        from commbench.topology.explain import explained

        raise TopologyError(explained(error, file)) from None
    others = {"memory_margin": document.memory_margin, "l2": document.l2}
    sizes = {key: amount.bytes for key, amount in others.items() if amount is not None}
    return Device(
        name=document.name,
        description=document.description,
        peak_flops=MappingProxyType(document.flops.peaks),
        memory_bytes_per_s=document.memory_bandwidth.bytes_per_s,
        memory_bytes=document.memory_capacity.bytes,
        others=MappingProxyType(sizes | ({"launch": document.launch.picoseconds} if document.launch else {})),
        numbers=MappingProxyType(dict(quantities(document))),
        origin=file.shown,
    )
