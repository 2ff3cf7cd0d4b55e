# SPDX-License-Identifier: Apache-2.0
"""``commbench validate LOG --topology T``: is this machine as fast as it should be?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from commbench.errors import CheckFailedError, InputError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.judged import Health, Judged
    from commbench.results.reported import Reported

__all__ = ["judged_table", "validate_logs"]


def validate_logs(
    files: Sequence[Path],
    topology: str,
    library: str | None,
    collective: str | None,
    ranks: int | None,
    ranks_per_host: int | None,
    out: Path | None,
    json: bool,
) -> None:
    """Judge every run of the logs, write records and page, and fail where one is slow or corrupt.

    ``library`` None is the one that such ranks would use.

    Raises:
        InputError: nothing to judge, or a class of machine that the library does not know.
        CheckFailedError: a run is slow or corrupt.
    """
    from commbench.cli.reading import this_command
    from commbench.experiments.log_verdict import judged_runs
    from commbench.report.page import ReportInput, write_report
    from commbench.results.journal import Journal
    from commbench.results.run_id import new_run_id
    from commbench.topology import load_fabric
    from commbench.topology.layout import drawable

    if not files:
        raise InputError("--topology: give the log of nccl-tests that is to be judged: validate LOG --topology NAME")
    out = out or Path("runs/validate")
    records = _reported(files, collective, ranks)
    judged, health = judged_runs(records, topology, library, ranks_per_host)
    found = [*judged, *health]
    if json:
        typer.echo("\n".join(record.to_json() for record in found))
    else:
        put(judged_table(judged, health))
    name = new_run_id()
    journal = Journal(out / f"{name}-verdict.jsonl")
    journal.extend([*records, *found])
    fabric = load_fabric(topology)
    page = ReportInput(
        title="commbench validate",
        records=[*records, *found],
        topologies=[drawable(fabric)],
        command=this_command(),
        notes=[_IDEAL] if judged and judged[0].library == "ideal" else [],
    )
    for note in page.notes:
        tell(f"note: {note}")
    tell(f"records: {journal.path}\nreport: {write_report(page, out / f'{name}-report.html')}")
    _end(health)


_IDEAL = "predicted by library ideal, rings at wire speed without a library's overheads: small sizes look slow"


def _reported(files: Sequence[Path], collective: str | None, ranks: int | None) -> "list[Reported]":
    """The rows of the files, which are logs, or records that were imported from logs."""
    from commbench.results.journal import read_records
    from commbench.results.logs import is_log, read_log
    from commbench.results.reported import Reported

    found = list[Reported]()
    for file in files:
        if is_log(file):
            log = read_log(file, collective, ranks)
            found += log.records
            for note in log.notes:
                tell(f"note: {note}")
        else:
            found += [record for record in read_records(file) if isinstance(record, Reported)]
    if not found:
        raise InputError(
            f"{', '.join(map(str, files))}: no row of a log in it; --topology is for logs of nccl-tests, runs of "
            "commbench are judged without it"
        )
    return found


def _end(health: "Sequence[Health]") -> None:
    """Exit code 1 where a machine is slow or corrupt, 2 where nothing can be said of one."""
    from commbench.results.judged import OK, UNKNOWN

    bad = [one for one in health if one.verdict not in (OK, UNKNOWN)]
    if bad:
        raise CheckFailedError("; ".join(f"{one.run}: {one.verdict}, {one.reason}" for one in bad))
    dark = [one for one in health if one.verdict == UNKNOWN]
    if dark:
        raise InputError("; ".join(f"{one.run}: unknown, {one.reason}" for one in dark))


def judged_table(judged: "Sequence[Judged]", health: "Sequence[Health]") -> str:
    """Every size with its verdict, a table for each run, and the verdict on the machine; every line fits 80 columns."""
    from commbench.cli.tables import heading
    from commbench.results.judged import OK
    from commbench.tables import Column, head_text, row_text
    from commbench.units import format_bytes, format_time

    columns = (
        Column("size", width=9),
        Column("place", numeric=False, width=5),
        Column("measured", width=10),
        Column("predicted", width=10),
        Column("ratio", width=6, form=".2f"),
        Column("verdict", numeric=False, width=7),
        Column("by", numeric=False),
    )
    lines = []
    for one in health:
        where = f"on {one.topology}, library {one.library}"
        lines += [heading(f"{one.run}: {one.collective}, {one.ranks} ranks {where}"), head_text(columns)]
        rows = [row for row in judged if (row.run, row.collective) == (one.run, one.collective)]
        for row in rows:
            predicted = None if row.predicted_s is None else format_time(row.predicted_s)
            times = (format_time(row.measured_s), predicted, row.ratio)
            by = " ".join(filter(None, (row.algorithm, row.protocol)))
            place = "in" if row.in_place else "out"
            lines.append(row_text(columns, (format_bytes(row.size_bytes), place, *times, row.verdict, by)))
        notes = dict.fromkeys(row.note for row in rows if row.note)
        lines += [heading(f"{_sizes(rows, note)}: {note}") for note in notes]
        lines.append(heading(f"{one.verdict if one.verdict == OK else one.verdict.upper()}: {one.reason}"))
    return "\n".join(lines)


def _sizes(rows: "Sequence[Judged]", note: str) -> str:
    """The sizes that have a note."""
    from commbench.units import format_bytes

    sizes = [format_bytes(row.size_bytes) for row in rows if row.note == note]
    return sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
