# SPDX-License-Identifier: Apache-2.0
"""Flows on links, and their max-min fair shares in the part of the network that has changed (network.maxmin)."""

from commbench.sim.kernel import jit
from commbench.sim.kernel.counters import FREE_NODE, NODES, STAMP, TOUCHED


@jit
def touch(link, links, touched, n):
    """Have the link's part of the network solved again."""
    if links[link].touched == 0:
        links[link].touched = 1
        touched[n[TOUCHED]] = link
        n[TOUCHED] += 1


@jit
def attach(slot, route, slots, nodes, links, routes, touched, n):
    """Put the slot's flow on the links of a route."""
    route_first, route_links, route_weights = routes
    slots[slot].node = -1
    for hop in range(route_first[route], route_first[route + 1]):
        node = n[FREE_NODE]
        if node >= 0:
            n[FREE_NODE] = nodes[node].next
        else:
            node = n[NODES]
            n[NODES] += 1
        link = route_links[hop]
        head = links[link].head
        nodes[node].weight = route_weights[hop] if route_weights.size > 0 else 1.0
        nodes[node].slot, nodes[node].link = slot, link
        nodes[node].next, nodes[node].prev = head, -1
        nodes[node].sibling = slots[slot].node
        if head >= 0:
            nodes[head].prev = node
        links[link].head = node
        slots[slot].node = node
        touch(link, links, touched, n)


@jit
def detach(slot, slots, nodes, links, touched, n):
    """Take the slot's flow off its links."""
    node = slots[slot].node
    slots[slot].node = -1
    while node >= 0:
        after, before, link = nodes[node].next, nodes[node].prev, nodes[node].link
        if after >= 0:
            nodes[after].prev = before
        if before >= 0:
            nodes[before].next = after
        else:
            links[link].head = after
        if links[link].head >= 0:  # an empty link has nobody to share with
            touch(link, links, touched, n)
        nodes[node].next = n[FREE_NODE]
        n[FREE_NODE] = node
        node = nodes[node].sibling


@jit
def connected(link, slots, nodes, links, part_links, part_slots, n):
    """Links and flows joined to a link through shared links; returns how many of each, in the two lists."""
    stamp = n[STAMP]
    links[link].mark = stamp
    part_links[0] = link
    num_links, num_slots, looked_at = 1, 0, 0
    while looked_at < num_links:
        node = links[part_links[looked_at]].head
        looked_at += 1
        while node >= 0:
            slot = nodes[node].slot
            if slots[slot].mark != stamp:
                slots[slot].mark = stamp
                slots[slot].next_rate = -1.0
                part_slots[num_slots] = slot
                num_slots += 1
                own = slots[slot].node
                while own >= 0:
                    other = nodes[own].link
                    if links[other].mark != stamp:
                        links[other].mark = stamp
                        part_links[num_links] = other
                        num_links += 1
                    own = nodes[own].sibling
            node = nodes[node].next
    return num_links, num_slots


@jit
def solve(num_links, num_slots, slots, nodes, links, part_links, part_slots, lost):
    """Progressive filling of one connected part: sets ``next_rate`` of its flows. ``lost`` is room for links."""
    if num_slots == 1:
        slots[part_slots[0]].next_rate = _alone(slots[part_slots[0]].node, nodes, links)
        return
    for i in range(num_links):
        link = part_links[i]
        weight = 0.0
        node = links[link].head
        while node >= 0:
            weight += nodes[node].weight
            node = nodes[node].next
        links[link].left, links[link].weight, links[link].fixed = links[link].bandwidth, weight, 0.0
        links[link].share = links[link].bandwidth / weight if weight > 0.0 else 0.0
    while num_slots > 0:
        num_links, share = _smallest_share(num_links, links, part_links)
        num_slots -= _fix(num_links, share, slots, nodes, links, part_links, lost)


@jit
def _alone(node, nodes, links):
    """Rate of a flow that shares no link."""
    rate = -1.0
    while node >= 0:
        share = links[nodes[node].link].bandwidth / nodes[node].weight
        if rate < 0.0 or share < rate:
            rate = share
        node = nodes[node].sibling
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
def _fix(num_links, share, slots, nodes, links, part_links, lost):
    """Fix all flows over links with this share, then take what they use off their links; returns how many."""
    fixed, num_lost = 0, 0
    for i in range(num_links):
        if links[part_links[i]].share != share:
            continue
        node = links[part_links[i]].head
        while node >= 0:
            slot = nodes[node].slot
            node = nodes[node].next
            if slots[slot].next_rate >= 0.0:
                continue
            slots[slot].next_rate = share
            fixed += 1
            own = slots[slot].node
            while own >= 0:
                link = nodes[own].link
                if links[link].fixed == 0.0:
                    lost[num_lost] = link
                    num_lost += 1
                links[link].fixed += nodes[own].weight
                own = nodes[own].sibling
    for i in range(num_lost):
        link = lost[i]
        links[link].left = max(links[link].left - share * links[link].fixed, 0.0)
        links[link].weight -= links[link].fixed
        links[link].fixed = 0.0
        if links[link].weight > 0.0:
            links[link].share = links[link].left / links[link].weight
    return fixed
