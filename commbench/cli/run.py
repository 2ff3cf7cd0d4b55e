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
    JoinTimeout,
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
    sizes_of,
)
from commbench.cli.run_what import OTHERS, ranks_of, run_here
from commbench.errors import InputError

if TYPE_CHECKING:
    from commbench.collectives.algorithm import Algorithm, Request
    from commbench.collectives.schedule import Schedule
    from commbench.live.plan import Plan
    from commbench.live.rank_info import RankInfo

__all__ = ["NATIVE", "Asked", "run"]

NATIVE = "native"
EVERY = "all"
_DEFAULT_RANKS = 2


def run(
    collective: Annotated[str, typer.Argument(help="What to measure: all-reduce, all-gather, ..., or all.")],
    nproc: Annotated[int | None, typer.Option("--nproc", "-g", help="Ranks to start here [2].")] = None,
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
    join_timeout: JoinTimeout = 120.0,
    out: Out = None,
    json: Jsonl = False,
    check: CheckValues = True,
) -> None:
    """Measure a collective: nccl-tests' table on stdout, every sample in a journal."""
    from commbench.live.backend import may_find_gpus
    from commbench.live.console import JsonLines, RunTable
    from commbench.live.measure import require_right
    from commbench.live.plan import Plan, default_out
    from commbench.live.suite import InTurn, Suite
    from commbench.results.records import Measured
    from commbench.results.run_id import new_run_id

    names = _every(algorithm) if collective == EVERY else [require_collective(collective, f"{EVERY}, {OTHERS}")]
    info, ranks = ranks_of(nproc, _DEFAULT_RANKS)
    sizes = (minbytes, maxbytes, stepfactor, stepbytes)
    run_id = new_run_id()
    out = out or default_out(run_id, collective, Path(algorithm).stem)
    shared = {"op": op, "backend": backend, "iters": iters, "warmup": warmup, "timing": timing, "check": check}
    shared |= {"timeout_s": timeout, "join_timeout_s": join_timeout}

    def plan(name: str) -> Plan:
        asked = Asked(name, algorithm, sizes, dtype, _root_of(name, root, len(names)), slices, channels, group)
        shape = asked.shape(ranks, ranks_per_host=_ranks_per_host(info, ranks))
        return Plan(**shape, **shared, out=out, run=run_id)  # type: ignore[arg-type]

    plans = tuple(plan(name) for name in names)
    if info is None and not may_find_gpus(backend):
        for each in plans:
            _require_memory(each)
    if json:
        found = run_here(plans[0] if len(plans) == 1 else Suite.of(plans), info, JsonLines())
    elif len(plans) == 1:
        found = run_here(plans[0], info, RunTable(plans[0]))
    else:
        found = run_here(Suite.of(plans), info, InTurn({each.collective: RunTable(each) for each in plans}))
    require_right([record for record in found if isinstance(record, Measured)])


def _require_memory(plan: "Plan") -> None:
    """Refuse sizes whose buffers alone this machine's memory does not hold; the kernel would kill ranks, or others.

    Raises:
        InputError: names the largest size, the ranks, both amounts and a size that fits.
    """
    from commbench.collectives.sizes import buffer_elements
    from commbench.collectives.spec import get_collective
    from commbench.collectives.work import memory_bytes
    from commbench.units import format_bytes

    spec, largest, there = get_collective(plan.collective), max(plan.sizes_bytes, default=0), memory_bytes()
    per_byte = plan.ranks * buffer_elements(spec, plan.ranks, 1) * (1 if spec.in_place else 2)
    if largest * per_byte > there:
        fitting = 1 << max(0, (there // (2 * per_byte)).bit_length() - 1)  # half of the memory stays free
        raise InputError(
            f"-e {format_bytes(largest)}: {plan.collective} on {plan.ranks} ranks of this machine takes at least "
            f"{largest * per_byte / 2**30:,.0f} GiB of memory, it has {there / 2**30:,.0f}: give -e "
            f"{format_bytes(fitting).replace(' ', '')} or less, or fewer ranks"
        )


def _every(algorithm: str) -> list[str]:
    """Every collective that the algorithm is for.

    Raises:
        InputError: a file, or a name that no collective knows.
    """
    from commbench.collectives.registry import ALGORITHMS
    from commbench.collectives.spec import COLLECTIVES

    names = [name for name in COLLECTIVES if algorithm == NATIVE or (name, algorithm) in ALGORITHMS]
    if not names:
        raise InputError(f"{EVERY} --algorithm {algorithm}: no collective has it; give {NATIVE} or a name, not a file")
    return names


def _root_of(collective: str, root: int | None, num_collectives: int) -> int | None:
    """The root that was given, which among several collectives is for the rooted ones alone."""
    from commbench.collectives.spec import get_collective

    return root if num_collectives == 1 or get_collective(collective).rooted else None


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
        from commbench.collectives.sizes import dtype_bytes, dtype_name
        from commbench.collectives.spec import get_collective

        spec, element_bytes, root = get_collective(self.collective), dtype_bytes(self.dtype), self.root or 0
        if self.root is not None and not spec.rooted:
            raise InputError(f"--root {self.root} has no meaning for {self.collective}")
        sizes = sizes_of(spec.name, num_ranks, element_bytes, self.sizes)
        shape = {"collective": spec.name, "ranks": num_ranks, "sizes_bytes": sizes, "dtype": dtype_name(self.dtype)}
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
    from commbench.collectives.sizes import buffer_elements
    from commbench.collectives.spec import get_collective

    if not chosen.sized:
        return build(chosen, request)
    spec, n = get_collective(chosen.collective), request.num_ranks
    elements = [buffer_elements(spec, n, size // request.element_bytes) for size in sizes]
    every = [build(chosen, replace(request, num_elements=count)) for count in elements]
    return every[0] if all(schedule == every[0] for schedule in every) else tuple(every)


def _ranks_per_host(info: "RankInfo | None", num_ranks: int) -> int:
    """Ranks on each host as the launcher says; all of them where they are started here, 1 where nobody says."""
    if info is None:
        return num_ranks
    return 1 if info.local_size is None else info.local_size
