# SPDX-License-Identifier: Apache-2.0
"""What of a transport has to be fitted to a machine: the latency and the processor time of a message.

All else of a :class:`~commbench.network.transport.Transport` is known. As in :mod:`commbench.calibrate.fit` the model
is the simulator itself, and the residual of a point is log(simulated / measured).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import hypot, log

import numpy as np
import numpy.typing as npt

from commbench.errors import CheckFailedError, InputError
from commbench.network.transport import Transport
from commbench.results.records import Measured
from commbench.units import PS_PER_S

__all__ = ["fit_transport"]

_STARTS_S = ((2e-6, 2e-7), (10e-6, 2e-6), (100e-6, 5e-6), (500e-6, 50e-6))
"""Latency and overhead where searches start: of a machine with nothing else to do, and of busy ones."""
_ALIKE, _NOISE = 1.25, 2e-3
"""Of the first start and all ends whose costs differ by less than this factor and what this error of every point costs,
the one with the smallest numbers counts: what simulations leave to chance moves costs as much, medians of measurements
differ by as much from run to run, and latency and overhead can stand for each other."""
_SCALE = 0.05  # relative error beyond which a point weighs less
_BOUNDS_S = ((1e-6, 1e-7), (5e-3, 5e-4))
_STEP = 0.1  # relative; simulated times have jumps, where the order of messages changes
_MOST_STEPS = 12


def fit_transport(
    transport: Transport, points: Sequence[Measured], predict_s: Callable[[Measured, Transport], float]
) -> Transport:
    """The transport with the latency and the overhead that explain the points best.

    Args:
        transport: what is known. points: measured on one machine. predict_s: simulated seconds of a point.

    Raises:
        InputError: fewer than two points. CheckFailedError: a point has wrong values.
    """
    if len(points) < 2:
        raise InputError(f"two numbers are to be fitted; {len(points)} points are too few")
    if any(point.wrong for point in points):
        raise CheckFailedError("a point has wrong values; nothing is fitted to a wrong run")
    from scipy.optimize import least_squares

    def with_numbers(logs: npt.NDArray[np.float64]) -> Transport:
        latency, overhead = (round(float(s) * PS_PER_S) for s in np.exp(logs))
        return replace(transport, latency_ps=latency, overhead_ps=overhead)

    def residuals(logs: npt.NDArray[np.float64]) -> list[float]:
        tried = with_numbers(logs)
        return [log(predict_s(point, tried) / point.time_s) for point in points]

    ends = [
        least_squares(
            residuals,
            np.log(start),
            bounds=tuple(np.log(_BOUNDS_S)),
            loss="soft_l1",
            f_scale=_SCALE,
            diff_step=_STEP,
            max_nfev=_MOST_STEPS,
        ).x
        for start in _STARTS_S
    ]
    tried = sorted([np.log(_STARTS_S[0]), *ends], key=sum)
    costs = [_cost(residuals(logs)) for logs in tried]
    most = _ALIKE * min(costs) + _cost([_NOISE] * len(points))
    return with_numbers(next(logs for logs, cost in zip(tried, costs, strict=True) if cost <= most))


def _cost(residuals: Sequence[float]) -> float:
    """The loss that is minimised, soft_l1 of scipy.optimize.least_squares: squares where small, then linear."""
    return sum(_SCALE**2 * (hypot(1.0, one / _SCALE) - 1.0) for one in residuals)
