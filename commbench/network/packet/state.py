# SPDX-License-Identifier: Apache-2.0
"""The packet network's state for the compiled engine: flat records, made, made larger and read back here.

Memory: 288 bytes per task, 736 per link, 64 per packet that is under way, 24 per event. What is under way is not known
beforehand, so packets and events are given more room when they need it, between two instants.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.network.base import Counted, Wiring
from commbench.network.packet.counts import NUM_COUNTS, SLICES, PacketCounts
from commbench.network.packet.settings import Packets
from commbench.routing.ways import WayGraph

__all__ = ["BEGIN", "PacketState", "build_state", "counted", "grown", "stuck"]

Array = npt.NDArray[Any]

# Kinds of events, in the order of one instant; BEGIN is for the asking, after all the others.
SENT, SIGNAL, ARRIVAL, PACE, ANSWER, PULL, WAKE, TIMEOUT, BEGIN = range(9)

KIND_BITS = 59
"""Bits of an event's number; its kind stands above them."""

ANSWER_BITS = 28
"""Bits of a packet's number in that of an answer; its task stands above them."""

IDLE, IN_TURN, ASLEEP = range(3)

# Counters. WORK: events handled, and a leap where arrays must grow. LATE: 1 once a time passed the end of 64 bits.
# SHIFT: see Depths.
WORK, EVENTS, FREE, USED, EAGER, LATE, FLOWS, SHIFT = range(8)

LEAP = 2**40

# Rows of ``counts``, as PacketCounts has its fields.
PACKETS, NUM_BYTES, JOINED, MARKS, DROPS, TRIMS, PAUSES, PAUSED_PS, REPEATED, REORDERED, DEEPEST, FULLEST = range(
    NUM_COUNTS
)

# Places in ``given``.
MTU, HEADER, FULL, LOSSLESS, XOFF, XON, ECN_MIN, ECN_MAX, RTO_PS, SEED, CONTROL, ANSWERS, WINDOW = range(13)
BALANCE, GAP_PS, FIRST_WINDOW = range(13, 16)

EVENT = np.dtype([("time", np.int64), ("key", np.int64), ("packet", np.int32)], align=True)

PACKET = np.dtype(
    [  # a packet, and after its arrival the answer to it
        ("sent", np.int64),  # ps
        ("arrives", np.int64),
        ("back", np.int64),  # latency of the links that it has crossed
        ("place", np.int32),  # in way_links, of the link that it takes
        ("path", np.int32),  # what is left of its path number
        ("flow", np.int32),
        ("number", np.int32),
        ("via", np.int32),  # the link by which it came into its queue, -1 for none
        ("size", np.int32),
        ("got", np.int32),
        ("next", np.int32),  # in its queue, on its wire, or in the list of free ones
        ("marked", np.int8),
        ("again", np.int8),
        ("notice", np.int8),
        ("trimmed", np.int8),
    ],
    align=True,
)

LINK = np.dtype(
    [
        ("bandwidth", np.float64),
        ("latency", np.int64),
        ("limit", np.int64),
        ("room", np.int64),
        ("held", np.int64),
        ("arrived", np.int64),
        ("since", np.int64),  # paused, ps
        ("pull_due", np.int64),  # when the next pull of the receivers behind it may go, ps
        ("queue", np.int32),  # heads and tails of lists: packets that wait, packets on the wire, flows that may send,
        ("queue_end", np.int32),
        ("wire", np.int32),
        ("wire_end", np.int32),
        ("turn", np.int32),
        ("turn_end", np.int32),
        ("headers", np.int32),  # ... headers that wait, and flows that pulls wait for
        ("headers_end", np.int32),
        ("pulls", np.int32),
        ("pulls_end", np.int32),
        ("in_row", np.int32),  # headers since the last whole packet
        ("sending", np.int32),  # bytes of the packet in sending, 0 if none is, and the link that it came by
        ("sending_via", np.int32),
        ("inside", np.int8),
        ("pauses", np.int8),
        ("own_last", np.int8),
        ("paused", np.int8),
        ("told", np.int8),
        ("pulling", np.int8),  # whether its next pull is an event
        ("eager", np.int8),
    ],
    align=True,
)

FLOW = np.dtype(
    [
        ("num_bytes", np.int64),
        ("ready", np.int64),
        ("deadline", np.int64),
        ("noticed", np.int64),
        ("departed", np.int64),  # the last packet of the flowlet
        ("packets", np.int32),
        ("next", np.int32),
        ("acked", np.int32),
        ("got", np.int32),
        ("latest", np.int32),  # highest number of a packet that has come
        ("path", np.int32),  # of the flowlet
        ("slot", np.int32),
        ("route", np.int32),
        ("after", np.int32),  # in the turn of its link
        ("trimmed", np.int32),  # this and what follows is NDP; see under_way.PacketFlow
        ("trimmed_end", np.int32),
        ("credit", np.int32),
        ("again", np.int32),
        ("asked", np.int32),
        ("pulls", np.int32),
        ("headers", np.int32),
        ("after_pull", np.int32),  # in the turn for pulls
        ("state", np.int8),
        ("live", np.int8),
        ("complained", np.int8),
        ("limited", np.int8),  # this and what follows is congestion control; see control.Dcqcn and control.Swift
        ("line", np.float64),
        ("rate", np.float64),
        ("target", np.float64),
        ("alpha", np.float64),
        ("alpha_due", np.int64),
        ("timer_due", np.int64),
        ("bytes_left", np.int64),
        ("by_time", np.int64),
        ("by_bytes", np.int64),
        ("window", np.float64),
        ("most", np.float64),
        ("target_ps", np.int64),
        ("round_trip", np.int64),
        ("cut", np.int64),
    ],
    align=True,
)


