# SPDX-License-Identifier: Apache-2.0
"""``commbench sim trace``: a recorded step on another fabric."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl
from commbench.cli.running import command_app
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.experiments.trace import SimulatedTrace

__all__ = ["app", "trace"]

app = command_app()


@app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="Of one rank: torch.profiler's JSON, Chakra's .et or JSON; .gz too.")],
    topology: Annotated[str, typer.Option("-t", "--topology", help="A name from topologies/ or a path.")],
    library: Annotated[str, typer.Option("--library", help="ideal, nccl or rccl.")] = "ideal",
    ranks: Annotated[
        int | None, typer.Option("-g", "--ranks", min=1, help="World size, where the trace does not say.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Simulate a recorded step on another fabric: compute as measured, collectives simulated."""
    import json as json_text

    from commbench.experiments.trace import simulate_trace

    found = simulate_trace(file, topology, library=library, ranks=ranks)
    if json:
        for note in found.notes:
            tell(f"note: {note}")
        typer.echo(json_text.dumps(found.to_dict()))
    else:
        put(trace_table(found))


def trace_table(found: "SimulatedTrace") -> str:
    """What was simulated, the step's time then and here, and the collectives by kind; every line fits 80 columns."""
    from commbench.cli.tables import heading
    from commbench.tables import Column, head_text, row_text
    from commbench.units import format_bytes, format_time

    steps = f", {found.steps} step{'s' * (found.steps > 1)}" if found.steps else ""
    head = heading(
        f"trace {found.trace} ({found.trace_kind}, rank {found.rank}, {found.operations} operations{steps}) on "
        f"{found.topology}: {found.ranks} ranks, library {found.library}",
        *found.notes,
    )
    recorded = "-" if found.recorded_s is None else format_time(found.recorded_s)
    times = [f" recorded       {recorded}", f" simulated      {format_time(found.simulated_s)}"]
    if found.recorded_s:
        times[1] += f"   {found.simulated_s / found.recorded_s - 1:+z.1%}"
    if found.steps:
        times.append(f" a step         {format_time(found.simulated_s / found.steps)}")
    times.append(f" compute        {format_time(found.compute_s)}   (as measured, all streams)")
    columns = (
        Column("collective", numeric=False, width=16), Column("number", width=8), Column("bytes", width=12),
        Column("recorded", width=12), Column("simulated", width=12),
    )  # fmt: skip
    lines = [head, *times, head_text(columns)]
    for kind, own in found.collectives.items():
        lasted = format_time(own["recorded_s"]), format_time(own["simulated_s"])
        lines.append(row_text(columns, (kind, int(own["number"]), format_bytes(own["bytes"]), *lasted)))
    return "\n".join(lines)
