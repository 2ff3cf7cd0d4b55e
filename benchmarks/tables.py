# SPDX-License-Identifier: Apache-2.0
"""Observations as tables, the same for the terminal and for the page."""

from collections.abc import Sequence

from benchmarks.cold_start import NUMPY
from benchmarks.records import ColdStart, Engines, Program, Race, SharedLink, growth
from commbench.report.tables import Cell, Column, Table
from commbench.report.text import time_parts

__all__ = [
    "cold_table",
    "difference_text",
    "effort_table",
    "engine_table",
    "link_table",
    "prediction_table",
    "speed_table",
    "text",
]

_MIB = 2**20
_NONE = Cell("none", -1.0, tone="muted")
_WORK = (Column("ranks"), Column("case", numeric=False))


def _time(time_s: float) -> Cell:
    number, unit = time_parts(time_s)
    return Cell(number, time_s, unit)


def _count(value: float) -> Cell:
    return Cell(f"{value:,.0f}", value)


def _times(ratio: float | None) -> Cell:
    """A ratio to two decimals below 10, to one below 100, whole above."""
    if ratio is None:
        return _NONE
    decimals = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return Cell(f"{ratio:,.{decimals}f}", ratio, "×")


def _exponent(value: float | None) -> Cell:
    return _NONE if value is None else Cell(f"{value:.2f}".replace("-", "−"), value)


def _mebibytes(program: Program) -> Cell:
    return Cell(f"{program.peak_bytes / _MIB:.0f}", program.peak_bytes, "MiB")


def speed_table(races: Sequence[Race]) -> Table:
    """Wall-clock seconds, ratio and rate; without a peer its columns say so."""
    columns = (
        *_WORK,
        Column("transfers"),
        Column("commbench", "wall"),
        Column("SimGrid", "wall"),
        Column("commbench", "simulating"),
        Column("SimGrid", "simulating"),
        Column("ratio", "of the walls"),
        Column("commbench", "transfers/s"),
        Column("SimGrid", "transfers/s"),
    )
    rows = tuple(
        (
            *_work(r),
            _count(r.transfers),
            _time(r.ours.wall_s),
            _time(r.peer.wall_s) if r.peer else _NONE,
            _time(min(r.ours.inside_s)),
            _time(min(r.peer.inside_s)) if r.peer else _NONE,
            _times(r.ratio),
            _count(r.transfers / r.ours.wall_s),
            _count(r.transfers / r.peer.wall_s) if r.peer else _NONE,
        )
        for r in races
    )
    return Table("speed", "Wall-clock time of the whole process", (), columns, rows)


def _work(race: Race) -> tuple[Cell, Cell]:
    return _count(race.ranks), Cell(race.case, race.case)


def effort_table(races: Sequence[Race]) -> Table:
    """Processor time, peak memory, how wall time grows between the plain cases, and how the work was done."""
    plain = [r for r in races if r.case == races[0].case]
    ours = _exponents(plain, [r.ours for r in plain])
    theirs = _exponents(plain, [r.peer for r in plain if r.peer])
    common = (("commbench ran as", "; ".join(sorted({r.ours.note for r in races}))),)
    columns = (
        *_WORK,
        Column("commbench", "processor"),
        Column("SimGrid", "processor"),
        Column("ratio", "of these"),
        Column("commbench", "peak memory"),
        Column("SimGrid", "peak memory"),
        Column("commbench", "wall ~ ranks^g"),
        Column("SimGrid", "wall ~ ranks^g"),
        Column("SimGrid", "written as", numeric=False),
    )
    rows = tuple(
        (
            *_work(r),
            _time(min(r.ours.cpus_s)),
            _time(min(r.peer.cpus_s)) if r.peer else _NONE,
            _times(r.cpu_ratio),
            _mebibytes(r.ours),
            _mebibytes(r.peer) if r.peer else _NONE,
            _exponent(ours.get(id(r))),
            _exponent(theirs.get(id(r))),
            Cell(r.peer.note, r.peer.note) if r.peer else _NONE,
        )
        for r in races
    )
    return Table("effort", "Processor time, memory and growth", common, columns, rows)


def _exponents(races: Sequence[Race], programs: Sequence[Program]) -> dict[int, float | None]:
    """Per race (by identity) the growth since the one before; empty if not every race has the program."""
    if len(programs) < len(races):
        return {}
    return dict(zip(map(id, races), growth([r.ranks for r in races], [p.wall_s for p in programs]), strict=True))


