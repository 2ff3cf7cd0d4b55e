# SPDX-License-Identifier: Apache-2.0
"""From two ranks to the links between them, for many pairs at once.

A route inside a host is its cheapest path by link kind. A route between hosts has three parts: endpoint to NIC, NIC
to NIC through the fabric over a shortest path, NIC to endpoint. An endpoint with several NICs uses them channel by
channel, in turn. Where the fabric offers several next hops on shortest paths, the policy chooses.
"""

from collections.abc import Collection
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from commbench.errors import RoutingError
from commbench.routing.inside import InsideHosts
from commbench.routing.network import Search, climb
from commbench.routing.policies import FlowKeys, get_policy
from commbench.routing.routes import Flows, Links, Rows, as_flows, once_each, row_starts, rows_at, rows_in_turn
from commbench.routing.ways import ARRIVED, WayGraph, chained, joined
from commbench.topology.fabric import Fabric
from commbench.topology.model import NodeKind

__all__ = ["Router"]

_MOST_KEPT = 2**17
"""Flows up to which routes are remembered, at some 100 B each; more at once are found anew."""


class Router:
    """Routes of one fabric under one policy; what was found is remembered.

    Raises:
        RoutingError: the policy is unknown.
    """

    def __init__(
        self, fabric: Fabric, policy: str | None = None, seed: int = 0, *, down: Collection[int] = ()
    ) -> None:
        """``policy`` None takes the fabric's own; ``seed`` is that of the hash of ECMP; ``down`` are links that carry
        nothing: NICs keep their switches and numbers, and a route may still lead from a NIC over one of them.
        """
        self.fabric = fabric
        self.policy = get_policy(policy or fabric.routing)
        self.seed = seed
        self._down = frozenset(down)
        self._inside = InsideHosts(fabric, down)
        self._forget()

    @cached_property
    def _search(self) -> Search:
        return Search(self.fabric, self._down)

    @cached_property
    def _rank_at(self) -> Rows:
        """Rank of every node, -1 where none runs."""
        found = np.full(self.fabric.num_nodes, -1, np.int64)
        found[self.fabric.endpoints] = np.arange(self.fabric.num_ranks)
        return found

    @cached_property
    def _nic_on_rail(self) -> Rows:
        """Shape (hosts, rails): NIC of every host on every rail that joins the network, else -1."""
        fabric = self.fabric
        nics = fabric.of_kinds(NodeKind.NIC)
        nics = nics[fabric.nic_numbers[nics] >= 0]
        found = np.full((fabric.num_hosts, 1 + int(fabric.node_rails.max(initial=0))), -1, np.int64)
        found[fabric.node_hosts[nics], fabric.node_rails[nics]] = nics
        return found

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """Routes of many flows; see :meth:`commbench.routing.routes.Routes.routes`.

        Raises:
            RoutingError: no route, or a rank that the fabric does not have; names both endpoints and the policy.
        """
        flows = as_flows(self.fabric, src, dst, channel)
        ends = self.fabric.endpoints.astype(np.int64)
        return self.between(ends[flows.src], ends[flows.dst], flows.channel)

    def between(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """The same between nodes: endpoints, or switches that take part in a collective.

        Raises:
            RoutingError: no route.
        """
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.int64)) for x in (src, dst, channel)))
        flows = Flows(*columns)
        if len(flows.src) > _MOST_KEPT:
            return once_each(flows, self._find) if self.policy.hashed else self._find(flows)
        size = self.fabric.num_nodes
        key, at, back = np.unique(
            (flows.channel * size + flows.src) * size + flows.dst, return_index=True, return_inverse=True
        )
        if len(self._known) > 4 * _MOST_KEPT:
            self._forget()
        place: Rows = np.asarray(np.searchsorted(self._known, key))
        if len(fresh := np.flatnonzero(_differs(self._known, place, key))):
            self._keep(key[fresh], self._find(flows.take(at[fresh])))
            place = np.asarray(np.searchsorted(self._known, key))
        return rows_at(self._rows, self._number[place][back])

    def _forget(self) -> None:
        self._known, self._number = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._rows: tuple[Rows, Links] = np.zeros(1, np.int64), np.zeros(0, np.int32)

    def _keep(self, keys: Rows, rows: tuple[Rows, Links]) -> None:
        """Remember routes."""
        (first, links), known, number = self._rows, self._known, self._number
        order = np.argsort(np.concatenate([known, keys]))
        self._number = np.concatenate([number, len(first) - 1 + np.arange(len(keys))])[order]
        self._known = np.concatenate([known, keys])[order]
        self._rows = np.append(first, first[-1] + rows[0][1:]), np.append(links, rows[1])

    def route(self, src: int, dst: int, channel: int = 0) -> tuple[int, ...]:
        """Numbers of the links from rank ``src`` to rank ``dst``, in order.

        Raises:
            RoutingError: no route; names both endpoints and the policy.
        """
        return tuple(self.routes([src], [dst], [channel])[1].tolist())

    def path(self, src: int, dst: int, channel: int = 0) -> list[str]:
        """The same route as node names."""
        fabric = self.fabric
        return [fabric.ranks[src], *(fabric.name_of(fabric.dst[link]) for link in self.route(src, dst, channel))]

    def _find(self, flows: Flows) -> tuple[Rows, Links]:
        hosts = self.fabric.node_hosts
        apart = (hosts[flows.src] != hosts[flows.dst]) | (hosts[flows.src] < 0)
        near, far = np.flatnonzero(~apart), np.flatnonzero(apart)
        try:
            within = self._inside.paths(flows.src[near], flows.dst[near])
            if not len(far):
                return within
            between = self._between_hosts(flows.take(far))
        except RoutingError as error:
            raise RoutingError(
                f"topology {self.fabric.name}, routing {self.policy.name}: {error}"
            ) from None
        if not len(near):
            return between
        both = np.append(within[0], within[0][-1] + between[0][1:]), np.append(within[1], between[1])
        return rows_at(both, np.argsort(np.concatenate([near, far])))

    def _between_hosts(self, flows: Flows) -> tuple[Rows, Links]:
        leave, arrive = self._nics(flows)
        hosts = self.fabric.node_hosts
        numbers = np.maximum(self.fabric.nic_numbers[arrive], 0)
        keys = FlowKeys(leave, arrive, flows.channel, numbers, self.seed, self._names)
        in_tree = self.fabric.stages and not self._down and np.all(hosts[leave] >= 0) and np.all(hosts[arrive] >= 0)
        try:
            through = climb(self.fabric, self.policy, keys) if in_tree else self._search.routes(self.policy, keys)
        except RoutingError as error:
            why, row = error.args
            raise self._no_route(flows, row, why) from None
        by_rail = self.policy.rail_aware
        out = self._inside_where(flows.src, leave, by_rail=by_rail)
        return rows_in_turn([out, through, self._inside_where(arrive, flows.dst)])

    def _nics(self, flows: Flows) -> tuple[Rows, Rows]:
        """Where flows between hosts leave and arrive."""
        leave, arrive = (self._own_nics(nodes, flows) for nodes in (flows.src, flows.dst))
        return (self._same_rail(flows, leave, arrive) if self.policy.rail_aware else leave), arrive

    def ways(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> WayGraph:
        """All shortest ways between the NICs that the policy has flows leave and arrive at; one way inside hosts.

        Args:
            src, dst, channel: as :meth:`routes` has them, of flows that have a route.
        """
        flows, ends = as_flows(self.fabric, src, dst, channel), self.fabric.endpoints.astype(np.int64)
        flows = Flows(ends[flows.src], ends[flows.dst], flows.channel)
        hosts = self.fabric.node_hosts
        apart = hosts[flows.src] != hosts[flows.dst]
        near, far = np.flatnonzero(~apart), np.flatnonzero(apart)
        leave, arrive = self._nics(flows.take(far))
        (nics, nodes), target = np.unique(np.stack([arrive, flows.dst[far]]), axis=1, return_inverse=True)
        out = self._inside_where(flows.src[far], leave, by_rail=self.policy.rail_aware)
        into = self._inside_where(nics, nodes)
        within = self._inside.paths(flows.src[near], flows.dst[near])

        at, node, links = self._search.onward(leave, target, nics)
        size = self.fabric.num_nodes
        states, counts = np.unique(at * size + node, return_counts=True)
        bases = len(states) + row_starts(np.array([len(into[1]), len(out[1]), len(within[1])]))
        into_after, into_start = chained(into[0], int(bases[0]), np.full(len(nics), ARRIVED))
        next_node = self.fabric.dst[links]
        onward = np.searchsorted(states, at * size + next_node)
        after = np.where(next_node == nics[at], into_start[at], onward)
        out_after, out_start = chained(out[0], int(bases[1]), np.searchsorted(states, target * size + leave))
        within_after, within_start = chained(within[0], int(bases[2]), np.full(len(near), ARRIVED))
        start = np.empty(len(flows.src), np.int64)
        start[near], start[far] = within_start, out_start
        chains = ((into, into_after), (out, out_after), (within, within_after))
        alone = [(np.ones(len(rows[1]), np.int64), rows[1].astype(np.int64), then) for rows, then in chains]
        return joined([(counts, links, after), *alone], start)

    def _inside_where(self, src: Rows, dst: Rows, *, by_rail: bool = False) -> tuple[Rows, Links]:
        """Paths inside hosts; none from or to a switch of the fabric, which is its own NIC."""
        rows = np.flatnonzero(src != dst)
        if len(rows) == len(src):
            return self._inside.paths(src, dst, by_rail=by_rail)
        first, links = self._inside.paths(src[rows], dst[rows], by_rail=by_rail)
        lengths = np.zeros(len(src), np.int64)
        lengths[rows] = np.diff(first)
        return row_starts(lengths), links

    def _own_nics(self, nodes: Rows, flows: Flows) -> Rows:
        """The NIC of each endpoint that its channel takes; a switch of the fabric is its own."""
        fabric, found = self.fabric, nodes.copy()
        rows = np.flatnonzero(fabric.node_hosts[nodes] >= 0)
        rank = self._rank_at[nodes[rows]]
        first = fabric.nics_first[rank]
        count = np.where(rank < 0, 0, fabric.nics_first[rank + 1] - first)
        if np.any(count == 0):
            raise self._no_route(flows, int(rows[np.flatnonzero(count == 0)[0]]), "an endpoint has no NIC")
        found[rows] = fabric.nics[first + flows.channel[rows] % count]
        return found

    def _same_rail(self, flows: Flows, leave: Rows, arrive: Rows) -> Rows:
        """The NICs of the sending hosts on the rails of the NICs that are sent to."""
        fabric, found = self.fabric, leave.copy()
        rows = np.flatnonzero((fabric.node_hosts[leave] >= 0) & (fabric.node_hosts[arrive] >= 0))
        host, rail = fabric.node_hosts[leave[rows]], fabric.node_rails[arrive[rows]]
        found[rows] = self._nic_on_rail[host, rail]
        for i in np.flatnonzero(found[rows] < 0)[:1].tolist():
            raise self._no_route(flows, int(rows[i]), f"host {host[i]} has no NIC on rail {rail[i]}")
        return found

    def _names(self, nodes: Rows) -> NDArray[np.bytes_]:
        distinct, at = np.unique(nodes, return_inverse=True)
        return np.array([self.fabric.name_of(node).encode() for node in distinct.tolist()], np.bytes_)[at]

    def _no_route(self, flows: Flows, row: int, why: str) -> RoutingError:
        src, dst = (self.fabric.name_of(int(nodes[row])) for nodes in (flows.src, flows.dst))
        return RoutingError(f"no route from {src} to {dst}: {why}")


def _differs(values: Rows, place: Rows, wanted: Rows) -> NDArray[np.bool_]:
    """Whether what stands in these places of ascending values is not what is wanted; a place may be behind the last."""
    if not len(values):
        return np.ones(len(wanted), dtype=np.bool_)
    differs: NDArray[np.bool_] = values[np.minimum(place, len(values) - 1)] != wanted
    return differs
