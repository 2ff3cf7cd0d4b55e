# SPDX-License-Identifier: Apache-2.0
"""The user's own steps: what they say of the machine and its software, and how far a new step may be off."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import yaml

from commbench.errors import InputError
from commbench.experiments.step_fit import NOISE, Fit, Key, fit_steps, local_priors
from commbench.experiments.step_rows import StepRow, predict, read_rows
from commbench.workload.step_costs import Constant, field_of_key, read_step_costs

__all__ = ["Moved", "StepCalibration", "calibrate_steps", "shown_value"]


@dataclass(frozen=True, slots=True)
class Moved:
    """One constant: ``name`` as its file has it, before and after, and one standard deviation as a share."""

    name: str
    before: str
    after: str
    spread: float


@dataclass(frozen=True, slots=True)
class StepCalibration:
    """What came out.

    Attributes:
        constants: that were fitted. steps: (name, measured, predicted before, predicted after) in seconds.
        unusable: (name, why) of rows that do not say enough. assumed: (name, what) was taken for what they do not say.
        next_step: how far a new step like these may be off, one standard deviation as a share: by the constants' own
            and a measurement's, and by what the fit leaves of these steps' errors.
    """

    constants: tuple[Moved, ...]
    steps: tuple[tuple[str, float, float, float], ...]
    unusable: tuple[tuple[str, str], ...]
    next_step: float
    assumed: tuple[tuple[str, str], ...] = ()

    @property
    def unexplained(self) -> tuple[tuple[str, float], ...]:
        """Steps that no constants of such a machine explain, and their errors after the fit."""
        errors = ((name, after / measured - 1) for name, measured, _, after in self.steps)
        return tuple((name, error) for name, error in errors if abs(error) > _UNEXPLAINED)


_UNEXPLAINED = 4 * NOISE


def calibrate_steps(path: Path, out: Path) -> StepCalibration:
    """Fit the local constants (host, collective curve, memory passes) to measured steps, and write them.

    Args:
        path: CSV of steps, see ``step_rows``. out: the file to write; ``sim train --step-costs`` takes it.

    Raises:
        InputError: no row is usable, or the file cannot be read; names the row and what it lacks.
    """
    rows, unusable = read_rows(path)
    if not rows:
        why = "; ".join(f"{name}: {reason}" for name, reason in unusable[:3]) or "it has no rows"
        raise InputError(f"{path}: no step that can be used: {why}")
    prior = read_step_costs()
    fit = fit_steps(rows, prior, local_priors(rows))
    _write(fit, path, out)
    return StepCalibration(
        constants=tuple(_moved(fit, key) for key in fit.keys),
        steps=tuple(_step(row, fit) for row in rows),
        unusable=tuple(unusable),
        next_step=math.hypot(fmean(fit.uncertainty(row) for row in rows), _left(fit)),
        assumed=tuple((row.name, ", ".join(row.assumed)) for row in rows if row.assumed),
    )


def _left(fit: Fit) -> float:
    """What the fit leaves of errors, beyond the noise of a measurement: root of the mean square."""
    return math.sqrt(max(0.0, fmean(error**2 for error in fit.error.tolist()) - fit.noise**2))


def _step(row: StepRow, fit: Fit) -> tuple[str, float, float, float]:
    before, after = (predict(row, costs).iteration_s for costs in (fit.prior, fit.costs))
    return row.name, row.measured_s, before, after


def _constant(fit: Fit, key: Key, after: bool) -> Constant:
    kind, name, own = key
    return (fit.costs if after else fit.prior).constants[kind][name][own]


def _moved(fit: Fit, key: Key) -> Moved:
    kind, name, own = key
    shown = field_of_key(kind, own)
    before, after = (str(shown_value(_constant(fit, key, which), shown.unit)) for which in (False, True))
    return Moved(f"{kind}.{name}.{shown.short}", before, after, fit.spread[key])


def _write(fit: Fit, path: Path, out: Path) -> None:
    found: dict[str, dict[str, dict[str, object]]] = {}
    for key in fit.keys:
        kind, name, own = key
        shown = field_of_key(kind, own)
        found.setdefault(kind, {}).setdefault(name, {})[shown.short] = {
            "value": shown_value(_constant(fit, key, True), shown.unit),
            "provenance": "fitted",
            "source": f"commbench calibrate --steps {path.name}, {len(fit.rows)} steps, within {fit.spread[key]:.0%}",
        }
    out.write_text(yaml.safe_dump(found, sort_keys=False, width=120), encoding="utf-8")


def shown_value(one: Constant, unit: str) -> str | float:
    """A constant as files write it, with its unit."""
    if unit == "s":
        return f"{one.value * 1e6:.3g} us" if one.value < 1e-3 else f"{one.value * 1e3:.3g} ms"
    return f"{one.value:.0f} B" if unit == "bytes" else float(f"{one.value:.3g}")
