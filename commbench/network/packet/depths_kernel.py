# SPDX-License-Identifier: Apache-2.0
"""Depths of queues over time (network.packet.depths) for the compiled engine, on its state."""

from commbench.network.jit import jit
from commbench.network.packet.state import SHIFT

__all__ = ["note_depth"]


@jit
def note_depth(link, now, before, after, net):
    """The bytes that wait before a link change."""
    depths, n = net.depths, net.n
    while now >> n[SHIFT] >= depths.shape[1]:
        n[SHIFT] += 1
        half = depths.shape[1] // 2
        for row in range(depths.shape[0]):
            for at in range(half):
                depths[row, at] = max(depths[row, 2 * at], depths[row, 2 * at + 1])
            depths[row, half:] = 0
    last = now >> n[SHIFT]
    for at in range(net.changed[link] >> n[SHIFT], last + 1):
        depths[link, at] = max(depths[link, at], before)
    depths[link, last] = max(depths[link, last], after)
    net.changed[link] = now
