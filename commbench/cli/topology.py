# SPDX-License-Identifier: Apache-2.0
"""``commbench topology``: which machines and clusters are known, what they are made of, and their picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl, writable
from commbench.cli.report import page_line
from commbench.cli.tables import columns, number_table, plain
from commbench.errors import InputError, UnitError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from rich.table import Table

    from commbench.topology import Fabric
    from commbench.topology.imports import Imported

__all__ = ["app"]

app = typer.Typer(help="List, show, draw, begin, import and export topologies.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A name that `topology list` shows, or the path of a .yaml file.")]
Out = Annotated[Path, typer.Option("--out", callback=writable, help="The SVG file to write.")]


@app.command("list")
def list_all(json: Jsonl = False) -> None:
    """Every topology that can be found, with its size."""
    from commbench.topology import list_topologies, load_fabric
    from commbench.topology.summary import headline

    topologies = [load_fabric(name) for name in list_topologies()]
    if json:
        for topology in topologies:
            typer.echo(json_line("topology", **headline(topology)))
        return
    table = columns(name="left", ranks="right", hosts="right", description="left")
    for topology in topologies:
        table.add_row(topology.name, str(topology.num_ranks), str(topology.num_hosts), topology.description)
    put(plain(table))


@app.command("show")
def show(name: Name, json: Jsonl = False) -> None:
    """One topology: its nodes, links and costs, and where each number comes from."""
    from commbench.topology import load_fabric
    from commbench.topology.summary import details

    topology = load_fabric(name)
    if json:
        typer.echo(json_line("topology", **details(topology)))
        return
    for part in _pages(topology):
        put(plain(part) if isinstance(part, str) else f"\n{plain(part)}")


@app.command("draw")
def draw(name: Name, out: Out, json: Jsonl = False) -> None:
    """A picture of a topology, as one SVG file that needs nothing else."""
    from commbench.report.draw import topology_svg
    from commbench.report.html import require_svg
    from commbench.results.outfile import write_whole
    from commbench.topology import load_fabric
    from commbench.topology.layout import drawable

    require_svg(out)
    write_whole(out, topology_svg(drawable(load_fabric(name))))
    if json:
        typer.echo(page_line(out, kind="drawing"))
    else:
        tell(f"wrote {out}")


@app.command("new")
def new(
    hosts: Annotated[int, typer.Option("--hosts", help="Hosts in all.")],
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of a host; 0 makes hosts of one CPU rank.")] = 0,
    rails: Annotated[int, typer.Option("--rails", help="NICs of a host, each to a leaf of its own.")] = 1,
    tiers: Annotated[int, typer.Option("--tiers", help="Tiers of switches, 0 to 3.")] = 2,
    oversubscription: Annotated[
        str, typer.Option("--oversubscription", help="Bandwidth below / above a leaf: 2:1 or 2.")
    ] = "1:1",
    name: Annotated[str, typer.Option("--name", help="What users call it.")] = "my-cluster",
) -> None:
    """A new topology file on stdout, commented and valid, for you to fill in: > my.yaml."""
    from commbench.topology.new import new_topology
    from commbench.units import parse_ratio

    try:
        ratio = parse_ratio(oversubscription)
    except UnitError as error:
        raise InputError(f"--oversubscription: {error}") from None
    made = new_topology(hosts=hosts, gpus=gpus, rails=rails, tiers=tiers, oversubscription=ratio, name=name)
    typer.echo(made, nl=False)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="NCCL XML, ibnetdiscover, topology.conf, nvidia-smi, InfraGraph.")],
    name: Annotated[str | None, typer.Option("--name", help="What users call it [as the file is called].")] = None,
    bandwidth: Annotated[
        str | None, typer.Option("--bandwidth", help="Of a NIC, for files that have no rates: '400 Gbit/s'.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Write the topology that it gives to this file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """What a file of another program describes, what is odd about it, and a topology of it."""
    from commbench.results.outfile import write_whole
    from commbench.topology import load_fabric
    from commbench.topology.imports import import_topology
    from commbench.units import parse_bandwidth

    try:
        parse_bandwidth(bandwidth or "1 GB/s")
    except UnitError as error:
        raise InputError(f"--bandwidth: {error}") from None
    found = import_topology(file, name, bandwidth)
    if out is not None and not found.text:
        raise InputError(f"--out {out}: {file} gives no topology: {found.why_none}")
    if json:
        told = {"import": found.what, "facts": dict(found.facts), "odd": list(found.odd), "text": found.text}
        typer.echo(json_line("topology", **told))
    else:
        put(_imported_text(found, out))
    if out is not None:
        write_whole(out, found.text)
        load_fabric(out)
        tell(f"wrote {out}; `commbench topology show {out}` has its numbers")


@app.command("export")
def export(
    name: Name,
    form: Annotated[str, typer.Option("--format", help="nccl-xml: what NCCL_TOPO_FILE names.")],
    host: Annotated[int, typer.Option("--host", help="Number of the host, where they differ.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", callback=writable, help="The file to write [stdout].")] = None,
) -> None:
    """One host of a topology as another program reads it; what the format cannot hold is said."""
    from commbench.results.outfile import write_whole
    from commbench.topology.exports import export_topology

    made = export_topology(name, form, host)
    if out is None:
        typer.echo(made.text, nl=False)
        return
    write_whole(out, made.text)
    tell("\n".join(_wrapped("  ", one) for one in made.said))
    tell(f"wrote {out}")


def _imported_text(found: "Imported", out: Path | None) -> str:
    """What was found, then what is odd, then whether it gives a topology, and that ``out`` gets it."""
    lines = [found.what, *(_wrapped(f"  {name}: ", text) for name, text in found.facts)]
    lines += [_wrapped("  odd: ", text) for text in found.odd] or ["  nothing odd about it"]
    given = f"in {out}" if out is not None else "--out FILE.yaml writes it"
    lines.append(_wrapped("  topology: ", given if found.text else f"none, {found.why_none}"))
    return "\n".join(lines)


def _wrapped(lead: str, text: str) -> str:
    """One item of a list on lines of 80 columns."""
    import textwrap

    return textwrap.fill(text, 80, initial_indent=lead, subsequent_indent=" " * 4, break_on_hyphens=False)


@app.command("schema")
def schema() -> None:
    """The JSON Schema of topology files, for editors."""
    import json

    from commbench.topology.keys import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _pages(topology: "Fabric") -> "Iterator[str | Table]":
    """What ``show`` prints, from the outline to the sources."""
    from commbench.topology.summary import describe_costs, node_counts

    yield f"{topology.name}: {topology.description}"
    yield f"  file     {topology.origin}"
    hosts = f"{topology.num_hosts} host{'s' if topology.num_hosts > 1 else ''}"
    yield f"  ranks    {topology.num_ranks} on {hosts}, routing {topology.routing}"
    yield f"  device   {topology.device or 'not said'}"
    yield f"  nodes    {', '.join(f'{count} {kind.value}' for kind, count in node_counts(topology).items())}"
    yield f"  costs    {describe_costs(topology)}"
    yield _link_table(topology)
    yield number_table(topology.numbers)


def _link_table(topology: "Fabric") -> "Table":
    from commbench.topology.model import LinkKind
    from commbench.topology.summary import link_classes
    from commbench.units import format_bandwidth, format_bit_rate, format_time, seconds

    table = columns(links="left", between="left", count="right", bandwidth="right", latency="right")
    for make in link_classes(topology):
        arrow = "<->" if make.duplex else "->"
        between = f"{make.src_kind.value} {arrow} {make.dst_kind.value}"
        latency = format_time(seconds(make.latency_ps)) if make.latency_ps else "0"
        rate = format_bandwidth(make.bandwidth)
        if make.kind is LinkKind.NETWORK:  # as vendors say it, and as nearly every file does
            rate = f"{format_bit_rate(make.bandwidth)} ({rate})"
        table.add_row(make.kind.value, between, str(make.count), rate, latency)
    return table
