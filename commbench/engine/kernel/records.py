# SPDX-License-Identifier: Apache-2.0
"""What the inner loop keeps of a task and of a change; of an active task see network.queue.SLOT."""

import numpy as np

__all__ = ["CHANGE", "TASK"]

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
    ],
    align=True,
)

CHANGE = np.dtype([("time_ps", np.int64), ("value", np.float64), ("index", np.int64), ("what", np.int64)], align=True)
"""See engine.setting.Change."""
