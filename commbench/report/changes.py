# SPDX-License-Identifier: Apache-2.0
"""Comparisons of runs on a page: what changed by size, the history of many runs, what was not compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from commbench.report.axes import label_places, log_limits, time_ticks
from commbench.report.chart import Chart, mark, path_of
from commbench.report.figures import columns_for, panel_width
from commbench.report.style import Picture, for_both
from commbench.report.svg import colour, element, group, text
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    error_cell,
    filled_table,
    share_cell,
    time_cell,
    word_cell,
)
from commbench.report.text import percent, plural, signed_percent, time_text
from commbench.results.changes import SLOWER, Changed, ChangeSummary
from commbench.results.records import Record
from commbench.units import format_bytes

__all__ = ["ChangePart", "change_parts", "verdict_of_changes"]

_MOST_PICTURES = 12
_MOST_LINES = 8
"""Of one picture, as many as there are colours; and pictures of one comparison: the table has all."""
_MARGINS = {"left": 64.0, "right": 90.0, "top": 12.0, "bottom": 34.0}
_NAME_WIDTH, _LONGEST = 90, 14  # pixels for a run's name below an axis, and letters of one


@dataclass(frozen=True, slots=True)
class ChangePart:
    """What the template draws of one comparison."""

    name: str
    verdict: str
    pictures: tuple[Picture, ...]
    columns: int
    table: Table
    notes: tuple[str, ...]


def change_parts(records: Sequence[Record]) -> list[ChangePart]:
    """A part for each comparison among the records."""
    ends = [record for record in records if isinstance(record, ChangeSummary)]
    return [
        _part(end, [r for r in records if isinstance(r, Changed) and r.run == end.run], f"change{number}")
        for number, end in enumerate(ends)
    ]


def verdict_of_changes(end: ChangeSummary) -> str:
    """In one sentence."""
    old = PurePath(end.files[0]).name if len(end.files) == 2 else f"{len(end.files) - 1} runs before it"
    return (
        f"{plural(end.points, 'point')} of {PurePath(end.files[-1]).name} against {old}: {end.slower} slower, "
        f"{end.faster} faster; "
        f"in total {signed_percent(end.ratio - 1)} (tolerance {percent(end.tolerance)})"
    )


def _part(end: ChangeSummary, changed: Sequence[Changed], place: str) -> ChangePart:
    pictures = tuple(_histories(end, changed, place)) if len(end.files) > 2 else ()
    notes = (*end.apart, *end.notes)
    names = (PurePath(end.files[0]).name, PurePath(end.files[-1]).name)
    return ChangePart(
        " to ".join(names),
        verdict_of_changes(end) + ".",
        pictures,
        columns_for(len(pictures)),
        _table(end, changed, place),
        notes,
    )


def _table(end: ChangeSummary, changed: Sequence[Changed], place: str) -> Table:
    who = any(one.members for one in changed)
    reach = max((abs(one.change) for one in changed), default=1.0) or 1.0
    fields: list[Field] = [
        (Column("what", numeric=False), lambda one: word_cell(one.what)),
        *([(Column("who", numeric=False), _members)] if who else []),
        (Column("size"), lambda one: bytes_cell(one.size_bytes)),
        *((Column(PurePath(name).stem), partial(_in_run, number)) for number, name in enumerate(end.files)),
        (Column("change", "new / old − 1"), lambda one: error_cell(one.change, reach)),
        (Column("tolerance"), lambda one: share_cell(one.tolerance)),
        (Column("verdict", numeric=False), _verdict),
    ]
    return filled_table(f"{place}points", "By size", changed, fields)


def _members(one: Changed) -> Cell:
    return word_cell(one.members.strip("[]") or "-")


def _in_run(number: int, one: Changed) -> Cell:
    time_s = one.history_s[number]
    return Cell("-", -1.0) if time_s is None else time_cell(time_s)


def _verdict(one: Changed) -> Cell:
    return Cell(one.verdict, one.verdict, tone="bad" if one.verdict == SLOWER else "")


def _histories(end: ChangeSummary, changed: Sequence[Changed], place: str) -> list[Picture]:
    """Of every definition a picture: time by run, a line for each of up to eight sizes."""
    names = list(dict.fromkeys((one.what, one.members) for one in changed))[:_MOST_PICTURES]
    pictures, width = [], panel_width(columns_for(len(names)))
    for number, (what, members) in enumerate(names):
        own = [one for one in changed if (one.what, one.members) == (what, members)]
        own.sort(key=lambda one: one.size_bytes)
        step = -(-len(own) // _MOST_LINES)
        title = f"{what} {_who(members)}".strip()
        name = f"{place}history{number}"
        pictures.append(for_both(partial(_history, end, own[::step], title, name), width))
    return pictures


def _who(members: str) -> str:
    """Members as a list of groups, in words."""
    return f"of {members.strip('[]')}" if members else ""


def _history(
    end: ChangeSummary, own: Sequence[Changed], what: str, name: str, width: int, more: str
) -> Picture:
    chart = Chart(name + more, width, 250, **_MARGINS)
    times = [time_s for one in own for time_s in one.history_s if time_s is not None]
    names = [PurePath(file).stem[:_LONGEST] for file in end.files]
    limits = log_limits(min(times), max(times))
    x, y = chart.across(-0.3, len(names) - 0.7), chart.upward(*limits, log=True)
    chart.left_axis(y, time_ticks(*limits))
    step = -(-len(names) * _NAME_WIDTH // int(chart.right - chart.left))
    chart.bottom_axis(x, [(float(i), names[i]) for i in range(0, len(names), step)])
    ends = []
    for number, one in enumerate(own):
        there = [(i, time_s) for i, time_s in enumerate(one.history_s) if time_s is not None]
        places = [(x.at(i), y.at(time_s)) for i, time_s in there]
        size = format_bytes(one.size_bytes)
        marks = [
            mark(*at, number, (f"{names[i]}: {size}", time_text(time_s)), size_bytes=one.size_bytes, time_s=time_s)
            for at, (i, time_s) in zip(places, there, strict=True)
        ]
        line = element("path", d=path_of(places), class_="line", stroke=colour(number))
        chart.add(group(line, *marks, class_="series", data_series=str(number)))
        ends.append((size, places[-1][1]))
    heights = label_places([height for _, height in ends], chart.top, chart.bottom)
    for number, ((size, _), (right, height)) in enumerate(zip(ends, heights, strict=True)):
        words = {"fill": colour(number), "class_": "name", "data_toggle": str(number)}
        chart.add(text(chart.right + 8 + right, height, size, **words))
    return chart.picture(title=what, detail="time by run, logarithmic axis", label=f"Time by run: {what}")
