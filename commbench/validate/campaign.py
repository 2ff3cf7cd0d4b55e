# SPDX-License-Identifier: Apache-2.0
"""The validation anybody can run: live gloo ranks on this machine, fitted on some of the runs, tested on the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from commbench.calibrate.fit import calibrate
from commbench.calibrate.machine import Machine
from commbench.collectives.registry import build_schedule, get_algorithm
from commbench.errors import InputError
from commbench.results.journal import Journal
from commbench.results.records import Compared, Measured, Summary
from commbench.validate.compare import compare, split_sizes, summarize

__all__ = ["LEGS", "Leg", "Validation", "judge", "measure_legs"]

COLLECTIVE = "all-reduce"


@dataclass(frozen=True, slots=True)
class Leg:
    """One algorithm on one number of ranks; calibration sees only legs with ``fit``, every second size of them."""

    algorithm: str
    ranks: int
    fit: bool = False


LEGS = (
    Leg("ring", 4, fit=True),
    Leg("double-binary-tree", 4),
    Leg("ring", 3),
    Leg("double-binary-tree", 3),
)


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validation found."""

    machine: Machine
    compared: tuple[Compared, ...]
    summary: Summary


def measure_legs(
    legs: Sequence[Leg], sizes_bytes: Sequence[int], *, out: Path, iters: int, tell: Callable[[str], None]
) -> list[Measured]:
    """Measure every leg on live gloo ranks; each record is in ``out`` as soon as its size is done.

    Raises:
        RunError: a rank died or hung.
    """
    from commbench.live.measure import measure
    from commbench.live.plan import Plan

    records = []
    for leg in legs:
        native = leg.algorithm == "native"
        slices = 1 if native else get_algorithm(COLLECTIVE, leg.algorithm).default_slices
        tell(f"measuring {COLLECTIVE} {leg.algorithm} on {leg.ranks} live gloo ranks, {len(sizes_bytes)} sizes")
        plan = Plan(
            collective=COLLECTIVE,
            ranks=leg.ranks,
            sizes_bytes=tuple(sizes_bytes),
            out=out,
            run=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{leg.algorithm}-{leg.ranks}",
            schedule=None if native else build_schedule(COLLECTIVE, leg.algorithm, leg.ranks, slices),
            slices=slices,
            backend="gloo",
            iters=iters,
        )
        records += measure(plan)
    return records


def judge(
    records: Sequence[Measured],
    *,
    max_median: float,
    max_p95: float,
    source: str,
    out: Path,
    legs: Sequence[Leg] = LEGS,
) -> Validation:
    """Calibrate on the legs with ``fit``, every second size; compare all; append the outcome to ``out``.

    Raises:
        InputError: no record belongs to a leg that the calibration may see.
    """
    known = {(leg.algorithm, leg.ranks): leg for leg in legs}
    points = [record for record in records if (record.algorithm, record.ranks) in known]
    candidates = [point for point in points if known[point.algorithm, point.ranks].fit]
    if not candidates:
        wanted = ", ".join(f"{leg.algorithm} on {leg.ranks} ranks" for leg in legs if leg.fit)
        raise InputError(f"nothing to calibrate on: the records hold no {wanted}")
    fitted = split_sizes(candidates)
    machine = calibrate(fitted, name=str(fitted[0].environment["hostname"]), source=source)
    compared = compare(machine, points, fitted)
    summary = summarize(compared, max_median=max_median, max_p95=max_p95)
    journal = Journal(out)
    for record in (*compared, summary):
        journal.append(record)
    return Validation(machine, tuple(compared), summary)
