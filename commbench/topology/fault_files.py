# SPDX-License-Identifier: Apache-2.0
"""Fault scripts: what goes wrong and when, in one file that the emulated and the simulated fabric both read.

::

    faults:
      - {kind: link, at: 2 s, src: leaf0, dst: spine0, direction: both, factor: 0.1}
      - {kind: link, at: 4 s, src: leaf0, dst: spine0, direction: both, factor: 1}
      - {kind: slow-rank, at: 1 s, rank: 3, factor: 0.5}
      - {kind: killed-rank, at: 5 s, rank: 2}
      - {kind: background, at: 0 s, src: 0, dst: 5, size: 8M}

What they mean says :mod:`commbench.topology.faults`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from commbench.errors import TopologyError, UnitError
from commbench.topology.explain import explained
from commbench.topology.faults import Background, Fault, FaultScript, KilledRank, LinkFault, SlowRank
from commbench.topology.sections import Section, Text
from commbench.units import parse_duration_ps, parse_size
from commbench.yaml_reader import read_yaml

__all__ = ["MOST_FAULTS", "load_faults"]

MOST_FAULTS = 1000
"""Of one file: each moves routes of a program that may have many thousands."""


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
