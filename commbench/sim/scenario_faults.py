# SPDX-License-Identifier: Apache-2.0
"""From faults to changes: which links, routes and ranks are different from when on.

What holds at a time follows from the faults up to then alone, never from the way there: of several faults of one link
or rank the last one counts, and a route is its own again as soon as none of its links is down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import networkx as nx
import numpy as np
import numpy.typing as npt

from commbench.engine.setting import CUT_OFF, Change, Paths, What
from commbench.errors import RoutingError, TopologyError
from commbench.routing.router import Router
from commbench.routing.routes import Routes
from commbench.topology.faults import Fault, KilledRank, LinkFault, SlowRank
from commbench.topology.model import Link, Topology
from commbench.topology.tree import Tree

__all__ = ["MOST_LINKS", "State", "Traffic", "changes_of", "cut_between", "graph_of"]

IntArray = npt.NDArray[np.int64]

MOST_LINKS = 300_000
"""Of a tree in closed form: link faults need its whole graph, at 10 us and 1 kB for each link and set of failures."""


@dataclass(frozen=True, slots=True)
class State:
    """What holds at a time.

    Attributes:
        factors: (source, destination) of a link -> the part of its bandwidth that it has.
        shares: rank of the fabric -> the part of the time that its processor runs.
        killed: rank of the fabric -> when it died, ps.
    """

    factors: Mapping[tuple[str, str], float]
    shares: Mapping[int, float]
    killed: Mapping[int, int]

    @classmethod
    def at(cls, time_ps: int, faults: Sequence[Fault]) -> "State":
        """The state after all faults up to ``time_ps``."""
        past = sorted((fault for fault in faults if fault.at_ps <= time_ps), key=lambda fault: fault.at_ps)
        return cls(
            factors={(f.src, f.dst): f.factor for f in past if isinstance(f, LinkFault)},
            shares={f.rank: f.factor for f in past if isinstance(f, SlowRank)},
            killed={f.rank: f.at_ps for f in reversed(past) if isinstance(f, KilledRank)},
        )

    def down(self, topology: Topology) -> frozenset[int]:
        """Numbers of the links that carry nothing."""
        return frozenset(_link(topology, *ends).index for ends, factor in self.factors.items() if factor == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Who takes the routes.

    Attributes:
        triples: sender, receiver (ranks of the fabric) and channel of every route, shape (routes, 3).
        num_foreground: routes of the program itself; those behind them are of background flows, which never fail: while
            nothing joins their ends they take no link, and what they would have sent is lost.
        ranks: rank of the fabric -> rank of the program that sits there.
    """

    triples: IntArray
    num_foreground: int
    ranks: Mapping[int, int]


def graph_of(fabric: Topology | Tree) -> Topology:
    """The fabric with names and links.

    Raises:
        TopologyError: it is too large for that.
    """
    if isinstance(fabric, Topology):
        return fabric
    if fabric.num_links > MOST_LINKS:
        raise TopologyError(
            f"topology {fabric.name} has {fabric.num_links:,} links; link faults need the graph of them all, which is "
            f"made for {MOST_LINKS:,} at most: take a smaller fabric of the same kind"
        )
    return fabric.topology()


def changes_of(
    faults: Sequence[Fault], paths: Paths, traffic: Traffic, router: Routes, topology: Topology | None
) -> tuple[Paths, tuple[Change, ...]]:
    """The changes that the faults make, and the paths with the routes that the changes name appended.

    A link that is down moves the routes over it, and no others, to what the router's policy chooses from what is left;
    where it finds none, to the path with the fewest links; where there is none, the route is cut.

    Args:
        faults: link and rank faults, in any order; others are passed over.
        paths: the links and routes of the healthy fabric.
        traffic: who takes them.
        router: that made them.
        topology: the fabric with names and links (:func:`graph_of`); None where no fault is of a link.
    """
    timeline = _Timeline(paths, traffic, router, topology)
    for time_ps in sorted({f.at_ps for f in faults if isinstance(f, LinkFault | SlowRank | KilledRank)}):
        timeline.move_to(time_ps, State.at(time_ps, faults))
    return timeline.paths(), tuple(timeline.changes)


def cut_between(topology: Topology, down: frozenset[int], src: str, dst: str) -> tuple[Link, ...]:
    """The links that are down and lead out of what ``src`` still reaches on its way to ``dst``."""
    ways = _ways(_Remains.of(topology, down), src, dst)
    reached = nx.descendants(ways, src) | {src}
    return tuple(
        topology.links[i]
        for i in sorted(down)
        if topology.links[i].src in reached and topology.links[i].dst in ways.nodes - reached
    )


def _link(topology: Topology, src: str, dst: str) -> Link:
    link: Link = topology.graph.edges[src, dst]["link"]
    return link


