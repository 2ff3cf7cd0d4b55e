# SPDX-License-Identifier: Apache-2.0
"""The queue of events: a binary heap of times, and at each time a bucket with all the slots that wait for it.

Symmetric programs put thousands of events at one time; a bucket takes each in a few instructions where a heap would
take a logarithm. A slot waits for one event at most, so it can be taken out of its bucket again in place; buckets
left empty are swept out of the heap when they become many.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.network.heap import sift_down, sift_up
from commbench.network.jit import jit

__all__ = ["SLOT", "Queue", "collect", "empty_queue", "next_time", "put", "take_out"]

Array = npt.NDArray[Any]

SLOT = np.dtype(
    [  # one active task: a transfer from its start to its delivery, a compute task while it lasts
        ("left", np.float64),  # bytes to go; this and the next four are the network model's while a flow is in it
        ("rate", np.float64),  # bytes/s
        ("since", np.int64),  # ps
        ("hops", np.int64),  # where its places on links begin
        ("route", np.uint32),  # that its flow takes
        ("task", np.int32),
        ("state", np.int32),
        ("bucket", np.int32),  # where its next event waits, -1 if nowhere
        ("next", np.int32),  # neighbours in the bucket, or next free slot
        ("prev", np.int32),
    ],
    align=True,
)

BUCKET = np.dtype([("time", np.int64), ("head", np.int32), ("spare", np.int32)], align=True)
"""Everything that happens at one time: a list of slots. A free bucket has time -1 and ``head`` the next free one."""

ENTRY = np.dtype([("key", np.int64), ("item", np.int64)], align=True)
"""One place in the heap of buckets: the time of one, and its number."""

# Places in the counters of a queue: entries in the heap; buckets there whose slots have all been moved away; buckets
# ever used; head of the list of free ones, -1 if none.
HEAP, EMPTY, BUCKETS, FREE_BUCKET = range(4)

_TABLE_BITS = 10
_TABLE_SIZE = 1 << _TABLE_BITS
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads close times over the table
_SHIFT = np.uint64(64 - _TABLE_BITS)
_SWEEP_ABOVE = 64  # empty buckets that are never worth a sweep


class Queue(NamedTuple):
    """A queue: its counters, the buckets, the heap of their times (ps), and the buckets of times used lately."""

    n: Array
    buckets: Array
    heap: Array
    table: Array


def empty_queue(size: int) -> Queue:
    """Room for ``size`` slots that wait."""
    return Queue(
        n=np.array([0, 0, 0, -1]),
        buckets=np.empty(2 * size + 256, dtype=BUCKET),
        heap=np.empty(2 * size + 256, dtype=ENTRY),
        table=np.full(_TABLE_SIZE, -1, dtype=np.int32),
    )


@jit
def _new_bucket(time, queue):
    n, buckets, heap = queue.n, queue.buckets, queue.heap
    bucket = n[FREE_BUCKET]
    if bucket >= 0:
        n[FREE_BUCKET] = buckets[bucket].head
    else:
        bucket = n[BUCKETS]
        n[BUCKETS] += 1
    buckets[bucket].time, buckets[bucket].head = time, -1
    n[HEAP] += 1
    sift_up(heap, n[HEAP] - 1, time, bucket)
    return bucket


@jit
def _free_bucket(bucket, queue):
    n, buckets = queue.n, queue.buckets
    buckets[bucket].time, buckets[bucket].head = -1, n[FREE_BUCKET]
    n[FREE_BUCKET] = bucket


@jit
def put(slot, time, slots, queue):
    """Let the slot wait for ``time``. The table finds the bucket of a time that was used lately; a miss only costs a
    second bucket for the same time."""
    n, buckets = queue.n, queue.buckets
    place = (np.uint64(time) * _ODD) >> _SHIFT
    bucket = queue.table[place]
    if bucket < 0 or buckets[bucket].time != time:
        bucket = _new_bucket(time, queue)
        queue.table[place] = bucket
    elif buckets[bucket].head < 0:
        n[EMPTY] -= 1
    head = buckets[bucket].head
    slots[slot].bucket, slots[slot].next, slots[slot].prev = bucket, head, -1
    if head >= 0:
        slots[head].prev = slot
    buckets[bucket].head = slot


@jit
def take_out(slot, slots, queue):
    """Let the slot wait no longer."""
    n, buckets = queue.n, queue.buckets
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
            _sweep(queue)


@jit
def _sweep(queue):
    """Take the empty buckets out of the heap."""
    n, buckets, heap = queue.n, queue.buckets, queue.heap
    size = 0
    for place in range(n[HEAP]):
        bucket = heap[place].item
        if buckets[bucket].head < 0:
            _free_bucket(bucket, queue)
        else:
            heap[size].key, heap[size].item = heap[place].key, bucket
            size += 1
    n[HEAP], n[EMPTY] = size, 0
    for place in range(size // 2 - 1, -1, -1):
        sift_down(heap, size, place, heap[place].key, heap[place].item)


@jit
def _pop(queue):
    n, heap = queue.n, queue.heap
    _free_bucket(heap[0].item, queue)
    n[HEAP] -= 1
    size = n[HEAP]
    if size > 0:
        sift_down(heap, size, 0, heap[size].key, heap[size].item)


@jit
def next_time(queue):
    """The earliest time that a slot waits for, -1 if none does."""
    n, buckets, heap = queue.n, queue.buckets, queue.heap
    while n[HEAP] > 0:
        if buckets[heap[0].item].head >= 0:
            return heap[0].key
        n[EMPTY] -= 1
        _pop(queue)
    return -1


@jit
def collect(time, slots, queue, found, count):
    """Move all slots that wait for ``time``, the earliest, to ``found[count:]``; returns the new count."""
    n, buckets, heap = queue.n, queue.buckets, queue.heap
    while n[HEAP] > 0 and heap[0].key == time:
        slot = buckets[heap[0].item].head
        if slot < 0:
            n[EMPTY] -= 1
        while slot >= 0:
            found[count] = slot
            count += 1
            slots[slot].bucket = -1
            slot = slots[slot].next
        _pop(queue)
    return count
