# SPDX-License-Identifier: Apache-2.0
"""TCP connections for the reference engine: SEMANTICS.md beside this file in plain Python. Read that page first."""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from commbench.errors import InputError
from commbench.network.base import LAST_PS, NEVER, Counted, Wiring, too_long
from commbench.network.packet.counts import PacketCounts
from commbench.network.packet.depths import Depths
from commbench.network.packet.tcp.congestion import SKB_OVERHEAD, Window
from commbench.network.packet.tcp.parts import (
    LOST,
    NEW,
    SACKED,
    UNDER_WAY,
    Message,
    Segment,
    Stream,
    TcpPacket,
    TcpPort,
)
from commbench.network.packet.tcp.settings import Tcp
from commbench.units import PS_PER_S

__all__ = ["TcpNetwork"]

_ARRIVAL, _READY, _ACK_DUE, _OVERDUE, _WRITTEN = range(5)  # kinds of events, in the order of one instant
_REORDERING = 3  # segments sent later have come: the earlier one is lost (RFC 6675, DupThresh; RFC 8985)
_PS_PER_MS = 1_000_000_000


class TcpNetwork:
    """Flows over connections; see network.base.Network."""

    def __init__(self, wiring: Wiring, given: Tcp) -> None:
        """Connections that are open, and have nothing to send."""
        assert wiring.streams is not None, "a network of connections is told which there are"
        self.given = given
        num_links = len(wiring.bandwidths)
        latencies = wiring.latencies_ps.tolist() or [0] * num_links
        insides = wiring.inside.tolist() or [False] * num_links
        self.ports = [
            TcpPort(bandwidth, latency, inside, due_ps=-int(given.burst_bytes / bandwidth * PS_PER_S))
            for bandwidth, latency, inside in zip(wiring.bandwidths.tolist(), latencies, insides, strict=True)
        ]
        routes = [wiring.links[a:b].tolist() for a, b in zip(wiring.first[:-1], wiring.first[1:], strict=True)]
        self.streams = [
            Stream(number, back, tuple(links), Window(given.number, float(given.first_window)), given.window_bytes)
            for number, (back, links) in enumerate(zip(wiring.streams.back.tolist(), routes, strict=True))
        ]
        self.stream_of: list[int] = wiring.streams.route_of.tolist()
        self.written: list[int] = wiring.streams.written.tolist()
        self.watching: list[int] = wiring.streams.watching.tolist()
        self.messages: dict[int, Message] = {}
        self.waiting: set[int] = set()  # flows that wait for another one's bytes to be written
        self.new: list[int] = []
        self.ended: list[int] = []
        self.events: list[tuple[int, int, int]] = []
        self.counts = PacketCounts.empty(num_links)
        self.depths = Depths(num_links)

    # What the engine says ----------------------------------------------------------------------------------------

    def start(
        self, flow: int, links: Sequence[int], num_bytes: int, now_ps: int, weights: Sequence[float] | None = None
    ) -> None:
        """A message enters; its bytes join those of its connection when the next event is asked for."""
        self.messages[flow] = Message(flow, max(num_bytes, 1))
        self.new.append(flow)

    def finish(self, flow: int) -> None:
        """A message that ``advance`` named leaves; what others need of it is in its stream."""

    def move(self, flow: int, links: Sequence[int], weights: Sequence[float] | None = None) -> None:
        """Connections keep their routes.

        Raises:
            InputError: always.
        """
        raise InputError("--network packet:tcp: routes that change are not supported; give --network packet or fluid")

    def set_bandwidth(self, link: int, bandwidth: float) -> bool:
        """Packets that a port begins to send from now on go at another speed; no event that is due changes."""
        self.ports[link].bandwidth = bandwidth
        return False

    def next_event(self, now_ps: int) -> int:
        """New messages join their streams; when something happens next."""
        for task in sorted(self.new):
            self._begin(task, now_ps)
        self.new.clear()
        return self.events[0][0] if self.events else NEVER

    def advance(self, now_ps: int) -> list[int]:
        """All events of this instant, in order: the messages whose last byte has come."""
        self.ended = []
        while self.events and self.events[0][0] == now_ps:
            _, kind, number = heappop(self.events)
            if kind == _ARRIVAL:
                self._arrival(number, now_ps)
            elif kind == _READY:
                self._send(number, now_ps)
            elif kind == _ACK_DUE:
                self._ack_due(self.streams[number], now_ps)
            elif kind == _OVERDUE:
                self._overdue(self.streams[number], now_ps)
            else:
                self.ended.append(number)
        return sorted(self.ended)

    def counted(self) -> Counted:
        """What happened on every link until now."""
        return self.counts.as_counted(self.depths.deepest, self.depths.shift)

    def stuck(self) -> str:
        """Nothing stops connections for ever."""
        return ""

    def _at(self, time_ps: int, kind: int, number: int) -> None:
        if time_ps > LAST_PS:
            raise too_long()
        heappush(self.events, (time_ps, kind, number))

    # Senders -----------------------------------------------------------------------------------------------------

    def _begin(self, task: int, now_ps: int) -> None:
        told = self.written[task]
        if told >= 0:
            self.waiting.add(task)
            if told in self.messages and 0 <= self.messages[told].end <= self._stream(told).room:
                self._is_written(told, now_ps)
            return
        stream, message = self._stream(task), self.messages[task]
        if self.given.restart and not stream.segments:
            stream.window.rest(now_ps - stream.sent_ps, self._timeout_ps(stream), self.given.first_window)
        if stream.total <= stream.room:  # all that came before is in the buffer: the library writes at once
            stream.room = max(stream.room, stream.acked_bytes + stream.window_bytes)
        stream.total += message.num_bytes
        message.end = stream.total
        stream.unwritten.append(message)
        stream.coming.append(message)
        self._write(stream, now_ps)
        self._pump(stream, now_ps)

    def _stream(self, task: int) -> Stream:
        return self.streams[self.stream_of[task]]

    def _write(self, stream: Stream, now_ps: int) -> None:
        """Messages of which all bytes are in the buffer by now."""
        while stream.unwritten and stream.unwritten[0].end <= stream.room:
            self._is_written(stream.unwritten.popleft().task, now_ps)

    def _is_written(self, task: int, now_ps: int) -> None:
        watch = self.watching[task]
        if watch in self.waiting:
            self.waiting.remove(watch)
            self._at(now_ps, _WRITTEN, watch)

    def _pump(self, stream: Stream, now_ps: int) -> None:
        """Send what may be sent: first what was lost, then what is new."""
        sent = False
        while stream.pipe < int(stream.window.size):
            if stream.lost:
                segment = next(each for each in stream.segments if each.state == LOST)
            elif stream.next_bytes < min(stream.total, stream.room):
                size = min(self.given.mss_bytes, stream.total - stream.next_bytes)
                segment = Segment(stream.next, size, stream.next_bytes + size, NEW)
            else:
                break
            if self._port_is_full(stream, segment):
                break
            if segment.state == LOST:
                stream.lost -= 1
                self.counts.repeated[stream.links[0]] += 1
            else:
                stream.next, stream.next_bytes = stream.next + 1, segment.end
                stream.segments.append(segment)
            self._transmit(stream, segment, now_ps)
            sent = True
        full = stream.pipe >= int(stream.window.size)
        if sent or full:
            stream.window.note(stream.next - len(stream.segments), stream.next, full)

    def _port_is_full(self, stream: Stream, segment: Segment) -> bool:
        """Whether enough of a stream waits in its host's queue; one segment under way never is (TCP small queues)."""
        least = self.given.port_segments * (segment.size + SKB_OVERHEAD)
        return len(stream.segments) > 1 and stream.in_port >= max(least, stream.port_bytes)

    def _transmit(self, stream: Stream, segment: Segment, now_ps: int) -> None:
        segment.state, stream.stamps = UNDER_WAY, stream.stamps + 1
        segment.stamp, segment.sent_ps, stream.sent_ps = stream.stamps, now_ps, now_ps
        stream.pipe += 1
        if stream.deadline_ps < 0:
            self._set_deadline(stream, now_ps)
        other = self.streams[stream.back]
        other.owed_bytes = 0  # the packet acknowledges all that has come
        packet = TcpPacket(stream, segment.number, segment.end, segment.size + self.given.header_bytes, other.got)
        if self._join(packet, now_ps):
            stream.in_port += segment.size + SKB_OVERHEAD

    def _timeout_ps(self, stream: Stream) -> int:
        return self.given.rto_ms * _PS_PER_MS + stream.window.smoothed_ps

    def _set_deadline(self, stream: Stream, now_ps: int) -> None:
        stream.deadline_ps = now_ps + (self._timeout_ps(stream) << stream.backoff)
        if not stream.timed:
            stream.timed = True
            self._at(stream.deadline_ps, _OVERDUE, stream.number)

    def _overdue(self, stream: Stream, now_ps: int) -> None:
        """Nothing was acknowledged for too long: all that is under way is lost."""
        stream.timed = False
        if stream.deadline_ps < 0:
            return
        if stream.deadline_ps > now_ps:  # something was acknowledged since
            stream.timed = True
            self._at(stream.deadline_ps, _OVERDUE, stream.number)
            return
        for segment in stream.segments:
            if segment.state == UNDER_WAY:
                stream.lose(segment)
        stream.window.cut(timeout=True)
        stream.recover, stream.recovering = stream.next, False
        stream.backoff = min(stream.backoff + 1, 16)
        self._set_deadline(stream, now_ps)
        self._pump(stream, now_ps)

    def _acknowledged(self, stream: Stream, packet: TcpPacket, now_ps: int) -> None:
        """A packet says how much of a stream has come, and perhaps which segment beyond it."""
        newest, segments = stream.newest, 0
        if stream.segments and stream.segments[0].number < packet.got:
            stream.window.measured(now_ps - stream.segments[0].sent_ps)
        while stream.segments and stream.segments[0].number < packet.got:
            segment = stream.segments.popleft()
            newest, segments = max(newest, segment.stamp), segments + 1
            stream.acked_bytes = segment.end
            stream.leaves(segment)
        if packet.beyond >= 0 and stream.segments and packet.beyond >= stream.segments[0].number:
            segment = stream.segments[packet.beyond - stream.segments[0].number]
            if segment.state != SACKED:
                newest = max(newest, segment.stamp)
                stream.leaves(segment)
                segment.state = SACKED
                stream.sacked += 1
        stream.newest = newest
        if segments:
            self._moved_on(stream, segments, now_ps)
        if stream.sacked or stream.recovering:
            self._find_lost(stream)
        stream.port_bytes = stream.window.in_port_bytes(self.given.mss_bytes, len(stream.segments))
        self._pump(stream, now_ps)

    def _moved_on(self, stream: Stream, segments: int, now_ps: int) -> None:
        """So many segments more have come in order."""
        stream.backoff, stream.deadline_ps = 0, -1
        if stream.segments:
            self._set_deadline(stream, now_ps)
        if stream.recovering and stream.recovered:
            stream.recovering = False
        if not stream.recovering and stream.window.used:
            stream.window.grow(segments, now_ps)
        # Linux wakes the writer when a third of the buffer is free: include/net/sock.h, sk_stream_min_wspace
        if stream.total > stream.room and 3 * (stream.room - stream.acked_bytes) <= 2 * stream.window_bytes:
            stream.room = stream.acked_bytes + stream.window_bytes
            self._write(stream, now_ps)

    def _find_lost(self, stream: Stream) -> None:
        found = False
        for segment in stream.segments:
            if segment.state == UNDER_WAY and segment.stamp + _REORDERING <= stream.newest:
                stream.lose(segment)
                found = True
        if found and not stream.recovering and stream.recovered:
            stream.window.cut(timeout=False)
            stream.recover, stream.recovering = stream.next, True

    # Ports -------------------------------------------------------------------------------------------------------

    def _join(self, packet: TcpPacket, now_ps: int) -> bool:
        """A packet joins the queue before its next link; False where that has no room."""
        number = packet.stream.links[packet.hop]
        port, key = self.ports[number], packet.stream.number if self.given.fair else 0
        queue = port.queues.setdefault(key, deque())
        if len(queue) >= self.given.queue_packets:
            self.counts.drops[number] += 1
            return False
        if not queue:
            insort(port.active, key)
        queue.append(packet)
        self.counts.joined[number] += 1
        port.held += packet.size
        self.counts.deepest[number] = max(self.counts.deepest[number], port.held)
        self.depths.note(number, now_ps, port.held - packet.size, port.held)
        self._wake(number, port, now_ps)
        return True

    def _wake(self, number: int, port: TcpPort, now_ps: int) -> None:
        if port.active and not port.awake:
            port.awake = True
            self._at(max(now_ps, port.due_ps), _READY, number)

    def _send(self, number: int, now_ps: int) -> None:
        """A port that has no debts lets a packet out."""
        port = self.ports[number]
        port.awake = False
        packet = port.in_turn(self.given.full_bytes)
        lasts_ps = self._lasts(packet.size, port.bandwidth)
        saved_ps = int(self.given.burst_bytes / port.bandwidth * PS_PER_S)
        port.due_ps = max(port.due_ps, now_ps - saved_ps) + lasts_ps
        port.held -= packet.size
        self.depths.note(number, now_ps, port.held + packet.size, port.held)
        self.counts.packets[number] += 1
        self.counts.num_bytes[number] += packet.size
        arrives_ps = self._arrives(packet, port, now_ps, now_ps if self.given.burst_bytes else now_ps + lasts_ps)
        self._wake(number, port, now_ps)
        if packet.hop == 0 and packet.number >= 0:
            packet.stream.in_port -= packet.size - self.given.header_bytes + SKB_OVERHEAD
            self._pump(packet.stream, now_ps)
        if arrives_ps == now_ps:
            self._hop(packet, now_ps)
            return
        packet.arrives_ps = arrives_ps
        port.wire.append(packet)
        if len(port.wire) == 1:
            self._at(arrives_ps, _ARRIVAL, number)

    def _arrives(self, packet: TcpPacket, port: TcpPort, now_ps: int, sent_ps: int) -> int:
        """When the packet is at the link's end; in a host it goes on as soon as its last bit cannot come too late."""
        arrives_ps = sent_ps + port.latency_ps
        links = packet.stream.links
        if packet.hop + 1 < len(links):
            beyond = self.ports[links[packet.hop + 1]]
            if port.inside or beyond.inside:
                arrives_ps = max(arrives_ps - self._lasts(packet.size, beyond.bandwidth), now_ps + port.latency_ps)
        return arrives_ps

    def _lasts(self, size: int, bandwidth: float) -> int:
        return max(int(size / bandwidth * PS_PER_S + 0.5), 1)

    def _arrival(self, number: int, now_ps: int) -> None:
        port = self.ports[number]
        packet = port.wire.popleft()
        if port.wire:
            self._at(port.wire[0].arrives_ps, _ARRIVAL, number)
        self._hop(packet, now_ps)

    def _hop(self, packet: TcpPacket, now_ps: int) -> None:
        """A packet is at the end of a link."""
        packet.hop += 1
        if packet.hop < len(packet.stream.links):
            self._join(packet, now_ps)
            return
        self._acknowledged(self.streams[packet.stream.back], packet, now_ps)
        if packet.number >= 0:
            self._received(packet, now_ps)

    # Receivers ---------------------------------------------------------------------------------------------------

    def _received(self, packet: TcpPacket, now_ps: int) -> None:
        stream = packet.stream
        beyond = -1
        if packet.number == stream.got:
            stream.got, stream.got_bytes = stream.got + 1, packet.end
            while stream.early and stream.got in stream.early:
                stream.got_bytes = stream.early.pop(stream.got)
                stream.got += 1
            while stream.coming and stream.coming[0].end <= stream.got_bytes:
                self.ended.append(stream.coming.popleft().task)
        elif packet.number > stream.got:
            stream.early[packet.number], beyond = packet.end, packet.number
        stream.owed_bytes += packet.size - self.given.header_bytes
        most = (self.given.ack_segments - 1) * self.given.mss_bytes
        if stream.early or beyond >= 0 or packet.number < stream.got - 1 or stream.owed_bytes > most:
            self._acknowledge(stream, beyond, now_ps)
        elif not stream.ack_timed:
            stream.ack_timed, stream.ack_due_ps = True, now_ps + self.given.ack_ms * _PS_PER_MS
            self._at(stream.ack_due_ps, _ACK_DUE, stream.number)

    def _ack_due(self, stream: Stream, now_ps: int) -> None:
        stream.ack_timed = False
        if stream.owed_bytes:
            self._acknowledge(stream, -1, now_ps)

    def _acknowledge(self, stream: Stream, beyond: int, now_ps: int) -> None:
        """A packet without payload goes back."""
        stream.owed_bytes = 0
        back = self.streams[stream.back]
        self._join(TcpPacket(back, -1, 0, self.given.header_bytes, stream.got, beyond), now_ps)