class PacketState(NamedTuple):
    """The state.

    Attributes:
        n: counters. given, ecn_share: what Packets says.
        first, route_links: routes, as in Wiring. back: latency of the way back of every route, ps. pulled: the
            link at whose rate its receiver sends pulls.
        way_first, way_links, way_after, begins: as WayGraph has them. paths: of every route, how
            many its fan-outs make.
        links, flows, packets, events: records; flows by task, events a heap by (time, key).
        eager: links that may have something to send at this instant.
        counts: shape (NUM_COUNTS, links). depths: shape (links, slices of time), see Depths; changed: when the bytes
            before each link last did, ps.
    """

    n: Array
    given: Array
    ecn_share: float
    first: Array
    route_links: Array
    back: Array
    pulled: Array
    way_first: Array
    way_links: Array
    way_after: Array
    begins: Array
    paths: Array
    links: Array
    flows: Array
    packets: Array
    events: Array
    eager: Array
    counts: Array
    depths: Array
    changed: Array


def build_state(given: Packets, wiring: Wiring, route_of: Array, moves: Sequence[tuple[int, int]]) -> PacketState:
    """The state without messages. ``moves`` need no room of their own."""
    num_links, num_tasks = len(wiring.bandwidths), len(route_of)
    latencies = wiring.latencies_ps if len(wiring.latencies_ps) else np.zeros(num_links, dtype=np.int64)
    links = np.zeros(num_links, dtype=LINK)
    links["bandwidth"], links["latency"] = wiring.bandwidths, latencies
    links["limit"] = [given.limit(*pair) for pair in zip(wiring.bandwidths.tolist(), latencies.tolist(), strict=True)]
    links["room"] = wiring.buffers_bytes if len(wiring.buffers_bytes) else given.room_bytes
    links["inside"] = wiring.inside if len(wiring.inside) else False
    links["pauses"] = links["inside"] | given.pfc
    for name in ("queue", "wire", "turn", "headers", "pulls"):
        links[name] = -1
    total = np.concatenate([[0], np.cumsum(latencies[wiring.links])])
    n = np.zeros(8, dtype=np.int64)
    n[FREE] = -1
    numbers = (
        *(given.mtu_bytes, given.header_bytes, given.full_bytes, given.lossless, given.xoff_bytes, given.xon_bytes),
        *(given.ecn_min_bytes, given.ecn_max_bytes, given.rto_us * 1_000_000, given.seed, given.number, given.answers),
        *(given.window_packets, given.number_of_balance, given.flowlet_us * 1_000_000, given.first_window),
    )
    ways = wiring.ways or WayGraph.single(wiring.first, wiring.links)
    return PacketState(
        n=n,
        given=np.array(numbers, dtype=np.int64),
        ecn_share=float(given.ecn_share),
        first=np.array(wiring.first, dtype=np.int64),
        route_links=np.array(wiring.links, dtype=np.int64),
        back=(total[wiring.first[1:]] - total[wiring.first[:-1]]).astype(np.int64),
        pulled=_pulled(wiring, links["inside"]),
        way_first=np.array(ways.first, dtype=np.int64),
        way_links=np.array(ways.links, dtype=np.int64),
        way_after=np.array(ways.after, dtype=np.int64),
        begins=np.array(ways.start, dtype=np.int64),
        paths=np.append(ways.fan_outs(), 1)[ways.start],
        links=links,
        flows=np.zeros(num_tasks, dtype=FLOW),
        packets=np.empty(4 * num_links + 64, dtype=PACKET),
        events=np.empty(16 * num_links + 4 * num_tasks + 64, dtype=EVENT),
        eager=np.empty(num_links, dtype=np.int64),
        counts=np.zeros((NUM_COUNTS, num_links), dtype=np.int64),
        depths=np.zeros((num_links, SLICES), dtype=np.int64),
        changed=np.zeros(num_links, dtype=np.int64),
    )


def _pulled(wiring: Wiring, inside: Array) -> Array:
    """Of every route the last link that is not inside a host, else the last; -1 of empty ones."""
    places = np.arange(len(wiring.links))
    outside = np.maximum.accumulate(np.where(inside[wiring.links] == 0, places, -1)) if len(places) else places
    first, last = wiring.first[:-1], wiring.first[1:] - 1
    found = np.append(outside, -1)[last]
    found = np.where(found >= first, found, last)
    return np.where(last >= first, np.append(wiring.links, -1)[found], -1).astype(np.int64)


def grown(state: PacketState) -> PacketState:
    """The same with room for twice as much, where it was short of it."""
    num_links, num_tasks = len(state.links), len(state.flows)
    packets, events = state.packets, state.events
    if len(packets) - state.n[USED] < 2 * num_links:
        packets = np.concatenate([packets, np.empty_like(packets)])
    if len(events) - state.n[EVENTS] < 12 * num_links + 4 * num_tasks:
        events = np.concatenate([events, np.empty_like(events)])
    return state._replace(packets=packets, events=events)


def counted(state: PacketState) -> Counted:
    """What happened on every link until now."""
    return PacketCounts(*state.counts).as_counted(state.depths, int(state.n[SHIFT]))


def stuck(given: Packets, state: PacketState) -> str:
    """Why messages are left when nothing happens any more; "" where none is."""
    left = int(state.flows["live"].sum())
    return given.deadlock(left, np.flatnonzero(state.links["paused"]).tolist()) if left else ""
