# SPDX-License-Identifier: Apache-2.0
"""The constants of the timing, by name; one data file, written by ``python -m benchmarks.nccl``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from commbench.errors import InputError
from commbench.kept import read_shipped

__all__ = ["FILE", "NcclConstant", "constants", "read_constants", "values"]

FILE = Path(__file__).parent / "constants.yaml"


@dataclass(frozen=True, slots=True)
class NcclConstant:
    """A constant with where it is from: ``fitted`` to the curves that ``source`` counts, or ``assumed``."""

    value: float
    provenance: str
    source: str


@cache
def constants() -> Mapping[str, NcclConstant]:
    """Those that are shipped."""
    return MappingProxyType(read_constants(FILE))


@cache
def values() -> Mapping[str, float]:
    """The same without their origin."""
    return MappingProxyType({name: constant.value for name, constant in constants().items()})


def read_constants(path: Path) -> dict[str, NcclConstant]:
    """Those of a file.

    Raises:
        InputError: a constant without value, provenance or source, or one that is not above zero.
    """
    if path == FILE:
        data = read_shipped(path, InputError, example="constants: {}")
    else:
        from commbench.yaml_reader import read_yaml

        data = read_yaml(path, InputError, example="constants: {}", shown=path.name).data
    found = {}
    for name, entry in data["constants"].items():
        if not isinstance(entry, dict) or entry.keys() != {"value", "provenance", "source"}:
            raise InputError(f"{path.name}: {name} needs value, provenance and source, nothing else")
        if not (isinstance(entry["value"], (int, float)) and entry["value"] > 0):
            raise InputError(f"{path.name}: {name}: value {entry['value']!r} must be a number above 0")
        found[name] = NcclConstant(float(entry["value"]), entry["provenance"], entry["source"])
    return found
