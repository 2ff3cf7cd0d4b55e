# SPDX-License-Identifier: Apache-2.0
"""Simulate one collective on one topology: schedule -> tasks -> routes -> engine -> record and trace."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.sizes import buffer_elements, whole_elements
from commbench.collectives.spec import get_collective
from commbench.collectives.traffic import traffic_of
from commbench.engine.engines import DETAILS, Done, Run, run
from commbench.engine.setting import CutOff, Setting
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.network.models import FLUID
from commbench.network.transport import Transport
from commbench.program.flat import FlatProgram, together
from commbench.program.loop import LoopProgram
from commbench.results.records import Simulated
from commbench.routing.routes import Routes, make_router
from commbench.sim.coupled import couple, coupled_program
from commbench.sim.job import Job, form_of, group_of, job_of, lower_bound_of, seats_of, tasks_of
from commbench.sim.links import busiest_links
from commbench.sim.nics import unused_nics
from commbench.sim.placing import (
    conveyed,
    paths_of,
    place,
    processors_of,
    switches_of,
    triples_of,
)
from commbench.sim.transport import Way
from commbench.topology.jobs import deal
from commbench.topology.model import Topology
from commbench.topology.tree import Tree
from commbench.units import seconds

if TYPE_CHECKING:
    from commbench.sim.scenario import Scenario

__all__ = ["Simulation", "run_tasks", "simulate"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What came out: the record, and for pictures the tasks and their trace (see ``keep_trace`` of simulate).

    ``hint`` is a line for people on what would be faster, "" if there is none or none was asked for.
    """

    record: Simulated
    program: FlatProgram | LoopProgram
    trace: Trace
    hint: str = ""

    @property
    def flat(self) -> FlatProgram:
        """The tasks one by one, beside their spans in the trace."""
        assert isinstance(self.program, FlatProgram), "simulate with keep_trace"
        return self.program


def simulate(
    fabric: Topology | Tree,
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
    ranks_per_host: int | None = None,
    jobs: str | None = None,
    seed: int = 0,
    engine: str = "compiled",
    network: str = "fluid",
    detail: str = "transfer",
    scenario: "Scenario | None" = None,
    transport: Transport | None = None,
    keep_trace: bool = True,
    links: bool = False,
    hints: bool = False,
    router: Routes | None = None,
    progress: Callable[[float], None] | None = None,
    run_id: str = "",
) -> Simulation:
    """Simulate a collective once.

    Args:
        fabric: where.
        collective, algorithm: what; the algorithm is a name, an entry, or a schedule that was verified.
        size_bytes: as nccl-tests defines the size; rounded down to whole elements (per rank, where it has blocks).
        num_ranks: world size; None takes every endpoint of the topology.
        element_bytes: size of one element.
        slices: pieces to pipeline in; None takes the algorithm's default.
        channels: pieces that run side by side.
        root: root rank, for rooted collectives.
        group: ranks per host for hierarchical algorithms; None takes the topology's own.
        routing: policy; None takes the topology's own.
        placement: "linear", "random", "round-robin" or the path of a host file (:func:`commbench.sim.placing.place`).
        ranks_per_host: so many endpoints of every host are used; None means all.
        jobs: the ranks of jobs that do the same at once, or their number (:func:`commbench.topology.jobs.deal`); the
            record is that of the slowest. None means one of all ranks.
        seed: of ECMP's hash, of random placement and of jitter.
        engine, network, detail: see :mod:`commbench.engine.engines`.
        scenario: what goes wrong while it runs; None means nothing.
        transport: what messages cost beside their payload; None means that they cost what the topology says alone.
        keep_trace: whether the spans of all tasks are wanted; without them large worlds take less time and memory.
        links: whether the record names the busiest links. hints: whether unused NICs are looked for.
        router: of the fabric with ``routing`` and ``seed``, for callers that simulate often; None makes one.
        progress: called now and then with the share of the work that is done.
        run_id: identifies the invocation in the record.

    Raises:
        InputError: a size below one element, or anything else that does not fit.
        RunError: the scenario cuts off a rank that has something to send.
    """
    began = time.perf_counter()
    if detail not in DETAILS:
        raise InputError(f"--detail {detail!r} is unknown; known: {', '.join(DETAILS)}")
    if jobs is not None and (detail != "transfer" or transport is not None):
        raise InputError(f"--jobs {jobs} knows single transfers alone: give --detail transfer, and no transport")
    placed = place(fabric, num_ranks, placement, seed, ranks_per_host)
    router = make_router(fabric, routing, seed) if router is None else router
    spec = get_collective(collective)
    traced = keep_trace or jobs is not None
    how = Run(engine=engine, network=network, detail=detail, keep_trace=traced, progress=progress)
    members = [np.arange(len(placed))] if jobs is None else [np.array(job) for job in deal(jobs, len(placed))]
    asked = Request(num_ranks=1, channels=channels, root=root, element_bytes=element_bytes)
    whole_hosts = jobs is None and placement in ("linear", "random") and ranks_per_host is None
    work = []
    for own in (placed[ranks] for ranks in members):
        hosts, ways = seats_of(fabric, own) if group is None else (None, ())
        request = replace(
            asked,
            num_ranks=len(own),
            group=group_of(fabric, own, whole_hosts) if group is None else group,
            hosts=hosts,
            ways=ways,
            num_elements=buffer_elements(spec, len(own), whole_elements(spec, len(own), size_bytes, element_bytes)),
        )
        work.append(job_of(router, own, *form_of(fabric, own, algorithm, collective, request, slices, how), request))
    alone = jobs is None
    done = _alone(work[0], how, scenario, transport) if alone else _beside(work, members, placed, how, scenario)
    ends_ps = [done.finish_ps] if alone else _ends_ps(done, len(work))
    job = work[int(np.argmax(ends_ps))]
    bound_s = lower_bound_of(job, root)
    record = Simulated(
        run=run_id,
        channels=channels,
        group=request.group,
        root=root,
        element_bytes=element_bytes,
        lower_bound_s=bound_s,
        placement=placement if ranks_per_host is None else f"{placement}, {ranks_per_host} per host",
        engine=engine,
        detail=detail,
        **_found(job, done),
        jobs=() if jobs is None else _each(members, ends_ps),
        links=_links(done, job, bound_s) if links else (),
        **_told(network, transport, scenario),
        wall_s=time.perf_counter() - began,
        seed=seed,
    )
    return Simulation(record, done.program, done.trace, _hint(algorithm, request, job) if hints and alone else "")


