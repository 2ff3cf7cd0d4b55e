# SPDX-License-Identifier: Apache-2.0
"""All ways between two ends at once: at every node on the way, the links that may come next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commbench.routing.routes import Rows, row_starts

__all__ = ["ARRIVED", "WayGraph", "chained", "joined"]

ARRIVED = -1
"""The state behind a last link."""

_MOST_WAYS = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class WayGraph:
    """A graph of states: where something is, and where it goes to.

    Attributes:
        first: shape (states + 1,); in state s any of ``links[first[s]:first[s + 1]]`` comes next, one at least.
        links: their numbers. after: the state behind each, or ARRIVED.
        start: the state in which every route begins, shape (routes,); ARRIVED where it has no link.
    """

    first: Rows
    links: Rows
    after: Rows
    start: Rows

    @classmethod
    def single(cls, first: Rows, links: Rows) -> "WayGraph":
        """Where route r can only take ``links[first[r]:first[r + 1]]``: the states are the places in ``links``."""
        after, start = chained(first, 0, np.full(len(first) - 1, ARRIVED))
        return cls(np.arange(len(links) + 1), links, after, start)

    def beside(self, more: "WayGraph") -> "WayGraph":
        """These, and then the routes of ``more``."""
        after, start = (np.where(x == ARRIVED, ARRIVED, x + len(self.first) - 1) for x in (more.after, more.start))
        pieces = (np.diff(self.first), self.links, self.after), (np.diff(more.first), more.links, after)
        return joined(pieces, np.concatenate([self.start, start]))

    def fan_outs(self) -> Rows:
        """Of every state, the largest product of the numbers of choices along a way from there; 2**30 at most."""
        found, counts = np.ones(len(self.first) - 1, np.int64), np.diff(self.first)
        while len(found):
            behind = np.where(self.after == ARRIVED, 1, found[self.after])
            more = np.minimum(counts * np.maximum.reduceat(behind, self.first[:-1]), _MOST_WAYS)
            if np.array_equal(more, found):
                break
            found = more
        return found


def chained(first: Rows, base: int, behind: Rows) -> tuple[Rows, Rows]:
    """Rows of links as chains of states, a state for each link, numbered from ``base`` on.

    Returns:
        The state after each link, ``behind[i]`` after the last one of row i; and the state in which each row begins.
    """
    after = base + 1 + np.arange(first[-1])
    full = np.diff(first) > 0
    after[first[1:][full] - 1] = behind[full]
    return after, np.where(full, base + first[:-1], behind)


def joined(pieces: Sequence[tuple[Rows, Rows, Rows]], start: Rows) -> WayGraph:
    """States of one piece behind those of another.

    Args:
        pieces: of states, the number of choices of each; of choices, links and states after them, among all states.
        start: of every route.
    """
    counts, links, after = (np.concatenate([piece[i] for piece in pieces]) for i in range(3))
    return WayGraph(row_starts(counts), links.astype(np.int64), after, start)
