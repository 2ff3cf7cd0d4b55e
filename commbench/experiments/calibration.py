# SPDX-License-Identifier: Apache-2.0
"""From measured runs of schedules to a machine, as a topology file; from points of one to a library's constants."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commbench.calibrate.fit import calibrate, doubts, residuals
from commbench.calibrate.machine import Machine
from commbench.collectives.sizes import dtype_name
from commbench.errors import InputError
from commbench.experiments.collective import NATIVE
from commbench.experiments.library_choice import machine_for
from commbench.experiments.own_points import (
    OwnPoints,
    adapted_to,
    parse_point,
    points_of_log,
    prior_and_posterior,
    write_own,
)
from commbench.experiments.simulated import CollectiveOptions, cluster_of
from commbench.results.records import Measured
from commbench.results.statistics import median
from commbench.topology.load import load_fabric

__all__ = ["Calibrated", "calibrate_library", "calibrate_runs"]


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


def calibrate_library(
    options: CollectiveOptions, points: Sequence[str], log: Path | None, out: Path
) -> list[tuple[str, float, float, str]]:
    """Adapt a library's model to the user's own points or log, and write what they say.

    Returns:
        Prior and posterior, as ``own_points.prior_and_posterior`` has them.

    Raises:
        InputError: points that cannot be read, both or neither, or a machine that the model does not know.
    """
    if bool(points) is (log is not None):
        raise InputError("--library: give one log of nccl-tests, or --point SIZE:TIME once to three times")
    fabric = load_fabric(options.topology)
    cluster = cluster_of(options, fabric)
    machine = machine_for(options, cluster)
    if log is not None:
        own = points_of_log(log, options.collective, cluster.num_ranks)
    else:
        read = tuple(parse_point(text, options.collective, cluster.num_ranks) for text in points)
        own = OwnPoints(read, "--point")
    adapted = adapted_to(machine, own, dtype_name(options.dtype))
    write_own(out, adapted, own, machine, fabric.name)
    return prior_and_posterior(adapted)
