# SPDX-License-Identifier: Apache-2.0
"""Max-min fair shares kept up to date: only what a change reaches is filled again, from the level of the change on.

The solution is one number per link, its *level*: the rate at which it holds flows back (UNSETTLED if it holds none). A
flow's rate is the lowest level on its route, and a link's level follows from the rates that its flows have elsewhere,
by the rule of network.maxmin on this link alone. Levels that obey this rule on every link are the solution, to the last
bit: where two sets of levels differ, take the lowest level that is not in both; below it each link's flows are the
same, so is its arithmetic, and so is that level. Hence it is enough to see to links whose flows have changed:

- A link that a change touches is *open*: it is filled as in network.maxmin, level by level.
- Any other link with a level is believed. When the filling reaches this level, so are its flows.
- When an open link fills up, it fixes its flows; those that had another rate open their other links, from this level
  on: below it nothing there has changed. When the filling passes the level that an open link had before, flows which
  it held back are loose, and open their links likewise.
- A link without a level of its own, of which a millionth is free, stays closed: rounding does not reach so far. (To
  come to a millionth in the sum of what is used takes 2**33 changes of rate while the link is never empty.) If one
  has less after the filling, the next one begins with it.
- The filling ends where no open link is left that may fill up. It goes through few levels, links and flows, where
  filling everything goes through all of them.

Which link holds which flows at which level is the bottleneck structure of J. Ros-Giralt et al., "On the Bottleneck
Structure of Congestion-Controlled Networks", Proc. ACM Meas. Anal. Comput. Syst. 3(3), 59 (2019).
"""

import numpy as np

from commbench.network.fluid_lists import enlist, let_go, unsteady
from commbench.network.fluid_state import (
    ASKED,
    HEAP,
    LIVE,
    LOSING,
    NEWCOMER,
    RELEASING,
    STAMP,
    TOUCHED,
    UNSETTLED,
    WORK,
)
from commbench.network.foreseen import pop, push
from commbench.network.jit import jit

__all__ = ["alone", "fill", "load", "nearly_full"]

_NEARLY_ALL = 1.0 - 2.0**-20  # of a bandwidth


@jit
def fill(slots, net):
    """Fill once, from the touched links: sets ``next_rate`` of flows, and lists those that may have another."""
    n = net.n
    n[STAMP] += 1
    n[HEAP] = n[LIVE] = 0
    _begin(slots, net)
    level = 0.0  # the links that were touched
    while True:
        for i in range(n[ASKED]):
            _open(net.asked[i], level, slots, net)
        n[ASKED] = 0
        if n[LIVE] == 0:
            return
        level = net.heap[0].key
        _reach(level, slots, net)
        _lose(level, net)


@jit
def load(hop, net):
    """The weight of a flow at this place of the routes."""
    return net.weights[hop] if net.weights.size > 0 else 1.0


@jit
def _begin(slots, net):
    """Ask for the touched links; a flow that shares no link is fixed at once."""
    n, links = net.n, net.links
    for i in range(n[TOUCHED]):
        link = net.touched[i]
        why = links[link].touched
        links[link].touched = 0
        if links[link].count == 0 or links[link].open == n[STAMP]:
            continue
        if links[link].count == 1:
            slot = net.on_link[links[link].first].slot
            if alone(slot, slots, net):
                unsteady(net.held_by[slot], net)
                enlist(slot, net)
                continue
        if why == NEWCOMER or _may_hold(link, net):
            _ask(link, net)
    n[TOUCHED] = 0


@jit
def alone(slot, slots, net):
    """Fix a flow if it shares no link; most of a quiet fabric are such."""
    links, first, route_links, stamp = net.links, net.first, net.route_links, net.n[STAMP]
    route, rate = slots[slot].route, UNSETTLED
    bottleneck = route_links[first[route]]
    for hop in range(first[route], first[route + 1]):
        link = route_links[hop]
        if links[link].count != 1:
            return False
        rate = min(rate, _share_alone(link, hop, net))
    for hop in range(first[route], first[route + 1]):
        link = route_links[hop]
        links[link].open, links[link].level = stamp, UNSETTLED
        if _share_alone(link, hop, net) == rate:
            links[link].level = rate
            bottleneck = link
        links[link].used = rate * load(hop, net)
    if net.held_by[slot] != bottleneck:
        let_go(slot, slots, net)
        net.held_by[slot] = bottleneck
    net.flows[slot].next_rate = net.flows[slot].counted = rate
    net.n[WORK] += 1
    return True


