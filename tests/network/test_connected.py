# SPDX-License-Identifier: Apache-2.0
"""Connections of the fluid model: by hand, and in both engines on random networks."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.engine import compiled, reference
from commbench.engine.setting import Paths, Setting
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.network.base import Streams
from commbench.network.connected.settings import Connected, parse_connected
from commbench.network.models import FLUID, connected_model, get_network
from commbench.program.flat import COUPLED
from tests.engine import engine_cases as cases
from tests.network.tcp_cases import tcp_cases

RATE = 1e9  # bytes/s: a nanosecond for each byte
WIRE = Connected(window_bytes=10_000, packet_bytes=1000, burst_bytes=0)
ENGINES = pytest.mark.parametrize("engine", [reference, compiled])


def run(
    given: Connected,
    messages: list[tuple[int, int]],
    routes: list[list[int]],
    engine=reference,  # type: ignore[no-untyped-def]
    watched: tuple[int, ...] = (),
    num_links: int = 4,
) -> Trace:
    """Messages (route, bytes) that begin at once; of routes 2 i and 2 i + 1 each is the other's way back. ``watched``:
    messages that have another task each, which ends when they are written."""
    told = [*range(len(messages)), *watched]
    program = cases.program_of([(1, 0, 1, messages[each][1], 0, ()) for each in told])
    kinds = np.where(np.arange(len(told)) < len(messages), program.kind, COUPLED)
    route_of = np.array([messages[each][0] for each in told])
    written = np.array([-1] * len(messages) + list(watched))
    paths = Paths.of_lists([RATE] * num_links, routes, [0] * len(routes), route_of.tolist())
    paths = replace(paths, streams=Streams(np.arange(len(routes)) ^ 1, route_of, written))
    return engine.run(replace(program, kind=kinds), Setting(paths), network=connected_model(given))


def ends_ns(trace: Trace) -> list[float]:
    return [end / 1000 for end in trace.end_ps.tolist()]


@ENGINES
def test_messages_of_a_stream_come_in_order_each_at_the_full_rate(engine) -> None:  # type: ignore[no-untyped-def]
    trace = run(WIRE, [(0, 4000), (0, 1000), (0, 2000)], [[0, 1], [2, 3]], engine)
    assert ends_ns(trace) == [4000, 5000, 7000]


@ENGINES
def test_a_notice_takes_no_time_but_waits_for_what_was_sent_before(engine) -> None:  # type: ignore[no-untyped-def]
    trace = run(WIRE, [(0, 4000), (0, 0), (1, 0), (1, 500)], [[0], [1]], engine)
    assert ends_ns(trace) == [4000, 4000, 0, 500]


@ENGINES
def test_each_port_serves_its_own_queue(engine) -> None:  # type: ignore[no-untyped-def]
    """Streams 0 -> 2 and 0 -> 3 share link 0, 1 -> 3 has link 1 and shares link 3: as much as a window takes, ports do
    not wait for each other. Max-min would hold the second stream to a half on link 3 too."""
    routes = [[0, 2], [4], [0, 3], [5], [1, 3], [6]]
    messages = [(0, 3000), (2, 3000), (4, 9000)]
    trace = run(WIRE, messages, routes, engine, num_links=7)
    assert ends_ns(trace) == [6000, 6000, 12_000]
    beyond = run(replace(WIRE, window_bytes=1), messages, routes, engine, num_links=7)
    assert ends_ns(beyond)[2] == pytest.approx(12_000, abs=4)  # work is kept either way


@ENGINES
def test_beyond_its_window_a_message_goes_as_fast_as_its_slowest_share(engine) -> None:  # type: ignore[no-untyped-def]
    """50 kB beside one of 20 kB on the second link only: the first 40 kB as one flow, at half the rate until the other
    has passed."""
    routes = [[0, 2], [4], [1, 2], [5]]
    trace = run(WIRE, [(0, 50_000), (2, 20_000)], routes, engine, num_links=6)
    assert ends_ns(trace)[0] == pytest.approx(70_000, abs=2)


@ENGINES
def test_a_message_is_written_when_the_window_takes_what_is_left(engine) -> None:  # type: ignore[no-untyped-def]
    """15 kB are written when 5 are gone; 2 kB behind them when it is their turn; 3 kB on another stream at once."""
    trace = run(WIRE, [(0, 15_000), (0, 2000), (2, 3000)], [[0], [1], [2], [3]], engine, watched=(0, 1, 2))
    assert ends_ns(trace) == [15_000, 17_000, 3000, 5000, 15_000, 0]


@ENGINES
def test_what_has_come_makes_room_in_the_window(engine) -> None:  # type: ignore[no-untyped-def]
    """9 kB have come when 9 kB and 900 bytes are sent: the window takes both, so the second is written at once."""
    rows = [(1, 0, 1, 9000, 0, ()), (0, 0, -1, 0, 500_000, (0,)), (1, 0, 1, 9000, 0, (1,)), (1, 0, 1, 900, 0, (1,))]
    program = cases.program_of([*rows, (1, 0, 1, 900, 0, (1,))])
    kinds, route_of = program.kind.copy(), np.array([0, -1, 0, 0, 0])
    kinds[4] = COUPLED
    paths = Paths.of_lists([RATE] * 2, [[0], [1]], [0, 0], route_of.tolist())
    paths = replace(paths, streams=Streams(np.array([1, 0]), route_of, np.array([-1, -1, -1, -1, 3])))
    trace = engine.run(replace(program, kind=kinds), Setting(paths), network=connected_model(WIRE))
    assert ends_ns(trace) == [9000, 9500, 18_500, 19_400, 9500]


@ENGINES
def test_buckets_let_go_what_they_saved_and_the_last_packet(engine) -> None:  # type: ignore[no-untyped-def]
    """A last packet of 300 of 7300; the message behind it pays that, and owes its own 600. Where 400 ns pass before the
    second these 300 are paid and 100 saved; where 5000 pass, 2500."""
    given = replace(WIRE, burst_bytes=2500)
    assert ends_ns(run(given, [(0, 7300)], [[0], [1]], engine)) == [7300 - 300]
    assert ends_ns(run(given, [(0, 7300), (0, 1600)], [[0], [1]], engine))[1] == 7300 + 1600 - 600
    assert ends_ns(run(given, [(0, 1000)], [[0], [1]], engine)) == [0]
    for idle_ns, saved in ((400, 100), (5000, 2500)):
        rows = [(1, 0, 1, 7300, 0, ()), (0, 0, -1, 0, idle_ns * 1000, (0,)), (1, 0, 1, 7300, 0, (1,))]
        paths = Paths.of_lists([RATE] * 2, [[0], [1]], [0, 0], [0, -1, 0])
        streams = Streams(np.array([1, 0]), np.array([0, -1, 0]), np.full(3, -1))
        program, setting = cases.program_of(rows), Setting(replace(paths, streams=streams))
        trace = engine.run(program, setting, network=connected_model(given))
        assert ends_ns(trace)[2] == 7000 + idle_ns + 7300 - saved - 300


def test_both_engines_give_the_same_picoseconds() -> None:
    seen: Counter[str] = Counter()

    windows, packets, bursts = ((1, 100, 5000, 10**6), (50, 1514), (0, 1, 3028))

    @given(tcp_cases(), st.builds(Connected, *map(st.sampled_from, (windows, packets, bursts))))
    @settings(max_examples=300, deadline=None)
    def compare(drawn: tuple[cases.Case, object], how: Connected) -> None:
        case, _ = drawn
        expected = cases.counted_outcome(reference, case, connected_model(how))[:3]  # times; sharings are counted apart
        assert cases.counted_outcome(compiled, case, connected_model(how))[:3] == expected
        seen["buckets" if how.burst_bytes else "wires"] += 1
        seen["ran" if len(expected) > 1 else "refused"] += 1

    compare()
    assert min(seen[name] for name in ("buckets", "wires", "ran")) >= 30, seen


def test_routes_that_change_are_refused() -> None:
    paths = Paths.of_lists([RATE] * 2, [[0], [1]], [0, 0], [0])
    paths = replace(paths, streams=Streams(np.array([1, 0]), np.array([0]), np.array([-1])))
    model = connected_model(WIRE)
    with pytest.raises(InputError, match="--library ideal"):
        model.make(paths.wiring).move(0, ())
    with pytest.raises(InputError, match="--library ideal"):
        model.kernel().build(paths.wiring, np.array([0]), [(0, 1)])


def test_its_name_is_read_back_and_is_no_word_of_users() -> None:
    assert parse_connected(WIRE.text) == WIRE
    assert get_network(WIRE.text).connected
    assert get_network(WIRE.text).name == FLUID.name
    for name in ("fluid", "fluid:tcp", "fluid:window=1", "fluid:window=x,packet=1,burst=1"):
        assert parse_connected(name) is None
    with pytest.raises(InputError, match="'fluid:tcp' is unknown"):
        get_network("fluid:tcp")
