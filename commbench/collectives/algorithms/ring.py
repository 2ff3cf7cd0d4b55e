# SPDX-License-Identifier: Apache-2.0
"""Ring algorithms: every rank sends to the next rank and receives from the one before.

Source: P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
J. Parallel Distrib. Comput. 69 (2009) 117-124, section 3.
"""

import numpy as np

from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ring_all_reduce"]


def ring_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in 2(n-1) steps of one chunk out of n: reduce-scatter, then all-gather, round the same ring.

    In step s rank r sends chunk r - s to rank r + 1; in the first n - 1 steps what arrives is added, afterwards it is
    kept. Each rank sends 2(n-1)/n of the buffer, which is the least possible without help from the switches.
    """
    n = num_ranks
    step, rank = (grid.ravel() for grid in np.indices((2 * (n - 1), n)))
    gathering = step >= n - 1
    zero, one = np.zeros_like(step), np.ones_like(step)
    # Columns of schedule.Op: step, rank, channel, kind, peer, chunk, count.
    sends = (step, rank, zero, zero + Kind.SEND, (rank + 1) % n, (rank - step) % n, one)
    kinds = np.where(gathering, Kind.RECV, Kind.REDUCE)
    receives = (step, rank, zero, kinds, (rank - 1) % n, (rank - 1 - step) % n, one)
    table = np.concatenate([np.stack(sends, axis=1), np.stack(receives, axis=1)])
    return Schedule("all-reduce", "ring", n, n, table)
