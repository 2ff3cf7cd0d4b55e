# SPDX-License-Identifier: Apache-2.0
"""What ranks send to others, counted from a schedule's records; copies to itself and switches are left out."""

import numpy as np

from commbench.collectives.schedule import IntArray, Kind, Schedule

__all__ = ["per_rank_share"]


def per_rank_share(schedule: Schedule) -> float:
    """What the busiest rank sends, as a share of the buffer (ring all-reduce: 2(n-1)/n)."""
    table = schedule.table
    to_others = (table[:, 1] != table[:, 4]) & (table[:, 1] < schedule.num_ranks)
    sends: IntArray = table[(table[:, 3] == Kind.SEND) & to_others]
    sizes = schedule.offsets(1 << 40)  # of a buffer so large that rounding does not show
    amounts = np.diff(np.stack([sizes[sends[:, 5]], sizes[sends[:, 5] + sends[:, 6]]]), axis=0)[0]
    per_rank = np.bincount(sends[:, 1], weights=amounts, minlength=1)
    return float(per_rank.max() / (1 << 40))
