# SPDX-License-Identifier: Apache-2.0
"""The picture of a crossover map: one tile per size and world size, coloured by the algorithm that wins there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from commbench.report.svg import channels, element, file_document, text
from commbench.units import format_bytes, format_time

if TYPE_CHECKING:
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
    sizes = sorted({r.size_bytes for r in records})
    ranks = sorted({r.ranks for r in records})
    winners = list(dict.fromkeys(r.winner for r in records if r.winner is not None))
    across = max(len(ranks), 3)
    legend_rows = -(-len(winners) // across) + 1
    width = _LEFT + across * _TILE[0] + 20
    height = _TOP + len(sizes) * _TILE[1] + 26 + (legend_rows + 1) * _LEGEND_ROW
    drawn = _heading(records[0])
    for column, n in enumerate(ranks):
        x = _LEFT + (column + 0.5) * _TILE[0]
        drawn.append(text(x, _TOP - 14, f"{n} ranks" if n > 1 else "1 rank", anchor="middle", fill=_FAINT))
    for row, size in enumerate(sizes):
        y = _TOP + (row + 0.5) * _TILE[1]
        drawn.append(text(_LEFT - 12, y, format_bytes(size), anchor="end", fill=_FAINT))
    for record in records:
        place = (ranks.index(record.ranks), sizes.index(record.size_bytes))
        drawn += _tile(record, place, _colour(record.winner, winners))
    drawn += _legend(records, winners, _TOP + len(sizes) * _TILE[1] + 26, across)
    return file_document(width, height, *drawn, font_size=12, fill=_INK)


def strength(margin: float | None) -> float:
    """How much of its colour a tile shows, 0..1; without a runner-up all of it."""
    share = 1.0 if margin is None else min(margin / FULL_MARGIN, 1.0)
    return _PALEST + (1 - _PALEST) * share


def _colour(winner: str | None, winners: Sequence[str]) -> str:
    return _NONE if winner is None else _COLOURS[winners.index(winner) % len(_COLOURS)]


def _mixed(colour: str, share: float) -> tuple[float, float, float]:
    """The colour on white paper."""
    red, green, blue = (part / 255 for part in channels(colour))
    return 1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue)


def _ink_on(colour: tuple[float, float, float]) -> str:
    """White or dark text, whichever has more contrast (WCAG 2.1, relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _PAPER if luminance < 0.2 else _INK


def _heading(record: "Crossover") -> list[str]:
    detail = f"simulated, routing {record.routing}, placement {record.placement}, seed {record.seed}"
    title = f"Fastest {record.collective} on {record.topology}"
    return [text(20, 24, title, font_size=16, font_weight="bold"), text(20, 48, detail, font_size=11, fill=_FAINT)]


def _tile(record: "Crossover", place: tuple[int, int], colour: str) -> list[str]:
    x, y = _LEFT + place[0] * _TILE[0], _TOP + place[1] * _TILE[1]
    mixture = _mixed(colour, strength(record.margin) if record.winner else 1.0)
    fill = "#" + "".join(f"{round(255 * part):02x}" for part in mixture)
    label = "none can run" if record.winner is None else record.label(record.winner)
    ink, middle = _ink_on(mixture), x + _TILE[0] / 2
    drawn = [
        element("rect", x=x + 1, y=y + 1, width=_TILE[0] - 2, height=_TILE[1] - 2, fill=fill),
        text(middle, y + 16, label, anchor="middle", fill=ink, font_size=11.5, font_weight="bold"),
    ]
    if record.winner is not None:
        note = format_time(record.times_s[record.winner]).replace("us", "µs")
        note += "" if record.margin is None else f", {_margin(record.margin)}"
        drawn.append(text(middle, y + 32, note, anchor="middle", fill=ink, font_size=10.5))
    return drawn


def _margin(margin: float) -> str:
    return "tie" if margin == 0 else f"+{margin:.0%}" if margin >= 0.1 else f"+{margin:.1%}"


def _legend(records: Sequence["Crossover"], winners: Sequence[str], top: float, across: int) -> list[str]:
    drawn = []
    for number, name in enumerate(winners):
        x = _LEFT + (number % across) * _TILE[0]
        y = top + (number // across) * _LEGEND_ROW
        drawn.append(element("rect", x=x, y=y - 7, width=14, height=14, fill=_colour(name, winners)))
        drawn.append(text(x + 21, y, name, font_size=11))
    y = top + -(-len(winners) // across) * _LEGEND_ROW
    words = f"+x: how much longer the runner-up takes; full colour from +{FULL_MARGIN:.0%}, paler the closer it comes"
    drawn.append(text(_LEFT, y, words, font_size=10.5, fill=_FAINT))
    if any(record.settings for record in records):
        drawn.append(text(_LEFT, y + 18, "c8: on 8 channels; s16: in 16 slices", font_size=10.5, fill=_FAINT))
    return drawn
