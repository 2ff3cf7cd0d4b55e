# SPDX-License-Identifier: Apache-2.0
"""Charts of records: signed error by size, and bus bandwidth and time by size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from commbench.report.axes import (
    LABEL_COLUMN,
    Tick,
    even_ticks,
    label_columns,
    label_places,
    log_limits,
    size_limits,
    size_ticks,
    time_ticks,
)
from commbench.report.chart import Chart, Scale, mark, path_of
from commbench.report.series import CurvePanel, Point, Series, curve_panels, error_panels, series_numbers
from commbench.report.style import NARROW, WIDTH, Picture, for_both
from commbench.report.svg import colour, element, group, text
from commbench.report.text import percent, signed_percent, time_text
from commbench.results.records import Compared, Record
from commbench.units import format_bandwidth, format_bytes, rate_unit

__all__ = [
    "BAND",
    "Curves",
    "LineKey",
    "columns_for",
    "curve_pictures",
    "error_pictures",
    "panel_width",
    "signed_tick",
]

BAND = 0.05  # of the band drawn behind the errors, both ways
_GUTTER = 28
_LABEL_WIDTH = 6.6  # pixels that one letter of a direct label may take
_LABEL_ROOM, _LABEL_ROOM_NARROW = 0.4, 0.25  # of a picture's width, for names; where one is longer, letters stand there
_HEIGHT, _TOP, _BOTTOM, _LEFT = 300, 10, 28, 56
_TICK_WIDTH = 62  # pixels for one size on an axis
_FARTHEST_RATE = 2.5  # a line rate beyond so many times the fastest point is not drawn


@dataclass(frozen=True, slots=True)
class LineKey:
    """What a letter beside a line stands for; ``variable`` is its colour as CSS, ``series`` what a click hides."""

    letter: str
    name: str
    variable: str
    series: str


@dataclass(frozen=True, slots=True)
class Curves:
    """The pictures of one panel.

    ``key`` tells what letters mean where names have no room, else it is empty; ``lettered`` says whether there is no
    room beside the wide pictures either.
    """

    panel: CurvePanel
    pictures: tuple[Picture, ...]
    key: tuple[LineKey, ...]
    lettered: bool


def columns_for(count: int) -> int:
    """Columns in which this many small panels stand best."""
    return {1: 1, 2: 2, 4: 2}.get(count, 3)


def panel_width(columns: int) -> int:
    """Pixels of a picture in so many columns."""
    return (WIDTH - (columns - 1) * _GUTTER) // columns


def _size_ticks(chart: Chart, sizes: Sequence[int]) -> list[Tick]:
    most = max(2, int(chart.right - chart.left) // _TICK_WIDTH)
    ticks = size_ticks(min(sizes), max(sizes), most) or [round(math.log2(min(sizes)))]
    return [(exponent, format_bytes(2**exponent)) for exponent in ticks]


# -- errors


def error_pictures(records: Sequence[Record]) -> list[Picture]:
    """One dot plot of signed error by size per algorithm, world size and topology; all share one error axis."""
    panels = error_panels(records)
    numbers = series_numbers(records)
    if not panels:
        return []
    width = panel_width(columns_for(len(panels)))
    limits = _error_limits([point for points in panels.values() for point in points])
    pictures = []
    for i, ((title, detail, name), points) in enumerate(panels.items()):
        drawn = partial(_drawn_errors, points, (title, detail), numbers[name], limits, f"error{i}")
        pictures.append(for_both(drawn, width))
    return pictures


def _drawn_errors(
    points: Sequence[Compared],
    titles: tuple[str, str],
    number: int,
    limits: tuple[float, float],
    name: str,
    width: int,
    more: str,
) -> Picture:
    title, detail = titles
    chart = Chart(name + more, width, 250, left=_LEFT, right=12, top=10, bottom=28)
    _draw_errors(chart, points, number, limits)
    return chart.picture(title=title, detail=detail, label=f"Signed error by size: {title}, {detail}")


def _error_limits(points: Sequence[Compared]) -> tuple[float, float]:
    """Common error axis: all whiskers fit, and the band with some air at the least."""
    reach = [(p.error, p.spread_s / p.measured_s) for p in points]
    low = min([-1.3 * BAND, *(e - s for e, s in reach)])
    high = max([1.3 * BAND, *(e + s for e, s in reach)])
    pad = 0.04 * (high - low)
    return low - pad, high + pad


def _draw_errors(chart: Chart, points: Sequence[Compared], number: int, limits: tuple[float, float]) -> None:
    sizes = [p.size_bytes for p in points]
    x, y = chart.across(*size_limits(min(sizes), max(sizes))), chart.upward(*limits)
    height = y.at(-BAND) - y.at(BAND)
    chart.add(
        element("rect", x=chart.left, y=y.at(BAND), width=chart.right - chart.left, height=height, class_="level")
    )
    chart.left_axis(y, [(tick, signed_tick(tick)) for tick in even_ticks(*limits, 7)])
    chart.bottom_axis(x, _size_ticks(chart, sizes))
    chart.add(element("path", d=f"M{chart.left:g} {y.at(0):.2f}H{chart.right:g}", class_="zero"))
    whiskers, marks = [], []
    for point in points:
        at, error, spread = x.at(math.log2(point.size_bytes)), point.error, point.spread_s / point.measured_s
        whiskers.append(f"M{at:.2f} {y.at(error - spread):.2f}V{y.at(error + spread):.2f}")
        marks.append(_error_mark(point, at, y.at(error), number))
    line = element("path", d="".join(whiskers), stroke=colour(number), stroke_width=1.4, stroke_opacity=0.75)
    chart.add(line, *marks)


def _error_mark(point: Compared, x: float, y: float, number: int) -> str:
    words = (
        f"{format_bytes(point.size_bytes)}, {point.set}: {signed_percent(point.error)}",
        f"measured {time_text(point.measured_s)}, spread ± {percent(point.spread_s / point.measured_s)}",
        f"simulated {time_text(point.simulated_s)}",
    )
    data = {"size_bytes": point.size_bytes, "error": point.error}
    return mark(x, y, number, words, hollow=point.set == "fit", set=point.set, **data)


def signed_tick(value: float) -> str:
    """An error on an axis, in percent."""
    return "0 %" if abs(value) < 1e-9 else f"{100 * value:+g} %".replace("-", "−")


# -- curves


def curve_pictures(records: Sequence[Record], rates: Mapping[str, float] | None = None) -> list[Curves]:
    """Per collective and world size: bus bandwidth (where it has a meaning) and time, each by size.

    ``rates`` are line rates (bytes/s) by the topologies that they are of.
    """
    numbers = series_numbers(records)
    drawn = []
    for i, panel in enumerate(curve_panels(records, rates)):
        letters = _letters(panel, NARROW)
        pictures = [_both(panel, numbers, f"time{i}", time=True)]
        if panel.ranks > 1:
            pictures.insert(0, _both(panel, numbers, f"busbw{i}", time=False))
        key = (LineKey(letters[n], n, colour(numbers.get(n)), _series_id(n, numbers)) for n in letters)
        drawn.append(Curves(panel, tuple(pictures), tuple(key), bool(_letters(panel, panel_width(2)))))
    return drawn


def _series_id(name: str, numbers: Mapping[str, int]) -> str:
    """What a click on the name hides: the same in all pictures of a panel."""
    return str(numbers.get(name, name))


def _both(panel: CurvePanel, numbers: Mapping[str, int], name: str, *, time: bool) -> Picture:
    def draw(width: int, more: str) -> Picture:
        return _Curves(panel, numbers, _letters(panel, width), name + more, width, time=time).picture()

    return for_both(draw, panel_width(2))


def _letters(panel: CurvePanel, width: int) -> dict[str, str]:
    """A letter for each name, where names beside the lines would be cut off or sit on each other; else empty."""
    names = _names(panel)
    room = (_LABEL_ROOM if width > NARROW else _LABEL_ROOM_NARROW) * width / _LABEL_WIDTH
    if max(map(len, names)) <= room and label_columns(len(names), _HEIGHT - _TOP - _BOTTOM) == 1:
        return {}
    return {name: _letter(number) for number, name in enumerate(names)}


def _names(panel: CurvePanel) -> list[str]:
    return list(dict.fromkeys([*(s.name for s in panel.series), *panel.bounds, *panel.rates]))


def _letter(number: int) -> str:
    """A to Z, then AA to ZZ and on."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("A") + last)


