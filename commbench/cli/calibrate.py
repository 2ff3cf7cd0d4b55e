# SPDX-License-Identifier: Apache-2.0
"""``commbench calibrate``: from measured runs to a topology file."""

from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.options import Jsonl, Salvage, writable
from commbench.terminal import tell

__all__ = ["calibrate"]


def calibrate(
    files: Annotated[list[Path], typer.Argument(help="Results (JSON Lines) of schedule runs on one machine.")],
    out: Annotated[Path, typer.Option("-o", "--out", callback=writable, help="The topology file to write.")],
    ranks: Annotated[
        int | None, typer.Option("--ranks", help="Ranks of the topology; as measured if left out.")
    ] = None,
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Fit message overhead, latency, bandwidth and reduction cost of a machine to measured runs."""
    import json as jsonlib

    from commbench.cli.reading import read_measured
    from commbench.experiments.calibration import calibrate_runs
    from commbench.units import format_bandwidth, format_time

    found = calibrate_runs(read_measured(files, salvage), files, out, ranks)
    machine, middle = found.machine, found.median_error
    for warning in found.warnings:
        tell(f"warning: {warning}")
    if json:
        typer.echo(
            jsonlib.dumps(
                {"kind": "calibrated", "schema": 1, "out": str(out), **machine.figures(), "fit_error": middle}
            )
        )
        return
    typer.echo(
        f"message overhead {format_time(machine.message_overhead_s)}, latency {format_time(machine.latency_s)}, "
        f"bandwidth {format_bandwidth(machine.bandwidth)}, reduction {format_bandwidth(machine.reduction)}, "
        f"{machine.cores} cores\nmedian |error| on the {found.num_points} fitted points: {middle:.1%}\nwritten: {out}"
    )
