# SPDX-License-Identifier: Apache-2.0
"""``commbench run COLLECTIVE``: measure a collective on live ranks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commbench.cli.options import (
    DEFAULT_SIZE,
    Channels,
    CheckValues,
    Dtype,
    ItersPerSize,
    Jsonl,
    MaxBytes,
    MinBytes,
    Out,
    Root,
    Slices,
    StepBytes,
    StepFactor,
    Timeout,
    Timing,
    WarmupPerSize,
    require_collective,
)
from commbench.cli.run_what import OTHERS, ranks_of, run_here
from commbench.errors import InputError

if TYPE_CHECKING:
    from commbench.collectives.algorithm import Algorithm, Request
    from commbench.collectives.schedule import Schedule
    from commbench.collectives.spec import Collective
    from commbench.live.seat import Seat

__all__ = ["NATIVE", "Asked", "run"]

NATIVE = "native"
_DEFAULT_RANKS = 2


def run(
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce, all-gather, ...")],
    nproc: Annotated[int | None, typer.Option("--nproc", help="Ranks to start here [2].")] = None,
    minbytes: MinBytes = DEFAULT_SIZE,
    maxbytes: MaxBytes = None,
    stepfactor: StepFactor = None,
    stepbytes: StepBytes = None,
    iters: ItersPerSize = 20,
    warmup: WarmupPerSize = 5,
    dtype: Dtype = "float32",
    op: Annotated[str, typer.Option("--op", "-o", help="Reduction: sum.")] = "sum",
    backend: Annotated[str, typer.Option(help="gloo, nccl or auto: nccl if every rank has a GPU.")] = "auto",
    algorithm: Annotated[
        str, typer.Option("--algorithm", "-a", help="native (the backend's own), a name, or a file.")
    ] = NATIVE,
    slices: Slices = None,
    channels: Channels = None,
    root: Root = None,
    group: Annotated[
        int | None, typer.Option(help="Ranks per host for hierarchical algorithms [as the launcher says].")
    ] = None,
    timing: Timing = "isolated",
    timeout: Timeout = 300.0,
    out: Out = None,
    json: Jsonl = False,
    check: CheckValues = True,
) -> None:
    """Measure a collective: nccl-tests' table on stdout, every sample in a journal."""
    from commbench.live.console import JsonLines, Table
    from commbench.live.measure import require_right
    from commbench.live.plan import Plan, default_out
    from commbench.results.records import Measured

    require_collective(collective, OTHERS)
    seat, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    sizes = (minbytes, maxbytes, stepfactor, stepbytes)
    asked = Asked(collective, algorithm, sizes, dtype, root, slices, channels, group)
    shape = asked.shape(ranks, ranks_per_host=_ranks_per_host(seat, ranks))
    out = out or default_out(collective, Path(algorithm).stem)
    plan = Plan(
        **shape,
        out=out,
        run=out.stem,
        op=op,
        backend=backend,
        iters=iters,
        warmup=warmup,
        timing=timing,
        check=check,
        timeout_s=timeout,
    )
    found = run_here(plan, seat, JsonLines() if json else Table(plan))
    require_right([record for record in found if isinstance(record, Measured)])


@dataclass(frozen=True, slots=True)
class Asked:
    """A collective as the options of the same names describe it, for any number of ranks.

    Attributes:
        sizes: -b, -e, -f and -i. Where an option was not given it is None.
    """

    collective: str
    algorithm: str
    sizes: tuple[str, str | None, float | None, str | None]
    dtype: str
    root: int | None
    slices: int | None
    channels: int | None
    group: int | None

    def shape(self, num_ranks: int, ranks_per_host: int) -> "dict[str, Any]":
        """What of a plan says what is sent: sizes, schedule (none: the backend's own) and so on.

        Raises:
            InputError: an option that has no meaning here; names it.
        """
        from commbench.collectives.algorithm import Request
        from commbench.collectives.sizes import dtype_bytes
        from commbench.collectives.spec import get_collective

        spec, element_bytes, root = get_collective(self.collective), dtype_bytes(self.dtype), self.root or 0
        if self.root is not None and not spec.rooted:
            raise InputError(f"--root {self.root} has no meaning for {self.collective}")
        sizes = sizes_for(spec, num_ranks, element_bytes, *self.sizes)
        shape = {"collective": self.collective, "ranks": num_ranks, "sizes_bytes": sizes, "dtype": self.dtype}
        if self.algorithm == NATIVE:
            refuse_for_native(slices=self.slices, channels=self.channels, group=self.group)
            return shape | {"root": root}
        chosen = choose_algorithm(self.collective, self.algorithm)
        request = Request(
            num_ranks=num_ranks,
            slices=chosen.default_slices if self.slices is None else self.slices,
            channels=1 if self.channels is None else self.channels,
            root=root,
            group=ranks_per_host if self.group is None else self.group,
            element_bytes=element_bytes,
        )
        schedule = schedules_for(chosen, request, sizes)
        pieces = {"channels": request.channels, "slices": request.slices, "group": request.group}
        return shape | {"root": root, "schedule": schedule, **pieces}


def sizes_for(
    spec: "Collective",
    num_ranks: int,
    element_bytes: int,
    minbytes: str,
    maxbytes: str | None,
    stepfactor: float | None,
    stepbytes: str | None,
) -> tuple[int, ...]:
    """The sizes of the sweep that can be measured, in bytes; a barrier has one alone, that of its token.

    Raises:
        InputError: a range that holds no size, or one given for a barrier.
    """
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
    """Refuse options that only a schedule has.

    Raises:
        InputError: names the option and its value.
    """
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
