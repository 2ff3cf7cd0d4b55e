# SPDX-License-Identifier: Apache-2.0
"""``commbench run COLLECTIVE``: measure a collective on live ranks."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import DEFAULT_SIZE, Jsonl, MaxBytes, MinBytes, StepBytes, StepFactor
from commbench.errors import InputError

if TYPE_CHECKING:
    from commbench.collectives.algorithm import Algorithm, Request
    from commbench.collectives.schedule import Schedule
    from commbench.collectives.spec import Collective
    from commbench.live.plan import Plan
    from commbench.live.seat import Seat
    from commbench.results.records import Measured

__all__ = ["NATIVE", "choose_algorithm", "refuse_for_native", "run", "schedules_for", "sizes_for"]

NATIVE = "native"


def run(
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce, all-gather, ...")],
    nproc: Annotated[int | None, typer.Option("--nproc", help="Ranks to start here [2].")] = None,
    minbytes: MinBytes = DEFAULT_SIZE,
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: Annotated[int, typer.Option("--iters", "-n", help="Timed iterations per size.")] = 20,
    warmup: Annotated[int, typer.Option("--warmup", "-w", help="Warm-up iterations per size.")] = 5,
    dtype: Annotated[str, typer.Option("--dtype", "-d", help="Element type.")] = "float32",
    op: Annotated[str, typer.Option("--op", "-o", help="Reduction: sum.")] = "sum",
    backend: Annotated[str, typer.Option(help="gloo, nccl or auto: nccl if every rank has a GPU.")] = "auto",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (the backend's own), a name, or a file.")
    ] = NATIVE,
    slices: Annotated[int | None, typer.Option(help="Pieces it is pipelined in [the algorithm's own].")] = None,
    channels: Annotated[int | None, typer.Option(help="Pieces that run side by side [1].")] = None,
    root: Annotated[int | None, typer.Option("--root", "-r", help="Root rank of a rooted collective [0].")] = None,
    group: Annotated[
        int | None, typer.Option(help="Ranks per host for hierarchical algorithms [as the launcher says].")
    ] = None,
    timing: Annotated[str, typer.Option(help="isolated (barrier before each iteration) or pipelined.")] = "isolated",
    timeout: Annotated[float, typer.Option(help="Seconds without progress that count as hung.")] = 300.0,
    out: Annotated[Path | None, typer.Option(help="Journal to append to [runs/<time>-...jsonl].")] = None,
    json: Jsonl = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check the values after the timed loop.")] = True,
) -> None:
    """Measure a collective: nccl-tests' table on stdout, every sample in a journal."""
    from commbench.collectives.algorithm import Request
    from commbench.collectives.sizes import dtype_bytes
    from commbench.collectives.spec import get_collective
    from commbench.live.measure import require_right
    from commbench.live.plan import Plan, default_out
    from commbench.live.seat import find_seat

    seat = find_seat(os.environ, nproc)
    ranks = seat.world_size if seat is not None else 2 if nproc is None else nproc
    if ranks < 1:
        raise InputError(f"--nproc {ranks} must be at least 1")
    spec, element_bytes = get_collective(collective), dtype_bytes(dtype)
    if root is not None and not spec.rooted:
        raise InputError(f"--root {root} has no meaning for {collective}")
    sizes = sizes_for(spec, ranks, element_bytes, minbytes, maxbytes, stepfactor, stepbytes)
    if algorithm == NATIVE:
        refuse_for_native(slices=slices, channels=channels, group=group)
        name, schedule, slices = NATIVE, None, 1
    else:
        chosen = choose_algorithm(collective, algorithm)
        slices = chosen.default_slices if slices is None else slices
        request = Request(
            num_ranks=ranks,
            slices=slices,
            channels=1 if channels is None else channels,
            root=root or 0,
            group=_ranks_per_host(seat, ranks) if group is None else group,
            element_bytes=element_bytes,
        )
        name, schedule = chosen.name, schedules_for(chosen, request, sizes)
    out = out or default_out(collective, name)
    plan = Plan(
        collective=collective,
        ranks=ranks,
        sizes_bytes=sizes,
        out=out,
        run=out.stem,
        schedule=schedule,
        root=root or 0,
        slices=slices,
        dtype=dtype,
        op=op,
        backend=backend,
        iters=iters,
        warmup=warmup,
        timing=timing,
        check=check,
        timeout_s=timeout,
    )
    require_right(_measure(plan, seat, json))


def _measure(plan: "Plan", seat: "Seat | None", json: bool) -> "list[Measured]":
    """Run the plan, show it as it goes, and say where the records are, however it ends."""
    from commbench.live.console import JsonLines, Table
    from commbench.live.measure import measure

    observer = JsonLines() if json else Table(plan)
    if seat is None:  # end by way of `finally`; under a launcher a rank in a C++ wait must die at once
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return measure(plan, seat=seat, observer=observer)
    except KeyboardInterrupt:
        print("interrupted: the ranks were ended, complete sizes are kept", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        observer.close()
        if (seat is None or seat.rank == 0) and plan.out.exists():
            print(f"records: {plan.out}", file=sys.stderr)


def sizes_for(
    spec: "Collective",
    num_ranks: int,
    element_bytes: int,
    minbytes: str,
    maxbytes: str | None,
    stepfactor: float | None,
    stepbytes: str | None,
) -> tuple[int, ...]:
    """The sizes of the sweep that can be measured, in bytes; a barrier has one alone, that of its token."""
    from commbench.collectives.sizes import sweep
    from commbench.live.plan import rounded_sizes

    if not spec.covers:
        sizes = sweep(minbytes, maxbytes, factor=stepfactor, step=stepbytes, element_bytes=element_bytes)
        return rounded_sizes(spec, num_ranks, sizes, element_bytes)
    for option, value in (("-e", maxbytes), ("-f", stepfactor), ("-i", stepbytes)):
        if value is not None:
            raise InputError(f"{option} {value} has no meaning for {spec.name}")
    if minbytes != DEFAULT_SIZE:
        raise InputError(f"-b {minbytes} has no meaning for {spec.name}")
    return (element_bytes,)


def refuse_for_native(**options: int | None) -> None:
    """Refuse options that only a schedule has."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"--{name} {value} has no meaning with --algorithm {NATIVE}")


def choose_algorithm(collective: str, name_or_path: str) -> "Algorithm":
    """The algorithm that --algorithm names.

    Raises:
        InputError: there is none, or live ranks cannot run it.
    """
    from commbench.collectives.algorithms.load import load_any

    chosen = load_any(collective, name_or_path)
    if not chosen.live:
        raise InputError(
            f"algorithm {chosen.name} for {collective} needs switches that add: it can be simulated, not run on "
            "live ranks"
        )
    return chosen


def schedules_for(chosen: "Algorithm", request: "Request", sizes: Sequence[int]) -> "Schedule | tuple[Schedule, ...]":
    """One schedule for all sizes, or one for each where they differ."""
    from commbench.collectives.registry import build

    if not chosen.sized:
        return build(chosen, request)
    every = [build(chosen, replace(request, num_elements=size // request.element_bytes)) for size in sizes]
    return every[0] if all(schedule == every[0] for schedule in every) else tuple(every)


def _ranks_per_host(seat: "Seat | None", num_ranks: int) -> int:
    """Ranks on each host as the launcher says; all of them where they are started here, 1 where nobody says."""
    if seat is None:
        return num_ranks
    return 1 if seat.local_size is None else seat.local_size
