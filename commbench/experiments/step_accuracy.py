# SPDX-License-Identifier: Apache-2.0
"""How well published training steps are predicted: by source, with the source left out, and calibrated on few of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np
import numpy.typing as npt
import yaml

from commbench.errors import InputError
from commbench.experiments.step_exact import predict_by
from commbench.experiments.step_fit import Fit, fit_steps, local_priors, nccl_priors, priors_of
from commbench.experiments.step_rows import StepRow, predict
from commbench.workload.step_costs import Constant, StepCosts, field_of_key

__all__ = [
    "Accuracy",
    "Sweep",
    "calibrated",
    "errors_of",
    "fit_all",
    "fit_nccl",
    "judge",
    "left_out",
    "shown_value",
    "sweeps_of",
    "write_costs",
]

FloatArray = npt.NDArray[np.float64]

VTRAIN = "vtrain-single"
_DRAWS = 4


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Signed errors (predicted / measured - 1) of the cells of one source.

    Attributes:
        source: whose steps. errors: by cell.
    """

    source: str
    errors: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Mean |error|."""
        return fmean(abs(error) for error in self.errors.values())

    @property
    def bias(self) -> float:
        """Mean error."""
        return fmean(self.errors.values())

    @property
    def worst(self) -> tuple[str, float]:
        """The cell with the largest |error|."""
        return max(self.errors.items(), key=lambda one: abs(one[1]))


def errors_of(rows: Iterable[StepRow], costs: StepCosts) -> dict[str, float]:
    """Signed error of every cell: the mean over its rows."""
    found = defaultdict[str, list[float]](list)
    for row in rows:
        found[row.cell].append(predict(row, costs).iteration_s / row.measured_s - 1)
    return {cell: fmean(errors) for cell, errors in found.items()}


def judge(rows: Sequence[StepRow], costs: StepCosts) -> list[Accuracy]:
    """The accuracy of every source, by name."""
    return [Accuracy(source, errors_of(own, costs)) for source, own in sorted(_by_source(rows).items())]


def _by_source(rows: Iterable[StepRow]) -> dict[str, list[StepRow]]:
    found = defaultdict[str, list[StepRow]](list)
    for row in rows:
        found[row.source].append(row)
    return dict(found)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Steps of one model, batch and number of GPUs that differ in strategy, predicted as if one had to be chosen.

    Attributes:
        source, model, gpus, batch: of all of them. steps: how many.
        spearman: rank correlation of predicted and measured. place: of the measured best among the predicted.
        regret: measured time of the predicted best over the measured best, - 1.
    """

    source: str
    model: str
    gpus: int
    batch: int
    steps: int
    spearman: float
    place: int
    regret: float


def sweeps_of(rows: Iterable[StepRow], costs: StepCosts, *, least: int = 4) -> list[Sweep]:
    """Every sweep of at least so many different steps; what was measured several times counts once, by its mean."""
    groups = defaultdict[tuple[object, ...], dict[str, list[StepRow]]](lambda: defaultdict(list))
    for row in rows:
        plan = row.plan
        shape = (plan.model.num_layers, plan.model.hidden, plan.model.num_heads, plan.run.sequence)
        where = (row.source, *shape, plan.degrees.num_ranks, plan.global_batch, plan.device.name, plan.dtype)
        groups[where][_strategy(row)].append(row)
    found = []
    for (source, *_), same in groups.items():
        if len(same) >= least:
            each = list(same.values())
            measured = np.array([fmean(row.measured_s for row in own) for own in each])
            predicted = np.array([fmean(predict(row, costs).iteration_s for row in own) for own in each])
            chosen, first = int(predicted.argmin()), each[0][0].plan
            found.append(
                Sweep(
                    source=str(source), model=first.model.name, gpus=first.degrees.num_ranks, batch=first.global_batch,
                    steps=len(each), spearman=float(np.corrcoef(_ranks(measured), _ranks(predicted))[0, 1]),
                    place=1 + int((predicted < predicted[measured.argmin()]).sum()),
                    regret=float(measured[chosen] / measured.min() - 1),
                )
            )  # fmt: skip
    return sorted(found, key=lambda one: (one.source, -one.gpus, one.model, one.batch))


def _strategy(row: StepRow) -> str:
    """What tells a step from the others of its sweep."""
    plan = row.plan
    return repr((plan.degrees, plan.run, plan.schedule.name, plan.layers, plan.zero, row.stack, row.attention))


