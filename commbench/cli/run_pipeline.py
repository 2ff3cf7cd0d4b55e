# SPDX-License-Identifier: Apache-2.0
"""``commbench run pipeline``: a pipeline schedule on live ranks, its bubble measured, and its simulated twin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl
from commbench.cli.run_what import (
    Backend,
    Check,
    Iters,
    Nproc,
    Timeout,
    Warmup,
    command_app,
    journal,
    ranks_of,
    run_here,
)
from commbench.errors import CheckFailedError, InputError

if TYPE_CHECKING:
    from commbench.live.job import PipelineJob
    from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
    from commbench.results.records import Record

__all__ = ["Twins", "app", "compare_all", "demo_pipeline", "make_job", "pipeline", "pipeline_table"]

ALIASES = {"interleaved": "interleaved-1f1b", "zero-bubble": "zb-h1", "zbv-zero-bubble": "zbv"}
_TWO_STAGES = ("interleaved-1f1b",)  # of what can have any number of stages per rank, what makes no sense with one
_DEFAULT_RANKS = 4

app = command_app()


@dataclass(frozen=True, slots=True)
class Twins:
    """A measured pipeline, its simulated twin, and both held together."""

    measured: "PipelineMeasured"
    simulated: "PipelineSimulated"
    compared: "PipelineCompared"


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
    max_points: Annotated[
        float | None, typer.Option(help="Fail if the bubbles differ by more percentage points.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Journal to append to [runs/<time>-...jsonl].")] = None,
    json: Jsonl = False,
    check: Check = True,
) -> None:
    """Measure the bubble of a pipeline schedule on live ranks, and simulate it with the measured durations."""
    seat, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    job = make_job(
        schedule,
        ranks=ranks,
        microbatches=microbatches,
        stages_per_rank=stages_per_rank,
        executor=executor,
        compute=compute,
        delays=(forward, input_, weight),
        slow=slow or (),
        sizes=(tokens, hidden, layers),
        iters=iters,
        warmup=warmup,
        backend=backend,
        timeout_s=timeout,
        out=journal(out, f"pipeline-{Path(schedule).name}"),
        check=check,
    )
    twins = compare_all(run_here(job, seat), job.out, max_points)
    lines = [r.headline() for t in twins for r in (t.measured, t.simulated)] + [t.compared.to_json() for t in twins]
    if twins:
        typer.echo("\n".join(lines) if json else pipeline_table(twins))
    _judge(twins, max_points)


def make_job(
    schedule: str,
    *,
    ranks: int,
    out: Path,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    executor: str = "schedule",
    compute: str = "delay",
    delays: Sequence[str] = ("20 ms", "20 ms", "20 ms"),
    slow: Sequence[str] = (),
    sizes: tuple[int, int, int] = (64, 64, 1),
    iters: int = 5,
    warmup: int = 1,
    backend: str = "auto",
    timeout_s: float = 300.0,
    check: bool = True,
) -> "PipelineJob":
    """The job that the options describe.

    Raises:
        InputError: what cannot be run; names option, value and rule.
        ScheduleError: a CSV that is no schedule, or none for these ranks.
    """
    from commbench.live.job import EXECUTORS, PipelineJob

    if executor not in (*EXECUTORS, "both"):
        raise InputError(f"--executor {executor!r} is unknown; known: {', '.join(EXECUTORS)}, both")
    name, torch_name, orders, count, num_stages = _orders(schedule, ranks, microbatches, stages_per_rank)
    tokens, hidden, layers = sizes
    return PipelineJob(
        ranks=ranks,
        out=out,
        run=out.stem,
        backend=backend,
        iters=iters,
        warmup=warmup,
        timeout_s=timeout_s,
        check=check,
        schedule=name,
        microbatches=count,
        order=orders[0],
        double=orders[1],
        executors=EXECUTORS if executor == "both" else (executor,),
        torch_name=torch_name,
        compute=compute,
        delays_s=_delays_s(delays),
        slow=tuple(_slow(text, num_stages) for text in slow),
        tokens=tokens,
        hidden=hidden,
        layers=layers,
    )


def _orders(
    schedule: str, ranks: int, microbatches: int | None, stages_per_rank: int | None
) -> tuple[str, str, tuple[str, str], int, int]:
    """Name, torch's name, orders for m and for 2m microbatches ("" where there are none), m, and stages."""
    from commbench.workload.pipeline.registry import build_pipeline, get_pipeline
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


def _delays_s(texts: Sequence[str]) -> tuple[float, float, float]:
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


