# SPDX-License-Identifier: Apache-2.0
"""Lanes by time: passes coloured, bubbles hatched; for measured pipelines, their twins and training steps alike.

The input is plain: :class:`PassBar` rows ``(lane, start_s, end_s, kind, label)``, from anywhere. Several panels
of one figure share their time axis, so that what was measured stands above what was simulated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from commbench.report.style import (
    HATCHED,
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

__all__ = ["PassBar", "PassKey", "PassPanel", "pass_keys", "pipeline_chart"]

_MOST_LANES, _MOST_BARS = 32, 6000  # per panel; what is more is left out, and the detail line says so
_ROW, _GAP = 26, 4
_TOP, _BARE_TOP, _BETWEEN, _BOTTOM, _LEFT, _RIGHT = 24, 10, 40, 44, 76, 16
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_COLOURS = {"F": series_colour(0), "B": series_colour(1), "I": series_colour(3), "W": series_colour(2)}
_STRIPED = frozenset("I")  # told from B and W in grey, too
_WORDS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
_PALEST, _PALER = 0.45, 0.25  # later stages of a lane are paler, by so much each


@dataclass(frozen=True, slots=True)
class PassBar:
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
class PassPanel:
    """Bars, at least one, under a title of their own, which may be empty; ``lanes`` are the names of the rows."""

    title: str
    lanes: tuple[str, ...]
    bars: tuple[PassBar, ...]


@dataclass(frozen=True, slots=True)
class PassKey:
    """A word, the CSS variable of its colour, and whether it is striped, for the key above the chart."""

    word: str
    variable: str
    striped: bool = False

    @property
    def background(self) -> str:
        """As CSS."""
        colour = f"var({self.variable})"
        return f"repeating-linear-gradient(45deg, {colour} 0 4px, var(--paper) 4px 5px)" if self.striped else colour


def pass_keys(panels: Sequence[PassPanel]) -> tuple[PassKey, ...]:
    """The key of the passes that occur."""
    there = {bar.kind for panel in panels for bar in panel.bars}
    kinds = [kind for kind in "FBIW" if kind in there]
    return tuple(PassKey(_WORDS[kind], css_variable(_COLOURS[kind]), kind in _STRIPED) for kind in kinds)


def pipeline_chart(
    panels: Sequence[PassPanel], name: str, *, title: str, detail: str = "", until_s: float = 0.0
) -> Picture:
    """Panels one below the other on one time axis.

    Args:
        panels: of which at most 32 lanes and 6,000 passes each are drawn; the detail line says what is left out.
        name: unique on the page.
        title, detail: above the chart.
        until_s: where the time axis ends at the least, in seconds, unless passes are left out.
    """
    shown = [_shown(panel) for panel in panels]
    until = max(bar.end_s for panel in shown for bar in panel.bars)
    if not any(map(_too_many, panels)):
        until = max(until, until_s)
    factor, unit = next(((f, u) for f, u in _SECONDS if until >= f), _SECONDS[-1])
    heights = [_ROW * len(panel.lanes) for panel in shown]
    top = _TOP if shown[0].title else _BARE_TOP
    total = top + sum(heights) + _BETWEEN * (len(shown) - 1) + _BOTTOM
    with drawing():
        figure = new_figure(WIDTH, total)
        above = top
        for number, (panel, height) in enumerate(zip(shown, heights, strict=True)):
            axes = bare_axes(figure, left=_LEFT, right=_RIGHT, top=above, bottom=total - above - height)
            axes.set_xlim(0, until / factor)
            axes.set_title(panel.title, loc="left", fontsize=12, color=MUTED, pad=5)
            if number == len(shown) - 1:
                axes.set_xlabel(f"time ({unit})")
            _draw(axes, panel, factor)
            above += height + _BETWEEN
        words = "; ".join(filter(None, (detail, _left_out(panels))))
        return to_picture(figure, name, title=title, detail=words, label=f"{title}, {detail}: lanes by time")


def _shown(panel: PassPanel) -> PassPanel:
    """What is drawn of a panel."""
    lanes = panel.lanes[:_MOST_LANES]
    bars = sorted((bar for bar in panel.bars if bar.lane < len(lanes)), key=lambda bar: (bar.start_s, bar.lane))
    return PassPanel(panel.title, lanes, tuple(bars[:_MOST_BARS]))


def _too_many(panel: PassPanel) -> bool:
    """Whether passes are left out of the lanes that are drawn."""
    return sum(bar.lane < _MOST_LANES for bar in panel.bars) > _MOST_BARS


def _left_out(panels: Sequence[PassPanel]) -> str:
    lanes = max(len(panel.lanes) for panel in panels)
    words = [f"{_MOST_LANES} of {lanes} lanes"] if lanes > _MOST_LANES else []
    if any(map(_too_many, panels)):
        words.append(f"{_MOST_BARS:,} passes")
    return f"shown: the first {' and '.join(words)}" if words else ""


def _draw(axes: "Axes", panel: PassPanel, factor: float) -> None:
    from matplotlib.patches import Rectangle

    axes.set_ylim(len(panel.lanes) - 0.5, -0.5)
    axes.grid(False)
    axes.set_yticks(range(len(panel.lanes)), panel.lanes)
    height = 1 - _GAP / _ROW
    begin, end = min(bar.start_s for bar in panel.bars), max(bar.end_s for bar in panel.bars)
    for lane in range(len(panel.lanes)):
        axes.add_patch(Rectangle((begin / factor, lane - height / 2), (end - begin) / factor, height, **HATCHED))
    pixels = (WIDTH - _LEFT - _RIGHT) / axes.get_xlim()[1]
    for bar in panel.bars:
        x, width = bar.start_s / factor, (bar.end_s - bar.start_s) / factor
        corner, opacity = (x, bar.lane - height / 2), max(_PALEST, 1 - _PALER * bar.chunk)
        axes.add_patch(Rectangle(corner, width, height, facecolor=PAPER, linewidth=0))
        look: dict[str, Any] = {"facecolor": _COLOURS[bar.kind], "alpha": opacity, "edgecolor": PAPER}
        look |= {"hatch": "//"} if bar.kind in _STRIPED else {}
        axes.add_patch(Rectangle(corner, width, height, linewidth=min(0.8, width * pixels / 6), **look))
        if width * pixels >= 7 * len(bar.label) + 5:
            middle = (x + width / 2, bar.lane)
            axes.text(*middle, bar.label, color=PAPER, fontsize=10, ha="center", va="center_baseline")
