# SPDX-License-Identifier: Apache-2.0
"""Fit a machine to measured runs of schedules, with the simulator itself as the model.

What comes from where:

- *reduction* (gamma): the time that ranks spent adding, over the bytes that they added; measured inside the runs.
- *message overhead* (o): the time that ranks spent posting, per message posted, at the smaller half of the
  sizes, where the payload itself weighs nothing; measured inside the runs.
- *latency* and *bandwidth* (alpha, 1 / beta): fitted, so that simulated and measured times agree best. The residual
  of a point is log(simulated / measured); soft-L1 loss, so that one disturbed point does not decide.

No second formula stands beside the simulator: what is fitted is what is used to predict.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from math import log
from statistics import median

import numpy as np
import numpy.typing as npt

from commbench.calibrate.machine import Machine
from commbench.cluster import make_cluster
from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.sizes import buffer_elements
from commbench.collectives.spec import get_collective
from commbench.collectives.text import digest
from commbench.engine.engines import Run
from commbench.errors import CheckFailedError, InputError
from commbench.libraries.ideal import Ideal
from commbench.results.records import Measured
from commbench.sim.collective import simulate_collective

__all__ = ["calibrate", "doubts", "fit_links", "predict_s", "residuals"]

_START_LATENCY_S, _START_BANDWIDTH = 20e-6, 4e9  # where the search starts; a loopback's order of magnitude
_GOOD_FIT = 0.25  # median |error| above which a fit is called into question
_BOUNDS_LATENCY_S, _BOUNDS_BANDWIDTH = (1e-9, 0.1), (1e6, 1e12)


def calibrate(points: Sequence[Measured], *, name: str, source: str) -> Machine:
    """The machine that explains the points best.

    Args:
        points: runs of schedules (not native) on one machine, at two sizes or more.
        name: of the machine. source: said of every fitted number.

    Raises:
        InputError: too few points, points without phases, or points of different machines.
        CheckFailedError: a point has wrong values.
    """
    _check(points)
    start = Machine(
        name=name,
        cores=int(points[0].environment["cores_usable"]),
        message_overhead_s=_overhead_s(points),
        latency_s=_START_LATENCY_S,
        bandwidth=_START_BANDWIDTH,
        reduction=_reduction(points),
        source=source,
    )

    return fit_links(start, points, predict_s, lambda point: point.time_s)


def fit_links(
    start: Machine,
    points: Sequence[Measured],
    predict: Callable[[Machine, Measured], float],
    measured: Callable[[Measured], float],
) -> Machine:
    """The machine with the latency and the bandwidth that explain the points best.

    Args:
        start: where the search starts; its other numbers stay. points: two sizes or more.
        predict, measured: simulated and measured seconds of a point.
    """
    from scipy.optimize import least_squares

    def logs_of_ratios(logs: npt.NDArray[np.float64]) -> list[float]:
        machine = replace(start, latency_s=float(np.exp(logs[0])), bandwidth=float(np.exp(logs[1])))
        return [log(predict(machine, point) / measured(point)) for point in points]

    bounds = np.log([_BOUNDS_LATENCY_S, _BOUNDS_BANDWIDTH]).T
    # Simulated time steps in picoseconds, so the derivative needs a step far above the double's own.
    best = least_squares(
        logs_of_ratios,
        np.log([start.latency_s, start.bandwidth]),
        bounds=tuple(bounds),
        loss="soft_l1",
        f_scale=0.1,
        diff_step=1e-3,
    )
    latency_s, bandwidth = np.exp(best.x)
    return replace(start, latency_s=float(latency_s), bandwidth=float(bandwidth))


def residuals(machine: Machine, points: Sequence[Measured]) -> list[float]:
    """Signed error of every point that was fitted: simulated / measured - 1."""
    return [predict_s(machine, point) / point.time_s - 1 for point in points]


def doubts(machine: Machine, errors: Sequence[float]) -> list[str]:
    """What speaks against using the machine, in sentences."""
    found = []
    for name, value, bounds in (
        ("latency", machine.latency_s, _BOUNDS_LATENCY_S),
        ("bandwidth", machine.bandwidth, _BOUNDS_BANDWIDTH),
    ):
        if value < 10 * bounds[0] or value > bounds[1] / 10:
            found.append(f"the fitted {name} lies at the end of its range: the runs do not determine it")
    middle = median(map(abs, errors))
    if middle > _GOOD_FIT:
        found.append(f"median |error| on the fitted points is {middle:.0%}: this model does not explain these runs")
    return found


def predict_s(machine: Machine, point: Measured) -> float:
    """Simulated seconds of a measured point on the machine, with the groups that ran beside it.

    Groups of another size are not simulated beside it, as one size of the buffer does not say theirs.
    """
    beside = [len(members) for members in point.environment.get("beside", ()) if len(members) == point.ranks]
    groups = [range(first, first + point.ranks) for first in range(0, point.ranks * (1 + len(beside)), point.ranks)]
    simulation = simulate_collective(
        point.collective,
        point.size_bytes,
        make_cluster(machine.topology(point.ranks * len(groups))),
        Ideal(algorithms={point.collective: _schedule(point)}),
        Run(keep_trace=False),
        element_bytes=point.size_bytes // point.num_elements,
        jobs="/".join(f"{group[0]}-{group[-1]}" for group in groups) if beside else None,
    )
    return float(simulation.record.jobs[0]["time_s"]) if beside else simulation.record.time_s


def _check(points: Sequence[Measured]) -> None:
    """Refuse points that one machine of this kind cannot explain."""
    sizes = {point.size_bytes for point in points}
    if len(sizes) < 2:
        raise InputError(f"calibration needs runs at two sizes or more, not {len(sizes)}")
    for point in points:
        place = f"{point.collective} {point.algorithm} at {point.size_bytes} B"
        if point.wrong:
            raise CheckFailedError(f"{place} has {point.wrong} wrong values; nothing is fitted to a wrong run")
        if point.backend != "gloo":
            raise InputError(f"calibration needs runs on gloo, whose phases are real time; {place}: {point.backend}")
        if "post" not in point.phases_s:
            raise InputError(f"calibration needs runs of schedules, which record their phases; {place} has none")
    for what, values in _facts(points).items():
        if len(values) > 1:
            raise InputError(f"calibration needs runs of one {what}, not of {', '.join(sorted(map(str, values)))}")


def _facts(points: Sequence[Measured]) -> dict[str, set[object]]:
    """What must be the same in all points."""
    for point in points:
        for key in ("hostname", "cores_usable"):
            if key not in point.environment:
                raise InputError(f"calibration needs environment.{key} in every record; {point.run} lacks it")
    return {
        "machine": {h for p in points for h in p.environment.get("hosts") or [p.environment["hostname"]]},
        "number of cores": {point.environment["cores_usable"] for point in points},
        "timing": {point.timing for point in points},
        "dtype": {point.dtype for point in points},
    }


_built = lru_cache(maxsize=256)(build_schedule)


def _schedule(point: Measured) -> Schedule:
    """The schedule that the point ran, built anew.

    Raises:
        InputError: the algorithm is unknown, or what ran under its name was another schedule.
    """
    of_its_own = point.algorithm == "native" and point.backend == "gloo"
    schedule = _built(
        point.collective,
        "gloo" if of_its_own else point.algorithm,  # what gloo does by itself, counted in docs/gloo.md
        point.ranks,
        point.slices,
        root=point.root,
        channels=point.channels,
        group=point.group,
        num_elements=_elements(point),
        element_bytes=point.size_bytes // point.num_elements,
    )
    if point.weights:
        schedule = replace(schedule, weights=point.weights)
    if point.schedule not in ("", digest(schedule)):
        raise InputError(
            f"{point.run}: what ran as {point.collective} {point.algorithm} on {point.ranks} ranks is another schedule "
            f"than commbench's own (digest {point.schedule}); only those of the registry can be fitted and predicted"
        )
    return schedule


def _elements(point: Measured) -> int:
    """Elements of the full buffer."""
    return buffer_elements(get_collective(point.collective), point.ranks, point.num_elements)


def _typical_s(point: Measured, phase: str) -> float:
    """Seconds of a phase, summed over ranks, of the median iteration."""
    return float(median(sum(column) for column in zip(*point.phases_s[phase], strict=True)))


def _overhead_s(points: Sequence[Measured]) -> float:
    """Posting time per message and side, median over the smaller half of the sizes."""
    smaller = sorted(points, key=lambda point: point.size_bytes)[: max(1, len(points) // 2)]
    return median(_typical_s(point, "post") / len(_schedule(point)) for point in smaller)


def _reduction(points: Sequence[Measured]) -> float:
    """Bytes added per second spent adding, over all points."""
    added = seconds = 0.0
    for point in points:
        schedule = _schedule(point)
        offsets = schedule.offsets(_elements(point))
        rows = schedule.table[schedule.column("kind") == Kind.REDUCE]
        elements = (offsets[rows[:, 5] + rows[:, 6]] - offsets[rows[:, 5]]).sum()
        added += float(elements) * point.size_bytes / point.num_elements
        seconds += _typical_s(point, "reduce")
    if not (added > 0 and seconds > 0):
        raise InputError("calibration needs runs that reduce; these spent no time adding")
    return added / seconds
