# SPDX-License-Identifier: Apache-2.0
"""``commbench run pipeline``: a pipeline schedule on live ranks, its bubble measured, and its simulated twin."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import JoinTimeout, Jsonl, Out, Timeout
from commbench.cli.pipeline_tables import Twins, pipeline_table
from commbench.cli.run_what import (
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
from commbench.errors import CheckFailedError, InputError
from commbench.terminal import put

if TYPE_CHECKING:
    from commbench.live.job import PipelineJob
    from commbench.results.pipeline_records import PipelineMeasured
    from commbench.results.records import Record
    from commbench.validate.pipeline import Network

__all__ = [
    "DEFAULT_RANKS",
    "app",
    "compare_all",
    "make_job",
    "pipeline",
    "show",
]

_TWO_STAGES = ("interleaved-1f1b",)  # of what can have any number of stages per rank, what makes no sense with one
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
        float | None, typer.Option(help="Fail if the steps' lengths differ by more percent.", show_default=False)
    ] = None,
    out: Out = None,
    json: Jsonl = False,
    check: Check = True,
) -> None:
    """Measure the bubble of a pipeline schedule on live ranks, and simulate it with the measured durations."""
    info, ranks = ranks_of(nproc, DEFAULT_RANKS)
    run, path = journal(out, f"pipeline-{Path(schedule).name}")
    job = make_job(
        schedule,
        run=run,
        ranks=ranks,
        out=path,
        microbatches=microbatches,
        stages_per_rank=stages_per_rank,
        executor=executor,
        compute=compute,
        forward=forward,
        input_=input_,
        weight=weight,
        slow=slow,
        tokens=tokens,
        hidden=hidden,
        layers=layers,
        iters=iters,
        warmup=warmup,
        backend=backend,
        timeout=timeout,
        join_timeout=join_timeout,
        check=check,
    )
    twins = compare_all(run_here(job, info), job.out, max_points=max_points, max_error=max_error)
    show(twins, json, max_points=max_points, max_error=max_error)


def make_job(
    schedule: str,
    *,
    run: str = "",
    ranks: int,
    out: Path,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    executor: str = "schedule",
    compute: str = "delay",
    forward: str = "20 ms",
    input_: str = "20 ms",
    weight: str = "20 ms",
    slow: Sequence[str] | None = None,
    tokens: int = 64,
    hidden: int = 64,
    layers: int = 1,
    iters: int = 5,
    warmup: int = 1,
    backend: str = "auto",
    timeout: float = 300.0,
    join_timeout: float = 120.0,
    check: bool = True,
) -> "PipelineJob":
    """The job that the options of the same names describe; ``run`` left out, it has a new identifier.

    Raises:
        InputError: what cannot be run; names option, value and rule.
        ScheduleError: a CSV that is no schedule, or none for these ranks.
    """
    from commbench.live.job import EXECUTORS, PipelineJob
    from commbench.results.run_id import new_run_id

    if executor not in (*EXECUTORS, "both"):
        raise InputError(f"--executor {executor!r} is unknown; known: {', '.join(EXECUTORS)}, both")
    name, torch_name, orders, count, num_stages = _orders(schedule, ranks, microbatches, stages_per_rank)
    return PipelineJob(
        ranks=ranks,
        out=out,
        run=run or new_run_id(),
        backend=backend,
        iters=iters,
        warmup=warmup,
        timeout_s=timeout,
        join_timeout_s=join_timeout,
        check=check,
        schedule=name,
        microbatches=count,
        order=orders[0],
        double=orders[1],
        executors=EXECUTORS if executor == "both" else (executor,),
        torch_name=torch_name,
        compute=compute,
        delays_s=_delays_s(forward, input_, weight),
        slow=tuple(_slow(text, num_stages) for text in slow or ()),
        tokens=tokens,
        hidden=hidden,
        layers=layers,
    )


def _orders(
    schedule: str, ranks: int, microbatches: int | None, stages_per_rank: int | None
) -> tuple[str, str, tuple[str, str], int, int]:
    """Name, torch's name, orders for m and for 2m microbatches ("" where there are none), m, and stages."""
    from commbench.workload.pipeline.registry import ALIASES, build_pipeline, get_pipeline
    from commbench.workload.pipeline.text import read_pipeline, to_csv

    if schedule.endswith(".csv"):
        found = read_pipeline(Path(schedule))
        for option, value in (("--microbatches", microbatches), ("--stages-per-rank", stages_per_rank)):
            if value is not None:
                raise InputError(f"{option} {value} has no meaning with the file {schedule}, which says it")
        if found.num_ranks != ranks:
            raise InputError(f"{schedule} is for {found.num_ranks} ranks, --nproc is {ranks}")
        return Path(schedule).stem, "", (to_csv(found), ""), found.num_microbatches, found.num_stages
    name, count = ALIASES.get(schedule, schedule), 8 if microbatches is None else microbatches
    per_rank = 2 if stages_per_rank is None and name in _TWO_STAGES else stages_per_rank
    once, twice = (build_pipeline(name, ranks, m, per_rank) for m in (count, 2 * count))
    return name, get_pipeline(name).torch_name, (to_csv(once), to_csv(twice)), count, once.num_stages


