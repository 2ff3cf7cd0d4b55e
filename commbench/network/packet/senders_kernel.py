# SPDX-License-Identifier: Apache-2.0
"""What senders of the packet network do, for the compiled engine; and what links and senders share."""

import numpy as np

from commbench.network.jit import jit
from commbench.network.packet.balance_kernel import path_number
from commbench.network.packet.control import HOP_PS, LEAST_TARGET, TARGET_PS
from commbench.network.packet.control_kernel import (
    dcqcn_notice,
    dcqcn_sent,
    swift_allows,
    swift_answered,
    swift_sent,
)
from commbench.network.packet.events_kernel import at, free_packet, new_packet
from commbench.network.packet.settings import DCQCN, FLOW, NDP, SWIFT
from commbench.network.packet.state import (
    ASLEEP,
    BALANCE,
    CONTROL,
    EAGER,
    FIRST_WINDOW,
    FULL,
    HEADER,
    IDLE,
    IN_TURN,
    LATE,
    LOSSLESS,
    MTU,
    PULL,
    REPEATED,
    RTO_PS,
    TIMEOUT,
    WAKE,
    WINDOW,
)

__all__ = ["answered", "begin", "eager", "join_turn", "lasts", "leave_turn", "next_packet", "woken"]

_TOO_LONG = 2.0**62  # ps


@jit
def eager(link, net):
    """A link may have something to send at this instant."""
    if net.links[link].eager == 0:
        net.links[link].eager = 1
        net.eager[net.n[EAGER]] = link
        net.n[EAGER] += 1


@jit
def lasts(size, bandwidth, net):
    """Picoseconds in which a packet leaves."""
    time = size / bandwidth * 1e12 + 0.5
    if time >= _TOO_LONG:
        net.n[LATE] = 1
        return 1
    return max(np.int64(time), 1)


@jit
def join_turn(task, link, net):
    """A flow that may send stands last in the turn of its link."""
    entry, flows = net.links[link], net.flows
    flows[task].after = -1
    if entry.turn < 0:
        entry.turn = task
    else:
        flows[entry.turn_end].after = task
    entry.turn_end = task
    eager(link, net)


@jit
def leave_turn(task, link, net):
    """A flow leaves the turn of its link, wherever it stands in it."""
    entry, flows = net.links[link], net.flows
    before, here = -1, entry.turn
    while here != task:
        before, here = here, flows[here].after
    if before < 0:
        entry.turn = flows[task].after
    else:
        flows[before].after = flows[task].after
    if entry.turn_end == task:
        entry.turn_end = before


@jit
def _offer(task, now, net):
    """Have a flow that may send wait for its link, or for its pace."""
    flow = net.flows[task]
    if flow.state != IDLE or (flow.next >= flow.packets and flow.trimmed < 0):
        return
    if net.given[CONTROL] == NDP and flow.credit == 0:
        return
    under_way = flow.next - flow.acked
    if under_way >= net.given[WINDOW] or (net.given[CONTROL] == SWIFT and not swift_allows(under_way, flow)):
        return
    if flow.ready <= now:
        flow.state = IN_TURN
        join_turn(task, net.route_links[net.first[flow.route]], net)
    else:
        flow.state = ASLEEP
        at(flow.ready, WAKE, task, -1, net)


@jit
def _round_trip(route, net):
    """Of a full packet and its answer where nothing waits, ps."""
    time = 2 * net.back[route]
    for hop in range(net.first[route], net.first[route + 1]):
        time += lasts(net.given[FULL], net.links[net.route_links[hop]].bandwidth, net)
    return time


@jit
def _first_window(route, net):
    """Packets that a sender of NDP sends unasked."""
    if net.given[FIRST_WINDOW]:
        return net.given[FIRST_WINDOW]
    slowest = net.links[net.route_links[net.first[route]]].bandwidth
    for hop in range(net.first[route], net.first[route + 1]):
        slowest = min(slowest, net.links[net.route_links[hop]].bandwidth)
    return np.int64(slowest * _round_trip(route, net) / 1e12 / net.given[FULL] + 1.0)


