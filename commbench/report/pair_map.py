# SPDX-License-Identifier: Apache-2.0
"""A square for each pair of hosts or ranks: its part that is filled says how slow the pair is."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.report.chart import Chart
from commbench.report.style import WIDTH, Picture, for_both
from commbench.report.svg import colour, element, group, text, tip

__all__ = ["PairMark", "pair_map"]

_FEWEST, _MOST = 3, 64
"""Names of a map; with more, squares would be too small to read."""
_WIDEST, _SQUARE = 0.6 * WIDTH, 26.0  # pixels of a map, and of a square where there is room
_NAME_WIDTH, _MARGIN = 24.0, 60  # of a name above a column; beside the map


@dataclass(frozen=True, slots=True)
class PairMark:
    """One pair.

    Attributes:
        one, other: names. filled: share of its square. ratio: the raw value. words: shown where it is pointed at.
        both_ways: whether it stands in both of its squares, else where the row of ``one`` meets the column of
            ``other``.
    """

    one: str
    other: str
    filled: float
    ratio: float
    words: tuple[str, ...]
    both_ways: bool = True


def pair_map(name: str, names: Sequence[str], marks: Sequence[PairMark], title: str, detail: str) -> Picture | None:
    """The map; None where there are too few names for one, or too many."""
    if not _FEWEST <= len(names) <= _MOST:
        return None
    widest = int(min(_WIDEST, _SQUARE * len(names))) + _MARGIN
    return for_both(lambda width, more: _drawn(f"{name}{more}", names, marks, width - _MARGIN, title, detail), widest)


def _drawn(
    name: str, names: Sequence[str], marks: Sequence[PairMark], side: float, title: str, detail: str
) -> Picture:
    at = {each: i for i, each in enumerate(names)}
    chart = Chart(name, side + _MARGIN, side + 40, left=50, right=10, top=30, bottom=10)
    cell = side / len(names)
    for mark in marks:
        places = [(at[mark.other], at[mark.one])]
        places += [(at[mark.one], at[mark.other])] if mark.both_ways else []
        chart.add(*(_square(chart, cell, column, row, mark) for column, row in places))
    for each in names[:: max(1, round(_NAME_WIDTH / cell), len(names) // 16)]:
        middle = cell * (at[each] + 0.5)
        chart.add(text(chart.left - 6, chart.top + middle, each, anchor="end", class_="tick"))
        chart.add(text(chart.left + middle, chart.top - 10, each, anchor="middle", class_="tick"))
    return chart.picture(title=title, detail=detail)


def _square(chart: Chart, cell: float, column: int, row: int, mark: PairMark) -> str:
    """A pair's square."""
    x, y = chart.left + cell * (column + 0.5), chart.top + cell * (row + 0.5)
    whole, full = 0.92 * cell, 0.92 * cell * mark.filled**0.5
    frame = element("rect", x=x - whole / 2, y=y - whole / 2, width=whole, height=whole, fill="var(--paper)",
                    stroke="var(--rule)")  # fmt: skip
    filled = element("rect", x=x - full / 2, y=y - full / 2, width=full, height=full, fill=colour(1)) if full else ""
    return group(tip(*mark.words), frame, filled, class_="mark", data_ratio=mark.ratio)
