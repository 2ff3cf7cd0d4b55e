# SPDX-License-Identifier: Apache-2.0
"""TCP connections against closed forms and by hand: headers, windows, buckets, turns, order, losses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commbench.cli.main import app
from commbench.engine import compiled, reference
from commbench.engine.setting import Change, Paths, Setting, What
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.network.base import Streams
from commbench.network.models import get_network, tcp_model
from commbench.network.packet.tcp.congestion import BETA, Window
from commbench.network.packet.tcp.settings import CUBIC, RENO, Tcp, parse_tcp
from commbench.program.flat import COUPLED, FlatProgram
from tests.engine import engine_cases as cases

RATE = 1e9  # bytes/s: a nanosecond for each byte
PLAIN = Tcp(mss_bytes=1000, header_bytes=50, window_bytes=10**6, first_window=1000, port_segments=1000)
ENGINES = (reference, compiled)


def run(
    given: Tcp,
    messages: list[tuple[int, int]],
    routes: list[list[int]],
    latencies_ps: tuple[int, ...] = (0,) * 4,
    watched: tuple[int, ...] = (),
    engine=reference,  # type: ignore[no-untyped-def]
    rates: tuple[float, ...] = (RATE,) * 4,
) -> Trace:
    """Messages (route, bytes) that begin at once; of routes 2 i and 2 i + 1 each is the other's way back. ``watched``:
    messages that have another task each, which ends when they are written."""
    told = [*range(len(messages)), *watched]
    rows = [(1, 0, 1, messages[each][1], 0, ()) for each in told]
    program: FlatProgram = cases.program_of(rows)
    kinds = np.where(np.arange(len(told)) < len(messages), program.kind, COUPLED)
    route_of = np.array([messages[each][0] for each in told])
    written = np.array([-1] * len(messages) + list(watched))
    paths = Paths.of_lists(list(rates), routes, [0] * len(routes), route_of.tolist())
    streams = Streams(np.arange(len(routes)) ^ 1, route_of, written)
    paths = replace(paths, link_latencies_ps=np.array(latencies_ps, dtype=np.int64), streams=streams)
    return engine.run(replace(program, kind=kinds), Setting(paths), network=tcp_model(given))


def ends_ns(trace: Trace) -> list[float]:
    return [end / 1000 for end in trace.end_ps.tolist()]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_message_alone_takes_its_packets_and_one_more_link(engine) -> None:  # type: ignore[no-untyped-def]
    """Three full packets over two wires of 1 and 2 us: all cross the first, the last one the second."""
    trace = run(PLAIN, [(0, 3000)], [[0, 1], [2, 3]], (10**6, 2 * 10**6, 0, 0), engine=engine)
    assert ends_ns(trace) == [3 * 1050 + 1000 + 1050 + 2000]


def test_a_window_is_waited_for() -> None:
    """One segment a round trip: crossing, 1 us there, the acknowledgement, 1 us back."""
    given = replace(PLAIN, first_window=1, congestion="reno", ack_segments=1)
    trace = run(replace(given, window_bytes=1000), [(0, 4000)], [[0], [1]], (10**6, 10**6, 0, 0))
    assert ends_ns(trace) == [3 * (1050 + 1000 + 50 + 1000) + 1050 + 1000]


def test_slow_start_doubles() -> None:
    """1, 2, 4 and 8 segments in four round trips, as the first of each is acknowledged."""
    given = replace(PLAIN, first_window=1, ack_segments=1)
    latency_ps = 10**9
    trace = run(given, [(0, 15_000)], [[0], [1]], (latency_ps, latency_ps, 0, 0))
    round_trip_ns = 2 * latency_ps / 1000 + 1050 + 50
    assert ends_ns(trace)[0] == pytest.approx(3 * round_trip_ns + latency_ps / 1000 + 8 * 1050, rel=1e-9)


def test_a_bucket_lets_out_what_it_saved_and_one_packet_more() -> None:
    """Two packets were saved up, a third goes on credit; the fourth waits until that is paid for."""
    given = replace(PLAIN, burst_bytes=2100)
    assert ends_ns(run(given, [(0, 3000)], [[0], [1]])) == [0]
    assert ends_ns(run(given, [(0, 4000)], [[0], [1]])) == [1050]
    assert ends_ns(run(given, [(0, 6000)], [[0], [1]])) == [3150]


def test_fair_queues_take_turns_by_bytes() -> None:
    """A stream of full packets and one of small ones share a port: each gets half of the bytes, not of packets."""
    given = replace(PLAIN, fair=True, burst_bytes=1)
    small = [(2, 50)] * 400  # 100 bytes each with its header
    trace = run(given, [(0, 200_000), *small], [[0], [1], [0], [1]])
    both, first = ends_ns(trace)[0], ends_ns(trace)[-1]
    assert first == pytest.approx(2 * 400 * 100, rel=0.02)
    assert both == pytest.approx(200 * 1050 + 400 * 100, rel=0.01)


def test_two_streams_share_a_port_equally() -> None:
    given = replace(PLAIN, fair=True, burst_bytes=1)
    one, other = ends_ns(run(given, [(0, 100_000), (2, 100_000)], [[0], [1], [0], [1]]))
    assert abs(one - other) <= 1050
    assert max(one, other) == pytest.approx(2 * 100 * 1050, rel=0.02)


def test_messages_of_a_connection_come_in_order() -> None:
    trace = run(PLAIN, [(0, 5000), (0, 10), (0, 2000)], [[0], [1]])
    ends = ends_ns(trace)
    assert ends == [5 * 1050, 5 * 1050 + 60, 5 * 1050 + 60 + 2 * 1050]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_message_is_written_when_the_buffer_has_room(engine) -> None:  # type: ignore[no-untyped-def]
    """What fits the buffer is written at once; a longer one when enough of it was acknowledged."""
    given = replace(PLAIN, window_bytes=9000, ack_segments=1)
    trace = run(given, [(0, 9000), (0, 1000)], [[0], [1]], watched=(0, 1), engine=engine)
    first, second = ends_ns(trace)[2:]
    assert first == 0
    assert second == 3 * 1050 + 50  # 1000 bytes are free earlier, but the writer is woken when a third of the buffer is


def test_acknowledgements_are_packets_and_ride_on_data() -> None:
    """One for two segments where nothing goes back; none where data does."""
    one_way = run(PLAIN, [(0, 100_000)], [[0], [1]])
    assert one_way.counted["packets"].tolist()[:2] == [100, 50]
    exchange = run(replace(PLAIN, port_segments=1), [(0, 100_000), (1, 100_000)], [[0], [1]])
    assert max(exchange.counted["packets"].tolist()[:2]) <= 102


@pytest.mark.parametrize("congestion", ["reno", "cubic"])
def test_what_is_lost_is_sent_again(congestion: str) -> None:
    """A queue of 20 packets before a link of a tenth: every byte comes, and about as fast as the link allows."""
    given = replace(PLAIN, congestion=congestion, queue_packets=20, first_window=60, ack_segments=1)
    routes = [[0, 1], [2, 3]]
    trace = run(given, [(0, 1_000_000)], routes, (10**6,) * 4, rates=(RATE, RATE / 10, RATE, RATE))
    assert trace.counted["drops"][1] > 0
    assert trace.counted["repeated"][0] == trace.counted["drops"].sum()
    assert trace.finish_ps == pytest.approx(1000 * 10_500 * 1000, rel=0.15)


def test_a_lost_last_packet_waits_for_the_timer() -> None:
    """Two wait, the third finds no room: nothing later comes that could tell of the loss."""
    given = replace(PLAIN, queue_packets=2, rto_ms=7)
    trace = run(given, [(0, 3000)], [[0, 1], [2, 3]], rates=(RATE, RATE / 10, RATE, RATE))
    assert trace.counted["drops"].sum() == 1
    assert 7e6 < ends_ns(trace)[0] < 7e6 + 200_000


def test_the_timer_counts_from_the_last_news() -> None:
    trace = run(replace(PLAIN, rto_ms=1, window_bytes=50_000), [(0, 5_000_000)], [[0], [1]])
    assert trace.finish_ps > 5e9
    assert not trace.counted["repeated"].any()


def test_windows_by_hand() -> None:
    reno = Window(RENO, 20.0)
    reno.cut(timeout=False)
    assert (reno.size, reno.threshold) == (10.0, 10.0)
    reno.grow(10, 0)
    assert reno.size == 11.0  # a segment a round trip
    reno.cut(timeout=True)
    assert (reno.size, reno.threshold) == (1.0, 5.5)
    reno.grow(10, 0)
    assert reno.size == 5.5
    cubic = Window(CUBIC, 100.0)
    cubic.cut(timeout=False)
    assert cubic.size == pytest.approx(100 * BETA)
    cubic.grow(1, 0)
    inflection_ps = round((30 / 0.4) ** (1 / 3) * 1e12)  # K of RFC 9438: back where the loss was
    for percent in range(1, 101):
        for _ in range(10):
            cubic.grow(1, inflection_ps * percent // 100)
    assert cubic.size == pytest.approx(100.0, rel=0.02)


def test_a_window_is_used_while_it_held_the_sender_back_or_may_double() -> None:
    """Linux's tcp_is_cwnd_limited: in slow start up to twice what was under way in the last round trip."""
    window = Window(RENO, 10.0)
    window.note(first=0, following=5, full=False)
    assert not window.used  # 10 are not less than twice 5
    window.note(first=0, following=6, full=False)
    assert window.used
    window.threshold = 8.0
    assert not window.used
    window.note(first=2, following=12, full=True)
    assert window.used
    window.note(first=3, following=5, full=False)  # the same round trip
    assert window.used
    window.note(first=12, following=14, full=False)
    assert not window.used


