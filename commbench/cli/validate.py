# SPDX-License-Identifier: Apache-2.0
"""``commbench validate``: predictions held against measurements that they have not seen."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.options import Jsonl, Salvage
from commbench.errors import CheckFailedError

__all__ = ["MAX_MEDIAN", "MAX_P95", "validate"]

# What a loopback on a busy laptop can be held to; an emulated fabric must do better (see README).
MAX_MEDIAN, MAX_P95 = 0.10, 0.30


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Measured runs; left out, this machine is measured now.")
    ] = None,
    min_bytes: Annotated[str, typer.Option("-b", "--minbytes", help="Smallest size to measure.")] = "64K",
    max_bytes: Annotated[str, typer.Option("-e", "--maxbytes", help="Largest size to measure.")] = "16M",
    factor: Annotated[float, typer.Option("-f", "--stepfactor", help="Factor between sizes.")] = 2,
    iters: Annotated[int, typer.Option("-n", "--iters", help="Timed iterations per size.")] = 20,
    max_median: Annotated[float, typer.Option("--max-median", help="Largest median |error| that passes.")] = MAX_MEDIAN,
    max_p95: Annotated[
        float, typer.Option("--max-p95", help="Largest 95th percentile of |error| that passes.")
    ] = MAX_P95,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for records and report.")] = Path("runs/validate"),
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Fit on ring at 4 ranks, every second size; predict the other sizes, the double binary tree, and 3 ranks."""
    from commbench.cli.reading import read_measured
    from commbench.cli.tables import compared_header, compared_row, summary_lines
    from commbench.collectives.sizes import sweep
    from commbench.report.page import ReportInput, write_report
    from commbench.validate.campaign import LEGS, judge, measure_legs

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    runs = out / "runs.jsonl"
    if files:
        records = read_measured(files, salvage)
    else:
        records = measure_legs(LEGS, sweep(min_bytes, max_bytes, factor=factor), out=runs, iters=iters, tell=tell)
    source = f"commbench validate, ring on 4 ranks, every second size, {records[0].started_at}"
    found = judge(records, max_median=max_median, max_p95=max_p95, source=source, out=out / "validation.jsonl")
    if json:
        for record in (*found.compared, found.summary):
            typer.echo(record.to_json())
    else:
        typer.echo(compared_header())
        for point in found.compared:
            typer.echo(compared_row(point))
        typer.echo(summary_lines(found.summary))
    topology = found.machine.topology(4)
    page = ReportInput(
        title="commbench validate",
        records=[*records, *found.compared, found.summary],
        topologies=[topology],
        command=" ".join(["commbench", *sys.argv[1:]]),
        calibration=topology.numbers,
    )
    tell(f"report: {write_report(page, out / 'report.html')}")
    if not found.summary.ok:
        raise CheckFailedError("validation fell short of its thresholds; the table and the report show where")
