# SPDX-License-Identifier: Apache-2.0
"""Random packet networks, small enough that queues fill, links pause and packets are lost; and one to drive by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from commbench.engine.setting import Change, Paths, Processors, Setting, What
from commbench.network.base import NEVER, Wiring
from commbench.network.packet.reference import PacketNetwork
from commbench.network.packet.settings import CONTROLS, Packets
from commbench.program.flat import COMPUTE, TRANSFER
from tests.engine import engine_cases as cases

GB_PER_S = 1e9
_BANDWIDTHS = (1e12, 1e12 / 3, 12.5e9, 1e9, 1e8)
_LATENCIES = (0, 0, 100, 1000, 57_000, 400_000)
_BYTES = (0, 1, 99, 100, 700, 3000)


@st.composite
def settings_of_packets(draw: st.DrawFn, *, pfc: bool | None = None) -> Packets:
    """Settings with buffers of a few packets."""
    mtu, header = draw(st.sampled_from((100, 100, 64, 1000))), draw(st.sampled_from((0, 10)))
    xoff = draw(st.sampled_from((0, 150, 400, 2000)))
    lowest = draw(st.sampled_from((0, 0, 200)))
    return Packets(
        control=draw(st.sampled_from((*CONTROLS, "dcqcn"))),
        mtu_bytes=mtu,
        header_bytes=header,
        pfc=draw(st.booleans()) if pfc is None else pfc,
        xoff_bytes=xoff,
        xon_bytes=draw(st.integers(0, xoff)),
        buffer_bytes=draw(st.sampled_from((2, 4, 10))) * (mtu + header),
        window_bytes=draw(st.sampled_from((0, 0, 1, 500))),
        ecn_min_bytes=lowest,
        ecn_max_bytes=lowest + draw(st.sampled_from((0, 200, 1000))),
        ecn_share=draw(st.sampled_from((0.0, 0.5, 1.0))),
        rto_us=draw(st.sampled_from((1, 5, 50))),
        seed=draw(st.integers(0, 3)),
    )


@st.composite
def wirings(draw: st.DrawFn) -> tuple[list[float], list[list[int]], list[int], list[bool]]:
    """Bandwidths, routes, latencies, and which links are inside a host.

    Links of a route ascend, so that no pauses go in a circle.
    """
    bandwidths = draw(st.lists(st.sampled_from(_BANDWIDTHS), min_size=2, max_size=6))
    hops = st.lists(st.integers(0, len(bandwidths) - 1), min_size=1, max_size=4, unique=True).map(sorted)
    routes = draw(st.lists(hops, min_size=1, max_size=5))
    latencies = draw(st.lists(st.sampled_from(_LATENCIES), min_size=len(bandwidths), max_size=len(bandwidths)))
    buses = st.sampled_from((False, False, False, True))
    inside = draw(st.lists(buses, min_size=len(bandwidths), max_size=len(bandwidths)))
    return bandwidths, routes, latencies, inside


@st.composite
def packet_cases(draw: st.DrawFn) -> tuple[cases.Case, Packets]:
    """A program, what it runs in (bandwidths and routes may change), and the packets' settings."""
    program = draw(cases.programs(_BYTES, (0, 100, 10**6), (TRANSFER, TRANSFER, TRANSFER, COMPUTE)))
    bandwidths, routes, latencies, inside = draw(wirings())
    some = st.integers(0, len(routes) - 1)
    route_of = [-1 if kind == COMPUTE else draw(some) for kind in program.kind.tolist()]
    paths = Paths.of_lists(bandwidths, routes, [draw(st.sampled_from((0, 0, 333))) for _ in routes], route_of)
    paths = replace(paths, link_latencies_ps=np.array(latencies, dtype=np.int64), inside=np.array(inside))
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
    return (program, Setting(paths, overhead, tuple(changes))), draw(settings_of_packets())


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


class Driven:
    """A network by itself: messages (start in ps, links, bytes) until the last of them has ended.

    Attributes:
        ends_ps: of every message. network: afterwards.
    """

    def __init__(self, wiring: Wiring, given: Packets, messages: Sequence[tuple[int, Sequence[int], int]]) -> None:
        self.network = network = PacketNetwork(wiring, given)
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
