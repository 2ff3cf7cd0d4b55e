# SPDX-License-Identifier: Apache-2.0
"""The fluid model (network.fluid) for the compiled engine: flows on links, and their max-min fair shares in the part of
the network that has changed (network.maxmin).

A crowded link is walked along again and again, so its flows stand one behind the other in memory, and what is asked of
every flow (is it marked, is it fixed) stands in arrays of its own. Memory: 12 bytes per task and link of its longest
route, 32 per task, and a record per link.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.network.base import LAST_PS, PAST_THE_END, NetworkKernel, Wiring
from commbench.network.jit import jit
from commbench.network.queue import Queue, collect, empty_queue, next_time, put, take_out

__all__ = ["KERNEL", "Fluid"]

Array = npt.NDArray[Any]

# Counters: flows that were solved with others; number of the latest search for a connected part; links in ``touched``.
WORK, STAMP, TOUCHED = range(3)

_TOO_LONG = 2.0**63  # ps: past the end of simulated time

ON_LINK = np.dtype([("slot", np.uint32), ("hop", np.uint32)], align=True)
"""A flow on a link: which, and the how-manieth link of its route this is."""

LINK = np.dtype(
    [
        ("bandwidth", np.float64),  # bytes/s
        ("total", np.float64),  # weight of all flows on it
        ("left", np.float64),  # of the sharing in progress: bandwidth left, weight not fixed, weight fixed in this
        ("weight", np.float64),  # round, and left / weight
        ("fixed", np.float64),
        ("share", np.float64),
        ("first", np.int64),  # its flows are on_link[first:first + count]
        ("count", np.int32),
        ("mark", np.int32),
        ("touched", np.int32),
    ],
    align=True,
)


class Fluid(NamedTuple):
    """The state.

    Attributes:
        n: counters, shape (3,).
        first, route_links, weights: routes, as in :class:`commbench.network.base.Wiring`.
        hops: of every task, where the places of its flow begin in ``place``.
        links: records LINK. on_link: flows on links (ON_LINK). place: where each flow stands on each link of its route.
        mark, next_rate: by slot, the latest search that met it, and its rate (bytes/s) in the sharing in progress.
        touched: links to start from at the next sharing.
        part_links, part_slots, losing: of a sharing in progress: its links and slots, and the links that lose.
        queue: of the ends of flows.
    """

    n: Array
    first: Array
    route_links: Array
    weights: Array
    hops: Array
    links: Array
    on_link: Array
    place: Array
    mark: Array
    next_rate: Array
    touched: Array
    part_links: Array
    part_slots: Array
    losing: Array
    queue: Queue


def _build(wiring: Wiring, route_of: Array, moves: Sequence[tuple[int, int]]) -> Fluid:
    """The state without flows, with room on every link for all flows that may ever be on it at a time, one per task."""
    size, num_links = len(route_of), len(wiring.bandwidths)
    length = np.diff(wiring.first)
    users = np.bincount(route_of[route_of >= 0], minlength=len(length))  # tasks by route
    longest = length.copy()
    room = np.bincount(wiring.links, weights=np.repeat(users, length), minlength=num_links)
    for route, other in moves:
        longest[route] = max(longest[route], length[other])
        np.add.at(room, wiring.links[wiring.first[other] : wiring.first[other + 1]], users[route])
    links = np.zeros(num_links, dtype=LINK)
    links["bandwidth"] = wiring.bandwidths
    links["first"][1:] = np.cumsum(room)[:-1]
    hops = np.where(route_of >= 0, longest[route_of] if len(longest) else 0, 0)
    return Fluid(
        n=np.zeros(3, dtype=np.int64),
        first=np.array(wiring.first, dtype=np.int64),
        route_links=np.array(wiring.links, dtype=np.uint32),
        weights=np.array(wiring.weights, dtype=np.float64),
        hops=(np.cumsum(hops) - hops).astype(np.int64),
        links=links,
        on_link=np.empty(int(room.sum()), dtype=ON_LINK),
        place=np.empty(int(hops.sum()), dtype=np.int32),
        mark=np.zeros(size, dtype=np.int32),
        next_rate=np.empty(size, dtype=np.float64),
        touched=np.empty(num_links, dtype=np.uint32),
        part_links=np.empty(num_links, dtype=np.uint32),
        part_slots=np.empty(size, dtype=np.uint32),
        losing=np.empty(num_links, dtype=np.uint32),
        queue=empty_queue(size),
    )


@jit
def _start(slot, route, now, slots, net):
    slots[slot].since, slots[slot].rate = now, 0.0
    slots[slot].hops = net.hops[slots[slot].task]
    _attach(slot, route, slots, net)


@jit
def _finish(slot, slots, net):
    _detach(slot, slots, net)


@jit
def _move(slot, route, now, slots, net):
    _detach(slot, slots, net)
    _attach(slot, route, slots, net)


@jit
def _set_bandwidth(link, bandwidth, net):
    net.links[link].bandwidth = bandwidth
    if net.links[link].count == 0:
        return False
    _touch(link, net)
    return True


@jit
def _next_event(now, slots, net):
    """New fair shares wherever something has changed, one connected part after the other; then the first end."""
    n, links = net.n, net.links
    n[STAMP] += 1
    for i in range(n[TOUCHED]):
        link = net.touched[i]
        links[link].touched = 0
        if links[link].mark == n[STAMP] or links[link].count == 0:
            continue
        if links[link].count == 1:  # most parts of a quiet fabric are one flow
            slot = net.on_link[links[link].first].slot
            rate = _alone(slots[slot].route, net)
            if rate >= 0.0:
                if not _give(slot, rate, now, slots, net):
                    return PAST_THE_END
                continue
        num_links, num_slots = _connected(link, slots, net)
        _solve(num_links, num_slots, slots, net)
        n[WORK] += num_slots
        for j in range(num_slots):
            if not _give(net.part_slots[j], net.next_rate[net.part_slots[j]], now, slots, net):
                return PAST_THE_END
    n[TOUCHED] = 0
    return next_time(net.queue)


@jit
def _advance(now, slots, net, ended, count):
    return collect(now, slots, net.queue, ended, count)


@jit
def _give(slot, rate, now, slots, net):
    """A flow's rate from now on; if it is another than before, so is its end. False where that passes the last time."""
    if rate == slots[slot].rate:
        return True
    if slots[slot].bucket >= 0:
        take_out(slot, slots, net.queue)
    passed = slots[slot].rate * (now - slots[slot].since) / 1e12
    slots[slot].left = max(slots[slot].left - passed, 0.0)
    slots[slot].since, slots[slot].rate = now, rate
    lasts = slots[slot].left / rate * 1e12 + 0.5
    if lasts >= _TOO_LONG or np.int64(lasts) > LAST_PS - now:
        return False
    put(slot, now + np.int64(lasts), slots, net.queue)
    return True


