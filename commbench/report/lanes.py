# SPDX-License-Identifier: Apache-2.0
"""Bars in rows by time, which the page's script zooms and pans: transfers of ranks, passes of a pipeline.

Begin and end of every bar stand beside it in seconds, so that the script needs nothing else to draw a part of the time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from commbench.report.axes import even_ticks
from commbench.report.chart import Chart, Scale
from commbench.report.style import Picture
from commbench.report.svg import element, group, text, tip
from commbench.report.text import TIME_UNITS, fitted, words_width

__all__ = ["LaneBar", "LaneChart", "names_width"]

_LETTER, _AROUND = 7.0, 5.0  # pixels of a letter inside a bar, and beside the words
_LOWEST = 9.0  # pixels of a bar that words fit into
_TICKS = 10
_THINNEST = 0.4  # pixels; a bar that is shorter still shows
_SIZE, _WIDEST = 12.0, 190.0  # pixels of the font of a name, and of the longest name: a phone has room beside it
_BESIDE, _EDGE = 6.0, 4.0  # pixels between a name and its row, and at the edge of the picture


@dataclass(frozen=True, slots=True)
class LaneBar:
    """What took a while.

    Attributes:
        begin_s, end_s: seconds from the start of the chart. top, height: in pixels.
        fill: as SVG; "" for a plain frame. words: told when it is pointed at, a line each.
        label: short, shown where there is room. ink: class of the label: "paper", "light", "dark" or "striped".
        look: further classes, for example "critical". opacity: of the fill.
    """

    begin_s: float
    end_s: float
    top: float
    height: float
    fill: str
    words: tuple[str, ...] = ()
    label: str = ""
    ink: str = "paper"
    look: str = ""
    opacity: float | None = None


def names_width(names: Iterable[str]) -> float:
    """Pixels left of the rows that their names take, the longest of which are shortened."""
    return _EDGE + min(_WIDEST, max((words_width(name, _SIZE) for name in names), default=0.0)) + _BESIDE


class LaneChart:
    """Rows of bars over one time axis."""

    def __init__(self, chart: Chart, until_s: float) -> None:
        self._chart, self._until_s = chart, until_s
        self._x: Scale = chart.across(0.0, until_s)
        self._factor, self._unit = next((pair for pair in TIME_UNITS if until_s >= pair[0]), TIME_UNITS[-1])
        self._labels: list[str] = []
        ticks = [(tick * self._factor, f"{tick:g}") for tick in even_ticks(0.0, until_s / self._factor, _TICKS)]
        lines = "".join(f"M{self._x.at(at):.2f} {chart.top:g}V{chart.bottom:g}" for at, _ in ticks)
        words = (text(self._x.at(at), chart.bottom + 13, told, anchor="middle", class_="tick") for at, told in ticks)
        chart.add(element("path", d=f"M{chart.left:g} {chart.bottom:g}H{chart.right:g}", class_="rule"))
        chart.add(group(element("path", d=lines, class_="rule"), *words, class_="times"))
        middle = (chart.left + chart.right) / 2
        chart.add(text(middle, chart.bottom + 33, f"time ({self._unit})", anchor="middle", class_="tick time"))

    def row(self, middle: float, name: str) -> None:
        """The name of a row, at this height; of one that is too long the beginning."""
        shown = fitted(name, _SIZE, self._chart.left - _BESIDE)
        self._chart.add(text(self._chart.left - _BESIDE, middle, shown, anchor="end", class_="tick"))

    def bars(self, bars: Sequence[LaneBar]) -> None:
        """Draw these above what is there."""
        self._chart.add(*map(self._bar, bars))

    def picture(self, *, title: str, detail: str, label: str) -> Picture:
        """What was drawn."""
        self._chart.add(element("g", *self._labels, " ", class_="labels"))
        edges = {f"data_{name}": getattr(self._chart, name) for name in ("left", "right", "top", "bottom")}
        times = {"data_until": self._until_s, "data_factor": self._factor}
        return self._chart.picture(title=title, detail=detail, label=label, class_="chart zoom", **edges, **times)

    def _bar(self, bar: LaneBar) -> str:
        begin, end = self._x.at(bar.begin_s), self._x.at(min(bar.end_s, self._until_s))
        width = max(end - begin, _THINNEST)
        label = bar.label if bar.height >= _LOWEST else ""
        if label and width >= _LETTER * len(label) + _AROUND:
            middle = (begin + end) / 2
            self._labels.append(text(middle, bar.top + bar.height / 2, label, anchor="middle", class_=bar.ink))
        return element(
            "rect", *([tip(*bar.words)] if bar.words else []), x=begin, y=bar.top, width=width, height=bar.height,
            fill=bar.fill or None, fill_opacity=bar.opacity, class_=f"bar {bar.look}".strip(), data_b=bar.begin_s,
            data_e=bar.end_s, data_label=label or None, data_ink=bar.ink if label else None,
        )  # fmt: skip
