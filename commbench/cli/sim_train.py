# SPDX-License-Identifier: Apache-2.0
"""``commbench sim train``: simulate a training step on a topology."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import Jsonl, with_options_of, writable
from commbench.cli.running import command_app
from commbench.experiments.step_given import StepOptions, read_options
from commbench.experiments.step_options import simulate_options
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.journal import Journal
    from commbench.results.steps import SimulatedStep

__all__ = ["app", "show_step", "train"]

app = command_app()


@app.command()
@with_options_of(StepOptions, unset=True)
def train(
    file: Annotated[
        Path | None, typer.Argument(help="YAML file with any of these options, by their names; those given here win.")
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the record, with all passes, to this file.")
    ] = None,
    json: Jsonl = False,
    **given: Any,
) -> None:
    """Simulate a training step: time, utilisation, bubble, exposed communication, memory, busiest links."""
    from commbench.results.journal import Journal

    options = read_options(file, given)
    journal = None if out is None else Journal(out)
    if not show_step(simulate_options(options), journal, json):
        raise typer.Exit(1)


def show_step(record: "SimulatedStep", journal: "Journal | None", json: bool) -> bool:
    """Show a step and keep its record; whether it fits into memory."""
    from commbench.cli.step_tables import step_table, too_large

    if journal is not None:
        journal.append(record)
    if json:  # the table says it itself
        for note in (*([] if record.fits else [too_large(record)]), record.folded, *record.notes):
            tell(note)
    typer.echo(record.without_spans().to_json()) if json else put(step_table(record))
    return record.fits
