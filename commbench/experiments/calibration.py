# SPDX-License-Identifier: Apache-2.0
"""From measured runs of schedules to a machine, as a topology file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commbench.calibrate.fit import calibrate, doubts, residuals
from commbench.calibrate.machine import Machine
from commbench.experiments.collective import NATIVE
from commbench.results.records import Measured
from commbench.results.statistics import median

__all__ = ["Calibrated", "calibrate_runs"]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A machine, how well it explains the points that were fitted, and what to doubt of it, in words."""

    machine: Machine
    num_points: int
    median_error: float
    warnings: Sequence[str]


def calibrate_runs(records: Sequence[Measured], files: Sequence[Path], out: Path, ranks: int | None) -> Calibrated:
    """Fit a machine to the records of schedules, which came from ``files``, and write its topology.

    Args:
        ranks: of the topology; None takes the most that were measured.
    """
    points = [point for point in records if point.algorithm != NATIVE]
    names = ", ".join(map(str, files))
    machine = calibrate(points, name=out.stem, source=f"fitted to {len(points)} points of {names}")
    machine.write(out, max(point.ranks for point in points) if ranks is None else ranks)
    errors = residuals(machine, points)
    return Calibrated(machine, len(errors), median(map(abs, errors)), doubts(machine, errors))
