# SPDX-License-Identifier: Apache-2.0
"""How deep the queue before every link was over time, in few numbers however long it takes.

Time has slices of equal length, a power of two of picoseconds. When the last one is full, two become one.
"""

import numpy as np
import numpy.typing as npt

from commbench.network.packet.counts import SLICES

__all__ = ["Depths"]

IntArray = npt.NDArray[np.int64]


class Depths:
    """For the reference engine.

    Attributes:
        shift: a slice lasts 2**shift ps. deepest: bytes before the link at most; shape (links, slices).
    """

    def __init__(self, num_links: int) -> None:
        self.shift = 0
        self.deepest: IntArray = np.zeros((num_links, SLICES), dtype=np.int64)
        self._changed_ps = [0] * num_links

    def note(self, link: int, now_ps: int, before: int, after: int) -> None:
        """The bytes that wait before a link change."""
        while now_ps >> self.shift >= SLICES:
            self.shift += 1
            pairs = self.deepest.reshape(len(self.deepest), SLICES // 2, 2).max(axis=2)
            self.deepest = np.concatenate([pairs, np.zeros_like(pairs)], axis=1)
        row, at = self.deepest[link], now_ps >> self.shift
        since = row[self._changed_ps[link] >> self.shift : at + 1]
        np.maximum(since, before, out=since)
        row[at] = max(row[at], after)
        self._changed_ps[link] = now_ps
