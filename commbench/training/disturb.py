# SPDX-License-Identifier: Apache-2.0
"""What a scenario does to a training step: slow ranks, slower links, and compute that varies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.engine.setting import Change, What
from commbench.errors import InputError
from commbench.program.ir import Compute
from commbench.routing.routes import Fabric
from commbench.sim.scenario import Scenario
from commbench.sim.scenario_faults import graph_of
from commbench.topology.faults import FaultScript, LinkFault, SlowRank, require_fits
from commbench.topology.model import Topology
from commbench.topology.tree import Tree
from commbench.workload.step import Step

__all__ = ["Disturbance", "disturbance", "jittered", "rank_changes"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A scenario in terms of a step.

    Attributes:
        slow: (time in ps, rank of the world, times as long).
        links: changes of the fabric's links.
        jitter: compute lasts up to this fraction more or less. seed: of its draws.
        name: for records.
    """

    slow: tuple[tuple[int, int, float], ...] = ()
    links: tuple[Change, ...] = ()
    jitter: float = 0.0
    seed: int = 0
    name: str = ""

    @property
    def slow_ranks(self) -> tuple[int, ...]:
        """Ranks of the world that are slow at some time."""
        return tuple(sorted({rank for _, rank, _ in self.slow}))


def disturbance(scenario: Scenario, fabric: Fabric, placed: IntArray) -> Disturbance:
    """A scenario for ranks that sit on these endpoints.

    Raises:
        InputError: a fault that a training step cannot have yet (a link that is down, a killed rank, background
            flows), of a link or rank that is not there, or of a rank on which nothing runs.
    """
    assert isinstance(fabric, Topology | Tree)
    place = f"{scenario.origin}: " if scenario.origin else ""
    rank_at = {int(endpoint): rank for rank, endpoint in enumerate(placed)}
    graph = graph_of(fabric) if any(isinstance(fault, LinkFault) for fault in scenario.faults) else None
    require_fits(FaultScript(scenario.faults, scenario.origin or "scenario"), graph or fabric)  # type: ignore[arg-type]
    slow, links = [], []
    for fault in scenario.faults:
        match fault:
            case SlowRank(factor=factor) if factor > 0:
                if fault.rank not in rank_at:
                    raise InputError(f"{place}{fault}: on rank {fault.rank} of the topology nothing runs")
                slow.append((fault.at_ps, rank_at[fault.rank], 1 / factor))
            case LinkFault(factor=factor) if factor > 0:
                assert graph is not None
                link = graph.graph.edges[fault.src, fault.dst]["link"]
                links.append(Change(fault.at_ps, What.BANDWIDTH, link.index, link.bandwidth * factor))
            case _:
                raise InputError(
                    f"{place}{fault}: a training step can have slow ranks and slower links (kind slow-rank or "
                    "link, factor above 0), not this: its collectives have no single transfers to be cut or moved; "
                    "`sim COLLECTIVE` takes it"
                )
    return Disturbance(tuple(slow), tuple(links), scenario.jitter, scenario.seed, scenario.name)


def rank_changes(disturbed: Disturbance, step: Step) -> list[Change]:
    """All changes for the units of a step, in order of time."""
    unit = step.units.of_rank
    slow = [Change(at_ps, What.SLOWDOWN, int(unit[rank]), factor) for at_ps, rank, factor in disturbed.slow]
    return sorted([*slow, *disturbed.links], key=lambda change: change.time_ps)


def jittered(step: Step, jitter: float, seed: int) -> IntArray:
    """Duration of every operation, drawn evenly from (1 - jitter, 1 + jitter) times its own; 0 for calls."""
    lasts: Sequence[int] = [op.duration_ps if isinstance(op, Compute) else 0 for op in step.program.operations]
    draw = np.random.default_rng(seed).random(len(lasts))
    varied: IntArray = np.floor(np.array(lasts) * (1 + jitter * (2 * draw - 1)) + 0.5).astype(np.int64)
    return varied
