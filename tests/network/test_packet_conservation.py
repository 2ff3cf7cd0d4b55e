# SPDX-License-Identifier: Apache-2.0
"""What holds in every packet network: bytes arrive once, queues are what is in them, pauses lose nothing."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.network.packet.settings import Packets
from tests.network.packet_cases import Driven, settings_of_packets, wiring_of, wirings


def _messages(*sizes: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    one = st.tuples(st.sampled_from((0, 0, 500, 10**6)), st.integers(0, 9), st.sampled_from((0, 1, 100, 3000, *sizes)))
    return st.lists(one, min_size=1, max_size=8)


_MESSAGES = _messages(20_000)


def _driven(drawn, packets: Packets, messages) -> Driven:  # type: ignore[no-untyped-def]
    routes = drawn.routes
    given_to = [(start, routes[number % len(routes)], size) for start, number, size in messages]
    return Driven(drawn.wiring(packets), packets, given_to)


@given(wirings(), settings_of_packets(pfc=True), _MESSAGES)
@settings(max_examples=60, deadline=None)
def test_pauses_lose_nothing_and_every_byte_crosses_every_link_once(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    """Driven.look holds queues to what is in them after every instant, so none is negative."""
    done = _driven(drawn, packets, messages)
    counts = done.network.counts
    assert counts.drops.sum() == counts.repeated.sum() == 0
    expected, most, total = Counter[int](), Counter[int](), 0
    for message, (_, number, size) in enumerate(messages):
        count = max(1, -(-size // packets.mtu_bytes))
        assert [done.come[message, i] for i in range(count)] == [1] * count
        wire = max(size + count * packets.header_bytes, 1)
        for layer in drawn.layers[number % len(drawn.layers)]:
            expected[layer[0]] += wire
            most.update(dict.fromkeys(layer, wire))
            total += wire
    found = {link: some for link, some in enumerate(counts.num_bytes.tolist()) if some}
    assert sum(found.values()) == total
    assert all(some <= most[link] for link, some in found.items())
    if packets.balance == "flow":
        assert found == dict(expected)
        assert not counts.reordered.any()
    for link, fullest in enumerate(counts.fullest.tolist()):
        assert fullest <= packets.limit(drawn.bandwidths[link], drawn.latencies[link])


@given(wirings(), settings_of_packets(pfc=False), _MESSAGES)
@settings(max_examples=60, deadline=None)
def test_what_is_lost_is_sent_again_until_all_is_there(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    """Every message ends, no queue is longer than its buffer, and what is lost is taken back."""
    done = _driven(drawn, packets, messages)
    counts = done.network.counts
    assert min(done.ends_ps) >= 0
    if not any(drawn.inside):  # buses pause instead
        assert counts.deepest.max() <= packets.buffer_bytes
    if counts.drops.sum():
        assert counts.repeated.sum() >= 1


@given(wirings(), settings_of_packets(), _messages())
@settings(max_examples=60, deadline=None)
def test_no_message_is_faster_than_its_slowest_link(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    done = _driven(drawn, packets, messages)
    balanced = packets.balance != "flow"
    for (start, number, size), end in zip(messages, done.ends_ps, strict=True):
        layers = [layer if balanced else layer[:1] for layer in drawn.layers[number % len(drawn.layers)]]
        crossing = size / min(sum(drawn.bandwidths[link] for link in layer) for layer in layers) * 1e12
        rounding = size / packets.mtu_bytes + 1
        latency_ps = sum(min(drawn.latencies[link] for link in layer) for layer in layers)
        assert end >= start + crossing * (1 - 1e-9) + latency_ps - rounding


def test_pauses_in_a_circle_are_an_error_not_a_time() -> None:
    """Three links in a ring, each message over all of them: buffers are full of what the next link will not take."""
    packets = Packets(mtu_bytes=100, header_bytes=0, xoff_bytes=100, xon_bytes=0)
    messages = [(0, (i, (i + 1) % 3, (i + 2) % 3), 10_000) for i in range(3)]
    with pytest.raises(AssertionError, match=r"3 messages are left.*links 0, 1, 2 are paused.*PFC deadlock"):
        Driven(wiring_of([1e9] * 3, [links for _, links, _ in messages], [0] * 3), packets, messages)
