# SPDX-License-Identifier: Apache-2.0
"""Stacked bars that add up: where a time went, part by part."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.report.chart import Chart, Scale
from commbench.report.style import Picture, for_both
from commbench.report.svg import element, group, hatch, text, tip
from commbench.report.text import percent, shortened, time_text

__all__ = ["BarPart", "StackedBar", "stacked_bars"]

_ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 16, 2, 44
_HEIGHT, _DROP = 26, 31  # pixels of a bar, and from the top of its row to its middle
_LABEL = 34  # pixels that a share needs
_LETTER = 6.2  # of a letter of a title


@dataclass(frozen=True, slots=True)
class BarPart:
    """What time went to; ``fill`` is a colour as CSS, "" for time in which nothing happens, which is hatched."""

    word: str
    time_s: float
    fill: str
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class StackedBar:
    """One bar under its title; the whole is the sum of its parts."""

    title: str
    parts: tuple[BarPart, ...]


def stacked_bars(name: str, bars: Sequence[StackedBar], title: str, *, label: str) -> Picture:
    """Each bar as shares of its whole; ``title`` is that of the axis, ``label`` what a screen reader says."""
    return for_both(lambda width, more: _drawn(name + more, width, bars, title, label))


def _drawn(name: str, width: int, bars: Sequence[StackedBar], title: str, label: str) -> Picture:
    height = _ROW * len(bars) + _TOP + _BOTTOM
    chart = Chart(name, width, height, left=_LEFT, right=_RIGHT, top=_TOP, bottom=_BOTTOM)
    chart.add(element("defs", hatch(f"{name}-idle")))
    x = chart.across(0, 1)
    chart.bottom_axis(x, [(share / 100, str(share)) for share in range(0, 101, 20)], title)
    for row, bar in enumerate(bars):
        chart.add(*_bar(bar, x, _TOP + row * _ROW, f"url(#{name}-idle)"))
    return chart.picture(label=label)


def _bar(bar: StackedBar, x: Scale, top: float, idle: str) -> list[str]:
    title = shortened(bar.title, int((x.end - x.start) / _LETTER))
    drawn, done_s = [text(x.start, top + 9, title, fill="var(--ink)")], 0.0
    whole_s = sum(part.time_s for part in bar.parts)
    for part in bar.parts:
        if part.time_s > 0:
            begin, end = x.at(done_s / whole_s), x.at((done_s + part.time_s) / whole_s)
            drawn.append(_part(part, begin, end, top + _DROP, part.time_s / whole_s, idle))
        done_s += part.time_s
    return drawn


def _part(part: BarPart, begin: float, end: float, middle: float, share: float, idle: str) -> str:
    words = tip(part.word, f"{time_text(part.time_s)}, {percent(share)}")
    box = element(
        "rect", x=begin, y=middle - _HEIGHT / 2, width=end - begin, height=_HEIGHT, fill=part.fill or idle,
        fill_opacity=part.opacity if part.opacity < 1 else None, stroke="var(--paper)" if part.fill else None,
        stroke_width=0.8,
    )  # fmt: skip
    told = f"{100 * share:.0f} %" if end - begin >= _LABEL else ""
    ink = "paper" if part.fill else "tick"
    written = text((begin + end) / 2, middle, told, anchor="middle", class_=ink) if told else ""
    return group(words, box, written, class_="mark", data_part=part.word, data_time_s=part.time_s)
