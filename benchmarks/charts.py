# SPDX-License-Identifier: Apache-2.0
"""The figures of the page, in the report's style: how wall time grows, and the ratio to SimGrid."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.records import Engines, Race, SharedLink
from commbench.report.axes import direct_labels, log_time_axis
from commbench.report.style import (
    MUTED,
    PAPER,
    Picture,
    bare_axes,
    drawing,
    new_figure,
    series_colour,
    series_marker,
    to_picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["engine_chart", "link_chart", "ratio_chart", "wall_chart"]

_WIDTH, _HEIGHT = 546, 300  # of a panel that stands in two columns
_LABEL_WIDTH = 6.6  # pixels that one letter of a direct label may take
_MOST_TICKS = 7

Points = Sequence[tuple[float, float]]


def wall_chart(races: Sequence[Race]) -> Picture:
    """Whole-process wall time by ranks, ranks in order; both axes logarithmic."""
    lines: dict[str, Points] = {"commbench": [(r.ranks, r.ours.wall_s) for r in races]}
    if peers := [(r.ranks, r.peer.wall_s) for r in races if r.peer]:
        lines["SimGrid"] = peers
    return _chart("wall", "Wall time of the whole process", "by ranks, both axes logarithmic", lines, under="ranks")


def ratio_chart(races: Sequence[Race]) -> Picture:
    """wall(SimGrid) / wall(commbench) by ranks, one line per case; 1 is marked."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for race in races:
        if race.ratio is not None:
            lines.setdefault(race.case.partition(",")[0], []).append((race.ranks, race.ratio))
    detail = "wall(SimGrid) / wall(commbench) by ranks; above 1 commbench is faster"
    return _chart("ratio", "Ratio", detail, lines, under="ranks", time=False)


def engine_chart(engines: Sequence[Engines]) -> Picture:
    """Wall time of the engines by ranks."""
    lines = {
        "compiled": [(e.ranks, min(e.compiled_s)) for e in engines],
        "reference": [(e.ranks, min(e.reference_s)) for e in engines],
        "bare SimPy": [(e.ranks, min(e.floor_s)) for e in engines],
    }
    return _chart("engines", "Engines", "wall time by ranks, both axes logarithmic", lines, under="ranks")


def link_chart(links: Sequence[SharedLink]) -> Picture:
    """Wall time by flows over one link."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for o in links:
        lines.setdefault(o.engine, []).append((o.flows, min(o.walls_s)))
    detail = "wall time by flows at once, both axes logarithmic"
    return _chart("links", "Flows over one link", detail, lines, under="flows")


def _chart(
    name: str, title: str, detail: str, lines: Mapping[str, Points], *, under: str, time: bool = True
) -> Picture:
    """Lines over log2(x) with their names at their ends."""
    values = [y for points in lines.values() for _, y in points]
    with drawing():
        figure = new_figure(_WIDTH, _HEIGHT)
        right = 24 + min(0.4 * _WIDTH, _LABEL_WIDTH * max(map(len, lines)))
        axes = bare_axes(figure, left=60, right=right, top=10, bottom=44)
        _x_axis(axes, sorted({x for points in lines.values() for x, _ in points}), under)
        if time:
            log_time_axis(axes, min(values), max(values))
        else:
            axes.set_ylim(0, 1.12 * max(*values, 1.0))
            axes.locator_params(axis="y", nbins=6)
            axes.axhline(1, color=MUTED, linewidth=1)
        for number, points in enumerate(lines.values()):
            axes.plot(
                [math.log2(x) for x, _ in points],
                [y for _, y in points],
                color=series_colour(number),
                marker=series_marker(number),
                markersize=7,
                markeredgecolor=PAPER,
            )
        ends = [(label, points[-1][1], series_colour(i)) for i, (label, points) in enumerate(lines.items())]
        direct_labels(axes, ends)
        return to_picture(figure, name, title=title, detail=detail, label=f"{title}: {detail}")


def _x_axis(axes: "Axes", amounts: Sequence[float], under: str) -> None:
    low, high = math.log2(amounts[0]), math.log2(amounts[-1])
    pad = 0.04 * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    stride = -(-len(amounts) // _MOST_TICKS)
    shown = [*reversed(amounts[::-1][::stride])]
    axes.set_xticks([math.log2(x) for x in shown], [f"{x:,.0f}" for x in shown])
    axes.set_xlabel(under)
