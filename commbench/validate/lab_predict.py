# SPDX-License-Identifier: Apache-2.0
"""What the simulator says of a point that was measured in a lab: same fabric, same schedules, same paths.

All jobs that ran at the time are simulated as one program on one fabric. Where the kernel's hash chose the paths, the
simulation takes those that the lab saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from commbench.cluster import Cluster
from commbench.collectives.sizes import buffer_elements
from commbench.collectives.spec import get_collective
from commbench.door import Result, simulate
from commbench.emulate.tables import rails_of
from commbench.libraries.gloo import GlooLibrary, transport_for
from commbench.network.transport import Connections, Transport
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.program.operations import Collective, Program, ProgramBuilder
from commbench.results.records import Measured
from commbench.routing.policies import get_policy
from commbench.routing.router import Router
from commbench.routing.routes import Flows, Links, Rows, as_flows, once_each, row_starts
from commbench.topology.fabric import Fabric
from commbench.topology.model import LinkKind
from commbench.units import seconds
from commbench.validate.lab_runs import lab_plan_of
from commbench.validate.legs import EmulatedFabric

__all__ = ["DRAWS", "ETHERNET_BYTES", "LabPrediction", "LabRoutes", "burst_bytes", "lab_network", "predict"]

ETHERNET_BYTES = 14  # of header, which queues count with every packet
DRAWS = 7  # simulations of what is left to chance; the median counts
_CONTENDED = 0.01  # of the time, that two flows must be on one link at once


@dataclass(frozen=True, slots=True)
class LabPrediction:
    """Simulated seconds of one job, and whether its fabric was contended: flows of two pairs shared a link."""

    time_s: float
    contended: bool


def predict(record: Measured, transport: Transport, topology: Fabric | None = None) -> LabPrediction:
    """Simulate what a record was measured on.

    Args:
        record: measured in a lab. transport: of its messages.
        topology: of the lab, with its rates; None takes the named one at the rate that the record tells.
    """
    lab = record.environment["emulated"]
    jobs = [tuple(job) for job in lab["jobs"]]
    chance = transport_for(transport, record.collective, record.algorithm)
    hosts = [host for job in jobs for host in job]
    cluster, connections = lab_network(record.environment, hosts, chance, topology)
    library = GlooLibrary(
        connections=connections, algorithm=record.algorithm, channels=lab["channels"], group=lab["group"]
    )
    program = _program(record, [len(job) for job in jobs])
    draws = range(DRAWS if chance.answers_late else 1)
    done = [simulate(program, cluster, library, seed=seed) for seed in draws]
    ends = [int(each.ends_ps()[lab["job"]]) for each in done]
    return LabPrediction(seconds(round(median(ends))), _contended(done[0], cluster.fabric))


def lab_network(
    environment: Mapping[str, Any], hosts: Sequence[int], transport: Transport, topology: Fabric | None = None
) -> tuple[Cluster, Connections]:
    """What messages of a run in a lab go over, by the environment of its record: routes, and what TCP and gloo add.

    Args:
        environment: of the record. hosts: rank of the topology of every rank that ran.
        transport: of its messages. topology: as for :func:`predict`.
    """
    lab = environment["emulated"]
    seen = lab.get("routes", {})
    if topology is None:
        named = EmulatedFabric(lab["topology"], lab["routing"], lab["rate_mbit"])
        routes = LabRoutes(_topology(named), lab["routing"], seen) if seen else _routes_of(named)
    else:
        routes = LabRoutes(topology, lab["routing"], seen)
    barrier_ps = 2 * transport.latency_ps * (len(hosts) - 1).bit_length()  # rounds of gloo's, which ends with time 0
    connections = Connections(transport, routes.num_rails, burst_bytes=burst_bytes(lab), idle_ps=barrier_ps)
    placed = np.array(hosts, dtype=np.int64)
    cluster = Cluster(fabric=routes.fabric, router=routes, placed=placed, one_machine=int(environment["cores_usable"]))
    return cluster, connections


def burst_bytes(lab: Mapping[str, Any]) -> int:
    """That a port's token bucket holds."""
    return int(lab["shaping"]["burst_packets"] * (lab["mtu"] + ETHERNET_BYTES))


