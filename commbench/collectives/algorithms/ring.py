# SPDX-License-Identifier: Apache-2.0
"""Ring algorithms: every rank sends to the next rank and receives from the one before.

Source: P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
J. Parallel Distrib. Comput. 69 (2009) 117-124, section 3.

Channels of an all-reduce on several hosts rotate the ranks of each host, so that they leave it by different ranks.
Those of reduce-scatter and all-gather all use the ring 0, 1, 2 ...: which block a rank ends with follows from its
number.
"""

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithm import Algorithm
from commbench.collectives.algorithms.messages import as_asked, messages, table
from commbench.collectives.passes import rotate_hosts
from commbench.collectives.schedule import Kind, Schedule

__all__ = [
    "ALGORITHMS",
    "bidirectional_ring",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_reduce_scatter",
]

_SOURCE = "Patarasuk and Yuan 2009, section 3"


def ring_all_reduce(num_ranks: int) -> Schedule:
    """All-reduce in 2(n-1) steps of one chunk out of n: reduce-scatter, then all-gather, round the same ring.

    In step s rank r sends chunk r - s to rank r + 1; in the first n - 1 steps what arrives is added, afterwards it is
    kept. Each rank sends 2(n-1)/n of the buffer, which is the least possible without help from the switches.
    """
    n = num_ranks
    return Schedule("all-reduce", "ring", n, n, table(_half(n, 0, Kind.REDUCE), _half(n, n - 1, Kind.RECV, ahead=1)))


def ring_reduce_scatter(num_ranks: int) -> Schedule:
    """Reduce-scatter in n - 1 steps: in step s rank r sends block r - 1 - s, so that it is left with block r.

    Each rank sends (n-1)/n of the buffer, the least possible.
    """
    return Schedule("reduce-scatter", "ring", num_ranks, num_ranks, table(_half(num_ranks, 0, Kind.REDUCE, ahead=-1)))


def ring_all_gather(num_ranks: int) -> Schedule:
    """All-gather in n - 1 steps: in step s rank r sends block r - s, its own first.

    Each rank sends (n-1)/n of the buffer, the least possible.
    """
    return Schedule("all-gather", "ring", num_ranks, num_ranks, table(_half(num_ranks, 0, Kind.RECV)))


def _half(num_ranks: int, first_step: int, kind: Kind, ahead: int = 0) -> npt.NDArray[np.int_]:
    """Once round the ring: in its step s rank r sends chunk r + ``ahead`` - s to rank r + 1."""
    step, rank = (grid.ravel() for grid in np.indices((num_ranks - 1, num_ranks)))
    chunk = (rank + ahead - step) % num_ranks
    return messages(first_step + step, rank, (rank + 1) % num_ranks, chunk, chunk, kind=kind)


def bidirectional_ring(ring: Schedule) -> Schedule:
    """The ring both ways at once: half of every chunk goes round the other way, on channel 1.

    Steps and bytes per rank stay the same, but each direction of a link pair carries only half of them, at the same
    time. Chunk c becomes chunks 2c, which goes to higher ranks, and 2c + 1, which goes to lower ones.
    """
    n = ring.num_ranks
    step, rank, channel, kind, peer, chunk, count = ring.table.T
    forth = np.stack([step, rank, channel, kind, peer, 2 * chunk, count], axis=1)
    back = np.stack([step, -rank % n, channel + 1, kind, -peer % n, 2 * (-chunk % n) + 1, count], axis=1)
    return Schedule(ring.collective, "ring-bidirectional", n, 2 * n, np.concatenate([forth, back]))


ALGORITHMS = (
    Algorithm(
        collective="all-reduce",
        name="ring",
        build=lambda r: rotate_hosts(as_asked(ring_all_reduce(r.num_ranks), r), r.group),
        source=_SOURCE,
    ),
    Algorithm(
        collective="reduce-scatter",
        name="ring",
        build=lambda r: as_asked(ring_reduce_scatter(r.num_ranks), r),
        source=_SOURCE,
    ),
    Algorithm(
        collective="all-gather",
        name="ring",
        build=lambda r: as_asked(ring_all_gather(r.num_ranks), r),
        source=_SOURCE,
    ),
    Algorithm(
        collective="all-reduce",
        name="ring-bidirectional",
        build=lambda r: as_asked(bidirectional_ring(ring_all_reduce(r.num_ranks)), r),
        source=f"{_SOURCE}, once in each direction",
    ),
    Algorithm(
        collective="reduce-scatter",
        name="ring-bidirectional",
        build=lambda r: as_asked(bidirectional_ring(ring_reduce_scatter(r.num_ranks)), r),
        source=f"{_SOURCE}, once in each direction",
    ),
    Algorithm(
        collective="all-gather",
        name="ring-bidirectional",
        build=lambda r: as_asked(bidirectional_ring(ring_all_gather(r.num_ranks)), r),
        source=f"{_SOURCE}, once in each direction",
    ),
)
