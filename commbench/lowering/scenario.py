# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while a program runs: faults from a script, jitter with a seed, other people's traffic.

A :class:`Scenario` is what the user says, :func:`disturb` makes of it what engines take, and :func:`explain` tells the
user which fault cut off a transfer.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from commbench.arrays import IntArray
from commbench.engine.setting import Change, CutOff, Paths
from commbench.errors import InputError, RunError
from commbench.lowering.scenario_faults import State, Traffic, changes_of, cut_between
from commbench.lowering.scenario_program import with_background, with_jitter
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.routing.router import Router
from commbench.routing.routes import Routes, route_latencies_ps
from commbench.topology.faults import (
    Background,
    Fault,
    FaultScript,
    KilledRank,
    LinkFault,
    SlowRank,
    require_fits,
)
from commbench.units import format_time, seconds

__all__ = ["Disturbed", "Scenario", "disturb", "explain"]

_MOST_NAMED = 8
"""Links of a cut that an error names."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What goes wrong, in times from the start of the program.

    Attributes:
        faults: of links and ranks, and background flows; ranks are those of the fabric.
        jitter: transfers carry up to this fraction of their bytes more or less, 0 to 1. seed: of its draws.
        origin: file that the faults came from, "" if none.

    Raises:
        InputError: a jitter outside 0 to 1.
    """

    faults: tuple[Fault, ...] = ()
    jitter: float = 0.0
    seed: int = 0
    origin: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1:
            raise InputError(f"--jitter {self.jitter}: must be from 0 to 1, a fraction of each transfer's bytes")

    @classmethod
    def load(cls, path: str | Path, *, jitter: float = 0.0, seed: int = 0) -> "Scenario":
        """The faults of a script (:mod:`commbench.topology.fault_files`), with this jitter.

        Raises:
            TopologyError: the file breaks a rule; one line with file, key, value and rule.
        """
        from commbench.topology.fault_files import load_faults  # YAML and its checker, which jitter alone needs not

        script = load_faults(Path(path))
        return cls(script.faults, jitter, seed, script.origin)

    @property
    def slower_links_alone(self) -> bool:
        """Whether nothing goes wrong but links that get slower: what collectives without messages can have."""
        return not self.jitter and all(isinstance(fault, LinkFault) and fault.factor > 0 for fault in self.faults)

    @property
    def slows_ranks(self) -> bool:
        """Whether a rank is slow at some time."""
        return any(isinstance(fault, SlowRank) for fault in self.faults)

    @property
    def name(self) -> str:
        """For records: the file's name without its ending, "" without faults."""
        return Path(self.origin).stem if self.faults else ""

    @property
    def digest(self) -> str:
        """For records: of the faults themselves, so that two files of one name differ; "" without faults."""
        return sha256(repr(self.faults).encode()).hexdigest()[:12] if self.faults else ""


@dataclass(frozen=True, slots=True, eq=False)
class Disturbed:
    """A program in its scenario.

    Attributes:
        program, paths, changes: for the engine.
        num_foreground: tasks of the program itself, whose end is the end; None: all of them.
        triples: sender and receiver (ranks of the fabric) and channel of the program's own routes, shape (routes, 3).
    """

    program: FlatProgram | LoopProgram
    paths: Paths
    changes: tuple[Change, ...]
    num_foreground: int | None
    triples: IntArray


def disturb(
    scenario: Scenario, program: FlatProgram | LoopProgram, paths: Paths, triples: IntArray, router: Routes
) -> Disturbed:
    """A program and its paths as the scenario changes them.

    Args:
        scenario: what goes wrong.
        program: that runs; a looped one is unrolled where background flows run beside it.
        paths: its links and routes on the healthy fabric.
        triples: shape (routes, 3): sender and receiver, as ranks of the fabric, and channel of every route.
        router: that made the routes.

    Raises:
        InputError: a fault names a link or a rank that is not there, or a rank on which nothing runs.
    """
    assert len(triples) == len(paths.latency_ps), "every route has its ends"
    require_fits(FaultScript(scenario.faults, scenario.origin or "scenario"), router.fabric)
    traffic = Traffic(triples, len(triples), _ranks(program, paths, triples))
    for fault in scenario.faults:
        if isinstance(fault, SlowRank | KilledRank) and fault.rank not in traffic.ranks:
            raise InputError(f"{_from(scenario)}{fault}: on rank {fault.rank} of the topology nothing runs")
    program = with_jitter(program, scenario.jitter, scenario.seed)
    flows = [fault for fault in scenario.faults if isinstance(fault, Background)]
    num_foreground = program.num_tasks if flows else None
    if flows:
        paths = _with_routes_of(flows, program, paths, router)
        program = with_background(program.unroll() if isinstance(program, LoopProgram) else program, flows)
        ends = np.array([(flow.src, flow.dst, 0) for flow in flows], dtype=np.int64)
        traffic = replace(traffic, triples=np.concatenate([triples, ends]))
    paths, changes = changes_of(scenario.faults, paths, traffic, router)
    return Disturbed(program, paths, changes, num_foreground, triples)


