# SPDX-License-Identifier: Apache-2.0
"""TCP connections (tcp.reference) for the compiled engine: the same, on the records of state.py."""

from functools import cache, partial
from pathlib import Path

import numpy as np

from commbench.network.base import NEVER, PAST_THE_END, NetworkKernel
from commbench.network.heap import put_in_order
from commbench.network.jit import call, jit
from commbench.network.packet.events_kernel import free_packet, new_packet, pop
from commbench.network.packet.state import EVENTS, KIND_BITS, LATE, LEAP, NUM_BYTES, PACKETS, USED, WORK
from commbench.network.packet.tcp.congestion import SKB_OVERHEAD
from commbench.network.packet.tcp.senders_kernel import (
    acknowledged,
    begin,
    join,
    lasts,
    later,
    noted,
    overdue,
    place_of,
    pump,
    wake,
)
from commbench.network.packet.tcp.settings import Tcp
from commbench.network.packet.tcp.state import (
    ACK_DUE,
    ACK_PS,
    ARRIVAL,
    BURST,
    FULL,
    HEADER,
    OVERDUE,
    OWED,
    READY,
    WINDOWS,
    build_state,
    counted,
    grown,
)

__all__ = ["tcp_kernel"]

_COMPILED = ("*kernel.py", "state.py", "settings.py", "congestion.py")  # what the compiled code is made of
_SOURCES = tuple(
    str(file)
    for folder in (Path(__file__).parent, Path(__file__).parents[1])
    for pattern in _COMPILED
    for file in sorted(folder.glob(pattern))
)
_NUMBER = (1 << KIND_BITS) - 1


# Ports ---------------------------------------------------------------------------------------------------------------


@jit
def _in_turn(link, net):
    """The next packet: queues take turns by bytes."""
    port, first = net.ports[link], net.queue_first[link]
    count = net.queue_first[link + 1] - first
    place = np.int64(port.turn)
    if place >= count:
        place = 0
    while net.queues[first + place].count == 0:
        place += 1
        if place == count:
            place = 0
    queue = net.queues[first + place]
    packet = queue.head
    queue.head = net.packets[packet].next
    queue.count -= 1
    if queue.count == 0:
        port.active -= 1
    left = queue.deficit - net.packets[packet].size
    port.turn = place + 1 if left < 0 else place
    queue.deficit = left + net.given[FULL] if left < 0 else left
    return packet


@jit
def _arrives(packet, link, now, sent, net):
    """When the packet is at the link's end; in a host it goes on as soon as its last bit cannot come too late."""
    entry, port = net.packets[packet], net.ports[link]
    arrives = sent + port.latency
    if entry.hop + 1 < net.first[entry.stream + 1]:
        beyond = net.ports[net.route_links[entry.hop + 1]]
        if port.inside or beyond.inside:
            arrives = max(arrives - lasts(entry.size, beyond.bandwidth, net), now + port.latency)
    return arrives


@call
def _send(link, now, net, ended, count):
    """A port that has no debts lets a packet out."""
    port, given = net.ports[link], net.given
    port.awake = 0
    packet = _in_turn(link, net)
    entry = net.packets[packet]
    size = entry.size
    time = lasts(size, port.bandwidth, net)
    saved = np.int64(given[BURST] / port.bandwidth * 1e12)
    port.due = max(port.due, now - saved) + time
    port.held -= size
    noted(link, now, port.held + size, port.held, net)
    net.counts[PACKETS, link] += 1
    net.counts[NUM_BYTES, link] += size
    arrives = _arrives(packet, link, now, now if given[BURST] > 0 else now + time, net)
    wake(link, now, net)
    if entry.hop == net.first[entry.stream] and entry.number >= 0:
        net.streams[entry.stream].in_port -= size - given[HEADER] + SKB_OVERHEAD
        pump(entry.stream, now, net)
    if arrives == now:
        return _hop(packet, now, net, ended, count)
    entry.arrives, entry.next = arrives, -1
    if port.wire < 0:
        port.wire = packet
        later(arrives, ARRIVAL, link, net)
    else:
        net.packets[port.wire_end].next = packet
    port.wire_end = packet
    return count


@jit
def _arrival(link, now, net, ended, count):
    port = net.ports[link]
    packet = port.wire
    port.wire = net.packets[packet].next
    if port.wire >= 0:
        later(net.packets[port.wire].arrives, ARRIVAL, link, net)
    return _hop(packet, now, net, ended, count)


