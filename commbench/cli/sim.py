# SPDX-License-Identifier: Apache-2.0
"""``commbench sim``: simulate a collective on a topology."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import (
    DEFAULT_SIZE,
    Jsonl,
    MaxBytes,
    MinBytes,
    StepBytes,
    StepFactor,
    require_collective,
    sizes_of,
    writable,
)
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation
    from commbench.sim.scenario import Scenario
    from commbench.topology.fabric import Fabric

__all__ = ["sim"]


def sim(
    collective: Annotated[str, typer.Argument(help="What to simulate, for example all-reduce.")],
    topology: Annotated[str, typer.Option("-t", "--topology", help="A name from topologies/ or a path.")],
    algorithm: Annotated[
        str | None,
        typer.Option("-a", "--algorithm", help="A name, or a .txt, .xml or .py file [ring; direct for all-to-all]."),
    ] = None,
    min_bytes: MinBytes = DEFAULT_SIZE,
    max_bytes: MaxBytes = None,
    factor: StepFactor = None,
    step: StepBytes = None,
    ranks: Annotated[int | None, typer.Option("-g", "--ranks", help="World size; all endpoints if left out.")] = None,
    slices: Annotated[
        int | None,
        typer.Option("--slices", help="Pieces to pipeline in; the algorithm's default if left out."),
    ] = None,
    channels: Annotated[int, typer.Option("--channels", help="Pieces that run side by side.")] = 1,
    root: Annotated[int, typer.Option("--root", help="Root rank of a rooted collective.")] = 0,
    group: Annotated[
        int | None, typer.Option("--group", help="Ranks per host for hierarchical algorithms; the topology's own.")
    ] = None,
    dtype: Annotated[str, typer.Option("-d", "--dtype", help="Element type.")] = "float32",
    routing: Annotated[
        str | None,
        typer.Option("--routing", help="ecmp, d-mod-k or rail-aware; the topology's own if left out."),
    ] = None,
    placement: Annotated[
        str, typer.Option("--placement", help="linear, random, round-robin (over hosts), or a host file.")
    ] = "linear",
    ranks_per_host: Annotated[
        int | None, typer.Option("--ranks-per-host", help="Ranks on each host, the first endpoints; all if left out.")
    ] = None,
    jobs: Annotated[
        str | None,
        typer.Option("--jobs", "--groups", help="Groups at once: a number, or ranks such as 0,1,4,5/2,3,6,7."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the ECMP hash, random placement and jitter.")] = 0,
    detail: Annotated[
        str,
        typer.Option(
            "--detail",
            help="transfer (all of them), folded (the same times from less work where symmetric) or collective "
            "(an estimate: one coupled flow).",
        ),
    ] = "transfer",
    engine: Annotated[str, typer.Option("--engine", help="compiled or reference; the same times.")] = "compiled",
    scenario: Annotated[
        Path | None, typer.Option("--scenario", help="YAML file of what goes wrong: links, ranks, other traffic.")
    ] = None,
    jitter: Annotated[
        float, typer.Option("--jitter", help="Vary the bytes of every transfer by up to this share, by the seed.")
    ] = 0.0,
    links: Annotated[bool, typer.Option("--links", help="Name the ten busiest links.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the records to this JSON Lines file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Simulate COLLECTIVE on a topology, one line per size."""
    from commbench.cli.progress import progress_bar
    from commbench.cluster import make_cluster
    from commbench.collectives.algorithms.load import load_any
    from commbench.collectives.registry import DEFAULTS
    from commbench.collectives.sizes import dtype_bytes
    from commbench.results.journal import Journal
    from commbench.results.run_id import new_run_id
    from commbench.sim.collective import simulate
    from commbench.topology.load import load_fabric
    from commbench.topology.summary import network_rate
    from commbench.units import format_bytes, rate_unit

    collective = require_collective(collective, "train")
    fabric = load_fabric(topology)
    element_bytes, unit = dtype_bytes(dtype), rate_unit(network_rate(fabric))
    cluster = make_cluster(fabric, **_where(ranks, placement, ranks_per_host, routing), seed=seed)
    span = (min_bytes, max_bytes, factor, step)
    sizes = sizes_of(collective, _largest_job(cluster.num_ranks, jobs), element_bytes, span)
    journal, shown = (Journal(out) if out is not None else None), list[float | None]()
    simulate_size = partial(
        simulate,
        fabric,
        collective,
        load_any(collective, algorithm or DEFAULTS[collective]),
        element_bytes=element_bytes,
        slices=slices,
        channels=channels,
        root=root,
        group=group,
        placement=placement,
        ranks_per_host=ranks_per_host,
        seed=seed,
        jobs=jobs,
        cluster=cluster,
        engine=engine,
        detail=detail,
        scenario=_scenario(scenario, jitter, seed, fabric),
        keep_trace=False,
        links=links,
        run_id=new_run_id(),
    )
    for number, size in enumerate(sizes):
        with progress_bar(f"{collective} {format_bytes(size)}") as progress:
            done = simulate_size(size, hints=number == 0, progress=progress)
        if journal is not None:
            journal.append(done.record)
        _show(done, element_bytes, unit, header=number == 0, json=json)
        shown.append(done.record.busbw_GBps)
    if not json:
        _show_average(shown, unit[1])


