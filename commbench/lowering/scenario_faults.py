# SPDX-License-Identifier: Apache-2.0
"""From faults to changes: which links, routes and ranks are different from when on.

What holds at a time follows from the faults up to then alone, never from the way there: of several faults of one link
or rank the last one counts, and a route is its own again as soon as none of its links is down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from commbench.arrays import IntArray
from commbench.engine.setting import CUT_OFF, Change, Paths, What
from commbench.errors import InputError, RoutingError, TopologyError
from commbench.routing.router import Router
from commbench.routing.routes import Routes
from commbench.topology.fabric import Fabric
from commbench.topology.faults import Fault, KilledRank, LinkFault, SlowRank

if TYPE_CHECKING:
    import networkx as nx  # in functions alone: it takes as long to load as the rest, and few runs have faults

__all__ = ["MOST_LINKS", "State", "Traffic", "changes_of", "cut_between"]

MOST_LINKS = 300_000
"""Of a fabric in which links go down: detours need its whole graph, at 10 us and 1 kB for each link and set of them."""


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

    def down(self, topology: Fabric) -> frozenset[int]:
        """Numbers of the links that carry nothing."""
        ends = [pair for pair, factor in self.factors.items() if factor == 0]
        return frozenset(link for pair in ends for link in topology.links_between(*pair).tolist())


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


def changes_of(
    faults: Sequence[Fault], paths: Paths, traffic: Traffic, router: Routes
) -> tuple[Paths, tuple[Change, ...]]:
    """The changes that the faults make, and the paths with the routes that the changes name appended.

    A link that is down moves the routes over it, and no others, to what the router's policy chooses from what is left;
    where it finds none, to the path with the fewest links; where there is none, the route is cut.

    Args:
        faults: link and rank faults, in any order; others are passed over.
        paths: the links and routes of the healthy fabric.
        traffic: who takes them.
        router: that made them.
    """
    timeline = _Timeline(paths, traffic, router)
    for time_ps in sorted({f.at_ps for f in faults if isinstance(f, LinkFault | SlowRank | KilledRank)}):
        timeline.move_to(time_ps, State.at(time_ps, faults))
    return timeline.paths(), tuple(timeline.changes)


def cut_between(fabric: Fabric, down: frozenset[int], src: str, dst: str) -> tuple[int, ...]:
    """The links that are down and lead out of what ``src`` still reaches on its way to ``dst``."""
    import networkx as nx

    ways = _ways(fabric, _remains(fabric, down), src, dst)
    reached = nx.descendants(ways, src) | {src}
    ends = {link: (fabric.links[link].src, fabric.links[link].dst) for link in sorted(down)}
    return tuple(link for link, (a, b) in ends.items() if a in reached and b in ways.nodes - reached)


class _Timeline:
    """Collects changes from state to state."""

    def __init__(self, paths: Paths, traffic: Traffic, router: Routes) -> None:
        self._healthy, self._traffic = paths, traffic
        self._fabric, self._detours = router.fabric, _Detours(router)
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
        numbers = {
            link: factor
            for ends, factor in state.factors.items()
            for link in self._fabric.links_between(*ends).tolist()
        }
        return {link: float(self._healthy.bandwidths[link] * factor) for link, factor in numbers.items() if factor}

    def _routes(self, state: State) -> IntArray:
        """Number of the route that is taken instead of each."""
        routes = np.arange(len(self._healthy.latency_ps), dtype=np.int64)
        down = state.down(self._fabric)
        if down and self._healthy.ways is not None:
            raise InputError(
                f"link {self._fabric.link_name(min(down))} goes down: where packets choose their ways, links may "
                "get slower and not fail: give balance=flow, or a factor above 0"
            )
        if down:
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

    def __init__(self, router: Routes) -> None:
        self._healthy = router
        self._routers: dict[frozenset[int], tuple[Router, nx.DiGraph]] = {}

    def route(self, down: frozenset[int], src: int, dst: int, channel: int) -> tuple[int, ...] | None:
        """Numbers of the links as the policy has them; where that is no way any more, of the path with the fewest; None
        where nothing joins the two.
        """
        fabric = self._healthy.fabric
        if down not in self._routers:
            router = Router(fabric, self._healthy.policy.name, self._healthy.seed, down=down)
            self._routers[down] = router, _remains(fabric, down)
        import networkx as nx

        router, graph = self._routers[down]
        try:
            route = router.route(src, dst, channel)
            if down.isdisjoint(route):
                return route
        except RoutingError:
            pass
        ends = fabric.ranks[src], fabric.ranks[dst]
        try:
            path = nx.shortest_path(_ways(fabric, graph, *ends), *ends)
        except nx.NetworkXNoPath:
            return None
        return tuple(graph.edges[step]["link"] for step in pairwise(path))


def _remains(fabric: Fabric, down: frozenset[int]) -> "nx.DiGraph":
    """The graph without these links; ``link`` is the number of each that is left."""
    if fabric.num_links > MOST_LINKS:
        raise TopologyError(
            f"topology {fabric.name} has {fabric.num_links:,} links; links that are down need the graph of them all, "
            f"which is made for {MOST_LINKS:,} at most: take a smaller fabric of the same kind"
        )
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(fabric.names)
    for link in fabric.links:
        if link.index not in down and not graph.has_edge(link.src, link.dst):
            graph.add_edge(link.src, link.dst, link=link.index)
    return graph


def _ways(fabric: Fabric, graph: "nx.DiGraph", src: str, dst: str) -> "nx.DiGraph":
    """Where traffic between two nodes may pass: their hosts and the switches, but no other rank."""
    hosts = {fabric.by_name[src].host, fabric.by_name[dst].host, None}
    ranks = set(fabric.ranks) - {src, dst}
    return graph.subgraph(n.name for n in fabric.nodes if n.host in hosts and n.name not in ranks)
