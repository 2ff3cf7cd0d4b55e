# SPDX-License-Identifier: Apache-2.0
"""Diagnoses on a page: suspects, pairs of hosts as a map of how slow they are, ranks that broke collectives."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from commbench.report.pair_map import PairMark, pair_map
from commbench.report.style import Picture
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    count_cell,
    filled_table,
    share_cell,
    time_cell,
    word_cell,
)
from commbench.report.text import percent, plural
from commbench.results.diagnoses import HEALTHY, LOCALISED, Blamed, Diagnosed, Held, Proposed
from commbench.results.records import Record

__all__ = ["DiagnosisPart", "diagnosis_parts", "verdict_of"]

_MOST_ROWS = 40
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
    fields: list[Field] = [
        (Column("part", numeric=False), lambda one: word_cell(one.parts[0])),
        (Column("blamed", numeric=False), lambda one: _YES if one.blamed else _NO),
        (Column("bandwidth", "of its own"), lambda one: share_cell(one.factor)),
        (Column("between", numeric=False), lambda one: word_cell(f"{percent(one.low)} and {percent(one.high)}")),
        (Column("confidence"), lambda one: share_cell(one.confidence)),
        (Column("slow", "of those over it"), lambda one: Cell(f"{one.slow} / {one.touched}", one.slow)),
        (Column("partners"), lambda one: count_cell(one.partners)),
        (Column("not told apart from", numeric=False), lambda one: word_cell(", ".join(one.parts[1:]) or "-")),
        (Column("why not", numeric=False), lambda one: word_cell(one.why_not or "-")),
    ]
    return filled_table(f"{place}suspects", "Suspects", (*found.suspects, *found.others), fields)


_YES, _NO = Cell("yes", "yes", tone="bad"), Cell("no", "no", tone="muted")


def _slow(slow: Sequence[Held], total: int, place: str) -> Table:
    fields: list[Field] = [
        (Column("ranks", numeric=False), lambda one: _some(one.ranks)),
        (Column("hosts", numeric=False), lambda one: _some(one.hosts)),
        (Column("collective", numeric=False), lambda one: word_cell(one.collective)),
        (Column("size"), lambda one: bytes_cell(one.size_bytes)),
        (Column("measured"), lambda one: time_cell(one.measured_s)),
        (Column("simulated"), lambda one: time_cell(one.simulated_s)),
        (Column("ratio", "healthy: 1"), lambda one: Cell(f"{one.ratio:.2f}", one.ratio)),
        (Column("suspects say"), lambda one: Cell(f"{one.expected:.2f}", one.expected)),
    ]
    title = "Slow measurements" if total == len(slow) else f"The {len(slow)} slowest of {total} slow measurements"
    return filled_table(f"{place}slow", title, slow, fields)


def _some(names: Sequence[object]) -> Cell:
    """The first eight, each once."""
    return word_cell(", ".join(dict.fromkeys(map(str, names[:8]))) + (" ..." if len(names) > 8 else ""))


def _proposed(proposed: Sequence[Proposed], place: str) -> Table:
    fields: list[Field] = [
        (Column("ranks", numeric=False), lambda one: word_cell(" and ".join(map(str, one.ranks)))),
        (Column("endpoints", numeric=False), lambda one: word_cell(" and ".join(one.names))),
        (Column("size"), lambda one: bytes_cell(one.size_bytes)),
        (Column("measured / baseline then", numeric=False), lambda one: word_cell(one.answers)),
    ]
    return filled_table(f"{place}next", "What to measure next", proposed, fields)


def _map(found: Diagnosed, place: str) -> Picture | None:
    """A square for each pair of hosts that was measured alone: its part that is filled says how slow it is."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for one in found.held:
        hosts = sorted(set(one.hosts), key=_number)
        if len(hosts) == 2:
            ratios.setdefault((hosts[0], hosts[1]), []).append(one.ratio)
    names = sorted({host for pair in ratios for host in pair}, key=_number)
    marks = [
        PairMark(a, b, max(0.0, min(1.0, (median(each) - 1) / _FULL)), median(each),
                 (f"{a} and {b}", f"{median(each):.2f} of healthy pairs' time"))
        for (a, b), each in ratios.items()
    ]  # fmt: skip
    detail = "the fuller a square, the longer it took; full: twice as long as healthy pairs"
    return pair_map(f"{place}map", names, marks, "Pairs of hosts", detail)


def _number(name: str) -> tuple[int, str]:
    """h2 before h10."""
    digits = "".join(c for c in name if c.isdigit())
    return int(digits) if digits else -1, name


def _ranks(found: Blamed, place: str) -> DiagnosisPart:
    fields: list[Field] = [
        (Column("rank"), lambda one: count_cell(one.rank)),
        (Column("group", numeric=False), lambda one: word_cell(one.group or "-")),
        (Column("number"), lambda one: Cell("-", -1) if one.sequence is None else count_cell(one.sequence)),
        (Column("what", numeric=False), lambda one: word_cell(one.what)),
        (Column("in words", numeric=False), lambda one: word_cell(one.detail)),
    ]
    tables = [filled_table(f"{place}ranks", "Ranks", found.findings, fields)] if found.findings else []
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