@jit
def begin(task, now, net):
    """A message begins."""
    flow, given = net.flows[task], net.given
    route = flow.route
    flow.line = flow.rate = flow.target = net.links[net.route_links[net.first[route]]].bandwidth
    if given[CONTROL] == SWIFT:
        round_trip = _round_trip(route, net)
        flow.round_trip = round_trip
        hops = net.first[route + 1] - net.first[route]
        flow.target_ps = max(TARGET_PS + HOP_PS * hops, np.int64(LEAST_TARGET * round_trip))
        flow.window = flow.line * round_trip / 1e12 / given[FULL] + 1.0
        flow.most = flow.line * (round_trip + flow.target_ps) / 1e12 / given[FULL] + 1.0
    if given[CONTROL] == NDP:
        flow.credit = flow.asked = min(_first_window(route, net), flow.packets)
    if not given[LOSSLESS]:
        flow.deadline = now + given[RTO_PS]
        at(flow.deadline, TIMEOUT, task, -1, net)
    _offer(task, now, net)


@jit
def next_packet(task, now, net):
    """The next packet of a flow that has the turn."""
    flow, given = net.flows[task], net.given
    path = path_number(task, now, net) if given[BALANCE] != FLOW else 0
    packet = flow.trimmed
    if packet < 0:
        packet = new_packet(net)
        net.packets[packet].number = flow.next
        flow.next += 1
    else:
        flow.trimmed = net.packets[packet].next
        flow.again += 1
        net.counts[REPEATED, net.route_links[net.first[flow.route]]] += 1
    flow.credit -= given[CONTROL] == NDP
    entry = net.packets[packet]
    size = max(min(given[MTU], flow.num_bytes - entry.number * given[MTU]) + given[HEADER], 1)
    entry.flow, entry.size, entry.place, entry.path = task, size, net.way_first[net.begins[flow.route]], path
    entry.sent, entry.back, entry.via, entry.marked, entry.trimmed = now, 0, -1, 0, 0
    gap = 0
    if given[CONTROL] == DCQCN:
        gap = dcqcn_sent(size, now, flow)
    elif given[CONTROL] == SWIFT:
        gap = swift_sent(flow)
    flow.ready = now + gap
    flow.state = IDLE
    _offer(task, now, net)
    return packet


@jit
def _go_back(flow, net):
    net.counts[REPEATED, net.route_links[net.first[flow.route]]] += flow.next - flow.acked
    flow.next = flow.acked


@jit
def answered(packet, now, net):
    """An answer arrives at the sender."""
    answer, given = net.packets[packet], net.given
    task = answer.flow
    flow = net.flows[task]
    if answer.trimmed:
        answer.next = -1
        if flow.trimmed < 0:
            flow.trimmed = packet
        else:
            net.packets[flow.trimmed_end].next = packet
        flow.trimmed_end = packet
        _offer(task, now, net)
        return
    if flow.live:
        if answer.notice and given[CONTROL] == DCQCN:
            dcqcn_notice(now, flow)
        if given[CONTROL] == SWIFT:
            swift_answered(now - answer.sent, now, flow)
        if answer.got > flow.acked:
            flow.acked = answer.got
            flow.deadline = now + given[RTO_PS]
        if answer.again and answer.got >= flow.acked:
            _go_back(flow, net)
        _offer(task, now, net)
    free_packet(packet, net)


@jit
def woken(task, kind, now, net):
    """A flow's pace or its receiver allows the next packet, or its answers are overdue."""
    flow = net.flows[task]
    if not flow.live:
        return
    if kind == WAKE:
        flow.state = IDLE
    elif kind == PULL:
        flow.credit += 1
    else:
        if flow.deadline <= now:
            _go_back(flow, net)
            flow.deadline = now + net.given[RTO_PS]
        at(flow.deadline, TIMEOUT, task, -1, net)
    _offer(task, now, net)
