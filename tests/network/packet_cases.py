# SPDX-License-Identifier: Apache-2.0
"""Random packet networks, small enough that queues fill, links pause and packets are lost; and one to drive by hand."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from commbench.engine.setting import Change, Paths, Processors, Setting, What
from commbench.network.base import NEVER, Wiring
from commbench.network.packet.reference import PacketNetwork
from commbench.network.packet.settings import BALANCES, CONTROLS, Packets
from commbench.network.packet.under_way import Packet
from commbench.program.flat import COMPUTE, TRANSFER
from commbench.routing.ways import ARRIVED, WayGraph
from tests.engine import engine_cases as cases

GB_PER_S = 1e9
_BANDWIDTHS = (1e12, 1e12 / 3, 12.5e9, 1e9, 1e8)
_LATENCIES = (0, 0, 100, 1000, 57_000, 400_000)
_BYTES = (0, 1, 99, 100, 700, 3000)


@st.composite
def settings_of_packets(draw: st.DrawFn, *, pfc: bool | None = None, control: str | None = None) -> Packets:
    """Settings with buffers of a few packets; with NDP only where neither is given, or it is."""
    some = CONTROLS if pfc is None else tuple(name for name in CONTROLS if name != "ndp")
    control = control or draw(st.sampled_from((*some, "dcqcn")))
    ndp = control == "ndp"
    pfc = False if ndp else pfc
    mtu, header = draw(st.sampled_from((100, 100, 64, 1000))), draw(st.sampled_from((0, 10)))
    xoff = draw(st.sampled_from((0, 150, 400, 2000)))
    pfc = draw(st.sampled_from((True, True, False))) if pfc is None else pfc
    lowest = draw(st.sampled_from((0, 0, 200)))
    return Packets(
        control=control,
        mtu_bytes=mtu,
        header_bytes=header,
        pfc=pfc,
        xoff_bytes=xoff,
        xon_bytes=draw(st.integers(0, xoff)),
        buffer_bytes=draw(st.sampled_from((2, 4, 10))) * (mtu + header),
        window_bytes=0 if ndp else draw(st.sampled_from((0, 0, 1, 500))),
        ecn_min_bytes=lowest,
        ecn_max_bytes=lowest + draw(st.sampled_from((0, 200, 1000))),
        ecn_share=draw(st.sampled_from((0.0, 0.5, 1.0))),
        rto_us=draw(st.sampled_from((10, 20, 50))) * (mtu + header) // 100 + 1,  # shorter ones repeat for ever
        queue_packets=draw(st.sampled_from((1, 2, 8))) if ndp else 8,
        first_window=draw(st.sampled_from((0, 0, 1, 3, 100))) if ndp else 0,
        balance=draw(st.sampled_from(BALANCES)) if pfc or ndp else "flow",
        flowlet_us=draw(st.sampled_from((1, 5))),
        seed=draw(st.integers(0, 3)),
    )


Layers = list[list[int]]
"""Links that may come first, those that may come next ...; the first of each are a route."""


@dataclass(frozen=True)
class Drawn:
    """A network's links, of which some are inside a host, and for every route what may be taken instead of it."""

    bandwidths: list[float]
    layers: list[Layers]
    latencies: list[int]
    inside: list[bool]

    @property
    def routes(self) -> list[list[int]]:
        return [[layer[0] for layer in layers] for layers in self.layers]

    @property
    def ways(self) -> WayGraph:
        """Behind the link at place i of a layer come those of the next one from place i on, round its end."""
        counts, links, after, start = [], [], [], []
        for layers in self.layers:
            start.append(len(counts))
            counts.append(1)
            links.append(layers[0][0])
            after.append(len(counts))
            for layer, beyond in pairwise(layers):
                base = len(counts) + len(layer)  # of the states behind the next layer's links
                for i in range(len(layer)):
                    some = range(i % len(beyond), len(beyond))
                    counts.append(len(some))
                    links += [beyond[j] for j in some]
                    after += [base + j for j in some]
            last = len(counts)
            after = [ARRIVED if state >= last else state for state in after]
        columns = (np.array(column, dtype=np.int64) for column in (np.cumsum([0, *counts]), links, after, start))
        return WayGraph(*columns)

    def wiring(self, given: Packets) -> Wiring:
        made = wiring_of(self.bandwidths, self.routes, self.latencies, self.inside)
        return made if given.balance == "flow" else replace(made, ways=self.ways)


@st.composite
def layers_of(draw: st.DrawFn, count: int) -> Layers:
    """Links ascend from layer to layer, so that no pauses go in a circle; the first has one."""
    hops = sorted(draw(st.lists(st.integers(0, count - 1), min_size=min(count, 3), max_size=6, unique=True)))
    cuts = draw(st.lists(st.sampled_from((False, False, True)), min_size=len(hops), max_size=len(hops)))
    found: Layers = [[hops[0]]]
    for place, (link, cut) in enumerate(zip(hops[1:], cuts, strict=False)):
        if (cut and len(found) < 4) or not place:
            found.append([])
        found[-1].append(link)
    return found


@st.composite
def wirings(draw: st.DrawFn) -> Drawn:
    """A few links and routes."""
    bandwidths = draw(st.lists(st.sampled_from(_BANDWIDTHS), min_size=2, max_size=8))
    layers = draw(st.lists(layers_of(len(bandwidths)), min_size=1, max_size=5))
    of_route = {tuple(layer[0] for layer in each): each for each in layers}
    latencies = draw(st.lists(st.sampled_from(_LATENCIES), min_size=len(bandwidths), max_size=len(bandwidths)))
    buses = st.sampled_from((False, False, False, True))
    inside = draw(st.lists(buses, min_size=len(bandwidths), max_size=len(bandwidths)))
    return Drawn(bandwidths, list(of_route.values()), latencies, inside)


