# SPDX-License-Identifier: Apache-2.0
"""What the inner loop keeps: one record per task, active task, link and so on, each about one cache line."""

import numpy as np

__all__ = ["BUCKET", "ENTRY", "LINK", "ON_LINK", "SLOT", "TASK"]

TASK = np.dtype(
    [
        ("kind", np.int32),
        ("rank", np.int32),
        ("peer", np.int32),
        ("route", np.int32),
        ("missing", np.int32),  # dependencies of the coming instance that are not done yet
        ("needs", np.int32),  # the same at the beginning of a round, but for the first
        ("round", np.int32),  # number of the coming instance
        ("first", np.int32),  # dependents[first:last]
        ("last", np.int32),
        ("pitch", np.int32),  # instance k has number base + k * pitch in the trace
        ("block", np.int32),  # amount of instance k: (block + k * stride) mod num_blocks * num_pieces + piece
        ("stride", np.int32),
        ("piece", np.int32),
        ("base", np.int64),
        ("hops", np.int64),  # where the places of its flow on links begin
    ],
    align=True,
)

SLOT = np.dtype(
    [  # one active task: a transfer from its start to its delivery, a compute task while it lasts
        ("left", np.float64),  # bytes to go at time ``since``, at ``rate`` bytes/s since then
        ("rate", np.float64),
        ("since", np.int64),
        ("hops", np.int64),  # where its places on links begin
        ("task", np.int32),
        ("state", np.int32),
        ("bucket", np.int32),  # where its next event waits, -1 if nowhere
        ("next", np.int32),  # neighbours in the bucket, or next free slot
        ("prev", np.int32),
        ("route", np.uint32),  # that its flow takes
    ],
    align=True,
)

ON_LINK = np.dtype([("slot", np.uint32), ("hop", np.uint32)], align=True)
"""A flow on a link: which, and the how-manieth link of its route this is."""

LINK = np.dtype(
    [
        ("bandwidth", np.float64),
        ("total", np.float64),  # weight of all flows on it
        ("left", np.float64),  # of the sharing in progress: bandwidth left, weight not fixed, weight fixed in this
        ("weight", np.float64),  # round, and left / weight
        ("fixed", np.float64),
        ("share", np.float64),
        ("first", np.int64),  # its flows are on_link[first:first + count]
        ("count", np.int32),
        ("mark", np.int32),
        ("touched", np.int32),
    ],
    align=True,
)

BUCKET = np.dtype([("time", np.int64), ("head", np.int32), ("spare", np.int32)], align=True)
"""Everything that happens at one time: a list of slots. A free bucket has time -1 and ``head`` the next free one."""

ENTRY = np.dtype([("time", np.int64), ("bucket", np.int64)], align=True)
"""One place in the heap of buckets."""
