# SPDX-License-Identifier: Apache-2.0
"""What the fluid model for the compiled engine keeps: links, flows, and the lists of a sharing in progress.

A crowded link is walked along again and again, so its flows stand one behind the other in memory, and what is asked of
every flow, which link holds it back, stands apart from the rest. Memory: 12 bytes per task and link of its longest
route, 52 per task, and 160 per link.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.network.base import Wiring
from commbench.network.queue import Queue, empty_queue

__all__ = ["FLOW", "LINK", "ON_LINK", "UNSETTLED", "Fluid", "build_fluid"]

Array = npt.NDArray[Any]

# Counters, places in ``Fluid.n``: flows fixed by fillings; number of the latest filling; lengths of the lists; open
# links that may still fill up.
WORK, STAMP, NEWCOMERS, TOUCHED, CHANGED, STALE, ASKED, LOSING, RELEASING, HEAP, LIVE, NUM_COUNTERS = range(12)

UNSETTLED = float("inf")
"""Rate of a flow that no link has fixed yet, and level of a link that holds no flow back."""

# Why a link is touched: a flow has gone or its use may have come near to its bandwidth; or a flow has come.
LOOK, NEWCOMER = 1, 2

ON_LINK = np.dtype([("slot", np.uint32), ("hop", np.uint32)], align=True)
"""A flow on a link: which, and the how-manieth link of its route this is."""

LINK = np.dtype(
    [
        ("level", np.float64),  # rate of the flows that it holds back, per unit of weight; UNSETTLED if it holds none
        ("open", np.int64),  # the latest filling that opened it
        ("bandwidth", np.float64),  # bytes/s
        ("total", np.float64),  # weight of all flows on it
        ("used", np.float64),  # what they use of it, bytes/s, but for rounding
        ("group", np.float64),  # of the opening in progress: weight of the flows there that this link holds back
        ("first", np.int64),  # its flows are on_link[first:first + count]
        ("count", np.int32),
        ("touched", np.int32),  # whether and why the next filling begins here
        ("upto", np.float64),  # of the filling in progress: ``left`` and ``weight`` are as of this level
        ("fixed", np.float64),  # weight of flows fixed at the present level
        ("left", np.float64),  # bandwidth left, weight of flows not fixed, and left / weight
        ("weight", np.float64),
        ("share", np.float64),
        ("foreseen", np.int64),  # the latest filling that foresees its level
        ("live", np.int32),  # 1 while it may still fill up
        ("asked", np.int32),  # 1 while it waits to be opened
        ("soonest", np.int32),  # of the flows that it holds back, the slot that waits in the queue; -1 if none does
        ("stale", np.int32),  # 1 while another may be the one
    ],
    align=True,
)
"""A link; what every start and end of a flow looks at fills the first of two cache lines of 64 bytes."""

FLOW = np.dtype(
    [
        ("next_rate", np.float64),  # bytes/s per unit of weight, as the latest filling has it
        ("counted", np.float64),  # the rate that is in its links' ``used``
        ("end", np.int64),  # when its last byte passes, ps
        ("listed", np.int64),  # 1 while it is among the changed ones
    ],
    align=True,
)

FORESEEN = np.dtype([("key", np.float64), ("item", np.int64)], align=True)
"""In the heap of a filling: at level ``key`` link ``item // 2`` is full (even), or was full before (odd)."""


class Fluid(NamedTuple):
    """The state.

    Attributes:
        n: counters.
        first, route_links, weights: routes, as in :class:`commbench.network.base.Wiring`, but that a route over no link
            crosses the last link here, which is none: flows that have been moved off all links wait there for their
            ends.
        hops: of every task, where the places of its flow begin in ``place``.
        links: records LINK. on_link: flows on links (ON_LINK). place: where each flow stands on each link of its route.
        flows: records FLOW, by slot. held_by: the link that holds each back, the last one if none does yet.
        queue: of the first end of the flows that each link holds back.
        newcomers: slots of flows that found no other on their links.
        touched: links where the next sharing begins. stale: those that may have another first end.
        changed: slots of flows whose rate may have changed.
        asked, losing, releasing, groups: lists of links of a filling. heap: of its records FORESEEN.
    """

    n: Array
    first: Array
    route_links: Array
    weights: Array
    hops: Array
    links: Array
    on_link: Array
    place: Array
    flows: Array
    held_by: Array
    queue: Queue
    newcomers: Array
    touched: Array
    stale: Array
    changed: Array
    asked: Array
    losing: Array
    releasing: Array
    groups: Array
    heap: Array


def build_fluid(wiring: Wiring, route_of: Array, moves: Sequence[tuple[int, int]]) -> Fluid:
    """The state without flows, with room on every link for all flows that may ever be on it at a time, one per task."""
    size, num_links = len(route_of), len(wiring.bandwidths) + 1
    first, crossed, weights = _with_none(wiring)
    length = np.diff(first)
    users = np.bincount(route_of[route_of >= 0], minlength=len(length))  # tasks by route
    longest = length.copy()
    room = np.bincount(crossed, weights=np.repeat(users, length), minlength=num_links)
    for route, other in moves:
        longest[route] = max(longest[route], length[other])
        np.add.at(room, crossed[first[other] : first[other + 1]], users[route])
    links = np.zeros(num_links, dtype=LINK)
    links["bandwidth"][:-1] = wiring.bandwidths
    links["level"], links["soonest"] = UNSETTLED, -1
    links["first"][1:] = np.cumsum(room)[:-1]
    hops = np.where(route_of >= 0, longest[route_of] if len(longest) else 0, 0)
    lists = {name: np.empty(num_links, dtype=np.uint32) for name in ("touched", "stale", "asked", "losing")}
    return Fluid(
        n=np.zeros(NUM_COUNTERS, dtype=np.int64),
        first=first,
        route_links=crossed.astype(np.uint32),
        weights=weights,
        hops=(np.cumsum(hops) - hops).astype(np.int64),
        links=links,
        on_link=np.empty(int(room.sum()), dtype=ON_LINK),
        place=np.empty(int(hops.sum()), dtype=np.int32),
        flows=np.zeros(size, dtype=FLOW),
        held_by=np.zeros(size, dtype=np.uint32),
        queue=empty_queue(size),
        newcomers=np.empty(size, dtype=np.uint32),
        changed=np.empty(size, dtype=np.uint32),
        releasing=np.empty(num_links, dtype=np.uint32),
        groups=np.empty(num_links, dtype=np.uint32),
        heap=np.empty(4 * num_links, dtype=FORESEEN),
        **lists,
    )


def _with_none(wiring: Wiring) -> tuple[Array, Array, Array]:
    """The routes, those over no link over the link behind the last."""
    length = np.diff(wiring.first)
    empty = np.asarray(wiring.first[:-1])[length == 0]
    first = np.concatenate([[0], np.cumsum(np.maximum(length, 1))]).astype(np.int64)
    crossed = np.insert(np.asarray(wiring.links, dtype=np.int64), empty, len(wiring.bandwidths))
    weights = np.asarray(wiring.weights, dtype=np.float64)
    return first, crossed, np.insert(weights, empty, 1.0) if len(weights) else weights.copy()
