# SPDX-License-Identifier: Apache-2.0
"""From two ranks to the links between them.

A route inside a host is its cheapest path by link kind. A route between hosts has three parts: endpoint to NIC, NIC
to NIC through the fabric over a shortest path, NIC to endpoint. An endpoint with several NICs uses them channel by
channel, in turn. Where the fabric offers several next hops on shortest paths, the policy chooses.
"""

from collections import deque
from collections.abc import Mapping
from itertools import chain, pairwise

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from commbench.errors import RoutingError
from commbench.routing.policies import Flow, get_policy
from commbench.routing.routes import Flows, Links, Rows, as_flows, once_each, row_starts
from commbench.topology.model import SWITCH_KINDS, LinkKind, NodeKind, Topology

__all__ = ["Router"]

# Only the order matters: one hop of a dearer kind must cost more than a detour over cheaper ones, as in NCCL's path
# classes NVL < PIX/PXB < PHB < SYS (NCCL 2.30.7, src/graph/topo.h).
_COST: Mapping[LinkKind, int] = {
    LinkKind.MEMORY: 1,
    LinkKind.NVLINK: 1,
    LinkKind.PCIE: 10,
    LinkKind.SOCKET: 100,
    LinkKind.NETWORK: 1000,
}


class Router:
    """Routes of one topology under one policy; computed on demand and remembered.

    Raises:
        RoutingError: the policy is unknown.
    """

    def __init__(self, topology: Topology, policy: str | None = None, seed: int = 0) -> None:
        """``policy`` None takes the topology's own; ``seed`` is that of the hash of ECMP."""
        self.topology = topology
        self.policy = get_policy(policy or topology.routing)
        self.seed = seed
        self._routes: dict[tuple[str, str, int], tuple[int, ...]] = {}
        self._inside: dict[tuple[str, str], list[str]] = {}
        self._host_graphs: dict[int, nx.DiGraph] = {}
        self._distances: dict[str, dict[str, int]] = {}
        self._endpoints = frozenset(topology.ranks)
        self._positions = {node.name: i for i, node in enumerate(topology.nodes)}
        self._attached = self._attach_nics()
        self._owners: dict[str, list[str]] = {}  # NIC -> the endpoints that it is nearest to
        for endpoint, nics in topology.nics_of.items():
            for nic in nics:
                self._owners.setdefault(nic, []).append(endpoint)
        self._number = {nic: i for i, nic in enumerate(sorted(self._attached, key=self._fabric_order))}
        self._nic_on_rail = {
            (node.host, node.rail): node.name for node in topology.of_kind(NodeKind.NIC) if node.name in self._attached
        }

    def route(self, src: int, dst: int, channel: int = 0) -> tuple[int, ...]:
        """Numbers of the links from rank ``src`` to rank ``dst`` of the topology, in order.

        Raises:
            RoutingError: no route; names both endpoints and the policy.
        """
        return self.route_between(self.topology.ranks[src], self.topology.ranks[dst], channel)

    @property
    def fabric(self) -> Topology:
        """The topology, as :class:`commbench.routing.routes.Routes` calls it."""
        return self.topology

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """Routes of many flows; see :meth:`commbench.routing.routes.Routes.routes`.

        Raises:
            RoutingError: no route, or a rank that the topology does not have.
        """
        return once_each(as_flows(self.topology, src, dst, channel), self._routes_of)

    def _routes_of(self, flows: Flows) -> tuple[Rows, Links]:
        routes = [self.route(*flow) for flow in zip(*flows.lists(), strict=True)]
        first = row_starts(np.array([len(route) for route in routes], np.int64))
        return first, np.fromiter(chain.from_iterable(routes), np.int32, int(first[-1]))

    def route_between(self, src: str, dst: str, channel: int = 0) -> tuple[int, ...]:
        """The same between nodes by name: endpoints, or switches that take part in a collective.

        Raises:
            RoutingError: no route; names both nodes and the policy.
        """
        key = (src, dst, channel)
        if key not in self._routes:
            edges = self.topology.graph.edges
            self._routes[key] = tuple(edges[a, b]["link"].index for a, b in pairwise(self._path(src, dst, channel)))
        return self._routes[key]

    def latency_ps(self, route: tuple[int, ...]) -> int:
        """Sum of the latencies along a route."""
        return sum(self.topology.links[link].latency_ps for link in route)

    def path(self, src: int, dst: int, channel: int = 0) -> list[str]:
        """The same route as node names."""
        links = [self.topology.links[i] for i in self.route(src, dst, channel)]
        return [self.topology.ranks[src], *(link.dst for link in links)]

    def _path(self, src: str, dst: str, channel: int) -> list[str]:
        topology = self.topology
        hosts = topology.by_name[src].host, topology.by_name[dst].host
        if None in hosts:
            return self._with_switch(src, dst, channel)
        if hosts[0] == hosts[1]:
            return self._inside_host(src, dst)
        if src not in topology.nics_of or dst not in topology.nics_of:
            raise self._no_route(src, dst, "an endpoint has no NIC")
        src_nic, dst_nic = self._own_nic(src, channel), self._own_nic(dst, channel)
        if self.policy.rail_aware:
            rail = (topology.host_of(src), topology.by_name[dst_nic].rail)
            if rail not in self._nic_on_rail:
                raise self._no_route(src, dst, f"host {rail[0]} has no NIC on rail {rail[1]}")
            src_nic = self._nic_on_rail[rail]
        flow = Flow(src_nic, dst_nic, channel, self._number[dst_nic], self.seed)
        fabric = self._through_fabric(flow, (self._attached[src_nic], self._attached[dst_nic]), (src, dst))
        return [*self._to_nic(src, src_nic), *fabric, *self._inside_host(dst_nic, dst)]

    def _with_switch(self, src: str, dst: str, channel: int) -> list[str]:
        """Between an endpoint and a fabric switch that adds or multicasts, or between two such switches."""
        leave, arrive = self._own_nic(src, channel), self._own_nic(dst, channel)
        here = self._attached.get(leave, leave)
        there = self._attached.get(arrive, arrive)
        flow = Flow(leave, arrive, channel, self._number.get(arrive, 0), self.seed)
        fabric = self._through_fabric(flow, (here, there), (src, dst))
        before = self._inside_host(src, leave) if leave != src else []
        after = self._inside_host(arrive, dst) if arrive != dst else []
        return [*before, *fabric, *after]

    def _own_nic(self, node: str, channel: int) -> str:
        """The NIC of an endpoint that a channel takes; a switch is its own."""
        if self.topology.by_name[node].host is None:
            return node
        if node not in self.topology.nics_of:
            raise RoutingError(f"topology {self.topology.name}: {node} has no NIC")
        nics = self.topology.nics_of[node]
        return nics[channel % len(nics)]

    def _to_nic(self, src: str, nic: str) -> list[str]:
        """Inside the sending host; by NVLink to the GPU that owns the NIC where there is NVLink (PXN)."""
        if nic in self.topology.nics_of[src]:
            return self._inside_host(src, nic)
        proxy = next((e for e in self._owners.get(nic, ()) if self._joined_by_nvlink(src, e)), None)
        if proxy is None:
            return self._inside_host(src, nic)
        return [*self._inside_host(src, proxy), *self._inside_host(proxy, nic)[1:]]

    def _joined_by_nvlink(self, a: str, b: str) -> bool:
        if self.topology.by_name[a].host != self.topology.by_name[b].host or a == b:
            return False
        nodes = self._inside_host(a, b)
        edges = self.topology.graph.edges
        return all(edges[u, v]["link"].kind is LinkKind.NVLINK for u, v in pairwise(nodes))

    def _inside_host(self, src: str, dst: str) -> list[str]:
        """Cheapest path by link kind that passes through no other rank's endpoint."""
        key = (src, dst)
        if key not in self._inside:
            host = self.topology.host_of(src)
            graph = self._host_graph(host)
            through = [n for n in graph if n in (src, dst) or n not in self._endpoints]
            try:
                self._inside[key] = nx.dijkstra_path(graph.subgraph(through), src, dst, weight="cost")
            except nx.NetworkXNoPath:
                raise self._no_route(src, dst, f"nothing joins them inside host {host}") from None
        return self._inside[key]

    def _host_graph(self, host: int) -> nx.DiGraph:
        if not self._host_graphs:
            for node in self.topology.nodes:
                if node.host is not None:
                    self._host_graphs.setdefault(node.host, nx.DiGraph()).add_node(node.name)
            for link in self.topology.links:
                ends = {self.topology.by_name[link.src].host, self.topology.by_name[link.dst].host}
                if len(ends) == 1 and None not in ends:
                    self._host_graphs[ends.pop()].add_edge(link.src, link.dst, cost=_COST[link.kind])  # type: ignore[index]
        return self._host_graphs[host]

    def _through_fabric(self, flow: Flow, switches: tuple[str, str], ends: tuple[str, str]) -> list[str]:
        """Switches from the first to the last, both included, chosen hop by hop; ``ends`` are for the error."""
        here, last = switches
        distance = self._distance_to(last)
        if here not in distance:
            why = "their leaves are not joined; a rail-only fabric needs routing rail-aware"
            raise self._no_route(*ends, why)
        hops, fan_out = [here], 1
        while here != last:
            nearer = [
                n for n in self.topology.graph.successors(here) if distance.get(n, distance[here]) < distance[here]
            ]
            here = nearer[0] if len(nearer) == 1 else self.policy.choose(flow, here, nearer, fan_out)
            fan_out *= len(nearer)
            hops.append(here)
        return hops

    def _distance_to(self, switch: str) -> dict[str, int]:
        """Hops from every fabric switch to this one, through fabric switches only."""
        if switch not in self._distances:
            distance, queue = {switch: 0}, deque([switch])
            while queue:
                node = queue.popleft()
                for before in self.topology.graph.predecessors(node):
                    if before not in distance and self.topology.by_name[before].kind in SWITCH_KINDS:
                        distance[before] = distance[node] + 1
                        queue.append(before)
            self._distances[switch] = distance
        return self._distances[switch]

    def _attach_nics(self) -> dict[str, str]:
        """NIC -> the fabric switch that it hangs on."""
        attached = {}
        for nic in self.topology.of_kind(NodeKind.NIC):
            for neighbour in self.topology.graph.successors(nic.name):
                if self.topology.by_name[neighbour].kind in SWITCH_KINDS:
                    attached[nic.name] = neighbour
        return attached

    def _fabric_order(self, nic: str) -> tuple[int, int]:
        """Leaf by leaf, and on a leaf in the topology's order: the numbering that d-mod-k counts destinations in."""
        return self._positions[self._attached[nic]], self._positions[nic]

    def _no_route(self, src: str, dst: str, why: str) -> RoutingError:
        return RoutingError(
            f"topology {self.topology.name}, routing {self.policy.name}: no route from {src} to {dst}: {why}"
        )
