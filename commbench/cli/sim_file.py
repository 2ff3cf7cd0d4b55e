# SPDX-License-Identifier: Apache-2.0
"""``commbench sim FILE.yaml``: simulate what an experiment file asks for."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, writable
from commbench.cli.running import command_app
from commbench.cli.sim import show_case
from commbench.cli.sim_train import show_step
from commbench.errors import InputError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.records import Simulated
    from commbench.results.steps import SimulatedStep

__all__ = ["app", "sim_file"]

app = command_app()


@app.command()
def sim_file(
    file: Annotated[Path, typer.Argument(help="YAML: cluster, library, workload, scenario, seed, sizes.")],
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the records to this JSON Lines file.")
    ] = None,
    json: Jsonl = False,
) -> None:
    """Simulate every combination of an experiment file, and judge its claim; see docs/experiments.md."""
    from commbench.experiments.claim import read_claim, verdict
    from commbench.experiments.file import read_experiment
    from commbench.experiments.simulated import CollectiveOptions, prepare
    from commbench.experiments.step_options import simulate_options
    from commbench.results.journal import Journal
    from commbench.results.run_id import new_run_id

    runs, claim = read_experiment(file), read_claim(file)
    records: list[Simulated | SimulatedStep] = []
    journal, run_id, fits = None if out is None else Journal(out), new_run_id(), True
    tell(f"{file}: {len(runs)} run{'s' * (len(runs) > 1)}")
    for options, members in groupby(runs, key=lambda run: run.options):
        try:
            if isinstance(options, CollectiveOptions):
                records += show_case(prepare(options, [run.sizes for run in members], tell, run_id), journal, json)
            else:
                step = replace(simulate_options(options), run=run_id)
                fits &= show_step(step, journal, json)
                records.append(step)
        except InputError as error:
            raise type(error)(f"{file}: {error}") from None
    if claim is not None:
        try:
            told = f'"{claim.says}" {verdict(claim, records)}'
        except InputError as error:
            raise type(error)(f"{file}: {error}") from None
        tell(told) if json else put(told)
    elif not fits:
        raise typer.Exit(1)
