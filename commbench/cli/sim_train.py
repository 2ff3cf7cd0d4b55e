# SPDX-License-Identifier: Apache-2.0
"""``commbench sim train``: simulate a training step on a topology."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from commbench.cli.options import Jsonl, writable
from commbench.cli.running import command_app
from commbench.experiments.step_given import StepOptions, read_options
from commbench.experiments.step_options import simulate_options
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.journal import Journal
    from commbench.results.steps import SimulatedStep

__all__ = ["app", "show_step", "train", "with_step_options"]

app = command_app()


_NAMES = {"topology": ("-t", "--topology"), "dtype": ("-d", "--dtype"), "flash": ("--flash/--no-flash",)}
_NAMES["overlap_gradients"] = ("--overlap-gradients/--no-overlap-gradients",)


def with_step_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command with ``**given`` take every option of a step; None where one is not given."""
    file, *own = (p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD)
    kinds = get_type_hints(StepOptions, include_extras=True)
    parameters = [file, *(_parameter(name, *get_args(kind)) for name, kind in kinds.items()), *own]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter(name: str, kind: Any, told: str) -> inspect.Parameter:
    option = typer.Option(*_NAMES.get(name, (f"--{name.replace('_', '-')}",)), help=told, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


@app.command()
@with_step_options
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
