# SPDX-License-Identifier: Apache-2.0
"""Simulate one collective on one topology: schedule -> tasks -> routes -> engine -> record and trace."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import build, get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.sizes import whole_elements
from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.network.bounds import lower_bound_s
from commbench.program.expand import expand_schedule
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.results.records import Simulated
from commbench.routing.router import Router
from commbench.sim import reference
from commbench.sim.trace import Trace
from commbench.topology.model import NodeKind, Topology
from commbench.units import seconds

__all__ = ["PLACEMENTS", "Simulation", "place", "run_tasks", "simulate", "switches_of"]

PLACEMENTS = ("linear", "random")


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What came out: the record, and for pictures the tasks and their trace."""

    record: Simulated
    program: FlatProgram
    trace: Trace


def place(topology: Topology, num_ranks: int, placement: str, seed: int) -> tuple[int, ...]:
    """Endpoint number of every rank: "linear" takes the first ones in order, "random" draws with the seed.

    Raises:
        InputError: more ranks than endpoints, or an unknown placement.
    """
    if not 1 <= num_ranks <= topology.num_ranks:
        raise InputError(
            f"{num_ranks} ranks on topology {topology.name}: it has {topology.num_ranks} endpoints, give 1 to that many"
        )
    if placement == "linear":
        return tuple(range(num_ranks))
    if placement == "random":
        return tuple(random.Random(seed).sample(range(topology.num_ranks), num_ranks))
    raise InputError(f"placement {placement!r} is unknown; known: {', '.join(PLACEMENTS)}")


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


def run_tasks(program: FlatProgram, router: Router, endpoints: Sequence[str]) -> Trace:
    """Run tasks whose rank r sits on the node ``endpoints[r]``."""
    routes: list[tuple[int, ...]] = []
    columns = (program.kind, program.rank, program.peer, program.channel)
    for kind, rank, peer, channel in zip(*(column.tolist() for column in columns), strict=True):
        routes.append(router.route_between(endpoints[rank], endpoints[peer], channel) if kind == TRANSFER else ())
    latency = {route: router.latency_ps(route) for route in set(routes)}
    topology = router.topology
    shared = topology.costs.cores_per_host
    return reference.run(
        program,
        bandwidths=[link.bandwidth for link in topology.links],
        routes=routes,
        latencies_ps=[latency[route] for route in routes],
        overhead_ps=topology.costs.message_overhead_ps,
        pools=None if shared is None else [topology.host_of(name) for name in endpoints],
        pool_size=shared or 1,
    )


def simulate(
    topology: Topology,
    collective: str,
    algorithm: str | Algorithm | Schedule,
    size_bytes: int,
    *,
    num_ranks: int | None = None,
    element_bytes: int = 4,
    slices: int | None = None,
    channels: int = 1,
    root: int = 0,
    group: int | None = None,
    routing: str | None = None,
    placement: str = "linear",
    seed: int = 0,
) -> Simulation:
    """Simulate a collective once.

    Args:
        topology: where.
        collective, algorithm: what; the algorithm is a name, an entry, or a schedule that was verified.
        size_bytes: as nccl-tests defines the size; rounded down to whole elements (per rank, where it has blocks).
        num_ranks: world size; None takes every endpoint of the topology.
        element_bytes: size of one element.
        slices: pieces to pipeline in; None takes the algorithm's default.
        channels: pieces that run side by side.
        root: root rank, for rooted collectives.
        group: ranks per host for hierarchical algorithms; None takes the topology's own.
        routing: policy; None takes the topology's own.
        placement: "linear" or "random".
        seed: of ECMP's hash and of random placement.

    Raises:
        InputError: a size below one element, or anything else that does not fit.
    """
    began = time.perf_counter()
    ranks = topology.num_ranks if num_ranks is None else num_ranks
    placed = place(topology, ranks, placement, seed)
    spec = get_collective(collective)
    num_elements = whole_elements(spec, ranks, size_bytes, element_bytes)
    if not isinstance(algorithm, Schedule):
        entry = get_algorithm(collective, algorithm) if isinstance(algorithm, str) else algorithm
        slices = entry.default_slices if slices is None else slices
        request = Request(
            num_ranks=ranks,
            slices=slices,
            channels=channels,
            root=root,
            group=max(1, topology.num_ranks // topology.num_hosts) if group is None else group,
            num_elements=num_elements,
            element_bytes=element_bytes,
        )
        schedule = build(entry, request)
        if entry.one_host and len({topology.host_of(topology.ranks[i]) for i in placed}) > 1:
            raise InputError(f"algorithm {entry.name} needs all {ranks} ranks on one host of {topology.name}")
    else:
        schedule, slices = algorithm, 1
    if schedule.num_ranks != ranks:
        raise InputError(f"schedule {schedule.algorithm} is for {schedule.num_ranks} ranks, not {ranks}")
    run = _run(schedule, topology, placed, num_elements, element_bytes, Router(topology, routing, seed))
    record = Simulated(
        collective=collective,
        algorithm=schedule.algorithm,
        library="schedule",
        ranks=ranks,
        size_bytes=num_elements * element_bytes,
        slices=slices,
        time_s=seconds(run.trace.finish_ps),
        busbw_factor=spec.busbw_factor(ranks),
        lower_bound_s=run.lower_bound_s,
        topology=topology.name,
        routing=routing or topology.routing,
        placement=placement,
        engine=reference.ENGINE,
        detail="transfer",
        transfers=run.program.num_transfers,
        wall_s=time.perf_counter() - began,
        seed=seed,
    )
    return Simulation(record, run.program, run.trace)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One schedule simulated."""

    program: FlatProgram
    trace: Trace
    lower_bound_s: float


def _run(
    schedule: Schedule,
    topology: Topology,
    placed: Sequence[int],
    num_elements: int,
    element_bytes: int,
    router: Router,
) -> _Run:
    """Tasks, routes and engine, for ranks on the endpoints ``placed``."""
    names = tuple(topology.ranks[i] for i in placed)
    program = expand_schedule(
        schedule,
        num_elements=num_elements,
        element_bytes=element_bytes,
        reduction_ps_per_byte=topology.costs.reduction_ps_per_byte,
    )
    trace = run_tasks(program, router, (*names, *switches_of(topology, names, schedule.num_switches)))
    bound_s = lower_bound_s(
        schedule.collective,
        topology,
        names,
        num_elements * element_bytes,
        root=schedule.root,
        in_switch=schedule.num_switches > 0,
    )
    return _Run(program, trace, bound_s)