@st.composite
def packet_cases(draw: st.DrawFn) -> tuple[cases.Case, Packets]:
    """A program, what it runs in (bandwidths and routes may change), and the packets' settings."""
    program = draw(cases.programs(_BYTES, (0, 100, 10**6), (TRANSFER, TRANSFER, TRANSFER, COMPUTE)))
    drawn, given = draw(wirings()), draw(settings_of_packets())
    bandwidths, routes = drawn.bandwidths, drawn.routes
    some = st.integers(0, len(routes) - 1)
    route_of = [-1 if kind == COMPUTE else draw(some) for kind in program.kind.tolist()]
    paths = Paths.of_lists(bandwidths, routes, [draw(st.sampled_from((0, 0, 333))) for _ in routes], route_of)
    paths = replace(paths, link_latencies_ps=np.array(drawn.latencies, dtype=np.int64), inside=np.array(drawn.inside))
    if given.balance != "flow":
        paths = replace(paths, ways=drawn.ways)
    changes = []
    for _ in range(draw(st.integers(0, 3))):
        time_ps = draw(st.sampled_from((0, 100, 5000, 10**6, 10**8)))
        if draw(st.booleans()):
            link, bandwidth = draw(st.integers(0, len(bandwidths) - 1)), draw(st.sampled_from(_BANDWIDTHS))
            changes.append(Change(time_ps, What.BANDWIDTH, link, bandwidth))
        else:
            changes.append(Change(time_ps, What.ROUTE, draw(some), draw(some)))
    changes.sort(key=lambda change: change.time_ps)
    overhead = Processors(draw(st.sampled_from((0, 0, 33))), None, 1)
    return (program, Setting(paths, overhead, tuple(changes))), given


def wiring_of(
    bandwidths: Sequence[float],
    routes: Sequence[Sequence[int]],
    latencies_ps: Sequence[int],
    inside: Sequence[bool] = (),
) -> Wiring:
    """What a network is made for, from lists."""
    paths = Paths.of_lists(bandwidths, routes, [0] * len(routes), [])
    latencies = np.array(latencies_ps, dtype=np.int64)
    within = np.array(inside, dtype=np.bool_)
    return Wiring(paths.bandwidths, paths.first, paths.links, latencies_ps=latencies, inside=within)


def alone_ps(num_bytes: int, bandwidths: Sequence[float], latencies_ps: Sequence[int], packets: Packets) -> int:
    """A message that meets nobody: packet by packet, every link sends one as soon as it has it and is free."""
    free = [0] * len(bandwidths)
    done = 0
    count = max(1, -(-num_bytes // packets.mtu_bytes))
    for number in range(count):
        size = min(packets.mtu_bytes, num_bytes - number * packets.mtu_bytes) + packets.header_bytes
        done = 0
        for i, (bandwidth, latency) in enumerate(zip(bandwidths, latencies_ps, strict=True)):
            free[i] = max(done, free[i]) + int(size / bandwidth * 1e12 + 0.5)
            done = free[i] + latency
    return done


class _Watched(PacketNetwork):
    """It keeps which packets of which messages have come to their receivers, and in which order headers did."""

    def _received(self, packet: Packet, number: int, now_ps: int, ended: list[int]) -> None:
        self.come: Counter[tuple[int, int]]
        self.cut: list[bool]
        self.come[packet.flow.task, packet.number] += not packet.trimmed
        self.cut.append(packet.trimmed)
        super()._received(packet, number, now_ps, ended)


class Driven:
    """A network by itself: messages (start in ps, links, bytes) until the last of them has ended.

    Attributes:
        ends_ps: of every message. network: afterwards. come: how often each packet has, by (message, number). cut: of
            all that came, in order, whether it was a header.
    """

    def __init__(self, wiring: Wiring, given: Packets, messages: Sequence[tuple[int, Sequence[int], int]]) -> None:
        self.network = network = _Watched(wiring, given)
        self.come = network.come = Counter()
        self.cut = network.cut = []
        self.ends_ps = [NEVER] * len(messages)
        todo = sorted(range(len(messages)), key=lambda i: messages[i][0], reverse=True)
        due = NEVER
        while NEVER in self.ends_ps:
            begins = messages[todo[-1]][0] if todo else NEVER
            assert begins != NEVER or due != NEVER, network.stuck() or "nothing is to happen any more"
            now = min(time for time in (begins, due) if time != NEVER)
            if due == now:
                for flow in network.advance(now):
                    self.ends_ps[flow] = now
                    network.finish(flow)
            while todo and messages[todo[-1]][0] == now:
                flow = todo.pop()
                network.start(flow, messages[flow][1], messages[flow][2], now)
            due = network.next_event(now)
            self.look()

    def look(self) -> None:
        """After every instant: what waits is counted right, before its link and behind the one that it came over."""
        behind = [0] * len(self.network.links)
        for link in self.network.links:
            waits = [(packet.via, packet.size) for packet in link.queue]
            if link.sending is not None and link.sending[0] >= 0:
                waits.append(link.sending)
            assert link.held == sum(size for _, size in waits)
            for via, size in waits:
                behind[via] += size
        assert behind == [link.arrived for link in self.network.links]