def _where(ranks: int | None, placement: str, ranks_per_host: int | None, routing: str | None) -> dict[str, Any]:
    """Options of a cluster by the names that it takes them by."""
    return {"num_ranks": ranks, "placement": placement, "ranks_per_host": ranks_per_host, "routing": routing}


def _largest_job(ranks: int, jobs: str | None) -> int:
    """Ranks of the collective; of the largest where several run at once."""
    from commbench.topology.jobs import deal

    return ranks if jobs is None else max(map(len, deal(jobs, ranks)))


def _show(done: "Simulation", element_bytes: int, unit: tuple[float, str], *, header: bool, json: bool) -> None:
    """One size: its line on stdout, what was folded or skipped and what would be faster on stderr."""
    from commbench.cli.tables import simulated_header, simulated_row
    from commbench.units import format_bytes

    record = done.record
    if done.hint:
        tell(f"note: {done.hint}")
    if json:
        typer.echo(record.to_json())
        return
    if record.shortcut:
        tell(f"{format_bytes(record.size_bytes)}: {record.shortcut}")
    if header:
        put(simulated_header(record, unit[1]))
    put(simulated_row(record, element_bytes, unit[0]))


def _show_average(busbws: "list[float | None]", unit: str) -> None:
    from commbench.cli.tables import average_line

    if busbws:
        if unit != "GB/s":
            put("# the average is in GB/s, as nccl-tests prints it")
        put(average_line(busbws))


def _note_idle_slow_rank(scenario: "Scenario", fabric: "Fabric") -> None:
    """Say on stderr where a rank is slow at what costs nothing on this fabric."""
    from commbench.topology.faults import SlowRank

    costs = fabric.costs
    if costs.message_overhead_ps or costs.reduction_ps_per_byte:
        return
    if any(isinstance(fault, SlowRank) for fault in scenario.faults):
        typer.echo(
            f"note: {scenario.origin}: slow-rank changes nothing on {fabric.name}, whose messages and additions cost "
            "nothing: give it costs",
            err=True,
        )


def _scenario(path: Path | None, jitter: float, seed: int, fabric: "Fabric") -> "Scenario | None":
    """What disturbs the run; None if nothing does."""
    if path is None and not jitter:
        return None
    from commbench.sim.scenario import Scenario

    base = Scenario() if path is None else Scenario.load(path)
    _note_idle_slow_rank(base, fabric)
    return replace(base, jitter=jitter or base.jitter, seed=seed)
