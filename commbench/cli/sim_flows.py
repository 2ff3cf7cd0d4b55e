# SPDX-License-Identifier: Apache-2.0
"""``commbench sim flows``: single flows on a fabric."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable
from commbench.cli.running import command_app
from commbench.errors import InputError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.flows import SimulatedFlows

__all__ = ["app", "flows", "flows_table"]

app = command_app()


@app.command()
def flows(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="CSV (src,dst,bytes,start), a connection matrix of htsim, or incast:SENDERS,SIZE."
        ),
    ],
    topology: Annotated[str, typer.Option("-t", "--topology", help="A name from topologies/ or a path.")],
    network: Annotated[
        str, typer.Option("--network", help="fluid, packet[:none|:dcqcn|:swift|:ndp] with settings, or auto[:...].")
    ] = "packet",
    routing: Annotated[
        str | None,
        typer.Option("--routing", help="ecmp, d-mod-k or rail-aware; the topology's own if left out."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the ECMP hash.")] = 0,
    engine: Annotated[str, typer.Option("--engine", help="compiled, reference or auto; the same times.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=writable, help="Append to this .jsonl file, or write every flow's times to a .csv."
        ),
    ] = None,
    json: Jsonl = False,
) -> None:
    """Simulate single flows: when each is through, and how much slower than alone."""
    import json as json_text

    from commbench.experiments.flows import simulate_flows
    from commbench.results.run_id import new_run_id

    if out is not None and out.suffix not in (".csv", ".jsonl"):
        raise InputError(f"--out {out}: must end in .jsonl (the record) or .csv (every flow's times)")
    table, records = (out, None) if out is not None and out.suffix == ".csv" else (None, out)
    found = simulate_flows(
        source, topology, network=network, routing=routing, seed=seed, engine=engine, table=table, run=new_run_id()
    )
    if found.network_why:
        tell(f"network {found.network}: {found.network_why}")
    if json:
        typer.echo(json_text.dumps(found.to_dict()))
    else:
        put(flows_table(found))
    if records is not None:
        from commbench.results.journal import Journal

        Journal(records).append(found)
        tell(f"records: {records}")


def flows_table(found: "SimulatedFlows") -> str:
    """Completion times and slowdowns, the fluid model beside them, and the slowest; every line fits 80 columns."""
    from commbench.cli.tables import heading, packet_lines
    from commbench.tables import Column, head_text, row_text
    from commbench.units import format_bytes

    goodput = "" if found.goodput_GBps is None else f", {found.goodput_GBps:.2f} GB/s"
    head = heading(
        f"{found.source} on {found.topology}: {found.flows:,} flows, {format_bytes(found.bytes)}, "
        f"routing {found.routing}, network {found.network}, engine {found.engine}",
        f"all through after {found.time_s * 1e6:.2f} us{goodput}",
    )
    fluid = (Column("fluid", "(us)", width=12), Column("difference", width=11)) if found.fluid_completion_s else ()
    columns = (
        Column("completion", numeric=False, width=11),
        Column("time", "(us)", width=12),
        Column("slowdown", "(x alone)", width=10, form=".2f"),
        *fluid,
    )
    lines = [head, head_text(columns)]
    for name, time_s in found.completion_s.items():
        row: list[str | float | None] = [name, f"{time_s * 1e6:.2f}", found.slowdown[name]]
        if fluid:
            beside = found.fluid_completion_s[name]
            row += [f"{beside * 1e6:.2f}", f"{time_s / beside - 1:+z.1%}" if beside else "-"]
        lines.append(row_text(columns, tuple(row)))
    if found.counted:
        lines += packet_lines(found.counted, found.queues)
    slowest = [f"{one['src']}->{one['dst']} {one['slowdown']:.2f}" for one in found.slowest[:5]]
    return "\n".join([*lines, f"# slowest, x alone: {', '.join(slowest)}"])
