# SPDX-License-Identifier: Apache-2.0
"""What is kept in order: a binary heap in a record array with the fields ``key``, by which it is ordered, and ``item``;
and short lists of numbers."""

import numpy as np

from commbench.network.jit import call, jit

__all__ = ["put_in_order", "sift_down", "sift_up"]


@call
def put_in_order(numbers, count):
    """Let the first ``count`` ascend; they mostly do, so each moves up from where it is."""
    for i in range(1, count):
        number, place = numbers[i], i
        while place > 0 and numbers[place - 1] > number:
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = number


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
    """Put an entry where it belongs on the way from ``place``, which is free, down through ``size`` entries.

    It was the last one as a rule, and belongs near the end of the way: the way is freed whole, and gone back from its
    end. Of two below the smaller one is taken without a branch, for neither is likelier.
    """
    top, child = place, 2 * place + 1
    while child < size:
        if child + 1 < size:
            child += np.int64(heap[child + 1].key < heap[child].key)
        heap[place].key, heap[place].item = heap[child].key, heap[child].item
        place, child = child, 2 * child + 1
    while place > top:
        parent = (place - 1) >> 1
        if heap[parent].key <= key:
            break
        heap[place].key, heap[place].item = heap[parent].key, heap[parent].item
        place = parent
    heap[place].key, heap[place].item = key, item
