# SPDX-License-Identifier: Apache-2.0
"""What a scenario does to a program in collective detail: slow ranks, slower links, and compute that varies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.engine.setting import Change, What
from commbench.errors import InputError
from commbench.program.operations import Program

if TYPE_CHECKING:
    from commbench.lowering.scenario import Scenario

__all__ = ["Perturbation", "perturbation"]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A scenario in terms of ranks and links.

    Attributes:
        slow: (time in ps, rank of the world, times as long).
        links: changes of the fabric's links, in order of time.
        jitter: compute lasts up to this fraction more or less. seed: of its draws.
        name, digest: for records.
    """

    slow: tuple[tuple[int, int, float], ...] = ()
    links: tuple[Change, ...] = ()
    jitter: float = 0.0
    seed: int = 0
    name: str = ""
    digest: str = ""

    @property
    def slow_ranks(self) -> tuple[int, ...]:
        """Ranks of the world that are slow at some time."""
        return tuple(sorted({rank for _, rank, _ in self.slow}))

    def changes(self, program: Program) -> list[Change]:
        """All changes, for the ranks of a program, in order of time; of one instant in the order of the script."""
        by = program.represented_by
        own = [rank if by is None else int(by[rank]) for _, rank, _ in self.slow]
        slow = [
            Change(at_ps, What.SLOWDOWN, rank, factor) for rank, (at_ps, _, factor) in zip(own, self.slow, strict=True)
        ]
        return sorted([*slow, *self.links], key=lambda change: change.time_ps)

    def durations_ps(self, program: Program) -> IntArray:
        """Of every operation, drawn evenly from (1 - jitter, 1 + jitter) times its own; 0 for communications."""
        if not self.jitter:
            return program.duration_ps
        draw = np.random.default_rng(self.seed).random(program.num_operations)
        varied: IntArray = np.floor(program.duration_ps * (1 + self.jitter * (2 * draw - 1)) + 0.5).astype(np.int64)
        return varied


def perturbation(scenario: "Scenario", cluster: Cluster, *, step: bool = False) -> Perturbation:
    """A scenario for the ranks of a cluster; ``step``: of a training step, which has collective detail alone.

    Raises:
        InputError: a fault that collective detail cannot have (a link that is down, a killed rank, background flows),
            of a link or rank that is not there, or of a rank on which nothing runs.
    """
    from commbench.topology.faults import FaultScript, LinkFault, SlowRank, require_fits  # most runs have no faults

    fabric, place = cluster.fabric, f"{scenario.origin}: " if scenario.origin else ""
    rank_at = {int(endpoint): rank for rank, endpoint in enumerate(cluster.placed)}
    require_fits(FaultScript(scenario.faults, scenario.origin or "scenario"), fabric)
    slow, links = [], []
    for fault in scenario.faults:
        match fault:
            case SlowRank(factor=factor) if factor > 0:
                if fault.rank not in rank_at:
                    raise InputError(f"{place}{fault}: on rank {fault.rank} of the topology nothing runs")
                slow.append((fault.at_ps, rank_at[fault.rank], 1 / factor))
            case LinkFault(factor=factor) if factor > 0:
                for link in fabric.links_between(fault.src, fault.dst).tolist():
                    bandwidth = float(fabric.bandwidths[link]) * factor
                    links.append(Change(fault.at_ps, What.BANDWIDTH, link, bandwidth))
            case _:
                who, way = ("a training step", "`sim COLLECTIVE`") if step else (
                    "collective detail", "--detail transfer")  # fmt: skip
                raise InputError(
                    f"{place}{fault}: {who} can have slow ranks and slower links (kind slow-rank or link, factor above "
                    f"0), not this: its collectives have no single transfers to be cut or moved; {way} takes it"
                )
    links.sort(key=lambda change: change.time_ps)  # stable: of one instant the last line of the script counts
    return Perturbation(tuple(slow), tuple(links), scenario.jitter, scenario.seed, scenario.name, scenario.digest)