def _found(job: Job, done: Done) -> dict[str, Any]:
    """What the record says of a job that was carried out."""
    return {
        "collective": job.form.collective,
        "algorithm": job.form.algorithm,
        "library": "schedule",
        "ranks": len(job.placed),
        "size_bytes": job.size_bytes,
        "slices": job.slices,
        "time_s": seconds(done.finish_ps),
        "busbw_factor": get_collective(job.form.collective).busbw_factor(len(job.placed)),
        "topology": job.fabric.name,
        "routing": job.router.policy.name,
        "transfers": done.transfers,
        "shortcut": done.shortcut,
    }


def _hint(algorithm: str | Algorithm | Schedule, request: Request, job: Job) -> str:
    if isinstance(algorithm, Schedule):
        return ""
    entry = get_algorithm(job.form.collective, algorithm) if isinstance(algorithm, str) else algorithm
    return unused_nics(entry, request, job.router, job.placed)


def _alone(job: Job, how: Run, scenario: "Scenario | None", transport: Transport | None) -> Done:
    if transport is not None:
        return _over(transport, job, how, scenario)
    return _coupled(job, how, scenario) if how.detail == "collective" else _whole(job, how, scenario)


def _links(done: Done, job: Job, bound_s: float) -> tuple[Mapping[str, Any], ...]:
    if done.paths is None:
        raise InputError("--links counts bytes on routes that stay, and the scenario moves some: leave it out")
    return busiest_links(done.program, done.paths, job.fabric, seconds(done.finish_ps), bound_s)


def _each(members: Sequence[IntArray], ends_ps: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"ranks": ranks.tolist(), "time_s": seconds(end)} for ranks, end in zip(members, ends_ps, strict=True)
    )


def _told(model: str, transport: Transport | None, scenario: "Scenario | None") -> dict[str, Any]:
    """What the record says of messages and of what went wrong."""
    network = {"network": model if transport is None else transport.name}
    if scenario is None:
        return network
    return {**network, "scenario": scenario.name, "scenario_digest": scenario.digest, "jitter": scenario.jitter}


def run_tasks(
    program: FlatProgram, router: Routes, endpoints: IntArray | Sequence[str], engine: str = "compiled"
) -> Trace:
    """Run any program whose rank r sits on ``endpoints[r]`` (a node's name, or its number among the fabric's ranks)."""
    fabric = router.fabric
    assert isinstance(fabric, Topology | Tree)
    setting = Setting(paths_of(*triples_of(program), router, endpoints), processors_of(fabric, endpoints))
    return run(program, setting, Run(engine=engine)).trace


