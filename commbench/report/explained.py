# SPDX-License-Identifier: Apache-2.0
"""The page of ``commbench explain``: from one time to the other, term by term."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.report.chart import Chart
from commbench.report.headlines import Verdict
from commbench.report.html import fill_page
from commbench.report.identity import NOTHING, identity
from commbench.report.style import WIDTH, Picture, for_both
from commbench.report.svg import element, group, text, tip
from commbench.report.tables import Cell, Column, Table, time_cell, word_cell
from commbench.report.text import percent, shortened, signed_percent, time_text
from commbench.results.outfile import write_whole
from commbench.results.records import Simulated
from commbench.units import seconds

if TYPE_CHECKING:
    from commbench.experiments.explain import Explanation, Term

__all__ = ["differing", "render_explained", "sentence", "write_explained"]

_ROW, _BAR, _RIGHT = 30, 18, 110
_LETTER, _LONGEST = 6.4, 28  # pixels of a letter, and letters of a name where there is room


def write_explained(found: "Sequence[Explanation]", path: Path, *, names: tuple[str, str], command: str) -> Path:
    """Write the page and return its path; ``names`` are those of A and B.

    Raises:
        InputError: the file cannot be written.
    """
    return write_whole(path, render_explained(found, names=names, command=command))


def render_explained(found: "Sequence[Explanation]", *, names: tuple[str, str], command: str) -> str:
    """The page as HTML text."""
    parts = [
        {
            "name": one.what,
            "differing": differing(one),
            "picture": for_both(partial(_waterfall, one, f"fall{number}", names)),
            "table": _table(one, f"terms{number}"),
        }
        for number, one in enumerate(found)
    ]
    context = {
        "over": "commbench explain",
        "title": f"Why {names[0]} and {names[1]} differ",
        "verdicts": [Verdict("plain", _word(one), f"{sentence(one, *names)}.") for one in found],
        "facts": [],
        "notes": [],
        "parts": parts,
        "names": names,
        "command": command,
    }
    return fill_page("explained.html.j2", context)


def _word(found: "Explanation") -> str:
    return "Longer" if found.difference_ps > 0 else "Shorter" if found.difference_ps else "The same"


def sentence(found: "Explanation", a: str, b: str) -> str:
    """Which takes longer, by how much, and what most of that is."""
    times = f"{a} takes {time_text(seconds(found.a_ps))}, {b} {time_text(seconds(found.b_ps))}"
    difference = found.difference_ps
    if not difference:
        return f"{found.what}: {times}: no difference"
    most = max(found.terms, key=lambda term: abs(term.difference_ps))
    share = f"{percent(abs(difference) / found.a_ps)} " if found.a_ps else ""
    how = f"{share}{'longer' if difference > 0 else 'shorter'}"
    return f"{found.what}: {times}, {how}; most of it: {most.name}, {_signed(most.difference_ps)}"


def differing(found: "Explanation") -> list[tuple[str, str, str]]:
    """Name and both texts of whatever tells the two results apart, but for the run that made them."""
    first, second = ({**identity(record), **_chosen(record)} for record in (found.a, found.b))
    names = [name for name in first if name != "run" and first[name] != second.get(name)]
    nothing = {name: NOTHING.get(name, "none") for name in names}
    return [(n.replace("_", " "), first[n] or nothing[n], second.get(n) or nothing[n]) for n in names]


def _chosen(record: object) -> dict[str, str]:
    """What a library with a model chose."""
    if not (isinstance(record, Simulated) and record.library_version):
        return {}
    return {"takes": f"{record.algorithm} {record.protocol}, channels {record.channels}"}


def _signed(picoseconds: int) -> str:
    sign = "+" if picoseconds > 0 else "−" if picoseconds < 0 else ""
    return f"{sign}{time_text(seconds(abs(picoseconds)))}"


def _waterfall(found: "Explanation", name: str, names: tuple[str, str], width: int, more: str) -> Picture:
    """A on top, B at the bottom, and between them every term from where the one before it has led."""
    moved = [term for term in found.terms if term.difference_ps]
    levels, reached = [found.a_ps], found.a_ps
    for term in moved:
        reached += term.difference_ps
        levels.append(reached)
    longest = _LONGEST if width == WIDTH else _LONGEST * 3 // 4
    left, right = 10 + _LETTER * longest, _RIGHT if width == WIDTH else _RIGHT / 1.5
    chart = Chart(name + more, width, _ROW * (len(moved) + 2) + 16, left=left, right=right, top=8, bottom=8)
    x = chart.across(min(0, *levels), max(1, *levels))
    ends = [(names[0], 0, found.a_ps, "var(--muted)"), *_steps(moved, levels), (names[1], 0, found.b_ps, "var(--s0)")]
    chart.add(element("path", d=f"M{x.at(0):.2f} {chart.top:g}V{chart.bottom:g}", class_="rule"))
    for row, (words, begin, end, fill) in enumerate(ends):
        y = chart.top + (row + 0.5) * _ROW
        told = _signed(end - begin) if begin or 0 < row <= len(moved) else time_text(seconds(end))
        low, high = sorted((x.at(begin), x.at(end)))
        bar = element("rect", x=low, y=y - _BAR / 2, width=max(high - low, 0.8), height=_BAR, fill=fill)
        label = text(chart.left - 8, y, shortened(words, longest), anchor="end")
        value = text(high + 6, y, told, class_="tick")
        data = {"data_ps": str(end - begin)}
        chart.add(group(tip(words, told), bar, label, value, class_="mark", **data))
    return chart.picture(label=f"From {names[0]} to {names[1]}, term by term")


def _steps(moved: "Sequence[Term]", levels: Sequence[int]) -> list[tuple[str, int, int, str]]:
    colours = {True: "var(--s1)", False: "var(--s2)"}
    spans = zip(moved, levels, levels[1:], strict=False)
    return [(term.name, begin, end, colours[end > begin]) for term, begin, end in spans]


def _table(found: "Explanation", name: str) -> Table:
    columns = (Column("term", numeric=False), Column("A"), Column("B"), Column("B − A"), Column("of the difference"))
    rows = [_row(term.name, term.a_ps, term.b_ps, found.difference_ps) for term in found.terms]
    rows.append(_row("time", found.a_ps, found.b_ps, found.difference_ps))
    return Table(name, f"{found.what}: terms", (), columns, tuple(rows))


def _row(name: str, a_ps: int, b_ps: int, whole_ps: int) -> tuple[Cell, ...]:
    change = b_ps - a_ps
    of_it = change / whole_ps if whole_ps else 0.0
    share = Cell(signed_percent(of_it), of_it) if whole_ps else Cell("n/a", -1, tone="muted")
    signed = Cell(_signed(change).split("\N{NO-BREAK SPACE}")[0], seconds(change), _unit(change), raw_unit="s")
    return word_cell(name), time_cell(seconds(a_ps)), time_cell(seconds(b_ps)), signed, share


def _unit(picoseconds: int) -> str:
    return time_text(seconds(abs(picoseconds))).split("\N{NO-BREAK SPACE}")[1]
