# SPDX-License-Identifier: Apache-2.0
"""How much there is to do, before it is begun: the size of a schedule without building it."""

from dataclasses import replace
from math import log2

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.memory import require_rows
from commbench.errors import CommbenchError

__all__ = ["job_of", "require_memory", "rows_of"]

_WORLD = 128  # ranks of the smaller of the two worlds that are built to see how a schedule grows
_SMALL = 10**7  # rows that need no estimate: no algorithm has more than some 4 n^2 of them, times slices and channels


def rows_of(algorithm: Algorithm, request: Request) -> int:
    """Rows of the schedule for a request (a message has two, a send and a receive), estimated; 0 if it cannot be told.

    Slices and channels multiply them. Rounds are counted. For other algorithms two small worlds are built, one with
    twice the ranks of the other, and what doubling does there is taken to go on.
    """
    n, pieces = request.num_ranks, request.slices * request.channels
    if 4 * n * n * pieces <= _SMALL:
        return 4 * n * n * pieces
    if algorithm.rounds is not None:
        rounds = algorithm.rounds(replace(request, slices=1, channels=1))
        return 2 * rounds.num_rounds * len(rounds.sender) * pieces
    for world in (_WORLD, 4 * request.group):
        whole = replace(request, slices=1, channels=1, root=0)
        worlds = [replace(whole, num_ranks=k * world, hosts=None, ways=()) for k in (1, 2)]  # hosts are those of n
        if 2 * world >= n:
            worlds = [whole]
        if not any(map(algorithm.refuses, worlds)):
            try:
                counts = [len(algorithm.build(each).table) for each in worlds]
            except CommbenchError:  # a user's own, which serves other worlds only
                continue
            growth = log2(max(counts[-1], 1) / max(counts[0], 1))
            return pieces * int(counts[-1] * (n / worlds[-1].num_ranks) ** growth)
    return 0


def require_memory(algorithm: Algorithm, request: Request, bytes_per_row: int, instead: str) -> None:
    """Refuse to build a schedule that the machine's memory does not hold; see :func:`memory.require_rows`."""
    require_rows(job_of(algorithm, request), rows_of(algorithm, request), bytes_per_row, instead)


def job_of(algorithm: Algorithm, request: Request) -> str:
    """What is done, for messages."""
    return f"{algorithm.collective} by {algorithm.name} on {request.num_ranks:,} ranks"