class _Timeline:
    """Collects changes from state to state."""

    def __init__(self, paths: Paths, traffic: Traffic, router: Routes, topology: Topology | None) -> None:
        self._healthy, self._traffic = paths, traffic
        self._detours = _Detours(topology, router) if topology else None
        self._latencies_ps = router.fabric.latencies_ps
        self._bandwidth = paths.bandwidths.copy()
        self._slowness: dict[int, float] = {}
        self._route = np.arange(len(paths.latency_ps), dtype=np.int64)  # the one that each is at present
        self._route_at = np.repeat(self._route, np.diff(paths.first))  # beside paths.links
        self._numbers: dict[tuple[int, ...], int] = {}  # of the routes to append
        self.changes: list[Change] = []

    def move_to(self, time_ps: int, state: State) -> None:
        """Add the changes from the state before to this one."""
        for link, bandwidth in self._bandwidths(state).items():
            if bandwidth != self._bandwidth[link]:
                self._bandwidth[link] = bandwidth
                self.changes.append(Change(time_ps, What.BANDWIDTH, link, bandwidth))
        routes = self._routes(state)
        for route in np.flatnonzero(routes != self._route).tolist():
            self.changes.append(Change(time_ps, What.ROUTE, route, int(routes[route])))
        self._route = routes
        for endpoint, share in state.shares.items():
            rank, slowness = self._traffic.ranks[endpoint], 1 / share
            if slowness != self._slowness.get(rank, 1.0):
                self._slowness[rank] = slowness
                self.changes.append(Change(time_ps, What.SLOWDOWN, rank, slowness))

    def paths(self) -> Paths:
        """All routes, those to take instead behind the healthy ones."""
        paths, added = self._healthy, list(self._numbers)
        links = np.array([link for route in added for link in route], dtype=np.int64)
        return replace(
            paths,
            first=np.concatenate(
                [paths.first, paths.first[-1] + np.cumsum([len(route) for route in added], dtype=int)]
            ),
            links=np.concatenate([paths.links, links]),
            latency_ps=np.concatenate(
                [paths.latency_ps, [self._latencies_ps[list(route)].sum(dtype=np.int64) for route in added]]
            ).astype(np.int64),
            weights=np.concatenate([paths.weights, np.ones(len(links))]) if len(paths.weights) else paths.weights,
        )

    def _bandwidths(self, state: State) -> dict[int, float]:
        """Bytes/s of the links that faults speak of and that are up: those that are down have no flow on them."""
        if self._detours is None:
            return {}
        numbers = {_link(self._detours.topology, *ends).index: factor for ends, factor in state.factors.items()}
        return {link: float(self._healthy.bandwidths[link] * factor) for link, factor in numbers.items() if factor}

    def _routes(self, state: State) -> IntArray:
        """Number of the route that is taken instead of each."""
        routes = np.arange(len(self._healthy.latency_ps), dtype=np.int64)
        down = state.down(self._detours.topology) if self._detours and state.factors else frozenset()
        if down and self._detours:
            broken = np.unique(self._route_at[np.isin(self._healthy.links, list(down))])
            for route in broken.tolist():
                links = self._detours.route(down, *self._traffic.triples[route].tolist())
                routes[route] = self._number(links, route)
        own = np.arange(len(routes)) < self._traffic.num_foreground
        routes[own & np.isin(self._traffic.triples[:, :2], list(state.killed)).any(axis=1)] = CUT_OFF
        return routes

    def _number(self, links: tuple[int, ...] | None, route: int) -> int:
        if links is None:
            if route < self._traffic.num_foreground:
                return CUT_OFF
            links = ()  # background: it takes no link
        return self._numbers.setdefault(links, len(self._healthy.latency_ps) + len(self._numbers))


class _Detours:
    """Routes while some links are down."""

    def __init__(self, topology: Topology, router: Routes) -> None:
        self.topology = topology
        self._healthy = router
        self._routers: dict[frozenset[int], _RouterOfRemains] = {}

    def route(self, down: frozenset[int], src: int, dst: int, channel: int) -> tuple[int, ...] | None:
        """Numbers of the links; None where nothing joins the two."""
        if down not in self._routers:
            policy, seed = self._healthy.policy.name, self._healthy.seed
            self._routers[down] = _RouterOfRemains(self.topology, policy, seed, down)
        try:
            return self._routers[down].route(src, dst, channel)
        except RoutingError:
            return None


class _Remains(Topology):
    """What is left of a topology: links keep their numbers, and there may be no way from one rank to another."""

    def __post_init__(self) -> None:
        """A topology that was whole has been checked."""

    @classmethod
    def of(cls, topology: Topology, down: frozenset[int]) -> "_Remains":
        """The topology without these links."""
        parts = {field.name: getattr(topology, field.name) for field in fields(topology)}
        return cls(**{**parts, "links": tuple(link for link in topology.links if link.index not in down)})


class _RouterOfRemains(Router):
    """The router of a topology when some of its links are down.

    NICs keep the switches and the numbers that they have in the whole topology, so that a policy that counts them
    (d-mod-k) chooses as before wherever it still can.
    """

    def __init__(self, topology: Topology, policy: str, seed: int, down: frozenset[int]) -> None:
        super().__init__(topology, policy, seed)
        self.topology = _Remains.of(topology, down)

    def _path(self, src: str, dst: str, channel: int) -> list[str]:
        """As the policy has it; where that is no way any more, the one with the fewest links."""
        try:
            path = super()._path(src, dst, channel)
            if nx.is_path(self.topology.graph, path):
                return path
        except RoutingError:
            pass
        try:
            fewest: list[str] = nx.shortest_path(_ways(self.topology, src, dst), src, dst)
        except nx.NetworkXNoPath:
            raise self._no_route(src, dst, "links are down") from None
        return fewest


def _ways(topology: Topology, src: str, dst: str) -> nx.DiGraph:
    """Where traffic between two nodes may pass: their hosts and the switches, but no other rank."""
    hosts = {topology.by_name[src].host, topology.by_name[dst].host, None}
    ranks = set(topology.ranks) - {src, dst}
    return topology.graph.subgraph(n.name for n in topology.nodes if n.host in hosts and n.name not in ranks)
