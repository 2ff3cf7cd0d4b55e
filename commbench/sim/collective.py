# SPDX-License-Identifier: Apache-2.0
"""Simulate one collective on one topology: schedule -> tasks -> routes -> engine -> record and trace."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import build, get_algorithm, rounds_of
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule
from commbench.collectives.sizes import whole_elements
from commbench.collectives.spec import get_collective
from commbench.collectives.traffic import traffic_of
from commbench.errors import InputError
from commbench.network.bounds import lower_bound_s
from commbench.network.transport import Transport
from commbench.program.expand import expand_rounds, expand_schedule
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.results.records import Simulated
from commbench.routing.routes import Routes, make_router
from commbench.sim.coupled import couple, coupled_program
from commbench.sim.engines import DETAILS, Done, Run, run
from commbench.sim.placing import conveyed, paths_of, place, processors_of, switches_of, triples_of
from commbench.sim.setting import CutOff, Setting
from commbench.sim.trace import Trace
from commbench.sim.transport import Way
from commbench.topology.model import Topology
from commbench.topology.tree import Tree
from commbench.units import seconds

if TYPE_CHECKING:
    from commbench.sim.scenario import Scenario

__all__ = ["Simulation", "run_tasks", "simulate"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What came out: the record, and for pictures the tasks and their trace (see ``keep_trace`` of simulate)."""

    record: Simulated
    program: FlatProgram | LoopProgram
    trace: Trace

    @property
    def flat(self) -> FlatProgram:
        """The tasks one by one, beside their spans in the trace."""
        assert isinstance(self.program, FlatProgram), "simulate with keep_trace"
        return self.program


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """A collective of ranks that sit somewhere."""

    form: Rounds | Schedule
    slices: int
    num_elements: int
    element_bytes: int
    fabric: Topology | Tree
    placed: IntArray
    router: Routes

    @property
    def size_bytes(self) -> int:
        return self.num_elements * self.element_bytes

    @property
    def num_switches(self) -> int:
        return self.form.num_switches if isinstance(self.form, Schedule) else 0


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
    seed: int = 0,
    engine: str = "compiled",
    detail: str = "transfer",
    scenario: "Scenario | None" = None,
    transport: Transport | None = None,
    keep_trace: bool = True,
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
        placement: "linear" or "random".
        seed: of ECMP's hash, of random placement and of jitter.
        engine, detail: see :mod:`commbench.sim.engines`.
        scenario: what goes wrong while it runs; None means nothing.
        transport: what messages cost beside their payload; None means that they cost what the topology says alone.
        keep_trace: whether the spans of all tasks are wanted; without them large worlds take less time and memory.
        progress: called now and then with the share of the work that is done.
        run_id: identifies the invocation in the record.

    Raises:
        InputError: a size below one element, or anything else that does not fit.
        RunError: the scenario cuts off a rank that has something to send.
    """
    began = time.perf_counter()
    if detail not in DETAILS:
        raise InputError(f"--detail {detail!r} is unknown; known: {', '.join(DETAILS)}")
    ranks = fabric.num_ranks if num_ranks is None else num_ranks
    spec = get_collective(collective)
    request = Request(
        num_ranks=ranks,
        slices=1 if slices is None else slices,
        channels=channels,
        root=root,
        group=max(1, fabric.num_ranks // fabric.num_hosts) if group is None else group,
        num_elements=whole_elements(spec, ranks, size_bytes, element_bytes),
        element_bytes=element_bytes,
    )
    placed = place(fabric, ranks, placement, seed)
    job = _job(fabric, placed, *_form(fabric, placed, algorithm, collective, request, slices), request, (routing, seed))
    how = Run(engine=engine, detail=detail, keep_trace=keep_trace, progress=progress)
    if transport is not None:
        done = _over(transport, job, how, scenario)
    else:
        done = _coupled(job, how, scenario) if detail == "collective" else _whole(job, how, scenario)
    record = Simulated(
        run=run_id,
        collective=job.form.collective,
        algorithm=job.form.algorithm,
        library="schedule",
        ranks=ranks,
        size_bytes=job.size_bytes,
        channels=channels,
        slices=job.slices,
        group=request.group,
        root=root,
        element_bytes=element_bytes,
        time_s=seconds(done.finish_ps),
        busbw_factor=spec.busbw_factor(ranks),
        lower_bound_s=lower_bound_s(
            job.form.collective, job.fabric, placed, job.size_bytes, root=root, in_switch=job.num_switches > 0
        ),
        topology=fabric.name,
        routing=job.router.policy.name,
        placement=placement,
        engine=engine,
        detail=detail,
        transfers=done.transfers,
        shortcut=done.shortcut,
        **_told(transport, scenario),
        wall_s=time.perf_counter() - began,
        seed=seed,
    )
    return Simulation(record, done.program, done.trace)


def _told(transport: Transport | None, scenario: "Scenario | None") -> dict[str, Any]:
    """What the record says of messages and of what went wrong."""
    network = {"network": "fluid" if transport is None else transport.name}
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


def _form(
    fabric: Topology | Tree,
    placed: IntArray,
    algorithm: str | Algorithm | Schedule,
    collective: str,
    request: Request,
    slices: int | None,
) -> tuple[Rounds | Schedule, int]:
    """The algorithm for this request, as rounds if it has them, and its slices."""
    if isinstance(algorithm, Schedule):
        if algorithm.num_ranks != request.num_ranks:
            raise InputError(
                f"schedule {algorithm.algorithm} is for {algorithm.num_ranks} ranks, not {request.num_ranks}"
            )
        return algorithm, 1
    entry = get_algorithm(collective, algorithm) if isinstance(algorithm, str) else algorithm
    request = replace(request, slices=entry.default_slices if slices is None else slices)
    form = rounds_of(entry, request) or build(entry, request)
    if entry.one_host and isinstance(fabric, Topology) and _hosts(fabric, placed) > 1:
        raise InputError(f"algorithm {entry.name} needs all {request.num_ranks} ranks on one host of {fabric.name}")
    return form, request.slices


def _job(
    fabric: Topology | Tree,
    placed: IntArray,
    form: Rounds | Schedule,
    slices: int,
    request: Request,
    routing: tuple[str | None, int],
) -> _Job:
    assert request.num_elements is not None
    if isinstance(fabric, Tree) and isinstance(form, Schedule) and form.num_switches:
        fabric = fabric.topology()  # only a graph has its switches by name
    return _Job(
        form=form,
        slices=slices,
        num_elements=request.num_elements,
        element_bytes=request.element_bytes,
        fabric=fabric,
        placed=placed,
        router=make_router(fabric, *routing),
    )


def _hosts(topology: Topology, placed: IntArray) -> int:
    return len({topology.host_of(topology.ranks[i]) for i in placed})


def _coupled(job: _Job, how: Run, scenario: "Scenario | None") -> Done:
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


def _whole(job: _Job, how: Run, scenario: "Scenario | None") -> Done:
    """Every transfer, or as many as stand for every transfer."""
    program = _tasks(job)
    if isinstance(program, LoopProgram) and (how.keep_trace or how.engine == "reference"):
        program = program.unroll()
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


def _over(transport: Transport, job: _Job, how: Run, scenario: "Scenario | None") -> Done:
    """Every message as the transport carries it out."""
    if scenario is not None or how.detail != "transfer" or job.num_switches:
        raise InputError("a transport goes with --detail transfer, and without a scenario or switches that add")
    program = _tasks(job)
    flat = program.unroll() if isinstance(program, LoopProgram) else program
    own = replace(processors_of(job.fabric, job.placed), overhead_ps=transport.overhead_ps)
    done = conveyed(flat, job.router, job.placed, Way(transport), own, how.engine)
    return Done(program=done.program, trace=done.trace, finish_ps=done.trace.finish_ps, transfers=flat.num_transfers)


def _tasks(job: _Job) -> FlatProgram | LoopProgram:
    reduction, schedule = job.fabric.costs.reduction_ps_per_byte, job.form
    if isinstance(schedule, Rounds):
        loop = expand_rounds(
            schedule,
            num_elements=job.num_elements,
            element_bytes=job.element_bytes,
            reduction_ps_per_byte=reduction,
        )
        if loop is not None:
            return loop
        schedule = schedule.schedule()
    return expand_schedule(
        schedule, num_elements=job.num_elements, element_bytes=job.element_bytes, reduction_ps_per_byte=reduction
    )
