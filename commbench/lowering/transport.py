# SPDX-License-Identifier: Apache-2.0
"""A program as a transport carries it out: see "Transport" in SEMANTICS.md.

Each transfer becomes a delay until its first byte may leave, a flow of all its bytes on the wire, and a delay at the
receiver. Two ranks have one connection for each rail; what a rank sends on it comes in order, its notices too:

- a payload waits for those before it in the same direction;
- the notice that a rank is ready to receive waits for what this rank has sent before. So a message waits for messages
  the other way that began before its receiver was ready. Where sends are posted first, that is left to chance: the
  order in which ranks post is drawn.

Steps of one channel follow each other, so their order is known. That of channels is not: it is taken from a first
simulation, and once more from the next. So is what token buckets do. A bucket saves up while its link is idle, and lets
a packet out when it has no debts, whatever the packet's size. So a message is there when its last packet is let out,
which is when all that went before is paid for; what the last packet owes, the next flow pays. Both are taken off flows.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np

from commbench.arrays import IntArray
from commbench.engine.setting import Paths
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.network.transport import Connections, Transport
from commbench.program.flat import COLUMNS, COMPUTE, TRANSFER, FlatProgram, compress
from commbench.units import PS_PER_S

__all__ = ["Transported", "apply_transport", "posts_at", "with_way_back"]

Edge = tuple[int, int]
"""(waiting task, task that it waits for)."""

_MOST_ROUNDS = 4  # of simulations until the order of channels stands; then the last one counts
_ALIKE = 1.1  # links whose bandwidths are within this of each other are equally slow


@dataclass(frozen=True, slots=True, eq=False)
class Transported:
    """A program as it was carried out: tasks keep their numbers, new ones come behind them."""

    program: FlatProgram
    paths: Paths
    trace: Trace


def apply_transport(
    program: FlatProgram,
    paths: Paths,
    over: Connections,
    seed: int,
    run: Callable[[FlatProgram, Paths], Trace],
) -> Transported:
    """Carry out a program.

    Args:
        program: of transfers. paths: their routes (:func:`with_way_back`). over: what they go over.
        seed: of what is left to chance. run: an engine in its setting.

    Raises:
        InputError: tasks wait for each other in a circle.
    """
    result: Transported | None = None
    edges: frozenset[Edge] = frozenset()
    credit = np.zeros(1, dtype=np.int64)  # of each task of the new program, or of all alike
    for _ in range(_MOST_ROUNDS):
        work = _Rewriting(program, paths, over, seed)
        work.rewrite(edges)
        done = work.done()
        try:
            done.check_acyclic()
        except InputError:
            if result is None:  # the program itself
                raise
            break  # what came first cannot be told; the order of before stays
        own = replace(paths, route_of=work.routes())
        lighter = replace(done, num_bytes=done.num_bytes - credit)
        result = Transported(lighter, own, run(lighter, own))
        found, before = work.between_channels(result.trace), credit
        if over.burst_bytes:
            credit = _credit(done, result.trace, own, over, work.last_packets())
        if found == edges and not np.any(credit != before):
            break
        edges = found
    assert result is not None
    return result


def _credit(
    program: FlatProgram, trace: Trace, paths: Paths, over: Connections, last_packets: dict[int, int]
) -> IntArray:
    """Of every flow, the bytes that it need not wait for; by the times of a simulation.

    That is what its links have saved up (less than nothing where the flow before has debts) and its last packet. The
    slowest links of a route count; the others have enough left.
    """
    saved = np.minimum(over.burst_bytes, paths.bandwidths * over.idle_ps / PS_PER_S)
    busy_until = np.zeros(len(paths.bandwidths))
    credit = np.zeros(program.num_tasks, dtype=np.int64)
    moves = np.flatnonzero(program.kind == TRANSFER)
    for task in moves[np.lexsort((moves, trace.start_ps[moves]))].tolist():
        route, last = paths.route_of[task], last_packets[task]
        links = paths.links[paths.first[route] : paths.first[route + 1]]
        links = links[paths.bandwidths[links] < _ALIKE * paths.bandwidths[links].min()]
        idle_s = np.maximum(0.0, trace.start_ps[task] - busy_until[links]) / PS_PER_S
        saved[links] = np.minimum(over.burst_bytes, saved[links] + idle_s * paths.bandwidths[links])
        credit[task] = min(int(saved[links].min()) + last, int(program.num_bytes[task]))
        saved[links] -= credit[task]
        busy_until[links] = np.maximum(busy_until[links], trace.end_ps[task])
    return credit


@dataclass(frozen=True, slots=True)
class _Parts:
    """Tasks of one transfer: that which begins it, its first flow, and those after which its two ends go on."""

    begin: int
    flow: int
    sent: int
    arrived: int


@dataclass(slots=True)
class _ChannelLane:
    """The transfers of one channel from one rank to another, which come one after the other: begins and ends ascend."""

    tasks: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def ahead(self, at: int, lower: bool) -> int | None:
        """The last that had begun at a time, if it ends later; at that very time too in a lower channel."""
        count = (bisect_right if lower else bisect_left)(self.begun, at)
        if not count or self.ends[count - 1] <= at:
            return None
        return self.tasks[bisect_left(self.ends, self.ends[count - 1])]


@dataclass(slots=True)
class _Rewriting:
    """One program being rewritten: new tasks and edges are collected, then put behind what was there."""

    old: FlatProgram
    paths: Paths
    over: Connections
    seed: int
    new: list[tuple[int, ...]] = field(default_factory=list)
    route: list[int] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    parts: dict[int, _Parts] = field(default_factory=dict)
    place: dict[int, int] = field(default_factory=dict)  # of a transfer among those that its sender posts in the step
    num_bytes: IntArray = field(init=False)

    def rewrite(self, between_channels: Iterable[Edge]) -> None:
        """Rewrite every transfer in the order of steps; then what others wait for."""
        old = self.old
        self.num_bytes = old.num_bytes.copy()
        latest: dict[tuple[int, int, int], int] = {}
        posted = defaultdict[tuple[int, int, int], int](int)
        for task in np.lexsort((np.arange(old.num_tasks), old.step)).tolist():
            if old.kind[task] != TRANSFER:
                continue
            src, dst, channel = int(old.rank[task]), int(old.peer[task]), int(old.channel[task])
            together = int(old.operation[task]), int(old.step[task]), src
            self.place[task] = posted[together]
            posted[together] += 1
            self._transfer(task, latest.get((src, dst, channel)))
            answer = latest.get((dst, src, channel))
            if answer is not None:
                self._wait_for_notice(task, answer)
            latest[src, dst, channel] = task
        self.edges += [(self.parts[task].flow, other) for task, other in between_channels]
        self._redirect()

    def _transfer(self, task: int, before: int | None) -> None:
        transport, old = self.over.transport, self.old
        src, dst = int(old.rank[task]), int(old.peer[task])
        begin = self._add(task, COMPUTE, src, duration_ps=transport.latency_ps)
        whole = transport.bytes_on_wire(int(old.num_bytes[task]))
        rest = min(whole, transport.buffer_bytes)
        flow = task if rest == whole else self._add(task, TRANSFER, src, peer=dst, num_bytes=whole - rest)
        sent = self._add(task, COMPUTE, src)
        arrived = self._add(task, COMPUTE, dst, duration_ps=transport.latency_ps)
        self.num_bytes[task] = rest
        self.edges += [(flow, begin), (sent, begin), (arrived, task)]
        if before is not None:
            self.edges += [(flow, before), (sent, before)]
        if flow != task:
            self.edges += [(task, flow), (sent, flow)]
        self.parts[task] = _Parts(begin, flow, sent, arrived)

    def _wait_for_notice(self, task: int, answer: int) -> None:
        """The receiver's notice comes behind what it has sent in earlier steps; and where sends are posted first, maybe
        behind what it sends in this one."""
        if self.old.step[answer] < self.old.step[task]:
            self.edges.append((self.parts[task].begin, answer))
        elif self.over.transport.answers_late:
            pair = ((task, answer), (answer, task))
            self.edges += [(self.parts[late].begin, early) for early, late in pair if self._is_first(early, late)]

    def _is_first(self, one: int, other: int) -> bool:
        """Whether one of two messages in opposite directions is under way before its sender is ready for the other: it
        posts the send first (in its i-th place a rank sends, then receives what its peer has in the same place), and
        the receiver had posted by then."""
        sender, receiver = (posts_at(self.seed, int(ends[one])) for ends in (self.old.rank, self.old.peer))
        return self.place[one] <= self.place[other] and receiver < sender

    def _redirect(self) -> None:
        """What waited for a transfer waits for its end at the own side; what it waited for is waited for earlier."""
        waiting = np.repeat(np.arange(self.old.num_tasks), np.diff(self.old.first))
        for task, needed in zip(waiting.tolist(), self.old.needs.tolist(), strict=True):
            here = self.parts[task].begin if task in self.parts else task
            self.edges.append((here, self._end(needed, int(self.old.rank[task]))))

    def _end(self, task: int, rank: int) -> int:
        """The task after which a rank goes on that waited for ``task``."""
        if task not in self.parts:
            return task
        return self.parts[task].sent if self.old.rank[task] == rank else self.parts[task].arrived

    def _add(self, like: int, kind: int, rank: int, *, peer: int = -1, num_bytes: int = 0, duration_ps: int = 0) -> int:
        moves = kind == TRANSFER
        rest = (int(self.old.channel[like]) if moves else -1, int(self.old.step[like]), int(self.old.operation[like]))
        self.new.append((kind, rank, peer, num_bytes, duration_ps, *rest))
        self.route.append(int(self.paths.route_of[like]) if moves else -1)
        return self.old.num_tasks + len(self.new) - 1

    def last_packets(self) -> dict[int, int]:
        """Bytes of the last packet of the message of every flow."""
        found = {}
        for task, parts in self.parts.items():
            found[task] = found[parts.flow] = self.over.transport.last_packet(int(self.old.num_bytes[task]))
        return found

    def done(self) -> FlatProgram:
        """The new program."""
        old = self.old
        rows = np.array(self.new, dtype=np.int64).reshape(-1, len(COLUMNS)).T
        kept = {name: getattr(old, name) for name in COLUMNS} | {"num_bytes": self.num_bytes}
        columns = {name: np.concatenate([kept[name], row]) for name, row in zip(COLUMNS, rows, strict=True)}
        edges = np.unique(np.array(self.edges, dtype=np.int64).reshape(-1, 2), axis=0)
        first, needs = compress(edges[:, 0], edges[:, 1], old.num_tasks + len(self.new))
        return FlatProgram(num_ranks=old.num_ranks, first=first, needs=needs, **columns)

    def routes(self) -> IntArray:
        """Of every task of the new program."""
        return np.concatenate([self.paths.route_of, np.array(self.route, dtype=np.int64)])

    def between_channels(self, trace: Trace) -> frozenset[Edge]:
        """Who waits for whom where channels share a connection, by the times of a simulation.

        A payload waits for one of another channel in the same direction that began earlier; and for one the other way
        that began before its receiver was ready. Of those of one moment the lower channel is first.
        """
        lanes = defaultdict[tuple[int, int, int], dict[int, _ChannelLane]](dict)
        for task, parts in self.parts.items():
            src, dst, rail, channel = self._way(task)
            lane = lanes[src, dst, rail].setdefault(channel, _ChannelLane())
            lane.tasks.append(task)
            lane.begun.append(int(trace.start_ps[parts.flow]) - self.over.transport.latency_ps)
            lane.ends.append(int(trace.end_ps[task]))
        found: set[Edge] = set()
        for task in self.parts:
            src, dst, rail, channel = self._way(task)
            for way, since in (((src, dst, rail), src), ((dst, src, rail), dst)):
                others = [(number, lane) for number, lane in lanes.get(way, {}).items() if number != channel]
                if not others:
                    continue
                at = self._ready(task, since, trace)
                lasts = (lane.ahead(at, lower=number < channel) for number, lane in others)
                if ahead := [last for last in lasts if last is not None]:
                    last = max(ahead, key=lambda other: (int(trace.end_ps[other]), -self.old.step[other], -other))
                    if (last, task) not in found:
                        found.add((task, last))
        return frozenset(found)

    def _way(self, task: int) -> tuple[int, int, int, int]:
        """Sender, receiver, rail and channel of a transfer."""
        channel = int(self.old.channel[task])
        return int(self.old.rank[task]), int(self.old.peer[task]), channel % self.over.rails, channel

    def _ready(self, task: int, rank: int, trace: Trace) -> int:
        """When a rank had done all that its side of a transfer waits for."""
        needs = self.old.needs[self.old.first[task] : self.old.first[task + 1]].tolist()
        ends = (int(trace.end_ps[self._end(n, rank)]) for n in needs if self.old.rank[n] == rank)
        return max(ends, default=0)


def posts_at(seed: int, rank: int) -> bytes:
    """When a rank posts what it sends and receives: comparable, and the same for the same seed everywhere."""
    return blake2b(repr((seed, rank)).encode(), digest_size=8).digest()


def with_way_back(program: FlatProgram, paths: Paths, back: tuple[IntArray, IntArray], transport: Transport) -> Paths:
    """The paths with what goes back taken off the links' bandwidth, and without the fabric's own latencies.

    Of all that crosses a link in the whole program a part is acknowledgements and notices; data has the rest of the
    link. (A flow with a small weight on the links of its way back would be held to the share of whatever is slow there.
    Acknowledgements are not: they need far less than a queue would give them.)

    Args:
        program: of transfers. paths: their routes.
        back: ``first`` and ``links`` of the routes from receiver to sender, one for each route of ``paths``.
        transport: that carries them.
    """
    moves = np.flatnonzero(program.kind == TRANSFER)
    names = ("operation", "step", "rank", "peer", "channel")
    keys = [tuple(row) for row in np.stack([getattr(program, name)[moves] for name in names], axis=1).tolist()]
    known = set(keys)
    data, returned = np.zeros(len(paths.bandwidths)), np.zeros(len(paths.bandwidths))
    for task, (operation, step, src, dst, channel) in zip(moves.tolist(), keys, strict=True):
        route, size = paths.route_of[task], int(program.num_bytes[task])
        ridden = (operation, step, dst, src, channel) in known
        data[paths.links[paths.first[route] : paths.first[route + 1]]] += transport.bytes_on_wire(size)
        returned[back[1][back[0][route] : back[0][route + 1]]] += transport.bytes_back(size, ridden)
    share = np.divide(data, data + returned, out=np.ones_like(data), where=data > 0)
    return replace(
        paths,
        bandwidths=paths.bandwidths * share,
        latency_ps=np.zeros_like(paths.latency_ps),
        link_latencies_ps=np.zeros_like(paths.link_latencies_ps),
    )
