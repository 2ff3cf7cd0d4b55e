# SPDX-License-Identifier: Apache-2.0
"""Pipelined chains: the ring cut open at the root, for broadcast and reduce.

Source: NCCL 2.30.7, src/device/broadcast.h and reduce.h, where the ring algorithm of these two is such a chain; T.
Kielmann, H. E. Bal, S. Gorlatch, K. Verstoep, R. F. H. Hofman, "Network performance-aware collective communication for
clustered wide-area systems", Parallel Computing 27 (2001) 1431-1456, for chains cut into segments.

One chunk needs n - 1 steps; K slices that follow one another need n - 2 + K, each of 1/K of the buffer.
"""

import numpy as np

from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "chain_broadcast", "chain_reduce"]


def chain_broadcast(num_ranks: int, root: int = 0) -> Schedule:
    """Broadcast from the root to the next rank, from there to the next, n - 1 times."""
    n, step = num_ranks, np.arange(num_ranks - 1)
    rows = messages(step, (root + step) % n, (root + step + 1) % n, 0, 0)
    return Schedule("broadcast", "ring", n, 1, table(rows), root=root)


def chain_reduce(num_ranks: int, root: int = 0) -> Schedule:
    """Reduce from the rank behind the root all the way round to it; each adds its own and passes the sum on."""
    n, step = num_ranks, np.arange(num_ranks - 1)
    rows = messages(step, (root + step + 1) % n, (root + step + 2) % n, 0, 0, kind=Kind.REDUCE)
    return Schedule("reduce", "ring", n, 1, table(rows), root=root)


ALGORITHMS = (
    made_by(
        chain_broadcast,
        "broadcast",
        "ring",
        "NCCL 2.30.7, src/device/broadcast.h",
        ring=True,
        aliases=("chain",),
        default_slices=4,
    ),
    made_by(
        chain_reduce,
        "reduce",
        "ring",
        "NCCL 2.30.7, src/device/reduce.h",
        ring=True,
        aliases=("chain",),
        default_slices=4,
    ),
)
