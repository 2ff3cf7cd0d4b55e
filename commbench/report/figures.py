# SPDX-License-Identifier: Apache-2.0
"""Charts of records: signed error by size, and bus bandwidth and time by size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commbench.report.axes import LABEL_COLUMN, direct_labels, label_columns, log_time_axis, size_axis
from commbench.report.series import CurvePanel, Point, Series, curve_panels, error_panels, series_numbers
from commbench.report.style import (
    GRID,
    MUTED,
    PAPER,
    WIDTH,
    Picture,
    bare_axes,
    css_variable,
    drawing,
    new_figure,
    series_colour,
    series_marker,
    to_picture,
)
from commbench.results.records import Compared, Record
from commbench.units import rate_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BAND", "Curves", "LineKey", "columns_for", "curve_pictures", "error_pictures"]

BAND = 0.05  # of the band drawn behind the errors, both ways
_GUTTER = 28
_LABEL_WIDTH = 6.6  # pixels that one letter of a direct label may take
_LABEL_ROOM = 0.4  # of a picture's width, for names beside their lines; where one is longer, letters stand there
_HEIGHT, _TOP, _BOTTOM = 300, 10, 28


@dataclass(frozen=True, slots=True)
class LineKey:
    """What a letter beside a line stands for; ``variable`` is the CSS variable of its colour."""

    letter: str
    name: str
    variable: str


@dataclass(frozen=True, slots=True)
class Curves:
    """The pictures of one panel; ``key`` tells what letters mean where names have no room, else it is empty."""

    panel: CurvePanel
    pictures: tuple[Picture, ...]
    key: tuple[LineKey, ...]


def columns_for(count: int) -> int:
    """Columns in which this many small panels stand best."""
    return {1: 1, 2: 2, 4: 2}.get(count, 3)


def _panel_width(columns: int) -> int:
    return (WIDTH - (columns - 1) * _GUTTER) // columns


def error_pictures(records: Sequence[Record]) -> list[Picture]:
    """One dot plot of signed error by size per algorithm, world size and topology; all share one error axis."""
    panels = error_panels(records)
    numbers = series_numbers(records)
    if not panels:
        return []
    width = _panel_width(columns_for(len(panels)))
    limits = _error_limits([point for points in panels.values() for point in points])
    pictures = []
    with drawing():
        for i, ((title, detail, name), points) in enumerate(panels.items()):
            figure = new_figure(width, 250)
            axes = bare_axes(figure, left=56, right=12, top=10, bottom=28)
            _draw_errors(axes, points, numbers[name], limits)
            sizes = [p.size_bytes for p in points]
            size_axis(axes, min(sizes), max(sizes), most=max(2, (width - 68) // 62))
            pictures.append(
                to_picture(
                    figure, f"error{i}", title=title, detail=detail, label=f"Signed error by size: {title}, {detail}"
                )
            )
    return pictures


def _error_limits(points: Sequence[Compared]) -> tuple[float, float]:
    """Common error axis in percent: all whiskers fit, and the band with some air at the least."""
    reach = [(100 * p.error, 100 * p.spread_s / p.measured_s) for p in points]
    low = min([-130 * BAND, *(e - s for e, s in reach)])
    high = max([130 * BAND, *(e + s for e, s in reach)])
    pad = 0.04 * (high - low)
    return low - pad, high + pad


def _draw_errors(axes: "Axes", points: Sequence[Compared], number: int, limits: tuple[float, float]) -> None:
    colour = series_colour(number)
    axes.set_ylim(*limits)
    axes.axhspan(-100 * BAND, 100 * BAND, color=GRID, alpha=0.45, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=1)
    for point in points:
        x, error = math.log2(point.size_bytes), 100 * point.error
        spread = 100 * point.spread_s / point.measured_s
        axes.plot(
            [x, x], [error - spread, error + spread], color=colour, linewidth=1.4, alpha=0.75, solid_capstyle="butt"
        )
        axes.plot(
            [x],
            [error],
            linestyle="none",
            marker=series_marker(number),
            markersize=8,
            markeredgewidth=1.6,
            markeredgecolor=colour if point.set == "fit" else PAPER,
            markerfacecolor=PAPER if point.set == "fit" else colour,
            zorder=3,
        )
    axes.yaxis.set_major_formatter(_percent_tick)
    axes.locator_params(axis="y", nbins=7)


def _percent_tick(value: float, _: object) -> str:
    return "0 %" if abs(value) < 1e-9 else f"{value:+g} %".replace("-", "−")


def curve_pictures(records: Sequence[Record]) -> list[Curves]:
    """Per collective and world size: bus bandwidth (where it has a meaning) and time, each by size."""
    numbers = series_numbers(records)
    drawn = []
    with drawing():
        for i, panel in enumerate(curve_panels(records)):
            letters = _letters(panel)
            pictures = []
            if panel.ranks > 1:
                pictures.append(_curves(panel, numbers, letters, f"busbw{i}", time=False))
            pictures.append(_curves(panel, numbers, letters, f"time{i}", time=True))
            colours = {name: css_variable(_colour(name, numbers)) for name in letters}
            key = tuple(LineKey(letter, name, colours[name]) for name, letter in letters.items())
            drawn.append(Curves(panel, tuple(pictures), key))
    return drawn


def _letters(panel: CurvePanel) -> dict[str, str]:
    """A letter for each name, where names beside the lines would be cut off or sit on each other; else empty."""
    names = list(dict.fromkeys([*(s.name for s in panel.series), *panel.bounds]))
    room = _LABEL_ROOM * _panel_width(2) / _LABEL_WIDTH
    if max(map(len, names)) <= room and label_columns(len(names), _HEIGHT - _TOP - _BOTTOM) == 1:
        return {}
    return {name: _letter(number) for number, name in enumerate(names)}


def _letter(number: int) -> str:
    """A to Z, then AA to ZZ and on."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("A") + last)


