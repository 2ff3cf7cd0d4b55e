# SPDX-License-Identifier: Apache-2.0
"""What senders over TCP do (tcp.reference), for the compiled engine; and the ports that they share."""

import numpy as np

from commbench.network.jit import call, jit
from commbench.network.packet.depths_kernel import note_depth
from commbench.network.packet.events_kernel import at, free_packet, new_packet
from commbench.network.packet.state import DEEPEST, DROPS, JOINED, LATE, REPEATED
from commbench.network.packet.tcp.congestion import SKB_OVERHEAD
from commbench.network.packet.tcp.congestion_kernel import cut, grow, in_port_bytes, measured, note, rest, used
from commbench.network.packet.tcp.state import (
    BUFFER,
    HEADER,
    LOST,
    MSS,
    OVERDUE,
    PORT_SEGMENTS,
    READY,
    RESTART,
    ROOM,
    RTO_PS,
    SACKED,
    UNDER_WAY,
    WRITTEN,
)

__all__ = ["acknowledged", "begin", "join", "lasts", "later", "noted", "overdue", "place_of", "pump", "wake"]

_TOO_LONG = 2.0**62  # ps
_REORDERING = 3


@call
def later(time, kind, number, net):
    """Let something happen at ``time``: the heap's code stands here once, for it takes long to compile."""
    at(time, kind, number, -1, net)


@call
def noted(link, now, before, after, net):
    """The bytes that wait before a link change."""
    note_depth(link, now, before, after, net)


@jit
def place_of(stream, number, net):
    """Where a segment is kept."""
    first = net.ring[stream]
    return first + number % (net.ring[stream + 1] - first)


@jit
def lasts(size, bandwidth, net):
    """Picoseconds in which a packet leaves."""
    time = size / bandwidth * 1e12 + 0.5
    if time >= _TOO_LONG:
        net.n[LATE] = 1
        return 1
    return max(np.int64(time), 1)


@jit
def wake(link, now, net):
    """A port with packets is told when it may send one."""
    port = net.ports[link]
    if port.active > 0 and port.awake == 0:
        port.awake = 1
        later(max(now, port.due), READY, link, net)


@call
def join(packet, now, net):
    """A packet joins the queue before its next link; False where that has no room."""
    entry = net.packets[packet]
    link = net.route_links[entry.hop]
    port, queue, counts = net.ports[link], net.queues[net.queue_of[entry.hop]], net.counts
    if queue.count >= net.given[ROOM]:
        counts[DROPS, link] += 1
        free_packet(packet, net)
        return False
    entry.next = -1
    if queue.count == 0:
        queue.head = packet
        port.active += 1
    else:
        net.packets[queue.tail].next = packet
    queue.tail = packet
    queue.count += 1
    counts[JOINED, link] += 1
    port.held += entry.size
    counts[DEEPEST, link] = max(counts[DEEPEST, link], port.held)
    noted(link, now, port.held - entry.size, port.held, net)
    wake(link, now, net)
    return True


@jit
def _written(task, now, net):
    watch = net.messages[task].watch
    if watch >= 0 and net.messages[watch].waiting:
        net.messages[watch].waiting = 0
        later(now, WRITTEN, watch, net)


@jit
def _write(stream, now, net):
    entry, messages = net.streams[stream], net.messages
    while entry.unwritten >= 0 and messages[entry.unwritten].end <= entry.room:
        task = entry.unwritten
        entry.unwritten = messages[task].after
        _written(task, now, net)


@jit
def begin(task, now, net):
    """A message joins its stream."""
    message = net.messages[task]
    told = message.told
    if told >= 0:
        message.waiting = 1
        if 0 <= net.messages[told].end <= net.streams[net.messages[told].stream].room:
            _written(told, now, net)
        return
    number = message.stream
    stream = net.streams[number]
    if net.given[RESTART] and stream.first == stream.next:
        rest(stream, now - stream.sent, net.given[RTO_PS] + stream.smoothed, net)
    if stream.total <= stream.room:
        stream.room = max(stream.room, stream.acked_bytes + net.given[BUFFER])
    stream.total += message.num_bytes
    message.end, message.after = stream.total, -1
    if stream.last >= 0:
        net.messages[stream.last].after = task
    stream.last = task
    if stream.unwritten < 0:
        stream.unwritten = task
    if stream.coming < 0:
        stream.coming = task
    _write(number, now, net)
    pump(number, now, net)


@jit
def _set_deadline(number, now, net):
    stream = net.streams[number]
    stream.deadline = now + ((net.given[RTO_PS] + stream.smoothed) << stream.backoff)
    if stream.timed == 0:
        stream.timed = 1
        later(stream.deadline, OVERDUE, number, net)


