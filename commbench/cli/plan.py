# SPDX-License-Identifier: Apache-2.0
"""``commbench plan``: which strategy to train with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import Jsonl, writable
from commbench.cli.sim_train import with_step_options
from commbench.experiments.step_given import read_given
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.journal import Journal
    from commbench.results.plans import Plan

__all__ = ["plan"]



@with_step_options
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
    from commbench.planner.plan import Wishes, make_plan
    from commbench.results.journal import Journal

    own = {} if schedules is None else {"schedules": tuple(schedules.split(","))}
    wishes = Wishes(objective=objective, price=price, gap=gap, seconds=seconds, **own)
    journal = None if out is None else Journal(out)
    fits = [_shown(make_plan(one, wishes), journal, json) for one in read_given(file, given, lists=True)]
    if not all(fits):
        raise typer.Exit(1)


def _shown(record: "Plan", journal: "Journal | None", json: bool) -> bool:
    """Keep a plan and show it; whether anything fits."""
    from commbench.cli.plan_tables import does_not_fit, plan_table

    if journal is not None:
        journal.append(record)
    if json and not record.fits:
        tell(does_not_fit(record))
    typer.echo(record.to_json()) if json else put(plan_table(record))
    return record.fits
