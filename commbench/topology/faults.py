# SPDX-License-Identifier: Apache-2.0
"""Fault scripts: what goes wrong and when, in one file that the emulated and the simulated fabric both read.

::

    faults:
      - {kind: link, at: 2 s, src: leaf0, dst: spine0, direction: both, factor: 0.1}
      - {kind: link, at: 4 s, src: leaf0, dst: spine0, direction: both, factor: 1}
      - {kind: slow-rank, at: 1 s, rank: 3, factor: 0.5}
      - {kind: killed-rank, at: 5 s, rank: 2}
      - {kind: background, at: 0 s, src: 0, dst: 5, size: 8M}

Times count from the first measured iteration. A factor is of the link's (the rank's) own, not of what it had before: 1
mends, 0 takes the link down. Ranks are those of the topology.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from commbench.errors import TopologyError, UnitError
from commbench.topology.explain import explained
from commbench.topology.fabric import Fabric
from commbench.topology.sections import Section, Text
from commbench.units import format_time, parse_duration_ps, parse_size, seconds
from commbench.yaml_reader import read_yaml

__all__ = [
    "MOST_FAULTS",
    "Background",
    "Fault",
    "FaultScript",
    "KilledRank",
    "LinkFault",
    "SlowRank",
    "load_faults",
    "require_fits",
]


@dataclass(frozen=True, slots=True)
class LinkFault:
    """From ``at_ps`` on the link from node ``src`` to node ``dst`` has ``factor`` of its bandwidth; 0 is down."""

    at_ps: int
    src: str
    dst: str
    factor: float

    def __str__(self) -> str:
        return f"link {self.src} -> {self.dst} {_at(self.at_ps)}, factor {self.factor:g}"


@dataclass(frozen=True, slots=True)
class SlowRank:
    """From ``at_ps`` on the processor of a rank runs for ``factor`` of the time; 1 is all of it."""

    at_ps: int
    rank: int
    factor: float

    def __str__(self) -> str:
        return f"slow-rank {self.rank} {_at(self.at_ps)}, factor {self.factor:g}"


@dataclass(frozen=True, slots=True)
class KilledRank:
    """At ``at_ps`` a rank dies without a word."""

    at_ps: int
    rank: int

    def __str__(self) -> str:
        return f"killed-rank {self.rank} {_at(self.at_ps)}"


@dataclass(frozen=True, slots=True)
class Background:
    """At ``at_ps`` the host of rank ``src`` starts to send ``num_bytes`` of payload to that of rank ``dst``."""

    at_ps: int
    src: int
    dst: int
    num_bytes: int

    def __str__(self) -> str:
        return f"background {self.src} -> {self.dst} {_at(self.at_ps)}"


def _at(time_ps: int) -> str:
    """When, as files write it."""
    return f"at {format_time(seconds(time_ps))}"


MOST_FAULTS = 1000
"""Of one file: each moves routes of a program that may have many thousands."""

Fault = LinkFault | SlowRank | KilledRank | Background


@dataclass(frozen=True, slots=True)
class FaultScript:
    """Faults in the order of their times, those of one time in the order of the file; ``origin`` is the file."""

    faults: tuple[Fault, ...]
    origin: str


def load_faults(path: Path) -> FaultScript:
    """Read a script.

    Raises:
        TopologyError: the file breaks a rule; names file, line, key, value and rule.
    """
    file = read_yaml(path, TopologyError, example="faults: []")
    try:
        document = _Document.model_validate(file.data)
    except ValidationError as error:
        raise TopologyError(explained(error, file)) from None
    faults = (fault for entry in document.faults for fault in entry.faults())
    return FaultScript(tuple(sorted(faults, key=lambda fault: fault.at_ps)), str(path))


def require_fits(script: FaultScript, topology: Fabric) -> None:
    """Refuse a script that speaks of links or ranks that the topology does not have.

    Raises:
        TopologyError: names the file, the fault and what is missing.
    """
    for fault in script.faults:
        if isinstance(fault, LinkFault):
            if not len(topology.links_between(fault.src, fault.dst)):
                raise TopologyError(f"{script.origin}: {fault}: {topology.name} has no link {fault.src} -> {fault.dst}")
            continue
        for rank in (fault.src, fault.dst) if isinstance(fault, Background) else (fault.rank,):
            if rank >= topology.num_ranks:
                raise TopologyError(
                    f"{script.origin}: {fault}: {topology.name} has the ranks 0..{topology.num_ranks - 1}"
                )


def _time(value: object) -> int:
    return _parsed(parse_duration_ps, value)


def _size(value: object) -> int:
    size = _parsed(parse_size, str(value) if type(value) is int else value)  # YAML reads bare digits as a number
    if not size:
        raise PydanticCustomError("quantity", "{reason}", {"reason": f"size {value!r} must be one byte or more"})
    return size


def _parsed(parse: Any, value: object) -> int:
    try:
        return int(parse(value))
    except UnitError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None


_Time = Annotated[int, BeforeValidator(_time)]
_Rank = Annotated[int, Field(ge=0, lt=2**31)]
_Share = Annotated[float, Field(gt=0, le=1)]


class _Link(Section):
    kind: Literal["link"]
    at: _Time
    src: Text
    dst: Text
    direction: Literal["forward", "both"]
    factor: Annotated[float, Field(ge=0, le=1)]

    def faults(self) -> Iterator[Fault]:
        yield LinkFault(self.at, self.src, self.dst, self.factor)
        if self.direction == "both":
            yield LinkFault(self.at, self.dst, self.src, self.factor)


class _SlowRank(Section):
    kind: Literal["slow-rank"]
    at: _Time
    rank: _Rank
    factor: _Share

    def faults(self) -> Iterator[Fault]:
        yield SlowRank(self.at, self.rank, self.factor)


class _KilledRank(Section):
    kind: Literal["killed-rank"]
    at: _Time
    rank: _Rank

    def faults(self) -> Iterator[Fault]:
        yield KilledRank(self.at, self.rank)


class _Background(Section):
    kind: Literal["background"]
    at: _Time
    src: _Rank
    dst: _Rank
    size: Annotated[int, BeforeValidator(_size)]

    def faults(self) -> Iterator[Fault]:
        yield Background(self.at, self.src, self.dst, self.size)


class _Document(Section):
    faults: Annotated[
        list[Annotated[_Link | _SlowRank | _KilledRank | _Background, Field(discriminator="kind")]],
        Field(max_length=MOST_FAULTS),
    ]
