# SPDX-License-Identifier: Apache-2.0
"""``commbench run pipeline``: a pipeline schedule on live ranks, its bubble measured, and its simulated twin."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import JoinTimeout, Jsonl, Out, Timeout
from commbench.cli.pipeline_tables import pipeline_table
from commbench.cli.running import (
    Backend,
    Check,
    Iters,
    Nproc,
    Warmup,
    command_app,
    journal,
    ranks_of,
    run_here,
)
from commbench.terminal import put

if TYPE_CHECKING:
    from commbench.experiments.pipeline import PipelineTwins

__all__ = ["DEFAULT_RANKS", "app", "pipeline", "show"]

DEFAULT_RANKS = 4

app = command_app()


@app.command()
def pipeline(
    schedule: Annotated[str, typer.Option("--schedule", "-s", help="A name, or torch's CSV of one.")] = "1f1b",
    nproc: Nproc = None,
    microbatches: Annotated[
        int | None, typer.Option("--microbatches", "-m", help="Of a step [8, or as the CSV says].", show_default=False)
    ] = None,
    stages_per_rank: Annotated[
        int | None,
        typer.Option("--stages-per-rank", "-v", help="[the schedule's own; interleaved 2]", show_default=False),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="schedule (commbench's, runs any), torch (torch.distributed.pipelining) or both.")
    ] = "schedule",
    compute: Annotated[
        str, typer.Option(help="delay (passes last as long as stated, asleep) or matmul (as their products take).")
    ] = "delay",
    forward: Annotated[str, typer.Option(help="Delay of F on one stage.")] = "20 ms",
    input_: Annotated[str, typer.Option("--input", help="Delay of I; B lasts I + W.")] = "20 ms",
    weight: Annotated[str, typer.Option(help="Delay of W.")] = "20 ms",
    slow: Annotated[list[str] | None, typer.Option(help="STAGE=FACTOR: this stage takes longer; repeat.")] = None,
    tokens: Annotated[int, typer.Option(help="An activation is tokens x hidden float32.")] = 64,
    hidden: Annotated[int, typer.Option(help="See --tokens; products are hidden x hidden.")] = 64,
    layers: Annotated[int, typer.Option(help="Products of every stage.")] = 1,
    iters: Iters = 5,
    warmup: Warmup = 1,
    backend: Backend = "auto",
    timeout: Timeout = 300.0,
    join_timeout: JoinTimeout = 120.0,
    max_points: Annotated[
        float | None, typer.Option(help="Fail if the bubbles differ by more percentage points.", show_default=False)
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(help="Fail if the steps' lengths differ by a larger share.", min=0, max=1, show_default=False),
    ] = None,
    out: Out = None,
    json: Jsonl = False,
    check: Check = True,
) -> None:
    """Measure the bubble of a pipeline schedule on live ranks, and simulate it with the measured durations."""
    given = {k: v for k, v in locals().items() if k not in ("nproc", "max_points", "max_error", "out", "json")}
    from commbench.experiments.pipeline import compare_all, make_job

    info, ranks = ranks_of(nproc, DEFAULT_RANKS)
    run, path = journal(out, f"pipeline-{Path(schedule).name}")
    job = make_job(**given, run=run, ranks=ranks, out=path)
    twins = compare_all(run_here(job, info), job.out, max_points=max_points, max_error=max_error)
    show(twins, json, max_points=max_points, max_error=max_error)


def show(twins: "Sequence[PipelineTwins]", json: bool, *, max_points: float | None, max_error: float | None) -> None:
    """Print the twins, if there are any here, then judge them: wrong values, and the thresholds that were given.

    Raises:
        CheckFailedError: names schedule, executor and numbers.
    """
    from commbench.experiments.pipeline import judge

    lines = [r.headline() for t in twins for r in (t.measured, t.simulated)] + [t.compared.to_json() for t in twins]
    if twins:
        typer.echo("\n".join(lines)) if json else put(pipeline_table(twins))
    judge(twins, max_points=max_points, max_error=max_error)