@call
def _hop(packet, now, net, ended, count):
    """A packet is at the end of a link."""
    entry = net.packets[packet]
    entry.hop += 1
    if entry.hop < net.first[entry.stream + 1]:
        join(packet, now, net)
        return count
    acknowledged(net.streams[entry.stream].back, packet, now, net)
    if entry.number >= 0:
        count = _received(packet, now, net, ended, count)
    free_packet(packet, net)
    return count


# Receivers -----------------------------------------------------------------------------------------------------------


@jit
def _received(packet, now, net, ended, count):
    entry, given = net.packets[packet], net.given
    number = entry.stream
    stream, beyond = net.streams[number], -1
    if entry.number == stream.got:
        stream.got, stream.got_bytes = stream.got + 1, entry.end
        while stream.early > 0 and net.segments[place_of(number, stream.got, net)].early:
            segment = net.segments[place_of(number, stream.got, net)]
            segment.early = 0
            stream.early -= 1
            stream.got_bytes = segment.end
            stream.got += 1
        while stream.coming >= 0 and net.messages[stream.coming].end <= stream.got_bytes:
            ended[count] = net.messages[stream.coming].slot
            count += 1
            stream.coming = net.messages[stream.coming].after
    elif entry.number > stream.got:
        segment = net.segments[place_of(number, entry.number, net)]
        stream.early += 1 - segment.early
        segment.early = 1
        beyond = np.int64(entry.number)
    stream.owed += entry.size - given[HEADER]
    if stream.early > 0 or beyond >= 0 or entry.number < stream.got - 1 or stream.owed > given[OWED]:
        _acknowledge(number, beyond, now, net)
    elif stream.ack_timed == 0:
        stream.ack_timed = 1
        later(now + given[ACK_PS], ACK_DUE, number, net)
    return count


@jit
def _ack_due(number, now, net):
    net.streams[number].ack_timed = 0
    if net.streams[number].owed > 0:
        _acknowledge(number, -1, now, net)


@call
def _acknowledge(number, beyond, now, net):
    """A packet without payload goes back."""
    stream = net.streams[number]
    stream.owed = 0
    packet = new_packet(net)
    entry = net.packets[packet]
    entry.stream, entry.number, entry.end, entry.size = stream.back, -1, 0, net.given[HEADER]
    entry.got, entry.beyond = stream.got, beyond
    entry.hop = net.first[stream.back]
    join(packet, now, net)


# What the engine says ------------------------------------------------------------------------------------------------


@jit
def _start(slot, route, now, slots, net):
    task = slots[slot].task
    message = net.messages[task]
    message.slot, message.num_bytes = slot, max(np.int64(slots[slot].left), 1)
    net.fresh[net.num_fresh[0]] = task
    net.num_fresh[0] += 1


@jit
def _finish(slot, slots, net):
    return


@jit
def _move(slot, route, now, slots, net):
    return


@jit
def _set_bandwidth(link, bandwidth, net):
    net.ports[link].bandwidth = bandwidth
    return False


@call
def _begins(now, net):
    count = net.num_fresh[0]
    put_in_order(net.fresh, count)
    for i in range(count):
        begin(net.fresh[i], now, net)
    net.num_fresh[0] = 0
    at_once = net.given[BURST] // max(net.given[HEADER], 1) + 2
    room = 2 * net.n[WINDOWS] + 2 * net.streams.size + 3 * net.ports.size * at_once  # as state.margin
    if net.packets.size - net.n[USED] < room:
        net.n[WORK] += LEAP  # a pause, in which there will be more room


@call
def _passes(now, net, ended, count):
    n, events = net.n, net.events
    while n[EVENTS] > 0 and events[0].time == now:
        kind, number = events[0].key >> KIND_BITS, events[0].key & _NUMBER
        pop(net)
        n[WORK] += 1
        if kind == ARRIVAL:
            count = _arrival(number, now, net, ended, count)
        elif kind == READY:
            count = _send(number, now, net, ended, count)
        elif kind == ACK_DUE:
            _ack_due(number, now, net)
        elif kind == OVERDUE:
            overdue(number, now, net)
        else:
            ended[count] = net.messages[number].slot
            count += 1
    return count


@jit
def _next_event(now, slots, net):
    _begins(now, net)
    if net.n[LATE]:
        return PAST_THE_END
    return net.events[0].time if net.n[EVENTS] > 0 else NEVER


@jit
def _advance(now, slots, net, ended, count):
    return _passes(now, net, ended, count)


@cache
def tcp_kernel(given: Tcp) -> NetworkKernel:
    """The network of connections that ``given`` describes, for the compiled engine."""
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
        grown=grown,
    )
