# SPDX-License-Identifier: Apache-2.0
"""Which groups of ranks do the same at once, round by round: pairs, senders into one receiver, or groups as asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.errors import InputError
from commbench.topology.jobs import deal

__all__ = ["ALONE", "AT_ONCE", "BOTH", "HOWS", "Endpoint", "GroupRound", "groups_of", "incast_rounds", "pair_rounds"]

AT_ONCE, ALONE, BOTH = "at-once", "alone", "both"
HOWS = (AT_ONCE, ALONE, BOTH)

Endpoint = tuple[str, int]
"""A rank's host, and its number among the ranks of that host."""


@dataclass(frozen=True, slots=True)
class GroupRound:
    """Groups, none of which shares a rank with another, that begin together; the other ranks stand by.

    Attributes:
        groups: ranks of the world, in the order that they have in their group.
    """

    groups: tuple[tuple[int, ...], ...]

    def group_of(self, rank: int) -> int | None:
        """Number of the group that a rank is in, if it is in one."""
        return next((number for number, group in enumerate(self.groups) if rank in group), None)


def pair_rounds(num_ranks: int, how: str, *, one_way: bool = False) -> list[GroupRound]:
    """Every pair of ranks once; with ``one_way`` once in each direction, from the first to the second.

    At once as a round robin: n - 1 rounds of n / 2 pairs, or of an odd number n rounds in each of which one rank stands
    by (the circle method; E. Lucas, "Recreations mathematiques", vol. 2, 1883).

    Args:
        num_ranks: of the world, 2 or more. how: :data:`AT_ONCE`, :data:`ALONE` or :data:`BOTH`.
    """
    ring: list[int | None] = [*range(num_ranks), *([None] * (num_ranks % 2))]
    rounds = []
    for _ in range(len(ring) - 1):
        facing = zip(ring[: len(ring) // 2], reversed(ring), strict=False)
        pairs = [(min(a, b), max(a, b)) for a, b in facing if a is not None and b is not None]
        rounds.append(GroupRound(tuple(sorted(pairs))))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    if one_way:
        rounds = [GroupRound(tuple(pair[::turn] for pair in one.groups)) for one in rounds for turn in (1, -1)]
    return _done(rounds, how)


def incast_rounds(num_ranks: int, receiver: int, senders: Sequence[int] = ()) -> list[GroupRound]:
    """One receiver, first in its group, and k senders, the next ranks behind it in a circle; a round for every k.

    Args:
        senders: the k; left out, 1 to n - 1.

    Raises:
        InputError: a receiver or a number of senders that is not there.
    """
    if not 0 <= receiver < num_ranks:
        raise InputError(f"--receiver {receiver} is outside the ranks 0..{num_ranks - 1}")
    for count in senders:
        if not 1 <= count < num_ranks:
            raise InputError(f"--senders {count}: {num_ranks} ranks have 1 to {num_ranks - 1} senders to one receiver")
    circle = [(receiver + turn) % num_ranks for turn in range(num_ranks)]
    return [GroupRound((tuple(circle[: count + 1]),)) for count in senders or range(1, num_ranks)]


def groups_of(text: str, places: Sequence[Endpoint], how: str) -> list[GroupRound]:
    """Groups of ranks as a text says.

    Args:
        text: "node" (ranks of one host), "rail" (ranks of the same number on every host), "mod K" (ranks alike modulo
            K), "div K" (K ranks in a row), a number, or ranks as in "0-3/4-7" (:func:`commbench.topology.jobs.deal`).
        places: of all ranks. how: as for :func:`pair_rounds`.

    Raises:
        InputError: not such a text, or a group of one rank.
    """
    word, _, number = text.strip().lower().partition(" ")
    keys: list[object] = []
    if word == "node" and not number:
        keys = [host for host, _ in places]
    elif word == "rail" and not number:
        keys = [index for _, index in places]
    elif word in ("mod", "div"):
        if not number.strip().isdecimal() or int(number) < 1:
            raise InputError(f"--groups {text!r}: give a number from 1 on behind {word}, for example '{word} 4'")
        keys = [rank % int(number) if word == "mod" else rank // int(number) for rank in range(len(places))]
    if keys:
        groups = [tuple(r for r, other in enumerate(keys) if other == key) for key in dict.fromkeys(keys)]
    else:
        groups = deal(text, len(places), "--groups")
    if (single := next((group for group in groups if len(group) < 2), None)) is not None:
        raise InputError(f"--groups {text}: rank {single[0]} would be alone; a group needs two ranks or more")
    return _done([GroupRound(tuple(groups))], how)


def _done(rounds: list[GroupRound], how: str) -> list[GroupRound]:
    """The rounds, or each of their groups by itself, or both; a group that has none beside it is alone as it is."""
    alone = [GroupRound((group,)) for one in rounds for group in one.groups]
    if how == AT_ONCE:
        return rounds
    return alone if how == ALONE else [*(one for one in rounds if len(one.groups) > 1), *alone]
