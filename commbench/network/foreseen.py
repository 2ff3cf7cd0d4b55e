# SPDX-License-Identifier: Apache-2.0
"""What a filling foresees: a binary heap of levels (records network.fluid_state.FORESEEN)."""

from commbench.network.fluid_state import HEAP
from commbench.network.jit import jit

__all__ = ["pop", "push"]


@jit
def push(level, what, net):
    """Foresee that something happens to a link at a level."""
    heap, at = net.heap, net.n[HEAP]
    net.n[HEAP] += 1
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent].level <= level:
            break
        heap[at].level, heap[at].what = heap[parent].level, heap[parent].what
        at = parent
    heap[at].level, heap[at].what = level, what


@jit
def pop(net):
    """Take the lowest level out."""
    heap = net.heap
    net.n[HEAP] -= 1
    size = net.n[HEAP]
    level, what, at = heap[size].level, heap[size].what, 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1].level < heap[child].level:
            child += 1
        if heap[child].level >= level:
            break
        heap[at].level, heap[at].what = heap[child].level, heap[child].what
        at = child
    heap[at].level, heap[at].what = level, what
