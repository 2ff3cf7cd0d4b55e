# SPDX-License-Identifier: Apache-2.0
"""The tables of a log: which collective on how many ranks they are of, which rows hold, and their records."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from commbench.collectives.sizes import plain_dtype
from commbench.collectives.spec import CollectiveSpec, get_collective
from commbench.errors import InputError
from commbench.results.log_rows import Figures, Header, Row, factor_range, rounding, sound
from commbench.results.reported import Reported

__all__ = ["Log", "LogTable", "log_of"]

_BLOCK = 16  # bytes: nccl-tests makes each rank's block a multiple of it
_MOST_RANKS = 2**20
_UNPRINTABLE = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENOUGH = 0.01  # GB/s: a bandwidth below it is printed with too few digits to tell anything


@dataclass(frozen=True, slots=True)
class Log:
    """What a log holds: its records, and sentences that a reader must know."""

    records: tuple[Reported, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class LogTable:
    """One run's table while its log is read.

    Attributes:
        line: where it begins. program: such as "all_reduce_perf". library, version: of NCCL or RCCL.
        members: by rank, its group, host and device. ranks: as the log says outright.
        each: ranks of one process. step: factor, or bytes with ``additive``, between two sizes.
        header: its columns, once they came.
        rows: (line, row). problems: what could not be read. average: that the footer tells. ended: it has a footer.
        failed: the footer says that values were wrong; slow: that the average is below what was demanded.
    """

    line: int
    program: str = ""
    library: str = ""
    version: str = ""
    members: dict[int, tuple[int, str, str]] = field(default_factory=dict)
    ranks: int | None = None
    each: int | None = None
    step: float = 2.0
    additive: bool = False
    header: Header | None = None
    rows: list[tuple[int, Row]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    average: float | None = None
    failed: bool = False
    slow: bool = False
    ended: bool = False


def log_of(tables: Sequence[LogTable], place: str, run: str, collective: str | None, ranks: int | None) -> Log:
    """The records of the tables; ``place`` (the file) opens every message.

    Args:
        run: what the records are called; several tables are numbered.
        collective: of tables that do not say it. ranks: that the user knows better than the log.

    Raises:
        InputError: no table, nothing that says which collective or how many ranks, rows of two runs in one table, or
            bandwidths that another collective or number of ranks would give.
    """
    filled = [table for table in tables if table.rows]
    if not filled:
        raise InputError(f"{place}: {_why_empty(tables)}")
    records: list[Reported] = []
    notes: list[str] = []
    for number, table in enumerate(filled, 1):
        where = f"{place}, line {table.line}"
        spec = _collective(table, where, collective, len(filled))
        num_ranks, note = _ranks(table, where, spec, ranks)
        _require_order(table, place, num_ranks)
        name = f"{run} #{number}" if len(filled) > 1 else run
        made = [_record(table, spec, num_ranks, name, place, at, row, part)
                for at, row in table.rows for part in row.figures if part.time_us > 0]  # fmt: skip
        records += made
        notes += [f"{where}: {text}" for text in (note, *_notes(table, made)) if text]
    notes += [f"{place}, {text}" for table in tables for text in table.problems]
    if not records:
        raise InputError(f"{place}: no row has a time")
    return Log(tuple(records), tuple(notes))


def _why_empty(tables: Sequence[LogTable]) -> str:
    problems = [problem for table in tables for problem in table.problems]
    if problems:
        return f"no whole row in it; {problems[0]}"
    if any(table.header for table in tables):
        return "it ends behind the header: no row was measured"
    return "no table of nccl-tests or rccl-tests in it: their header line (# size count type ...) is missing"


def _collective(table: LogTable, where: str, asked: str | None, tables: int) -> CollectiveSpec:
    """As the log says, else as the user does, else as its bandwidths do: they tell an all-reduce, whose bus alone is
    above the size over the time."""
    wanted = get_collective(asked) if asked else None
    if not table.program:
        if wanted is None:
            if _adds_and_spreads(table):
                return get_collective("all-reduce")
            raise InputError(f"{where}: the log does not say which collective it is of; give --collective NAME")
        if tables > 1:
            raise InputError(
                f"{where}: one of {tables} tables in this file, and it does not say which collective it is of: mixed "
                "runs; give each a file of its own"
            )
        return wanted
    try:
        told = get_collective(table.program)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if wanted is not None and wanted is not told:
        raise InputError(f"{where}: --collective {wanted.name}, but the log says {told.name}")
    return told


def _adds_and_spreads(table: LogTable) -> bool:
    """Whether busbw exceeds algbw, as far as the best-resolved row tells and most others agree."""
    telling = _telling(table)
    if not telling:
        return False
    surest = min(telling, key=lambda ends: ends[1] - ends[0])
    return surest[0] > 1 and 2 * sum(hi > 1 for _, hi in telling) > len(telling)


def _telling(table: LogTable) -> list[tuple[float, float]]:
    """Least and most that busbw / algbw may be before rounding, of rows whose bandwidths say anything."""
    return [factor_range(size, part) for size, part in _sure(table)]


def _sure(table: LogTable) -> list[tuple[int, Figures]]:
    """Sizes and figures whose bandwidths are those of their times."""
    return [(row.size_bytes, part) for _, row in table.rows for part in row.figures
            if sound(row.size_bytes, part) and float(part.busbw) >= _ENOUGH]  # fmt: skip


def _ranks(table: LogTable, where: str, spec: CollectiveSpec, asked: int | None) -> tuple[int, str]:
    """World size, and where it is from if the log does not say; held against busbw / algbw of all rows."""
    groups = {group for group, _, _ in table.members.values()}
    listed = max(1, len(table.members) // len(groups)) if groups else table.ranks or None
    telling = _telling(table)
    if asked is not None or listed is not None:
        known = asked if asked is not None else listed
        assert known is not None
        if _misses([factor_range(size, part, slip=True) for size, part in _sure(table)], spec, known):
            _refuse_factor(telling, spec, known, "--ranks" if asked is not None else "the log's devices", where)
        return known, ""
    found = _inferred(telling, spec)
    if len(found) != 1:
        raise InputError(f"{where}: the log does not say how many ranks there are; give --ranks N")
    return found[0], f"{found[0]} ranks, as busbw / algbw says; the log does not"


def _misses(telling: Sequence[tuple[float, float]], spec: CollectiveSpec, ranks: int) -> bool:
    """Whether more rows speak against a world size than for it."""
    factor = spec.busbw_factor(ranks)
    return 2 * sum(lo <= factor * (1 + 1e-9) and factor <= hi * (1 + 1e-9) for lo, hi in telling) < len(telling)


def _inferred(telling: Sequence[tuple[float, float]], spec: CollectiveSpec) -> list[int]:
    """The world sizes that the best-resolved row and most others agree with; several if they tell too little."""
    if not telling:
        return []
    lo, hi = min(telling, key=lambda ends: ends[1] - ends[0])
    return [n for n in _candidates(spec, lo, hi) if not _misses(telling, spec, n)]


def _candidates(spec: CollectiveSpec, lo: float, hi: float) -> list[int]:
    """World sizes from 2 whose factor lies in a range, the least first, three at the most; factors rise with n."""
    least, most = 2, _MOST_RANKS
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if spec.busbw_factor(middle) >= lo * (1 - 1e-9) else (middle + 1, most)
    return [n for n in range(least, least + 3) if lo * (1 - 1e-9) <= spec.busbw_factor(n) <= hi * (1 + 1e-9)]


def _refuse_factor(
    telling: Sequence[tuple[float, float]], spec: CollectiveSpec, ranks: int, said: str, where: str
) -> None:
    """Say what busbw / algbw of the log is, and what would give it."""
    lo, hi = min(telling, key=lambda ends: ends[1] - ends[0])
    others = _inferred(telling, spec)
    hint = f"; {spec.name} on {others[0]} ranks has that: give --ranks {others[0]}" if len(others) == 1 else ""
    raise InputError(
        f"{where}: busbw / algbw is {(lo + hi) / 2:.4g}, but {spec.name} on {ranks} ranks ({said}) has "
        f"{spec.busbw_factor(ranks):.4g}: another collective, or rows of another run{hint}"
    )


def _require_order(table: LogTable, place: str, ranks: int) -> None:
    """Refuse sizes that repeat or fall within one type, operation and root: rows of two runs."""
    last: dict[tuple[str, str, int | None], int] = {}
    turns = iter([*sorted(table.cycles), float("inf")])
    turn = next(turns)
    for line, row in table.rows:
        while line > turn:
            last.clear()
            turn = next(turns)
        key = (row.dtype, row.op, row.root)
        before = last.get(key, -1)
        room = table.step if table.additive else row.size_bytes * (table.step - 1)
        if row.size_bytes < before or (row.size_bytes == before and row.size_bytes and room >= _BLOCK * ranks):
            raise InputError(
                f"{place}, line {line}: size {row.size_bytes} stands behind {before}: rows of two runs in one table "
                "(nccl-tests without MPI prints once per process); give each run a file of its own"
            )
        last[key] = row.size_bytes


def _record(
    table: LogTable, spec: CollectiveSpec, ranks: int, run: str, place: str, line: int, row: Row, part: Figures
) -> Reported:
    """The record of one placement."""
    by_rank = ranks if spec.by_rank else 1
    wrong = None if part.wrong is None else int(float(part.wrong))
    hosts = {host for _, host, _ in table.members.values()}
    channels = row.extras.get("channels", "")
    return Reported(
        run=printable(run),
        collective=spec.name,
        library=table.library,
        version=table.version,
        ranks=ranks,
        size_bytes=row.size_bytes,
        num_elements=row.count * by_rank,
        dtype=plain_dtype(printable(row.dtype)),
        op="" if row.op == "none" else printable(row.op),
        root=row.root if spec.rooted else None,
        in_place=part.in_place,
        time_s=part.time_us / 1e6,
        busbw_factor=spec.busbw_factor(ranks),
        wrong=wrong,
        problem=_problem(spec, ranks, row, part),
        failed=table.failed,
        algorithm=row.extras.get("algorithm", ""),
        protocol=row.extras.get("protocol", ""),
        channels=int(channels) if channels.isdigit() and 0 < int(channels) < 2**16 else None,
        gpus_per_process=table.each,
        hosts=len(hosts) or None,
        device=printable(", ".join(dict.fromkeys(device for _, _, device in table.members.values() if device))),
        source=printable(place),
        line=line,
    )


def printable(text: str) -> str:
    """The text without what no record may hold: control characters and halves of surrogate pairs."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:1000]