@jit
def _transmit(number, place, now, net):
    stream, segment = net.streams[number], net.segments[place]
    stream.stamps += 1
    segment.state, segment.stamp, segment.sent, stream.sent = UNDER_WAY, stream.stamps, now, now
    stream.pipe += 1
    if stream.deadline < 0:
        _set_deadline(number, now, net)
    other = net.streams[stream.back]
    other.owed = 0
    packet = new_packet(net)
    entry = net.packets[packet]
    entry.stream, entry.number, entry.end = number, segment.number, segment.end
    entry.size, entry.got = segment.size + net.given[HEADER], other.got
    entry.beyond, entry.hop = -1, net.first[number]
    if join(packet, now, net):
        stream.in_port += segment.size + SKB_OVERHEAD


@jit
def _port_is_full(stream, size, net):
    least = net.given[PORT_SEGMENTS] * (size + SKB_OVERHEAD)
    return stream.next - stream.first > 1 and stream.in_port >= max(float(least), stream.port_bytes)


@call
def pump(number, now, net):
    """Send what may be sent: first what was lost, then what is new."""
    stream, given, sent = net.streams[number], net.given, False
    while stream.pipe < np.int64(stream.size):
        if stream.lost > 0:
            place = place_of(number, stream.first, net)
            lost = stream.first
            while net.segments[place].state != LOST:
                lost += 1
                place = place_of(number, lost, net)
            if _port_is_full(stream, net.segments[place].size, net):
                break
            stream.lost -= 1
            net.counts[REPEATED, net.route_links[net.first[number]]] += 1
        elif stream.next_bytes < min(stream.total, stream.room):
            size = min(given[MSS], stream.total - stream.next_bytes)
            if _port_is_full(stream, size, net):
                break
            place = place_of(number, stream.next, net)
            segment = net.segments[place]
            segment.number, segment.early, segment.size = stream.next, 0, size
            stream.next_bytes += segment.size
            segment.end = stream.next_bytes
            stream.next += 1
        else:
            break
        _transmit(number, place, now, net)
        sent = True
    full = stream.pipe >= np.int64(stream.size)
    if sent or full:
        note(stream, full)


@jit
def _lose(stream, segment):
    segment.state = LOST
    stream.lost += 1
    stream.pipe -= 1


@jit
def overdue(number, now, net):
    """Nothing was acknowledged for too long: all that is under way is lost."""
    stream = net.streams[number]
    stream.timed = 0
    if stream.deadline < 0:
        return
    if stream.deadline > now:
        stream.timed = 1
        later(stream.deadline, OVERDUE, number, net)
        return
    for each in range(stream.first, stream.next):
        segment = net.segments[place_of(number, each, net)]
        if segment.state == UNDER_WAY:
            _lose(stream, segment)
    cut(stream, True, net)
    stream.recover, stream.recovering = stream.next, 0
    stream.backoff = min(stream.backoff + 1, 16)
    _set_deadline(number, now, net)
    pump(number, now, net)


@jit
def _leaves(stream, segment):
    if segment.state == UNDER_WAY:
        stream.pipe -= 1
    elif segment.state == LOST:
        stream.lost -= 1
    else:
        stream.sacked -= 1


@call
def acknowledged(number, packet, now, net):
    """A packet says how much of a stream has come, and perhaps which segment beyond it."""
    stream, entry = net.streams[number], net.packets[packet]
    newest, segments = stream.newest, 0
    if stream.first < stream.next and stream.first < entry.got:
        measured(stream, now - net.segments[place_of(number, stream.first, net)].sent)
    while stream.first < stream.next and stream.first < entry.got:
        segment = net.segments[place_of(number, stream.first, net)]
        newest = max(newest, segment.stamp)
        segments += 1
        stream.acked_bytes = segment.end
        _leaves(stream, segment)
        stream.first += 1
    if entry.beyond >= stream.first and stream.first < stream.next:
        segment = net.segments[place_of(number, entry.beyond, net)]
        if segment.state != SACKED:
            newest = max(newest, segment.stamp)
            _leaves(stream, segment)
            segment.state = SACKED
            stream.sacked += 1
    stream.newest = newest
    if segments > 0:
        _moved_on(number, segments, now, net)
    if stream.sacked > 0 or stream.recovering:
        _find_lost(number, net)
    stream.port_bytes = in_port_bytes(stream, net)
    pump(number, now, net)


@jit
def _moved_on(number, segments, now, net):
    stream = net.streams[number]
    stream.backoff, stream.deadline = 0, -1
    if stream.first < stream.next:
        _set_deadline(number, now, net)
    if stream.recovering and stream.first >= stream.recover:
        stream.recovering = 0
    if not stream.recovering and used(stream):
        grow(stream, segments, now, net)
    if stream.total > stream.room and 3 * (stream.room - stream.acked_bytes) <= 2 * net.given[BUFFER]:
        stream.room = stream.acked_bytes + net.given[BUFFER]
        _write(number, now, net)


@jit
def _find_lost(number, net):
    stream, found = net.streams[number], False
    for each in range(stream.first, stream.next):
        segment = net.segments[place_of(number, each, net)]
        if segment.state == UNDER_WAY and segment.stamp + _REORDERING <= stream.newest:
            _lose(stream, segment)
            found = True
    if found and not stream.recovering and stream.first >= stream.recover:
        cut(stream, False, net)
        stream.recover, stream.recovering = stream.next, 1
