# SPDX-License-Identifier: Apache-2.0
"""Axes for people: sizes in binary steps, times in µs and ms, labels that do not sit on each other."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commbench.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "LABEL_COLUMN",
    "direct_labels",
    "label_columns",
    "log_time_axis",
    "size_axis",
    "size_ticks",
    "spread_positions",
]

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


def size_axis(axes: "Axes", low_bytes: int, high_bytes: int, *, most: int) -> None:
    """An x axis in log2(bytes), labelled with sizes; x values must be log2 as well."""
    low, high = math.log2(low_bytes), math.log2(high_bytes)
    pad = 0.04 * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    ticks = size_ticks(low_bytes, high_bytes, most) or [round(low)]
    axes.set_xticks(ticks, [format_bytes(2**e) for e in ticks])


def log_time_axis(axes: "Axes", low_s: float, high_s: float) -> None:
    """A logarithmic y axis in seconds with labels such as "100 µs"."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_yscale("log")
    air = max(1.25, 2 * math.sqrt(low_s / high_s))  # the axis spans a factor of 4 at least
    low, high = low_s / air, high_s * air
    axes.set_ylim(low, high)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [d * 10.0**e for e in exponents for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) >= 4:
            break
    axes.set_yticks(ticks, [_short_time(t) for t in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


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


def direct_labels(axes: "Axes", labels: Sequence[tuple[str, float, str]]) -> None:
    """Write (text, y in data units, colour) right of the axes, each beside the end of its line.

    Where one column is too low for all of them they stand in several, which only short texts leave room for.
    """
    to_pixels = axes.transData
    heights = [float(to_pixels.transform((0.0, y))[1]) for _, y, _ in labels]
    box = axes.get_window_extent()
    columns = label_columns(len(labels), box.height)
    placed = spread_positions(heights, _LABEL_GAP / columns, box.y0, box.y1)
    order = {number: place for place, number in enumerate(sorted(range(len(placed)), key=lambda i: placed[i]))}
    for number, ((text, _, colour), height) in enumerate(zip(labels, placed, strict=True)):
        fraction = (height - box.y0) / box.height
        x = 1.015 + order[number] % columns * LABEL_COLUMN / box.width
        axes.text(x, fraction, text, transform=axes.transAxes, color=colour, va="center", ha="left")


def label_columns(count: int, height: float) -> int:
    """Columns in which this many labels stand beside axes of this height in pixels without sitting on each other."""
    return max(1, math.ceil((count - 1) * _LABEL_GAP / height))