def _problem(spec: CollectiveSpec, ranks: int, row: Row, part: Figures) -> str:
    """What does not follow from the row's own time; "" if all does, but for a slip of a last digit."""
    size, time = row.size_bytes, part.time_us
    if not size or time <= rounding(part.time):
        return ""
    rate, late = size / time / 1e3, rounding(part.time) / time
    if abs(float(part.algbw) - rate) > rate * late + 2 * rounding(part.algbw):
        return f"algbw {part.algbw} GB/s does not follow from its time: {size} B / {part.time} us is {rate:.4g}"
    factor = spec.busbw_factor(ranks)
    lo, hi = factor_range(size, part, slip=True)
    if not lo <= factor * (1 + 1e-9) or not factor <= hi * (1 + 1e-9):
        return f"busbw {part.busbw} GB/s does not follow from its time: it would be {rate * factor:.4g}"
    return ""


def _notes(table: LogTable, records: Sequence[Reported]) -> list[str]:
    """What a reader must know of a table as a whole."""
    odd = [record for record in records if record.problem]
    bad = [record for record in records if record.wrong]
    notes = [f"{len(odd)} of {len(records)} figures do not follow from their times, the first in line {odd[0].line}: "
             f"{odd[0].problem}"] if odd else []  # fmt: skip
    if bad:
        notes.append(f"wrong values in {len(bad)} of {len(records)} figures, the first in line {bad[0].line}")
    elif table.failed:
        notes.append("nccl-tests itself says FAILED: values were wrong")
    if table.slow:
        notes.append("nccl-tests itself says FAILED: the average bandwidth is below the one that it was to have")
    if not table.ended:
        notes.append("its last lines (Out of bounds values, Avg bus bandwidth) are missing: it was cut, or is a part")
    told = [float(part.busbw) for _, row in table.rows for part in row.figures]
    mean = sum(told) / max(1, len(told))
    if table.average is not None and abs(table.average - mean) > 0.01 * mean + 0.01:
        notes.append(f"its last line has an average of {table.average:g} GB/s, its rows {mean:.4g}: some are missing")
    return notes
