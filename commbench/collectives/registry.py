# SPDX-License-Identifier: Apache-2.0
"""Every algorithm by name: what it is, where it comes from, and the function that builds its schedule."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from commbench.collectives.algorithms.ring import ring_all_reduce
from commbench.collectives.algorithms.tree import double_binary_tree_all_reduce
from commbench.collectives.passes import pipeline
from commbench.collectives.schedule import Schedule
from commbench.errors import InputError

__all__ = ["ALGORITHMS", "Algorithm", "build_schedule", "get_algorithm"]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm for one collective.

    Attributes:
        name: as users type it. aliases: other names for it.
        build: (num_ranks, num_slices) -> Schedule.
        default_slices: slices used unless the user asks for another number.
        min_ranks: smallest world that it serves; every larger one is served too.
        source: paper or code that defines it.
    """

    collective: str
    name: str
    build: Callable[[int, int], Schedule]
    default_slices: int
    source: str
    aliases: tuple[str, ...] = ()
    min_ranks: int = 1


_ALL = (
    Algorithm(
        collective="all-reduce",
        name="ring",
        build=lambda n, slices: pipeline(ring_all_reduce(n), slices),
        default_slices=1,
        source="Patarasuk and Yuan 2009, section 3",
    ),
    Algorithm(
        collective="all-reduce",
        name="double-binary-tree",
        aliases=("tree",),
        build=double_binary_tree_all_reduce,
        default_slices=4,
        source="Sanders, Speck and Traeff 2009; tree shape of NCCL 2.30.7",
    ),
)

ALGORITHMS: Mapping[tuple[str, str], Algorithm] = MappingProxyType(
    {(a.collective, name): a for a in _ALL for name in (a.name, *a.aliases)}
)


def get_algorithm(collective: str, name: str) -> Algorithm:
    """The algorithm of this name or alias.

    Raises:
        InputError: unknown; lists what there is for the collective.
    """
    if (collective, name) not in ALGORITHMS:
        known = ", ".join(n for c, n in ALGORITHMS if c == collective) or "none"
        raise InputError(f"algorithm {name!r} is unknown for {collective}; known: {known}")
    return ALGORITHMS[collective, name]


def build_schedule(collective: str, name: str, num_ranks: int, slices: int | None = None) -> Schedule:
    """The schedule of an algorithm for a world size; ``slices`` None takes the algorithm's own default.

    Raises:
        InputError: unknown algorithm, or a world size or slice count that it cannot serve.
    """
    algorithm = get_algorithm(collective, name)
    if num_ranks < algorithm.min_ranks:
        raise InputError(f"algorithm {algorithm.name} serves {algorithm.min_ranks} ranks and more, not {num_ranks}")
    return algorithm.build(num_ranks, algorithm.default_slices if slices is None else slices)
