# SPDX-License-Identifier: Apache-2.0
"""Diagnoses on a page: suspects, pairs of hosts as a map of how slow they are, ranks that broke collectives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from commbench.report.chart import Chart
from commbench.report.style import WIDTH, Picture, for_both
from commbench.report.svg import colour, element, group, text, tip
from commbench.report.tables import Cell, Column, Table, bytes_cell, count_cell, time_cell, word_cell
from commbench.report.text import percent, plural
from commbench.results.diagnoses import HEALTHY, LOCALISED, Blamed, Diagnosed, Held, Proposed, Suspect
from commbench.results.records import Record

__all__ = ["DiagnosisPart", "diagnosis_parts", "verdict_of"]

_MOST_HOSTS = 64
"""Of a map; more would be too small to read."""
_MOST_ROWS = 40
_WIDEST, _SQUARE = 0.6 * WIDTH, 26.0  # pixels of a map, and of a square where there is room
_NAME_WIDTH = 24.0  # of a host's name above a column
_FULL = 1.0  # over the baseline, from which on a square of the map is filled whole


@dataclass(frozen=True, slots=True)
class DiagnosisPart:
    """What the template draws of one diagnosis."""

    name: str
    verdict: str
    map: Picture | None
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def diagnosis_parts(records: Sequence[Record]) -> list[DiagnosisPart]:
    """A part for each diagnosis among the records."""
    found = []
    for number, record in enumerate(records):
        if isinstance(record, Diagnosed):
            found.append(_fabric(record, f"diagnosis{number}"))
        elif isinstance(record, Blamed):
            found.append(_ranks(record, f"diagnosis{number}"))
    return found


def verdict_of(found: Diagnosed) -> str:
    """In one sentence."""
    what = f"{plural(len(found.held), 'measurement')} on {found.topology}, {found.num_slow} slow"
    blamed = [one for one in found.suspects if one.blamed]
    if found.verdict == HEALTHY:
        return f"{what}: nothing is wrong"
    if found.verdict != LOCALISED:
        return f"{what}: not localised"
    return f"{what}: " + "; ".join(f"{one.parts[0]} at {percent(one.factor)} of its bandwidth" for one in blamed)


def _fabric(found: Diagnosed, place: str) -> DiagnosisPart:
    tables = [_suspects(found, place)] if found.suspects or found.others else []
    slow = sorted((one for one in found.held if one.slow), key=lambda one: -one.ratio)
    tables += [_slow(slow[:_MOST_ROWS], len(slow), place)] if slow else []
    tables += [_proposed(found.proposed, place)] if found.proposed else []
    notes = (f"Healthy measurements scatter by {percent(found.noise)}; held against {found.library}.", *found.notes)
    return DiagnosisPart(found.topology, verdict_of(found) + ".", _map(found, place), tuple(tables), notes)


def _suspects(found: Diagnosed, place: str) -> Table:
    columns = (
        Column("part", numeric=False),
        Column("blamed", numeric=False),
        Column("bandwidth", "of its own"),
        Column("between", numeric=False),
        Column("confidence"),
        Column("slow", "of those over it"),
        Column("partners"),
        Column("not told apart from", numeric=False),
        Column("why not", numeric=False),
    )
    rows = tuple(_suspect(one) for one in (*found.suspects, *found.others))
    return Table(f"{place}suspects", "Suspects", (), columns, rows)


def _suspect(one: Suspect) -> tuple[Cell, ...]:
    return (
        word_cell(one.parts[0]),
        Cell("yes", "yes", tone="bad") if one.blamed else Cell("no", "no", tone="muted"),
        Cell(percent(one.factor), one.factor),
        word_cell(f"{percent(one.low)} and {percent(one.high)}"),
        Cell(percent(one.confidence), one.confidence),
        Cell(f"{one.slow} / {one.touched}", one.slow),
        count_cell(one.partners),
        word_cell(", ".join(one.parts[1:]) or "-"),
        word_cell(one.why_not or "-"),
    )


def _slow(slow: Sequence[Held], total: int, place: str) -> Table:
    columns = (
        Column("ranks", numeric=False),
        Column("hosts", numeric=False),
        Column("collective", numeric=False),
        Column("size"),
        Column("measured"),
        Column("simulated"),
        Column("ratio", "healthy: 1"),
        Column("suspects say"),
    )
    rows = tuple(
        (
            word_cell(", ".join(map(str, one.ranks[:8])) + (" ..." if len(one.ranks) > 8 else "")),
            word_cell(", ".join(dict.fromkeys(one.hosts[:8])) + (" ..." if len(one.hosts) > 8 else "")),
            word_cell(one.collective),
            bytes_cell(one.size_bytes),
            time_cell(one.measured_s),
            time_cell(one.simulated_s),
            Cell(f"{one.ratio:.2f}", one.ratio),
            Cell(f"{one.expected:.2f}", one.expected),
        )
        for one in slow
    )
    title = "Slow measurements" if total == len(rows) else f"The {len(rows)} slowest of {total} slow measurements"
    return Table(f"{place}slow", title, (), columns, rows)


def _proposed(proposed: Sequence[Proposed], place: str) -> Table:
    columns = (
        Column("ranks", numeric=False),
        Column("endpoints", numeric=False),
        Column("size"),
        Column("measured / baseline then", numeric=False),
    )
    rows = tuple(
        (
            word_cell(" and ".join(map(str, one.ranks))),
            word_cell(" and ".join(one.names)),
            bytes_cell(one.size_bytes),
            word_cell(one.answers),
        )
        for one in proposed
    )
    return Table(f"{place}next", "What to measure next", (), columns, rows)


def _map(found: Diagnosed, place: str) -> Picture | None:
    """A square for each pair of hosts that was measured alone: its part that is filled says how slow it is."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for one in found.held:
        hosts = sorted(set(one.hosts), key=_number)
        if len(hosts) == 2:
            ratios.setdefault((hosts[0], hosts[1]), []).append(one.ratio)
    names = sorted({host for pair in ratios for host in pair}, key=_number)
    if not 3 <= len(names) <= _MOST_HOSTS:
        return None
    widest = int(min(_WIDEST, _SQUARE * len(names))) + 60
    return for_both(lambda width, more: _drawn_map(ratios, names, f"{place}map{more}", width - 60), widest)


