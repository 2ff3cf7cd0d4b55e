# SPDX-License-Identifier: Apache-2.0
"""What topology files and scenarios are written in: sections of exact keys, numbers with origin, bounded counts.

Every physical number is a mapping of ``value`` (text with its unit), ``provenance`` and ``source``, or the value alone,
which then counts as assumed. Counts and oversubscription ratios are plain numbers, because they are choices and not
observations. Only ``efficiency`` may be left out: links then give their line rate.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from commbench.errors import TopologyError, UnitError
from commbench.topology.model import Provenance, Quantity
from commbench.topology.parts import Wire
from commbench.units import parse_bandwidth, parse_duration_ps, parse_ratio

__all__ = [
    "UNSOURCED",
    "Amount",
    "Bandwidth",
    "BundleSection",
    "DerivedLinkSection",
    "Duration",
    "Gpus",
    "Hosts",
    "LinkSection",
    "Links",
    "MaybeNics",
    "Nics",
    "PcieSwitches",
    "Planes",
    "Ports",
    "Ranks",
    "Ratio",
    "Section",
    "Sockets",
    "Switches",
    "Text",
    "Trays",
    "Unknown",
    "quantities",
    "with_unit",
]

Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True)]

UNSOURCED = "given as a number alone, without a source"


class Section(BaseModel):
    """A mapping with exactly its own keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _exact_keys(cls, data: object) -> object:
        known = ", ".join(cls.model_fields)
        if not isinstance(data, (dict, cls)):
            raise PydanticCustomError("not_a_mapping", "must be a mapping with the keys {known}", {"known": known})
        if isinstance(data, dict):  # pydantic refuses them all, but does not say which keys there are
            return {key: value if key in cls.model_fields else Unknown(known) for key, value in data.items()}
        return data

    @model_validator(mode="after")
    def _rules(self) -> "Section":
        try:
            self.check()
        except TopologyError as error:
            raise PydanticCustomError("rule", "{reason}", {"reason": str(error)}) from None
        return self

    def check(self) -> None:
        """What several keys together must obey.

        Raises:
            TopologyError: they do not; starts with the key path.
        """


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stands for the value of a key that its section does not have; ``known`` are those that it has."""

    known: str


class Amount(Section):
    """A number with unit and origin; subclasses say what it measures."""

    example: ClassVar[str | float]
    value: Any
    provenance: Annotated[Provenance, Field(strict=False)]
    source: Text

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        """The value alone is the short form."""
        if isinstance(data, str | float | int) and not isinstance(data, bool):
            return {"value": data, "provenance": "assumed", "source": UNSOURCED}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        kind = "number" if isinstance(cls.example, float) else "string"
        return {"anyOf": [{"type": kind, "examples": [cls.example]}, handler.resolve_ref_schema(handler(core))]}

    @property
    def quantity(self) -> Quantity:
        """The number as the topology keeps it."""
        return Quantity(str(self.value), self.provenance, self.source)


class Bandwidth(Amount):
    """A rate above zero, such as ``100 Gbit/s``."""

    example = "100 Gbit/s"
    value: str

    @field_validator("value", mode="before")
    @classmethod
    def _parses(cls, value: object) -> object:
        return with_unit(value, parse_bandwidth)

    @property
    def bytes_per_s(self) -> float:
        """The rate in bytes per second."""
        return parse_bandwidth(self.value)


class Duration(Amount):
    """A time of zero or more, such as ``1 us``."""

    example = "1 us"
    value: str

    @field_validator("value", mode="before")
    @classmethod
    def _parses(cls, value: object) -> object:
        return with_unit(value, parse_duration_ps)

    @property
    def picoseconds(self) -> int:
        """The time in whole picoseconds."""
        return parse_duration_ps(self.value)


class Efficiency(Amount):
    """The share of its line rate that a link gives to flows: a thousandth to all."""

    example = 0.74
    value: Annotated[float, Field(ge=1e-3, le=1)]


def with_unit(value: object, parse: Callable[[object], float]) -> object:
    """The text as it is, once ``parse`` takes it; else what is wrong, as pydantic tells it."""
    try:
        parse(value)
    except UnitError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
    return value


def _ratio(value: object) -> object:
    try:
        return parse_ratio(value) if isinstance(value, str) else value
    except UnitError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None


# Upper bounds: above what is built, and low enough that what a file describes fits in memory (see also build.py).
Hosts = Annotated[int, Field(ge=1, le=2**20)]
Switches = Annotated[int, Field(ge=1, le=2**16)]
Nics = Annotated[int, Field(ge=1, le=64)]
MaybeNics = Annotated[int, Field(ge=0, le=64)]
Gpus = Annotated[int, Field(ge=1, le=576)]
PcieSwitches = Annotated[int, Field(ge=0, le=576)]
Trays = Annotated[int, Field(ge=1, le=64)]
Sockets = Annotated[int, Field(ge=1, le=64)]
Ranks = Annotated[int, Field(ge=1, le=4096)]
Links = Annotated[int, Field(ge=1, le=1024)]
Planes = Annotated[int, Field(ge=1, le=16)]
Ports = Annotated[int, Field(ge=2, le=160)]
Ratio = Annotated[
    float,
    BeforeValidator(_ratio),
    Field(ge=1e-3, le=1e3),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[0-9.]+:[0-9.]+$"}]}),
]


class DerivedLinkSection(Section):
    """Links whose bandwidth follows from the links below and the oversubscription: ``links`` between two switches."""

    latency: Duration
    efficiency: Efficiency | None = None
    links: Links = 1

    @property
    def share(self) -> float:
        """What flows get of the line rate."""
        return self.efficiency.value if self.efficiency else 1.0


class LinkSection(Section):
    """One direction of one link."""

    bandwidth: Bandwidth
    latency: Duration
    efficiency: Efficiency | None = None

    @property
    def share(self) -> float:
        """What flows get of the line rate."""
        return self.efficiency.value if self.efficiency else 1.0

    @property
    def line(self) -> Wire:
        """Line rate in bytes/s and latency in picoseconds."""
        return Wire(self.bandwidth.bytes_per_s, self.latency.picoseconds)

    @property
    def wire(self) -> Wire:
        """What flows get, in bytes/s, and latency in picoseconds."""
        return self.line.times(self.share)


class BundleSection(LinkSection):
    """``links`` equal links side by side; bandwidth is that of one of them, one direction."""

    links: Links

    @property
    def line(self) -> Wire:
        """All links of the bundle as one."""
        return Wire(self.bandwidth.bytes_per_s * self.links, self.latency.picoseconds)


def quantities(section: Section, path: str = "") -> Iterator[tuple[str, Quantity]]:
    """Every number with an origin under ``section``, with its key path, in file order."""
    for key in type(section).model_fields:
        value, here = getattr(section, key), f"{path}.{key}" if path else key
        if isinstance(value, Amount):
            yield here, value.quantity
            continue
        for each, place in [(value, here)] if isinstance(value, Section) else _listed(value, here):
            yield from quantities(each, place)


def _listed(value: object, path: str) -> list[tuple[Section, str]]:
    """The sections of a list, with their paths."""
    rows = enumerate(value) if isinstance(value, list) else ()
    return [(one, f"{path}.{i}") for i, one in rows if isinstance(one, Section)]
