# SPDX-License-Identifier: Apache-2.0
"""``commbench demo``: measure, calibrate, simulate, validate and report, on this machine, in one go."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for records and report.")] = Path("reports/demo"),
    iters: Annotated[int, typer.Option("-n", "--iters", help="Timed iterations per size.")] = 20,
) -> None:
    """See the whole of commbench on this machine in about a minute; the verdict is shown, and judged by `validate`."""
    from commbench.cli.tables import (
        compared_header,
        compared_row,
        simulated_header,
        simulated_row,
        summary_lines,
    )
    from commbench.cli.validate import MAX_MEDIAN, MAX_P95
    from commbench.collectives.sizes import sweep
    from commbench.report.page import ReportInput, write_report
    from commbench.results.journal import Journal
    from commbench.results.records import Record
    from commbench.sim.collective import simulate
    from commbench.topology.load import load_topology
    from commbench.validate.campaign import LEGS, Leg, judge, measure_legs

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"  # files of their own, so that no demo's records are lost to the next
    runs, validation = out / f"{stamp}-runs.jsonl", out / f"{stamp}-validation.jsonl"
    records = measure_legs((*LEGS, Leg("native", 4)), sweep("64K", "16M"), out=runs, iters=iters, tell=tell)
    source = f"commbench demo, ring on 4 ranks, every second size, {records[0].started_at}"
    found = judge(records, max_median=MAX_MEDIAN, max_p95=MAX_P95, source=source, out=validation)
    machine = found.machine.topology(4)
    found.machine.write(out / "machine.yaml", 4)

    tell("simulating the same all-reduce on this machine and on a fat tree of 16 hosts")
    fabric = load_topology("fat-tree-16")
    journal = Journal(out / f"{stamp}-simulated.jsonl")
    records_simulated: list[Record] = []
    for topology in (machine, found.machine.topology(3), fabric):
        for algorithm in ("ring", "double-binary-tree"):
            simulated = [simulate(topology, "all-reduce", algorithm, size).record for size in sweep("64K", "16M")]
            records_simulated += simulated
            for record in simulated:
                journal.append(record)
            if topology is fabric:
                typer.echo("\n".join([simulated_header(simulated[0]), *(simulated_row(r, 4) for r in simulated)]))
    typer.echo(compared_header())
    for point in found.compared:
        typer.echo(compared_row(point))
    typer.echo(summary_lines(found.summary))
    page = ReportInput(
        title="commbench demo",
        records=[*records, *records_simulated, *found.compared, found.summary],
        topologies=[machine, fabric],
        simulation=simulate(fabric, "all-reduce", "ring", 16 * 2**20),
        command="make demo",
        calibration=machine.numbers,
    )
    typer.echo(f"report: {write_report(page, out / 'index.html')}")
