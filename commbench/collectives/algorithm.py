# SPDX-License-Identifier: Apache-2.0
"""What an algorithm is to commbench: a function from a request to a schedule, with its name and its source."""

from collections.abc import Callable
from dataclasses import dataclass

from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule

__all__ = ["Algorithm", "Request", "any_world"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a schedule is wanted for.

    Attributes:
        num_ranks: world size.
        slices: pieces that every chunk is pipelined in.
        channels: pieces that run side by side, each on a channel of its own.
        root: root rank of rooted collectives.
        group: ranks per host (or per leaf, for trees of switches); hierarchical algorithms need it.
        hosts: host of every rank, where hosts hold unequal numbers of ranks or ranks in no order; None: rank r is on
            host r div ``group``.
        ways: where ranks of a host are linked to each other directly, orders of the host's ranks that share no link
            (closed to rings if there is one host); channel c takes number c of its host.
        by_host: whether rings go host by host, in the order of their first ranks, where ranks lie on hosts in no order.
        num_elements: elements of the full buffer, for algorithms whose chunks depend on the size; else None.
        element_bytes: bytes of one element, for the same.
    """

    num_ranks: int
    slices: int = 1
    channels: int = 1
    root: int = 0
    group: int = 1
    hosts: tuple[int, ...] | None = None
    ways: tuple[tuple[int, ...], ...] = ()
    by_host: bool = False
    num_elements: int | None = None
    element_bytes: int = 4


def any_world(request: Request) -> str:
    """Every world can be served."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One algorithm for one collective.

    Attributes:
        collective: key of ``spec.COLLECTIVES``.
        name: as users type it. aliases: other names for it.
        build: request -> schedule.
        source: paper or code that defines it, with section.
        refuses: request -> "" if it can be served, else the rule, for example "needs a power of two, not 6 ranks".
        worlds: the same rule in words for the list, for example "powers of two".
        default_slices: slices used unless the user asks for another number.
        sized: whether the schedule depends on the size, so that it must be built for each.
        live: whether real ranks can run it (switches that add cannot be had there).
        one_host: whether all ranks must be on one host. one_leaf: on several hosts that hang on one leaf.
        rounds: request -> the same schedule as one round that repeats, for algorithms that are so; for one slice.
    """

    collective: str
    name: str
    build: Callable[[Request], Schedule]
    source: str
    aliases: tuple[str, ...] = ()
    refuses: Callable[[Request], str] = any_world
    worlds: str = "any"
    default_slices: int = 1
    sized: bool = False
    live: bool = True
    one_host: bool = False
    one_leaf: bool = False
    rounds: Callable[[Request], Rounds] | None = None