def _colour(name: str, numbers: Mapping[str, int]) -> str:
    """That of its series; bounds, which have no number, are muted."""
    return series_colour(numbers[name]) if name in numbers else MUTED


def _curves(
    panel: CurvePanel, numbers: Mapping[str, int], letters: Mapping[str, str], name: str, *, time: bool
) -> Picture:
    width = _panel_width(2)
    lines = [*panel.bounds.values(), *(s.points for s in panel.series)]
    figure = new_figure(width, _HEIGHT)
    right = _label_room(panel, letters)
    axes = bare_axes(figure, left=56, right=right, top=_TOP, bottom=_BOTTOM)
    sizes = [p.size_bytes for points in lines for p in points]
    size_axis(axes, min(sizes), max(sizes), most=max(2, int(width - 56 - right) // 62))
    fastest = max(_busbw(p, p.low_s) for points in lines for p in points)
    unit, unit_name = (1.0, "") if time else rate_unit(fastest)
    if time:
        ends = [t for points in lines for p in points for t in (p.low_s, p.high_s)]
        log_time_axis(axes, min(ends), max(ends))
    else:
        axes.locator_params(axis="y", nbins=6)
        axes.set_ylim(0, 1.06 * fastest / unit)
    for points in panel.bounds.values():
        marker = "_" if len(points) == 1 else ""
        y = [_y(p, p.time_s, unit, time) for p in points]
        axes.plot(_x(points), y, color=MUTED, linewidth=1.6, linestyle=(0, (1, 2)), marker=marker, markersize=18)
    for series in panel.series:
        _draw_series(axes, series, numbers[series.name], unit, time)
    found = _labels(panel, numbers, unit, time)
    direct_labels(axes, [(letters.get(label, label), y, colour) for label, y, colour in found])
    title = "Time" if time else "Bus bandwidth"
    detail = "logarithmic axis" if time else f"{unit_name}, 1 {unit_name[:-2]} = {unit:.0e} bytes".replace("e+0", "e")
    return to_picture(
        figure, name, title=title, detail=detail, label=f"{title} by size: {panel.collective}, {panel.ranks} ranks"
    )


def _label_room(panel: CurvePanel, letters: Mapping[str, str]) -> float:
    """Pixels right of the axes."""
    names = list(dict.fromkeys([*panel.bounds, *(s.name for s in panel.series)]))
    columns = label_columns(len(names), _HEIGHT - _TOP - _BOTTOM)
    return 14 + LABEL_COLUMN * (columns - 1) + _LABEL_WIDTH * max(len(letters.get(name, name)) for name in names)


def _draw_series(axes: "Axes", series: Series, number: int, unit: float, time: bool) -> None:
    x, colour = _x(series.points), series_colour(number)
    middle = [_y(p, p.time_s, unit, time) for p in series.points]
    if series.measured:
        low = [_y(p, p.low_s, unit, time) for p in series.points]
        high = [_y(p, p.high_s, unit, time) for p in series.points]
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        if len(x) == 1:
            axes.plot([x[0], x[0]], [low[0], high[0]], color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
    axes.plot(
        x,
        middle,
        color=colour,
        linestyle="-" if series.measured else (0, (4, 2.5)),
        marker=series_marker(number),
        markersize=6 if series.measured else 5.5,
        markerfacecolor=colour if series.measured else PAPER,
        markeredgecolor=PAPER if series.measured else colour,
        markeredgewidth=1.0 if series.measured else 1.4,
        zorder=3,
    )


def _x(points: Sequence[Point]) -> list[float]:
    return [math.log2(p.size_bytes) for p in points]


def _busbw(point: Point, time_s: float) -> float:
    """Bytes/s."""
    return point.size_bytes / time_s * point.busbw_factor


def _y(point: Point, time_s: float, unit: float, time: bool) -> float:
    """Seconds, or bandwidth in ``unit`` bytes/s."""
    return time_s if time else _busbw(point, time_s) / unit


def _labels(panel: CurvePanel, numbers: Mapping[str, int], unit: float, time: bool) -> list[tuple[str, float, str]]:
    """One label per name, at the end of its measured line if it has one."""
    ends: dict[str, tuple[str, float, str]] = {}
    for series in panel.series:
        last = series.points[-1]
        label = (series.name, _y(last, last.time_s, unit, time), series_colour(numbers[series.name]))
        ends.setdefault(series.name, label)
    for name, points in panel.bounds.items():
        ends[name] = (name, _y(points[-1], points[-1].time_s, unit, time), MUTED)
    return list(ends.values())
