# SPDX-License-Identifier: Apache-2.0
"""What is made of samples, once: the slowest rank of each iteration, and the median absolute deviation.

The headline of everything measured is ``median(slowest(samples))``, its spread ``deviation(slowest(samples))``.
"""

from collections.abc import Sequence
from math import ceil
from statistics import median

__all__ = ["deviation", "median", "percentile", "slowest"]


def slowest(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Of rows of seconds, rank x iteration, the slowest rank's in each iteration."""
    return tuple(map(max, zip(*rows, strict=True)))


def deviation(samples: Sequence[float]) -> float:
    """Median absolute deviation from the median, in the samples' unit."""
    middle = median(samples)
    return median(abs(sample - middle) for sample in samples)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that this share of all is no larger than (nearest rank): one that was seen, not between two.

    Of fewer than 1 / (1 - share) samples it is the largest.
    """
    return sorted(samples)[max(0, ceil(share * len(samples) - 1e-9) - 1)]
