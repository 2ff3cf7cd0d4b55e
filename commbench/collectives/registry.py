# SPDX-License-Identifier: Apache-2.0
"""Every algorithm by collective and name, and the one way to build a schedule from it."""

from collections.abc import Mapping
from types import MappingProxyType

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms import (
    all_pairs,
    alltoall,
    bruck,
    chains,
    doubling,
    gloo,
    hierarchical,
    in_switch,
    pat,
    ring,
    shift,
    torus,
    tree,
    trees,
)
from commbench.collectives.memory import FEWER, TABLE_BYTES
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import MOST_CHANNELS, MOST_RANKS, MOST_STEPS, Schedule
from commbench.collectives.spec import get_collective
from commbench.collectives.work import require_memory
from commbench.errors import InputError, did_you_mean

__all__ = ["ALGORITHMS", "DEFAULTS", "build", "build_schedule", "get_algorithm", "rounds_of"]

_MODULES = (
    *(ring, chains, tree, trees, doubling, shift, alltoall, all_pairs, bruck),
    *(hierarchical, torus, pat, in_switch, gloo),
)

ALGORITHMS: Mapping[tuple[str, str], Algorithm] = MappingProxyType(
    {(a.collective, name): a for module in _MODULES for a in module.ALGORITHMS for name in (a.name, *a.aliases)}
)


_RINGS = ("all-reduce", "reduce-scatter", "all-gather", "broadcast", "reduce")

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {collective: "direct" for collective, _ in ALGORITHMS}
    | dict.fromkeys(_RINGS, "ring")
    | {"barrier": "dissemination"}
)
"""By collective, the algorithm of whoever names none: rings, and all messages at once where NCCL sends them so."""


def get_algorithm(collective: str, name: str) -> Algorithm:
    """The algorithm of this name or alias.

    Raises:
        InputError: unknown; lists what there is for the collective.
    """
    collective = get_collective(collective).name
    if (collective, name) not in ALGORITHMS:
        known = [n for c, n in ALGORITHMS if c == collective]
        listed = f"{did_you_mean(name, known)}known: {', '.join(known) or 'none'}"
        raise InputError(f"algorithm {name!r} is unknown for {collective}; {listed}")
    return ALGORITHMS[collective, name]


def build(algorithm: Algorithm, request: Request) -> Schedule:
    """The schedule of an algorithm for a request.

    Raises:
        InputError: a world that the algorithm cannot serve (the message says which it can), a number below 1, or more
            than the memory holds.
    """
    _check(algorithm, request)
    require_memory(algorithm, request, TABLE_BYTES, FEWER)
    return algorithm.build(request)


def rounds_of(algorithm: Algorithm, request: Request) -> Rounds | None:
    """The same schedule as one round that repeats, or None if the algorithm or the request (slices) has no such form.

    Raises:
        InputError: as build.
    """
    _check(algorithm, request)
    return algorithm.rounds(request) if algorithm.rounds is not None and request.slices == 1 else None


def _check(algorithm: Algorithm, request: Request) -> None:
    for name in ("num_ranks", "slices", "channels", "group"):
        if getattr(request, name) < 1:
            raise InputError(f"algorithm {algorithm.name}: {name} must be at least 1, not {getattr(request, name)}")
    bounds = {"num_ranks": MOST_RANKS, "slices": MOST_STEPS, "channels": MOST_CHANNELS, "group": MOST_RANKS}
    for name, most in bounds.items():
        if getattr(request, name) > most:
            raise InputError(f"--{name.removeprefix('num_')} {getattr(request, name)}: at most {most}")
    if request.hosts is not None and len(request.hosts) != request.num_ranks:
        raise InputError(f"algorithm {algorithm.name}: {len(request.hosts)} hosts for {request.num_ranks} ranks")
    if not 0 <= request.root < request.num_ranks:
        raise InputError(f"--root {request.root} is outside the ranks 0..{request.num_ranks - 1}")
    rule = algorithm.refuses(request)
    if rule:
        raise InputError(f"algorithm {algorithm.name} for {algorithm.collective} {rule}; it serves: {algorithm.worlds}")


def build_schedule(
    collective: str,
    name: str,
    num_ranks: int,
    slices: int | None = None,
    *,
    root: int = 0,
    channels: int = 1,
    group: int = 1,
    num_elements: int | None = None,
    element_bytes: int = 4,
) -> Schedule:
    """The schedule of an algorithm by name; ``slices`` None takes the algorithm's own; see Request for the rest.

    Raises:
        InputError: unknown algorithm, or a request that it cannot serve.
    """
    algorithm = get_algorithm(collective, name)
    request = Request(
        num_ranks=num_ranks,
        slices=algorithm.default_slices if slices is None else slices,
        channels=channels,
        root=root,
        group=group,
        num_elements=num_elements,
        element_bytes=element_bytes,
    )
    return build(algorithm, request)
