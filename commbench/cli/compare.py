# SPDX-License-Identifier: Apache-2.0
"""``commbench compare OLD NEW``: what got slower, and whether that is more than noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, Salvage, writable
from commbench.errors import CheckFailedError, InputError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.compare.definition import Point
    from commbench.results.changes import Changed, ChangeSummary
    from commbench.tables import Column

__all__ = ["change_table", "compare"]

_MOST_RUNS = 3
"""Columns of a history; more, and the first and the last ones are shown."""


def compare(
    files: Annotated[
        list[Path], typer.Argument(help="Results files, or logs of nccl-tests; the last is held against all before it.")
    ],
    across: Annotated[
        list[str] | None,
        typer.Option(help="A setting that may differ: library, device, topology, hosts, launcher, network."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the comparison to this JSON Lines file.")
    ] = None,
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Say by size and in total what got slower: by 5 % and three times the noise of both sides, or more (exit code 1).

    Of more than two files the last is held against the median of those before it.
    """
    from commbench.compare.judge import compare_runs
    from commbench.results.run_id import new_run_id

    if len(files) < 2:
        raise InputError(f"{', '.join(map(str, files))}: give two files or more: what was before, and what is new")
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise InputError(f"{twice}: given twice; a file compared with itself shows no change")
    read = {str(file): _points(file, salvage) for file in files}
    changed, summary = compare_runs(read, new_run_id(), across or ())
    if json:
        typer.echo("\n".join(record.to_json() for record in (*changed, summary)))
    else:
        put(change_table(changed, summary))
    if out is not None:
        from commbench.results.journal import Journal

        Journal(out).extend([*changed, summary])
        tell(f"records: {out}")
    if not summary.ok:
        wrong = f"; {summary.wrong} records with wrong values" if summary.wrong else ""
        told = f"slower: {summary.slower} of {summary.points} points, and {_total(summary)} in total{wrong}"
        raise CheckFailedError(told)


def _points(file: Path, salvage: bool) -> "Sequence[Point]":
    """What of a file can be compared."""
    from commbench.cli.reading import read_all
    from commbench.results.logs import is_log, read_log
    from commbench.results.records import Measured, Simulated
    from commbench.results.reported import Reported

    records = read_log(file).records if is_log(file) else read_all([file], salvage)
    return [record for record in records if isinstance(record, Measured | Reported | Simulated)]


def change_table(changed: "Sequence[Changed]", summary: "ChangeSummary") -> str:
    """Every point under its definition, then the total, what is apart, and notes; every line fits 80 columns."""
    from textwrap import wrap

    from commbench.cli.tables import heading
    from commbench.tables import head_text

    lines, what = list[str](), ""
    columns, shown = _columns(summary, who=any(one.members for one in changed))
    for one in changed:
        if one.what != what:
            what = one.what
            lines += [heading(what), head_text(columns)]
        lines.append(_row(one, columns, shown))
    word = "SLOWER" if summary.verdict == "slower" else summary.verdict
    lines.append(
        heading(
            f"{summary.points} points: {summary.slower} slower, {summary.faster} faster; in total {_total(summary)} "
            f"(tolerance {summary.tolerance:.1%}): {word}"
        )
    )
    for lead, told in (("# apart: ", summary.apart), ("# note: ", summary.notes)):
        lines += [line for each in told for line in wrap(each, 78, initial_indent=lead, subsequent_indent="#   ")]
    return "\n".join(lines)


def _columns(summary: "ChangeSummary", *, who: bool) -> "tuple[Sequence[Column], Sequence[int]]":
    """The columns, and which files of the history have one."""
    from commbench.tables import Column

    count = len(summary.files)
    shown = range(count) if count <= _MOST_RUNS else (0, *range(count - _MOST_RUNS + 1, count))
    names = ["old", "new"] if count == 2 else [f"run {i + 1}" for i in shown]
    columns = (
        Column("size", width=9),
        Column("who", numeric=False, width=12) if who else Column("place", numeric=False, width=5),
        *(Column(name, width=10) for name in names),
        Column("change", width=7, form="+.1%"),
        Column("tolerance", width=9, form=".1%"),
        Column("", numeric=False, width=6),
    )
    return columns, shown


def _row(one: "Changed", columns: "Sequence[Column]", shown: Sequence[int]) -> str:
    from commbench.tables import row_text
    from commbench.units import format_bytes, format_time

    history = [one.history_s[i] for i in shown]
    place = one.members.strip("[]") or ("-" if one.in_place is None else "in" if one.in_place else "out")
    times = ["-" if time_s is None else format_time(time_s) for time_s in history]
    verdict = "SLOWER" if one.verdict == "slower" else "" if one.verdict == "same" else one.verdict
    fields: list[str | float | None] = [format_bytes(one.size_bytes), place[:12], *times]
    fields += [one.change, one.tolerance, verdict]
    return row_text(columns, fields)


def _total(summary: "ChangeSummary") -> str:
    return f"{summary.ratio - 1:+z.1%}"
