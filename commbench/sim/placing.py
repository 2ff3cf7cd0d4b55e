# SPDX-License-Identifier: Apache-2.0
"""From a program and a fabric to what engines take: which rank sits where, the routes between them, the processors."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from commbench.engine.engines import Run, run
from commbench.engine.setting import Paths, Processors, Setting
from commbench.errors import InputError
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.program.loop import LoopProgram
from commbench.routing.routes import Routes, route_latencies_ps
from commbench.sim.hostfile import read_host_file
from commbench.sim.transport import Conveyed, Way, convey, with_way_back
from commbench.topology.model import NodeKind, Topology
from commbench.topology.tree import Tree

__all__ = [
    "PLACEMENTS",
    "conveyed",
    "paths_of",
    "place",
    "processors_of",
    "ranks_per_host_of",
    "switches_of",
    "triples_of",
]

IntArray = npt.NDArray[np.int64]

PLACEMENTS = ("linear", "random", "round-robin")


def place(
    fabric: Topology | Tree, num_ranks: int | None, placement: str, seed: int, ranks_per_host: int | None = None
) -> IntArray:
    """Endpoint number of every rank.

    Args:
        fabric: where.
        num_ranks: how many; None takes as many as there are places.
        placement: "linear" takes the first endpoints in order, "random" draws with the seed, "round-robin" takes one of
            each host in turn; or the path of a host file (:mod:`commbench.sim.hostfile`).
        seed: of "random".
        ranks_per_host: so many of the first endpoints of each host are there to be taken; None: all.

    Raises:
        InputError: more ranks than places, fewer endpoints on a host, or an unknown placement.
    """
    host, within = _hosts_and_numbers(fabric)
    if ranks_per_host is not None:
        least = int(np.bincount(host).min())
        if not 1 <= ranks_per_host <= least:
            raise InputError(f"--ranks-per-host {ranks_per_host} on topology {fabric.name}: give 1 to {least}")
    places = np.flatnonzero(within < (ranks_per_host or fabric.num_ranks))
    if placement == "round-robin":
        places = places[np.lexsort((host[places], within[places]))]
    elif placement not in PLACEMENTS:
        places = np.array(_listed(fabric, placement, ranks_per_host), dtype=np.int64)
    count = len(places) if num_ranks is None else num_ranks
    if not 1 <= count <= len(places):
        there = "it has" if len(places) == fabric.num_ranks else f"with --placement {placement} there are"
        raise InputError(
            f"{count} ranks on topology {fabric.name}: {there} {len(places)} endpoints, give 1 to that many"
        )
    if placement == "random":
        return places[random.Random(seed).sample(range(len(places)), count)]
    return places[:count]


def _listed(fabric: Topology | Tree, placement: str, ranks_per_host: int | None) -> list[int]:
    path = Path(placement)
    if not (path.exists() or len(path.parts) > 1 or path.suffix):
        raise InputError(f"placement {placement!r} is unknown; known: {', '.join(PLACEMENTS)}, or a host file's path")
    return read_host_file(path, fabric, ranks_per_host)


def _hosts_and_numbers(fabric: Topology | Tree) -> tuple[IntArray, IntArray]:
    """Host of every endpoint, and its number among the endpoints there."""
    if isinstance(fabric, Tree):
        return np.arange(fabric.num_ranks), np.zeros(fabric.num_ranks, np.int64)
    host = np.array([fabric.host_of(name) for name in fabric.ranks], dtype=np.int64)
    host = np.unique(host, return_inverse=True)[1]
    order = np.argsort(host, kind="stable")
    first = np.searchsorted(host[order], np.arange(host.max() + 1))
    within = np.empty_like(host)
    within[order] = np.arange(len(host)) - first[host[order]]
    return host, within


def ranks_per_host_of(fabric: Topology | Tree, placed: IntArray) -> int:
    """How many ranks in a row sit on each host, 1 where that differs from host to host."""
    host = _hosts_and_numbers(fabric)[0][placed]
    ends = np.flatnonzero(np.diff(host, append=-1))
    runs = np.diff(ends, prepend=-1)
    return int(runs[0]) if np.all(runs == runs[0]) and len(runs) == len(np.unique(host)) else 1


def switches_of(topology: Topology, endpoints: Sequence[str], count: int) -> tuple[str, ...]:
    """The switches that take part in a schedule with ``count`` of them, in its own order.

    On one host these are its NVSwitches; across hosts the leaves that the ranks hang on would come first, then spines
    and cores, in the topology's order.

    Raises:
        InputError: the topology has fewer.
    """
    if count == 0:
        return ()
    hosts = {topology.host_of(name) for name in endpoints}
    kinds = (NodeKind.NVSWITCH,) if len(hosts) == 1 else (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)
    found = [n.name for kind in kinds for n in topology.of_kind(kind) if n.host is None or n.host in hosts]
    if len(found) < count:
        raise InputError(
            f"the schedule needs {count} switches that add; topology {topology.name} has {len(found)} for it"
        )
    return tuple(found[:count])


def triples_of(program: FlatProgram | LoopProgram) -> tuple[IntArray, IntArray]:
    """The distinct (sender, receiver, channel) of a program's transfers, shape (routes, 3), and for every task the
    number of its own, -1 for compute tasks.
    """
    moves = program.kind == TRANSFER
    columns = np.stack([program.rank[moves], program.peer[moves], program.channel[moves]])
    width = columns.max(axis=1, initial=0) + 1
    key = (columns[0] * width[1] + columns[1]) * width[2] + columns[2]
    _, at, number = np.unique(key, return_index=True, return_inverse=True)
    route_of = np.full(len(program.kind), -1, dtype=np.int64)
    route_of[moves] = number
    return columns[:, at].T, route_of


def paths_of(triples: IntArray, route_of: IntArray, router: Routes, endpoints: IntArray | Sequence[str]) -> Paths:
    """Links and routes for ranks on these endpoints: numbers of the fabric's ranks, or names where switches take part.

    Args:
        triples, route_of: as :func:`triples_of` gives them.
        router: of the fabric.
        endpoints: of every rank of the program.
    """
    fabric = router.fabric
    src, dst, channel = triples.T
    if isinstance(endpoints, np.ndarray):
        first, links = router.routes(endpoints[src], endpoints[dst], channel)
        latency_ps = route_latencies_ps(fabric, first, links)
        wires: IntArray = links.astype(np.int64)
        return Paths(fabric.bandwidths, first, wires, latency_ps, route_of, link_latencies_ps=fabric.latencies_ps)
    from commbench.routing.router import Router  # loads networkx

    assert isinstance(router, Router), "only a graph has names"
    routes = [router.route_between(endpoints[a], endpoints[b], c) for a, b, c in triples.tolist()]
    latencies_ps = [router.latency_ps(route) for route in routes]
    paths = Paths.of_lists(fabric.bandwidths.tolist(), routes, latencies_ps, route_of.tolist())
    return replace(paths, link_latencies_ps=fabric.latencies_ps)


def processors_of(fabric: Topology | Tree, endpoints: IntArray | Sequence[str]) -> Processors:
    """The processors that handle messages, by the fabric's costs."""
    costs = fabric.costs
    if costs.cores_per_host is None:
        return Processors(costs.message_overhead_ps)
    assert isinstance(fabric, Topology), "hosts of a tree have one rank each"
    names = [fabric.ranks[e] for e in endpoints] if isinstance(endpoints, np.ndarray) else endpoints
    pools = tuple(fabric.host_of(name) for name in names)
    return Processors(costs.message_overhead_ps, pools, costs.cores_per_host)


def conveyed(
    program: FlatProgram,
    router: Routes,
    endpoints: IntArray,
    way: Way,
    processors: Processors,
    engine: str = "compiled",
) -> Conveyed:
    """Run a program over a transport."""
    triples, route_of = triples_of(program)
    paths = paths_of(triples, route_of, router, endpoints)
    first, links = router.routes(endpoints[triples[:, 1]], endpoints[triples[:, 0]], triples[:, 2])
    paths = with_way_back(program, paths, (first, links.astype(np.int64)), way.transport)
    return convey(program, paths, way, lambda p, over: run(p, Setting(over, processors), Run(engine=engine)).trace)
