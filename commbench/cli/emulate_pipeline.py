# SPDX-License-Identifier: Apache-2.0
"""``commbench emulate TOPOLOGY run pipeline``: a pipeline on a fabric of network namespaces, and its simulated twin."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli import run_pipeline
from commbench.cli.emulate_lab import AUTO, Mtu, Preflight, Rate, Routing, Seed, in_lab, laid_out
from commbench.cli.options import with_options_of
from commbench.cli.running import command_app
from commbench.errors import InputError
from commbench.terminal import tell

if TYPE_CHECKING:
    from commbench.emulate.plan import TestbedPlan
    from commbench.emulate.preflight import Capacity
    from commbench.emulate.testbed import Testbed
    from commbench.live.job import PipelineJob
    from commbench.network.transport import Transport
    from commbench.results.pipeline_records import PipelineMeasured
    from commbench.topology.fabric import Fabric

__all__ = ["app", "pipeline"]

app = command_app()


@app.command()
@with_options_of(run_pipeline.pipeline, without="backend")
def pipeline(
    context: typer.Context,
    hosts: Annotated[
        str | None, typer.Option(help="That the ranks run on, such as 0,4,8,12 [the first].", show_default=False)
    ] = None,
    rate: Rate = AUTO,
    routing: Routing = None,
    mtu: Mtu = 1500,
    seed: Seed = 1,
    preflight: Preflight = True,
    **given: Any,
) -> None:
    """Measure a pipeline inside the fabric, one rank per host, and simulate it on the fabric's links.

    The machine is calibrated first: gloo's own all-reduce alone, three sizes.
    """
    from commbench.emulate.privilege import gain
    from commbench.live.ending import end_in_order

    gain()  # first of all: what is imported below may start threads
    end_in_order()
    _run(context.obj, hosts, lambda topology: laid_out(topology, rate, routing, mtu, preflight), seed, **given)


def _run(
    name: str,
    hosts: str | None,
    lay_out: "Callable[[Fabric], tuple[TestbedPlan, Capacity | None]]",
    seed: int,
    *,
    nproc: int | None,
    schedule: str,
    max_points: float | None,
    max_error: float | None,
    out: Path | None,
    json: bool,
    **given: Any,
) -> None:
    """Calibrate, measure and compare in a lab; judge at the end."""
    from commbench.emulate.testbed import Testbed
    from commbench.experiments.pipeline import compare_all, make_job
    from commbench.live.plan import default_out
    from commbench.results.run_id import new_run_id
    from commbench.topology.load import load_fabric
    from commbench.validate.lab_pipeline import MAX_ERROR, facts_of, pipeline_network

    topology = load_fabric(name)
    places = _places(hosts, nproc, topology)
    run = new_run_id()
    journal = out or default_out(run, "emulated-pipeline", Path(schedule).stem)
    job = make_job(schedule, run=run, ranks=len(places), out=journal, backend="gloo", **given)
    planned, capacity = lay_out(topology)
    lab = Testbed(planned, seed=seed, realtime=True)
    facts = facts_of(lab, places, None if capacity is None else round(capacity.bytes_per_s))
    transport, records, seen = _measure(lab, replace(job, facts={"emulated": facts}), places)
    twins = compare_all(
        records,
        journal,
        max_points=max_points,
        max_error=MAX_ERROR if max_error is None else max_error,
        network_of=lambda measured: pipeline_network(measured, transport, planned.topology, seen),
    )
    run_pipeline.show(twins, json, max_points=max_points, max_error=max_error)


def _measure(
    lab: "Testbed", job: "PipelineJob", places: tuple[int, ...]
) -> "tuple[Transport, list[PipelineMeasured], Mapping[str, str]]":
    """Make the lab and take it away; the transport as fitted there, the records, and the routes that ECMP took."""
    from commbench.live.observe import Observer
    from commbench.validate.lab_pipeline import calibrate_lab, measure_in_lab

    with in_lab(lab, job.out):
        tell(f"calibrating: gloo's all-reduce alone on {job.ranks} hosts")
        transport = calibrate_lab(lab, places, out=job.out, run=f"{job.run}-calibration", facts=job.facts)
        tell(f"measuring {job.schedule} on {job.ranks} hosts")
        return (transport, *measure_in_lab(lab, job, places, Observer()))


def _places(hosts: str | None, nproc: int | None, topology: "Fabric") -> tuple[int, ...]:
    """Rank of the topology for every rank of the pipeline.

    Raises:
        InputError: too few, or such as are not there, or --nproc says otherwise; names the option.
    """
    if hosts is None:
        count = run_pipeline.DEFAULT_RANKS if nproc is None else nproc
        if not 2 <= count <= topology.num_ranks:
            raise InputError(f"--nproc {count} is outside 2..{topology.num_ranks}, the hosts of {topology.name}")
        return tuple(range(count))
    try:
        places = tuple(int(place) for place in hosts.split(","))
    except ValueError:
        raise InputError(f"--hosts {hosts!r}: give ranks of the topology, such as 0,4,8,12") from None
    if len(places) < 2 or len(set(places)) < len(places) or not set(places) <= set(range(topology.num_ranks)):
        raise InputError(f"--hosts {hosts}: two or more different ones of 0..{topology.num_ranks - 1} are needed")
    if nproc not in (None, len(places)):
        raise InputError(f"--nproc {nproc}, but --hosts {hosts} are {len(places)}")
    return places