def test_a_host_queues_a_millisecond_of_the_estimated_rate() -> None:
    """2^-10 s of twice (later 1.2 times) the window per round trip; before any round trip was measured without end."""
    window = Window(RENO, 36.0)
    assert window.in_port_bytes(1448, 4) > 1e15
    window.smoothed_ps = 11_800_000_000
    assert window.in_port_bytes(1448, 4) == pytest.approx(2 * 36 * 1448 / 11.8e-3 / 1024)
    window.threshold = 40.0
    assert window.in_port_bytes(1448, 50) == pytest.approx(1.2 * 50 * 1448 / 11.8e-3 / 1024)


def test_the_connection_that_began_first_keeps_more_of_its_hosts_queue() -> None:
    """As ss tells of Linux: with a window of 36 segments four wait in the host's queue, with one of 20 two. Equal
    shares would end within a packet of each other."""
    given = replace(PLAIN, mss_bytes=1448, header_bytes=66, first_window=10, port_segments=2, ack_segments=2)
    slow = 10e6 / 8
    begins = [(0, 400_000), (2, 400_000), (4, 400_000)]
    routes = [[0, 1], [2, 3], [0, 4], [5, 3], [0, 6], [7, 3]]
    trace = run(given, begins, routes, (0,) * 8, rates=(slow, *(RATE,) * 7))
    first, *others = ends_ns(trace)
    assert max(others) > 1.1 * first


