# SPDX-License-Identifier: Apache-2.0
"""What a filling foresees: a heap of levels (records network.fluid_state.FORESEEN)."""

from commbench.network.fluid_state import HEAP
from commbench.network.heap import sift_down, sift_up
from commbench.network.jit import jit

__all__ = ["pop", "push"]


@jit
def push(level, what, net):
    """Foresee that something happens to a link at a level."""
    net.n[HEAP] += 1
    sift_up(net.heap, net.n[HEAP] - 1, level, what)


@jit
def pop(net):
    """Take the lowest level out."""
    heap = net.heap
    net.n[HEAP] -= 1
    size = net.n[HEAP]
    sift_down(heap, size, 0, heap[size].key, heap[size].item)
