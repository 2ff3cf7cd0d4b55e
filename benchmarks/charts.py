# SPDX-License-Identifier: Apache-2.0
"""The figures of the page, in the report's style: how wall time grows, and the ratio to SimGrid."""

import math
from collections.abc import Mapping, Sequence

from benchmarks.records import Engines, Race, SharedLink
from commbench.report.axes import even_ticks, label_places, log_limits, time_ticks
from commbench.report.chart import Chart, Scale, mark, path_of
from commbench.report.style import Picture
from commbench.report.svg import colour, element, text
from commbench.report.text import time_text

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
    right = 24 + min(0.4 * _WIDTH, _LABEL_WIDTH * max(map(len, lines)))
    chart = Chart(name, _WIDTH, _HEIGHT, left=60, right=right, top=10, bottom=44)
    x = _x_axis(chart, sorted({x for points in lines.values() for x, _ in points}), under)
    limits = log_limits(min(values), max(values)) if time else (0.0, 1.12 * max(*values, 1.0))
    y = chart.upward(*limits, log=time)
    ticks = time_ticks(y.low, y.high) if time else [(tick, f"{tick:g}") for tick in even_ticks(y.low, y.high, 6)]
    chart.left_axis(y, ticks)
    if not time:
        chart.add(element("path", d=f"M{chart.left:g} {y.at(1):.2f}H{chart.right:g}", class_="zero"))
    for number, (label, points) in enumerate(lines.items()):
        places = [(x.at(math.log2(amount)), y.at(value)) for amount, value in points]
        chart.add(element("path", d=path_of(places), class_="line", stroke=colour(number)))
        for place, (amount, value) in zip(places, points, strict=True):
            told = time_text(value) if time else f"{value:.3g}"
            chart.add(mark(*place, number, (f"{label}, {amount:,.0f} {under}: {told}",), value=value))
    ends = label_places([y.at(points[-1][1]) for points in lines.values()], chart.top, chart.bottom)
    for number, (label, (aside, height)) in enumerate(zip(lines, ends, strict=True)):
        chart.add(text(chart.right + 8 + aside, height, label, fill=colour(number)))
    return chart.picture(title=title, detail=detail, label=f"{title}: {detail}")


def _x_axis(chart: Chart, amounts: Sequence[float], under: str) -> Scale:
    low, high = math.log2(amounts[0]), math.log2(amounts[-1])
    pad = 0.04 * (high - low) or 1.0
    scale = chart.across(low - pad, high + pad)
    stride = -(-len(amounts) // _MOST_TICKS)
    shown = [*reversed(amounts[::-1][::stride])]
    chart.bottom_axis(scale, [(math.log2(amount), f"{amount:,.0f}") for amount in shown], under)
    return scale
