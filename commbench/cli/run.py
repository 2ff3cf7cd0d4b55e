# SPDX-License-Identifier: Apache-2.0
"""``commbench run COLLECTIVE``: measure a collective on live ranks."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import DEFAULT_SIZE, Jsonl, MaxBytes, MinBytes, StepBytes, StepFactor
from commbench.errors import InputError

if TYPE_CHECKING:
    from commbench.collectives.schedule import Schedule

__all__ = ["run"]

NATIVE = "native"


def run(
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce.")],
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
        str, typer.Option("--algorithm", "-a", help="native (the backend's own), a name, or a schedule file.")
    ] = NATIVE,
    slices: Annotated[int | None, typer.Option(help="Pieces it is pipelined in [the algorithm's own].")] = None,
    timing: Annotated[str, typer.Option(help="isolated (barrier before each iteration) or pipelined.")] = "isolated",
    timeout: Annotated[float, typer.Option(help="Seconds without progress that count as hung.")] = 300.0,
    out: Annotated[Path | None, typer.Option(help="Journal to append to [runs/<time>-...jsonl].")] = None,
    json: Jsonl = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check the values after the timed loop.")] = True,
) -> None:
    """Measure a collective: nccl-tests' table on stdout, every sample in a journal."""
    from commbench.collectives.sizes import dtype_bytes, sweep
    from commbench.live.console import JsonLines, Table
    from commbench.live.measure import measure, require_right
    from commbench.live.plan import Plan, default_out
    from commbench.live.seat import find_seat

    seat = find_seat(os.environ, nproc)
    ranks = seat.world_size if seat is not None else 2 if nproc is None else nproc
    if ranks < 1:
        raise InputError(f"--nproc {ranks} must be at least 1")
    sizes = sweep(minbytes, maxbytes, factor=stepfactor, step=stepbytes, element_bytes=dtype_bytes(dtype))
    schedule, slices = _schedule(collective, algorithm, ranks, slices)
    out = out or default_out(collective, "native" if schedule is None else schedule.algorithm)
    plan = Plan(
        collective=collective,
        ranks=ranks,
        sizes_bytes=tuple(sizes),
        out=out,
        run=out.stem,
        schedule=schedule,
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
    observer = JsonLines() if json else Table(plan)
    if seat is None:  # end by way of `finally`; under a launcher a rank in a C++ wait must die at once
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        records = measure(plan, seat=seat, observer=observer)
    except KeyboardInterrupt:
        print("interrupted: the ranks were ended, complete sizes are kept", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        observer.close()
        if (seat is None or seat.rank == 0) and out.exists():
            print(f"records: {out}", file=sys.stderr)
    require_right(records)


def _schedule(collective: str, algorithm: str, ranks: int, slices: int | None) -> "tuple[Schedule | None, int]":
    """The schedule that --algorithm names and its slices; no schedule for the backend's own."""
    from commbench.collectives.algorithms.load import load_algorithm
    from commbench.collectives.registry import build_schedule, get_algorithm

    chosen = None if algorithm == NATIVE else load_algorithm(collective, algorithm)
    if not isinstance(chosen, str):
        if slices is not None:
            raise InputError(f"--slices {slices} has no meaning with --algorithm {algorithm}")
        return chosen, 1
    slices = get_algorithm(collective, chosen).default_slices if slices is None else slices
    return build_schedule(collective, chosen, ranks, slices), slices
