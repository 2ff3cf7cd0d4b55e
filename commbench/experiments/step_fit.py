# SPDX-License-Identifier: Apache-2.0
"""Constants of training steps fitted to measured ones: least squares of log errors about a prior.

Every constant has a prior, log-normal about the value that is there; what the steps do not decide stays where it was.
Errors are log(predicted / measured), robust beyond twice the noise of a measurement.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from commbench.arrays import FloatArray
from commbench.experiments.step_rows import StepRow, predict
from commbench.training.closed_form import Estimate
from commbench.training.step_hosts import shared_nics
from commbench.workload.step_costs import StepCosts, nvlink_kind

__all__ = ["NOISE", "Fit", "Key", "fit_steps", "goes_far", "local_priors"]

Key = tuple[str, str, str]
"""Of a constant: kind, name, key."""
Estimator = Callable[[StepRow, StepCosts], Estimate]

NOISE = 0.03
"""Of a measured step, as a share: repeated configurations of several nodes deviate by 2.1 % on average."""
_STEP = 0.02  # of a logarithm, for differences
_BEND = 2.0  # times the noise: larger errors pull no more than linearly
_SHARES = (
    "share", "far_nics", "nccl_share", "transfer", "memory", "sharded_share",
    "hidden_data", "hidden_sharded", "hidden_tensor",
)  # fmt: skip


def local_priors(rows: Sequence[StepRow]) -> dict[Key, float]:
    """What differs from cluster to cluster: host, collective curve, memory passes."""
    found: dict[Key, float] = {}
    for row in rows:
        found |= {("stacks", row.stack, key): sigma for key, sigma in (("host_pass_s", 0.5), ("memory_passes", 0.2))}
        found[("links", nvlink_kind(row.inside), "share")] = 0.2
        if row.plan.degrees.num_ranks > row.gpus:
            found |= {("links", row.fabric, key): sigma for key, sigma in (("share", 0.4), ("latency_s", 0.7))}
        if goes_far(row):
            found["links", row.fabric, "far_nics"] = 0.4
    return found


def goes_far(row: StepRow) -> bool:
    """Whether its data groups' GPUs of a host are beside different NICs, which others share."""
    degrees, nics = row.plan.degrees, shared_nics(row.nics, row.gpus, row.inside)
    ranks = degrees.dp * degrees.cp
    here = min(ranks, max(1, row.gpus // degrees.tp))
    return 1 < here <= nics and here < ranks


@dataclass(frozen=True)
class Fit:
    """Constants at one point, and how the errors of some steps change with them.

    Attributes:
        rows: measured steps. prior: the middle of the prior. costs: the point. at: its logarithms beside the prior's.
        keys: what is fitted. sigma: spread of the prior. weight: of the rows. noise: of a measurement.
        estimate: what predicts a step.
    """

    rows: Sequence[StepRow]
    prior: StepCosts
    costs: StepCosts
    keys: tuple[Key, ...]
    at: FloatArray
    sigma: FloatArray
    weight: FloatArray
    noise: float
    estimate: Estimator = predict

    @cached_property
    def error(self) -> FloatArray:
        """Log of predicted over measured, of every row."""
        return _logs(self.rows, self.costs, self.estimate)

    @cached_property
    def slope(self) -> FloatArray:
        """How the error of every row (row) changes with the logarithm of every constant (column)."""
        return _gradient(self.rows, self.costs, self.keys, self.error, self.estimate)

    @property
    def loss(self) -> float:
        """What is made small: squared errors in units of the noise, linear beyond twice, and the prior."""
        size = np.abs(self.error) / self.noise
        each = np.where(size < _BEND, size**2 / 2, _BEND * size - _BEND**2 / 2)
        return float((self.weight * each).sum() + ((self.at / self.sigma) ** 2).sum() / 2)

    def hessian(self, weight: FloatArray) -> FloatArray:
        """Of the loss, as Gauss and Newton have it."""
        return np.asarray(self.slope.T @ (self.slope * self._pull(weight)[:, None]) + np.diag(self.sigma**-2.0))

    def _pull(self, weight: FloatArray) -> FloatArray:
        size = np.maximum(np.abs(self.error), 1e-12)
        return np.asarray(weight * np.minimum(1.0, _BEND * self.noise / size) / self.noise**2)

    def moved(self, damping: float, weight: FloatArray | None = None) -> "Fit":
        """One step downhill; ``weight``: with other weights of the rows, 0 for those left out."""
        own = self.weight if weight is None else weight
        hessian = self.hessian(own)
        downhill = self.slope.T @ (self._pull(own) * self.error) + self.at / self.sigma**2
        move = np.clip(-np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), downhill), -0.7, 0.7)
        at = self.at + move
        costs = _moved(self.prior, self.keys, at)
        return Fit(self.rows, self.prior, costs, self.keys, at, self.sigma, own, self.noise, self.estimate)

    @cached_property
    def covariance(self) -> FloatArray:
        """Of the logarithms, in the order of keys."""
        return np.asarray(np.linalg.inv(self.hessian(self.weight)))

    @property
    def spread(self) -> dict[Key, float]:
        """Of every constant, as a share: one standard deviation."""
        return dict(zip(self.keys, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    def uncertainty(self, row: StepRow) -> float:
        """How far a new step may be off, as a share: one standard deviation, of constants and of a measurement."""
        own = _gradient([row], self.costs, self.keys, _logs([row], self.costs, self.estimate), self.estimate)[0]
        return float(np.sqrt(own @ self.covariance @ own + self.noise**2))


def fit_steps(
    rows: Sequence[StepRow],
    prior: StepCosts,
    priors: Mapping[Key, float],
    *,
    start: StepCosts | None = None,
    weights: Sequence[float] | None = None,
    noise: float = NOISE,
    rounds: int = 6,
    estimate: Estimator = predict,
) -> Fit:
    """Fit constants.

    Args:
        rows: measured steps. prior: the middle. priors: what is fitted, and its spread as a logarithm.
        start: where to begin; at the prior if left out.
        weights: of the rows; 1 each if left out. noise: of a measurement, as a share. rounds: of Gauss and Newton.
        estimate: what predicts a step.
    """
    sigma = np.array(list(priors.values()))
    weight = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    at = np.array([0.0 if start is None else np.log(_value(start, key) / _value(prior, key)) for key in priors])
    best = Fit(rows, prior, _moved(prior, tuple(priors), at), tuple(priors), at, sigma, weight, noise, estimate)
    damping = 1e-3
    for _ in range(rounds):
        before = best.loss
        for _ in range(4):
            other = best.moved(damping)
            if other.loss < best.loss:
                best, damping = other, damping / 3
                break
            damping = max(damping * 10, 1e-2)
        if before - best.loss <= 1e-3 * before:
            break
    return best


def _value(costs: StepCosts, key: Key) -> float:
    kind, name, own = key
    return costs.constants[kind][name][own].value


def _logs(rows: Sequence[StepRow], costs: StepCosts, estimate: Estimator) -> FloatArray:
    return np.array([np.log(estimate(row, costs).iteration_s / row.measured_s) for row in rows])


def _moved(costs: StepCosts, keys: Sequence[Key], at: FloatArray) -> StepCosts:
    values = {}
    for (kind, name, key), log in zip(keys, at.tolist(), strict=True):
        value = costs.constants[kind][name][key].value * float(np.exp(log))
        values[kind, name, key] = min(value, 1.0) if key in _SHARES else value
    return costs.with_values(values)


def _gradient(
    rows: Sequence[StepRow], costs: StepCosts, keys: Sequence[Key], base: FloatArray, estimate: Estimator
) -> FloatArray:
    slope = np.zeros((len(rows), len(keys)))
    for column, key in enumerate(keys):
        touched = [number for number, row in enumerate(rows) if _concerns(key, row, costs)]
        for way in (_STEP, -_STEP) if touched else ():
            other = _moved(costs, [key], np.array([way]))
            found = _logs([rows[number] for number in touched], other, estimate)
            if np.any(found != base[touched]):  # a share of 1 has only one way to go
                slope[touched, column] = (found - base[touched]) / way
                break
    return slope


def _concerns(key: Key, row: StepRow, costs: StepCosts) -> bool:
    kind, name, _ = key
    if kind == "devices":
        return costs.device_key(row.plan.device.name) == name
    if kind == "stacks":
        return row.stack == name
    many = row.plan.degrees.num_ranks > row.gpus
    return name == nvlink_kind(row.inside) or (many and name == row.fabric)
