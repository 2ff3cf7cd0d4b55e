# SPDX-License-Identifier: Apache-2.0
"""How well measured training steps are predicted, by source."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from commbench.experiments.step_rows import StepRow, predict
from commbench.workload.step_costs import StepCosts

__all__ = ["Accuracy", "errors_of", "judge"]


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
