# SPDX-License-Identifier: Apache-2.0
"""Lanes by time: passes coloured, bubbles hatched; for measured pipelines and for simulated ones alike.

The input is plain: :class:`Bar` rows ``(lane, start_s, end_s, kind, label)``, whatever they come from. Several panels
of one figure share their time axis, so that what was measured stands above what was simulated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from commbench.report.style import (
    MUTED,
    PAPER,
    WIDTH,
    Picture,
    bare_axes,
    css_variable,
    drawing,
    new_figure,
    series_colour,
    to_picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "Panel", "PassKey", "pass_keys", "pipeline_chart"]

_MOST_LANES, _MOST_BARS = 32, 6000  # per panel; what is more is left out, and the detail line says so
_ROW, _GAP = 26, 4
_TOP, _BETWEEN, _BOTTOM, _LEFT, _RIGHT = 24, 40, 44, 76, 16
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_COLOURS = {"F": series_colour(0), "B": series_colour(1), "I": series_colour(1), "W": series_colour(2)}
_WORDS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
_PALEST, _PALER = 0.45, 0.25  # later stages of a lane are paler, by so much each


@dataclass(frozen=True, slots=True)
class Bar:
    """One pass.

    Attributes:
        lane: row, 0 and up. start_s, end_s: seconds from the panel's origin.
        kind: "F", "B", "I" or "W". label: short, for example the microbatch; drawn where there is room.
        chunk: 0 for the first stage of the lane, 1 for its second and so on.
    """

    lane: int
    start_s: float
    end_s: float
    kind: str
    label: str
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars under a title of their own; ``lanes`` are the names of the rows."""

    title: str
    lanes: tuple[str, ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class PassKey:
    """A word and the CSS variable of its colour, for the key above the chart."""

    word: str
    variable: str


def pass_keys(panels: Sequence[Panel]) -> tuple[PassKey, ...]:
    """The key of the passes that occur."""
    there = {bar.kind for panel in panels for bar in panel.bars}
    return tuple(PassKey(_WORDS[kind], css_variable(_COLOURS[kind])) for kind in "FBIW" if kind in there)


def pipeline_chart(panels: Sequence[Panel], name: str, *, title: str, detail: str = "") -> Picture:
    """Panels one below the other on one time axis; ``name`` is unique on the page."""
    shown = [_shown(panel) for panel in panels]
    until = max(bar.end_s for panel in shown for bar in panel.bars)
    factor, unit = next(((f, u) for f, u in _SECONDS if until >= f), _SECONDS[-1])
    heights = [_ROW * len(panel.lanes) for panel in shown]
    total = _TOP + sum(heights) + _BETWEEN * (len(shown) - 1) + _BOTTOM
    with drawing():
        figure = new_figure(WIDTH, total)
        above = _TOP
        for number, (panel, height) in enumerate(zip(shown, heights, strict=True)):
            axes = bare_axes(figure, left=_LEFT, right=_RIGHT, top=above, bottom=total - above - height)
            axes.set_xlim(0, until / factor)
            axes.set_title(panel.title, loc="left", fontsize=12, color=MUTED, pad=5)
            if number == len(shown) - 1:
                axes.set_xlabel(f"time ({unit})")
            _draw(axes, panel, factor)
            above += height + _BETWEEN
        left_out = _left_out(panels, shown)
        words = "; ".join(filter(None, (detail, left_out)))
        return to_picture(figure, name, title=title, detail=words, label=f"{title}, {detail}: lanes by time")


def _shown(panel: Panel) -> Panel:
    """What is drawn of a panel."""
    lanes = panel.lanes[:_MOST_LANES]
    bars = sorted((bar for bar in panel.bars if bar.lane < len(lanes)), key=lambda bar: (bar.start_s, bar.lane))
    return Panel(panel.title, lanes, tuple(bars[:_MOST_BARS]))


def _left_out(panels: Sequence[Panel], shown: Sequence[Panel]) -> str:
    lanes = max(len(panel.lanes) - len(less.lanes) for panel, less in zip(panels, shown, strict=True))
    bars = max(len(panel.bars) - len(less.bars) for panel, less in zip(panels, shown, strict=True))
    if lanes:
        return f"shown: the first {_MOST_LANES} lanes"
    return f"shown: the first {_MOST_BARS:,} passes" if bars else ""


def _draw(axes: "Axes", panel: Panel, factor: float) -> None:
    from matplotlib.patches import Rectangle

    axes.set_ylim(len(panel.lanes) - 0.5, -0.5)
    axes.grid(False)
    axes.set_yticks(range(len(panel.lanes)), panel.lanes)
    height = 1 - _GAP / _ROW
    begin, end = min(bar.start_s for bar in panel.bars), max(bar.end_s for bar in panel.bars)
    idle: dict[str, Any] = {"facecolor": "none", "edgecolor": MUTED, "hatch": "////", "linewidth": 0, "alpha": 0.45}
    for lane in range(len(panel.lanes)):
        axes.add_patch(Rectangle((begin / factor, lane - height / 2), (end - begin) / factor, height, **idle))
    pixels = (WIDTH - _LEFT - _RIGHT) / axes.get_xlim()[1]
    for bar in panel.bars:
        x, width = bar.start_s / factor, (bar.end_s - bar.start_s) / factor
        corner, opacity = (x, bar.lane - height / 2), max(_PALEST, 1 - _PALER * bar.chunk)
        axes.add_patch(Rectangle(corner, width, height, facecolor=PAPER, linewidth=0))
        look: dict[str, Any] = {"facecolor": _COLOURS[bar.kind], "alpha": opacity, "edgecolor": PAPER}
        axes.add_patch(Rectangle(corner, width, height, linewidth=min(0.8, width * pixels / 6), **look))
        if width * pixels >= 7 * len(bar.label) + 5:
            middle = (x + width / 2, bar.lane)
            axes.text(*middle, bar.label, color=PAPER, fontsize=10, ha="center", va="center_baseline")
