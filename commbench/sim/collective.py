# SPDX-License-Identifier: Apache-2.0
"""Simulate one collective on one topology: schedule -> tasks -> routes -> engine -> record and trace."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from commbench.collectives.registry import build_schedule, get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.network.bounds import lower_bound_s
from commbench.program.expand import expand_schedule
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.results.records import Simulated
from commbench.routing.router import Router
from commbench.sim import reference
from commbench.sim.trace import Trace
from commbench.topology.model import Topology
from commbench.units import seconds

__all__ = ["PLACEMENTS", "Simulation", "place", "run_tasks", "simulate"]

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


def run_tasks(program: FlatProgram, router: Router, placed: Sequence[int]) -> Trace:
    """Run tasks whose rank r sits on endpoint ``placed[r]``."""
    routes: list[tuple[int, ...]] = []
    columns = (program.kind, program.rank, program.peer, program.channel)
    for kind, rank, peer, channel in zip(*(column.tolist() for column in columns), strict=True):
        routes.append(router.route(placed[rank], placed[peer], channel) if kind == TRANSFER else ())
    latency = {route: router.latency_ps(route) for route in set(routes)}
    topology = router.topology
    shared = topology.costs.cores_per_host
    return reference.run(
        program,
        bandwidths=[link.bandwidth for link in topology.links],
        routes=routes,
        latencies_ps=[latency[route] for route in routes],
        overhead_ps=topology.costs.message_overhead_ps,
        pools=None if shared is None else [topology.host_of(topology.ranks[i]) for i in placed],
        pool_size=shared or 1,
    )


def simulate(
    topology: Topology,
    collective: str,
    algorithm: str | Schedule,
    size_bytes: int,
    *,
    num_ranks: int | None = None,
    element_bytes: int = 4,
    slices: int | None = None,
    routing: str | None = None,
    placement: str = "linear",
    seed: int = 0,
) -> Simulation:
    """Simulate a collective once.

    Args:
        topology: where.
        collective, algorithm: what; the algorithm is a name or a schedule that was verified.
        size_bytes: as nccl-tests defines the size; rounded down to whole elements.
        num_ranks: world size; None takes every endpoint of the topology.
        element_bytes: size of one element.
        slices: pieces to pipeline in; None takes the algorithm's default.
        routing: policy; None takes the topology's own.
        placement: "linear" or "random".
        seed: of ECMP's hash and of random placement.

    Raises:
        InputError: a size below one element, or anything else that does not fit.
    """
    began = time.perf_counter()
    ranks = topology.num_ranks if num_ranks is None else num_ranks
    num_elements = size_bytes // element_bytes
    if num_elements < 1:
        raise InputError(f"size {size_bytes} B is smaller than one element of {element_bytes} B")
    placed = place(topology, ranks, placement, seed)
    if isinstance(algorithm, Schedule):
        schedule, slices = algorithm, 1
    else:
        slices = get_algorithm(collective, algorithm).default_slices if slices is None else slices
        schedule = build_schedule(collective, algorithm, ranks, slices)
    if schedule.num_ranks != ranks:
        raise InputError(f"schedule {schedule.algorithm} is for {schedule.num_ranks} ranks, not {ranks}")
    program = expand_schedule(
        schedule,
        num_elements=num_elements,
        element_bytes=element_bytes,
        reduction_ps_per_byte=topology.costs.reduction_ps_per_byte,
    )
    router = Router(topology, routing, seed)
    trace = run_tasks(program, router, placed)
    size = num_elements * element_bytes
    record = Simulated(
        collective=collective,
        algorithm=schedule.algorithm,
        library="schedule",
        ranks=ranks,
        size_bytes=size,
        slices=slices,
        time_s=seconds(trace.finish_ps),
        busbw_factor=get_collective(collective).busbw_factor(ranks),
        lower_bound_s=lower_bound_s(collective, topology, tuple(topology.ranks[i] for i in placed), size),
        topology=topology.name,
        routing=router.policy.name,
        placement=placement,
        engine=reference.ENGINE,
        detail="transfer",
        transfers=program.num_transfers,
        wall_s=time.perf_counter() - began,
        seed=seed,
    )
    return Simulation(record, program, trace)
