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

    from commbench.calibrate.fit import calibrate as fit
    from commbench.calibrate.fit import doubts, residuals
    from commbench.cli.reading import read_measured
    from commbench.results.statistics import median
    from commbench.units import format_bandwidth, format_time

    points = [point for point in read_measured(files, salvage) if point.algorithm != "native"]
    names = ", ".join(str(file) for file in files)
    machine = fit(points, name=out.stem, source=f"fitted to {len(points)} points of {names}")
    machine.write(out, max(point.ranks for point in points) if ranks is None else ranks)
    errors = residuals(machine, points)
    for doubt in doubts(machine, errors):
        tell(f"warning: {doubt}")
    middle = median(map(abs, errors))
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
        f"{machine.cores} cores\nmedian |error| on the {len(errors)} fitted points: {middle:.1%}\nwritten: {out}"
    )