def compare_all(records: "Sequence[Record]", out: Path, max_points: float | None = None) -> list[Twins]:
    """Simulate the twin of every measured pipeline, hold them together, and append both to the journal."""
    from commbench.results.journal import Journal
    from commbench.results.pipeline_records import PipelineMeasured
    from commbench.validate.pipeline import MAX_POINTS, compare_pipeline, twin

    found = []
    for record in records:
        if isinstance(record, PipelineMeasured):
            limit = MAX_POINTS if max_points is None else max_points
            found.append(Twins(record, twin(record), compare_pipeline(record, max_points=limit)))
            for more in (found[-1].simulated, found[-1].compared):
                Journal(out).append(more)
    return found


def demo_pipeline(out: Path, tell: Callable[[str], None]) -> "list[Record]":
    """For ``commbench demo``: 1F1B on 4 live ranks and its simulated twin; prints the table, returns the records."""
    from commbench.live.job_launch import run_job

    tell("measuring a 1F1B pipeline on 4 live gloo ranks, and simulating it with the measured passes")
    twins = compare_all(
        run_job(make_job("1f1b", ranks=4, out=out, backend="gloo", iters=3, delays=("30 ms",) * 3)), out
    )
    typer.echo(pipeline_table(twins))
    return [record for both in twins for record in (both.measured, both.simulated, both.compared)]


def pipeline_table(twins: Sequence[Twins]) -> str:
    """Per executor: the bubble by three methods, and where the idle time went."""
    first = twins[0].measured
    delays = ", ".join(f"{kind} {1e3 * s:g} ms" for kind, s in first.delays_s.items())
    made_of = f"delays ({delays}), most of them asleep" if first.compute == "delay" else "matrix products"
    slowest_s = max((transfer_s for *_, transfer_s in first.transfers_s), default=0.0)
    one_way = f", one way at most {1e6 * slowest_s:.0f} us" if slowest_s else ""
    lines = [
        f"# pipeline {first.schedule}: {first.ranks} ranks, {first.stages} stages, {first.microbatches} microbatches "
        f"on {first.backend}",
        f"# compute: {made_of}; activations of {first.activation_bytes} B{one_way}",
        "# bubble: idle / total; free: 2 - T(2m)/T(m), without clocks; points: measured less simulated bubble;",
        "# idle time of the mean rank by cause: schedule, imbalance of stages and passes, transfers, host",
        f"#{'':<8} {'step':>8} {'+-':>6} {'sim.':>8} {'bubble':>6} {'sim.':>6} {'points':>6} {'free':>6} "
        f"{'schedule':>8} {'imbal.':>6} {'transf':>6} {'host':>6} {'#wrong':>6}",
        f"#{'executor':<8} {'(ms)':>8} {'(ms)':>6} {'(ms)':>8} {'(%)':>6} {'(%)':>6} {'(%)':>6} {'(%)':>6} "
        f"{'(ms)':>8} {'(ms)':>6} {'(ms)':>6} {'(ms)':>6} {'':>6}",
    ]
    return "\n".join([*lines, *map(_row, twins)])


def _row(both: Twins) -> str:
    c, wrong = both.compared, both.measured.wrong
    free = "n/a" if c.clock_free_bubble is None else f"{100 * c.clock_free_bubble:.1f}"
    idle = {cause: 1e3 * idle_s for cause, idle_s in c.idle_s.items()}
    return (
        f" {c.executor:<8} {1e3 * c.measured_s:>8.2f} {1e3 * c.spread_s:>6.2f} {1e3 * c.simulated_s:>8.2f} "
        f"{100 * c.measured_bubble:>6.1f} {100 * c.simulated_bubble:>6.1f} {c.points:>+6.1f} {free:>6} "
        f"{idle['schedule']:>8.2f} {idle['imbalance']:>6.2f} {idle['transfer']:>6.2f} {idle['host']:>6.2f} "
        f"{'n/a' if wrong is None else wrong:>6}"
    )


def _judge(twins: Sequence[Twins], max_points: float | None) -> None:
    """Fail on wrong values, and where a threshold was given on bubbles that differ by more.

    Raises:
        CheckFailedError: names executor and numbers.
    """
    for both in twins:
        if both.measured.wrong:
            raise CheckFailedError(
                f"pipeline {both.measured.schedule} by {both.measured.executor}: {both.measured.wrong} wrong values in "
                "the gradients of the weights"
            )
    for both in twins:
        if max_points is not None and not both.compared.ok:
            raise CheckFailedError(
                f"pipeline {both.compared.schedule} by {both.compared.executor}: measured bubble "
                f"{both.compared.measured_bubble:.1%}, simulated {both.compared.simulated_bubble:.1%}: more than "
                f"{max_points:g} points apart"
            )
