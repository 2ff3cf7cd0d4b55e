# SPDX-License-Identifier: Apache-2.0
"""The one door: run a program on a cluster, as a library has it go.

Lowering makes tasks of operations, once cluster and library are known, and an engine runs them. In *transfer* detail
every message is a task (a ring's rounds may stay one round, and *folded* detail leaves out what must come out the
same); in *collective* detail every communication is one aggregate flow, an estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.engine.crowded import crowded_port
from commbench.engine.engines import DETAILS, Run, run
from commbench.engine.setting import Change, CutOff, Paths, Processors, Setting
from commbench.engine.trace import Trace
from commbench.errors import InputError
from commbench.libraries.base import Library, Timing
from commbench.lowering.aggregate import layouts_of
from commbench.lowering.bind import Bound, Slowing, bind
from commbench.lowering.bind import tasks_of as bound_tasks
from commbench.lowering.choose import Choices
from commbench.lowering.expand import expand
from commbench.lowering.pace import Paced, paced
from commbench.lowering.perturb import Perturbation, perturbation
from commbench.lowering.placing import paths_of, paths_with_switches, processors_of, switches_of, triples_of, with_ways
from commbench.lowering.single import only_collective, require_leaf
from commbench.lowering.single import tasks_of as single_tasks
from commbench.network.base import NetworkModel
from commbench.network.models import FLUID, get_network, packets_if_needed
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.program.operations import NOTHING, Collective, Program
from commbench.units import PS_PER_S, format_bit_rate, seconds

if TYPE_CHECKING:
    import pandas as pd

    from commbench.lowering.scenario import Scenario

__all__ = ["Result", "simulate"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What came out.

    Attributes:
        program: that was run. cluster: where.
        tasks: what the engine ran. trace: their spans.
        finish_ps: end of the last task of the program itself (background flows may go on).
        transfers: how many the answer stands for.
        shortcut: what was folded, skipped or estimated, in words; "" if every transfer was simulated.
        paths: that the tasks took; None where that changed during the run.
        choices: how the library had its collectives go.
        bound: the program on the cluster, in collective detail.
        engine: that ran it, "reference" or "compiled".
        network: how long its messages took. why: it was that one, where that was left open (``network.models.AUTO``).
        fluid_ps: the end by the fluid model where it was simulated first.
    """

    program: Program
    cluster: Cluster
    tasks: FlatProgram | LoopProgram
    trace: Trace
    finish_ps: int
    transfers: int
    choices: Choices
    shortcut: str = ""
    paths: Paths | None = None
    bound: Bound | None = None
    engine: str = "compiled"
    network: str = FLUID.name
    why: str = ""
    fluid_ps: int | None = None

    @property
    def time_s(self) -> float:
        """Seconds that the program took."""
        return seconds(self.finish_ps)

    def frame(self) -> "pd.DataFrame":
        """The tasks with their spans, a row each: operation, kind, rank, peer, channel, step, bytes, start and end in
        seconds. The trace must have been kept.
        """
        import pandas as pd

        tasks = self.tasks
        assert isinstance(tasks, FlatProgram), "a kept trace is of single tasks"
        columns = {name: getattr(tasks, name) for name in ("operation", "rank", "peer", "channel", "step")}
        kinds = np.array(["compute", "transfer", "aggregate flow"])[tasks.kind]
        spans = {"start_s": self.trace.start_ps / PS_PER_S, "end_s": self.trace.end_ps / PS_PER_S}
        return pd.DataFrame({"kind": kinds, **columns, "bytes": tasks.num_bytes, **spans})

    def _repr_html_(self) -> str:
        """What a notebook shows: where it ran, how long it took, and what the answer stands for."""
        from html import escape

        told = {
            "topology": self.cluster.fabric.name, "ranks": self.cluster.num_ranks, "time_s": self.time_s,
            "transfers": self.transfers, "engine": self.engine, "shortcut": self.shortcut or "none",
        }  # fmt: skip
        rows = (f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in told.items())
        return f"<table>{''.join(rows)}</table>"

    def ends_ps(self) -> IntArray:
        """When each operation of the program ended; the trace must have been kept."""
        assert isinstance(self.tasks, FlatProgram), "a kept trace is of single tasks"
        ends: IntArray = np.zeros(self.program.num_operations, dtype=np.int64)
        np.maximum.at(ends, self.tasks.operation, self.trace.end_ps[: self.tasks.num_tasks])
        return ends


