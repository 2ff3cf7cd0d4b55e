# SPDX-License-Identifier: Apache-2.0
"""What choosing a strategy by prediction costs: published steps of one model, batch and number of GPUs together."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

from commbench.experiments.step_rows import StepRow, predict
from commbench.workload.step_costs import StepCosts

__all__ = ["Sweep", "sweeps_of"]

FloatArray = npt.NDArray[np.float64]


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
