# SPDX-License-Identifier: Apache-2.0
"""Ways through the switches, from NIC to NIC: by arithmetic in a tree, by searching for shortest paths in any graph.

Both take, hop by hop, the port that the policy chooses among those that lead nearer. Link for link they give the same
routes in a tree.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from commbench.errors import RoutingError
from commbench.routing.policies import FlowKeys, Policy
from commbench.routing.routes import Links, Rows, row_starts, rows_at
from commbench.topology.fabric import Fabric
from commbench.topology.model import SWITCH_KINDS

__all__ = ["Search", "climb"]

_FAR = np.iinfo(np.int16).max
_AT_ONCE = 2**22
"""Entries of work arrays: 32 MB each."""
NOT_JOINED = "their leaves are not joined; a rail-only fabric needs routing rail-aware"


def climb(fabric: Fabric, policy: Policy, flows: FlowKeys) -> tuple[Rows, Links]:
    """Routes between NICs of a tree: up until both lie below one switch, and down the only way there is.

    Raises:
        RoutingError: two that lie below no common switch; its ``args`` end with the number of the flow.
    """
    stages = fabric.stages
    src, dst = (fabric.nic_numbers[ends] for ends in (flows.src, flows.dst))
    top = stages[-1].subtree_above
    if np.any(apart := src // top != dst // top):
        raise RoutingError(NOT_JOINED, int(np.flatnonzero(apart)[0]))
    crossed = np.array([src // stage.subtree != dst // stage.subtree for stage in stages])
    first = row_starts(2 * np.count_nonzero(crossed, axis=0))
    links = np.empty(first[-1], np.int32)
    nics = np.flatnonzero(fabric.nic_numbers >= 0)
    place, fan_out = np.zeros(len(src), np.int64), 1
    below = []
    for level, stage in enumerate(stages):
        rows = np.flatnonzero(crossed[level])
        ends = np.stack([src[rows], dst[rows]]) // stage.subtree * stage.lower_per_subtree + place[rows]
        here = ends[0] + stage.lower
        if not level:
            here = flows.src[rows]
            ends = np.searchsorted(nics, np.stack([here, flows.dst[rows]]))
        port = np.zeros(len(rows), np.int64)
        if stage.ports > 1:
            port = policy.choose(flows.take(rows), here, fan_out, stage.ports)
            fan_out *= stage.ports
        links[first[rows] + level] = stage.first_link + 2 * (ends[0] * stage.ports + port)
        place[rows] = place[rows] * stage.above + port % stage.above
        below.append((rows, ends[1], port))
    for level in reversed(range(len(stages))):
        stage, (rows, lower, port) = stages[level], below[level]
        if stage.cables > 1 and policy.hashed:
            upper = dst[rows] // stage.subtree_above * (stage.lower_per_subtree * stage.above) + place[rows]
            cable = policy.choose(flows.take(rows), stage.upper + upper, fan_out, stage.cables)
            port = cable * stage.above + port % stage.above
        links[first[rows + 1] - 1 - level] = stage.first_link + 2 * (lower * stage.ports + port) + 1
        place[rows] //= stage.above
    return first, links


class Search:
    """Shortest paths through the switches of any fabric, between NICs and switches."""

    def __init__(self, fabric: Fabric, down: Collection[int] = ()) -> None:
        """``down`` are links between switches that carry nothing; NICs keep theirs."""
        self._fabric = fabric
        is_switch = np.zeros(fabric.num_nodes, np.bool_)
        is_switch[fabric.of_kinds(*SWITCH_KINDS)] = True
        self._switch = np.cumsum(is_switch) - 1  # number among the switches
        self._num_switches = int(np.count_nonzero(is_switch))
        inner = is_switch[fabric.src] & is_switch[fabric.dst]
        inner[list(down)] = False
        arcs = np.flatnonzero(inner)
        ups = fabric.to_network
        self._out = _rows_by(fabric.src, np.concatenate([arcs, ups]), fabric.num_nodes)
        self._in = _rows_by(self._switch[fabric.dst], arcs, self._num_switches)
        outs = np.flatnonzero(is_switch[fabric.src] & (fabric.nic_numbers[fabric.dst] >= 0))
        self._into = _rows_by(fabric.dst, outs, fabric.num_nodes)  # of each NIC

    def routes(self, policy: Policy, flows: FlowKeys) -> tuple[Rows, Links]:
        """Links from node ``flows.src[i]`` to ``flows.dst[i]``.

        Raises:
            RoutingError: nothing joins two; its ``args`` end with the number of the flow.
        """
        targets, at = np.unique(flows.dst, return_inverse=True)
        size = max(1, _AT_ONCE // max(1, self._num_switches))
        taken: list[tuple[Rows, Rows]] = []  # rows, and the link that each takes next
        for begin in range(0, len(targets), size):
            distance = self._distances(targets[begin : begin + size])
            rows = np.flatnonzero((at >= begin) & (at < begin + size))
            taken += self._walk(policy, flows, rows, distance, at - begin)
        row = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in taken)])
        link = np.concatenate([np.zeros(0, np.int64), *(links for _, links in taken)])
        order = np.argsort(row, kind="stable")
        return row_starts(np.bincount(row, minlength=len(at))), link[order].astype(np.int32)

    def _walk(
        self, policy: Policy, flows: FlowKeys, rows: Rows, distance: NDArray[np.int16], at: Rows
    ) -> list[tuple[Rows, Rows]]:
        """Hop by hop, all flows ``rows`` at once; ``at`` is the row of ``distance`` of each flow's target."""
        fabric, taken = self._fabric, []
        here, fan_out = flows.src.copy(), np.ones(len(flows.src), np.int64)
        rows = rows[here[rows] != flows.dst[rows]]
        while len(rows):
            first, near = self._nearest(here[rows], flows.dst[rows], distance, at[rows])
            count = np.diff(first)
            if np.any(count == 0):
                raise RoutingError(NOT_JOINED, int(rows[np.flatnonzero(count == 0)[0]]))
            chosen = np.zeros(len(rows), np.int64)
            if len(free := np.flatnonzero(count > 1)):
                some = rows[free]
                chosen[free] = policy.choose(flows.take(some), here[some], fan_out[some], count[free])
                fan_out[some] *= count[free]
            links = near[first[:-1] + chosen]
            taken.append((rows, links))
            here[rows] = fabric.dst[links]
            rows = rows[here[rows] != flows.dst[rows]]
        return taken

    def _nearest(self, here: Rows, dst: Rows, distance: NDArray[np.int16], at: Rows) -> tuple[Rows, Rows]:
        """Rows: the links from each node ``here`` that lead nearest to ``dst``, whose row of ``distance`` is ``at``."""
        ports = rows_at(self._out, here)
        row = np.repeat(np.arange(len(here)), np.diff(ports[0]))
        to = distance[at[row], self._switch[self._fabric.dst[ports[1]]]]
        last = rows_at(self._into, dst)  # where the next hop can be the NIC itself
        last_row = np.repeat(np.arange(len(here)), np.diff(last[0]))
        arrives = self._fabric.src[last[1]] == here[last_row]
        link = np.concatenate([last[1][arrives], ports[1]])
        row = np.concatenate([last_row[arrives], row])
        to = np.concatenate([np.full(np.count_nonzero(arrives), -1, np.int16), to])
        nearest = np.full(len(here), _FAR, np.int16)
        np.minimum.at(nearest, row, to)
        near = np.flatnonzero((to == nearest[row]) & (to != _FAR))
        near = near[np.argsort(row[near], kind="stable")]
        return row_starts(np.bincount(row[near], minlength=len(here))), link[near]

    def onward(self, here: Rows, target: Rows, ends: Rows) -> tuple[Rows, Rows, Rows]:
        """All links on shortest paths.

        Args:
            here: nodes to begin at. target: of each, the place in ``ends`` of the node to reach; something joins them.
            ends: NICs.

        Returns:
            Columns, a row for each link that may come next, by target and node: target, node, link.
        """
        fabric, found = self._fabric, [np.zeros((3, 0), np.int64)]
        size = max(1, _AT_ONCE // max(1, self._num_switches))
        for begin in range(0, len(ends), size):
            distance = self._distances(ends[begin : begin + size])
            mine = (target >= begin) & (target < begin + size)
            key = np.unique(target[mine] * fabric.num_nodes + here[mine])
            known = key[:0]
            while len(key):
                known = np.union1d(known, key)
                at, node = np.divmod(key, fabric.num_nodes)
                first, links = self._nearest(node, ends[at], distance, at - begin)
                at, node = (np.repeat(column, np.diff(first)) for column in (at, node))
                found.append(np.stack([at, node, links]))
                after = fabric.dst[links]
                on = after != ends[at]
                key = np.setdiff1d(at[on] * fabric.num_nodes + after[on], known)
        columns = np.concatenate(found, axis=1)
        rows = np.lexsort(columns[1::-1])
        return columns[0, rows], columns[1, rows], columns[2, rows]

    def _distances(self, targets: Rows) -> NDArray[np.int16]:
        """Hops from every switch to each target, a switch or a NIC."""
        found = np.full((len(targets), self._num_switches), _FAR, np.int16)
        near = rows_at(self._into, targets)
        row = np.repeat(np.arange(len(targets)), np.diff(near[0]))
        node = self._fabric.src[near[1]]
        switches = np.flatnonzero(self._fabric.nic_numbers[targets] < 0)
        row, switch = np.concatenate([row, switches]), self._switch[np.concatenate([node, targets[switches]])]
        hops = 0
        while len(row):
            found[row, switch] = hops
            hops += 1
            into = rows_at(self._in, switch)
            row = np.repeat(row, np.diff(into[0]))
            switch = self._switch[self._fabric.src[into[1]]]
            fresh = found[row, switch] == _FAR
            flat = np.unique(row[fresh] * self._num_switches + switch[fresh])
            row, switch = np.divmod(flat, self._num_switches)
        return found


def _rows_by(key: NDArray[np.integer], links: Rows, size: int) -> tuple[Rows, Rows]:
    """Rows: the links of every key, in the order of their numbers."""
    links = np.sort(links)
    order = np.argsort(key[links], kind="stable")
    return row_starts(np.bincount(key[links], minlength=size)), links[order]
