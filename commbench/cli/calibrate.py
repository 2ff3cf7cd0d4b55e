# SPDX-License-Identifier: Apache-2.0
"""``commbench calibrate``: from measured runs to a topology file, from steps or a library's times to constants."""

from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl, Salvage, writable
from commbench.errors import InputError
from commbench.terminal import put, tell

__all__ = ["calibrate"]


def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Results (JSON Lines) of schedule runs on one machine.")
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", callback=writable, help="The topology file, or that of constants, to write.")
    ],
    steps: Annotated[
        Path | None, typer.Option("--steps", help="CSV of measured training steps, one to six, instead of runs.")
    ] = None,
    library: Annotated[
        str | None, typer.Option("--library", help="nccl or rccl: adapt its model to a log or to --point.")
    ] = None,
    topology: Annotated[str | None, typer.Option("-t", "--topology", help="With --library: of the machine.")] = None,
    point: Annotated[
        list[str] | None, typer.Option("--point", help="With --library: 8:13us or 1G:391GB/s; up to three of them.")
    ] = None,
    collective: Annotated[str, typer.Option("--collective", help="With --library: of the points.")] = "all-reduce",
    nccl_version: Annotated[str | None, typer.Option("--nccl-version", help="With --library: such as 2.21.")] = None,
    launch_mode: Annotated[
        str | None, typer.Option("--launch-mode", help="With --library: process, threads or graph [process].")
    ] = None,
    ranks: Annotated[
        int | None, typer.Option("--ranks", help="Ranks of the topology; as measured, or all, if left out.")
    ] = None,
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Fit message overhead, latency, bandwidth and reduction cost of a machine to measured runs.

    With --steps: host time, collective curve and memory passes of training steps to measured ones.
    With --library nccl -t TOPOLOGY: what one log, or one to three points of it, say of a machine beside its class.
    """
    of_library = {"-t": topology, "--point": point, "--nccl-version": nccl_version, "--launch-mode": launch_mode}
    if library is not None:
        if steps is not None or topology is None or len(files or []) > 1:
            raise InputError("--library takes -t TOPOLOGY, and one log of nccl-tests or --point, and no --steps")
        how = {"nccl_version": nccl_version, "launch_mode": launch_mode, "ranks": ranks}
        _library(library, topology, collective, how, point or [], files[0] if files else None, out, json)
        return
    for name, value in of_library.items():
        if value:
            raise InputError(f"{name} {value} has no meaning without --library")
    if steps is not None:
        if files or ranks is not None:
            raise InputError("--steps: measured runs and --ranks have no meaning beside it")
        _steps(steps, out, json)
        return
    if not files:
        raise InputError("no measured runs: name results files of `commbench run`, or --steps FILE.csv")
    _runs(files, out, ranks, json, salvage)


def _library(
    library: str,
    topology: str,
    collective: str,
    how: dict[str, str | int | None],
    points: list[str],
    log: Path | None,
    out: Path,
    json: bool,
) -> None:
    from commbench.collectives.spec import get_collective
    from commbench.experiments.calibration import calibrate_library
    from commbench.experiments.simulated import CollectiveOptions

    options = CollectiveOptions(
        collective=get_collective(collective).name, topology=topology, library=library, **how  # type: ignore[arg-type]
    )
    found = calibrate_library(options, points, log, out)
    if json:
        constants = {name: {"prior": prior, "posterior": after} for name, prior, after, _ in found}
        typer.echo(json_line("calibrated-library", out=str(out), **constants))
        return
    lines = [f"#{'constant':<9} {'prior':>8} {'posterior':>10}  multiplies"]
    lines += [f" {name:<9} {prior:>8.3g} {after:>10.3g}  {what}" for name, prior, after, what in found]
    put("\n".join(lines))
    tell(f"written: {out}; `commbench sim {collective} -t {topology} --library {library} --constants {out}` takes it")


def _steps(steps: Path, out: Path, json: bool) -> None:
    from dataclasses import asdict

    from commbench.experiments.step_calibration import calibrate_steps
    from commbench.units import format_time

    found = calibrate_steps(steps, out)
    for name, why in found.unusable:
        tell(f"not used: {name}: {why}")
    for name, what in found.assumed:
        tell(f"note: {name}: taken for what it does not say: {what}")
    for name, error in found.unexplained:
        tell(
            f"warning: {name} is {error:+.0%} off after the fit, too: no machine's constants explain that; look at its "
            "seconds, batch, recompute and attention"
        )
    if json:
        typer.echo(json_line("calibrated-steps", out=str(out), **asdict(found)))
        return
    lines = [f"#{'constant':<44} {'before':>10} {'after':>10} within"]
    lines += [f" {one.name:<44} {one.before:>10} {one.after:>10} {one.spread:>5.0%}" for one in found.constants]
    lines.append(f"#{'step':<44} {'measured':>10} {'before':>10} {'after':>7}")
    for name, measured, before, after in found.steps:
        errors = f"{before / measured - 1:>+10.1%} {after / measured - 1:>+7.1%}"
        lines.append(f" {name:<44} {format_time(measured):>10} {errors}")
    lines.append(f"a new step like these may be off by {found.next_step:.1%} (one standard deviation)")
    put("\n".join(lines))
    tell(f"written: {out}; `commbench sim train --step-costs {out}` takes it")


def _runs(files: list[Path], out: Path, ranks: int | None, json: bool, salvage: bool) -> None:
    from commbench.cli.reading import read_measured
    from commbench.experiments.calibration import calibrate_runs
    from commbench.units import format_bandwidth, format_time

    found = calibrate_runs(read_measured(files, salvage), files, out, ranks)
    machine, middle = found.machine, found.median_error
    for warning in found.warnings:
        tell(f"warning: {warning}")
    if json:
        typer.echo(json_line("calibrated", out=str(out), **machine.figures(), fit_error=middle))
        return
    typer.echo(
        f"message overhead {format_time(machine.message_overhead_s)}, latency {format_time(machine.latency_s)}, "
        f"bandwidth {format_bandwidth(machine.bandwidth)}, reduction {format_bandwidth(machine.reduction)}, "
        f"{machine.cores} cores\nmedian |error| on the {found.num_points} fitted points: {middle:.1%}\nwritten: {out}"
    )
