# SPDX-License-Identifier: Apache-2.0
"""Axes and marks of the page's charts, on the writer of :mod:`commbench.report.svg`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from commbench.report.axes import Tick
from commbench.report.style import Picture
from commbench.report.svg import Value, document, element, glyph, group, text, tip

__all__ = ["Chart", "Scale", "mark", "path_of"]

_TICK, _GAP = 4.0, 6.0  # pixels of a tick, and between an axis and its words
_REACH = 9.0  # pixels around a marker at which it is pointed at


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels: ``low`` stands at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


class Chart:
    """A picture that is being drawn: a plot area with margins in pixels, and what stands in it in order of drawing."""

    def __init__(
        self, name: str, width: float, height: float, *, left: float, right: float, top: float, bottom: float
    ) -> None:
        self.name, self.width, self.height = name, width, height
        self.left, self.right, self.top, self.bottom = left, width - right, top, height - bottom
        self._parts: list[str] = []

    def add(self, *parts: str) -> None:
        """Draw these above what is there."""
        self._parts += parts

    def across(self, low: float, high: float) -> Scale:
        """A scale from the left edge of the plot area to the right one."""
        return Scale(low, high, self.left, self.right)

    def upward(self, low: float, high: float, *, log: bool = False) -> Scale:
        """A scale from the lower edge of the plot area to the upper one."""
        return Scale(low, high, self.bottom, self.top, log)

    def left_axis(self, scale: Scale, ticks: Sequence[Tick]) -> None:
        """Words left of the plot area, and level lines across it."""
        for value, words in ticks:
            y = scale.at(value)
            self.add(element("path", d=f"M{self.left:g} {y:.2f}H{self.right:g}", class_="rule"))
            self.add(text(self.left - _GAP, y, words, anchor="end", class_="tick"))

    def bottom_axis(self, scale: Scale, ticks: Sequence[Tick], title: str = "") -> None:
        """The base line, words below it, and what they are of."""
        self.add(element("path", d=f"M{self.left:g} {self.bottom:g}H{self.right:g}", class_="rule"))
        for value, words in ticks:
            x = scale.at(value)
            self.add(element("path", d=f"M{x:.2f} {self.bottom:g}v{_TICK:g}", class_="rule"))
            self.add(text(x, self.bottom + 13, words, anchor="middle", class_="tick"))
        if title:
            middle = (self.left + self.right) / 2
            self.add(text(middle, self.bottom + 33, title, anchor="middle", class_="tick"))

    def picture(self, *, title: str = "", detail: str = "", label: str = "", **attributes: Value) -> Picture:
        """What was drawn; ``attributes`` are those of the whole."""
        spoken = label or f"{title} {detail}".strip()
        return Picture(document(self.width, self.height, *self._parts, label=spoken, **attributes), title, detail)


def path_of(points: Sequence[tuple[float, float]], *, close: bool = False) -> str:
    """A line through these points, as the ``d`` of a path."""
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points) + ("Z" if close else "")


def mark(
    x: float,
    y: float,
    number: int | None,
    words: Sequence[str],
    *,
    hollow: bool = False,
    size: float = 4.0,
    **data: Value,
) -> str:
    """A marker that tells its ``words`` when it is pointed at, a line each; ``data`` become data attributes.

    A bound has no number, and of it there is only the place to point at.
    """
    own = {f"data_{name}": value for name, value in data.items()}
    shape = "" if number is None else glyph(x, y, number, hollow=hollow, size=size)
    place = element("circle", cx=x, cy=y, r=_REACH, class_="reach")
    return group(tip(*words), shape, place, class_="mark", **own)