@lru_cache(maxsize=16)
def _topology(fabric: EmulatedFabric) -> Fabric:
    return lab_plan_of(fabric).topology


@lru_cache(maxsize=16)
def _routes_of(fabric: EmulatedFabric) -> "LabRoutes":
    """As the tables say; found once, for a fit asks for them hundreds of times."""
    return LabRoutes(_topology(fabric), fabric.routing, {})


def _program(record: Measured, sizes: Sequence[int]) -> Program:
    """Jobs of so many ranks that do at once what was measured."""
    item = record.size_bytes // record.num_elements
    ranks = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    build = ProgramBuilder(sum(sizes))
    for job in ranks:
        elements = buffer_elements(get_collective(record.collective), record.ranks, record.num_elements)
        build.communicate(Collective(record.collective, job[None, :], elements, item))
    return build.build()


class LabRoutes:
    """The paths of a lab: rails by channel, switches as the tables or the kernel's hash chose them."""

    def __init__(self, topology: Fabric, routing: str, seen: Mapping[str, str]) -> None:
        self.policy = get_policy(routing)
        self.seed = 0
        self.fabric = topology
        self._seen = seen
        self._rails = [nics for _, nics in sorted(rails_of(topology).items())]
        self._router = Router(topology, routing)

    @property
    def num_rails(self) -> int:
        """NICs of every host."""
        return len(self._rails)

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """See :meth:`commbench.routing.routes.Routes.routes`."""
        return once_each(as_flows(self.fabric, src, dst, channel), self._rows)

    def _rows(self, flows: Flows) -> tuple[Rows, Links]:
        if not self._seen:
            return self._router.routes(flows.src, flows.dst, flows.channel)
        found = [self._route(*flow) for flow in zip(*flows.lists(), strict=True)]
        first = row_starts(np.array([len(route) for route in found], np.int64))
        return first, np.array([link for route in found for link in route], np.int32)

    def _route(self, src: int, dst: int, channel: int) -> Sequence[int]:
        ends = [self.fabric.ranks[rank] for rank in (src, dst)]
        nics = [self._rails[channel % len(self._rails)][end] for end in ends]
        nodes = [ends[0], nics[0], *self._seen[" ".join(nics)].split(), nics[1], ends[1]]
        edges = self.fabric.graph.edges
        return [edges[a, b]["link"].index for a, b in pairwise(nodes)]


def _contended(done: Result, topology: Fabric) -> bool:
    """Whether flows between different ends were on a link of the network at once, for a part of the time."""
    program, paths, start, end = done.tasks, done.paths, done.trace.start_ps, done.trace.end_ps
    assert isinstance(program, FlatProgram)
    assert paths is not None
    network = np.array([link.kind is LinkKind.NETWORK for link in topology.links])
    moves = np.flatnonzero(program.kind == TRANSFER)
    pair = program.rank * program.num_ranks + program.peer
    spans: dict[int, list[tuple[int, int, int]]] = {}
    for task in moves[np.lexsort((moves, start[moves]))].tolist():
        route = paths.route_of[task]
        for link in paths.links[paths.first[route] : paths.first[route + 1]].tolist():
            if network[link]:
                spans.setdefault(link, []).append((int(start[task]), int(end[task]), int(pair[task])))
    most = max(_overlap(each) for each in spans.values())
    return most > _CONTENDED * done.trace.finish_ps


def _overlap(spans: Sequence[tuple[int, int, int]]) -> int:
    """Time in which flows of different routes are there at once; spans in ascending order of their starts."""
    total, until, route = 0, 0, -1
    for start, end, of in spans:
        if of != route and start < until:
            total += min(end, until) - start
        if end > until:
            until, route = end, of
    return total
