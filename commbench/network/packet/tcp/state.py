# SPDX-License-Identifier: Apache-2.0
"""The state of TCP connections for the compiled engine: flat records, made, made larger and read back here.

Counters and events are those of the other packets (``packet.state``), whose heap and lists serve here, too.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError
from commbench.network.base import Counted, Wiring
from commbench.network.packet.counts import NUM_COUNTS, SLICES, PacketCounts
from commbench.network.packet.state import EVENT, FREE, USED
from commbench.network.packet.tcp.settings import Tcp
from commbench.units import PS_PER_S

__all__ = ["TcpState", "build_state", "counted", "grown", "margin"]

Array = npt.NDArray[Any]

# Kinds of events, in the order of one instant.
ARRIVAL, READY, ACK_DUE, OVERDUE, WRITTEN = range(5)

UNDER_WAY, SACKED, LOST = range(3)

WINDOWS = 8  # a place in ``n`` behind those of the other packets

# Places in ``given``.
MSS, HEADER, FULL, BUFFER, OWED, ACK_PS, RTO_PS, PORT_SEGMENTS, ROOM, BURST = range(10)
CONGESTION, FIRST_WINDOW, RESTART = range(10, 13)

TCP_PACKET = np.dtype(
    [
        ("end", np.int64),
        ("arrives", np.int64),
        ("hop", np.int64),  # place in route_links of the link that it takes
        ("stream", np.int32),
        ("number", np.int32),
        ("size", np.int32),
        ("got", np.int32),
        ("beyond", np.int32),
        ("next", np.int32),
    ],
    align=True,
)

PORT = np.dtype(
    [
        ("bandwidth", np.float64),
        ("latency", np.int64),
        ("due", np.int64),
        ("held", np.int64),
        ("active", np.int32),  # queues that are not empty
        ("turn", np.int32),  # of its queues, the first that may be next
        ("wire", np.int32),
        ("wire_end", np.int32),
        ("inside", np.int8),
        ("awake", np.int8),
    ],
    align=True,
)

QUEUE = np.dtype([("deficit", np.int64), ("count", np.int64), ("head", np.int32), ("tail", np.int32)], align=True)

SEGMENT = np.dtype(
    [
        ("end", np.int64),
        ("stamp", np.int64),
        ("sent", np.int64),
        ("number", np.int32),
        ("size", np.int32),
        ("state", np.int8),
        ("early", np.int8),  # come, but not all before it
    ],
    align=True,
)

STREAM = np.dtype(
    [
        ("total", np.int64),
        ("room", np.int64),
        ("next_bytes", np.int64),
        ("acked_bytes", np.int64),
        ("stamps", np.int64),
        ("newest", np.int64),
        ("deadline", np.int64),
        ("smoothed", np.int64),
        ("sent", np.int64),
        ("in_port", np.int64),
        ("port_bytes", np.float64),
        ("got_bytes", np.int64),
        ("owed", np.int64),
        ("back", np.int32),
        ("first", np.int32),  # segment that is not acknowledged
        ("next", np.int32),
        ("pipe", np.int32),
        ("lost", np.int32),
        ("sacked", np.int32),
        ("most_out", np.int32),
        ("until", np.int32),
        ("recover", np.int32),
        ("backoff", np.int32),
        ("got", np.int32),
        ("early", np.int32),
        ("coming", np.int32),  # messages: the first not there, not written, and the last
        ("unwritten", np.int32),
        ("last", np.int32),
        ("recovering", np.int8),
        ("timed", np.int8),
        ("ack_timed", np.int8),
        ("limited", np.int8),
        ("size", np.float64),  # this and what follows is congestion.Window
        ("threshold", np.float64),
        ("most", np.float64),
        ("inflection", np.float64),
        ("reno", np.float64),
        ("epoch", np.int64),
    ],
    align=True,
)

MESSAGE = np.dtype(
    [
        ("num_bytes", np.int64),
        ("end", np.int64),
        ("stream", np.int32),
        ("slot", np.int32),
        ("after", np.int32),  # the next in its stream
        ("told", np.int32),  # Streams.written
        ("watch", np.int32),  # the other way
        ("waiting", np.int8),
    ],
    align=True,
)


class TcpState(NamedTuple):
    """The state.

    Attributes:
        n: counters, and WINDOWS: segments that all windows of congestion take together. given: what Tcp says.
        first, route_links: routes, as in Wiring. queue_of: of each of these places, the queue.
        queue_first: shape (links + 1,): a link's queues are ``queues[queue_first[l]:queue_first[l + 1]]``.
        ports, queues, streams, messages, segments, packets, events: records; messages by task.
        ring: shape (streams + 1,): a stream's segment has the place ``ring[s] + number % (ring[s + 1] - ring[s])``.
        fresh: tasks that begin at this instant; their number is ``num_fresh[0]``.
        counts, depths, changed: as in PacketState.
    """

    n: Array
    given: Array
    first: Array
    route_links: Array
    queue_of: Array
    queue_first: Array
    ports: Array
    queues: Array
    streams: Array
    messages: Array
    ring: Array
    segments: Array
    packets: Array
    events: Array
    fresh: Array
    num_fresh: Array
    counts: Array
    depths: Array
    changed: Array


def build_state(
    given: Tcp, wiring: Wiring, route_of: Array, moves: Sequence[tuple[int, int]], num_bytes: Array | None = None
) -> TcpState:
    """The state without messages.

    Raises:
        InputError: routes change.
    """
    if moves:
        raise InputError("--network packet:tcp: routes that change are not supported; give --network packet or fluid")
    assert wiring.streams is not None, "a network of connections is told which there are"
    num_links, num_streams, num_tasks = len(wiring.bandwidths), len(wiring.first) - 1, len(route_of)
    numbers = (
        *(given.mss_bytes, given.header_bytes, given.full_bytes, given.window_bytes),
        *((given.ack_segments - 1) * given.mss_bytes, given.ack_ms * 10**9, given.rto_ms * 10**9),
        *(given.port_segments, given.queue_packets, given.burst_bytes, given.number, given.first_window, given.restart),
    )
    queue_of, queue_first = _queues(given, wiring)
    queues = np.zeros(int(queue_first[-1]), dtype=QUEUE)
    queues["head"] = queues["tail"] = -1
    ring = _ring(given, wiring)
    n = np.zeros(9, dtype=np.int64)
    n[FREE], n[WINDOWS] = -1, given.first_window * num_streams
    state = TcpState(
        n=n,
        given=np.array(numbers, dtype=np.int64),
        first=np.array(wiring.first, dtype=np.int64),
        route_links=np.array(wiring.links, dtype=np.int64),
        queue_of=queue_of,
        queue_first=queue_first,
        ports=_ports(given, wiring),
        queues=queues,
        streams=_streams(given, wiring),
        messages=_messages(wiring),
        ring=ring,
        segments=np.zeros(int(ring[-1]), dtype=SEGMENT),
        packets=np.empty(0, dtype=TCP_PACKET),
        events=np.empty(2 * num_links + 2 * num_streams + num_tasks + 64, dtype=EVENT),
        fresh=np.empty(num_tasks, dtype=np.int64),
        num_fresh=np.zeros(1, dtype=np.int64),
        counts=np.zeros((NUM_COUNTS, num_links), dtype=np.int64),
        depths=np.zeros((num_links, SLICES), dtype=np.int64),
        changed=np.zeros(num_links, dtype=np.int64),
    )
    room = margin(state.given, num_links, num_streams, int(n[WINDOWS]))
    return state._replace(packets=np.empty(2 * room, dtype=TCP_PACKET))


def _queues(given: Tcp, wiring: Wiring) -> tuple[Array, Array]:
    """Of every place in the routes the number of its queue; and where those of each link begin."""
    num_links = len(wiring.bandwidths)
    if not given.fair:
        return np.array(wiring.links, dtype=np.int64), np.arange(num_links + 1)
    order = np.argsort(wiring.links, kind="stable")  # of one link by route: streams of lower numbers first
    queue_of = np.empty(len(wiring.links), dtype=np.int64)
    queue_of[order] = np.arange(len(wiring.links))
    sizes = np.bincount(wiring.links, minlength=num_links)
    return queue_of, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _ports(given: Tcp, wiring: Wiring) -> Array:
    ports = np.zeros(len(wiring.bandwidths), dtype=PORT)
    ports["bandwidth"] = wiring.bandwidths
    ports["latency"] = wiring.latencies_ps if len(wiring.latencies_ps) else 0
    ports["inside"] = wiring.inside if len(wiring.inside) else False
    ports["due"] = [-int(given.burst_bytes / bandwidth * PS_PER_S) for bandwidth in wiring.bandwidths.tolist()]
    ports["wire"] = -1
    return ports


def _streams(given: Tcp, wiring: Wiring) -> Array:
    assert wiring.streams is not None
    streams = np.zeros(len(wiring.first) - 1, dtype=STREAM)
    streams["back"] = wiring.streams.back
    streams["deadline"] = -1
    for name in ("coming", "unwritten", "last"):
        streams[name] = -1
    streams["port_bytes"] = 2.0**62
    streams["size"], streams["threshold"], streams["epoch"] = given.first_window, 2.0**30, -1
    return streams


def _messages(wiring: Wiring) -> Array:
    assert wiring.streams is not None
    told = wiring.streams.written
    messages = np.zeros(len(told), dtype=MESSAGE)
    messages["stream"], messages["told"], messages["end"] = wiring.streams.route_of, told, -1
    messages["watch"] = wiring.streams.watching
    return messages


def _ring(given: Tcp, wiring: Wiring) -> Array:
    """Room for the segments that a stream may have under way: full ones for its buffer, the last of each message."""
    assert wiring.streams is not None
    routes = wiring.streams.route_of
    messages = np.bincount(routes[routes >= 0], minlength=len(wiring.first) - 1)
    sizes = np.where(messages > 0, messages + given.window_bytes // given.mss_bytes + 2, 1)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def margin(given: Array, num_links: int, num_streams: int, windows: int) -> int:
    """Packets that may come into being in one instant: what ports let out, answers, and what takes their place.

    ``windows``: segments that all windows of congestion take together.
    """
    at_once = int(given[BURST]) // max(int(given[HEADER]), 1) + 2
    return 2 * windows + 2 * num_streams + 3 * num_links * at_once


def grown(state: TcpState) -> TcpState:
    """The same with room for twice as many packets, where it was short of it."""
    room = margin(state.given, len(state.ports), len(state.streams), int(state.n[WINDOWS]))
    if len(state.packets) - state.n[USED] < room:
        more = np.empty(max(len(state.packets), room), dtype=TCP_PACKET)
        return state._replace(packets=np.concatenate([state.packets, more]))
    return state


def counted(state: TcpState) -> Counted:
    """What happened on every link until now."""
    from commbench.network.packet.state import SHIFT

    return PacketCounts(*state.counts).as_counted(state.depths, int(state.n[SHIFT]))
