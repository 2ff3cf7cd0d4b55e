# SPDX-License-Identifier: Apache-2.0
"""What is made of samples, once: the slowest rank of each iteration, and the median absolute deviation.

The headline of everything measured is ``median(slowest(samples))``, its spread ``deviation(slowest(samples))``.
"""

from collections.abc import Sequence
from statistics import median

__all__ = ["deviation", "median", "slowest"]


def slowest(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Of rows of seconds, rank x iteration, the slowest rank's in each iteration."""
    return tuple(map(max, zip(*rows, strict=True)))


def deviation(samples: Sequence[float]) -> float:
    """Median absolute deviation from the median, in the samples' unit."""
    middle = median(samples)
    return median(abs(sample - middle) for sample in samples)
