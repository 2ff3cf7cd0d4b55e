# SPDX-License-Identifier: Apache-2.0
"""Axes for people: sizes in binary steps, times in µs and ms, labels that do not sit on each other."""

import math
from collections.abc import Sequence

__all__ = [
    "LABEL_COLUMN",
    "Tick",
    "even_ticks",
    "label_columns",
    "label_places",
    "log_limits",
    "size_limits",
    "size_ticks",
    "spread_positions",
    "time_ticks",
]

Tick = tuple[float, str]
"""A place on an axis and what is written there."""

_LABEL_GAP = 15.0  # pixels between the centres of two labels
LABEL_COLUMN = 20.0  # pixels from a column of labels to the next, where one column is too low for all


def size_ticks(low_bytes: float, high_bytes: float, most: int) -> list[int]:
    """Powers of two inside the range, at most ``most``, in equal steps that pass through 1 MiB."""
    low, high = math.ceil(math.log2(low_bytes)), math.floor(math.log2(high_bytes))
    ticks: list[int] = []
    for step in (1, 2, 4, 5, 10, 20):
        ticks = [e for e in range(low, high + 1) if (e - 20) % step == 0]
        if len(ticks) <= most:
            break
    return ticks


def size_limits(low_bytes: float, high_bytes: float) -> tuple[float, float]:
    """Ends of an axis in log2(bytes), with some air."""
    low, high = math.log2(low_bytes), math.log2(high_bytes)
    pad = 0.04 * (high - low) or 1.0
    return low - pad, high + pad


def log_limits(low: float, high: float) -> tuple[float, float]:
    """Ends of a logarithmic axis, which spans a factor of 4 at least."""
    air = max(1.25, 2 * math.sqrt(low / high))
    return low / air, high * air


def time_ticks(low_s: float, high_s: float) -> list[Tick]:
    """Round times inside the range of a logarithmic axis, four or more where there are so many."""
    exponents = range(math.floor(math.log10(low_s)), math.ceil(math.log10(high_s)) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [d * 10.0**e for e in exponents for d in digits if low_s <= d * 10.0**e <= high_s]
        if len(ticks) >= 4:
            break
    return [(t, _short_time(t)) for t in ticks]


def even_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers in equal steps inside the range, at most ``most``."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50) if (high - low) / (step * factor) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _short_time(time_s: float) -> str:
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if time_s >= 0.999 * factor:
            return f"{time_s / factor:.3g} {unit}"
    return f"{time_s * 1e12:.3g} ps"


def spread_positions(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, in the same order, at least ``gap`` apart and inside low..high if they fit.

    Neighbours that are too close form a block that is centred on the mean of what its members wanted.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, list[int]]] = []  # (position of the first, members)
    for i in order:
        blocks.append((_kept(wanted[i], 1, gap, low, high), [i]))
        while len(blocks) > 1 and blocks[-2][0] + len(blocks[-2][1]) * gap > blocks[-1][0]:
            members = blocks[-2][1] + blocks[-1][1]
            del blocks[-2:]
            middle = sum(wanted[m] - k * gap for k, m in enumerate(members)) / len(members)
            blocks.append((_kept(middle, len(members), gap, low, high), members))
    placed = [0.0] * len(wanted)
    for first, members in blocks:
        for k, member in enumerate(members):
            placed[member] = first + k * gap
    return placed


def _kept(first: float, count: int, gap: float, low: float, high: float) -> float:
    return max(low, min(first, high - (count - 1) * gap))


def label_places(wanted: Sequence[float], low: float, high: float) -> list[tuple[float, float]]:
    """(pixels right of the first column, height) of labels beside axes from low to high, near the heights wanted.

    Where one column is too low for all of them they stand in several, which only short texts leave room for.
    """
    columns = label_columns(len(wanted), high - low)
    placed = spread_positions(wanted, _LABEL_GAP / columns, low, high)
    order = {number: place for place, number in enumerate(sorted(range(len(placed)), key=lambda i: placed[i]))}
    return [(order[number] % columns * LABEL_COLUMN, height) for number, height in enumerate(placed)]


def label_columns(count: int, height: float) -> int:
    """Columns in which this many labels stand beside axes of this height in pixels without sitting on each other."""
    return max(1, math.ceil((count - 1) * _LABEL_GAP / height))
