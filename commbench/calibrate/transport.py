# SPDX-License-Identifier: Apache-2.0
"""What of a transport has to be fitted to a machine: the latency and the processor time of a message.

All else of a :class:`~commbench.network.transport.Transport` is known. As in :mod:`commbench.calibrate.fit` the model
is the simulator itself, and the residual of a point is log(simulated / measured).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log

import numpy as np
import numpy.typing as npt

from commbench.errors import CheckFailedError, InputError
from commbench.network.transport import Transport
from commbench.results.records import Measured
from commbench.units import PS_PER_S

__all__ = ["fit_transport"]

_STARTS_S = ((10e-6, 2e-6), (100e-6, 5e-6), (500e-6, 50e-6))
"""Latency and overhead where searches start: of a machine with nothing else to do, and of busy ones."""
_ALIKE = 1.25
"""Of ends whose costs differ by less than this factor the one with the smallest numbers counts: what simulations leave
to chance moves costs as much, and latency and overhead can stand for each other."""
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
            f_scale=0.05,
            diff_step=_STEP,
            max_nfev=_MOST_STEPS,
        )
        for start in _STARTS_S
    ]
    least = min(float(end.cost) for end in ends)
    return with_numbers(next(end.x for end in ends if float(end.cost) <= _ALIKE * least))
