# SPDX-License-Identifier: Apache-2.0
"""Packets against what can be computed: a message alone, the wait of M/D/1, a window, the length of a pause."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.engine import compiled
from commbench.engine.setting import Paths, Setting
from commbench.network.models import packet_model
from commbench.network.packet.control import Dcqcn, Swift
from commbench.network.packet.settings import Packets
from commbench.program.flat import COMPUTE, TRANSFER
from tests.engine import engine_cases as cases
from tests.network.packet_cases import Driven, alone_ps, wiring_of

GB_PER_S = 1e9


@given(
    st.integers(0, 30_000),
    st.lists(st.tuples(st.sampled_from((1e9, 3e9, 12.5e9)), st.sampled_from((0, 700, 10**6))), min_size=1, max_size=5),
    st.sampled_from((1000, 4096)),
)
@settings(max_examples=60, deadline=None)
def test_a_message_alone_is_store_and_forward_to_the_picosecond(
    num_bytes: int, links: list[tuple[float, int]], mtu: int
) -> None:
    packets = Packets(mtu_bytes=mtu)
    bandwidths, latencies = zip(*links, strict=True)
    route = tuple(range(len(links)))
    done = Driven(wiring_of(bandwidths, [route], latencies), packets, [(0, route, num_bytes)])
    assert done.ends_ps == [alone_ps(num_bytes, bandwidths, latencies, packets)]


def test_a_bus_costs_no_packet() -> None:
    """Bus, wire, bus of one speed: the last bit comes when it would over the wire alone; a slow bus decides."""
    packets = Packets(mtu_bytes=1000, header_bytes=0)
    inside = [True, False, True]
    done = Driven(wiring_of([GB_PER_S] * 3, [(0, 1, 2)], [0, 500, 0], inside), packets, [(0, (0, 1, 2), 5000)])
    assert done.ends_ps == [5_000_500]
    wiring = wiring_of([GB_PER_S / 2, GB_PER_S, GB_PER_S], [(0, 1, 2)], [0, 500, 0], inside)
    slow = Driven(wiring, packets, [(0, (0, 1, 2), 5000)])
    assert slow.ends_ps == [10_000_500]


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_wait_before_a_link_is_that_of_m_d_1(load: float) -> None:
    """Packets of 1000 B come at random: they wait load / (2 (1 - load)) packet times (Pollaczek-Khinchine)."""
    count, lasts_ps = 30_000, 1_000_000
    draws = np.random.default_rng(7).exponential(lasts_ps / load, count)
    starts = np.cumsum(draws).astype(int).tolist()
    rows: list[tuple[int, int, int, int, int, Sequence[int]]] = [(COMPUTE, 0, -1, 0, start, ()) for start in starts]
    rows += [(TRANSFER, 0, 1, 1000, 0, (i,)) for i in range(count)]
    program = cases.program_of(rows)
    route_of = [-1] * count + [0] * count
    setting = Setting(Paths.of_lists([1e15, GB_PER_S], [(0, 1)], [0], route_of))  # the first link takes 1 ps
    packets = Packets(mtu_bytes=1000, header_bytes=0, xoff_bytes=10**6, xon_bytes=0)
    trace = compiled.run(program, setting, network=packet_model(packets))
    wait_ps = trace.end_ps[count:] - np.array(starts) - lasts_ps
    assert wait_ps.mean() / lasts_ps == pytest.approx(load / (2 * (1 - load)), rel=0.06)
    assert trace.counted["pauses"].sum() == 0


def test_a_pause_lasts_as_long_as_the_buffer_takes_to_empty() -> None:
    """C into C / 2: 4 latencies and 2 (xoff - xon) / C. What came until the pause took effect has to leave as well."""
    latency_ps, packets = 1_000_000, Packets(mtu_bytes=100, header_bytes=0, xoff_bytes=50_000, xon_bytes=20_000)
    wiring = wiring_of([10 * GB_PER_S, 5 * GB_PER_S], [(0, 1)], [latency_ps, 0])
    done = Driven(wiring, packets, [(0, (0, 1), 2_000_000)])
    counts = done.network.counts
    assert done.ends_ps == [10_000 + latency_ps + 400_000_000]  # the slow link is never idle
    period_s = 2 * (30_000 + 2 * 10_000) / (5 * GB_PER_S)  # between 10,000 and 60,000 bytes, up and down at C / 2
    assert int(counts.pauses[0]) == 400e-6 / period_s - 1  # in the last one all has been sent before
    expected_ps = 4 * latency_ps + 2 * 30_000 / (10 * GB_PER_S) * 1e12
    assert counts.paused_ps[0] / counts.pauses[0] == pytest.approx(expected_ps, rel=0.02)
    assert counts.fullest[0] == pytest.approx(60_000, rel=0.01)  # it grows at C / 2 for two latencies more


def test_a_queue_is_told_over_time_also_while_nothing_joins_it() -> None:
    """1 MB at C into C / 2: the queue grows at C / 2 while it is sent, and is emptied as fast when no packet comes."""
    packets = Packets(mtu_bytes=100, header_bytes=0, xoff_bytes=10**7, xon_bytes=0)
    done = Driven(wiring_of([10 * GB_PER_S, 5 * GB_PER_S], [(0, 1)], [0, 0]), packets, [(0, (0, 1), 1_000_000)])
    counted = done.network.counted()
    slice_s, depths = counted["slice_ps"][0] / 1e12, counted["depths"][1]
    edges = slice_s * np.arange(len(depths) + 1)
    nearest = np.clip(100e-6, edges[:-1], edges[1:])  # to the moment when the last packet has come
    expected = 5 * GB_PER_S * np.clip(np.minimum(nearest, 200e-6 - nearest), 0, None)
    assert depths == pytest.approx(expected, abs=200)
    assert depths.max() == counted["deepest"][1]
    assert 32 <= np.count_nonzero(depths) <= 64
    assert not counted["depths"][0].any()


def test_a_window_of_one_packet_sends_one_a_round_trip_and_the_product_fills_the_path() -> None:
    """bytes / round trip, until the window is bandwidth x round trip: then the link is never idle."""
    latency_ps, packets = 10_000_000, Packets(control="swift", mtu_bytes=1000, header_bytes=0)
    wiring = wiring_of([GB_PER_S, GB_PER_S], [(0, 1)], [latency_ps, latency_ps])
    round_trip_ps = 4 * latency_ps + 2_000_000
    filled = Driven(wiring, packets, [(0, (0, 1), 500_000)])
    assert filled.ends_ps == [500_000_000 + 1_000_000 + 2 * latency_ps]  # window: 42 packets, and one

    class OnePacket(Swift):
        def allows(self, in_flight: int) -> bool:
            return in_flight < 1

    network = "commbench.network.packet.windows.Swift"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, OnePacket)
        starved = Driven(wiring, packets, [(0, (0, 1), 500_000)])
    assert starved.ends_ps == [499 * round_trip_ps + 2_000_000 + 2 * latency_ps]


def test_dcqcn_by_hand() -> None:
    """Zhu et al. 2015, equations 1 to 4: cut by alpha / 2, half of the way back each 55 us, then the target rises."""
    sender = Dcqcn(5e9, 5e9, 5e9)
    assert sender.sent(1000, 0) == 0
    sender.notice(0)
    assert (sender.rate, sender.target, sender.alpha) == (2.5e9, 5e9, 1.0)
    assert sender.sent(1000, 1) == 400_000
    sender.notice(1)
    assert (sender.rate, sender.target) == (1.25e9, 2.5e9)
    sender.catch_up(1 + 55_000_000)
    assert sender.rate == 1.875e9
    assert sender.alpha == 255 / 256
    sender.catch_up(1 + 5 * 55_000_000)
    assert sender.rate == 2.5e9 - 1.25e9 / 2**5
    assert sender.target == 2.5e9
    sender.catch_up(1 + 6 * 55_000_000)
    assert sender.target == 2.5e9 + 5e6


def test_swift_by_hand() -> None:
    """A packet more in a round trip below the target; above it 0.8 of the excess less, once in a round trip."""
    sender = Swift(window=10.0, most=20.0, target_ps=100, round_trip_ps=50)
    sender.answered(50, 1000)
    assert sender.window == 10.1
    sender.answered(125, 1000)
    assert sender.window == pytest.approx(10.1 * (1 - 0.8 * 25 / 125))
    before = sender.window
    sender.answered(125, 1100)  # within the round trip
    assert sender.window == before
    sender.answered(10_000, 20_000)
    assert sender.window == before / 2
