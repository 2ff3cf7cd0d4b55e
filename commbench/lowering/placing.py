# SPDX-License-Identifier: Apache-2.0
"""From a program and a cluster to what engines take: the routes between its ranks, and their processors."""

from dataclasses import replace

import numpy as np

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.engine.setting import Paths, Processors
from commbench.errors import InputError
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.program.loop import LoopProgram
from commbench.routing.router import Router
from commbench.routing.routes import Links, Routes, Rows, route_latencies_ps
from commbench.topology.fabric import Fabric
from commbench.topology.model import NodeKind

__all__ = [
    "paths_of",
    "paths_with_switches",
    "processors_of",
    "shared_leaves",
    "switches_of",
    "triples_of",
    "with_ways",
]


def switches_of(cluster: Cluster, count: int) -> IntArray:
    """Nodes of the switches that take part in a schedule with ``count`` of them, in its own order.

    On one host these are its NVSwitches; across hosts a leaf that all of them hang on comes first, then the other
    leaves, spines and cores, in the fabric's order.

    Raises:
        InputError: the fabric has fewer.
    """
    fabric, hosts = cluster.fabric, np.unique(cluster.hosts)
    kinds = (NodeKind.NVSWITCH,) if len(hosts) == 1 else (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)
    found = np.concatenate([fabric.of_kinds(kind) for kind in kinds])
    found = found[np.isin(fabric.node_hosts[found], [-1, *hosts])]
    if len(found) < count:
        raise InputError(
            f"the schedule needs {count} switches that add; topology {fabric.name} has {len(found)} for it"
        )
    first = shared_leaves(cluster) if len(hosts) > 1 else found[:0]
    return np.concatenate([first, found[~np.isin(found, first)]])[:count]


def shared_leaves(cluster: Cluster) -> IntArray:
    """The leaves that every rank has a NIC on, in the fabric's order."""
    fabric = cluster.fabric
    up = fabric.to_network[np.isin(fabric.dst[fabric.to_network], fabric.of_kinds(NodeKind.LEAF))]
    rank_of = np.full(fabric.num_nodes, -1)
    rank_of[fabric.nics] = np.repeat(np.arange(fabric.num_ranks), np.diff(fabric.nics_first))
    pairs = np.stack([rank_of[fabric.src[up]], fabric.dst[up]])
    pairs = np.unique(pairs[:, np.isin(pairs[0], cluster.placed)], axis=1)
    leaves, counts = np.unique(pairs[1], return_counts=True)
    shared: IntArray = leaves[counts == cluster.num_ranks].astype(np.int64)
    return shared


def triples_of(program: FlatProgram | LoopProgram, *, by_operation: bool = False) -> tuple[IntArray, IntArray]:
    """The distinct (sender, receiver, channel) of a program's transfers, shape (routes, 3), and for every task the
    number of its own, -1 for compute tasks. ``by_operation``: those of different operations are distinct, too.
    """
    moves = program.kind == TRANSFER
    columns = np.stack([program.rank[moves], program.peer[moves], program.channel[moves]])
    width = columns.max(axis=1, initial=0) + 1
    key = (columns[0] * width[1] + columns[1]) * width[2] + columns[2]
    if by_operation:
        assert isinstance(program, FlatProgram), "a looped program is one operation"
        key = key * (program.operation.max(initial=0) + 1) + program.operation[moves]
    _, at, number = np.unique(key, return_index=True, return_inverse=True)
    route_of = np.full(len(program.kind), -1, dtype=np.int64)
    route_of[moves] = number
    return columns[:, at].T, route_of


def paths_of(triples: IntArray, route_of: IntArray, router: Routes, endpoints: IntArray) -> Paths:
    """Links and routes for ranks on these endpoints.

    Args:
        triples, route_of: as :func:`triples_of` gives them.
        router: of the fabric.
        endpoints: of every rank of the program, as numbers of the fabric's ranks.
    """
    src, dst, channel = triples.T
    return _paths(router.fabric, router.routes(endpoints[src], endpoints[dst], channel), route_of)


def paths_with_switches(triples: IntArray, route_of: IntArray, cluster: Cluster, switches: IntArray) -> Paths:
    """The same where ``switches`` (nodes) take part behind the ranks."""
    nodes = np.concatenate([cluster.fabric.endpoints[cluster.placed].astype(np.int64), switches])
    src, dst, channel = triples.T
    assert isinstance(cluster.router, Router), "only a whole fabric has switches"
    return _paths(cluster.fabric, cluster.router.between(nodes[src], nodes[dst], channel), route_of)


def with_ways(paths: Paths, triples: IntArray, cluster: Cluster) -> Paths:
    """The same with all shortest ways of every route."""
    src, dst, channel = triples.T
    assert isinstance(cluster.router, Router), "only a router knows ways that no message takes"
    return replace(paths, ways=cluster.router.ways(cluster.placed[src], cluster.placed[dst], channel))


def _paths(fabric: Fabric, routes: tuple[Rows, Links], route_of: IntArray) -> Paths:
    first, links = routes
    latency_ps = route_latencies_ps(fabric, first, links)
    wires: IntArray = links.astype(np.int64)
    inside, latencies_ps = fabric.inside_hosts, fabric.latencies_ps
    return Paths(fabric.bandwidths, first, wires, latency_ps, route_of, link_latencies_ps=latencies_ps, inside=inside)


def processors_of(fabric: Fabric, endpoints: IntArray) -> Processors:
    """The processors that handle messages, by the fabric's costs."""
    costs = fabric.costs
    if costs.cores_per_host is None:
        return Processors(costs.message_overhead_ps)
    return Processors(costs.message_overhead_ps, tuple(fabric.host_of[endpoints].tolist()), costs.cores_per_host)
