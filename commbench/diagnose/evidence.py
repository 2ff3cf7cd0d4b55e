# SPDX-License-Identifier: Apache-2.0
"""Measurements against their simulated values as arrays: ratios, baselines, noise, and what each part has to do with
each measurement.

**The model.** A measurement that takes t, on whose busiest link all that runs then takes T_max, and on some part T,
takes t + max(0, T / f - T_max) where that part has the fraction f of its bandwidth: what is no transfer over the
busiest link (latency, other phases) stays, and the part matters from where it becomes the bottleneck on. Of several
parts the slowest counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.arrays import FloatArray, IntArray
from commbench.diagnose.expect import Expected
from commbench.diagnose.measurement import Measurement
from commbench.diagnose.parts import ONE_WAY, FabricPart
from commbench.errors import InputError

__all__ = ["Evidence", "PartClass", "classes_of", "evidence_of", "log_slowdown"]

FEWEST = 3
"""Measurements alike that have a baseline of their own."""
_OTHER_KIND = 0.05  # by which the simulator's error may differ between kinds of measurements: its own median from 1 MiB
_BY_CHANCE = 0.01  # of fabrics in health, in which some measurement may be called slow
_OF_MAD = 0.37  # efficiency of the median absolute deviation, of normal values: Rousseeuw and Croux 1993, section 1
_LEAST_FREEDOM = 4.0  # assumed: of a few measurements, where nothing would ever be slow
_LEAST_NOISE = 0.005  # of any measurement: a simulation is no truth
_STARTS = ((0.1, np.inf), (0.2, 1.3), (0.4, 1.3), (0.7, 1.3))
"""The share of the measurements of a kind that are healthy, as it is tried, and how many times as wide as the narrowest
interval with so many the lowest one may be that counts."""
_ROUNDS = 6  # in which a baseline takes in what is near
_DIGITS = 6  # to which the traffic of two parts is the same


@dataclass(frozen=True, slots=True, eq=False)
class PartClass:
    """Parts that no measurement tells apart: they carry the same traffic of each, up to one factor.

    Attributes:
        parts: in the order of :func:`commbench.diagnose.parts.parts_of`. busy_s: of the first one, in every measurement
            (0 where its own messages do not cross it); shape (measurements,).
    """

    parts: tuple[FabricPart, ...]
    busy_s: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All measurements.

    Attributes:
        log_ratio: logarithm of measured / simulated. error: standard error of it, by the samples' own spread.
        kind: number of the kind of each; measurements of one kind share a baseline. alone: whether there are too few
            of its kind, so that it takes the baseline of all others.
        time_s: simulated. busiest_s: of the busiest link; shapes (measurements,).
        baseline: logarithm, of every measurement, where nothing is wrong. scatter: of the healthy ones around it.
    """

    log_ratio: FloatArray
    error: FloatArray
    kind: IntArray
    alone: npt.NDArray[np.bool_]
    time_s: FloatArray
    busiest_s: FloatArray
    baseline: FloatArray
    scatter: float

    def model(self, busy_s: FloatArray, factor: float | FloatArray) -> FloatArray:
        """Logarithm of the slowdown of every measurement where a part has ``factor`` of its bandwidth; of several
        factors (shape (n, 1)) a row each.
        """
        return log_slowdown(busy_s, factor, self.busiest_s, self.time_s)

    def rebased(self, model: FloatArray) -> "Evidence":
        """With the baselines and the scatter that remain if ``model`` (logarithm of slowdowns) explains the rest."""
        rest = self.log_ratio - model
        baseline, scatter = _baselines(rest, self.kind, self.alone, self.baseline, self.scatter)
        return replace(self, baseline=baseline, scatter=scatter)

    @property
    def deviation(self) -> FloatArray:
        """Logarithm of measured / (simulated x baseline)."""
        return self.log_ratio - self.baseline

    @property
    def sigma(self) -> FloatArray:
        """Standard deviation of each deviation: the samples' own, and how far healthy measurements scatter."""
        total: FloatArray = np.sqrt(self.error**2 + self.scatter**2 + np.where(self.alone, _OTHER_KIND**2, 0.0))
        return total

    @property
    def tolerance(self) -> FloatArray:
        """Over 1, from which on a measurement is slow: 5 %, or three standard deviations; of many measurements so many
        that chance makes one of them slow in a hundredth of all fabrics in health. Their scatter is an estimate itself,
        hence Student's distribution.
        """
        from scipy.special import stdtrit

        count = len(self.sigma)
        freedom = max(_LEAST_FREEDOM, _OF_MAD * (count - 1))
        widths = max(3.0, float(stdtrit(freedom, 1 - _BY_CHANCE / max(1, count))))
        over: FloatArray = np.maximum(0.05, np.expm1(widths * self.sigma))
        return over