@jit
def _touch(link, net):
    """Have the link's part of the network solved again."""
    if net.links[link].touched == 0:
        net.links[link].touched = 1
        net.touched[net.n[TOUCHED]] = link
        net.n[TOUCHED] += 1


@jit
def _weight(hop, weights):
    return weights[hop] if weights.size > 0 else 1.0


@jit
def _attach(slot, route, slots, net):
    """Put the slot's flow on the links of a route, at the end of the flows there."""
    links, on_link, place, first, route_links = net.links, net.on_link, net.place, net.first, net.route_links
    slots[slot].route = route
    for i in range(first[route + 1] - first[route]):
        link = route_links[first[route] + i]
        at = links[link].count
        on_link[links[link].first + at].slot, on_link[links[link].first + at].hop = slot, i
        place[slots[slot].hops + i] = at
        links[link].count = at + 1
        links[link].total += _weight(first[route] + i, net.weights)
        _touch(link, net)


@jit
def _detach(slot, slots, net):
    """Take the slot's flow off its links; the last flow of each moves up to its place."""
    links, on_link, place, first, route_links = net.links, net.on_link, net.place, net.first, net.route_links
    route = slots[slot].route
    for i in range(first[route + 1] - first[route]):
        link = route_links[first[route] + i]
        last = links[link].count - 1
        links[link].count = last
        if last == 0:  # an empty link has nobody to share with
            links[link].total = 0.0
            continue
        mover = on_link[links[link].first + last]
        at = place[slots[slot].hops + i]
        place[slots[mover.slot].hops + mover.hop] = at
        on_link[links[link].first + at].slot, on_link[links[link].first + at].hop = mover.slot, mover.hop
        links[link].total -= _weight(first[route] + i, net.weights)
        _touch(link, net)


