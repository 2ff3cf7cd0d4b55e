# SPDX-License-Identifier: Apache-2.0
"""The picture of a crossover map: one tile per size and world size, coloured by the algorithm that wins there."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commbench.report.fonts import load_matplotlib
from commbench.report.style import drawing, new_figure, svg_text
from commbench.units import format_bytes, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from commbench.sim.crossover import Crossover

__all__ = ["FULL_MARGIN", "crossover_svg", "strength"]

FULL_MARGIN = 0.5  # a runner-up that takes this much longer (or more) gives the winner its full colour
_PALEST = 0.28
# Told apart by the three common kinds of colour blindness too (P. Tol, qualitative schemes, SRON/EPS/TN/09-002).
_COLOURS = ("#332288", "#117733", "#aa4499", "#997700", "#0077bb", "#cc3311", "#009988", "#555555")
_INK, _FAINT, _PAPER, _NONE = "#1f2937", "#64748b", "#ffffff", "#e5e7eb"
_TILE = (156.0, 46.0)  # width and height in pixels
_LEFT, _TOP, _LEGEND_ROW = 84.0, 92.0, 24.0


def crossover_svg(records: Sequence["Crossover"]) -> str:
    """One self-contained ``<svg>``: rows are sizes, columns world sizes; equal input, equal text.

    The colour names the winner; it is the paler the closer the runner-up comes.
    """
    matplotlib = load_matplotlib()

    sizes = sorted({r.size_bytes for r in records})
    ranks = sorted({r.ranks for r in records})
    winners = list(dict.fromkeys(r.winner for r in records if r.winner is not None))
    across = max(len(ranks), 3)
    legend_rows = -(-len(winners) // across) + 1
    width = _LEFT + across * _TILE[0] + 20
    height = _TOP + len(sizes) * _TILE[1] + 26 + (legend_rows + 1) * _LEGEND_ROW
    with drawing(), matplotlib.rc_context({"text.color": _INK}):
        figure = new_figure(width, height)
        figure.set_facecolor(_PAPER)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        _heading(axes, records[0])
        for column, n in enumerate(ranks):
            x = _LEFT + (column + 0.5) * _TILE[0]
            axes.text(x, _TOP - 14, f"{n} ranks" if n > 1 else "1 rank", ha="center", va="center", color=_FAINT)
        for row, size in enumerate(sizes):
            y = _TOP + (row + 0.5) * _TILE[1]
            axes.text(_LEFT - 12, y, format_bytes(size), ha="right", va="center", color=_FAINT)
        for record in records:
            place = (ranks.index(record.ranks), sizes.index(record.size_bytes))
            _tile(axes, record, place, _colour(record.winner, winners))
        _legend(axes, records, winners, _TOP + len(sizes) * _TILE[1] + 26, across)
        text = svg_text(figure)
    return re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', text, count=2)  # pixels, not points


def strength(margin: float | None) -> float:
    """How much of its colour a tile shows, 0..1; without a runner-up all of it."""
    share = 1.0 if margin is None else min(margin / FULL_MARGIN, 1.0)
    return _PALEST + (1 - _PALEST) * share


def _colour(winner: str | None, winners: Sequence[str]) -> str:
    return _NONE if winner is None else _COLOURS[winners.index(winner) % len(_COLOURS)]


def _mixed(colour: str, share: float) -> tuple[float, float, float]:
    """The colour on white paper."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue)


def _ink_on(colour: tuple[float, float, float]) -> str:
    """White or dark text, whichever has more contrast (WCAG 2.1, relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _PAPER if luminance < 0.2 else _INK


def _heading(axes: "Axes", record: "Crossover") -> None:
    axes.text(20, 24, f"Fastest {record.collective} on {record.topology}", fontsize=16, weight="bold", va="center")
    detail = f"simulated, routing {record.routing}, placement {record.placement}, seed {record.seed}"
    axes.text(20, 48, detail, fontsize=11, color=_FAINT, va="center")


def _tile(axes: "Axes", record: "Crossover", place: tuple[int, int], colour: str) -> None:
    from matplotlib.patches import Rectangle

    x, y = _LEFT + place[0] * _TILE[0], _TOP + place[1] * _TILE[1]
    fill = _mixed(colour, strength(record.margin) if record.winner else 1.0)
    axes.add_patch(Rectangle((x + 1, y + 1), _TILE[0] - 2, _TILE[1] - 2, facecolor=fill, linewidth=0))
    label = "none can run" if record.winner is None else record.label(record.winner)
    ink, middle = _ink_on(fill), x + _TILE[0] / 2
    axes.text(
        middle, y + 16, label, ha="center", va="center", color=ink, fontsize=11.5, weight=700
    )
    if record.winner is not None:
        note = format_time(record.times_s[record.winner]).replace("us", "µs")
        note += "" if record.margin is None else f", {_margin(record.margin)}"
        axes.text(middle, y + 32, note, ha="center", va="center", color=ink, fontsize=10.5)


def _margin(margin: float) -> str:
    return "tie" if margin == 0 else f"+{margin:.0%}" if margin >= 0.1 else f"+{margin:.1%}"


def _legend(axes: "Axes", records: Sequence["Crossover"], winners: Sequence[str], top: float, across: int) -> None:
    from matplotlib.patches import Rectangle

    for number, name in enumerate(winners):
        x = _LEFT + (number % across) * _TILE[0]
        y = top + (number // across) * _LEGEND_ROW
        axes.add_patch(Rectangle((x, y - 7), 14, 14, facecolor=_colour(name, winners), linewidth=0))
        axes.text(x + 21, y, name, va="center", fontsize=11)
    y = top + -(-len(winners) // across) * _LEGEND_ROW
    words = f"+x: how much longer the runner-up takes; full colour from +{FULL_MARGIN:.0%}, paler the closer it comes"
    axes.text(_LEFT, y, words, va="center", fontsize=10.5, color=_FAINT)
    if any(record.settings for record in records):
        axes.text(
            _LEFT, y + 18, "c8: on 8 channels; s16: in 16 slices", va="center", fontsize=10.5, color=_FAINT
        )
