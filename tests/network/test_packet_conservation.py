# SPDX-License-Identifier: Apache-2.0
"""What holds in every packet network: bytes arrive once, queues are what is in them, pauses lose nothing."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.network.packet.settings import Packets
from tests.network.packet_cases import Driven, settings_of_packets, wiring_of, wirings

_MESSAGES = st.lists(
    st.tuples(st.sampled_from((0, 0, 500, 10**6)), st.integers(0, 9), st.sampled_from((0, 1, 100, 3000, 20_000))),
    min_size=1,
    max_size=8,
)


def _driven(drawn, packets: Packets, messages) -> Driven:  # type: ignore[no-untyped-def]
    bandwidths, routes, latencies, inside = drawn
    given_to = [(start, routes[number % len(routes)], size) for start, number, size in messages]
    return Driven(wiring_of(bandwidths, routes, latencies, inside), packets, given_to)


@given(wirings(), settings_of_packets(pfc=True), _MESSAGES)
@settings(max_examples=60, deadline=None)
def test_pauses_lose_nothing_and_every_byte_crosses_every_link_once(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    """Driven.look holds queues to what is in them after every instant, so none is negative."""
    done = _driven(drawn, packets, messages)
    counts = done.network.counts
    assert counts.drops.sum() == counts.repeated.sum() == 0
    expected: Counter[int] = Counter()
    for _, number, size in messages:
        count = max(1, -(-size // packets.mtu_bytes))
        for link in drawn[1][number % len(drawn[1])]:
            expected[link] += max(size + count * packets.header_bytes, 1)
    assert {link: total for link, total in enumerate(counts.num_bytes.tolist()) if total} == dict(expected)
    for link, fullest in enumerate(counts.fullest.tolist()):
        assert fullest <= packets.limit(drawn[0][link], drawn[2][link])


@given(wirings(), settings_of_packets(pfc=False), _MESSAGES)
@settings(max_examples=60, deadline=None)
def test_what_is_lost_is_sent_again_until_all_is_there(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    """Every message ends, no queue is longer than its buffer, and what is lost is taken back."""
    done = _driven(drawn, packets, messages)
    counts = done.network.counts
    assert min(done.ends_ps) >= 0
    if not any(drawn[3]):  # buses pause instead
        assert counts.deepest.max() <= packets.buffer_bytes
    if counts.drops.sum():
        assert counts.repeated.sum() >= 1


@given(wirings(), settings_of_packets(), _MESSAGES)
@settings(max_examples=60, deadline=None)
def test_no_message_is_faster_than_its_slowest_link(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    bandwidths, routes, latencies, _ = drawn
    done = _driven(drawn, packets, messages)
    for (start, number, size), end in zip(messages, done.ends_ps, strict=True):
        route = routes[number % len(routes)]
        crossing = size / min(bandwidths[link] for link in route) * 1e12
        rounding = size / packets.mtu_bytes + 1
        assert end >= start + crossing * (1 - 1e-9) + sum(latencies[link] for link in route) - rounding


def test_pauses_in_a_circle_are_an_error_not_a_time() -> None:
    """Three links in a ring, each message over all of them: buffers are full of what the next link will not take."""
    packets = Packets(mtu_bytes=100, header_bytes=0, xoff_bytes=100, xon_bytes=0)
    messages = [(0, (i, (i + 1) % 3, (i + 2) % 3), 10_000) for i in range(3)]
    with pytest.raises(AssertionError, match=r"3 messages are left.*links 0, 1, 2 are paused.*PFC deadlock"):
        Driven(wiring_of([1e9] * 3, [(0, 1, 2)], [0] * 3), packets, messages)
