# SPDX-License-Identifier: Apache-2.0
"""Bruck's algorithms: distances double from round to round, so that ceil(log2 n) rounds do in every world.

Sources: J. Bruck, C.-T. Ho, S. Kipnis, E. Upfal, D. Weathersby, "Efficient algorithms for all-to-all communications in
multiport message-passing systems", IEEE Trans. Parallel and Distributed Systems 8 (1997) 1143-1156: index operation
(all-to-all) and concatenation (all-gather), with one port. R. Thakur, R. Rabenseifner, W. Gropp,
Int. J. High Performance Computing Applications 19 (2005) 49-66, section 4.1.
"""

import numpy as np

from commbench.collectives.algorithms.messages import made_by, messages, table
from commbench.collectives.schedule import Schedule

__all__ = ["ALGORITHMS", "bruck_all_gather", "bruck_all_to_all"]


def bruck_all_gather(num_ranks: int) -> Schedule:
    """All-gather in ceil(log2 n) steps: in step k rank r gets from r + 2^k the 2^k blocks that follow its own.

    Blocks are received straight to their final place, so nothing is rotated at the end; where the blocks of a step
    wrap round the end of the buffer they go as two messages. The last step carries only the n - 2^k blocks missing.
    """
    n = num_ranks
    rank = np.arange(n)
    rows = []
    for step, distance in enumerate(_powers_below(n)):
        count = min(distance, n - distance)
        straight = np.minimum(count, n - rank)  # blocks from the sender's own up to the end of the buffer
        receiver = (rank - distance) % n
        rows.append(messages(step, rank, receiver, rank, rank, count=straight))
        rows.append(messages(step, rank, receiver, 0, 0, count=count - straight))
    return Schedule("all-gather", "bruck", n, n, table(*rows))


def bruck_all_to_all(num_ranks: int) -> Schedule:
    """All-to-all in ceil(log2 n) rounds, each of one message of at most n/2 blocks.

    Block i in the scratch buffer is always one that has i to go: at first the rank's own block for r + i. In round k
    the blocks whose distance has bit k go on to r + 2^k, and at last block i is the one from r - i. A round is three
    steps: pack the blocks into the first half of the output buffer, exchange them into its second half, unpack them;
    a rotation before and one after are copies too.
    """
    n = num_ranks
    half = n + n // 2  # the second half of the output buffer, buffer 1; scratch is buffer 2
    rank, place = np.arange(n), np.arange(n)[:, None]
    rows = [messages(0, rank, rank, rank, 2 * n, count=n - rank), messages(0, rank, rank, 0, 3 * n - rank, count=rank)]
    step = 1
    for distance in _powers_below(n):
        run = np.arange(distance, n, 2 * distance)[:, None]  # where runs of up to 2^k places with bit k set begin
        length = np.minimum(distance, n - run)
        slot = np.arange(len(run))[:, None] * distance
        rows.append(messages(step, rank, rank, 2 * n + run, n + slot, count=length))
        rows.append(messages(step + 1, rank, (rank + distance) % n, n, half, count=int(length.sum())))
        rows.append(messages(step + 2, rank, rank, half + slot, 2 * n + run, count=length))
        step += 3
    rows.append(messages(step, rank, rank, 2 * n + place, n + (rank - place) % n))
    return Schedule("all-to-all", "bruck", n, n, table(*rows), num_buffers=3, output=1)


def _powers_below(limit: int) -> list[int]:
    """Powers of two below a limit, ascending."""
    return [2**k for k in range((limit - 1).bit_length())]


ALGORITHMS = (
    made_by(
        bruck_all_gather,
        "all-gather",
        "bruck",
        "Bruck et al. 1997, concatenation; Thakur, Rabenseifner and Gropp 2005, section 4.1",
    ),
    made_by(bruck_all_to_all, "all-to-all", "bruck", "Bruck et al. 1997, index operation"),
)