class _Curves:
    """One picture of a panel: bus bandwidth or time by size."""

    def __init__(
        self,
        panel: CurvePanel,
        numbers: Mapping[str, int],
        letters: Mapping[str, str],
        name: str,
        width: int,
        *,
        time: bool,
    ) -> None:
        self.panel, self.numbers, self.letters, self.time = panel, numbers, letters, time
        room = self._label_room()
        self.chart = Chart(name, width, _HEIGHT, left=_LEFT, right=room, top=_TOP, bottom=_BOTTOM)
        points = [p for line in (*panel.bounds.values(), *(s.points for s in panel.series)) for p in line]
        self.sizes = [p.size_bytes for p in points]
        fastest = max(_busbw(p, p.low_s) for p in points)
        self.rates = {n: r for n, r in panel.rates.items() if not time and r <= _FARTHEST_RATE * fastest}
        fastest = max([fastest, *self.rates.values()])
        self.unit, self.unit_name = (1.0, "") if time else rate_unit(fastest)
        self.x = self.chart.across(*size_limits(min(self.sizes), max(self.sizes)))
        self.y = self._height_scale(points, fastest)

    def picture(self) -> Picture:
        chart, low, high = self.chart, self.y.low, self.y.high
        ticks = time_ticks(low, high) if self.time else [(t, f"{t:g}") for t in even_ticks(low, high, 7)]
        chart.left_axis(self.y, ticks)
        chart.bottom_axis(self.x, _size_ticks(chart, self.sizes))
        chart.add(*(self._rate(name, rate) for name, rate in self.rates.items()))
        chart.add(*(self._bound(name, points) for name, points in self.panel.bounds.items()))
        chart.add(*map(self._line, self.panel.series), *self._labels())
        title = "Time" if self.time else "Bus bandwidth"
        unit = f"{self.unit_name}, 1 {self.unit_name[:-2]} = {self.unit:.0e} bytes".replace("e+0", "e")
        label = f"{title} by size: {self.panel.collective}, {self.panel.ranks} ranks"
        return chart.picture(title=title, detail="logarithmic axis" if self.time else unit, label=label)

    def _height_scale(self, points: Sequence[Point], fastest: float) -> Scale:
        if not self.time:
            return self.chart.upward(0, 1.06 * fastest / self.unit)
        ends = [t for p in points for t in (p.low_s, p.high_s)]
        return self.chart.upward(*log_limits(min(ends), max(ends)), log=True)

    def _label_room(self) -> float:
        """Pixels right of the axes."""
        names = _names(self.panel)
        columns = label_columns(len(names), _HEIGHT - _TOP - _BOTTOM)
        longest = max(len(self.letters.get(name, name)) for name in names)
        return 14 + LABEL_COLUMN * (columns - 1) + _LABEL_WIDTH * longest

    def _at(self, point: Point, time_s: float) -> tuple[float, float]:
        value = time_s if self.time else _busbw(point, time_s) / self.unit
        return self.x.at(math.log2(point.size_bytes)), self.y.at(value)

    def _bound(self, name: str, points: Sequence[Point]) -> str:
        places = [self._at(p, p.time_s) for p in points]
        if len(places) == 1:
            places = [(places[0][0] - 9, places[0][1]), (places[0][0] + 9, places[0][1])]
        line = element("path", d=path_of(places), class_="bound")
        marks = [
            mark(*self._at(p, p.time_s), None, self._words(name, p), size_bytes=p.size_bytes, time_s=p.time_s)
            for p in points
        ]
        return group(line, *marks, class_="series", data_series=_series_id(name, self.numbers))

    def _rate(self, name: str, rate: float) -> str:
        y = self.y.at(rate / self.unit)
        line = element("path", d=f"M{self.chart.left:g} {y:.2f}H{self.chart.right:g}", class_="rate")
        return group(line, class_="series", data_series=_series_id(name, self.numbers))

    def _line(self, series: Series) -> str:
        number, points = self.numbers[series.name], series.points
        own, middle = colour(number), [self._at(p, p.time_s) for p in points]
        dash = None if series.measured else "7 4.5"
        line = element("path", d=path_of(middle), class_="line", stroke=own, stroke_dasharray=dash)
        marks = [
            mark(
                *place, number, self._words(series.name, p), hollow=not series.measured, size=3.6,
                size_bytes=p.size_bytes, time_s=p.time_s,
            )
            for place, p in zip(middle, points, strict=True)
        ]  # fmt: skip
        band = self._band(points, own) if series.measured else ""
        return group(band, line, *marks, class_="series", data_series=str(number))

    def _band(self, points: Sequence[Point], own: str) -> str:
        """From the fastest iteration to the slowest."""
        low, high = [self._at(p, p.low_s) for p in points], [self._at(p, p.high_s) for p in points]
        if len(points) == 1:
            (x, y0), (_, y1) = low[0], high[0]
            return element("path", d=f"M{x:.2f} {y0:.2f}V{y1:.2f}", stroke=own, stroke_width=5, stroke_opacity=0.25)
        return element("path", d=path_of([*low, *high[::-1]], close=True), fill=own, fill_opacity=0.18)

    def _words(self, name: str, point: Point) -> list[str]:
        """What is told of a point."""
        words = [name, f"{format_bytes(point.size_bytes)}: {time_text(point.time_s)}"]
        if point.high_s > point.low_s:
            words.append(f"fastest {time_text(point.low_s)}, slowest {time_text(point.high_s)}")
        if self.panel.ranks > 1:
            words.append(f"busbw {format_bandwidth(_busbw(point, point.time_s))}")
        return words

    def _labels(self) -> list[str]:
        """One label per name, at the end of its measured line if it has one."""
        ends: dict[str, float] = {name: self.y.at(rate / self.unit) for name, rate in self.rates.items()}
        for series in self.panel.series:
            ends.setdefault(series.name, self._at(series.points[-1], series.points[-1].time_s)[1])
        ends |= {name: self._at(points[-1], points[-1].time_s)[1] for name, points in self.panel.bounds.items()}
        places = label_places(list(ends.values()), self.chart.top, self.chart.bottom)
        return [
            text(
                self.chart.right + 8 + right, height, self.letters.get(name, name), fill=colour(self.numbers.get(name)),
                class_="name", data_toggle=_series_id(name, self.numbers),
            )
            for name, (right, height) in zip(ends, places, strict=True)
        ]  # fmt: skip


def _busbw(point: Point, time_s: float) -> float:
    """Bytes/s."""
    return point.size_bytes / time_s * point.busbw_factor
