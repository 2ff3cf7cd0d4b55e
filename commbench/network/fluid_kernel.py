# SPDX-License-Identifier: Apache-2.0
"""The fluid model (network.fluid) for the compiled engine: flows on links, whose fair shares network.filling keeps up
to date, and the first end of the flows that each link holds back.

A flow whose rate changes gets another end. Of all flows that one link holds back, only the first end waits for its
time: nothing is queued for the others.
"""

import numpy as np

from commbench.network.base import LAST_PS, NEVER, PAST_THE_END, NetworkKernel
from commbench.network.filling import alone, fill, load, nearly_full
from commbench.network.fluid_lists import let_go, touch, unsteady
from commbench.network.fluid_state import (
    CHANGED,
    LOOK,
    NEWCOMER,
    NEWCOMERS,
    STALE,
    STAMP,
    TOUCHED,
    UNSETTLED,
    Fluid,
    build_fluid,
)
from commbench.network.jit import jit
from commbench.network.queue import collect, next_time, put, take_out

__all__ = ["KERNEL", "Fluid"]

_TOO_LONG = 2.0**63  # ps: past the end of simulated time


@jit
def _start(slot, route, now, slots, net):
    slots[slot].since, slots[slot].rate = now, 0.0
    slots[slot].hops = net.hops[slots[slot].task]
    if _attach(slot, route, slots, net):
        net.newcomers[net.n[NEWCOMERS]] = slot
        net.n[NEWCOMERS] += 1
    else:
        _touch_all(route, net)


@jit
def _finish(slot, slots, net):
    _detach(slot, slots, net)


@jit
def _move(slot, route, now, slots, net):
    if net.flows[slot].end == now:  # it is through: this instant ends it where it is
        return
    _detach(slot, slots, net)
    _attach(slot, route, slots, net)
    _touch_all(route, net)


@jit
def _set_bandwidth(link, bandwidth, net):
    net.links[link].bandwidth = bandwidth
    if net.links[link].count == 0:
        return False
    touch(link, NEWCOMER, net)
    return True


@jit
def _next_event(now, slots, net):
    """New fair shares wherever something has changed; then the first end."""
    n = net.n
    for i in range(n[NEWCOMERS]):
        slot = net.newcomers[i]
        if not alone(slot, slots, net):
            _touch_all(slots[slot].route, net)
        elif _give(slot, now, slots, net):
            put(slot, net.flows[slot].end, slots, net.queue)
            net.links[net.held_by[slot]].soonest = slot
        else:
            return PAST_THE_END
    n[NEWCOMERS] = 0
    while n[TOUCHED] > 0:
        fill(slots, net)
        _count(slots, net)
    for i in range(n[CHANGED]):
        net.flows[net.changed[i]].listed = 0
        if not _give(net.changed[i], now, slots, net):
            return PAST_THE_END
    n[CHANGED] = 0
    for i in range(n[STALE]):
        _look_for_first(net.stale[i], slots, net)
    n[STALE] = 0
    return next_time(net.queue)


@jit
def _advance(now, slots, net, ended, count):
    """Of every link whose first end it is, all flows with this end."""
    links, flows, held_by = net.links, net.flows, net.held_by
    found = count
    count = collect(now, slots, net.queue, ended, count)
    for i in range(found, count):
        soonest = ended[i]
        link = held_by[soonest]
        links[link].soonest = -1
        if links[link].count == 1:
            continue
        unsteady(link, net)
        for at in range(links[link].first, links[link].first + links[link].count):
            slot = net.on_link[at].slot
            if held_by[slot] == link and flows[slot].end == now and soonest != np.int64(slot):
                ended[count] = slot
                count += 1
    return count


@jit
def _count(slots, net):
    """Count what changed flows use now; a link that holds none back and comes near to its bandwidth is touched."""
    links, flows, first = net.links, net.flows, net.first
    for i in range(net.n[CHANGED]):
        slot = net.changed[i]
        more = flows[slot].next_rate - flows[slot].counted
        if more == 0.0:
            continue
        flows[slot].counted = flows[slot].next_rate
        route = slots[slot].route
        for hop in range(first[route], first[route + 1]):
            link = net.route_links[hop]
            links[link].used += more * load(hop, net)
            if links[link].level == UNSETTLED and links[link].open != net.n[STAMP] and nearly_full(link, net):
                touch(link, LOOK, net)


