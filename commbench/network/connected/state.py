# SPDX-License-Identifier: Apache-2.0
"""The state of connections of the fluid model for the compiled engine: flat records around the fluid model's own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError
from commbench.network.base import NEVER, Wiring
from commbench.network.connected.settings import Connected
from commbench.network.fluid_state import Fluid, build_fluid
from commbench.network.queue import SLOT

__all__ = ["BURST", "DUE", "FRESH", "PACKET", "READY", "WINDOW", "WORK", "ConnectedState", "build_state"]

Array = npt.NDArray[Any]

# Counters, places in ``n``: work; tasks that begin at this instant; those that end; the fluid model's next event.
WORK, FRESH, READY, DUE = range(4)

# Places in ``given``.
WINDOW, PACKET, BURST = range(3)

STREAM = np.dtype(
    [
        ("total", np.int64),
        ("came", np.int64),
        ("head", np.int32),  # messages: the first that has not come, and the last; -1: none
        ("last", np.int32),
    ],
    align=True,
)

MESSAGE = np.dtype(
    [
        ("num_bytes", np.int64),
        ("end", np.int64),
        ("first", np.int64),  # of its pieces: the one over all links, then one for each link
        ("stream", np.int32),
        ("slot", np.int32),
        ("after", np.int32),  # the next in its stream
        ("told", np.int32),  # Streams.written
        ("watch", np.int32),  # the other way
        ("pieces", np.int32),
        ("written", np.int8),
        ("waiting", np.int8),
    ],
    align=True,
)

PORT = np.dtype(
    [("bandwidth", np.float64), ("saved", np.int64), ("since", np.int64), ("busy", np.int64)], align=True
)


class ConnectedState(NamedTuple):
    """The state.

    Attributes:
        n: counters. given: what Connected says.
        first, links: routes, as in Wiring. streams, messages, ports: records; messages by task.
        owner: of every piece, its message. fresh, ready: tasks that begin and end at this instant.
        passed: pieces that the fluid model says are through. slots: of pieces, by piece. fluid: its state, whose routes
            are those here and then every link alone.
    """

    n: Array
    given: Array
    first: Array
    links: Array
    streams: Array
    messages: Array
    ports: Array
    owner: Array
    fresh: Array
    ready: Array
    passed: Array
    slots: Array
    fluid: Fluid


def build_state(given: Connected, wiring: Wiring, route_of: Array, moves: Sequence[tuple[int, int]]) -> ConnectedState:
    """The state without messages.

    Raises:
        InputError: routes change.
    """
    if moves:
        raise InputError("routes of connections that change are not supported; give --library ideal")
    assert wiring.streams is not None, "a network of connections is told which there are"
    num_links, num_routes, num_tasks = len(wiring.bandwidths), len(wiring.first) - 1, len(route_of)
    routes = np.asarray(wiring.streams.route_of)
    lengths = np.where(routes >= 0, np.diff(wiring.first)[routes] + 1 if num_routes else 0, 0)
    owner = np.repeat(np.arange(num_tasks), lengths)
    first = np.cumsum(lengths) - lengths
    messages = _messages(wiring)
    messages["first"] = first
    ports = np.zeros(num_links, dtype=PORT)
    ports["bandwidth"] = wiring.bandwidths
    streams = np.zeros(num_routes, dtype=STREAM)
    streams["head"] = streams["last"] = -1
    n = np.zeros(8, dtype=np.int64)
    n[DUE] = NEVER
    slots = np.zeros(len(owner), dtype=SLOT)
    slots["task"], slots["bucket"] = np.arange(len(owner)), -1
    return ConnectedState(
        n=n,
        given=np.array([given.window_bytes, given.packet_bytes, given.burst_bytes], dtype=np.int64),
        first=np.asarray(wiring.first, dtype=np.int64),
        links=np.asarray(wiring.links, dtype=np.int64),
        streams=streams,
        messages=messages,
        ports=ports,
        owner=owner.astype(np.int64),
        fresh=np.empty(num_tasks, dtype=np.int64),
        ready=np.empty(num_tasks, dtype=np.int64),
        passed=np.empty(len(owner), dtype=np.int64),
        slots=slots,
        fluid=build_fluid(*_inner(wiring, routes, lengths, first, owner), []),
    )


def _messages(wiring: Wiring) -> Array:
    assert wiring.streams is not None
    told = wiring.streams.written
    messages = np.zeros(len(told), dtype=MESSAGE)
    messages["stream"], messages["told"], messages["after"] = wiring.streams.route_of, told, -1
    messages["watch"] = wiring.streams.watching
    return messages


def _inner(wiring: Wiring, routes: Array, lengths: Array, first: Array, owner: Array) -> tuple[Wiring, Array]:
    """What the fluid model is made for: the routes and every link alone; and the route of every piece."""
    num_links, num_routes = len(wiring.bandwidths), len(wiring.first) - 1
    place = np.arange(len(owner)) - first[owner]
    whole = routes[owner]
    hop = np.asarray(wiring.first, dtype=np.int64)[whole] + np.maximum(place - 1, 0)
    links = np.asarray(wiring.links, dtype=np.int64)
    alone = num_routes + (links[np.minimum(hop, len(links) - 1)] if len(links) else hop)
    ends = np.concatenate([wiring.first, wiring.first[-1] + 1 + np.arange(num_links)]).astype(np.int64)
    inner = Wiring(wiring.bandwidths, ends, np.concatenate([links, np.arange(num_links)]))
    return inner, np.where(place == 0, whole, alone).astype(np.int64)
