# SPDX-License-Identifier: Apache-2.0
"""Curves of records with matplotlib: PNG and PDF files for papers and slides, figures for notebooks.

Only here is matplotlib imported; pages draw their own SVG (:mod:`commbench.report.figures`) from the same panels.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from commbench.errors import InputError
from commbench.report.series import CurvePanel, Point, curve_panels, series_numbers
from commbench.results.records import Record
from commbench.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Rows", "plot", "plot_file", "plot_rows"]

Rows = tuple[str, Sequence[str], Sequence[tuple[int, str, float, float]]]
"""Title, names of rows, and bars: row, kind, begin and end in seconds."""

_WIDTH, _HEIGHT = 11.0, 3.4  # inches of a row of two pictures
_MARKERS = "osD^vPX*"
_BOUNDS = (":", "-.", (0, (1, 4)), (0, (6, 2, 1, 2, 1, 2)))  # lines of bounds in turn, all grey
_DPI = 160


def plot(records: Sequence[Record]) -> "Figure":
    """Per collective and world size a row: bus bandwidth in GB/s, and time in seconds, by size in bytes.

    Measured lines are whole, with a band from the fastest iteration to the slowest; predicted and simulated ones are
    dashed, bounds grey: the first dotted, others by dots and dashes of their own.

    Raises:
        InputError: none of the records has a size and a time.
    """
    panels = curve_panels(records)
    if not panels:
        raise InputError("none of these records has a size and a time to plot: give those of run, sim or import")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False)
    numbers = series_numbers(records)
    for (left, right), panel in zip(axes, panels, strict=True):
        _draw(left, panel, numbers, time=False)
        _draw(right, panel, numbers, time=True)
        left.legend(fontsize=7, frameon=False)
    return figure


def plot_rows(panels: Sequence[Rows]) -> "Figure":
    """Bars in rows by time, a panel below the other; a colour for each kind of bar."""
    from matplotlib.figure import Figure

    heights = [0.8 + 0.22 * len(names) for _, names, _ in panels]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, names, bars) in zip(axes, panels, strict=True):
        kinds = dict.fromkeys(kind for _, kind, _, _ in bars)
        for number, kind in enumerate(kinds):
            for row in range(len(names)):
                spans = [(begin, end - begin) for lane, what, begin, end in bars if (lane, what) == (row, kind)]
                axis.broken_barh(spans, (row - 0.4, 0.8), facecolor=f"C{number}", label=kind if row == 0 else None)
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_xlabel("time (s)", fontsize=8)
        axis.legend(fontsize=7, frameon=False)
    return figure


def plot_file(records: Sequence[Record], form: str) -> bytes:
    """The same as a file; ``form`` is "png" or "pdf".

    Raises:
        InputError: nothing to plot.
    """
    out = BytesIO()
    own = {"Software": None} if form == "png" else {"CreationDate": None, "Producer": None}  # the same bytes each time
    plot(records).savefig(out, format=form, dpi=_DPI, metadata=own)
    return out.getvalue()


def _draw(axes: "Axes", panel: CurvePanel, numbers: dict[str, int], *, time: bool) -> None:
    for series in panel.series:
        number = numbers[series.name]
        own = f"C{number % 10}"
        axes.plot(*_line(series.points, time), color=own, marker=_MARKERS[number % len(_MARKERS)], markersize=4,
                  linestyle="-" if series.measured else "--", label=series.name)  # fmt: skip
        if series.measured:
            low = [_value(p, p.low_s, time) for p in series.points]
            high = [_value(p, p.high_s, time) for p in series.points]
            axes.fill_between([p.size_bytes for p in series.points], low, high, color=own, alpha=0.2, linewidth=0)
    for number, (name, points) in enumerate(panel.bounds.items()):
        axes.plot(*_line(points, time), color="0.4", linestyle=_BOUNDS[number % len(_BOUNDS)], label=name)
    axes.set_xscale("log", base=2)
    if time:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda size, _: format_bytes(round(size)))
    axes.tick_params(labelsize=7)
    axes.grid(color="0.9")
    axes.set_title(f"{panel.collective}, {panel.ranks} ranks", fontsize=9)
    axes.set_ylabel("time (s)" if time else "bus bandwidth (GB/s)", fontsize=8)


def _line(points: Sequence[Point], time: bool) -> tuple[list[int], list[float]]:
    return [p.size_bytes for p in points], [_value(p, p.time_s, time) for p in points]


def _value(point: Point, time_s: float, time: bool) -> float:
    """Seconds, or GB/s of bus bandwidth."""
    return time_s if time else point.size_bytes / time_s * point.busbw_factor / 1e9
