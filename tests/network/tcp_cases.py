# SPDX-License-Identifier: Apache-2.0
"""Random networks of TCP connections, small enough that queues overflow, acknowledgements wait and timers run out."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from commbench.engine.setting import Change, Paths, Processors, Setting, What
from commbench.network.base import Streams
from commbench.network.packet.tcp.settings import CONGESTIONS, Tcp
from commbench.program.flat import COMPUTE, TRANSFER
from tests.engine import engine_cases as cases

_BANDWIDTHS = (1e9, 1e9 / 3, 12.5e6, 1e6)
_LATENCIES = (0, 0, 1000, 57_000, 10**9)
_BYTES = (0, 1, 99, 100, 700, 3000, 20_000)


@st.composite
def settings_of_tcp(draw: st.DrawFn) -> Tcp:
    """Settings with queues of a few packets."""
    mss = draw(st.sampled_from((100, 64, 1000)))
    return Tcp(
        congestion=draw(st.sampled_from(CONGESTIONS)),
        mss_bytes=mss,
        header_bytes=draw(st.sampled_from((10, 40))),
        window_bytes=mss * draw(st.sampled_from((1, 5, 50))),
        ack_segments=draw(st.sampled_from((1, 2, 3))),
        ack_ms=draw(st.sampled_from((1, 40))),
        rto_ms=draw(st.sampled_from((1, 5, 200))),
        first_window=draw(st.sampled_from((1, 4, 10, 50))),
        port_segments=draw(st.sampled_from((1, 2, 100))),
        queue_packets=draw(st.sampled_from((2, 5, 1000))),
        fair=draw(st.booleans()),
        burst_bytes=draw(st.sampled_from((0, 0, 1, 2 * mss))),
        restart=draw(st.booleans()),
    )


@st.composite
def tcp_cases(draw: st.DrawFn) -> tuple[cases.Case, Tcp]:
    """A program, what it runs in (bandwidths may change), and the connections' settings."""
    program = draw(cases.programs(_BYTES, (0, 100, 10**6), (TRANSFER, TRANSFER, TRANSFER, COMPUTE)))
    bandwidths = draw(st.lists(st.sampled_from(_BANDWIDTHS), min_size=2, max_size=6))
    hops = st.lists(st.integers(0, len(bandwidths) - 1), min_size=1, max_size=4, unique=True)
    routes = draw(st.lists(st.tuples(hops, hops), min_size=1, max_size=3))
    ways = [way for both in routes for way in both]
    back = np.arange(len(ways)) ^ 1  # of route 2 i it is 2 i + 1
    some = st.integers(0, len(ways) - 1)
    moves = np.flatnonzero(program.kind != COMPUTE).tolist()
    route_of = [draw(some) if task in moves else -1 for task in range(program.num_tasks)]
    written = np.full(program.num_tasks, -1, dtype=np.int64)
    couples = list(zip(moves[:-1:2], moves[1::2], strict=False))
    for told, watch in draw(st.lists(st.sampled_from(couples), unique=True)) if couples else ():
        written[watch], route_of[watch] = told, route_of[told]
    paths = Paths.of_lists(bandwidths, ways, [draw(st.sampled_from((0, 0, 333))) for _ in ways], route_of)
    latencies = draw(st.lists(st.sampled_from(_LATENCIES), min_size=len(bandwidths), max_size=len(bandwidths)))
    inside = draw(st.lists(st.sampled_from((False, False, True)), min_size=len(bandwidths), max_size=len(bandwidths)))
    paths = replace(
        paths,
        link_latencies_ps=np.array(latencies, dtype=np.int64),
        inside=np.array(inside),
        streams=Streams(back, np.array(route_of, dtype=np.int64), written),
    )
    changes = [
        Change(time_ps, What.BANDWIDTH, draw(st.integers(0, len(bandwidths) - 1)), draw(st.sampled_from(_BANDWIDTHS)))
        for time_ps in sorted(draw(st.lists(st.sampled_from((0, 100, 10**6, 10**9)), max_size=2)))
    ]
    overhead = Processors(draw(st.sampled_from((0, 0, 33))), None, 1)
    return (program, Setting(paths, overhead, tuple(changes))), draw(settings_of_tcp())