@jit
def _give(slot, now, slots, net):
    """A flow's rate from now on; if it is another than before, so is its end. False where that passes the last time."""
    rate = net.flows[slot].next_rate
    if rate == slots[slot].rate:
        return True
    passed = slots[slot].rate * (now - slots[slot].since) / 1e12
    slots[slot].left = max(slots[slot].left - passed, 0.0)
    slots[slot].since, slots[slot].rate = now, rate
    lasts = slots[slot].left / rate * 1e12 + 0.5
    if lasts >= _TOO_LONG or np.int64(lasts) > LAST_PS - now:
        return False
    net.flows[slot].end = now + np.int64(lasts)
    return True


@jit
def _look_for_first(link, slots, net):
    """Let the flow that ends first, of those that the link holds back, wait in the queue."""
    links, flows = net.links, net.flows
    links[link].stale = 0
    before, soonest, end = links[link].soonest, -1, NEVER
    for at in range(links[link].first, links[link].first + links[link].count):
        slot = net.on_link[at].slot
        if net.held_by[slot] == link and (end == NEVER or flows[slot].end < end):
            soonest, end = np.int64(slot), flows[slot].end
    if before >= 0:
        if before == soonest and net.queue.buckets[slots[before].bucket].time == end:
            return
        take_out(before, slots, net.queue)
    links[link].soonest = soonest
    if soonest >= 0:
        put(soonest, end, slots, net.queue)


@jit
def _attach(slot, route, slots, net):
    """Put the slot's flow on the links of a route, at the end of the flows there; none of them has fixed it yet.

    Returns whether it is the only one on all of them.
    """
    links, on_link, first = net.links, net.on_link, net.first
    slots[slot].route, first_of_all = route, True
    net.flows[slot].next_rate, net.flows[slot].counted, net.held_by[slot] = UNSETTLED, 0.0, links.size - 1
    for i in range(first[route + 1] - first[route]):
        link = net.route_links[first[route] + i]
        at = links[link].count
        on_link[links[link].first + at].slot, on_link[links[link].first + at].hop = slot, i
        net.place[slots[slot].hops + i] = at
        links[link].count = at + 1
        links[link].total += load(first[route] + i, net)
        first_of_all = first_of_all and at == 0
    return first_of_all


@jit
def _touch_all(route, net):
    """Let the next filling begin at the links of a route that a flow has come to."""
    for hop in range(net.first[route], net.first[route + 1]):
        link = net.route_links[hop]
        if link == net.links.size - 1:
            unsteady(link, net)
        else:
            touch(link, NEWCOMER, net)


@jit
def _detach(slot, slots, net):
    """Take the slot's flow off its links; the last flow of each moves up to its place."""
    links, on_link, place, first = net.links, net.on_link, net.place, net.first
    route = slots[slot].route
    let_go(slot, slots, net)
    for i in range(first[route + 1] - first[route]):
        link = net.route_links[first[route] + i]
        last = links[link].count - 1
        links[link].count = last
        if last == 0:  # an empty link has nobody to share with
            links[link].total, links[link].used, links[link].level = 0.0, 0.0, UNSETTLED
            continue
        mover = on_link[links[link].first + last]
        at = place[slots[slot].hops + i]
        place[slots[mover.slot].hops + mover.hop] = at
        on_link[links[link].first + at].slot, on_link[links[link].first + at].hop = mover.slot, mover.hop
        weight = load(first[route] + i, net)
        links[link].total -= weight
        links[link].used -= weight * net.flows[slot].counted
        if link != links.size - 1:
            touch(link, LOOK, net)


KERNEL = NetworkKernel(
    build=build_fluid,
    start=_start,
    finish=_finish,
    move=_move,
    set_bandwidth=_set_bandwidth,
    next_event=_next_event,
    advance=_advance,
)
