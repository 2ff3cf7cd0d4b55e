# SPDX-License-Identifier: Apache-2.0
"""The packet network (network.packet.reference) for the compiled engine: the same, on the records of state.py."""

from functools import cache, partial
from pathlib import Path

import numpy as np

from commbench.network.base import NEVER, PAST_THE_END, NetworkKernel
from commbench.network.jit import call, jit
from commbench.network.packet.balance_kernel import chooses, lot, next_place, shortest
from commbench.network.packet.control import CNP_PS
from commbench.network.packet.depths_kernel import note_depth
from commbench.network.packet.events_kernel import at, free_packet, pop
from commbench.network.packet.pulls_kernel import HEADERS, pace, trimmed_joins, want
from commbench.network.packet.senders_kernel import (
    answered,
    begin,
    eager,
    join_turn,
    lasts,
    leave_turn,
    next_packet,
    woken,
)
from commbench.network.packet.settings import DCQCN, NDP, Packets
from commbench.network.packet.state import (
    ANSWER,
    ANSWER_BITS,
    ANSWERS,
    ARRIVAL,
    BEGIN,
    CONTROL,
    DEEPEST,
    DROPS,
    EAGER,
    ECN_MAX,
    ECN_MIN,
    EVENTS,
    FULL,
    FULLEST,
    IN_TURN,
    JOINED,
    KIND_BITS,
    LATE,
    LEAP,
    LOSSLESS,
    MARKS,
    MTU,
    NUM_BYTES,
    PACE,
    PACKETS,
    PAUSED_PS,
    PAUSES,
    REORDERED,
    SENT,
    SIGNAL,
    USED,
    WORK,
    XOFF,
    XON,
    build_state,
    counted,
    grown,
    stuck,
)
from commbench.routing import ways
from commbench.routing.ways import ARRIVED

__all__ = ["packet_kernel"]

_SOURCES = (*(str(file) for file in sorted(Path(__file__).parent.glob("*.py"))), str(ways.__file__))
_NUMBER = (1 << KIND_BITS) - 1


# Links ---------------------------------------------------------------------------------------------------------------


@jit
def _arrives(packet, link, now, sent, net):
    """When the packet joins its next queue: in a host it goes on as soon as its last bit cannot come too late."""
    first = net.links[link]
    arrives = sent + first.latency
    state = net.way_after[net.packets[packet].place]
    if state != ARRIVED and not chooses(link, state, net):
        beyond = net.links[net.way_links[next_place(net.packets[packet].path, state, net)]]
        if first.inside or beyond.inside:
            arrives = max(arrives - lasts(net.packets[packet].size, beyond.bandwidth, net), now + first.latency)
    return arrives


@jit
def _send(link, now, net):
    """An idle link takes a packet, in turn of its queue and of the flows that begin on it."""
    entry, packets = net.links[link], net.packets
    if entry.sending > 0 or entry.paused or (entry.queue < 0 and entry.turn < 0 and entry.headers < 0):
        return
    if entry.headers >= 0 and (entry.in_row < HEADERS or (entry.queue < 0 and entry.turn < 0)):
        entry.in_row += 1
        packet = entry.headers
        entry.headers = packets[packet].next
    elif entry.turn >= 0 and not (entry.queue >= 0 and entry.own_last):
        entry.own_last, entry.in_row = 1, 0
        task = entry.turn
        entry.turn = net.flows[task].after
        packet = next_packet(task, now, net)
    else:
        entry.own_last, entry.in_row = 0, 0
        packet = entry.queue
        entry.queue = packets[packet].next
    size = packets[packet].size
    entry.sending, entry.sending_via = size, packets[packet].via
    sent = now + lasts(size, entry.bandwidth, net)
    packets[packet].arrives = _arrives(packet, link, now, sent, net)
    at(sent, SENT, link, packet, net)
    packets[packet].next = -1
    if entry.wire < 0:
        entry.wire = packet
        at(packets[packet].arrives, ARRIVAL, link, packet, net)
    else:
        packets[entry.wire_end].next = packet
    entry.wire_end = packet
    net.counts[PACKETS, link] += 1
    net.counts[NUM_BYTES, link] += size


