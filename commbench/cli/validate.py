# SPDX-License-Identifier: Apache-2.0
"""``commbench validate``: predictions held against measurements that they have not seen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, Salvage
from commbench.errors import CheckFailedError, InputError

if TYPE_CHECKING:
    from commbench.results.records import Measured

__all__ = ["MAX_MEDIAN", "MAX_P95", "validate"]

# What a loopback on a busy laptop can be held to; an emulated fabric must do better (see README).
MAX_MEDIAN, MAX_P95 = 0.10, 0.30


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Measured runs; left out, this machine is measured now.")
    ] = None,
    min_bytes: Annotated[str | None, typer.Option("-b", "--minbytes", help="Smallest size to measure [64K].")] = None,
    max_bytes: Annotated[str | None, typer.Option("-e", "--maxbytes", help="Largest size to measure [16M].")] = None,
    factor: Annotated[float | None, typer.Option("-f", "--stepfactor", help="Factor between sizes [2].")] = None,
    iters: Annotated[int | None, typer.Option("-n", "--iters", help="Timed iterations per size [20].")] = None,
    max_median: Annotated[float, typer.Option(help="Largest median |error| that passes.")] = MAX_MEDIAN,
    max_p95: Annotated[float, typer.Option(help="Largest 95th percentile of |error| that passes.")] = MAX_P95,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for records and report.")] = Path("runs/validate"),
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Fit on ring at 4 ranks, every second size; predict the other sizes, the double binary tree, and 3 ranks."""
    from commbench.cli.reading import read_measured, tell, this_command
    from commbench.cli.tables import compared_table
    from commbench.report.page import ReportInput, write_report
    from commbench.validate.campaign import judge, stamp

    name = stamp()
    if files:
        if any(option is not None for option in (min_bytes, max_bytes, factor, iters)):
            raise InputError("-b, -e, -f and -n say what to measure; they have no meaning with files of runs")
        records = read_measured(files, salvage)
    else:
        records = _measure(min_bytes or "64K", max_bytes or "16M", factor or 2, iters or 20, out / f"{name}-runs.jsonl")
    source = f"commbench validate, ring on 4 ranks, every second size, {records[0].started_at}"
    journal = out / f"{name}-validation.jsonl"
    found = judge(records, max_median=max_median, max_p95=max_p95, source=source, out=journal)
    if found.num_native:
        tell(f"not compared: {found.num_native} records of the backend's own collectives")
    verdict = [*found.compared, found.summary]
    typer.echo("\n".join(r.to_json() for r in verdict) if json else compared_table(found.compared, found.summary))
    topology = found.machine.topology(4)
    page = ReportInput(
        title="commbench validate",
        records=[*records, *verdict],
        topologies=[topology],
        command=this_command(),
        calibration=topology.numbers,
    )
    tell(f"records: {journal}\nreport: {write_report(page, out / f'{name}-report.html')}")
    if not found.summary.ok:
        raise CheckFailedError("validation fell short of its thresholds; the table and the report show where")


def _measure(min_bytes: str, max_bytes: str, factor: float, iters: int, out: Path) -> "list[Measured]":
    from commbench.cli.reading import tell
    from commbench.collectives.sizes import sweep
    from commbench.validate.campaign import LEGS, measure_legs

    return measure_legs(LEGS, sweep(min_bytes, max_bytes, factor=factor), out=out, iters=iters, tell=tell)
