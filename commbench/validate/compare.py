# SPDX-License-Identifier: Apache-2.0
"""Hold predictions against measurements: the signed error of every point, and thresholds that fail."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from commbench.calibrate.fit import predict_s
from commbench.calibrate.machine import Machine
from commbench.errors import InputError
from commbench.results.grouped import experiment_of, round_text
from commbench.results.records import Compared, Measured, Summary
from commbench.results.regions import region

__all__ = ["BUSY", "FIT", "TEST", "compare", "figures", "split_sizes", "summarize"]

FIT, TEST, BUSY = "fit", "test", "busy"


def split_sizes(points: Sequence[Measured]) -> list[Measured]:
    """Every second size, from the smallest: the half that a calibration may see."""
    sizes = sorted({point.size_bytes for point in points})
    chosen = set(sizes[::2])
    return [point for point in points if point.size_bytes in chosen]


def compare(machine: Machine, points: Sequence[Measured], fitted: Collection[Measured]) -> list[Compared]:
    """Every point beside its prediction; those in ``fitted`` are marked so."""
    seen = {id(point) for point in fitted}
    return [
        Compared(
            run=point.run,
            collective=point.collective,
            algorithm=point.algorithm,
            backend=point.backend,
            ranks=point.ranks,
            size_bytes=point.size_bytes,
            channels=point.channels,
            slices=point.slices,
            group=point.group,
            root=point.root,
            weights=point.weights,
            cold_cache=point.cold_cache,
            graphed=point.graphed,
            dtype=point.dtype,
            op=point.op,
            timing=point.timing,
            in_place=point.in_place,
            round=round_text(point) if experiment_of(point) else "",
            measured_s=point.time_s,
            spread_s=point.spread_s,
            simulated_s=predict_s(machine, point),
            set=FIT if id(point) in seen else TEST,
            region=region(point.size_bytes),
            busbw_factor=point.busbw_factor,
            topology=f"{machine.name}-{point.ranks}",
        )
        for point in points
    ]


def summarize(points: Sequence[Compared], *, max_median: float, max_p95: float) -> Summary:
    """Error over the test points, by group, and whether it is within the thresholds.

    Raises:
        InputError: no test point.
    """
    tested = [point for point in points if point.set == TEST]
    if not tested:
        raise InputError("nothing to validate: every point was used by the fit")
    total = figures(tested)
    groups: dict[str, dict[str, Mapping[str, float]]] = {}
    for group, key in (
        ("algorithm", "algorithm"),
        ("ranks", "ranks"),
        ("region", "region"),
        ("fabric", "topology"),
    ):
        members = sorted({getattr(point, key) for point in tested})
        groups[group] = {str(m): figures([p for p in tested if getattr(p, key) == m]) for m in members}
    return Summary(
        points=len(tested),
        median_abs_error=total["median_abs_error"],
        p95_abs_error=total["p95_abs_error"],
        max_median_abs_error=max_median,
        max_p95_abs_error=max_p95,
        ok=total["median_abs_error"] <= max_median and total["p95_abs_error"] <= max_p95,
        groups=groups,
    )


def figures(points: Sequence[Compared]) -> dict[str, float]:
    """Count, median signed error, and median and 95th percentile of |error|."""
    errors = np.array([point.error for point in points])
    return {
        "points": len(points),
        "median_error": float(np.median(errors)),
        "median_abs_error": float(np.median(np.abs(errors))),
        "p95_abs_error": float(np.percentile(np.abs(errors), 95)),
    }
