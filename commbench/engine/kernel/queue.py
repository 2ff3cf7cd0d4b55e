# SPDX-License-Identifier: Apache-2.0
"""The queue of events: a binary heap of times, and at each time a bucket with all the slots that wait for it.

Symmetric programs put thousands of events at one time; a bucket takes each in a few instructions where a heap would
take a logarithm. A slot waits for one event at most, so it can be taken out of its bucket again in place; buckets
left empty are swept out of the heap when they become many.
"""

import numpy as np

from commbench.engine.kernel import jit
from commbench.engine.kernel.counters import BUCKETS, EMPTY, FREE_BUCKET, HEAP, PENDING

_TABLE_BITS = 10
TABLE_SIZE = 1 << _TABLE_BITS
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads close times over the table
_SHIFT = np.uint64(64 - _TABLE_BITS)
_SWEEP_ABOVE = 64  # empty buckets that are never worth a sweep


@jit
def _sift_up(heap, place, time, bucket):
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent].time <= time:
            break
        heap[place].time, heap[place].bucket = heap[parent].time, heap[parent].bucket
        place = parent
    heap[place].time, heap[place].bucket = time, bucket


@jit
def _sift_down(heap, size, place, time, bucket):
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1].time < heap[child].time:
            child += 1
        if heap[child].time >= time:
            break
        heap[place].time, heap[place].bucket = heap[child].time, heap[child].bucket
        place = child
    heap[place].time, heap[place].bucket = time, bucket


@jit
def _new_bucket(time, buckets, heap, n):
    bucket = n[FREE_BUCKET]
    if bucket >= 0:
        n[FREE_BUCKET] = buckets[bucket].head
    else:
        bucket = n[BUCKETS]
        n[BUCKETS] += 1
    buckets[bucket].time, buckets[bucket].head = time, -1
    n[HEAP] += 1
    _sift_up(heap, n[HEAP] - 1, time, bucket)
    return bucket


@jit
def _free_bucket(bucket, buckets, n):
    buckets[bucket].time, buckets[bucket].head = -1, n[FREE_BUCKET]
    n[FREE_BUCKET] = bucket


@jit
def put(slot, time, slots, buckets, heap, table, n):
    """Let the slot wait for ``time``. The table finds the bucket of a time that was used lately; a miss only costs a
    second bucket for the same time."""
    place = (np.uint64(time) * _ODD) >> _SHIFT
    bucket = table[place]
    if bucket < 0 or buckets[bucket].time != time:
        bucket = _new_bucket(time, buckets, heap, n)
        table[place] = bucket
    elif buckets[bucket].head < 0:
        n[EMPTY] -= 1
    head = buckets[bucket].head
    slots[slot].bucket, slots[slot].next, slots[slot].prev = bucket, head, -1
    if head >= 0:
        slots[head].prev = slot
    buckets[bucket].head = slot


@jit
def take_out(slot, slots, buckets, heap, n):
    """Let the slot wait no longer."""
    bucket, after, before = slots[slot].bucket, slots[slot].next, slots[slot].prev
    slots[slot].bucket = -1
    if after >= 0:
        slots[after].prev = before
    if before >= 0:
        slots[before].next = after
        return
    buckets[bucket].head = after
    if after < 0:
        n[EMPTY] += 1
        if n[EMPTY] > _SWEEP_ABOVE + n[HEAP] // 2:
            _sweep(buckets, heap, n)


@jit
def _sweep(buckets, heap, n):
    """Take the empty buckets out of the heap."""
    size = 0
    for place in range(n[HEAP]):
        bucket = heap[place].bucket
        if buckets[bucket].head < 0:
            _free_bucket(bucket, buckets, n)
        else:
            heap[size].time, heap[size].bucket = heap[place].time, bucket
            size += 1
    n[HEAP], n[EMPTY] = size, 0
    for place in range(size // 2 - 1, -1, -1):
        _sift_down(heap, size, place, heap[place].time, heap[place].bucket)


@jit
def _pop(buckets, heap, n):
    _free_bucket(heap[0].bucket, buckets, n)
    n[HEAP] -= 1
    size = n[HEAP]
    if size > 0:
        _sift_down(heap, size, 0, heap[size].time, heap[size].bucket)


@jit
def next_time(buckets, heap, n):
    """The earliest time that a slot waits for, -1 if none does."""
    while n[HEAP] > 0:
        if buckets[heap[0].bucket].head >= 0:
            return heap[0].time
        n[EMPTY] -= 1
        _pop(buckets, heap, n)
    return -1


@jit
def collect(time, slots, buckets, heap, pending, n):
    """Move all slots that wait for ``time``, the earliest, to the pending list."""
    while n[HEAP] > 0 and heap[0].time == time:
        slot = buckets[heap[0].bucket].head
        if slot < 0:
            n[EMPTY] -= 1
        while slot >= 0:
            pending[n[PENDING]] = slot
            n[PENDING] += 1
            slots[slot].bucket = -1
            slot = slots[slot].next
        _pop(buckets, heap, n)
