# SPDX-License-Identifier: Apache-2.0
"""``commbench algorithm``: list, show and verify schedules."""

from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.options import Jsonl

__all__ = ["app"]

app = typer.Typer(help="List, show and verify collective algorithms.", no_args_is_help=True)

Collective = Annotated[str, typer.Option("-c", "--collective", help="Which collective.")]


@app.command("list")
def list_algorithms(json: Jsonl = False) -> None:
    """Every algorithm with its steps and bytes per rank on 8 ranks."""
    import json as jsonlib

    from commbench.collectives.registry import ALGORITHMS
    from commbench.collectives.statistics import per_rank_share

    names = sorted({(a.collective, a.name) for a in ALGORITHMS.values()})
    if not json:
        typer.echo(
            f"{'collective':<12} {'algorithm':<20} {'steps':>6} {'sent':>7}  source (steps, share sent: 8 ranks)"
        )
    for key in names:
        algorithm = ALGORITHMS[key]
        schedule = algorithm.build(max(8, algorithm.min_ranks), 1)
        steps, share = schedule.num_steps, per_rank_share(schedule)
        if json:
            fields = {
                "collective": key[0],
                "algorithm": key[1],
                "aliases": algorithm.aliases,
                "min_ranks": algorithm.min_ranks,
            }
            figures = {
                "default_slices": algorithm.default_slices,
                "steps_on_8": steps,
                "sent_share_on_8": share,
            }
            typer.echo(
                jsonlib.dumps({"kind": "algorithm", "schema": 1, **fields, **figures, "source": algorithm.source})
            )
        else:
            typer.echo(f"{key[0]:<12} {key[1]:<20} {steps:>6} {share:>6.3f}S  {algorithm.source}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="An algorithm, or the path of a schedule in text form.")],
    ranks: Annotated[int, typer.Option("--ranks", help="World size.")] = 4,
    slices: Annotated[int | None, typer.Option("--slices", help="Pieces to pipeline in.")] = None,
    collective: Collective = "all-reduce",
    text: Annotated[bool, typer.Option("--text", help="The text form instead of the grid.")] = False,
) -> None:
    """The schedule as a step-by-rank grid: chunk>peer sends, chunk<peer receives, chunk+peer receives and adds."""
    from commbench.collectives.algorithms.load import load_algorithm
    from commbench.collectives.grid import step_by_rank
    from commbench.collectives.registry import build_schedule
    from commbench.collectives.text import to_text

    chosen = load_algorithm(collective, name)
    schedule = build_schedule(collective, chosen, ranks, slices) if isinstance(chosen, str) else chosen
    typer.echo(to_text(schedule) if text else step_by_rank(schedule), nl=not text)


@app.command("verify")
def verify_file(file: Annotated[Path, typer.Argument(help="A schedule in text form.")]) -> None:
    """Check that a schedule does what its collective promises; exit 2 and show where if not."""
    from commbench.collectives.text import read_schedule
    from commbench.collectives.verify import verify

    schedule = read_schedule(file)
    verify(schedule)
    typer.echo(
        f"{file}: right: {schedule.collective}/{schedule.algorithm}, {schedule.num_ranks} ranks, "
        f"{len(schedule)} operations"
    )