@jit
def _sent(link, now, net):
    """The last bit has left: the packet's place in the buffer is free."""
    entry = net.links[link]
    via, size = entry.sending_via, entry.sending
    entry.sending = 0
    eager(link, net)
    if via < 0:
        return
    entry.held -= size
    note_depth(link, now, entry.held + size, entry.held, net)
    before = net.links[via]
    before.arrived -= size
    if before.told and before.arrived <= net.given[XON]:
        before.told = 0
        at(now + before.latency, SIGNAL, via, -1, net)


@jit
def _signal(link, now, net):
    """Pause and resume take turns."""
    entry = net.links[link]
    if entry.paused:
        entry.paused = 0
        net.counts[PAUSED_PS, link] += now - entry.since
        eager(link, net)
    else:
        entry.paused, entry.since = 1, now


@jit
def _marked_by_lot(held, link, joined, net):
    lowest, highest = net.given[ECN_MIN], net.given[ECN_MAX]
    if held <= lowest:
        return False
    if held > highest:
        return True
    share = net.ecn_share * (held - lowest) / (highest - lowest)
    return np.float64(lot(link, joined, net) >> np.uint64(11)) / 2.0**53 < share


@jit
def _join(packet, came, beyond, now, net):
    """A packet that came over link ``came`` joins the queue before link ``beyond``, if there is room."""
    first, entry, given, counts = net.links[came], net.links[beyond], net.given, net.counts
    size = net.packets[packet].size
    full = (first.arrived + size > first.limit) if first.pauses else (entry.held + size > entry.room)
    if given[CONTROL] == NDP and (net.packets[packet].trimmed or (full and not first.pauses)):
        trimmed_joins(packet, beyond, net)
        eager(beyond, net)
        return
    if full:
        counts[DROPS, beyond] += 1
        free_packet(packet, net)
        return
    counts[JOINED, beyond] += 1
    marks = given[CONTROL] == DCQCN and not (first.inside or entry.inside)
    if marks and _marked_by_lot(entry.held, beyond, counts[JOINED, beyond], net):
        net.packets[packet].marked = 1
        counts[MARKS, beyond] += 1
    net.packets[packet].via, net.packets[packet].next = came, -1
    if entry.queue < 0:
        entry.queue = packet
    else:
        net.packets[entry.queue_end].next = packet
    entry.queue_end = packet
    entry.held += size
    counts[DEEPEST, beyond] = max(counts[DEEPEST, beyond], entry.held)
    note_depth(beyond, now, entry.held - size, entry.held, net)
    first.arrived += size
    counts[FULLEST, came] = max(counts[FULLEST, came], first.arrived)
    if first.pauses and not first.told and first.arrived > given[XOFF]:
        first.told = 1
        counts[PAUSES, came] += 1
        at(now + first.latency, SIGNAL, came, -1, net)
    eager(beyond, net)


@jit
def _received(packet, link, now, net, ended, count):
    entry, given = net.packets[packet], net.given
    task = entry.flow
    flow = net.flows[task]
    if not flow.live or flow.got == flow.packets:
        free_packet(packet, net)  # a copy of what had come already
        return count
    if entry.trimmed:
        flow.headers += 1
        at(now + entry.back, ANSWER, (np.int64(task) << ANSWER_BITS) | np.int64(entry.number), packet, net)
        want(task, now, net)
        return count
    entry.again = 0
    if given[LOSSLESS] or entry.number == flow.got:
        flow.got += 1
        flow.complained = 0
        net.counts[REORDERED, link] += entry.number < flow.latest
        flow.latest = max(flow.latest, entry.number)
    elif entry.number > flow.got:
        entry.again, flow.complained = 1 - flow.complained, 1
    if flow.got == flow.packets:
        ended[count] = flow.slot
        free_packet(packet, net)
        return count + 1
    if given[CONTROL] == NDP:
        want(task, now, net)
    entry.notice = entry.marked and now - flow.noticed >= CNP_PS
    if entry.notice:
        flow.noticed = now
    if given[ANSWERS] or entry.notice:
        entry.got = flow.got
        number = (np.int64(task) << ANSWER_BITS) | np.int64(entry.number)
        at(now + entry.back, ANSWER, number, packet, net)
    else:
        free_packet(packet, net)
    return count


