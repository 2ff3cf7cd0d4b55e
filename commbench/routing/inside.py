# SPDX-License-Identifier: Apache-2.0
"""Ways inside hosts: the cheapest path by kind of link, found once for all hosts that are alike."""

import heapq
from collections.abc import Collection
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from commbench.errors import RoutingError
from commbench.routing.routes import Links, Rows, row_starts, rows_at
from commbench.topology.fabric import LINK_KINDS, Fabric
from commbench.topology.model import HOP_COSTS, LinkKind

__all__ = ["InsideHosts"]


class _Host(NamedTuple):
    """One host of a make; nodes and links are counted from its first."""

    out: dict[int, list[tuple[int, LinkKind, int]]]  # node -> (next node, kind, link)
    owners: dict[int, list[int]]  # NIC -> the endpoints that it is nearest to
    endpoints: frozenset[int]


class InsideHosts:
    """Paths between nodes of one host, through no other rank's endpoint."""

    def __init__(self, fabric: Fabric, down: Collection[int] = ()) -> None:
        """``down`` are links that carry nothing."""
        self._fabric, self._down = fabric, frozenset(down)
        self._hosts: dict[int, _Host] = {}
        self._found: dict[tuple[int, int, int, bool], list[int] | None] = {}

    @cached_property
    def _nodes(self) -> tuple[Rows, Rows, Rows]:
        """Where the nodes of each host begin among all in the order of hosts, these, and each node's place there."""
        first, order = _by_host(self._fabric.node_hosts, self._fabric.num_hosts)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return first, order, place - first[self._fabric.node_hosts]

    @cached_property
    def _links(self) -> tuple[Rows, Rows]:
        """The same of the links inside hosts."""
        fabric = self._fabric
        host = fabric.node_hosts[fabric.src]
        return _by_host(np.where(host == fabric.node_hosts[fabric.dst], host, -1), fabric.num_hosts)

    @cached_property
    def _makes(self) -> Rows:
        """Make of every host: alike inside, and with the same links down."""
        makes = self._fabric.wirings.astype(np.int64)
        hurt = [self._fabric.node_hosts[self._fabric.src[link]] for link in self._down]
        for host in {int(host) for host in hurt if host >= 0}:
            makes[host] = self._fabric.num_hosts + host
        return makes

    def paths(self, src: Rows, dst: Rows, *, by_rail: bool = False) -> tuple[Rows, Links]:
        """Links from node ``src[i]`` to node ``dst[i]`` of the same host.

        Args:
            src, dst: nodes. by_rail: ``dst`` are NICs; to one that is not the sender's own go by NVLink to the GPU that
                owns it, where there is NVLink (PXN).

        Raises:
            RoutingError: nothing joins them inside the host; without names.
        """
        first, _, place = self._nodes
        host = self._fabric.node_hosts[src].astype(np.int64)
        width = int(np.diff(first).max(initial=1))
        key = (self._makes[host] * width + place[src]) * width + place[dst]
        _, at, back = np.unique(key, return_index=True, return_inverse=True)
        rows = [
            self._path(int(host[i]), int(place[src[i]]), int(place[dst[i]]), by_rail) for i in at.tolist()
        ]
        local = np.array([link for row in rows for link in row], np.int32)
        starts, links = rows_at((row_starts(np.array([len(row) for row in rows], np.int64)), local), back)
        begin, numbers = self._links
        return starts, numbers[np.repeat(begin[host], np.diff(starts)) + links].astype(np.int32)

    def _path(self, host: int, src: int, dst: int, by_rail: bool) -> list[int]:
        make = int(self._makes[host])
        if make not in self._hosts:
            self._hosts[make] = self._look(host)
        key = (make, src, dst, by_rail)
        if key not in self._found:
            inside = self._hosts[make]
            self._found[key] = _to_nic(inside, src, dst) if by_rail else _cheapest(inside, src, dst)
        path = self._found[key]
        if path is None:
            first, order, _ = self._nodes
            a, b = (self._fabric.name_of(order[first[host] + place]) for place in (src, dst))
            raise RoutingError(f"no route from {a} to {b}: nothing joins them inside host {host}")
        return path

    def _look(self, host: int) -> _Host:
        fabric, place = self._fabric, self._nodes[2]
        begin, numbers = self._links
        out: dict[int, list[tuple[int, LinkKind, int]]] = {}
        for at, link in enumerate(numbers[begin[host] : begin[host + 1]].tolist()):
            if link not in self._down:
                kind = LINK_KINDS[fabric.link_kinds[link]]
                out.setdefault(int(place[fabric.src[link]]), []).append((int(place[fabric.dst[link]]), kind, at))
        owners: dict[int, list[int]] = {}
        ranks = np.flatnonzero(fabric.host_of == host)
        for rank in ranks.tolist():
            for nic in fabric.nics[fabric.nics_first[rank] : fabric.nics_first[rank + 1]].tolist():
                owners.setdefault(int(place[nic]), []).append(int(place[fabric.endpoints[rank]]))
        return _Host(out, owners, frozenset(place[fabric.endpoints[ranks]].tolist()))


def _by_host(hosts: NDArray[np.int32], num_hosts: int) -> tuple[Rows, Rows]:
    """Rows: what each host has, by number; what has none (-1) stands behind."""
    order = np.argsort(np.where(hosts < 0, num_hosts, hosts), kind="stable")
    return row_starts(np.bincount(hosts[hosts >= 0], minlength=num_hosts)), order


def _cheapest(host: _Host, src: int, dst: int) -> list[int] | None:
    """Links of Dijkstra's path; of paths of one cost the first found, in the order of links."""
    turn = count()
    queue = [(0, next(turn), src)]
    cost, came = {src: 0}, dict[int, tuple[int, int]]()
    done = set[int]()
    while queue:
        spent, _, here = heapq.heappop(queue)
        if here in done:
            continue
        done.add(here)
        if here == dst:
            break
        for after, kind, link in host.out.get(here, ()):
            if after in host.endpoints and after != dst:
                continue
            total = spent + HOP_COSTS[kind]
            if after not in cost or total < cost[after]:
                cost[after], came[after] = total, (here, link)
                heapq.heappush(queue, (total, next(turn), after))
    if dst not in done:
        return None
    path: list[int] = []
    while dst != src:
        dst, link = came[dst]
        path.append(link)
    return path[::-1]


def _to_nic(host: _Host, src: int, nic: int) -> list[int] | None:
    """As PXN goes."""
    owners = host.owners.get(nic, [])
    kind_of = {link: kind for steps in host.out.values() for _, kind, link in steps}
    for proxy in () if src in owners else owners:
        over = _cheapest(host, src, proxy)
        if over is not None and all(kind_of[link] is LinkKind.NVLINK for link in over):
            rest = _cheapest(host, proxy, nic)
            return None if rest is None else over + rest
    return _cheapest(host, src, nic)
