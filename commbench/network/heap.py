# SPDX-License-Identifier: Apache-2.0
"""A binary heap in a record array with the fields ``key``, by which it is ordered, and ``item``."""

from commbench.network.jit import jit

__all__ = ["sift_down", "sift_up"]


@jit
def sift_up(heap, place, key, item):
    """Put an entry where it belongs on the way from ``place``, which is free, up to the first place."""
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent].key <= key:
            break
        heap[place].key, heap[place].item = heap[parent].key, heap[parent].item
        place = parent
    heap[place].key, heap[place].item = key, item


@jit
def sift_down(heap, size, place, key, item):
    """Put an entry where it belongs on the way from ``place``, which is free, down through ``size`` entries."""
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1].key < heap[child].key:
            child += 1
        if heap[child].key >= key:
            break
        heap[place].key, heap[place].item = heap[child].key, heap[child].item
        place = child
    heap[place].key, heap[place].item = key, item
