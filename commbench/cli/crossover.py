# SPDX-License-Identifier: Apache-2.0
"""``commbench algorithm crossover``: which algorithm wins at which size and rank count on a topology."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, MaxBytes, MinBytes, StepBytes, StepFactor, writable
from commbench.cli.tables import plain
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from rich.table import Table

    from commbench.sim.crossover import Crossover

__all__ = ["crossover", "crossover_table"]

_NOT_PASSED = ("min_bytes", "max_bytes", "factor", "step", "out", "json")


def crossover(
    topology: Annotated[str, typer.Option("-t", "--topology", help="A name from topologies/ or a path.")],
    collective: Annotated[str, typer.Option("-c", "--collective", help="Which collective.")] = "all-reduce",
    ranks: Annotated[
        str | None, typer.Option("--ranks", help="World sizes, such as 2,4,8; powers of two if left out.")
    ] = None,
    min_bytes: MinBytes = "1K",
    max_bytes: MaxBytes = None,
    factor: StepFactor = None,
    step: StepBytes = None,
    algorithms: Annotated[
        str | None, typer.Option("--algorithms", help="Names, such as ring,tree; all of the collective if left out.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option("--channels", help="Candidates [1,2,4,8, up to a host's ranks or NICs].")
    ] = None,
    slices: Annotated[
        str | None, typer.Option("--slices", help="Candidates beside each algorithm's own [4,16].")
    ] = None,
    live_only: Annotated[
        bool, typer.Option("--live-only", help="Leave out algorithms that need switches which add.")
    ] = False,
    routing: Annotated[str | None, typer.Option("--routing", help="The topology's own if left out.")] = None,
    placement: Annotated[str, typer.Option("--placement", help="linear or random.")] = "linear",
    seed: Annotated[int, typer.Option("--seed", help="Of the ECMP hash and of random placement.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Also draw the map into this SVG file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Simulate every algorithm of a collective; print the fastest per size and rank count."""
    given = {k: v for k, v in locals().items() if k not in _NOT_PASSED}
    from commbench.cli.progress import progress_bar
    from commbench.experiments.crossover import left_out, race
    from commbench.report.html import require_svg

    if out is not None:
        require_svg(out)
    with progress_bar("simulating") as advance:
        records = race(**given, sizes=(min_bytes, max_bytes, factor, step), advance=advance)
    if out is not None:
        _draw(records, out)
    if json:
        for record in records:
            typer.echo(record.to_json())
        return
    first = records[0]
    where = f"routing {first.routing}, placement {first.placement}, seed {first.seed}"
    put(plain(f"fastest {first.collective} on {first.topology}, simulated: {where}"))
    put("+x %: how much longer the runner-up takes; c8: on 8 channels, s16: in 16 slices")
    put(plain(crossover_table(records)))
    for note in left_out(records):
        tell(f"note: {note}")


def crossover_table(records: Sequence["Crossover"]) -> "Table":
    """Rows are sizes, columns world sizes; a cell holds the winner, its time, and how far behind the second is."""
    from rich import box
    from rich.table import Table

    from commbench.units import format_bytes, format_time

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = list(dict.fromkeys(r.ranks for r in records))
    table.add_column("size", justify="right", no_wrap=True)
    for n in columns:
        table.add_column(f"{n} ranks" if n > 1 else "1 rank", overflow="fold")
    for size in dict.fromkeys(r.size_bytes for r in records):
        row = {r.ranks: r for r in records if r.size_bytes == size}
        cells = []
        for n in columns:
            winner, margin = row[n].winner, row[n].margin
            if winner is None:
                cells.append("none")
                continue
            behind = "" if margin is None else ", tie" if margin == 0 else f", +{margin:.1%}"
            cells.append(f"{row[n].label(winner)}\n{format_time(row[n].times_s[winner])}{behind}")
        table.add_row(format_bytes(size), *cells)
    return table


def _draw(records: Sequence["Crossover"], out: Path) -> None:
    from commbench.report.crossover import crossover_svg
    from commbench.results.outfile import write_whole

    write_whole(out, crossover_svg(records) + "\n")
    tell(f"wrote {out}")