@jit
def _connected(link, slots, net):
    """Links and flows joined to a link through shared links; returns how many, in the two lists of the part."""
    links, first, route_links, mark = net.links, net.first, net.route_links, net.mark
    part_links, part_slots, stamp = net.part_links, net.part_slots, net.n[STAMP]
    links[link].mark = stamp
    part_links[0] = link
    num_links, num_slots, looked_at = 1, 0, 0
    while looked_at < num_links:
        here = part_links[looked_at]
        looked_at += 1
        for i in range(links[here].first, links[here].first + links[here].count):
            slot = net.on_link[i].slot
            if mark[slot] == stamp:
                continue
            mark[slot] = stamp
            net.next_rate[slot] = -1.0
            part_slots[num_slots] = slot
            num_slots += 1
            route = slots[slot].route
            for hop in range(first[route], first[route + 1]):
                other = route_links[hop]
                if links[other].mark != stamp:
                    links[other].mark = stamp
                    part_links[num_links] = other
                    num_links += 1
    return num_links, num_slots


@jit
def _solve(num_links, num_slots, slots, net):
    """Progressive filling of one connected part: sets ``next_rate`` of its flows."""
    links, part_links = net.links, net.part_links
    for i in range(num_links):
        link = part_links[i]
        links[link].left, links[link].weight, links[link].fixed = links[link].bandwidth, links[link].total, 0.0
        if links[link].count == 0:
            links[link].weight = 0.0
        else:
            links[link].share = links[link].bandwidth / links[link].total
    while num_slots > 0:
        num_links, share = _smallest_share(num_links, net)
        num_slots -= _fix(num_links, share, slots, net)


@jit
def _alone(route, net):
    """Rate of a flow if it shares no link, else -1; marks its links then."""
    links, first, route_links = net.links, net.first, net.route_links
    rate = -1.0
    for hop in range(first[route], first[route + 1]):
        link = route_links[hop]
        if links[link].count != 1:
            return -1.0
        share = links[link].bandwidth / _weight(hop, net.weights)
        if rate < 0.0 or share < rate:
            rate = share
    for hop in range(first[route], first[route + 1]):
        links[route_links[hop]].mark = net.n[STAMP]
    return rate


@jit
def _smallest_share(num_links, net):
    """The smallest share of links that have flows to fix; drops the others from the list."""
    links, part_links = net.links, net.part_links
    kept, share = 0, -1.0
    for i in range(num_links):
        link = part_links[i]
        if links[link].weight > 0.0:
            part_links[kept] = link
            kept += 1
            if share < 0.0 or links[link].share < share:
                share = links[link].share
    return kept, share


@jit
def _fix(num_links, share, slots, net):
    """Fix all flows over links with this share, then take what they use off their links; returns how many."""
    links, first, route_links, next_rate, lost = net.links, net.first, net.route_links, net.next_rate, net.losing
    fixed, num_lost = 0, 0
    for i in range(num_links):
        here = net.part_links[i]
        if links[here].share != share:
            continue
        for j in range(links[here].first, links[here].first + links[here].count):
            slot = net.on_link[j].slot
            if next_rate[slot] >= 0.0:
                continue
            next_rate[slot] = share
            fixed += 1
            route = slots[slot].route
            for hop in range(first[route], first[route + 1]):
                link = route_links[hop]
                if links[link].fixed == 0.0:
                    lost[num_lost] = link
                    num_lost += 1
                links[link].fixed += _weight(hop, net.weights)
    for i in range(num_lost):
        link = lost[i]
        links[link].left = max(links[link].left - share * links[link].fixed, 0.0)
        links[link].weight -= links[link].fixed
        links[link].fixed = 0.0
        if links[link].weight > 0.0:
            links[link].share = links[link].left / links[link].weight
    return fixed


KERNEL = NetworkKernel(
    build=_build,
    start=_start,
    finish=_finish,
    move=_move,
    set_bandwidth=_set_bandwidth,
    next_event=_next_event,
    advance=_advance,
)