def explain(cut: CutOff, scenario: Scenario, disturbed: Disturbed, router: Routes) -> RunError:
    """The user's error for a transfer that found its route cut: which ranks, when, and what is missing."""
    program, time = disturbed.program, _shown(cut.time_ps)
    ends = disturbed.triples[disturbed.paths.route_of[cut.task], :2].tolist()
    ranks = int(program.rank[cut.task]), int(program.peer[cut.task])
    fabric, state = router.fabric, State.at(cut.time_ps, scenario.faults)
    src, dst = (fabric.ranks[end] for end in ends)
    what = f"{_from(scenario)}at {time} rank {ranks[0]} ({src}) sends to rank {ranks[1]} ({dst})"
    for rank, end in zip(ranks, ends, strict=True):
        if end in state.killed:
            return RunError(f"{what}, but rank {rank} was killed at {_shown(state.killed[end])}")
    links = [fabric.link_name(link) for link in cut_between(fabric, state.down(fabric), src, dst)]
    more = f" and {len(links) - _MOST_NAMED} more" if len(links) > _MOST_NAMED else ""
    return RunError(f"{what}, but nothing joins them: down are {', '.join(links[:_MOST_NAMED])}{more}")


def _from(scenario: Scenario) -> str:
    return f"{scenario.origin}: " if scenario.origin else ""


def _shown(time_ps: int) -> str:
    return format_time(seconds(time_ps)) if time_ps else "0 s"


def _ranks(program: FlatProgram | LoopProgram, paths: Paths, triples: IntArray) -> dict[int, int]:
    """Which rank of the program sits on each rank of the fabric, as far as it sends or receives."""
    moves = np.flatnonzero(paths.route_of >= 0)
    ends = triples[paths.route_of[moves]]
    at = np.full(int(ends[:, :2].max(initial=-1)) + 1, -1)
    at[ends[:, 0]], at[ends[:, 1]] = program.rank[moves], program.peer[moves]
    places = np.flatnonzero(at >= 0)
    return dict(zip(places.tolist(), at[places].tolist(), strict=True))


def _with_routes_of(flows: list[Background], program: FlatProgram | LoopProgram, paths: Paths, router: Routes) -> Paths:
    """The paths with a route for each background flow, and what the tasks of :func:`with_background` take."""
    first, links = router.routes([flow.src for flow in flows], [flow.dst for flow in flows])
    route_of = paths.route_of
    if isinstance(program, LoopProgram):
        number = program.instances()
        route_of = np.empty(number.size, dtype=np.int64)
        route_of[number] = paths.route_of
    numbers = len(paths.latency_ps) + np.arange(len(flows))
    ways = paths.ways
    if ways is not None:
        assert isinstance(router, Router), "only a router knows ways that no message takes"
        ways = ways.beside(router.ways([flow.src for flow in flows], [flow.dst for flow in flows]))
    return replace(
        paths,
        ways=ways,
        first=np.concatenate([paths.first, paths.first[-1] + first[1:]]),
        links=np.concatenate([paths.links, links.astype(np.int64)]),
        latency_ps=np.concatenate([paths.latency_ps, route_latencies_ps(router.fabric, first, links)]),
        weights=np.concatenate([paths.weights, np.ones(len(links))]) if len(paths.weights) else paths.weights,
        route_of=np.concatenate([route_of, np.stack([np.full_like(numbers, -1), numbers], axis=1).ravel()]),
    )
