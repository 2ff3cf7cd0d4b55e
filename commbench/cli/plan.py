# SPDX-License-Identifier: Apache-2.0
"""``commbench plan``: which strategy to train with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import Jsonl, with_options_of, writable
from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions, read_given
from commbench.terminal import put, sparing, tell

if TYPE_CHECKING:
    from commbench.results.journal import Journal
    from commbench.results.plans import Planned

__all__ = ["plan"]



@with_options_of(StepOptions, unset=True)
def plan(
    file: Annotated[
        Path | None,
        typer.Argument(help="YAML file with any of these options; a key with a list of values makes a plan for each."),
    ] = None,
    *,
    objective: Annotated[str, typer.Option("--objective", help="time, tokens-per-gpu or cost.")] = "time",
    price: Annotated[float | None, typer.Option("--price", help="Of a GPU-hour.", show_default=False)] = None,
    gap: Annotated[float, typer.Option("--gap", help="Share by which the best may be missed: to be proven.")] = 0.02,
    seconds: Annotated[float, typer.Option("--seconds", help="After which no other simulation begins.")] = 10.0,
    schedules: Annotated[
        str | None, typer.Option("--schedules", help="Of pipelines, to choose from, by commas.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that share several plans (Dask).", show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Dask's that does, such as tcp://head:8786.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out plans that --out has already.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the record to this JSON Lines file.")
    ] = None,
    json: Jsonl = False,
    **given: Any,
) -> None:
    """Find the strategy (TP x PP x DP, microbatch, schedule, recomputation, ZeRO) with which a step is fastest.

    Options of `sim train` are taken; of --tp, --cp, --ep, --dp, --pp, --microbatch, --schedule, --stages-per-rank,
    --recompute, --zero and --sequence-parallel, those that are given are kept, and all others are searched.
    """
    from commbench.planner.plan import Wishes
    from commbench.planner.sweep import Failed, sweep, tasks_of
    from commbench.results.journal import Journal, read_records

    own = {} if schedules is None else {"schedules": tuple(dict.fromkeys(schedules.split(",")))}
    wishes = Wishes(objective=objective, price=price, gap=gap, seconds=seconds, **own)
    journal = None if out is None else Journal(out)
    if resume and out is None:
        raise InputError("--resume: give --out, the file that has what is done")
    every = read_given(file, given, lists=True)
    tasks = tasks_of(every, wishes, read_records(out) if resume and out is not None and out.exists() else [])
    if len(tasks) < len(every):
        tell(f"{len(every) - len(tasks)} of {len(every)} plans are in {out} already")
    fits, problems = True, list[str]()
    for number, made in enumerate(sweep(tasks, workers=workers, scheduler=scheduler, say=sparing(tell)), start=1):
        if isinstance(made, Failed):
            problems.append(made.problem)
            continue
        fits &= _shown(made, journal, json)
        if len(every) > 1:
            tell(f"plan {number} of {len(tasks)}")
    if problems:
        raise InputError("; ".join(dict.fromkeys(problems)))
    if not fits:
        raise typer.Exit(1)


def _shown(record: "Planned", journal: "Journal | None", json: bool) -> bool:
    """Keep a plan and show it; whether anything fits."""
    from commbench.cli.plan_tables import does_not_fit, plan_table

    if journal is not None:
        journal.append(record)
    if json and not record.fits:
        tell(does_not_fit(record))
    typer.echo(record.to_json()) if json else put(plan_table(record))
    return record.fits
