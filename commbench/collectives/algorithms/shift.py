# SPDX-License-Identifier: Apache-2.0
"""Patterns in which every rank sends to the rank a distance ahead: the ring shift and the dissemination barrier.

Source: D. Hensgen, R. Finkel, U. Manber, "Two algorithms for barrier synchronization", Int. J. Parallel Programming 17
(1988) 1-17 (the dissemination barrier).
"""

import numpy as np

from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["ALGORITHMS", "direct_send_recv", "dissemination_barrier"]


def direct_send_recv(num_ranks: int) -> Schedule:
    """Ring shift in one step: rank r sends its buffer to rank r + 1, which receives it in buffer 1."""
    rank = np.arange(num_ranks)
    rows = messages(0, rank, (rank + 1) % num_ranks, 0, 1)
    return Schedule("send-recv", "direct", num_ranks, 1, table(rows), num_buffers=2, output=1)


def dissemination_barrier(num_ranks: int) -> Schedule:
    """Barrier in ceil(log2 n) steps: in step k rank r tells rank r + 2^k of all it has heard of.

    The token is added up, so that it shows who has been heard of; in worlds that are no power of two some are heard of
    more than once, which is no harm.
    """
    rank = np.arange(num_ranks)
    rows = [
        messages(step, rank, (rank + (1 << step)) % num_ranks, 0, 0, kind=Kind.REDUCE)
        for step in range((num_ranks - 1).bit_length())
    ]
    return Schedule("barrier", "dissemination", num_ranks, 1, table(*rows))


ALGORITHMS = (
    made_by(direct_send_recv, "send-recv", "direct", "nccl-tests, src/sendrecv.cu"),
    made_by(dissemination_barrier, "barrier", "dissemination", "Hensgen, Finkel and Manber 1988"),
)
