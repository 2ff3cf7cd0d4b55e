# SPDX-License-Identifier: Apache-2.0
"""Simulate one collective on one topology, as a record: what ``commbench sim COLLECTIVE`` and its users ask for."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import get_collective
from commbench.door import Result, simulate
from commbench.engine.engines import DETAILS, Run
from commbench.engine.setting import Paths
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.libraries.base import Library
from commbench.lowering.aggregate import layouts_of
from commbench.lowering.choose import Chosen
from commbench.network.bounds import lower_bound_s
from commbench.network.models import FLUID
from commbench.network.transport import Connections
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.program.of_collective import collective_program
from commbench.program.operations import Collective, Program
from commbench.results.records import Simulated
from commbench.sim.links import busiest_links, link_bytes
from commbench.sim.nics import unused_nics
from commbench.sim.packets import counted_totals, deepest_queues
from commbench.sim.terms import critical_terms
from commbench.topology.jobs import deal
from commbench.units import seconds

if TYPE_CHECKING:
    from commbench.lowering.scenario import Scenario

__all__ = ["Extras", "Simulation", "simulate_collective"]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What came out: the record, and for pictures the tasks and their trace (see ``keep_trace``).

    ``hint`` is a line for people on what would be faster, "" if there is none or none was asked for. ``candidates`` are
    what a library with a model weighed: name, its own estimate and the model's in seconds, the chosen one first.
    ``link_bytes`` went over every link of the fabric; empty where links were not asked for, or where that is not known;
    ``links_why`` then says why. ``paths`` are those of the tasks; None where they changed, or none were taken.
    """

    record: Simulated
    program: FlatProgram | LoopProgram
    trace: Trace
    hint: str = ""
    candidates: tuple[tuple[str, float, float], ...] = ()
    link_bytes: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    links_why: str = ""
    paths: Paths | None = None

    @property
    def flat(self) -> FlatProgram:
        """The tasks one by one, beside their spans in the trace."""
        assert isinstance(self.program, FlatProgram), "simulate with keep_trace"
        return self.program


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What is found out beside the time.

    Attributes:
        links: whether the record names the busiest links.
        explain: whether the record has the terms of its time; without a library's model these are of single transfers,
            which transfer detail has, and no transport.
        hints: whether unused NICs are looked for.
    """

    links: bool = False
    explain: bool = False
    hints: bool = False


def simulate_collective(
    collective: str,
    size_bytes: int,
    cluster: Cluster,
    library: Library,
    how: Run | None = None,
    *,
    element_bytes: int = 4,
    root: int = 0,
    jobs: str | None = None,
    scenario: "Scenario | None" = None,
    extras: Extras = Extras(),
    run_id: str = "",
) -> Simulation:
    """Simulate a collective once.

    Args:
        collective: what.
        size_bytes: as nccl-tests defines the size; rounded down to whole elements (per rank, where it has blocks).
        cluster: where. library: who decides how it goes; :class:`commbench.libraries.ideal.Ideal` does what one names.
        how: engine, network, detail, and whether the spans of all tasks are kept; None takes the defaults.
        element_bytes: size of one element.
        root: root rank, for rooted collectives.
        jobs: the ranks of jobs that do the same at once, or their number (:func:`commbench.topology.jobs.deal`); the
            record is that of the slowest. None means one of all ranks.
        scenario: what goes wrong while it runs; None means nothing.
        extras: what is found out beside the time.
        run_id: identifies the invocation in the record.

    Raises:
        InputError: a size below one element, or anything else that does not fit.
        RunError: the scenario cuts off a rank that has something to send.
    """
    began = time.perf_counter()
    how = Run() if how is None else how
    _check_detail(how.detail, scenario, jobs, library, extras.explain)
    groups = [np.array(job) for job in (deal(jobs, cluster.num_ranks) if jobs else [range(cluster.num_ranks)])]
    program = collective_program(
        collective, size_bytes, ranks=cluster.num_ranks, groups=groups, element_bytes=element_bytes, root=root
    )
    how = replace(how, keep_trace=how.keep_trace or extras.explain or jobs is not None)
    done = simulate(program, cluster, library, how, scenario=scenario)
    ends_ps = [done.finish_ps] if jobs is None else done.ends_ps().tolist()
    slowest = int(np.argmax(ends_ps))
    what = program.communications[slowest]
    assert isinstance(what, Collective)
    chosen = done.choices.of(what, layouts_of(what.groups, cluster)[1][0])
    bound_s = _lower_bound_s(chosen, done.cluster, what)
    unknown = _unknown_links(chosen, library) if extras.links else ""
    over = _link_bytes(done) if extras.links and not unknown else np.empty(0)
    modelled = _modelled(chosen, library, ends_ps[slowest], scenario, how.detail)
    record = Simulated(
        run=run_id,
        lower_bound_s=bound_s,
        placement=cluster.placement,
        engine=done.engine,
        detail=how.detail,
        **_found(chosen, done, what, ends_ps[slowest]) | modelled,
        jobs=() if jobs is None else _each(groups, ends_ps),
        links=busiest_links(over, done.cluster.fabric, seconds(done.finish_ps), bound_s) if len(over) else (),
        **(_told(done, library.connections, scenario) | _beside(done, program, cluster, library, how, scenario)),
        wall_s=time.perf_counter() - began,
        seed=cluster.router.seed,
    )
    hint = _hint(chosen, cluster) if extras.hints and jobs is None else ""
    if extras.explain and chosen.choice.timing is None:
        record = replace(record, terms=_terms(done))
    weighed = getattr(chosen.choice.timing, "candidates", ())
    return Simulation(record, done.tasks, done.trace, hint, weighed, over, unknown, done.paths)


def _check_detail(detail: str, scenario: "Scenario | None", jobs: str | None, library: Library, explain: bool) -> None:
    """Refuse what a detail cannot have."""
    if detail not in DETAILS:
        raise InputError(f"--detail {detail!r} is unknown; known: {', '.join(DETAILS)}")
    if library.has_model:
        if detail == "collective" and scenario is not None and not scenario.slower_links_alone:
            raise InputError(
                "--detail collective knows no single transfers: of a --scenario it takes slower links alone; give "
                "--detail transfer"
            )
        return
    connections = library.connections
    if explain and (detail != "transfer" or connections is not None or jobs is not None):
        raise InputError("--explain follows single transfers: give --detail transfer, without --jobs or a transport")
    if detail == "collective" and scenario is not None:
        raise InputError(
            "--detail collective knows no single transfers, so no --scenario or --jitter: give --detail transfer"
        )
    if jobs is not None and (detail != "transfer" or connections is not None):
        raise InputError(f"--jobs {jobs} knows single transfers alone: give --detail transfer, and no transport")


def _modelled(
    chosen: Chosen, library: Library, end_ps: int, scenario: "Scenario | None", detail: str
) -> dict[str, Any]:
    """What the record says where a library's model told the time; nothing otherwise.

    What is above the model's time is contention for links, some of which may be faulty, or what else went wrong.
    """
    timing = chosen.choice.timing
    if timing is None:
        return {}
    time_s = seconds(end_ps)
    over_s = time_s - sum(timing.terms.values())
    over = "contention" if scenario is None or scenario.slower_links_alone else "perturbation"
    terms = {**timing.terms, over: over_s if over_s > 1e-3 * time_s else 0.0}
    return {
        "algorithm": timing.called,
        "library": library.name,
        "library_version": getattr(library, "version", ""),
        "protocol": chosen.choice.protocol,
        "channels": timing.channels,
        "terms": terms,
        "shortcut": "" if detail == "collective" else f"messages of {chosen.form.algorithm}, paced as {timing.called}",
    }


def _size_bytes(what: Collective) -> int:
    """As the record states it: of all-to-all-v that of one rank's row."""
    rows = what.groups.shape[1] if get_collective(what.kind).rows else 1
    return what.num_bytes // rows