def simulate(
    program: Program | Bound,
    cluster: Cluster,
    library: Library,
    how: Run | None = None,
    *,
    scenario: "Scenario | Perturbation | None" = None,
    slowing: Mapping[int, Slowing] | None = None,
    seed: int = 0,
) -> Result:
    """Simulate a program once.

    Args:
        program: what is done; or, for collective detail, what :func:`commbench.lowering.bind.bind` made of it.
        cluster: where. library: who decides how collectives go.
        how: engine, detail, and whether spans are kept; None takes the defaults.
        scenario: what goes wrong while it runs; None means nothing.
        slowing: numbers of the communications that slow compute beside them, and how far (collective detail).
        seed: of what a transport leaves to chance.

    Raises:
        InputError: something does not fit; says what.
        RunError: the scenario cuts off a rank that has something to send.
    """
    how = Run() if how is None else how
    if how.detail not in DETAILS:
        raise InputError(f"--detail {how.detail!r} is unknown; known: {', '.join(DETAILS)}")
    if (packets := packets_if_needed(how.network)) is not None:
        return _fluid_or_packets(program, cluster, library, how, packets, scenario, seed)
    choices = Choices(library, cluster.fabric.name, how)
    if isinstance(program, Bound) or how.detail == "collective":
        return _aggregate(program, cluster, choices, how, scenario, slowing)
    assert not isinstance(scenario, Perturbation), "of collective detail"
    what = only_collective(program)
    chosen = None if what is None else choices.of(what, layouts_of(what.groups, cluster)[1][0])
    if what is None or chosen is None or chosen.choice.timing is not None:
        work = _Tasks(program, cluster, expand(program, cluster, choices), choices)
        return _run(replace(work, timings=_timings(program, cluster, choices)), library, how, scenario, seed)
    require_leaf(chosen, cluster)
    tasks = single_tasks(chosen, what, cluster.fabric.costs.reduction_ps_per_byte)
    work = _Tasks(program, cluster, tasks, choices, chosen.num_switches)
    return _run(work, library, how, scenario, seed)


def _fluid_or_packets(
    program: Program | Bound,
    cluster: Cluster,
    library: Library,
    how: Run,
    packets: str,
    scenario: "Scenario | Perturbation | None",
    seed: int,
) -> Result:
    """By the fluid model; and where a port is crowded then, or routes change so that it cannot be told, by packets."""
    if how.detail != "transfer":
        raise InputError(f"--network {how.network} looks at every transfer: give --detail transfer")
    get_network(packets)  # a wrong setting is told at once
    first = replace(how, network=FLUID.name, keep_trace=True)
    fluid = simulate(program, cluster, library, first, scenario=scenario, seed=seed)
    why = "routes change, so ports cannot be told"
    if fluid.paths is not None:
        assert isinstance(fluid.tasks, FlatProgram), "a kept trace is of single tasks"
        port = crowded_port(fluid.tasks, fluid.trace, fluid.paths)
        if port is None:
            return replace(fluid, why="no port is sent more than it can drain")
        why = (
            f"{cluster.fabric.link_name(port.link)} has up to {port.senders} senders at once, "
            f"{format_bit_rate(port.inflow)} into {format_bit_rate(fluid.paths.bandwidths[port.link])}"
        )
    done = simulate(program, cluster, library, replace(how, network=packets), scenario=scenario, seed=seed)
    return replace(done, why=why, fluid_ps=fluid.finish_ps)


