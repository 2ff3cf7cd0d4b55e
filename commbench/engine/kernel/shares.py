# SPDX-License-Identifier: Apache-2.0
"""Flows on links, and their max-min fair shares in the part of the network that has changed (network.maxmin).

A crowded link is walked along again and again, so its flows stand one behind the other in memory, and what is asked of
every flow (is it marked, is it fixed) stands in arrays of its own.
"""

from commbench.engine.kernel import jit
from commbench.engine.kernel.counters import STAMP, TOUCHED


@jit
def touch(link, links, touched, n):
    """Have the link's part of the network solved again."""
    if links[link].touched == 0:
        links[link].touched = 1
        touched[n[TOUCHED]] = link
        n[TOUCHED] += 1


@jit
def _weight(hop, weights):
    return weights[hop] if weights.size > 0 else 1.0


@jit
def attach(slot, route, slots, links, crowd, routes, touched, n):
    """Put the slot's flow on the links of a route, at the end of the flows there."""
    on_link, place = crowd
    first, route_links, weights = routes
    slots[slot].route = route
    for i in range(first[route + 1] - first[route]):
        link = route_links[first[route] + i]
        at = links[link].count
        on_link[links[link].first + at].slot, on_link[links[link].first + at].hop = slot, i
        place[slots[slot].hops + i] = at
        links[link].count = at + 1
        links[link].total += _weight(first[route] + i, weights)
        touch(link, links, touched, n)


@jit
def detach(slot, slots, links, crowd, routes, touched, n):
    """Take the slot's flow off its links; the last flow of each moves up to its place."""
    on_link, place = crowd
    first, route_links, weights = routes
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
        links[link].total -= _weight(first[route] + i, weights)
        touch(link, links, touched, n)


@jit
def connected(link, slots, links, crowd, routes, marks, part, n):
    """Links and flows joined to a link through shared links; returns how many of each, in the two lists of ``part``."""
    first, route_links = routes[0], routes[1]
    mark, next_rate = marks
    part_links, part_slots = part[0], part[1]
    stamp = n[STAMP]
    links[link].mark = stamp
    part_links[0] = link
    num_links, num_slots, looked_at = 1, 0, 0
    while looked_at < num_links:
        here = part_links[looked_at]
        looked_at += 1
        for i in range(links[here].first, links[here].first + links[here].count):
            slot = crowd[0][i].slot
            if mark[slot] == stamp:
                continue
            mark[slot] = stamp
            next_rate[slot] = -1.0
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
def solve(num_links, num_slots, slots, links, crowd, routes, next_rate, part):
    """Progressive filling of one connected part: sets ``next_rate`` of its flows."""
    part_links = part[0]
    for i in range(num_links):
        link = part_links[i]
        links[link].left, links[link].weight, links[link].fixed = links[link].bandwidth, links[link].total, 0.0
        if links[link].count == 0:
            links[link].weight = 0.0
        else:
            links[link].share = links[link].bandwidth / links[link].total
    while num_slots > 0:
        num_links, share = _smallest_share(num_links, links, part_links)
        num_slots -= _fix(num_links, share, slots, links, crowd, routes, next_rate, part)


@jit
def alone(route, links, routes, stamp):
    """Rate of a flow if it shares no link, else -1; marks its links then."""
    first, route_links, weights = routes
    rate = -1.0
    for hop in range(first[route], first[route + 1]):
        link = route_links[hop]
        if links[link].count != 1:
            return -1.0
        share = links[link].bandwidth / _weight(hop, weights)
        if rate < 0.0 or share < rate:
            rate = share
    for hop in range(first[route], first[route + 1]):
        links[route_links[hop]].mark = stamp
    return rate


@jit
def _smallest_share(num_links, links, part_links):
    """The smallest share of links that have flows to fix; drops the others from the list."""
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
def _fix(num_links, share, slots, links, crowd, routes, next_rate, part):
    """Fix all flows over links with this share, then take what they use off their links; returns how many."""
    first, route_links, weights = routes
    part_links, lost = part[0], part[2]
    fixed, num_lost = 0, 0
    for i in range(num_links):
        here = part_links[i]
        if links[here].share != share:
            continue
        for j in range(links[here].first, links[here].first + links[here].count):
            slot = crowd[0][j].slot
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
                links[link].fixed += _weight(hop, weights)
    for i in range(num_lost):
        link = lost[i]
        links[link].left = max(links[link].left - share * links[link].fixed, 0.0)
        links[link].weight -= links[link].fixed
        links[link].fixed = 0.0
        if links[link].weight > 0.0:
            links[link].share = links[link].left / links[link].weight
    return fixed