def _lower_bound_s(chosen: Chosen, cluster: Cluster, what: Collective) -> float:
    """Seconds that no schedule of this collective can beat here; see network.bounds.

    All-to-all-v of equal pieces is bounded as all-to-all; with weights some pairs may have nothing to send.
    """
    form = chosen.form
    equal = form.collective == "all-to-all-v" and not (isinstance(form, Schedule) and form.weights)
    return lower_bound_s(
        "all-to-all" if equal else form.collective,
        cluster.fabric,
        cluster.placed[what.groups[0]],
        _size_bytes(what),
        root=what.root,
        in_switch=chosen.num_switches > 0 or (chosen.choice.timing is not None and chosen.choice.timing.in_switch),
    )


def _found(chosen: Chosen, done: Result, what: Collective, end_ps: int) -> dict[str, Any]:
    """What the record says of a collective that was carried out."""
    request, ranks = chosen.choice.request, what.groups.shape[1]
    return {
        "collective": chosen.form.collective,
        "algorithm": chosen.form.algorithm,
        "library": "schedule",
        "ranks": ranks,
        "size_bytes": _size_bytes(what),
        "slices": request.slices,
        "channels": request.channels,
        "group": request.group,
        "root": what.root,
        "element_bytes": what.element_bytes,
        "weights": chosen.form.weights if what.kind == "all-to-all-v" and isinstance(chosen.form, Schedule) else (),
        "time_s": seconds(end_ps),
        "busbw_factor": get_collective(chosen.form.collective).busbw_factor(ranks),
        "topology": done.cluster.fabric.name,
        "routing": done.cluster.router.policy.name,
        "transfers": done.transfers,
        "shortcut": done.shortcut,
    }