def test_a_window_rests_while_nothing_is_sent() -> None:
    """Half of it for each time-out, down to the first window (RFC 5681, section 4.1); the threshold stays."""
    window = Window(RENO, 100.0)
    window.rest(idle_ps=200 * 10**9, timeout_ps=200 * 10**9, first_window=10)
    assert window.size == 100.0
    window.rest(idle_ps=500 * 10**9, timeout_ps=200 * 10**9, first_window=10)
    assert window.size == 25.0
    window.rest(idle_ps=5_000 * 10**9, timeout_ps=200 * 10**9, first_window=10)
    assert (window.size, window.threshold) == (10.0, 2.0**30)


def test_settings_are_read_and_written() -> None:
    given = parse_tcp("packet:tcp,congestion=reno,window=128K,fair=on,burst=3028")
    assert (given.congestion, given.window_bytes, given.fair, given.burst_bytes) == ("reno", 131072, True, 3028)
    assert parse_tcp(given.text) == given
    assert get_network("packet:tcp").name == "packet:tcp"
    for text, words in (
        ("packet:tcp,mtu=9", "'mtu=9' is not key=value; keys: congestion, mss"),
        ("packet:tcp,congestion=bbr", "congestion=bbr is unknown; known: reno, cubic"),
        ("packet:tcp,window=1", "window=1: must be 1,448 to"),
        ("packet:tcp,fair=1", "must be on or off"),
    ):
        with pytest.raises(InputError, match=words):
            get_network(text)


@pytest.mark.parametrize("engine", ENGINES)
def test_routes_that_change_are_refused(engine) -> None:  # type: ignore[no-untyped-def]
    paths = Paths.of_lists([RATE, RATE], [[0], [1]], [0, 0], [0])
    paths = replace(paths, streams=Streams(np.array([1, 0]), np.array([0]), np.array([-1])))
    setting = Setting(paths, changes=(Change(10, What.ROUTE, 0, 1),))
    with pytest.raises(InputError, match="routes that change are not supported"):
        engine.run(cases.program_of([(1, 0, 1, 10**6, 0, ())]), setting, network=tcp_model(PLAIN))


def test_what_has_no_connections_is_refused() -> None:
    script = Path(__file__).parents[2] / "sims/spine-link-down.yaml"
    for arguments, words in (
        (f"-t fat-tree-16 --scenario {script}", "packet:tcp takes no scenario: give --network packet, or fluid"),
        ("-t dgx-h100 -a nvls", "switches that add have no connections: give --network packet, or fluid"),
    ):
        with pytest.raises(InputError, match=words):
            app(
                f"sim all-reduce -b 1K -e 1K --network packet:tcp {arguments}".split(),
                standalone_mode=False,
            )
