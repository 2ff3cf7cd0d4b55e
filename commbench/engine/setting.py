# SPDX-License-Identifier: Apache-2.0
"""What a program runs in, as both engines take it: links and routes, processors, and what changes at which time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from commbench.network.base import Streams, Wiring
from commbench.routing.ways import WayGraph

__all__ = ["CUT_OFF", "Change", "CutOff", "Paths", "Processors", "Setting", "What"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CUT_OFF = -1
"""Number of the route of a pair that nothing joins."""


class CutOff(Exception):  # noqa: N818  (engines raise it; whoever made the changes knows the cut and tells the user)
    """A transfer found its route cut: ``task`` at ``time_ps``."""

    def __init__(self, task: int, time_ps: int) -> None:
        super().__init__(task, time_ps)
        self.task, self.time_ps = task, time_ps


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """Links, and the routes over them that tasks take.

    Attributes:
        bandwidths: bytes/s of every link, shape (links,).
        first: shape (routes + 1,); route r crosses ``links[first[r]:first[r + 1]]``, no link twice.
        links: link numbers, in the order of the routes.
        latency_ps: of every route, shape (routes,).
        route_of: number of the route of every task, shape (tasks,); -1 for compute tasks.
        weights: weight of a flow on each of these links (see network.maxmin), or empty where all are 1.
        link_latencies_ps, buffers_bytes, inside: of every link, for network models that ask; see network.base.Wiring.
        streams: the routes as directions of connections, likewise.
        ways: all that tasks on the routes may take, likewise.
    """

    bandwidths: FloatArray
    first: IntArray
    links: IntArray
    latency_ps: IntArray
    route_of: IntArray
    weights: FloatArray = field(default_factory=lambda: np.empty(0))
    link_latencies_ps: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    buffers_bytes: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    inside: BoolArray = field(default_factory=lambda: np.empty(0, np.bool_))
    streams: Streams | None = None
    ways: WayGraph | None = None

    @property
    def wiring(self) -> Wiring:
        """What a network model is made for."""
        wires = self.bandwidths, self.first, self.links, self.weights, self.link_latencies_ps, self.buffers_bytes
        return Wiring(*wires, self.inside, self.streams, self.ways)

    def without_link_latencies(self) -> "Paths":
        """The same for a network model that has the links' latencies itself."""
        if not len(self.link_latencies_ps):
            return self
        total = np.concatenate([[0], np.cumsum(self.link_latencies_ps[self.links])])
        own = self.latency_ps - (total[self.first[1:]] - total[self.first[:-1]])
        return replace(self, latency_ps=own.astype(np.int64))

    @classmethod
    def of_lists(
        cls,
        bandwidths: Sequence[float],
        routes: Sequence[Sequence[int]],
        latencies_ps: Sequence[int],
        route_of: Sequence[int],
        weights: Sequence[Sequence[float]] | None = None,
    ) -> "Paths":
        """The same from a list per route."""
        return cls(
            bandwidths=np.array(bandwidths, dtype=np.float64),
            first=np.cumsum([0, *map(len, routes)], dtype=np.int64),
            links=np.array([link for route in routes for link in route], dtype=np.int64),
            latency_ps=np.array(latencies_ps, dtype=np.int64),
            route_of=np.array(route_of, dtype=np.int64),
            weights=np.array([w for each in weights or () for w in each], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True)
class Processors:
    """What messages take of the processors.

    Attributes:
        overhead_ps: time of one message, on either side.
        pools: for every rank the number of its pool, 0 and up; None gives each rank its own.
        pool_size: processors in every pool.
    """

    overhead_ps: int = 0
    pools: tuple[int, ...] | None = None
    pool_size: int = 1


class What(IntEnum):
    """What a :class:`Change` changes."""

    BANDWIDTH = 0  # of link ``index``, to ``value`` bytes/s
    ROUTE = 1  # of flows on route ``index``, to route number ``value``; CUT_OFF where none is left
    SLOWDOWN = 2  # of rank ``index``: compute and messages take ``value`` times as long


@dataclass(frozen=True, slots=True)
class Change:
    """At ``time_ps`` something becomes different; see :class:`What`. Of one time the later in a list is the later."""

    time_ps: int
    what: What
    index: int
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """All that an engine needs beside the program. ``changes`` are in ascending order of time."""

    paths: Paths
    processors: Processors = Processors()
    changes: tuple[Change, ...] = ()