def _hint(chosen: Chosen, cluster: Cluster) -> str:
    choice = chosen.choice
    if isinstance(choice.algorithm, Schedule) or choice.timing is not None:
        return ""
    return unused_nics(choice.algorithm, choice.request, cluster.router, cluster.placed)


def _unknown_links(chosen: Chosen, library: Library) -> str:
    """Why nothing is known of single links; "" if it is."""
    timing = chosen.choice.timing
    if timing is None or not timing.stand_in:
        return ""
    return (
        f"of {library.name}'s {timing.called} its model says the time, not which links its messages take; "
        "--library ideal with --algorithm simulates every transfer"
    )


def _link_bytes(done: Result) -> npt.NDArray[np.float64]:
    if done.bound is not None:
        return done.bound.link_bytes()
    if done.paths is not None:
        return link_bytes(done.tasks, done.paths)
    raise InputError("--links counts bytes on routes that stay, and the scenario moves some: leave it out")


def _terms(done: Result) -> dict[str, float]:
    """Of single transfers."""
    if done.paths is None or done.trace.finish_ps != done.finish_ps or not isinstance(done.tasks, FlatProgram):
        raise InputError(
            "--explain follows the transfers of a collective whose routes stay, with no other traffic that goes on "
            "when it has ended: leave it out"
        )
    return critical_terms(done.tasks, done.trace, done.paths, done.cluster.fabric.costs.message_overhead_ps)


def _each(groups: Sequence[IntArray], ends_ps: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
    return tuple({"ranks": ranks.tolist(), "time_s": seconds(end)} for ranks, end in zip(groups, ends_ps, strict=True))


def _beside(
    done: Result, program: Program, cluster: Cluster, library: Library, how: Run, scenario: "Scenario | None"
) -> dict[str, Any]:
    """What a packet network counted, and how long the fluid model takes for the same; nothing for that one itself."""
    if not done.trace.counted:
        return {}
    fluid_ps = done.fluid_ps
    if fluid_ps is None:
        how = replace(how, network=FLUID.name, progress=None)
        fluid_ps = simulate(program, cluster, library, how, scenario=scenario).finish_ps
    return {
        "fluid_time_s": seconds(fluid_ps),
        "counted": counted_totals(done.trace.counted),
        "queues": deepest_queues(done.trace.counted, cluster.fabric),
    }


def _told(done: Result, connections: Connections | None, scenario: "Scenario | None") -> dict[str, Any]:
    """What the record says of messages and of what went wrong."""
    network = {"network": done.network if connections is None else connections.transport.name, "network_why": done.why}
    if scenario is None:
        return network
    return {**network, "scenario": scenario.name, "scenario_digest": scenario.digest, "jitter": scenario.jitter}
