# SPDX-License-Identifier: Apache-2.0
"""Connections for the fluid model, in plain Python: SEMANTICS.md beside this file. Read that page first."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from commbench.errors import InputError
from commbench.network.base import NEVER, Wiring
from commbench.network.connected.settings import Connected
from commbench.network.fluid import FluidNetwork
from commbench.units import PS_PER_S

__all__ = ["ConnectedNetwork"]


@dataclass(slots=True)
class _Message:
    """A flow: ``end`` is the place in its stream behind its last byte; ``pieces`` are on their way."""

    task: int
    num_bytes: int
    end: int = 0
    pieces: int = 0


@dataclass(slots=True)
class _Stream:
    """One direction of a connection: ``total`` bytes have joined it, ``came`` have come."""

    links: tuple[int, ...]
    total: int = 0
    came: int = 0
    messages: deque[_Message] = field(default_factory=deque)


@dataclass(slots=True)
class _Port:
    """A link: ``saved`` bytes in its bucket as of ``since_ps``, or debts; messages that are on their way over it."""

    bandwidth: float
    saved: int = 0
    since_ps: int = 0
    busy: int = 0


class ConnectedNetwork:
    """Flows over connections; see network.base.Network."""

    def __init__(self, wiring: Wiring, given: Connected) -> None:
        """Connections that are open, and have nothing to send."""
        assert wiring.streams is not None, "a network of connections is told which there are"
        self.given = given
        self.fluid = FluidNetwork(wiring.bandwidths.tolist())
        self.ports = [_Port(bandwidth) for bandwidth in wiring.bandwidths.tolist()]
        routes = [wiring.links[a:b].tolist() for a, b in zip(wiring.first[:-1], wiring.first[1:], strict=True)]
        self.pieces = max(map(len, routes), default=0) + 1  # of one message at most: over all links, and on each
        self.streams = [_Stream(tuple(links)) for links in routes]
        self.stream_of: list[int] = wiring.streams.route_of.tolist()
        self.told: list[int] = wiring.streams.written.tolist()
        self.watching: list[int] = wiring.streams.watching.tolist()
        self.written: set[int] = set()
        self.waiting: set[int] = set()  # flows that wait for another one's bytes to be written
        self.sizes: dict[int, int] = {}
        self.new: list[int] = []
        self.ended: list[int] = []
        self.due_ps = NEVER  # the fluid model's next event

    # What the engine says ----------------------------------------------------------------------------------------

    def start(
        self, flow: int, links: Sequence[int], num_bytes: int, now_ps: int, weights: Sequence[float] | None = None
    ) -> None:
        """A message enters; it joins its stream when the next event is asked for."""
        self.sizes[flow] = num_bytes
        self.new.append(flow)

    def finish(self, flow: int) -> None:
        """A message that ``advance`` named leaves."""

    def move(self, flow: int, links: Sequence[int], weights: Sequence[float] | None = None) -> None:
        """Connections keep their routes.

        Raises:
            InputError: always.
        """
        raise InputError("routes of connections that change are not supported; give --library ideal")

    def set_bandwidth(self, link: int, bandwidth: float) -> bool:
        """A link has another bandwidth from now on."""
        self.ports[link].bandwidth = bandwidth
        return self.fluid.set_bandwidth(link, bandwidth)

    def next_event(self, now_ps: int) -> int:
        """New messages join their streams; when something happens next."""
        for task in sorted(self.new):
            self._begin(task, now_ps)
        self.new.clear()
        self.due_ps = self.fluid.next_event(now_ps)
        return now_ps if self.ended else self.due_ps

    def advance(self, now_ps: int) -> list[int]:
        """The messages whose last byte has come at this instant."""
        if self.due_ps == now_ps:
            for piece in self.fluid.advance(now_ps):
                self.fluid.finish(piece)
                self._passed(*divmod(piece, self.pieces), now_ps)
        ended = sorted(self.ended)
        self.ended.clear()
        return ended

    # Streams -----------------------------------------------------------------------------------------------------

    def _begin(self, task: int, now_ps: int) -> None:
        told = self.told[task]
        if told >= 0:
            if told in self.written:
                self.ended.append(task)
            else:
                self.waiting.add(task)
            return
        stream, message = self.streams[self.stream_of[task]], _Message(task, self.sizes[task])
        stream.total += message.num_bytes
        message.end = stream.total
        stream.messages.append(message)
        if message.end - stream.came <= self.given.window_bytes:
            self._write(task)
        if len(stream.messages) == 1:
            self._go(stream, now_ps)

    def _write(self, task: int) -> None:
        self.written.add(task)
        watch = self.watching[task]
        if watch in self.waiting:
            self.waiting.remove(watch)
            self.ended.append(watch)

    def _go(self, stream: _Stream, now_ps: int) -> None:
        """The next messages of a stream are on their way: those of no bytes are there at once."""
        while stream.messages and not stream.messages[0].num_bytes:
            task = stream.messages.popleft().task
            if task not in self.written:
                self._write(task)
            self.ended.append(task)
        if not stream.messages:
            return
        message = stream.messages[0]
        for link in stream.links:
            self._settle(self.ports[link], now_ps)
            self.ports[link].busy += 1
        more = message.num_bytes - self.given.window_bytes
        if more > 0:
            message.pieces = 1
            self.fluid.start(message.task * self.pieces, stream.links, more, now_ps)
        else:
            self._rest(stream, message, now_ps)

    def _settle(self, port: _Port, now_ps: int) -> None:
        """What a port has saved up until now."""
        if not port.busy:
            idle_bytes = int((now_ps - port.since_ps) * port.bandwidth / PS_PER_S)
            port.saved = min(self.given.burst_bytes, port.saved + idle_bytes)

    def _rest(self, stream: _Stream, message: _Message, now_ps: int) -> None:
        """What the window takes of a message is on every link."""
        if message.task not in self.written:
            self._write(message.task)
        size = min(message.num_bytes, self.given.window_bytes)
        message.pieces = len(stream.links)
        for place, link in enumerate(stream.links, 1):
            credit = self._credit(self.ports[link], size)
            self.fluid.start(message.task * self.pieces + place, (link,), size - credit, now_ps)

    def _credit(self, port: _Port, size: int) -> int:
        """Bytes of a message that need not be waited for; less than none where a port has debts."""
        if not self.given.burst_bytes:
            return 0
        credit = min(port.saved + (size - 1) % self.given.packet_bytes + 1, size)
        port.saved -= credit
        return credit

    def _passed(self, task: int, place: int, now_ps: int) -> None:
        """A piece is through: of the message's beginning, or on one link."""
        stream = self.streams[self.stream_of[task]]
        message = stream.messages[0]
        message.pieces -= 1
        if place == 0:
            self._rest(stream, message, now_ps)
        elif not message.pieces:
            stream.messages.popleft()
            stream.came = message.end
            self.ended.append(task)
            for link in stream.links:
                self.ports[link].busy -= 1
                self.ports[link].since_ps = now_ps
            self._go(stream, now_ps)
