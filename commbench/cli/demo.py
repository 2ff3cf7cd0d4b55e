# SPDX-License-Identifier: Apache-2.0
"""``commbench demo``: measure, calibrate, simulate, validate and report, on this machine, in one go."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for records and report.")] = Path("reports/demo"),
    iters: Annotated[int, typer.Option("-n", "--iters", help="Timed iterations per size.")] = 20,
) -> None:
    """See the whole of commbench on this machine in about a minute; the verdict is shown, and judged by `validate`."""
    from commbench.cli.reading import tell, this_command
    from commbench.cli.run_pipeline import demo_pipeline
    from commbench.cli.tables import compared_table, simulated_table
    from commbench.cli.validate import MAX_MEDIAN, MAX_P95
    from commbench.collectives.sizes import sweep
    from commbench.report.page import ReportInput, write_report
    from commbench.sim.collective import simulate
    from commbench.topology.load import load_topology
    from commbench.validate.campaign import LEGS, NATIVE, Leg, judge, measure_legs, simulate_sizes, stamp

    name, sizes = stamp(), sweep("64K", "16M")
    legs = (*LEGS, Leg(NATIVE, 4))
    records = measure_legs(legs, sizes, out=out / f"{name}-runs.jsonl", iters=iters, tell=tell)
    source = f"commbench demo, ring on 4 ranks, every second size, {records[0].started_at}"
    journal = out / f"{name}-validation.jsonl"
    found = judge(records, max_median=MAX_MEDIAN, max_p95=MAX_P95, source=source, out=journal)
    found.machine.write(out / "machine.yaml", 4)

    tell("simulating the same all-reduce on this machine and on a fat tree of 16 hosts")
    machine, fabric = found.machine.topology(4), load_topology("fat-tree-16")
    topologies = (machine, found.machine.topology(3), fabric)
    algorithms = ("ring", "double-binary-tree")
    simulated = simulate_sizes(topologies, algorithms, sizes, out=out / f"{name}-simulated.jsonl")
    for algorithm in algorithms:
        rows = [record for record in simulated if (record.topology, record.algorithm) == (fabric.name, algorithm)]
        typer.echo(simulated_table(rows, 4))
    typer.echo(compared_table(found.compared, found.summary))
    pipelines = demo_pipeline(out / f"{name}-pipeline.jsonl", tell)
    page = ReportInput(
        title="commbench demo",
        records=[*records, *simulated, *found.compared, found.summary, *pipelines],
        topologies=[machine, fabric],
        simulation=simulate(fabric, "all-reduce", "ring", 16 * 2**20),
        command=this_command(),
        calibration=machine.numbers,
    )
    typer.echo(f"report: {write_report(page, out / 'index.html')}")