@jit
def _share_alone(link, hop, net):
    return net.links[link].bandwidth / net.weights[hop] if net.weights.size > 0 else net.links[link].bandwidth


@jit
def _may_hold(link, net):
    """Whether the link may hold flows back: it does, or nearly all of it is used."""
    return net.links[link].level < UNSETTLED or nearly_full(link, net)


@jit
def nearly_full(link, net):
    """Whether flows use so much of the link that only its filling can tell whether it holds some of them back."""
    return net.links[link].used > net.links[link].bandwidth * _NEARLY_ALL


@jit
def _ask(link, net):
    """Have the link opened once this level is done."""
    if net.links[link].asked == 0:
        net.links[link].asked = 1
        net.asked[net.n[ASKED]] = link
        net.n[ASKED] += 1


@jit
def _open(link, level, slots, net):
    """Fill the link up to a level, as its flows' rates have it; with level 0 up to where it may differ from before."""
    n, links, groups = net.n, net.links, net.groups
    before, count, later = links[link].level, 0, 0
    for at in range(links[link].first, links[link].first + links[link].count):
        slot = net.on_link[at].slot
        by, weight = net.held_by[slot], 1.0
        if by == link or links[by].level == UNSETTLED:  # nobody else holds it back, so far
            continue
        if net.weights.size > 0:
            weight = load(net.first[slots[slot].route] + net.on_link[at].hop, net)
        if links[by].group == 0.0:
            if links[by].level <= level or (level == 0.0 and links[by].level < before):
                groups[count] = by
                count += 1
            else:
                later += 1
                groups[groups.size - later] = by
        links[by].group += weight
    for i in range(groups.size - later, groups.size):
        links[groups[i]].group = 0.0
        _foresee(groups[i], net)
    _sort(count, net)
    _fill_up(link, count, level, net)
    if links[link].live == 0:
        n[LIVE] += 1
    links[link].open, links[link].live, links[link].asked, links[link].fixed = n[STAMP], 1, 0, 0.0
    if links[link].weight == 0.0:
        _close(link, net)
        return
    push(links[link].share, 2 * np.int64(link), net)
    if links[link].level < UNSETTLED:
        _foresee(link, net)


@jit
def _fill_up(link, count, level, net):
    """Take what the groups use off the link, lowest level first; foresee those beyond the level at which it is full."""
    links, groups = net.links, net.groups
    left, weight, upto = links[link].bandwidth, links[link].total, 0.0
    share, i = left / weight, 0
    while i < count:
        rate, lost = links[groups[i]].level, 0.0
        if level == 0.0 and rate >= share:
            break
        while i < count and links[groups[i]].level == rate:
            lost += links[groups[i]].group
            links[groups[i]].group = 0.0
            i += 1
        left, weight, upto = max(left - rate * lost, 0.0), weight - lost, rate
        if weight > 0.0:
            share = max(share, left / weight)
    while i < count:
        links[groups[i]].group = 0.0
        _foresee(groups[i], net)
        i += 1
    links[link].left, links[link].weight, links[link].upto, links[link].share = left, weight, upto, share


@jit
def _sort(count, net):
    """Sort the groups by level (Shell: most are few)."""
    links, groups, gap = net.links, net.groups, 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, count):
            group, place = groups[i], i
            while place >= gap and links[groups[place - gap]].level > links[group].level:
                groups[place] = groups[place - gap]
                place -= gap
            groups[place] = group
        gap //= 3


@jit
def _close(link, net):
    """An open link cannot fill up any more: all its flows are held back elsewhere."""
    net.links[link].level, net.links[link].live = UNSETTLED, 0
    net.n[LIVE] -= 1


@jit
def _reach(level, slots, net):
    """Whatever happens at a level: links fill up, believed ones and open ones, or had been full before."""
    n, links = net.n, net.links
    n[RELEASING] = 0
    while n[HEAP] > 0 and net.heap[0].key == level:
        what = net.heap[0].item
        link = np.uint32(what >> 1)
        pop(net)
        if what & 1 == 0:
            if links[link].live == 0:
                continue
            if links[link].share > level:
                push(links[link].share, what, net)
            else:
                _saturate(link, level, slots, net)
        elif links[link].level == level:
            if links[link].open != n[STAMP]:
                _believe(link, level, slots, net)
            elif links[link].live == 1:
                net.releasing[n[RELEASING]] = link
                n[RELEASING] += 1
    for i in range(n[RELEASING]):
        if links[net.releasing[i]].live == 1:  # else it is full at the same level again
            _release(net.releasing[i], level, slots, net)