def _coupled(job: Job, how: Run, scenario: "Scenario | None") -> Done:
    """Collective detail."""
    if scenario is not None:
        raise InputError(
            "--detail collective knows no single transfers, so no --scenario or --jitter: give --detail transfer"
        )
    if job.num_switches:
        raise InputError(f"algorithm {job.form.algorithm}: switches that add need --detail transfer")
    processors = processors_of(job.fabric, job.placed)
    flow = couple(traffic_of(job.form, job.num_elements, job.element_bytes), job.router, job.placed, processors)
    program, paths = coupled_program(flow, job.fabric, len(job.placed))
    done = run(program, Setting(paths), how)
    return replace(done, transfers=flow.transfers, shortcut="one coupled flow instead of transfers, an estimate")


def _whole(job: Job, how: Run, scenario: "Scenario | None") -> Done:
    """Every transfer, or as many as stand for every transfer."""
    program = tasks_of(job)
    if isinstance(program, LoopProgram) and (how.keep_trace or how.engine == "reference"):
        program = program.unroll()
    return _carried_out(program, job, how, scenario)


def _beside(
    work: Sequence[Job], members: Sequence[IntArray], placed: IntArray, how: Run, scenario: "Scenario | None"
) -> Done:
    """Several jobs that start together, as one program of all ranks in which each job is an operation."""
    if any(job.num_switches for job in work):
        raise InputError(f"algorithm {work[0].form.algorithm}: switches that add serve one job, not --jobs")
    tasks = [tasks_of(job) for job in work]
    program = together([each.unroll() if isinstance(each, LoopProgram) else each for each in tasks])
    order = np.concatenate(members)
    program = replace(
        program,
        num_ranks=len(placed),
        rank=order[program.rank],
        peer=np.where(program.peer < 0, -1, order[program.peer]),
    )
    return _carried_out(program, replace(work[0], placed=placed), how, scenario)


def _ends_ps(done: Done, num_jobs: int) -> list[int]:
    """When the last task of each job ended."""
    assert isinstance(done.program, FlatProgram)
    return [int(done.trace.end_ps[done.program.operation == job].max(initial=0)) for job in range(num_jobs)]


def _carried_out(program: FlatProgram | LoopProgram, job: Job, how: Run, scenario: "Scenario | None") -> Done:
    """The tasks of a job in its setting, and in what a scenario makes of it."""
    triples, route_of = triples_of(program)
    endpoints: IntArray | tuple[str, ...] = job.placed
    if job.num_switches:
        assert isinstance(job.fabric, Topology)
        names = tuple(job.fabric.ranks[i] for i in job.placed)
        endpoints = (*names, *switches_of(job.fabric, names, job.num_switches))
    paths = paths_of(triples, route_of, job.router, endpoints)
    processors = processors_of(job.fabric, endpoints)
    if scenario is None:
        return run(program, Setting(paths, processors), how)
    if job.num_switches:
        raise InputError(f"algorithm {job.form.algorithm}: a scenario with switches that add is not supported")
    from commbench.sim.scenario import disturb, explain

    placed = np.stack([job.placed[triples[:, 0]], job.placed[triples[:, 1]], triples[:, 2]], axis=1)
    changed = disturb(scenario, program, paths, placed, job.router)
    setting = Setting(changed.paths, processors, changed.changes)
    try:
        return run(changed.program, setting, replace(how, num_foreground=changed.num_foreground))
    except CutOff as cut:
        raise explain(cut, scenario, changed, job.router) from None


def _over(transport: Transport, job: Job, how: Run, scenario: "Scenario | None") -> Done:
    """Every message as the transport carries it out."""
    if scenario is not None or how.detail != "transfer" or job.num_switches:
        raise InputError("a transport goes with --detail transfer, and without a scenario or switches that add")
    program = tasks_of(job)
    flat = program.unroll() if isinstance(program, LoopProgram) else program
    if how.network != FLUID.name:
        raise InputError(f"--network {how.network} knows no transport: leave one of them out")
    own = replace(processors_of(job.fabric, job.placed), overhead_ps=transport.overhead_ps)
    done = conveyed(flat, job.router, job.placed, Way(transport), own, how.engine)
    return Done(program=done.program, trace=done.trace, finish_ps=done.trace.finish_ps, transfers=flat.num_transfers)
