# SPDX-License-Identifier: Apache-2.0
"""Figures of a schedule, counted from its records."""

import numpy as np

from commbench.collectives.schedule import Kind, Schedule

__all__ = ["per_rank_share"]


def per_rank_share(schedule: Schedule) -> float:
    """What the busiest sender sends, as a share of the buffer (ring all-reduce: 2(n-1)/n)."""
    sends = schedule.table[schedule.column("kind") == Kind.SEND]
    if len(sends) == 0:
        return 0.0
    chunks = np.bincount(sends[:, 1], weights=sends[:, 6], minlength=schedule.num_ranks)
    return float(chunks.max() / schedule.num_chunks)
