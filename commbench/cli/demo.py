# SPDX-License-Identifier: Apache-2.0
"""``commbench demo``: measure, calibrate, simulate, validate and report, on this machine, in one go."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable_folder

if TYPE_CHECKING:
    from commbench.cli.pipeline_tables import Twins
    from commbench.results.records import Record

__all__ = ["demo"]

_ALGORITHMS = ("ring", "double-binary-tree")


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", callback=writable_folder, help="Folder for records and report.")
    ] = Path("reports/demo"),
    iters: Annotated[int, typer.Option("-n", "--iters", help="Timed iterations per size.")] = 20,
    json: Jsonl = False,
) -> None:
    """See the whole of commbench on this machine in about a minute; the verdict is shown, and judged by `validate`."""
    from commbench.cli.reading import tell, this_command
    from commbench.cli.report import page_line
    from commbench.cli.run_pipeline import show
    from commbench.cli.tables import compared_table, simulated_table
    from commbench.cli.validate import MAX_MEDIAN, MAX_P95
    from commbench.collectives.sizes import sweep
    from commbench.report.page import ReportInput, write_report
    from commbench.results.run_id import new_run_id
    from commbench.sim.collective import simulate
    from commbench.topology.load import load_topology
    from commbench.validate.campaign import LEGS, NATIVE, Leg, judge, measure_legs, simulate_sizes

    name, sizes = new_run_id(), sweep("64K", "16M")
    legs = (*LEGS, Leg(NATIVE, 4))
    records = measure_legs(legs, sizes, out=out / f"{name}-runs.jsonl", iters=iters, tell=tell)
    source = f"commbench demo, ring on 4 ranks, every second size, {records[0].started_at}"
    journal = out / f"{name}-validation.jsonl"
    found = judge(records, max_median=MAX_MEDIAN, max_p95=MAX_P95, source=source, out=journal)
    found.machine.write(out / "machine.yaml", 4)

    tell("simulating the same all-reduce on this machine and on a fat tree of 16 hosts")
    machine, fabric = found.machine.topology(4), load_topology("fat-tree-16")
    topologies = (machine, found.machine.topology(3), fabric)
    simulated = simulate_sizes(topologies, _ALGORITHMS, sizes, out=out / f"{name}-simulated.jsonl")
    for algorithm in _ALGORITHMS:
        rows = [record for record in simulated if (record.topology, record.algorithm) == (fabric.name, algorithm)]
        typer.echo(_lines(rows) if json else simulated_table(rows, 4))
    verdict = [*found.compared, found.summary]
    typer.echo(_lines(verdict) if json else compared_table(found.compared, found.summary))
    tell("measuring a 1F1B pipeline on 4 live gloo ranks, and simulating it with the measured passes")
    twins = _pipelines(out / f"{name}-pipeline.jsonl")
    show(twins, json, max_points=None, max_error=None)
    pipelines = [record for both in twins for record in (both.measured, both.simulated, both.compared)]
    page = ReportInput(
        title="commbench demo",
        records=[*records, *simulated, *verdict, *pipelines],
        topologies=[machine, fabric],
        simulation=simulate(fabric, "all-reduce", "ring", 16 * 2**20),
        command=this_command(),
        calibration=machine.numbers,
    )
    path = write_report(page, out / "index.html")
    typer.echo(page_line(path) if json else f"report: {path}")


def _lines(records: "Sequence[Record]") -> str:
    """The records, a JSON object per line."""
    return "\n".join(record.to_json() for record in records)


def _pipelines(out: Path) -> "list[Twins]":
    """1F1B on 4 live ranks, and its simulated twin."""
    from commbench.cli.run_pipeline import compare_all, make_job
    from commbench.live.measure import run_job

    job = make_job("1f1b", ranks=4, out=out, backend="gloo", iters=3, forward="30 ms", input_="30 ms", weight="30 ms")
    return compare_all(run_job(job), out)
