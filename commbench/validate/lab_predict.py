# SPDX-License-Identifier: Apache-2.0
"""What the simulator says of a point that was measured in a lab: same fabric, same schedules, same paths.

All jobs that ran at the time are simulated as one program on one fabric, background flows beside them; degraded links
have the rates that they had. Where the kernel's hash chose the paths, the simulation takes those that the lab saw.

Simulated is what timed iterations follow: two before them, in which windows of congestion grow and after which the
token buckets still owe the last packets, barriers in between, and then two that count. Where jobs or background flows
meet it is more of them, and their median: iterations of one run differ by whose turn it is (by 12 %, in the lab as
well). And from iteration to iteration packets of background flows pile up in the queues between their ends, until as
many leave as come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.collectives.sizes import buffer_elements
from commbench.collectives.spec import get_collective
from commbench.door import Result, simulate
from commbench.emulate.tables import rails_of
from commbench.engine.engines import Run
from commbench.libraries.gloo import BARRIER, GlooLibrary, transport_for
from commbench.network.models import FLUID
from commbench.network.transport import Connections, Transport
from commbench.program.flat import COMPUTE, TRANSFER, FlatProgram
from commbench.program.operations import Collective, Program, ProgramBuilder
from commbench.results.records import Measured
from commbench.routing.policies import get_policy
from commbench.routing.router import Router
from commbench.routing.routes import Flows, Links, Rows, as_flows, once_each, row_starts
from commbench.topology.fabric import Fabric
from commbench.topology.model import LinkKind
from commbench.units import seconds
from commbench.validate.lab_background import flows_of, outlasting, with_flows
from commbench.validate.lab_runs import lab_plan_of
from commbench.validate.legs import EmulatedFabric, fabric_of

__all__ = [
    "DRAWS",
    "ETHERNET_BYTES",
    "LabDraw",
    "LabPrediction",
    "LabRoutes",
    "burst_bytes",
    "lab_draws",
    "lab_network",
    "median_s",
    "predict",
]


ETHERNET_BYTES = 14  # of header, which queues count with every packet
DRAWS = 4  # simulations of a point; the median counts
_BEFORE, _COUNTED = 2, 2  # iterations
_BEFORE_BESIDE_OTHERS, _COUNTED_BESIDE_OTHERS = 4, 7  # after 4 no leg of the wide campaign gets slower any more
_CONTENDED = 0.01  # of the time, that two flows must be on one link at once


@dataclass(frozen=True, slots=True)
class LabPrediction:
    """Simulated seconds of one job, and whether its fabric was contended: flows of two pairs shared a link."""

    time_s: float
    contended: bool


def predict(
    record: Measured, transport: Transport, topology: Fabric | None = None, num_draws: int = DRAWS
) -> LabPrediction:
    """Simulate what a record was measured on.

    Args:
        record: measured in a lab. transport: of its messages.
        topology: of the lab, with its rates; None takes the named one at the rate that the record tells.
    """
    draws = lab_draws(record, transport, FLUID.name, topology, num_draws)
    return LabPrediction(median_s(draws), _contended(draws[0].done, draws[0].fabric))


@dataclass(frozen=True, slots=True)
class LabDraw:
    """One simulation of a point: ``lasted_ps`` of its job, all that was simulated, and on which fabric."""

    lasted_ps: float
    done: Result
    fabric: Fabric


def lab_draws(
    record: Measured, transport: Transport, network: str, topology: Fabric | None = None, num_draws: int = DRAWS
) -> list[LabDraw]:
    """A point, simulated ``num_draws`` times; who posts when is left to chance.

    Args:
        record, transport, topology: as for :func:`predict`. network: that carries the messages.
    """
    lab = record.environment["emulated"]
    jobs = [tuple(job) for job in lab["jobs"]]
    chance = transport_for(transport, record.collective, record.algorithm)
    hosts = [host for job in jobs for host in job]
    flows = flows_of(lab)
    cluster, connections = lab_network(record.environment, hosts, chance, topology, flows)
    library = GlooLibrary(
        connections=connections, algorithm=record.algorithm, channels=lab["channels"], group=lab["group"]
    )
    alone = len(jobs) == 1 and not flows
    before, counted = (_BEFORE, _COUNTED) if alone else (_BEFORE_BESIDE_OTHERS, _COUNTED_BESIDE_OTHERS)

    def simulated(seed: int, flow_bytes: Sequence[int]) -> Result:
        program = _in_a_row(record, [len(job) for job in jobs], flow_bytes, before + counted)
        return simulate(program, cluster, library, Run(network=network), seed=seed)

    found = []
    for seed in range(num_draws):
        done = outlasting(partial(simulated, seed), len(flows), record.size_bytes)
        iterations = range(before, before + counted)
        lasted_ps = median(_lasted(done, len(jobs), lab["job"], number) for number in iterations)
        found.append(LabDraw(lasted_ps, done, cluster.fabric))
    return found


def median_s(draws: Sequence[LabDraw]) -> float:
    """Seconds of the draw in the middle."""
    return seconds(round(median(draw.lasted_ps for draw in draws)))


def lab_network(
    environment: Mapping[str, Any],
    hosts: Sequence[int],
    transport: Transport,
    topology: Fabric | None = None,
    flows: Sequence[tuple[int, int]] = (),
) -> tuple[Cluster, Connections]:
    """What messages of a run in a lab go over, by the environment of its record: routes, and what TCP and gloo add.

    Args:
        environment: of the record. hosts: rank of the topology of every rank that ran.
        transport: of its messages. topology: as for :func:`predict`.
        flows: ranks of the topology at the ends of background flows, which come behind those that ran.
    """
    lab = environment["emulated"]
    seen = lab.get("routes", {})
    if topology is None:
        named = fabric_of(lab)
        routes = LabRoutes(_topology(named), lab["routing"], seen) if seen else _routes_of(named)
    else:
        routes = LabRoutes(topology, lab["routing"], seen)
    connections = Connections(transport, routes.num_rails, burst_bytes=burst_bytes(lab))
    placed = np.array([*hosts, *chain.from_iterable(flows)], dtype=np.int64)
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


def _in_a_row(record: Measured, sizes: Sequence[int], flow_bytes: Sequence[int], iterations: int) -> Program:
    """Jobs of so many ranks that do what was measured, meet in a barrier, all jobs together, and do it again; messages
    of so many bytes beside them all the time."""
    item = record.size_bytes // record.num_elements
    ranks = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    elements = buffer_elements(get_collective(record.collective), record.ranks, record.num_elements)
    build = ProgramBuilder(sum(sizes) + 2 * len(flow_bytes))
    each = [Collective(record.collective, job[None, :], elements, item) for job in ranks]
    met: list[int] = []
    for number in range(iterations):
        if number:
            met = [build.communicate(Collective(BARRIER, job[None, :], 1, 1)) for job in ranks]
        for what in each:
            build.communicate(what, after=met)
    return with_flows(build, flow_bytes)


def _lasted(done: Result, num_jobs: int, job: int, iteration: int) -> int:
    """Picoseconds of an iteration, from 1 on, on the rank that needed longest, as records have it."""
    begun, ended = (_ends(done, (2 * iteration - late) * num_jobs + job) for late in (1, 0))
    return int((ended - begun).max())


def _ends(done: Result, operation: int) -> IntArray:
    """When every rank had done an operation; 0 where it has no part in it."""
    program = done.tasks
    assert isinstance(program, FlatProgram)
    mine = (program.operation == operation) & (program.kind == COMPUTE)
    found = np.zeros(program.num_ranks, dtype=np.int64)
    np.maximum.at(found, program.rank[mine], done.trace.end_ps[mine])
    return found


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
    moves = np.flatnonzero((program.kind == TRANSFER) & (program.num_bytes > 0))  # notices are carried by payloads
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
