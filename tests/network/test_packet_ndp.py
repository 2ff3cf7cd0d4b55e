# SPDX-License-Identifier: Apache-2.0
"""NDP: nothing is lost, a message alone goes at line rate, an incast fills its port, and two messages share it."""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.errors import InputError
from commbench.network.packet.control import HEADERS
from commbench.network.packet.settings import Packets, parse_packets
from tests.network.packet_cases import Driven, alone_ps, settings_of_packets, wiring_of, wirings

LINE, LATENCY_PS = 12.5e9, 500_000
NDP = Packets(control="ndp", pfc=False)
FULL_PS = NDP.full_bytes * 80
_MESSAGES = st.lists(
    st.tuples(st.sampled_from((0, 0, 500, 10**6)), st.integers(0, 9), st.sampled_from((0, 1, 100, 3000, 20_000))),
    min_size=1,
    max_size=8,
)


@given(wirings(), settings_of_packets(control="ndp"), _MESSAGES)
@settings(max_examples=60, deadline=None)
def test_what_is_trimmed_is_sent_again_and_every_byte_arrives_once(drawn, packets, messages) -> None:  # type: ignore[no-untyped-def]
    """Driven.look holds queues to what is in them after every instant."""
    routes = drawn.routes
    given_to = [(start, routes[number % len(routes)], size) for start, number, size in messages]
    done = Driven(drawn.wiring(packets), packets, given_to)
    counts = done.network.counts
    numbers = [range(max(1, -(-size // packets.mtu_bytes))) for _, _, size in messages]
    sent = {(task, i) for task, some in enumerate(numbers) for i in some}
    assert {packet for packet, times in done.come.items() if times == 1} == sent
    assert sum(done.come.values()) == len(sent)
    assert counts.drops.sum() == 0
    assert counts.repeated.sum() == counts.trims.sum() == sum(done.cut)
    if not any(drawn.inside):  # buses pause instead
        assert counts.deepest.max() <= packets.queue_packets * packets.full_bytes


@given(
    st.integers(0, 300_000), st.sampled_from((1e9, 12.5e9)), st.lists(st.sampled_from((0, 700, 10**6)), min_size=1)
)
@settings(max_examples=60, deadline=None)
def test_a_message_alone_goes_at_line_rate_after_its_first_window(size: int, line: float, latencies: list[int]) -> None:
    """To the picosecond as if nobody had to ask for it: each pull is there when its packet may begin."""
    route = tuple(range(len(latencies)))
    done = Driven(wiring_of([line] * len(route), [route], latencies), NDP, [(0, route, size)])
    assert done.ends_ps == [alone_ps(size, [line] * len(route), latencies, NDP)]
    assert done.network.counts.trims.sum() == 0


@pytest.mark.parametrize("window", [1, 3])
def test_a_smaller_first_window_goes_round_once_a_round_trip(window: int) -> None:
    packets = Packets(control="ndp", pfc=False, mtu_bytes=1000, header_bytes=0, first_window=window)
    wiring = wiring_of([1e9, 1e9], [(0, 1)], [10_000_000, 10_000_000])
    done = Driven(wiring, packets, [(0, (0, 1), 30_000)])
    round_trip_ps = 4 * 10_000_000 + 2_000_000
    first_ps = 2_000_000 + 20_000_000
    assert done.ends_ps == [(30 // window - 1) * round_trip_ps + first_ps + (window - 1) * 1_000_000]


def _incast(senders: int, size: int, packets: Packets = NDP) -> Driven:
    wiring = wiring_of([LINE] * (senders + 1), [(i, senders) for i in range(senders)], [LATENCY_PS] * (senders + 1))
    return Driven(wiring, packets, [(0, (i, senders), size) for i in range(senders)])


@pytest.mark.parametrize("senders", [4, 16, 64])
def test_the_port_of_an_incast_is_never_idle(senders: int) -> None:
    """k S / C, and the headers that were left of the first windows, and a few packets."""
    size = 2**18
    done = _incast(senders, size)
    counts = done.network.counts
    trims = int(counts.trims.sum())
    whole_ps = senders * size // 4096 * FULL_PS
    headers_ps = trims * NDP.header_bytes * 80
    begins_ps = FULL_PS + 2 * LATENCY_PS
    last_ps = max(done.ends_ps)
    assert begins_ps + whole_ps <= last_ps <= begins_ps + whole_ps + headers_ps + 3 * FULL_PS
    assert last_ps < 1.04 * senders * size / LINE * 1e12 + begins_ps + 3 * FULL_PS
    assert 3 * senders < trims < 12 * senders
    assert counts.deepest[senders] == 8 * NDP.full_bytes


def test_headers_do_not_starve_packets() -> None:
    """64 senders leave more headers than the port sends: of what comes, ten of them are followed by a packet."""
    runs = [len(list(group)) for cut, group in groupby(_incast(64, 2**18).cut) if cut]
    assert max(runs) == HEADERS


def test_two_messages_share_their_receiver_although_one_has_more_under_way() -> None:
    """Pulls are sent in turn: until the first has all its n packets, the other has n as well. A far sender's first
    window is four times as long, and without turns so would be its share."""
    wiring = wiring_of([LINE] * 3, [(0, 2), (1, 2)], [10 * LATENCY_PS, LATENCY_PS, LATENCY_PS])
    size = 4096 * 400
    near, far = (Driven(wiring, NDP, [(0, (0, 2), a * size), (0, (1, 2), b * size)]) for a, b in ((3, 1), (1, 3)))
    assert near.ends_ps[1] / FULL_PS == pytest.approx(800, abs=40)
    assert far.ends_ps[0] / FULL_PS == pytest.approx(800, abs=40)


def test_what_makes_no_sense_with_ndp_or_without_is_refused() -> None:
    with pytest.raises(InputError, match=r"pfc=on: is not for packet:ndp, whose switches trim packets; leave it out"):
        parse_packets("packet:ndp,pfc=on")
    with pytest.raises(InputError, match=r"window=4096: is not for packet:ndp: give first_window"):
        parse_packets("packet:ndp,window=4K")
    with pytest.raises(InputError, match=r"first_window=3: is for packet:ndp alone; give that, or leave it out"):
        parse_packets("packet:dcqcn,first_window=3")
    with pytest.raises(InputError, match=r"queue_packets=0: must be 1 to"):
        parse_packets("packet:ndp,queue_packets=0")


@pytest.mark.parametrize("text", ["packet:ndp", "packet:ndp,first_window=30,balance=spray"])
def test_a_network_is_written_as_it_is_read(text: str) -> None:
    given_to = parse_packets(text)
    assert sorted(given_to.text.split(",")) == sorted(text.split(","))
    assert parse_packets(given_to.text) == given_to