def _drawn_map(
    ratios: Mapping[tuple[str, str], Sequence[float]], names: Sequence[str], name: str, side: float
) -> Picture:
    at = {name: i for i, name in enumerate(names)}
    chart = Chart(name, side + 60, side + 40, left=50, right=10, top=30, bottom=10)
    cell = side / len(names)
    for (a, b), each in ratios.items():
        chart.add(*(_square(chart, cell, at[x], at[y], (a, b), median(each)) for x, y in ((a, b), (b, a))))
    for name in names[:: max(1, round(_NAME_WIDTH / cell), len(names) // 16)]:
        middle = cell * (at[name] + 0.5)
        chart.add(text(chart.left - 6, chart.top + middle, name, anchor="end", class_="tick"))
        chart.add(text(chart.left + middle, chart.top - 10, name, anchor="middle", class_="tick"))
    detail = "the fuller a square, the longer it took; full: twice as long as healthy pairs"
    return chart.picture(title="Pairs of hosts", detail=detail)


def _square(chart: Chart, cell: float, column: int, row: int, hosts: tuple[str, str], ratio: float) -> str:
    """A pair's square: empty where it is healthy."""
    x, y = chart.left + cell * (column + 0.5), chart.top + cell * (row + 0.5)
    whole, full = 0.92 * cell, 0.92 * cell * max(0.0, min(1.0, (ratio - 1) / _FULL)) ** 0.5
    frame = element("rect", x=x - whole / 2, y=y - whole / 2, width=whole, height=whole, fill="var(--paper)",
                    stroke="var(--rule)")  # fmt: skip
    filled = element("rect", x=x - full / 2, y=y - full / 2, width=full, height=full, fill=colour(1)) if full else ""
    words = tip(f"{hosts[0]} and {hosts[1]}", f"{ratio:.2f} of healthy pairs' time")
    return group(words, frame, filled, class_="mark", data_ratio=ratio)


def _number(name: str) -> tuple[int, str]:
    """h2 before h10."""
    digits = "".join(c for c in name if c.isdigit())
    return int(digits) if digits else -1, name


def _ranks(found: Blamed, place: str) -> DiagnosisPart:
    columns = (
        Column("rank"),
        Column("group", numeric=False),
        Column("number"),
        Column("what", numeric=False),
        Column("in words", numeric=False),
    )
    rows = tuple(
        (
            count_cell(one.rank),
            word_cell(one.group or "-"),
            Cell("-", -1) if one.sequence is None else count_cell(one.sequence),
            word_cell(one.what),
            word_cell(one.detail),
        )
        for one in found.findings
    )
    tables = [Table(f"{place}ranks", "Ranks", (), columns, rows)] if rows else []
    if found.late_s:
        tables.append(_late(found, place))
    source = "Flight recorders" if found.source == "flight-recorder" else "Traces"
    name = f"{source} of {plural(found.ranks, 'rank')}"
    ranks = list(dict.fromkeys(one.rank for one in found.findings))
    who = f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}"
    verdict = f"{plural(found.collectives, 'collective')} looked at: {who if ranks else 'nothing is wrong with them'}."
    return DiagnosisPart(name, verdict, None, tuple(tables), found.notes)


def _late(found: Blamed, place: str) -> Table:
    columns = (Column("rank"), Column("later than the first", "all collectives together"))
    rows = tuple((count_cell(int(rank)), time_cell(late)) for rank, late in found.late_s.items())
    return Table(f"{place}late", "Who came late", (), columns, rows)