@jit
def _arrival(link, now, net, ended, count):
    entry, packets = net.links[link], net.packets
    packet = entry.wire
    entry.wire = packets[packet].next
    if entry.wire >= 0:
        at(packets[entry.wire].arrives, ARRIVAL, link, entry.wire, net)
    packets[packet].back += entry.latency
    state = net.way_after[packets[packet].place]
    if state == ARRIVED:
        return _received(packet, link, now, net, ended, count)
    place = next_place(packets[packet].path, state, net)
    if chooses(link, state, net):
        place = shortest(place, state, net)
    packets[packet].path //= net.way_first[state + 1] - net.way_first[state]
    packets[packet].place = place
    _join(packet, link, net.way_links[place], now, net)
    return count


# What the engine says ------------------------------------------------------------------------------------------------


@jit
def _start(slot, route, now, slots, net):
    flow, task = net.flows[slots[slot].task], slots[slot].task
    flow.slot, flow.route, flow.live = slot, route, 1
    flow.num_bytes = np.int64(slots[slot].left)
    flow.packets = max(1, -(-flow.num_bytes // net.given[MTU]))
    flow.noticed, flow.alpha, flow.latest = -CNP_PS, 1.0, -1
    flow.trimmed = -1
    at(now, BEGIN, task, -1, net)


@jit
def _finish(slot, slots, net):
    task = slots[slot].task
    flow = net.flows[task]
    flow.live = 0
    if flow.state == IN_TURN:  # it was about to repeat what had been lost on the way back
        leave_turn(task, net.route_links[net.first[flow.route]], net)


@jit
def _move(slot, route, now, slots, net):
    task = slots[slot].task
    flow = net.flows[task]
    if net.first[route] == net.first[route + 1]:
        return
    old, new = net.route_links[net.first[flow.route]], net.route_links[net.first[route]]
    if flow.state == IN_TURN and old != new:
        leave_turn(task, old, net)
        join_turn(task, new, net)
    flow.route = route


@jit
def _set_bandwidth(link, bandwidth, net):
    entry, given = net.links[link], net.given
    entry.bandwidth = bandwidth
    headroom = np.int64(2 * entry.latency * bandwidth / 1e12)
    entry.limit = max(entry.limit, given[XOFF] + headroom + 4 * given[FULL])
    return False


@call
def _sends(now, net):
    n, events = net.n, net.events
    while n[EVENTS] > 0 and events[0].time == now:
        task = events[0].key & _NUMBER
        pop(net)
        begin(task, now, net)
    for i in range(n[EAGER]):
        _send(net.eager[i], now, net)
        net.links[net.eager[i]].eager = 0
    n[EAGER] = 0
    num_links, num_tasks = net.links.size, net.flows.size
    if net.packets.size - n[USED] < 2 * num_links or events.size - n[EVENTS] < 12 * num_links + 4 * num_tasks:
        n[WORK] += LEAP  # a pause, in which there will be more room


@call
def _passes(now, net, ended, count):
    n, events = net.n, net.events
    while n[EVENTS] > 0 and events[0].time == now:
        kind, number, packet = events[0].key >> KIND_BITS, events[0].key & _NUMBER, events[0].packet
        if kind == BEGIN:
            break
        pop(net)
        n[WORK] += 1
        if kind == SENT:
            _sent(number, now, net)
        elif kind == SIGNAL:
            _signal(number, now, net)
        elif kind == ARRIVAL:
            count = _arrival(number, now, net, ended, count)
        elif kind == PACE:
            pace(number, now, net)
        elif kind == ANSWER:
            answered(packet, now, net)
        else:
            woken(number, kind, now, net)
    return count


@jit
def _next_event(now, slots, net):
    _sends(now, net)
    if net.n[LATE]:
        return PAST_THE_END
    return net.events[0].time if net.n[EVENTS] > 0 else NEVER


@jit
def _advance(now, slots, net, ended, count):
    return _passes(now, net, ended, count)


@cache
def packet_kernel(given: Packets) -> NetworkKernel:
    """The packet network that ``given`` describes, for the compiled engine."""
    return NetworkKernel(
        build=partial(build_state, given),
        start=_start,
        finish=_finish,
        move=_move,
        set_bandwidth=_set_bandwidth,
        next_event=_next_event,
        advance=_advance,
        sources=_SOURCES,
        counted=counted,
        stuck=partial(stuck, given),
        grown=grown,
    )
