# SPDX-License-Identifier: Apache-2.0
"""Lanes by time: passes coloured, bubbles hatched; for measured pipelines, their twins and training steps alike.

The input is plain: :class:`PassBar` rows ``(lane, start_s, end_s, kind, label)``, from anywhere. Several panels
of one figure share their time axis, so that what was measured stands above what was simulated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from commbench.report.chart import Chart
from commbench.report.lanes import LaneBar, LaneChart, names_width
from commbench.report.style import WIDTH, Picture
from commbench.report.svg import colour, element, hatch, paper_hatch, text
from commbench.report.text import time_text
from commbench.results.spans import PASSES

__all__ = ["PassBar", "PassKey", "PassPanel", "pass_keys", "pipeline_chart"]

_MOST_LANES, _MOST_BARS = 32, 6000  # per panel; what is more is left out, and the detail line says so
_ROW, _GAP = 26, 4
_TOP, _BARE_TOP, _BETWEEN, _BOTTOM, _RIGHT = 24, 10, 40, 44, 16
_COLOURS = {"F": colour(0), "B": colour(1), "I": colour(3), "W": colour(2)}
_STRIPED = frozenset("I")  # told from B and W in grey, too
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
    """A word, its colour as CSS, and whether it is striped, for the key above the chart."""

    word: str
    colour: str
    striped: bool = False

    @property
    def background(self) -> str:
        """As CSS."""
        stripes = f"repeating-linear-gradient(45deg, {self.colour} 0 4px, var(--paper) 4px 5px)"
        return stripes if self.striped else self.colour


def pass_keys(panels: Sequence[PassPanel]) -> tuple[PassKey, ...]:
    """The key of the passes that occur."""
    there = {bar.kind for panel in panels for bar in panel.bars}
    kinds = [kind for kind in "FBIW" if kind in there]
    return tuple(PassKey(PASSES[kind], _COLOURS[kind], kind in _STRIPED) for kind in kinds)


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
    heights = [_ROW * len(panel.lanes) for panel in shown]
    top = _TOP if shown[0].title else _BARE_TOP
    total = top + sum(heights) + _BETWEEN * (len(shown) - 1) + _BOTTOM
    left = names_width(lane for panel in shown for lane in panel.lanes)
    chart = Chart(name, WIDTH, total, left=left, right=_RIGHT, top=top, bottom=_BOTTOM)
    chart.add(element("defs", hatch(f"{name}-idle"), paper_hatch(f"{name}-stripes")))
    rows = LaneChart(chart, until)
    for panel, height in zip(shown, heights, strict=True):
        if panel.title:
            chart.add(text(chart.left, top - 11, panel.title, class_="tick"))
        for lane, lane_name in enumerate(panel.lanes):
            rows.row(top + (lane + 0.5) * _ROW, lane_name)
        rows.bars([*_idle(panel, name, top), *(each for bar in panel.bars for each in _bar(bar, panel, name, top))])
        top += height + _BETWEEN
    words = "; ".join(filter(None, (detail, _left_out(panels))))
    return rows.picture(title=title, detail=words, label=f"{title}, {detail}: lanes by time")


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


def _idle(panel: PassPanel, name: str, top: float) -> Iterator[LaneBar]:
    """Behind the passes of every lane, from the first of all to the last."""
    begin, end = min(bar.start_s for bar in panel.bars), max(bar.end_s for bar in panel.bars)
    for lane in range(len(panel.lanes)):
        yield LaneBar(begin, end, top + lane * _ROW + _GAP / 2, _ROW - _GAP, f"url(#{name}-idle)", look="idle")


def _bar(bar: PassBar, panel: PassPanel, name: str, top: float) -> Iterator[LaneBar]:
    """One pass: paper that hides what is behind, colour, and stripes where they tell the kind."""
    place = (bar.start_s, bar.end_s, top + bar.lane * _ROW + _GAP / 2, float(_ROW - _GAP))
    opacity = max(_PALEST, 1 - _PALER * bar.chunk)
    chunk = f", chunk {bar.chunk}" if bar.chunk else ""
    words = (
        f"{panel.lanes[bar.lane]}: {PASSES[bar.kind]} of microbatch {bar.label}{chunk}",
        f"{time_text(bar.start_s)} to {time_text(bar.end_s)}: {time_text(bar.end_s - bar.start_s)}",
    )
    if opacity < 1:
        yield LaneBar(*place, "var(--paper)")
    label = "" if bar.kind in _STRIPED else bar.label
    yield LaneBar(*place, _COLOURS[bar.kind], words, label, opacity=opacity if opacity < 1 else None)
    if bar.kind in _STRIPED:
        yield LaneBar(*place, f"url(#{name}-stripes)", words, bar.label, "striped")
