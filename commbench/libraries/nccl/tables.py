# SPDX-License-Identifier: Apache-2.0
"""NCCL's tuning constants by version: one file of the newest, and files of what differed before."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from commbench.errors import InputError
from commbench.kept import read_shipped

__all__ = ["PROTOCOLS", "Tables", "tables_of"]

PROTOCOLS = ("LL", "LL128", "Simple")
_FOLDER = Path(__file__).parent / "tables"
_NEWEST = (2, 30)
_OLDEST = (2, 18)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Constants of a version: see ``tables/2.30.yaml``, whose keys these are."""

    version: tuple[int, int]
    source: str
    base_us: Mapping[str, list[float]]
    hop_us: Mapping[str, Mapping[str, list[float]]]
    ll_max: Mapping[str, list[float]]
    channel_max: Mapping[str, Mapping[str, list[float]]]
    nvls: Mapping[str, Any]
    ratios: Mapping[str, float]
    rules: Mapping[str, Any]
    net_overhead_us: Mapping[str, float]
    plateau: Mapping[str, float]
    tree_factor: Mapping[str, list[float]]
    nvlink: Mapping[str, float]
    speeds: Mapping[str, Mapping[str, list[float]]]
    channels: Mapping[str, int]


def tables_of(version: str) -> Tables:
    """The constants of a version such as ``2.21.5``; those of 2.18 for older ones, of 2.30 for newer ones.

    Raises:
        InputError: not a version.
    """
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        raise InputError(f"NCCL version {version!r}: give it as 2.21 or 2.21.5") from None
    return _tables(min(max((major, minor), _OLDEST), _NEWEST))


@cache
def _tables(version: tuple[int, int]) -> Tables:
    data: dict[str, Any] = {}
    minors = sorted((int(path.stem.split(".")[1]) for path in _FOLDER.glob("2.*.yaml")), reverse=True)
    for minor in minors:
        if minor >= version[1]:
            path = _FOLDER / f"2.{minor}.yaml"
            _over(data, read_shipped(path, InputError, example="version: '2.30'"), path.name, "")
    data.pop("version")
    return Tables(version=version, **data)


def _over(data: dict[str, Any], newer: Mapping[str, Any], file: str, place: str) -> None:
    """Put values over others; a file of differences adds no keys.

    Raises:
        InputError: a key that the newest version has not, or a list of another length.
    """
    first = not data
    for key, value in newer.items():
        old = data.get(key)
        if not (first or key in data):
            raise InputError(f"{file}: {place}{key} is not a key of tables/2.30.yaml")
        if isinstance(old, dict) and isinstance(value, dict):
            _over(old, value, file, f"{place}{key}.")
        elif isinstance(old, list) and place.split(".")[0] != "speeds" and len(old) != len(value):
            raise InputError(f"{file}: {place}{key} has {len(value)} values instead of {len(old)}")
        else:
            data[key] = value