def log_slowdown(
    busy_s: FloatArray, factor: float | FloatArray, busiest_s: FloatArray, time_s: FloatArray
) -> FloatArray:
    """The model of this module; see there."""
    longer: FloatArray = np.log1p(np.maximum(0.0, busy_s / factor - busiest_s) / time_s)
    return longer


def evidence_of(measurements: Sequence[Measurement], expected: Sequence[Expected]) -> list[Evidence]:
    """Ratios with baselines, from all measurements together.

    Nobody knows beforehand how many are healthy, so there are several: where a tenth is at the least, and so on.

    Raises:
        InputError: too few that are alike, so that nothing says what is healthy.
    """
    names = [each.likeness for each in measurements]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    kind = np.array([order[name] for name in names], np.int64)
    if np.bincount(kind).max() < FEWEST:
        raise InputError(
            f"{len(names)} measurements, none of them with {FEWEST - 1} others of its kind (collective, size, ranks, "
            "as many at once): nothing says what is healthy; measure more pairs of hosts at one size"
        )
    log_ratio = np.log([m.record.time_s / e.time_s for m, e in zip(measurements, expected, strict=True)])
    error = np.array([each.error for each in measurements])
    time_s = np.array([each.time_s for each in expected])
    busiest_s = np.array([each.busy_s.max() for each in expected])
    alone = np.bincount(kind)[kind] < FEWEST
    found = []
    for share, width in _STARTS:
        modes = [_lowest_mode(log_ratio[kind == number], share, width) for number in range(len(order))]
        start = np.array([middle for middle, _ in modes])[kind]
        spread = float(np.median([wide for number, (_, wide) in enumerate(modes) if not alone[kind == number].any()]))
        baseline, scatter = _baselines(log_ratio, kind, alone, start, spread)
        found.append(Evidence(log_ratio, error, kind, alone, time_s, busiest_s, baseline, scatter))
    return found


def classes_of(parts: Sequence[FabricPart], expected: Sequence[Expected]) -> list[PartClass]:
    """The parts by what tells them apart: the traffic that each measurement puts on them."""
    found: dict[bytes, list[tuple[FabricPart, FloatArray]]] = {}
    busy = [dict(zip(each.links.tolist(), each.busy_s.tolist(), strict=True)) for each in expected]
    at: dict[int, list[tuple[int, float]]] = {}
    for number, links in enumerate(busy):
        for link, time_s in links.items():
            at.setdefault(link, []).append((number, time_s))
    for part in parts:
        traffic = np.zeros(len(expected))
        for link in part.links.tolist():
            for number, time_s in at.get(link, ()):
                traffic[number] = max(traffic[number], time_s)
        if traffic.any():
            key = np.round(traffic / traffic.max(), _DIGITS).tobytes()
            found.setdefault(key, []).append((part, traffic))
    return [PartClass(_whole([part for part, _ in alike]), alike[0][1]) for alike in found.values()]


def _whole(parts: Sequence[FabricPart]) -> tuple[FabricPart, ...]:
    """Without single directions where their cable is among them."""
    return tuple(part for part in parts if part.kind != ONE_WAY) or tuple(parts)


def _lowest_mode(values: FloatArray, share: float, like: float) -> tuple[float, float]:
    """Where healthy values are: middle and spread of the lowest interval that holds a share of all and is at most
    ``like`` times as wide as the narrowest. Faults only add time: the healthy ones are the lowest that stand together.
    """
    ordered = np.sort(values)
    count = min(len(ordered), max(2, int(np.ceil(share * len(ordered)))))
    widths = ordered[count - 1 :] - ordered[: len(ordered) - count + 1]
    first = int(np.flatnonzero(widths <= like * (widths.min() + 1e-12) + _LEAST_NOISE)[0])
    inside = ordered[first : first + count]
    return float(np.median(inside)), _spread(inside - np.median(inside))


def _spread(off: FloatArray) -> float:
    """Standard deviation by the median absolute one; no less than any measurement's."""
    return max(_LEAST_NOISE, 1.4826 * float(np.median(np.abs(off)))) if len(off) else _LEAST_NOISE


def _baselines(
    log_ratio: FloatArray, kind: IntArray, alone: npt.NDArray[np.bool_], start: FloatArray, spread: float
) -> tuple[FloatArray, float]:
    """Baselines of kinds with enough measurements, of the others that of all, and the scatter around them: again and
    again without what is further off than three times the scatter.
    """
    baseline, scatter = start.copy(), spread
    for _ in range(_ROUNDS):
        near = (np.abs(log_ratio - baseline) <= 3 * scatter) & ~alone
        for number in np.unique(kind[near]).tolist():
            baseline[kind == number] = np.median(log_ratio[(kind == number) & near])
        scatter = _spread((log_ratio - baseline)[near])
        baseline[alone] = np.median(baseline[~alone])
    return baseline, scatter
