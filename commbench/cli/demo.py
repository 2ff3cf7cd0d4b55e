# SPDX-License-Identifier: Apache-2.0
"""``commbench demo``: measure, calibrate, simulate, validate and report, on this machine, in one go."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable_folder
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.records import Record
    from commbench.sim.collective import Simulation
    from commbench.topology.fabric import Fabric
    from commbench.validate.campaign import Validation

__all__ = ["demo"]

_ALGORITHMS = ("ring", "double-binary-tree")
_FITTED = (
    "The curve of two hosts of 8 H100 is one of those that the constants of NCCL's model were fitted to; how far it is "
    "off on curves that were left out: docs/nccl-accuracy.md."
)
_JUDGED = (
    "What is judged are real ranks over real TCP on emulated fabrics (star-8 and others), whose links are slow enough "
    "for any processor."
)
_CROWDED = (
    "more ranks than cores: shown, not judged; ranks wait for a core as well as for data, which the model does not know"
)


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", callback=writable_folder, help="Folder for records and report.")
    ] = Path("reports/demo"),
    iters: Annotated[int, typer.Option("-n", "--iters", help="Timed iterations per size.")] = 20,
    json: Jsonl = False,
) -> None:
    """See the whole of commbench on this machine in about two minutes; the exit code judges nothing, `validate` does.

    First an emulated fabric, whose links are slow enough for any processor; then NCCL on a real cluster beside its
    model, a step on 1,024 GPUs, and this machine's own ranks.
    """
    from commbench.cli.reading import this_command
    from commbench.cli.report import page_line
    from commbench.cli.run_pipeline import show
    from commbench.cli.tables import simulated_table
    from commbench.cli.validate import MAX_MEDIAN, MAX_P95
    from commbench.collectives.sizes import sweep
    from commbench.experiments.demo import measure_pipelines
    from commbench.live.ending import end_in_order
    from commbench.report.page import ReportInput, write_report
    from commbench.results.environment import cores_usable
    from commbench.results.run_id import new_run_id
    from commbench.topology.load import load_fabric
    from commbench.validate.campaign import LEGS, NATIVE, Leg, judge, measure_legs, simulate_sizes

    end_in_order()
    name, sizes = new_run_id(), sweep("64K", "16M")
    emulated = _emulated(out / f"{name}-emulated.jsonl", json)
    cluster, step = _cluster(json), _step(json)
    legs = (*LEGS, Leg(NATIVE, 4))
    records = measure_legs(legs, sizes, out=out / f"{name}-runs.jsonl", iters=iters, tell=tell)
    source = f"commbench demo, ring on 4 ranks, every second size, {records[0].started_at}"
    journal = out / f"{name}-validation.jsonl"
    found = judge(records, max_median=MAX_MEDIAN, max_p95=MAX_P95, source=source, out=journal)
    found.machine.write(out / "machine.yaml", 4)

    tell("simulating the same all-reduce on this machine and on a fat tree of 64 hosts")
    machine, fabric = found.machine.topology(4), load_fabric("fat-tree-64")
    topologies = (machine, found.machine.topology(3), fabric)
    simulated = simulate_sizes(topologies, _ALGORITHMS, sizes, out=out / f"{name}-simulated.jsonl")
    for algorithm in _ALGORITHMS:
        rows = [record for record in simulated if (record.topology, record.algorithm) == (fabric.name, algorithm)]
        typer.echo(_lines(rows)) if json else put(simulated_table(rows, 4))
    crowded = max(leg.ranks for leg in legs) > cores_usable()
    verdict = _own_verdict(found, crowded, json)
    tell("measuring a 1F1B pipeline on 4 live gloo ranks, and simulating it with the measured passes")
    twins = measure_pipelines(out / f"{name}-pipeline.jsonl")
    show(twins, json, max_points=None, max_error=None)
    pipelines = [record for both in twins for record in (both.measured, both.simulated, both.compared)]
    notes = {_JUDGED: emulated, _FITTED: cluster, f"This machine's own ranks: {_CROWDED}.": crowded}
    page = ReportInput(
        title="commbench demo",
        records=[*emulated, *cluster, *step, *records, *simulated, *verdict, *pipelines],
        topologies=[machine, fabric],
        simulation=_ring_on(fabric),
        command=this_command(),
        notes=[note for note, holds in notes.items() if holds],
        calibration=machine.numbers,
    )
    path = write_report(page, out / "index.html")
    typer.echo(page_line(path) if json else f"report: {path}")


def _ring_on(fabric: "Fabric") -> "Simulation":
    """With its links, for the drawing."""
    from commbench.cluster import make_cluster
    from commbench.libraries.ideal import Ideal
    from commbench.sim.collective import Extras, simulate_collective

    ring = Ideal(algorithms={"all-reduce": "ring"})
    return simulate_collective("all-reduce", 16 * 2**20, make_cluster(fabric), ring, extras=Extras(links=True))


def _emulated(out: Path, json: bool) -> "list[Record]":
    """What a fabric of network namespaces says of the simulator: points and verdicts; of kept records without root."""
    from commbench.cli.validate import agreement_table
    from commbench.experiments.demo import fabric_records
    from commbench.validate.lab_judge import judge_labs

    measured = fabric_records(out, tell)
    if not measured:
        return []
    found = judge_labs(measured, packet_bars=None, tell=tell)
    verdict: list[Record] = [*(point.compared for point in found.points), *found.summaries.values()]
    typer.echo(_lines(verdict)) if json else put(agreement_table(found))
    return verdict


def _cluster(json: bool) -> "list[Record]":
    """NCCL on a real cluster beside its model."""
    from commbench.cli.validate_log import judged_table
    from commbench.experiments.demo import cluster_records

    rows, judged, health = cluster_records()
    if not rows:
        return []
    tell("holding NCCL on two hosts of 8 H100 (NVIDIA/nccl-tests#309) against the model of it")
    typer.echo(_lines([*judged, *health])) if json else put(judged_table(judged, health))
    return [*rows, *judged, *health]


def _step(json: bool) -> "list[Record]":
    """A training step on 1,024 GPUs."""
    from commbench.cli.step_tables import step_table
    from commbench.experiments.demo import simulated_step

    tell("simulating a step of GPT-3 on 1,024 H100")
    step = simulated_step()
    typer.echo(_lines([step])) if json else put(step_table(step))
    return [step]


def _own_verdict(found: "Validation", crowded: bool, json: bool) -> "list[Record]":
    """What this machine's own ranks say of the simulator: points, and a verdict where each rank has a core."""
    from commbench.cli.tables import compared_points, compared_table

    if crowded:
        typer.echo(_lines(found.compared)) if json else put(compared_points(found.compared))
        tell(_CROWDED)
        return [*found.compared]
    verdict: list[Record] = [*found.compared, found.summary]
    typer.echo(_lines(verdict)) if json else put(compared_table(found.compared, found.summary))
    return verdict


def _lines(records: "Sequence[Record]") -> str:
    """The records, a JSON object per line."""
    return "\n".join(record.to_json() for record in records)
