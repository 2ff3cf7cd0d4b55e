# SPDX-License-Identifier: Apache-2.0
"""How far predictions of NCCL are from measured curves, by region; with curves left out, and beside simpler models.

Errors are signed, predicted / measured - 1. A class of machine that the other curves say nothing of is not scored.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.nccl.curves import Curve
from benchmarks.nccl.fit import Sample, complete, fit
from commbench.libraries.nccl.model import chosen
from commbench.libraries.nccl.predictor import solve
from commbench.libraries.nccl.timing import terms_of

__all__ = ["REGIONS", "Errors", "adapted", "baselines", "gather", "left_out", "row", "usable"]

FloatArray = npt.NDArray[np.float64]
Errors = dict[str, FloatArray]

KIB, MIB, GIB = 2**10, 2**20, 2**30
REGIONS: dict[str, Callable[[FloatArray], npt.NDArray[np.bool_]]] = {
    "<= 64 KiB": lambda size: size <= 64 * KIB,
    "knee": lambda size: (size > 64 * KIB) & (size < 256 * MIB),
    ">= 256 MiB": lambda size: size >= 256 * MIB,
    "from 1 MiB": lambda size: size >= MIB,
}


def left_out(
    samples: Sequence[Sample], others: Sequence[Sample], start: Mapping[str, float]
) -> Iterable[tuple[Sample, dict[str, float]]]:
    """Every sample with constants fitted without its cluster.

    Args:
        samples: whose clusters are left out in turn. others: that are always fitted.
        start: of the fit; what it ends at does not depend on it.
    """
    for cluster in dict.fromkeys(sample.curve.cluster for sample in samples):
        kept = [s for s in (*samples, *others) if s.curve.cluster != cluster]
        known = fit(kept, rounds=9, start=start, enough=1e-3)
        known |= {name: value for name, (value, _) in complete(known, rates=False).items()}
        for sample in samples:
            if sample.curve.cluster == cluster:
                yield sample, known


def errors_of(curve: Curve, times_us: FloatArray, skip: Sequence[int] = ()) -> Errors:
    """Signed errors by region; no plateau where the NIC's rate comes from the curve."""
    error = times_us / (curve.times * 1e6) - 1
    keep = np.isfinite(error)
    keep[list(skip)] = False
    found = {name: error[keep & within(curve.sizes)] for name, within in REGIONS.items()}
    if curve.inferred:
        found[">= 256 MiB"] = np.zeros(0)
    return found


def gather(pairs: Iterable[tuple[Curve, Errors]], key: Callable[[Curve], str]) -> dict[str, Errors]:
    """Errors of many curves by a key."""
    found: dict[str, dict[str, list[FloatArray]]] = {}
    for curve, errors in pairs:
        for name, values in errors.items():
            found.setdefault(key(curve), {}).setdefault(name, []).append(values)
    return {one: {name: np.concatenate(v) for name, v in errors.items()} for one, errors in found.items()}


def row(errors: Errors) -> list[str]:
    """Median and 95th percentile of the sizes of errors, and the median with its sign, in percent, by region."""
    cells = []
    for name in REGIONS:
        of = errors.get(name, np.zeros(0))
        size = np.abs(of) * 100
        cells.append(
            f"{np.median(size):.1f} / {np.percentile(size, 95):.0f} ({np.median(of) * 100:+z.1f})" if len(of) else "-"
        )
    return cells


def usable(curve: Curve) -> bool:
    """Whether a curve reaches from the floor to the plateau, so that two or three of its points say something."""
    return bool(len(curve.sizes) >= 8 and curve.sizes[0] <= 64 * KIB and curve.sizes[-1] >= 64 * MIB)


def _points(curve: Curve, count: int) -> list[int]:
    """Numbers of the smallest size, that nearest to 1 GiB, and that nearest to 8 MiB."""
    near = [0, *(int(np.argmin(np.abs(np.log(curve.sizes / size)))) for size in (GIB, 8 * MIB))]
    return near[:count]


def adapted(sample: Sample, known: Mapping[str, float], count: int) -> Errors:
    """Errors after two or three of the curve's own points, which are not scored."""
    curve = sample.curve
    which = chosen(sample.call, known)
    terms: dict[str, FloatArray] = {}
    for number in np.unique(which).tolist():
        for name, value in terms_of(sample.call.options[number].shape, known).items():
            terms[name] = np.where(which == number, np.broadcast_to(value, which.shape), terms.get(name, 0.0))
    points = _points(curve, count)
    own = solve([{n: v[i : i + 1] for n, v in terms.items()} for i in points], curve.sizes[points],
        curve.times[points] * 1e6)
    return errors_of(curve, np.asarray(sum(own.apply(terms, curve.sizes).values())), points)


def baselines(sample: Sample) -> dict[str, Errors]:
    """Errors of models that know nothing of NCCL, or only its formula."""
    curve = sample.curve
    size, time = curve.sizes, curve.times * 1e6
    formula = np.min([option.formula_us for option in sample.call.options], axis=0)
    found = {"NCCL's formula as a clock": errors_of(curve, formula)}
    two, three = _points(curve, 2), _points(curve, 3)
    line = np.linalg.solve(np.stack([np.ones(2), size[two]], axis=1), time[two])
    found["alpha-beta through two points"] = errors_of(curve, line[0] + line[1] * size, two)
    basis = np.stack([np.ones_like(size), size, np.sqrt(size)], axis=1)
    bend = np.linalg.lstsq(basis[three], time[three], rcond=None)[0]
    found["t0 + b S + K sqrt(S) through three"] = errors_of(curve, basis @ bend, three)
    return found
