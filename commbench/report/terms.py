# SPDX-License-Identifier: Apache-2.0
"""Where the time of simulated collectives went: stacked bars that add up, the same as a table, and what follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commbench.report.identity import base_name, labels
from commbench.report.stacked import BarPart, StackedBar, stacked_bars
from commbench.report.style import Picture
from commbench.report.svg import colour
from commbench.report.tables import Column, Table, bytes_cell, time_cell, word_cell
from commbench.report.text import plural, time_text
from commbench.results.records import Record, Simulated
from commbench.results.terms import REST, terms_ps
from commbench.units import format_bytes, seconds

__all__ = ["TermKey", "Terms", "time_terms", "whole_terms"]

_MOST_BARS = 16
_COLOURS: Mapping[str, str] = {
    "launch": colour(5),
    "message overhead": colour(5),
    "latency": colour(3),
    "wire": colour(0),
    "fill": colour(6),
    "contention": colour(1),
    "reduction": colour(2),
    "base": colour(5),
    "floor": colour(5),
    "copy": colour(2),
}
_OTHERS = (colour(4), colour(7), colour(6), colour(3))


@dataclass(frozen=True, slots=True)
class TermKey:
    """A term and its colour as CSS."""

    word: str
    colour: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the template draws: bars with their key, a table, and sentences that follow from it."""

    bars: Picture
    keys: tuple[TermKey, ...]
    table: Table
    notes: tuple[str, ...]


def whole_terms(record: Simulated) -> dict[str, float]:
    """Seconds by term, which add up to the record's time."""
    return {name: seconds(value) for name, value in terms_ps(record).items()}


def time_terms(records: Sequence[Record]) -> Terms | None:
    """Of the simulated sizes that have terms; None if there are none."""
    points = [r for r in records if isinstance(r, Simulated) and r.terms and r.time_s > 0]
    if not points:
        return None
    names = [
        f"{', '.join((base_name(p), *words))}, {format_bytes(p.size_bytes)}"
        for p, words in zip(points, labels(points, known=("algorithm",)), strict=True)
    ]
    words = list(dict.fromkeys(word for p in points for word in whole_terms(p)))
    colours = {word: _colour(word, number) for number, word in enumerate(words)}
    shown = _spread(len(points))
    bars = [
        StackedBar(
            f"{names[i]}: {time_text(points[i].time_s)}",
            tuple(BarPart(word, time_s, colours[word]) for word, time_s in whole_terms(points[i]).items()),
        )
        for i in shown
    ]
    picture = stacked_bars("terms", bars, "share of the time (%)", label="Where the time of a collective goes")
    keys = tuple(TermKey(word, colours[word]) for word in words if any(whole_terms(p).get(word, 0) > 0 for p in points))
    return Terms(picture, keys, _table(points, names, words), tuple(_notes(points, len(shown))))


def _colour(word: str, number: int) -> str:
    return "" if word == REST else _COLOURS.get(word) or _OTHERS[number % len(_OTHERS)]


def _spread(count: int) -> list[int]:
    """Numbers of the bars that are drawn: all, or evenly spread ones."""
    if count <= _MOST_BARS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (_MOST_BARS - 1)) for i in range(_MOST_BARS)})


def _table(points: Sequence[Simulated], names: Sequence[str], words: Sequence[str]) -> Table:
    columns = (Column("simulated", numeric=False), Column("size"), Column("time"), *map(Column, words))
    rows = tuple(
        (
            word_cell(name),
            bytes_cell(p.size_bytes),
            time_cell(p.time_s),
            *(time_cell(whole_terms(p).get(word, 0.0)) for word in words),
        )
        for p, name in zip(points, names, strict=True)
    )
    return Table("terms", "Where the time goes, term by term", (), columns, rows)


def _notes(points: Sequence[Simulated], shown: int) -> list[str]:
    notes = [f"Drawn: {shown} of {plural(len(points), 'size')}."] if shown < len(points) else []
    free = [p for p in points if p.algorithm.startswith("ring") and p.terms.get("contention") == 0]
    for topology in dict.fromkeys(p.topology for p in free):
        notes.append(
            f"On {topology} every transfer of the ring had its links to itself: contention is 0. A ring sends to its "
            "neighbour alone, so on a fabric that does not block, the shape of the topology does not matter for it: "
            "any other one with links of this rate and routes of this latency takes as long."
        )
    return notes