def prediction_table(races: Sequence[Race]) -> Table:
    """The simulated times side by side."""
    columns = (
        *_WORK,
        Column("commbench", "predicts, µs"),
        Column("SimGrid", "predicts, µs"),
        Column("difference", "commbench / SimGrid − 1"),
    )
    rows = tuple(
        (
            *_work(r),
            _microseconds(r.ours.predicted_s),
            _microseconds(r.peer.predicted_s) if r.peer else _NONE,
            _NONE if r.difference is None else Cell(difference_text(r.difference), r.difference),
        )
        for r in races
    )
    return Table("predictions", "Predicted times", (), columns, rows)


def difference_text(difference: float) -> str:
    """Signed, as a power of ten, because it is so small: "+3.1e-09"; "0" where the two are equal to the last bit."""
    return f"{difference:+.1e}".replace("-", "−") if difference else "0"


def _microseconds(time_s: float) -> Cell:
    return Cell(f"{time_s * 1e6:,.3f}", time_s)


def engine_table(engines: Sequence[Engines]) -> Table:
    """Both engines and SimPy's floor."""
    columns = (
        Column("ranks"),
        Column("transfers"),
        Column("reference engine"),
        Column("compiled engine"),
        Column("ratio", "reference / compiled"),
        Column("bare SimPy", "as many timeouts"),
        Column("reference engine", "/ bare SimPy"),
        Column("same time", "predicted", numeric=False),
    )
    rows = tuple(
        (
            _count(e.ranks),
            _count(e.transfers),
            _time(min(e.reference_s)),
            _time(min(e.compiled_s)),
            _times(e.ratio),
            _time(min(e.floor_s)),
            _times(min(e.reference_s) / min(e.floor_s)),
            Cell("yes", "yes") if e.reference_time_s == e.compiled_time_s else Cell("NO", "no", tone="bad"),
        )
        for e in engines
    )
    return Table("engines", "Ring all-reduce of 64 MiB, in one process", (), columns, rows)


def link_table(links: Sequence[SharedLink]) -> Table:
    """One row per number of flows."""
    by_engine = {name: {o.flows: min(o.walls_s) for o in links if o.engine == name} for name in _engine_names(links)}
    exponents = {
        name: dict(zip(walls, growth(list(walls), list(walls.values())), strict=True))
        for name, walls in by_engine.items()
    }
    columns = [Column("flows"), Column("shares", "computed")]
    for name in by_engine:
        columns += [Column(f"{name} engine"), Column("growth", "wall ~ flows^g")]
    rows = []
    for flows, shares in {o.flows: o.num_shares for o in links}.items():
        row = [_count(flows), _count(shares)]
        for name, walls in by_engine.items():
            row += [_time(walls[flows]) if flows in walls else _NONE, _exponent(exponents[name].get(flows))]
        rows.append(tuple(row))
    return Table("links", "Flows over one link, in one process", (), tuple(columns), tuple(rows))


def _engine_names(links: Sequence[SharedLink]) -> list[str]:
    return list(dict.fromkeys(o.engine for o in links))


def cold_table(starts: Sequence[ColdStart]) -> Table:
    """First run, best of the rest, and its processor time as a multiple of what numpy's import takes."""
    columns = (
        Column("command", numeric=False),
        Column("first run", "wall"),
        Column("best of the rest", "wall"),
        Column("best of the rest", "processor"),
        Column("ratio", "to numpy's import"),
    )
    numpy_s = next((min(s.cpus_s[1:]) for s in starts if s.command == NUMPY), None)
    rows = tuple(
        (
            Cell(s.command, s.command),
            _time(s.walls_s[0]),
            _time(min(s.walls_s[1:])),
            _time(min(s.cpus_s[1:])),
            _times(min(s.cpus_s[1:]) / numpy_s if numpy_s else None),
        )
        for s in starts
    )
    return Table("cold", "Commands that take no work, whole process", (), columns, rows)


def text(table: Table) -> str:
    """The table for a terminal: title, two lines of headings, aligned columns."""
    heads = [(column.title, column.under) for column in table.columns]
    body = [[f"{c.text} {c.unit}".rstrip() for c in row] for row in table.rows]
    widths = [max(map(len, (*heads[i], *(row[i] for row in body)))) for i in range(len(heads))]
    lines = [": ".join([table.title, *(f"{name} {word}" for name, word in table.common)])]
    for words in ([h[0] for h in heads], [h[1] for h in heads], *body):
        padded = [
            word.rjust(width) if column.numeric else word.ljust(width)
            for word, width, column in zip(words, widths, table.columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(line for line in lines if line)