@jit
def _saturate(link, level, slots, net):
    """An open link is full: it fixes all flows that no other does at this level or below."""
    links, n = net.links, net.n
    links[link].level, links[link].live = level, 0
    n[LIVE] -= 1
    for at in range(links[link].first, links[link].first + links[link].count):
        slot = net.on_link[at].slot
        by = net.held_by[slot]
        if by != link:
            if links[by].level < level:
                continue
            if links[by].level == level and (links[by].open != n[STAMP] or links[by].live == 0):
                continue
        changed = net.flows[slot].next_rate != level
        _hold(slot, link, level, slots, net)
        _tell(slot, level, changed, slots, net)


@jit
def _believe(link, level, slots, net):
    """A link that nothing has changed is full: open links learn of its flows."""
    for at in range(net.links[link].first, net.links[link].first + net.links[link].count):
        slot = net.on_link[at].slot
        if net.held_by[slot] == link:
            _tell(slot, level, False, slots, net)


@jit
def _release(link, level, slots, net):
    """An open link is not full at the level that it had before: flows which it held back are loose."""
    links, first, stamp = net.links, net.first, net.n[STAMP]
    for at in range(links[link].first, links[link].first + links[link].count):
        slot = net.on_link[at].slot
        if net.held_by[slot] != link:
            continue
        route, held = slots[slot].route, False
        for hop in range(first[route], first[route + 1]):
            other = net.route_links[hop]
            if links[other].level == level and links[other].open != stamp:
                _hold(slot, other, level, slots, net)
                held = True
                break
        if held:
            _tell(slot, level, False, slots, net)
            continue
        let_go(slot, slots, net)
        net.held_by[slot] = links.size - 1
        for hop in range(first[route], first[route + 1]):
            other = net.route_links[hop]
            if links[other].open == stamp:
                if links[other].upto >= level:
                    _ask(other, net)
            elif links[other].level > level and _may_hold(other, net):
                _ask(other, net)


@jit
def _hold(slot, link, level, slots, net):
    """Fix a flow's rate: this link is what holds it back."""
    if net.held_by[slot] != link:
        let_go(slot, slots, net)
    unsteady(link, net)
    net.held_by[slot], net.flows[slot].next_rate = link, level
    net.n[WORK] += 1
    enlist(slot, net)


@jit
def _tell(slot, level, changed, slots, net):
    """A flow is fixed: its open links lose what it takes; if its rate is another than before, closed ones open."""
    links, first = net.links, net.first
    route = slots[slot].route
    for hop in range(first[route], first[route + 1]):
        link = net.route_links[hop]
        if links[link].open == net.n[STAMP]:
            if links[link].upto >= level:
                if changed:  # what it was filled with so far is no longer so
                    _ask(link, net)
            elif links[link].live == 1:
                if links[link].fixed == 0.0:
                    net.losing[net.n[LOSING]] = link
                    net.n[LOSING] += 1
                links[link].fixed += load(hop, net)
        elif changed and links[link].level > level and _may_hold(link, net):
            _ask(link, net)


@jit
def _lose(level, net):
    """Open links lose at once what their flows take that were fixed at this level."""
    links = net.links
    for i in range(net.n[LOSING]):
        link = net.losing[i]
        fixed = links[link].fixed
        links[link].fixed = 0.0
        if links[link].live == 0:
            continue
        links[link].left = max(links[link].left - level * fixed, 0.0)
        links[link].weight -= fixed
        links[link].upto = level
        if links[link].weight == 0.0:
            _close(link, net)
        else:
            links[link].share = max(links[link].share, links[link].left / links[link].weight)
    net.n[LOSING] = 0


@jit
def _foresee(link, net):
    """Have the filling look at the link when it comes to the level that it had before."""
    if net.links[link].foreseen != net.n[STAMP]:
        net.links[link].foreseen = net.n[STAMP]
        push(net.links[link].level, 2 * np.int64(link) + 1, net)
