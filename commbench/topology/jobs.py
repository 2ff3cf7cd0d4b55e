# SPDX-License-Identifier: Apache-2.0
"""Which ranks form the jobs that run on a fabric at once."""

from collections.abc import Sequence

from commbench.errors import InputError

__all__ = ["deal"]


def deal(text: str, count: int, option: str = "--jobs") -> list[tuple[int, ...]]:
    """Ranks of each job, in the job's order.

    Args:
        text: a number of jobs, or their ranks, such as "0,1,4,5/2,3,6,7" or "0-3/4-7". A number deals the ranks out in
            turn, so that the jobs meet at every switch.
        count: ranks that there are, 0 to count - 1. option: that the text stands behind, for messages.

    Raises:
        InputError: not such a text, ranks that are not there or are in two places, or too few for a job.
    """
    if text.isdecimal():
        number = int(text[:20])  # more digits than any count has
        if number < 1 or count % number or count // number < 2:
            raise InputError(f"{option} {text}: {count} ranks do not make so many equal jobs of two ranks or more")
        return [tuple(range(job, count, number)) for job in range(number)]
    try:
        jobs = [tuple(rank for word in part.split(",") for rank in _ranks(word, count)) for part in text.split("/")]
    except ValueError:
        raise InputError(
            f"{option} {text!r}: give a number of jobs, or ranks such as 0,1,4,5/2,3,6,7 or 0-3/4-7"
        ) from None
    _check(jobs, f"{option} {text}", count)
    return jobs


def _ranks(word: str, count: int) -> range:
    """Of "5" the one rank, of "0-7" eight; no more than ``count`` and one, of which the last is then not there."""
    first, dash, last = word.strip().partition("-") if word.strip()[:1].isdecimal() else (word, "", "")
    ranks = range(int(first), int(last if dash else first) + 1)
    if not ranks:
        raise ValueError("from more to less")
    return ranks[: count + 1]


def _check(jobs: Sequence[tuple[int, ...]], given: str, count: int) -> None:
    seen: set[int] = set()
    for rank in (rank for job in jobs for rank in job):
        if not 0 <= rank < count:
            raise InputError(f"{given}: rank {rank} is outside 0..{count - 1}")
        if rank in seen:
            raise InputError(f"{given}: rank {rank} is given twice; a host runs one rank")
        seen.add(rank)
    if min(map(len, jobs)) < 2:
        raise InputError(f"{given}: a job needs two ranks or more")
