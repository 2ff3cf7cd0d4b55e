# SPDX-License-Identifier: Apache-2.0
"""Colour refinement: nodes of one colour whose neighbours differ in colour get different colours, until none differ.

Colours are 64-bit numbers; two different ones are taken for one with probability below 1e-8.

Source: M. Grohe, K. Kersting, M. Mladenov, E. Selman, "Dimension reduction via colour refinement", ESA 2014.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Colours", "mix", "settle"]

IntArray = npt.NDArray[np.int64]
Colours = npt.NDArray[np.uint64]
Pair = tuple[Colours, Colours]


def mix(values: Colours) -> Colours:
    """Spread 64-bit numbers (splitmix64; Steele, Lea and Flood, OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: Colours = values ^ (values >> np.uint64(31))
    return spread


def settle(
    refine: Callable[[Colours, Colours], Pair], one: Colours, other: Colours, *, may_split: bool = True
) -> tuple[IntArray, IntArray] | None:
    """Classes 0, 1, 2 ... of two kinds of nodes when nothing splits any more.

    Numbers of classes never fall, so if they are the same at two looks they have not changed in between.

    Args:
        refine: one round: every colour takes in those around it.
        one, other: first colours. may_split: whether the first kind's classes may grow in number; None if they do.
    """
    num_ones = _classes(one)[1]
    count, rounds, look = -1, 0, 1
    while True:
        one, other = refine(one, other)
        rounds += 1
        if may_split and rounds < look:
            continue
        look *= 2
        (one_class, now_ones), (other_class, num_others) = _classes(one), _classes(other)
        if now_ones > num_ones and not may_split:
            return None
        if now_ones + num_others == count:
            return one_class, other_class
        count = now_ones + num_others


def _classes(colours: Colours) -> tuple[IntArray, int]:
    found, numbers = np.unique(colours, return_inverse=True)
    return numbers.astype(np.int64), len(found)