def _aggregate(
    program: Program | Bound,
    cluster: Cluster,
    choices: Choices,
    how: Run,
    scenario: "Scenario | Perturbation | None",
    slowing: Mapping[int, Slowing] | None,
) -> Result:
    """Collective detail."""
    if choices.library.connections is not None:
        raise InputError("a transport goes with --detail transfer")
    perturbed = scenario or Perturbation()
    if not isinstance(perturbed, Perturbation):
        perturbed = perturbation(perturbed, cluster)
    bound = program if isinstance(program, Bound) else bind(program, cluster, choices, perturbed.links)
    tasks, setting = bound_tasks(
        bound,
        slowing=slowing,
        durations_ps=perturbed.durations_ps(bound.program),
        changes=perturbed.changes(bound.program),
    )
    done = run(tasks, setting, how)
    return Result(
        program=bound.program,
        cluster=cluster,
        tasks=tasks,
        trace=done.trace,
        finish_ps=done.finish_ps,
        transfers=sum(uses * flow.transfers for uses, flow in zip(bound.uses.tolist(), bound.flows, strict=True)),
        shortcut="one aggregate flow for each communication instead of transfers, an estimate",
        choices=choices,
        bound=bound,
        engine=done.engine,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Tasks:
    """A program lowered to transfers."""

    program: Program
    cluster: Cluster
    tasks: FlatProgram | LoopProgram
    choices: Choices
    num_switches: int = 0
    timings: Mapping[int, Timing] = field(default_factory=dict)


def _timings(program: Program, cluster: Cluster, choices: Choices) -> dict[int, Timing]:
    """Of the operations whose time a model of the library says."""
    timings = [
        choices.of(what, layouts_of(what.groups, cluster)[1][0]).choice.timing if isinstance(what, Collective) else None
        for what in program.communications
    ]
    talks = program.communication.tolist()
    each = {number: timings[talk] for number, talk in enumerate(talks) if talk != NOTHING}
    return {number: timing for number, timing in each.items() if timing is not None}


def _run(work: _Tasks, library: Library, how: Run, scenario: "Scenario | None", seed: int) -> Result:
    tasks, connections = work.tasks, library.connections
    each = how.keep_trace or how.engine == "reference" or not get_network(how.network).weighted
    if isinstance(tasks, LoopProgram) and (each or connections is not None):
        work = replace(work, tasks=tasks.unroll())
    if connections is not None:
        return _over_transport(work, library, how, scenario, seed)
    triples, route_of = triples_of(work.tasks, by_operation=bool(work.timings))
    cluster, pace = work.cluster, None
    paths = _paths(work, triples, route_of, get_network(how.network))
    if work.timings:
        assert isinstance(work.tasks, FlatProgram), "a looped program is one operation, and not timed"
        if not get_network(how.network).weighted:
            raise InputError(
                f"--network {how.network}: a library's model paces its messages for --network {FLUID.name}: give that, "
                "or --library ideal"
            )
        pace = paced(work.tasks, paths, work.timings, cluster.fabric)
        paths = pace.paths
    processors = processors_of(cluster.fabric, cluster.placed)
    if scenario is not None and get_network(how.network).connected:
        raise InputError(f"--network {how.network} takes no scenario: give --network packet, or fluid")
    if scenario is None:
        done = run(work.tasks, Setting(_own_links(pace, paths), processors), how)
    elif work.num_switches:
        raise InputError("a scenario with switches that add is not supported")
    else:
        placed = np.stack([cluster.placed[triples[:, 0]], cluster.placed[triples[:, 1]], triples[:, 2]], axis=1)
        from commbench.lowering.scenario import disturb, explain  # most runs have none

        changed = disturb(scenario, work.tasks, paths, placed, cluster.router)
        setting = Setting(_own_links(pace, changed.paths, changed.changes), processors, changed.changes)
        try:
            done = run(changed.program, setting, replace(how, num_foreground=changed.num_foreground))
        except CutOff as cut:
            raise explain(cut, scenario, changed, cluster.router) from None
    return Result(
        program=work.program,
        cluster=cluster,
        tasks=done.program,
        trace=done.trace,
        finish_ps=done.finish_ps,
        transfers=done.transfers,
        shortcut=done.shortcut,
        paths=done.paths if pace is None or done.paths is None else paths,
        choices=work.choices,
        engine=done.engine,
        network=get_network(how.network).name,
    )


def _paths(work: _Tasks, triples: IntArray, route_of: IntArray, network: NetworkModel) -> Paths:
    """Of the tasks, with their ways back for a network that is connected, with all ways for one that is balanced."""
    cluster, connected = work.cluster, network.connected
    if connected and work.num_switches:
        raise InputError("switches that add have no connections: give --network packet, or fluid")
    if network.balanced and work.num_switches:
        raise InputError(f"--network {network.name}: switches that add have one route a message: give balance=flow")
    if work.num_switches:
        return paths_with_switches(triples, route_of, cluster, switches_of(cluster, work.num_switches))
    if connected:
        assert isinstance(work.tasks, FlatProgram), "packets are of single transfers"
        from commbench.lowering.streams import with_streams  # most runs have no connections

        return with_streams(work.tasks, cluster)
    paths = paths_of(triples, route_of, cluster.router, cluster.placed)
    return with_ways(paths, triples, cluster) if network.balanced else paths


def _own_links(pace: Paced | None, paths: Paths, changes: tuple[Change, ...] = ()) -> Paths:
    return paths if pace is None else pace.with_own_links(paths, changes)


def _processors(cluster: Cluster) -> Processors:
    """That handle the messages."""
    if cluster.one_machine is None:
        return processors_of(cluster.fabric, cluster.placed)
    return Processors(pools=(0,) * len(cluster.placed), pool_size=cluster.one_machine)


def _over_transport(work: _Tasks, library: Library, how: Run, scenario: "Scenario | None", seed: int) -> Result:
    """Every message as the library writes it to its connections, which the network has."""
    if scenario is not None or how.detail != "transfer" or work.num_switches:
        raise InputError("a transport goes with --detail transfer, and without a scenario or switches that add")
    from commbench.lowering.streams import over_connections  # most runs have no connections
    from commbench.lowering.way_back import less_way_back
    from commbench.network.connected.settings import Connected

    network, connections, tasks = get_network(how.network), library.connections, work.tasks
    if not (network.weighted or network.connected):
        raise InputError(f"--network {how.network} has no connections: give --network {FLUID.name} or packet:tcp")
    assert connections is not None
    assert isinstance(tasks, FlatProgram)
    transport = connections.transport
    program, paths = over_connections(tasks, work.cluster, connections, seed, framed=not network.connected)
    if not network.connected:
        paths = replace(paths, bandwidths=less_way_back(tasks, work.cluster, transport))
        given = Connected(transport.buffer_bytes, transport.full_packet_bytes, connections.burst_bytes)
        how = replace(how, network=given.text)
    processors = replace(_processors(work.cluster), overhead_ps=transport.overhead_ps)
    done = run(program, Setting(paths, processors), how)
    return Result(
        program=work.program,
        cluster=work.cluster,
        tasks=done.program,
        trace=done.trace,
        finish_ps=done.finish_ps,
        transfers=tasks.num_transfers,
        paths=paths,
        choices=work.choices,
        engine=done.engine,
        network=network.name,
    )
