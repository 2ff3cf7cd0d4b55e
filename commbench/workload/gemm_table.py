# SPDX-License-Identifier: Apache-2.0
"""Matrix efficiency by shape, from measured products.

A record is ``m, n, k, dtype, device, seconds``: one product of (m x k) by (k x n); files are CSV with that header or
JSON Lines with those keys (others are ignored, so records of ``commbench run gemm`` can be read as they are).

Rule: a shape that was measured has the efficiency of its median time. Between measured shapes it is Shepard's mean:
weights 1 / distance^4 over all of them, the distance Euclidean in (log2 m, log2 n, log2 k); the power is above the 3
dimensions so that near shapes decide. A shape more than a factor of 2 outside the measured range of m, n or k is an
error: a plateau is not assumed.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log2
from pathlib import Path
from statistics import median
from typing import Any

from commbench.errors import InputError
from commbench.workload.compute import Device
from commbench.workload.operators import Matmul

__all__ = ["GemmTable", "read_gemm_table"]

_KEYS = ("m", "n", "k", "dtype", "device", "seconds")
_POWER = 4
_MARGIN = 2  # factor by which a shape may lie outside the measured range

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class GemmTable:
    """Measured efficiencies of one device and dtype; calling it with a shape gives the share of peak FLOP/s.

    Attributes:
        place: file it came from, for errors.
        efficiencies: share of peak by (m, n, k).
    """

    place: str
    efficiencies: Mapping[Shape, float]

    def __call__(self, matmul: Matmul) -> float:
        """Share of peak FLOP/s; see the module docstring for the rule.

        Raises:
            InputError: the shape is too far outside the measured ones; names dimension, value and range.
        """
        shape = (matmul.m, matmul.n, matmul.k)
        if shape in self.efficiencies:
            return self.efficiencies[shape]
        self._check_range(shape)
        total = weights = 0.0
        for other, efficiency in self.efficiencies.items():
            squared = sum((log2(a) - log2(b)) ** 2 for a, b in zip(shape, other, strict=True))
            weight = squared ** (-_POWER / 2)
            total += weight * efficiency
            weights += weight
        return total / weights

    def _check_range(self, shape: Shape) -> None:
        for i, (key, value) in enumerate(zip("mnk", shape, strict=True)):
            low, high = (end(other[i] for other in self.efficiencies) for end in (min, max))
            if not low <= value * _MARGIN or not value <= high * _MARGIN:
                raise InputError(
                    f"{self.place}: product {shape[0]} x {shape[1]} x {shape[2]}: {key} = {value} is more than a "
                    f"factor of {_MARGIN} outside the measured {low}..{high}"
                )


def read_gemm_table(path: Path, device: Device, dtype: str) -> GemmTable:
    """The efficiencies of a device and dtype in a file of records.

    Raises:
        InputError: the file cannot be read, a record is not whole, a product is faster than the device's peak, or none
            is of this device and dtype; names file, line, key and value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    peak = device.peak(dtype)
    times: dict[Shape, list[float]] = {}
    found: set[tuple[str, str]] = set()
    for line, record in _records(text, str(path)):
        found.add((str(record["device"]), str(record["dtype"])))
        if (record["device"], record["dtype"]) != (device.name, dtype):
            continue
        m, n, k, seconds = (_number(record, key, f"{path}, line {line}") for key in ("m", "n", "k", "seconds"))
        times.setdefault((int(m), int(n), int(k)), []).append(seconds)
    if not times:
        known = ", ".join(f"{one} {other}" for one, other in sorted(found)) or "nothing"
        raise InputError(f"{path}: no product of device {device.name} and dtype {dtype}; it has {known}")
    efficiencies = {shape: 2 * shape[0] * shape[1] * shape[2] / (median(s) * peak) for shape, s in times.items()}
    for shape, efficiency in efficiencies.items():
        if efficiency > 1:
            raise InputError(
                f"{path}: product {shape[0]} x {shape[1]} x {shape[2]} reaches {efficiency:.3g} of the peak of "
                f"{device.name} in {dtype}; at most 1 is possible"
            )
    return GemmTable(str(path), efficiencies)


def _records(text: str, place: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """(line, record) of a CSV or of JSON Lines, every record with all keys."""
    lines: Iterable[tuple[int, Any]]
    if text.lstrip().startswith("{"):
        lines = ((i, _json(line, f"{place}, line {i}")) for i, line in enumerate(text.splitlines(), 1) if line.strip())
    else:
        lines = enumerate(csv.DictReader(io.StringIO(text), skipinitialspace=True), 2)
    for number, record in lines:
        for key in _KEYS:
            if record.get(key) in (None, ""):
                raise InputError(f"{place}, line {number}: {key} is missing; a record has {', '.join(_KEYS)}")
        yield number, record


def _json(line: str, place: str) -> Any:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: a record is an object with {', '.join(_KEYS)}")
    return record


def _number(record: Mapping[str, Any], key: str, place: str) -> float:
    """A value above zero; whole but for ``seconds``."""
    try:
        value = float(record[key])
    except (TypeError, ValueError):
        value = 0.0
    whole = key == "seconds" or value == int(value) if abs(value) < float("inf") else False
    if not (value > 0 and whole):
        raise InputError(
            f"{place}: {key} = {record[key]!r} must be a number above 0{'' if key == 'seconds' else ', whole'}"
        )
    return value
