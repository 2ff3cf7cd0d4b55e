# SPDX-License-Identifier: Apache-2.0
"""Pairs of ranks, incasts and groups at once on a page: a map, a curve and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from commbench.report.axes import even_ticks
from commbench.report.chart import Chart, mark, path_of
from commbench.report.pair_map import PairMark, pair_map
from commbench.report.style import Picture, for_both
from commbench.report.svg import colour, element, text
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    count_cell,
    filled_table,
    time_cell,
    word_cell,
    wrong_cell,
)
from commbench.report.text import plural
from commbench.results.grouped import (
    INCAST,
    MULTI,
    PAIRWISE,
    by_distance,
    group_text,
    is_alone,
    of_experiment,
    ranks_of,
    sent_bytes,
    slowdowns,
)
from commbench.results.records import Measured, Record
from commbench.units import GB, format_bandwidth, format_bytes, rate_unit

__all__ = ["GroupPart", "group_parts"]

_MOST_ROWS = 40
_CURVE = 546  # pixels that it is wide
_FULL = 1.0  # over the median of all pairs, from which on a square of the map is filled whole
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class GroupPart:
    """What the template draws of one experiment of one run."""

    name: str
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]


def group_parts(records: Sequence[Record]) -> list[GroupPart]:
    """A part for every experiment on groups of every run among the records."""
    found = []
    makers = {PAIRWISE: _pairs, INCAST: _incast, MULTI: _groups}
    for experiment, make in makers.items():
        runs = _by(of_experiment(records, experiment), lambda r: r.run)
        for number, (run, members) in enumerate(runs.items()):
            name = f"{_WORDS[experiment]}" + (f", run {run}" if len(runs) > 1 else "")
            found.append(make(members, f"{experiment}{number}", name))
    return found


_WORDS = {PAIRWISE: "Every pair of ranks", INCAST: "Many into one", MULTI: "Groups at once"}


def _by(records: Sequence[Measured], key: Callable[[Measured], _Key]) -> dict[_Key, list[Measured]]:
    groups: dict[_Key, list[Measured]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _how(record: Measured) -> str:
    return "alone" if is_alone(record) else f"{record.environment['round']['groups']} at once"


def _rate(record: Measured) -> Cell:
    return Cell("n/a", -1, tone="muted") if record.busbw_GBps is None else _rate_cell(record.busbw_GBps)


def _rate_cell(rate_GBps: float) -> Cell:  # noqa: N803  the unit is spelled as in the records
    number, unit = format_bandwidth(rate_GBps * GB).split(" ")
    return Cell(number, rate_GBps, unit, raw_unit="GB/s")


def _pairs(records: Sequence[Measured], place: str, name: str) -> GroupPart:
    maps = [
        _pair_map(members, f"{place}map{number}", size, alone)
        for number, ((size, alone), members) in enumerate(_by(records, lambda r: (r.size_bytes, is_alone(r))).items())
    ]
    fields: list[Field] = [
        (Column("size"), lambda one: bytes_cell(one.size_bytes)),
        (Column("distance", numeric=False), lambda one: word_cell(one.distance)),
        (Column("ran", numeric=False), lambda one: word_cell("alone" if one.alone else "at once")),
        (Column("pairs"), lambda one: count_cell(one.pairs)),
        (Column("slowest", "busbw"), lambda one: _rate(one.slowest)),
        (Column("median", "busbw"), lambda one: _rate_cell(one.median_GBps)),
        (Column("fastest", "busbw"), lambda one: _rate(one.fastest)),
        (Column("slowest pair", numeric=False), lambda one: word_cell(group_text(one.slowest))),
    ]
    distances = filled_table(f"{place}apart", "Pairs by distance", by_distance(records), fields)
    slowest = sorted(records, key=lambda r: r.busbw_GBps or 0.0)[:_MOST_ROWS]
    title = plural(len(records), "pair") if len(records) <= _MOST_ROWS else f"The slowest of {len(records)} pairs"
    return GroupPart(name, tuple(p for p in maps if p), (distances, _table(slowest, f"{place}rows", title)))


def _pair_map(records: Sequence[Measured], name: str, size_bytes: int, alone: bool) -> Picture | None:
    """Times of pairs over the median of all of them."""
    middle = median(r.time_s for r in records)
    marks = []
    for record in records:
        one, other = ranks_of(record)
        ratio = record.time_s / middle
        words = (f"ranks {group_text(record)}", f"{record.busbw_GBps or 0:.4g} GB/s", f"{ratio:.2f} of the median time")
        filled = max(0.0, min(1.0, (ratio - 1) / _FULL))
        one_way = bool(record.environment["round"].get("one_way"))
        marks.append(PairMark(str(one), str(other), filled, ratio, words, both_ways=not one_way))
    names = [str(rank) for rank in sorted({rank for record in records for rank in ranks_of(record)})]
    title = f"{format_bytes(size_bytes)}, each pair alone" if alone else f"{format_bytes(size_bytes)}, pairs at once"
    return pair_map(name, names, marks, title, "the fuller a square, the slower the pair; full: twice the median time")


def _table(records: Sequence[Measured], name: str, title: str) -> Table:
    """A row for each group."""
    fields: list[Field] = [
        (Column("ranks", numeric=False), lambda r: word_cell(group_text(r))),
        (Column("size"), lambda r: bytes_cell(r.size_bytes)),
        (Column("ran", numeric=False), lambda r: word_cell(_how(r))),
        (Column("distance", numeric=False), lambda r: word_cell(str(r.environment["round"].get("distance") or "-"))),
        (Column("collective", numeric=False), lambda r: word_cell(f"{r.collective}, {r.algorithm}")),
        (Column("time", "median"), lambda r: time_cell(r.time_s)),
        (Column("spread", "MAD"), lambda r: time_cell(r.spread_s)),
        (Column("busbw"), _rate),
        (Column("wrong", "values"), lambda r: wrong_cell(r.wrong)),
    ]
    return filled_table(name, title, records, fields)


def _incast(records: Sequence[Measured], place: str, name: str) -> GroupPart:
    ordered = sorted(records, key=lambda r: (sent_bytes(r), r.ranks))
    fields: list[Field] = [
        (Column("from each"), lambda r: bytes_cell(sent_bytes(r))),
        (Column("senders"), lambda r: count_cell(r.ranks - 1)),
        (Column("time", "median"), lambda r: time_cell(r.time_s)),
        (Column("spread", "MAD"), lambda r: time_cell(r.spread_s)),
        (Column("receiver gets", "busbw"), _rate),
        (Column("wrong", "values"), lambda r: wrong_cell(r.wrong)),
    ]
    table = filled_table(f"{place}rows", plural(len(ordered), "incast"), ordered, fields)
    curve = for_both(lambda width, more: _incast_curve(ordered, f"{place}curve{more}", width), _CURVE)
    return GroupPart(name, (curve,), (table,))


def _incast_curve(records: Sequence[Measured], name: str, width: int) -> Picture:
    """What the receiver gets by the number of senders, a line for every size."""
    factor, unit = rate_unit(GB * max(r.busbw_GBps or 0.0 for r in records))
    most = max(r.ranks - 1 for r in records)
    high = max((r.busbw_GBps or 0.0) * GB / factor for r in records) or 1.0
    chart = Chart(name, width, 260, left=56, right=76, top=12, bottom=28)
    x, y = chart.across(0.5, most + 0.5), chart.upward(0.0, 1.1 * high)
    chart.left_axis(y, [(tick, f"{tick:g}") for tick in even_ticks(0.0, 1.1 * high, 6)])
    step = max(1, most // 12)
    chart.bottom_axis(x, [(count, str(count)) for count in range(1, most + 1, step)])
    for number, (size, members) in enumerate(_by(records, sent_bytes).items()):
        points = [(x.at(r.ranks - 1), y.at((r.busbw_GBps or 0.0) * GB / factor)) for r in members]
        chart.add(element("path", d=path_of(points), fill="none", stroke=colour(number), stroke_width=1.6))
        chart.add(text(points[-1][0] + 10, points[-1][1], format_bytes(size), fill=colour(number), class_="tick"))
        for record, (across, upward) in zip(members, points, strict=True):
            words = (f"{format_bytes(size)} from {plural(record.ranks - 1, 'sender')}", _words(record))
            chart.add(mark(across, upward, number, words))
    detail = "by the number of senders; a line for what each sends"
    return chart.picture(title=f"What the receiver gets ({unit})", detail=detail)


def _words(record: Measured) -> str:
    return format_bandwidth((record.busbw_GBps or 0.0) * GB)


def _groups(records: Sequence[Measured], place: str, name: str) -> GroupPart:
    tables = [_table(records, f"{place}rows", plural(len(records), "group"))]
    if found := slowdowns(records):
        columns = (Column("size"), Column("ranks", numeric=False), Column("at once / alone", "time"))
        rows = tuple(
            (bytes_cell(one.size_bytes), word_cell(ranks), Cell(f"{factor:.2f}", factor))
            for one in found
            for ranks, factor in one.factors.items()
        )
        tables.insert(0, Table(f"{place}slowdown", "What groups cost each other", (), columns, rows))
    return GroupPart(name, (), tuple(tables))
