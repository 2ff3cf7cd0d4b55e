# SPDX-License-Identifier: Apache-2.0
"""``commbench import``: the logs of other programs as records."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.reported import Reported

__all__ = ["LogCollective", "LogRanks", "import_log", "reported_table"]

LogCollective = Annotated[
    str | None, typer.Option("-c", "--collective", help="Of a log that does not say which it is of.")
]
LogRanks = Annotated[int | None, typer.Option("-g", "--ranks", min=1, help="World size, where the log does not say.")]


def import_log(
    files: Annotated[list[Path], typer.Argument(help="Logs of nccl-tests or rccl-tests: text, or JSON (-J).")],
    collective: LogCollective = None,
    ranks: LogRanks = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the records to this JSON Lines file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Read logs of nccl-tests and rccl-tests of any release; say what is odd about them."""
    from commbench.results.journal import Journal
    from commbench.results.logs import read_log

    logs = [read_log(file, collective, ranks) for file in files]
    records = [record for log in logs for record in log.records]
    for log in logs:
        for note in log.notes:
            tell(f"note: {note}")
    if json:
        typer.echo("\n".join(record.to_json() for record in records))
    else:
        put(reported_table(records))
    if out is not None:
        journal = Journal(out)
        journal.extend(records)
        tell(f"records: {out}")


def reported_table(records: "Sequence[Reported]") -> str:
    """What was read, a table for each run; every line fits 80 columns."""
    from commbench.cli.tables import heading
    from commbench.tables import Column, head_text, rate_text, row_text
    from commbench.units import GB

    columns = (
        Column("size", "(B)", width=12),
        Column("type", numeric=False, width=8),
        Column("redop", numeric=False, width=5),
        Column("root", width=4),
        Column("place", numeric=False, width=5),
        Column("time", "(us)", width=10, form=".2f"),
        *(Column(name, "(GB/s)", width=7) for name in ("algbw", "busbw")),
        Column("#wrong", width=6),
        Column("odd", numeric=False),
    )
    lines, run = list[str](), ""
    for record in records:
        if record.run != run:
            run = record.run
            library = " ".join(filter(None, (record.library, record.version))) or "library not told"
            where = f", {record.hosts} host{'s' * (record.hosts > 1)}" if record.hosts else ""
            device = f", {record.device}" if record.device else ""
            lines.append(heading(f"{run}: {record.collective}, {record.ranks} ranks{where}{device}, {library}"))
            lines.append(head_text(columns))
        rates = (rate_text(rate, GB) for rate in (record.algbw_GBps, record.busbw_GBps))
        fields = (record.size_bytes, record.dtype, record.op, record.root, "in" if record.in_place else "out")
        row = row_text(columns, (*fields, record.time_s * 1e6, *rates, record.wrong, "odd" if record.problem else ""))
        lines.append(row)
    return "\n".join(lines)
