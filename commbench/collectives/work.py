# SPDX-License-Identifier: Apache-2.0
"""How much there is to do, before it is begun: the size of a schedule without building it, and what memory there is."""

import os
from dataclasses import replace
from math import log2
from pathlib import Path

from commbench.collectives.algorithm import Algorithm, Request
from commbench.errors import CommbenchError, InputError

__all__ = ["FEWER", "TABLE_BYTES", "job_of", "memory_bytes", "require_memory", "require_rows", "rows_of", "worded"]

TABLE_BYTES = 100  # for a row of a schedule while it is made: seven columns of int32, sorted
FEWER = "give fewer --ranks, --slices or --channels, or another --algorithm"
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
        worlds = [replace(request, num_ranks=k * world, slices=1, channels=1, root=0) for k in (1, 2)]
        if 2 * world >= n:
            worlds = [replace(worlds[0], num_ranks=n)]
        if not any(map(algorithm.refuses, worlds)):
            try:
                counts = [len(algorithm.build(each).table) for each in worlds]
            except CommbenchError:  # a user's own, which serves other worlds only
                continue
            growth = log2(max(counts[-1], 1) / max(counts[0], 1))
            return pieces * int(counts[-1] * (n / worlds[-1].num_ranks) ** growth)
    return 0


def memory_bytes() -> int:
    """Memory that this process may take: the machine's, or its control group's where that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return found
    return min(found, int(limit)) if limit.isdecimal() else found


def require_memory(algorithm: Algorithm, request: Request, bytes_per_row: int, instead: str) -> None:
    """Refuse to build a schedule that the machine's memory does not hold; see :func:`require_rows`."""
    require_rows(job_of(algorithm, request), rows_of(algorithm, request), bytes_per_row, instead)


def require_rows(what: str, rows: int, bytes_per_row: int, instead: str) -> None:
    """Refuse work on so many rows of a schedule that the machine's memory does not hold them.

    Args:
        what: the work, and ``instead``: what to give, in words. bytes_per_row: that the work takes.

    Raises:
        InputError: the machine has less; says how much of what.
    """
    needed, there = rows * bytes_per_row, memory_bytes()
    if needed > there:
        raise InputError(
            f"{what}: {worded(rows // 2)} transfers take about {needed / 2**30:,.0f} GiB of memory, this machine has "
            f"{there / 2**30:,.0f}: {instead}"
        )


def job_of(algorithm: Algorithm, request: Request) -> str:
    """What is done, for messages."""
    return f"{algorithm.collective} by {algorithm.name} on {request.num_ranks:,} ranks"


def worded(count: int) -> str:
    """A large number as people say it: 34e9."""
    power = (len(str(count)) - 1) // 3 * 3
    return f"{count / 10**power:.3g}e{power}" if power >= 6 else f"{count:,}"
