# SPDX-License-Identifier: Apache-2.0
"""The packet network for the reference engine: SEMANTICS.md beside this file in plain Python. Read that page first."""

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise

from commbench.network.base import LAST_PS, NEVER, Counted, Wiring, too_long
from commbench.network.packet.control import CNP_PS, HEADERS, Dcqcn
from commbench.network.packet.counts import PacketCounts
from commbench.network.packet.depths import Depths
from commbench.network.packet.lottery import marked_by_lot
from commbench.network.packet.paths import path_number
from commbench.network.packet.pulls import Pulls
from commbench.network.packet.settings import ADAPTIVE, DCQCN, NDP, SWIFT, Packets
from commbench.network.packet.under_way import (
    ANSWER,
    ARRIVAL,
    ASLEEP,
    IDLE,
    IN_TURN,
    PACE,
    PULL,
    SENT,
    SIGNAL,
    TIMEOUT,
    WAKE,
    Packet,
    PacketAnswer,
    PacketFlow,
    PacketLink,
    lasts_ps,
)
from commbench.network.packet.windows import first_window, new_swift
from commbench.routing.ways import ARRIVED, WayGraph

__all__ = ["PacketNetwork"]


class PacketNetwork:
    """Flows over links; see network.base.Network."""

    def __init__(self, wiring: Wiring, given: Packets) -> None:
        """Links without anything on them."""
        num_links = len(wiring.bandwidths)
        latencies = wiring.latencies_ps.tolist() or [0] * num_links
        self.given, self.ndp = given, given.number == NDP
        insides = wiring.inside.tolist() or [False] * num_links
        self.links = [
            PacketLink(bandwidth, latency, given.limit(bandwidth, latency), inside, inside or given.pfc)
            for bandwidth, latency, inside in zip(wiring.bandwidths.tolist(), latencies, insides, strict=True)
        ]
        ways = wiring.ways or WayGraph.single(wiring.first, wiring.links)
        self.way_first: list[int] = ways.first.tolist()
        self.way_links: list[int] = ways.links.tolist()
        self.way_after: list[int] = ways.after.tolist()
        self.paths: list[int] = ways.fan_outs().tolist()  # of every state
        routes = [tuple(wiring.links[a:b].tolist()) for a, b in pairwise(wiring.first.tolist())]
        self.begins = dict(zip(routes, ways.start.tolist(), strict=True))  # state by links
        self.rooms = wiring.buffers_bytes.tolist() or [given.room_bytes] * num_links
        self.flows: dict[int, PacketFlow] = {}
        self.new: list[int] = []
        self.eager: set[int] = set()  # links that may have something to send at this instant
        self.events: list[tuple[int, int, int, int, Packet | PacketAnswer | None]] = []
        self.num_events = 0
        self.counts = PacketCounts.empty(num_links)
        self.depths = Depths(num_links)
        self.pulls = Pulls(self.links, given, self._at)

    # What the engine says ----------------------------------------------------------------------------------------

    def start(
        self, flow: int, links: Sequence[int], num_bytes: int, now_ps: int, weights: Sequence[float] | None = None
    ) -> None:
        """A message enters; it begins when the next event is asked for."""
        route, packets = tuple(links), max(1, -(-num_bytes // self.given.mtu_bytes))
        self.flows[flow] = PacketFlow(flow, route, self.begins[route], num_bytes, packets)
        self.new.append(flow)

    def finish(self, flow: int) -> None:
        """A message that ``advance`` named leaves."""
        entry = self.flows.pop(flow)
        if entry.state == IN_TURN:  # it was about to repeat what had been lost on the way back
            self.links[entry.links[0]].turn.remove(entry)

    def move(self, flow: int, links: Sequence[int], weights: Sequence[float] | None = None) -> None:
        """Packets that are sent from now on take other links."""
        entry = self.flows[flow]
        if not links:
            return
        if entry.state == IN_TURN and entry.links[0] != links[0]:
            self.links[entry.links[0]].turn.remove(entry)
            self.links[links[0]].turn.append(entry)
            self.eager.add(links[0])
        entry.links = tuple(links)
        entry.begins = self.begins[entry.links]

    def set_bandwidth(self, link: int, bandwidth: float) -> bool:
        """Packets that a link begins to send from now on go at another speed; no event that is due changes."""
        entry = self.links[link]
        entry.bandwidth = bandwidth
        entry.limit = max(entry.limit, self.given.limit(bandwidth, entry.latency_ps))
        return False

    def next_event(self, now_ps: int) -> int:
        """New messages begin, then idle links take what may go; when something happens next."""
        for task in sorted(self.new):
            self._begin(self.flows[task], now_ps)
        self.new.clear()
        for number in sorted(self.eager):
            self._send(number, now_ps)
        self.eager.clear()
        return self.events[0][0] if self.events else NEVER

    def advance(self, now_ps: int) -> list[int]:
        """All events of this instant, in order: the messages whose last packet has arrived."""
        ended: list[int] = []
        while self.events and self.events[0][0] == now_ps:
            _, kind, number, _, what = heappop(self.events)
            if kind == SENT:
                self._sent(number, now_ps)
            elif kind == SIGNAL:
                self._signal(number, now_ps)
            elif kind == ARRIVAL:
                self._arrival(number, now_ps, ended)
            elif kind == PACE:
                self.pulls.pace(number, now_ps)
            elif isinstance(what, PacketAnswer):
                self._answered(what, now_ps)
            elif number in self.flows:
                self._woken(self.flows[number], kind, now_ps)
        return sorted(ended)

    def counted(self) -> Counted:
        """What happened on every link until now."""
        return self.counts.as_counted(self.depths.deepest, self.depths.shift)

    def stuck(self) -> str:
        """Why messages are left when nothing happens any more; "" where none is."""
        paused = [number for number, link in enumerate(self.links) if link.paused]
        return self.given.deadlock(len(self.flows), paused) if self.flows else ""

    def _at(self, time_ps: int, kind: int, number: int, what: Packet | PacketAnswer | None = None) -> None:
        if time_ps > LAST_PS:
            raise too_long()
        self.num_events += 1
        heappush(self.events, (time_ps, kind, number, self.num_events, what))

    # Senders -----------------------------------------------------------------------------------------------------

    def _begin(self, flow: PacketFlow, now_ps: int) -> None:
        links = [self.links[link] for link in flow.links]
        line = links[0].bandwidth
        if self.given.number == DCQCN:
            flow.dcqcn = Dcqcn(line, line, line)
        if self.given.number == SWIFT:
            flow.swift = new_swift(links, self.given)
        if self.ndp:
            flow.credit = flow.asked = min(first_window(links, self.given), flow.packets)
        if not self.given.lossless:
            flow.deadline_ps = now_ps + self.given.rto_us * 1_000_000
            self._at(flow.deadline_ps, TIMEOUT, flow.task)
        self._offer(flow, now_ps)

    def _offer(self, flow: PacketFlow, now_ps: int) -> None:
        """Have a flow that may send wait for its link, or for its pace."""
        if flow.state != IDLE or (flow.next >= flow.packets and not flow.trimmed):
            return
        if self.ndp and not flow.credit:
            return
        under_way = flow.next - flow.acked
        if under_way >= self.given.window_packets or (flow.swift is not None and not flow.swift.allows(under_way)):
            return
        if flow.ready_ps <= now_ps:
            flow.state = IN_TURN
            self.links[flow.links[0]].turn.append(flow)
            self.eager.add(flow.links[0])
        else:
            flow.state = ASLEEP
            self._at(flow.ready_ps, WAKE, flow.task)

    def _next_packet(self, flow: PacketFlow, now_ps: int) -> Packet:
        path = path_number(flow, self.paths[flow.begins], self.given, now_ps)
        if flow.trimmed:
            number = flow.trimmed.popleft()
            flow.again += 1
            self.counts.repeated[flow.links[0]] += 1
        else:
            number = flow.next
            flow.next += 1
        flow.credit -= self.ndp
        payload = min(self.given.mtu_bytes, flow.num_bytes - number * self.given.mtu_bytes)
        size = max(payload + self.given.header_bytes, 1)
        packet = Packet(flow, number, size, self.way_first[flow.begins], path, now_ps)
        gap_ps = 0
        if flow.dcqcn is not None:
            gap_ps = flow.dcqcn.sent(packet.size, now_ps)
        if flow.swift is not None:
            gap_ps = flow.swift.sent()
        flow.ready_ps = now_ps + gap_ps
        flow.state = IDLE
        self._offer(flow, now_ps)
        return packet

    def _answered(self, answer: PacketAnswer, now_ps: int) -> None:
        flow = answer.flow
        if flow.task not in self.flows:
            return
        if answer.trimmed >= 0:
            flow.trimmed.append(answer.trimmed)
        if answer.notice and flow.dcqcn is not None:
            flow.dcqcn.notice(now_ps)
        if flow.swift is not None:
            flow.swift.answered(now_ps - answer.sent_ps, now_ps)
        if answer.got > flow.acked:
            flow.acked = answer.got
            flow.deadline_ps = now_ps + self.given.rto_us * 1_000_000
        if answer.again and answer.got >= flow.acked:
            self._go_back(flow)
        self._offer(flow, now_ps)

    def _go_back(self, flow: PacketFlow) -> None:
        self.counts.repeated[flow.links[0]] += flow.next - flow.acked
        flow.next = flow.acked

    def _woken(self, flow: PacketFlow, kind: int, now_ps: int) -> None:
        if kind == WAKE:
            flow.state = IDLE
        elif kind == PULL:
            flow.credit += 1
        elif flow.deadline_ps > now_ps:  # something was acknowledged since
            self._at(flow.deadline_ps, TIMEOUT, flow.task)
        else:
            self._go_back(flow)
            flow.deadline_ps = now_ps + self.given.rto_us * 1_000_000
            self._at(flow.deadline_ps, TIMEOUT, flow.task)
        self._offer(flow, now_ps)

    # Links -------------------------------------------------------------------------------------------------------

    def _send(self, number: int, now_ps: int) -> None:
        """An idle link takes a packet, in turn of its queue and of the flows that begin on it."""
        link = self.links[number]
        if link.sending is not None or link.paused or not (link.headers or link.queue or link.turn):
            return
        packet = self._taken(link, now_ps)
        link.sending = packet.via, packet.size
        sent_ps = now_ps + lasts_ps(link, packet.size)
        packet.arrives_ps = self._arrives(packet, link, now_ps, sent_ps)
        link.wire.append(packet)
        self._at(sent_ps, SENT, number)
        if len(link.wire) == 1:
            self._at(packet.arrives_ps, ARRIVAL, number)
        self.counts.packets[number] += 1
        self.counts.num_bytes[number] += packet.size

    def _taken(self, link: PacketLink, now_ps: int) -> Packet:
        """The packet that goes next: headers first, but not for ever; then queue and flows in turn."""
        if link.headers and (link.in_row < HEADERS or not (link.queue or link.turn)):
            link.in_row += 1
            return link.headers.popleft()
        link.in_row = 0
        link.own_last = bool(link.turn) and not (link.queue and link.own_last)
        return self._next_packet(link.turn.popleft(), now_ps) if link.own_last else link.queue.popleft()

    def _arrives(self, packet: Packet, link: PacketLink, now_ps: int, sent_ps: int) -> int:
        """When the packet joins its next queue: in a host it goes on as soon as its last bit cannot come too late."""
        arrives_ps = sent_ps + link.latency_ps
        places = self._places(packet)
        if places and not self._chooses(link, places):
            beyond = self.links[self.way_links[places[packet.path % len(places)]]]
            if link.inside or beyond.inside:
                arrives_ps = max(arrives_ps - lasts_ps(beyond, packet.size), now_ps + link.latency_ps)
        return arrives_ps

    def _sent(self, number: int, now_ps: int) -> None:
        """The last bit has left: the packet's place in the buffer is free."""
        link = self.links[number]
        assert link.sending is not None
        (via, size), link.sending = link.sending, None
        self.eager.add(number)
        if via < 0:
            return
        link.held -= size
        self.depths.note(number, now_ps, link.held + size, link.held)
        before = self.links[via]
        before.arrived -= size
        if before.told and before.arrived <= self.given.xon_bytes:
            before.told = False
            self._at(now_ps + before.latency_ps, SIGNAL, via)

    def _signal(self, number: int, now_ps: int) -> None:
        """Pause and resume take turns."""
        link = self.links[number]
        link.paused = not link.paused
        if link.paused:
            link.paused_since = now_ps
        else:
            self.counts.paused_ps[number] += now_ps - link.paused_since
            self.eager.add(number)

    def _arrival(self, number: int, now_ps: int, ended: list[int]) -> None:
        link = self.links[number]
        packet = link.wire.popleft()
        if link.wire:
            self._at(link.wire[0].arrives_ps, ARRIVAL, number)
        packet.back_ps += link.latency_ps
        places = self._places(packet)
        if not places:
            self._received(packet, number, now_ps, ended)
            return
        packet.path, digit = divmod(packet.path, len(places))
        packet.place = places[digit]
        if self._chooses(link, places):
            packet.place = min((*places[digit:], *places[:digit]), key=self._waiting)
        self._join(packet, number, self.way_links[packet.place], now_ps)

    def _places(self, packet: Packet) -> range:
        """In the ways, of the links that may come next; none at the receiver."""
        state = self.way_after[packet.place]
        return range(0) if state == ARRIVED else range(self.way_first[state], self.way_first[state + 1])

    def _chooses(self, link: PacketLink, places: range) -> bool:
        """Whether the node behind a link looks at its queues before it takes one of these."""
        return self.given.number_of_balance == ADAPTIVE and len(places) > 1 and not link.inside

    def _waiting(self, place: int) -> int:
        """Bytes before the link at a place in the ways."""
        return self.links[self.way_links[place]].held

    def _join(self, packet: Packet, number: int, beyond: int, now_ps: int) -> None:
        """A packet that came over link ``number`` joins the queue before link ``beyond``, if there is room."""
        came, link, counts = self.links[number], self.links[beyond], self.counts
        held, room = (came.arrived, came.limit) if came.pauses else (link.held, self.rooms[beyond])
        if held + packet.size > room and self.ndp and not came.pauses and not packet.trimmed:
            counts.trims[beyond] += 1
            packet.trimmed, packet.size = True, max(self.given.header_bytes, 1)
        if packet.trimmed:
            packet.via = -1
            link.headers.append(packet)
            self.eager.add(beyond)
            return
        if held + packet.size > room:
            counts.drops[beyond] += 1
            return
        counts.joined[beyond] += 1
        marks = self.given.number == DCQCN and not (came.inside or link.inside)
        if marks and marked_by_lot(link.held, beyond, int(counts.joined[beyond]), self.given):
            packet.marked = True
            counts.marks[beyond] += 1
        packet.via = number
        link.queue.append(packet)
        link.held += packet.size
        counts.deepest[beyond] = max(counts.deepest[beyond], link.held)
        self.depths.note(beyond, now_ps, link.held - packet.size, link.held)
        came.arrived += packet.size
        counts.fullest[number] = max(counts.fullest[number], came.arrived)
        if came.pauses and not came.told and came.arrived > self.given.xoff_bytes:
            came.told = True
            counts.pauses[number] += 1
            self._at(now_ps + came.latency_ps, SIGNAL, number)
        self.eager.add(beyond)

    # Receivers ---------------------------------------------------------------------------------------------------

    def _received(self, packet: Packet, number: int, now_ps: int, ended: list[int]) -> None:
        """A packet has come to its receiver over link ``number``."""
        flow = packet.flow
        if flow.task not in self.flows or flow.got == flow.packets:
            return  # a copy of what had come already
        if packet.trimmed:
            flow.headers += 1
            refusal = PacketAnswer(flow, flow.got, False, False, packet.sent_ps, packet.number)
            self._at(now_ps + packet.back_ps, ANSWER, (flow.task << 28) | packet.number, refusal)
            self.pulls.want(flow, now_ps)
            return
        again = False
        if self.given.lossless or packet.number == flow.got:
            flow.got += 1
            flow.complained = False
            self.counts.reordered[number] += packet.number < flow.latest
            flow.latest = max(flow.latest, packet.number)
        elif packet.number > flow.got:
            again, flow.complained = not flow.complained, True
        if flow.got == flow.packets:
            ended.append(flow.task)
            return
        if self.ndp:
            self.pulls.want(flow, now_ps)
            return
        notice = packet.marked and now_ps - flow.noticed_ps >= CNP_PS
        if notice:
            flow.noticed_ps = now_ps
        if self.given.answers or notice:
            answer = PacketAnswer(flow, flow.got, again, notice, packet.sent_ps)
            self._at(now_ps + packet.back_ps, ANSWER, (flow.task << 28) | packet.number, answer)