def _ranks(values: FloatArray) -> FloatArray:
    """Places of the values, equal ones the mean of theirs."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[at], dtype=np.float64)


def fit_all(rows: Sequence[StepRow], prior: StepCosts, start: StepCosts) -> Fit:
    """All constants, fitted to all rows; of vTrain's single-node cells every third, by its smallest batch, twice.

    Args:
        rows: measured steps. prior: the middle of the prior. start: where to begin, such as the last fit.
    """
    smallest: dict[str, StepRow] = {}
    for row in sorted(rows, key=lambda row: row.plan.global_batch):
        smallest.setdefault(row.cell, row)
    single = [row for row in smallest.values() if row.source == VTRAIN]
    own = [row for row in smallest.values() if row.source != VTRAIN] + single[::3]
    many = Counter(row.source for row in own)
    weights = [2.0 if row.source == VTRAIN else min(1.0, _HEAVY / many[row.source]) ** 0.5 for row in own]
    return fit_steps(own, prior, priors_of(own, prior), start=start, weights=weights, noise=0.04, rounds=3)


def fit_nccl(fit: Fit) -> Fit:
    """What NCCL's collectives lose in steps, by kind of links, fitted to the same steps with all other constants fixed;
    steps on GPUs that NCCL's model does not know are left out.
    """
    known = [number for number, row in enumerate(fit.rows) if _nccl_knows(row, fit.costs)]
    rows, weights = [fit.rows[number] for number in known], fit.weight[known].tolist()
    return fit_steps(rows, fit.costs, nccl_priors(rows), weights=weights, noise=fit.noise, library="nccl")


def _nccl_knows(row: StepRow, costs: StepCosts) -> bool:
    try:
        predict_by(row, costs, "nccl")
    except InputError:
        return False
    return True


_HEAVY = 100  # rows of a source that count in full; of more, each counts less


def left_out(fit: Fit, source: str) -> StepCosts:
    """Constants of all other sources' steps: one more step of Gauss and Newton without this one's."""
    kept = np.array([0.0 if row.source == source else weight for row, weight in zip(fit.rows, fit.weight, strict=True)])
    return fit.moved(0.0, kept).costs


def calibrated(rows: Sequence[StepRow], costs: StepCosts, num_steps: int) -> float:
    """Mean |error| of a source's other rows after calibration on so many of them, over a few draws."""
    means = []
    for draw in range(_DRAWS):
        known = Random(draw).sample(list(rows), num_steps)
        own = fit_steps(known, costs, local_priors(known), rounds=4).costs
        others = [row for row in rows if row not in known]
        means.append(fmean(abs(error) for error in errors_of(others, own).values()))
    return fmean(means)


def write_costs(fits: Sequence[Fit], path: Path, source: str) -> None:
    """Write constants as a file that ``step_costs.read_step_costs`` reads; fitted ones are marked so.

    Args:
        fits: one after the other; each began with the constants of the one before. path, source: of the file.
    """
    spread = {key: value for fit in fits for key, value in fit.spread.items()}
    prior = {key: sigma for fit in fits for key, sigma in zip(fit.keys, fit.sigma.tolist(), strict=True)}
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for kind, names in fits[-1].costs.constants.items():
        for name, own in names.items():
            for key, one in own.items():
                fitted = spread.get((kind, name, key))
                shown = field_of_key(kind, key)
                text = shown_value(one, shown.unit)
                known = fitted is not None and fitted < 0.8 * prior[kind, name, key]
                found.setdefault(kind, {}).setdefault(name, {})[shown.short] = {
                    "value": text,
                    "provenance": "fitted" if known else "assumed",
                    "source": f"{source}, within {fitted:.0%}" if known else "no published step decides it",
                }
    head = "# SPDX-License-Identifier: Apache-2.0\n# Written by `python -m benchmarks.published --fit`.\n"
    path.write_text(head + yaml.safe_dump(found, sort_keys=False, width=120), encoding="utf-8")


def shown_value(one: Constant, unit: str) -> str | float:
    """A constant as files write it, with its unit."""
    if unit == "s":
        return f"{one.value * 1e6:.3g} us" if one.value < 1e-3 else f"{one.value * 1e3:.3g} ms"
    return f"{one.value:.0f} B" if unit == "bytes" else float(f"{one.value:.3g}")