def _delays_s(*texts: str) -> tuple[float, float, float]:
    from commbench.units import parse_duration_ps, seconds

    forward, input_, weight = (seconds(parse_duration_ps(text)) for text in texts)
    return forward, input_, weight


def _slow(text: str, num_stages: int) -> tuple[int, float]:
    """Stage and factor of "2=1.5"."""
    stage, equals, factor = text.partition("=")
    try:
        number, times = int(stage), float(factor)
    except ValueError:
        number, times = -1, 0.0
    if not equals or not 0 <= number < num_stages or not 0 < times < float("inf"):
        raise InputError(f"--slow {text!r} must be STAGE=FACTOR with a stage of 0..{num_stages - 1}, a factor above 0")
    return number, times


def compare_all(
    records: "Sequence[Record]",
    out: Path,
    *,
    max_points: float | None = None,
    max_error: float | None = None,
    network_of: "Callable[[PipelineMeasured], Network | None]" = lambda measured: None,
) -> list[Twins]:
    """Simulate the twin of every measured pipeline, hold them together, and append both to the journal.

    Args:
        records: as they were measured. out: the journal.
        max_points: of the bubbles, None for the usual. max_error: of the length of the step in percent, None for any.
        network_of: what a twin's messages go over; see ``validate.pipeline.twin``.
    """
    from commbench.results.journal import Journal
    from commbench.results.pipeline_records import PipelineMeasured
    from commbench.validate.pipeline import MAX_POINTS, compare_pipeline, twin

    points, part = MAX_POINTS if max_points is None else max_points, None if max_error is None else max_error / 100
    found = []
    for record in records:
        if isinstance(record, PipelineMeasured):
            network = network_of(record)
            compared = compare_pipeline(record, network, max_points=points, max_error=part)
            found.append(Twins(record, twin(record, network), compared))
            for more in (found[-1].simulated, found[-1].compared):
                Journal(out).append(more)
    return found


def show(twins: Sequence[Twins], json: bool, *, max_points: float | None, max_error: float | None) -> None:
    """Print the twins, if there are any here, then judge them: wrong values, and the thresholds that were given.

    Raises:
        CheckFailedError: names schedule, executor and numbers.
    """
    lines = [r.headline() for t in twins for r in (t.measured, t.simulated)] + [t.compared.to_json() for t in twins]
    if twins:
        typer.echo("\n".join(lines)) if json else put(pipeline_table(twins))
    for both in twins:
        if both.measured.wrong:
            raise CheckFailedError(f"{both.name}: {both.measured.wrong} wrong values in the gradients of the weights")
    for both in twins:
        c = both.compared
        if max_points is not None and not c.points_ok:
            raise CheckFailedError(
                f"{both.name}: measured bubble {c.measured_bubble:.1%}, simulated {c.simulated_bubble:.1%}: more than "
                f"{max_points:g} points apart"
            )
        if max_error is not None and not c.time_ok:
            raise CheckFailedError(
                f"{both.name}: measured step {1e3 * c.measured_s:.2f} ms, simulated {1e3 * c.simulated_s:.2f} ms "
                f"({100 * c.error:+.1f} %): more than {max_error:g} % apart"
            )
