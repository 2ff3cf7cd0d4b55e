# SPDX-License-Identifier: Apache-2.0
"""The validation anybody can run: live gloo ranks on this machine, fitted on some of the runs, tested on the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commbench.calibrate.fit import calibrate
from commbench.calibrate.machine import Machine
from commbench.cluster import make_cluster
from commbench.collectives.registry import build_schedule, get_algorithm
from commbench.engine.engines import Run
from commbench.errors import CheckFailedError, InputError
from commbench.libraries.ideal import Ideal
from commbench.results.journal import Journal
from commbench.results.records import Compared, Measured, Simulated, Summary
from commbench.results.run_id import new_run_id
from commbench.sim.collective import simulate_collective
from commbench.topology.fabric import Fabric
from commbench.validate.compare import compare, split_sizes, summarize

__all__ = ["LEGS", "NATIVE", "Leg", "Validation", "judge", "measure_legs", "simulate_sizes"]

COLLECTIVE = "all-reduce"
NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Leg:
    """One algorithm on one number of ranks."""

    algorithm: str
    ranks: int


FIT_LEG = Leg("ring", 4)
"""The calibration sees this leg alone, and of it every second size."""

LEGS = (FIT_LEG, Leg("double-binary-tree", 4), Leg("ring", 3), Leg("double-binary-tree", 3))


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validation found.

    Attributes:
        machine: as calibrated. compared: every point of a schedule. summary: the verdict.
        num_native: records of the backend's own collectives, which no schedule here describes; not compared.
    """

    machine: Machine
    compared: tuple[Compared, ...]
    summary: Summary
    num_native: int


def measure_legs(
    legs: Sequence[Leg], sizes_bytes: Sequence[int], *, out: Path, iters: int, tell: Callable[[str], None]
) -> list[Measured]:
    """Measure every leg on live gloo ranks; each record is in ``out`` as soon as its size is done.

    Raises:
        InputError: too few sizes to fit on half of them.
        RunError: a rank died or hung.
    """
    from commbench.live.measure import measure
    from commbench.live.plan import Plan

    if len(sizes_bytes) < 3:
        raise InputError(
            f"{len(sizes_bytes)} sizes are too few: the fit takes every second one and needs two; give 3 or more"
        )
    records = []
    for leg in legs:
        slices = 1 if leg.algorithm == NATIVE else get_algorithm(COLLECTIVE, leg.algorithm).default_slices
        tell(f"measuring {COLLECTIVE} {leg.algorithm} on {leg.ranks} live gloo ranks, {len(sizes_bytes)} sizes")
        plan = Plan(
            collective=COLLECTIVE,
            ranks=leg.ranks,
            sizes_bytes=tuple(sizes_bytes),
            out=out,
            run=new_run_id(),
            schedule=None if leg.algorithm == NATIVE else build_schedule(COLLECTIVE, leg.algorithm, leg.ranks, slices),
            slices=slices,
            backend="gloo",
            iters=iters,
        )
        records += measure(plan)
    return records


def judge(records: Sequence[Measured], *, max_median: float, max_p95: float, source: str, out: Path) -> Validation:
    """Calibrate on every second size of :data:`FIT_LEG`; compare every run of a schedule; append all to ``out``.

    Raises:
        InputError: the records hold nothing of the leg that the calibration may see.
        CheckFailedError: a record has wrong values.
    """
    bad = [record for record in records if record.wrong]
    if bad:
        place = f"{bad[0].algorithm} on {bad[0].ranks} ranks at {bad[0].size_bytes} B"
        raise CheckFailedError(f"{len(bad)} records have wrong values, the first is {place}: nothing to validate")
    points = [record for record in records if record.algorithm != NATIVE]
    candidates = [p for p in points if Leg(p.algorithm, p.ranks) == FIT_LEG and p.collective == COLLECTIVE]
    if not candidates:
        raise InputError(
            f"nothing to calibrate on: no {COLLECTIVE} {FIT_LEG.algorithm} on {FIT_LEG.ranks} ranks in the records"
        )
    fitted = split_sizes(candidates)
    machine = calibrate(fitted, name=str(fitted[0].environment.get("hostname")), source=source)
    compared = compare(machine, points, fitted)
    summary = summarize(compared, max_median=max_median, max_p95=max_p95)
    journal = Journal(out)
    for record in (*compared, summary):
        journal.append(record)
    return Validation(machine, tuple(compared), summary, len(records) - len(points))


def simulate_sizes(
    topologies: Sequence[Fabric], algorithms: Sequence[str], sizes_bytes: Sequence[int], *, out: Path
) -> list[Simulated]:
    """Simulate every algorithm at every size on every topology; append the records to ``out``."""
    journal = Journal(out)
    records = []
    how = Run(keep_trace=False)
    for cluster in map(make_cluster, topologies):
        for algorithm in algorithms:
            library = Ideal(algorithms={COLLECTIVE: algorithm}, ranks_per_host=cluster.ranks_per_host)
            for size in sizes_bytes:
                records.append(simulate_collective(COLLECTIVE, size, cluster, library, how).record)
                journal.append(records[-1])
    return records
