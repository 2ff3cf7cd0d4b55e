# SPDX-License-Identifier: Apache-2.0
"""A collective as options describe it: its sizes, algorithm and schedules, for live ranks and for the simulator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from commbench.collectives.uneven import UnevenSizes
from commbench.errors import InputError

if TYPE_CHECKING:
    from commbench.collectives.algorithm import Algorithm, Request
    from commbench.collectives.schedule import Schedule
    from commbench.live.plan import Plan

__all__ = [
    "DEFAULT_SIZE",
    "EVERY",
    "NATIVE",
    "Asked",
    "Sizes",
    "choose_algorithm",
    "every_collective",
    "refuse_for_native",
    "require_memory",
    "root_of",
    "schedules_for",
    "sizes_of",
    "with_weights",
]

NATIVE = "native"
EVERY = "all"
DEFAULT_SIZE = "32M"  # as nccl-tests

Sizes = tuple[str, str | None, float | None, str | None]
"""-b, -e, -f and -i; None where an option was not given."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A collective as the options of the same names describe it, for any number of ranks.

    Attributes:
        sizes: -b, -e, -f and -i. Where an option was not given it is None. uneven: --matrix or --zipf.
    """

    collective: str
    algorithm: str
    sizes: "Sizes"
    dtype: str
    root: int | None
    slices: int | None
    channels: int | None
    group: int | None
    uneven: UnevenSizes = field(default_factory=UnevenSizes)

    def shape(self, num_ranks: int, ranks_per_host: int, tell: Callable[[str], None]) -> dict[str, Any]:
        """What of a plan says what is sent: sizes, schedule (none: the backend's own) and so on; ``tell`` hears notes.

        Raises:
            InputError: an option that has no meaning here; names it.
        """
        from commbench.collectives.algorithm import Request
        from commbench.collectives.sizes import dtype_bytes, dtype_name
        from commbench.collectives.spec import get_collective

        spec, element_bytes, root = get_collective(self.collective), dtype_bytes(self.dtype), self.root or 0
        if self.root is not None and not spec.rooted:
            raise InputError(f"--root {self.root} has no meaning for {self.collective}")
        sizes = sizes_of(spec.name, num_ranks, element_bytes, self.sizes, tell)
        shape = {"collective": spec.name, "ranks": num_ranks, "sizes_bytes": sizes, "dtype": dtype_name(self.dtype)}
        weights = self.uneven.weights(spec.name, num_ranks)
        shape |= {"weights": weights}
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
        if weights:
            schedule = with_weights(schedule, weights)
        pieces = {"channels": request.channels, "slices": request.slices, "group": request.group}
        return shape | {"root": root, "schedule": schedule, **pieces}


def with_weights(schedule: "Schedule | tuple[Schedule, ...]", weights: tuple[int, ...]) -> "Schedule":
    """A schedule of all-to-all-v whose pieces have these relative sizes.

    Raises:
        InputError: it has other pieces than one for each two ranks, or sizes of its own.
    """
    if isinstance(schedule, tuple) or schedule.num_chunks != len(weights) or schedule.weights:
        raise InputError("--matrix and --zipf go with an algorithm of one piece for each two ranks: direct or pairwise")
    return replace(schedule, weights=weights)


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


def require_memory(plan: "Plan") -> None:
    """Refuse sizes whose buffers alone this machine's memory does not hold; the kernel would kill ranks, or others.

    Raises:
        InputError: names the largest size, the ranks, both amounts and a size that fits.
    """
    from commbench.collectives.memory import memory_bytes
    from commbench.units import format_bytes

    largest, there = max(plan.sizes_bytes, default=0), memory_bytes()
    per_byte = plan.ranks * (1 if all(plan.in_places) else 2)  # of all-to-all-v a row and a column, in the mean
    if largest * per_byte > there:
        fitting = 1 << max(0, (there // (2 * per_byte)).bit_length() - 1)  # half of the memory stays free
        raise InputError(
            f"-e {format_bytes(largest)}: {plan.collective} on {plan.ranks} ranks of this machine takes at least "
            f"{largest * per_byte / 2**30:,.0f} GiB of memory, it has {there / 2**30:,.0f}: give -e "
            f"{format_bytes(fitting).replace(' ', '')} or less, or fewer ranks"
        )


def every_collective(algorithm: str) -> list[str]:
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


def root_of(collective: str, root: int | None, num_collectives: int) -> int | None:
    """The root that was given, which among several collectives is for the rooted ones alone."""
    from commbench.collectives.spec import get_collective

    return root if num_collectives == 1 or get_collective(collective).rooted else None


def sizes_of(
    collective: str,
    num_ranks: int,
    element_bytes: int,
    sizes: "Sizes",
    tell: Callable[[str], None],
) -> tuple[int, ...]:
    """The sizes in bytes that -b, -e, -f and -i ask for; those too small for the ranks are left out, which
    ``tell`` hears.

    A collective that moves no data (a barrier) has one size, that of its token, whatever they say.

    Raises:
        InputError: a range that cannot be read or holds no size that can be had.
    """
    from commbench.collectives.sizes import fitting_sizes, sweep
    from commbench.collectives.spec import get_collective
    from commbench.units import format_bytes, parse_size

    spec, (first, last, factor, step) = get_collective(collective), sizes
    wanted = sweep(first, last, factor=factor, step=step, element_bytes=element_bytes)
    if spec.covers:
        if sizes != (DEFAULT_SIZE, None, None, None):
            tell(f"note: {spec.name} moves no data: -b, -e, -f and -i have no meaning for it")
        return (element_bytes,)
    kept, small = fitting_sizes(spec, num_ranks, wanted, element_bytes)
    small = (*((least,) if (least := parse_size(first)) < min(wanted[0], element_bytes) else ()), *small)
    if small:
        named = ", ".join(map(format_bytes, small[:3])) + (" ..." if len(small) > 3 else "")
        each = f" for each of {num_ranks} ranks" if spec.by_rank else ""
        tell(f"note: left out {named}: smaller than one element of {element_bytes} B{each}")
    return kept
