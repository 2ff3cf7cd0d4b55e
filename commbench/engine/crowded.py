# SPDX-License-Identifier: Apache-2.0
"""Ports of switches that are sent more than they can drain: there queues grow, which the fluid model has none of."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.engine.setting import Paths
from commbench.engine.trace import Trace
from commbench.program.flat import TRANSFER, FlatProgram

__all__ = ["CrowdedPort", "crowded_port"]

IntArray = npt.NDArray[np.int64]

_LEAST_SHARE = 0.01  # of the run; for less, a queue is over before it can matter


@dataclass(frozen=True, slots=True)
class CrowdedPort:
    """A link that several others feed.

    Attributes:
        link: its number. senders: how many links fed it at most, while they could bring more than it takes.
        inflow: bytes/s that these can bring. share: of the run, in which it was so.
    """

    link: int
    senders: int
    inflow: float
    share: float


def crowded_port(tasks: FlatProgram, trace: Trace, paths: Paths) -> CrowdedPort | None:
    """The port that was crowded for longest, by the times of the fluid model; None if there is none.

    A link outside hosts is crowded while transfers under way come to it over two links or more that together are faster
    than it is. (From one link alone the sender's own host holds back what does not fit.)

    Args:
        tasks, trace, paths: as they were simulated, spans kept.
    """
    found = None
    for link, feeds, starts, ends in _fed(tasks, trace, paths):
        crowded = _crowded(link, paths.bandwidths, feeds, starts, ends, trace.finish_ps)
        if crowded is not None and (found is None or crowded.share > found.share):
            found = crowded
    return found


def _fed(
    tasks: FlatProgram, trace: Trace, paths: Paths
) -> Iterable[tuple[int, IntArray, IntArray, IntArray]]:
    """Links that may be crowded: (link, and of the transfers over it the link before, start and end)."""
    moves = np.flatnonzero((tasks.kind == TRANSFER) & (paths.route_of >= 0))
    routes = paths.route_of[moves]
    hops = paths.first[routes + 1] - paths.first[routes]
    later = np.maximum(hops - 1, 0)  # links of a route that another one feeds
    owner = np.repeat(np.arange(len(moves)), later)
    place = np.arange(int(later.sum())) - np.repeat(np.cumsum(later) - later, later) + 1
    at = paths.first[routes[owner]] + place
    link, feed = paths.links[at], paths.links[at - 1]
    outside = ~paths.inside[link] if len(paths.inside) else np.ones(len(link), np.bool_)
    link, feed, owner = link[outside], feed[outside], owner[outside]
    pairs = np.unique(np.stack([link, feed], axis=1), axis=0)
    inflow = np.bincount(pairs[:, 0], paths.bandwidths[pairs[:, 1]], len(paths.bandwidths))
    feeds = np.bincount(pairs[:, 0], minlength=len(paths.bandwidths))
    for one in np.flatnonzero((feeds > 1) & (inflow > paths.bandwidths * (1 + 1e-9))).tolist():
        mine = link == one
        own = moves[owner[mine]]
        yield one, feed[mine], trace.start_ps[own], trace.end_ps[own]


def _crowded(
    link: int, bandwidths: npt.NDArray[np.float64], feeds: IntArray, starts: IntArray, ends: IntArray, finish_ps: int
) -> CrowdedPort | None:
    """One link, followed from one begin or end of its transfers to the next."""
    number = len(feeds)
    times = np.concatenate([starts, ends])
    active = dict.fromkeys(feeds.tolist(), 0)
    lasted, most, most_inflow, since = 0, 0, 0.0, 0
    senders, inflow = 0, 0.0
    for event in np.argsort(times, kind="stable").tolist():
        if senders > 1 and inflow > bandwidths[link] * (1 + 1e-9) and times[event] > since:
            lasted += int(times[event]) - since
            most, most_inflow = max((most, most_inflow), (senders, inflow))
        since = int(times[event])
        feed = int(feeds[event % number])
        active[feed] += 1 if event < number else -1
        if active[feed] == (1 if event < number else 0):
            senders += 1 if event < number else -1
            inflow += float(bandwidths[feed]) * (1 if event < number else -1)
    share = lasted / finish_ps if finish_ps else 0.0
    return CrowdedPort(link, most, most_inflow, share) if share > _LEAST_SHARE else None
