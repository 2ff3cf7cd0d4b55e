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
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from statistics import median
from typing import Any

from commbench.errors import InputError
from commbench.topology.devices import Device
from commbench.workload.operator import Matmul

__all__ = ["GemmTable", "read_gemm_table"]

_KEYS = ("m", "n", "k", "dtype", "device", "seconds")
_POWER = 4
_MARGIN = 2  # factor by which a shape may lie outside the measured range
_LARGEST = 2**31 - 1  # of m, n and k, as BLAS counts them; of a time, in seconds: 68 years
_LEAST = 1e-12  # of a peak: a product of single numbers that takes a second

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
        if efficiency < _LEAST:
            raise InputError(
                f"{path}: product {shape[0]} x {shape[1]} x {shape[2]} reaches {efficiency:.3g} of the peak of "
                f"{device.name} in {dtype}; at least {_LEAST:g} is expected, of times in seconds"
            )
    return GemmTable(str(path), efficiencies)


def _records(text: str, place: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """(line, record) of a CSV or of JSON Lines, every record with all keys."""
    lines: Iterable[tuple[int, Any]]
    if text.lstrip().startswith("{"):
        lines = ((i, _json(line, f"{place}, line {i}")) for i, line in enumerate(text.splitlines(), 1) if line.strip())
    else:
        lines = enumerate(_table(text, place), 2)
    for number, record in lines:
        for key in _KEYS:
            if record.get(key) in (None, ""):
                raise InputError(f"{place}, line {number}: {key} is missing; a record has {', '.join(_KEYS)}")
        yield number, record


def _table(text: str, place: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        twice = [key for key, times in Counter(reader.fieldnames or ()).items() if times > 1]
        if twice:
            raise InputError(f"{place}, line 1: column {reprlib.repr(twice[0])} stands twice; keep one")
        return list(reader)
    except csv.Error as error:
        raise InputError(f"{place}: is no CSV: {error}") from None


def _json(line: str, place: str) -> Any:
    try:
        # whole numbers as floats too: Python's int has no bound here, and refuses thousands of digits in its own words
        record = json.loads(line, parse_int=float, object_pairs_hook=_once_each)
    except RecursionError:
        raise InputError(
            f"{place}: is not JSON of a record: lists or objects stand inside each other too "
            "deep"
        ) from None
    except ValueError as error:
        raise InputError(f"{place}: is not JSON of a record: {error}") from None
    if not isinstance(record, dict):
        raise InputError(f"{place}: a record is an object with {', '.join(_KEYS)}")
    return record


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _number(record: Mapping[str, Any], key: str, place: str) -> float:
    """A value above zero within bounds; whole but for ``seconds``."""
    given = record[key]
    try:
        value = 0.0 if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        value = 0.0
    if not (0 < value <= _LARGEST and (key == "seconds" or value.is_integer())):
        whole = "" if key == "seconds" else ", whole"
        most = f" and at most {_LARGEST}" if value > _LARGEST else ""
        raise InputError(f"{place}: {key} = {reprlib.repr(given)} must be a number above 0{most}{whole}")
    return value
