# SPDX-License-Identifier: Apache-2.0
"""All-to-all: every rank has a block for every rank.

A rank's own block is copied from the input to the output by an exchange with itself. The buffers are 0, the input, 1,
the output, and where blocks pass through other ranks, 2, scratch.

Sources: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in MPICH",
Int. J. High Performance Computing Applications 19 (2005) 49-66 (pairwise exchange). C. Hwang et al., "Tutel:
adaptive mixture-of-experts at scale", MLSys 2023 (two-step: their two-dimensional hierarchical all-to-all). The order
of distances of the direct one is that of NCCL 2.30.7 on one host and of gloo.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from commbench.arrays import IntArray
from commbench.collectives.algorithms.messages import made_by, messages, table, whole_hosts
from commbench.collectives.memory import require_table
from commbench.collectives.schedule import Schedule
from commbench.errors import InputError

__all__ = [
    "ALGORITHMS",
    "all_to_all_v",
    "direct_all_to_all",
    "pairwise_all_to_all",
    "two_step_all_to_all",
    "uniform_all_to_all_v",
]


def _grid(num_ranks: int) -> tuple[IntArray, IntArray]:
    """(distance, sender) of every pair."""
    require_table(f"a message for every two of {num_ranks} ranks", 2 * num_ranks**2)
    distance, sender = (grid.ravel() for grid in np.indices((num_ranks, num_ranks)))
    return distance, sender


def _direct(num_ranks: int) -> tuple[IntArray, IntArray, IntArray]:
    """(step, sender, receiver) of every pair, all in one step; a rank sends to itself, then to r + 1, r + 2, ..."""
    distance, sender = _grid(num_ranks)
    return np.zeros_like(sender), sender, (sender + distance) % num_ranks


def _pairwise(num_ranks: int) -> tuple[IntArray, IntArray, IntArray]:
    """(step, sender, receiver) of every pair: one partner per step, and the own block beside the first of them.

    In step i (from 1) rank r exchanges with r XOR i where the world is a power of two; elsewhere it sends to r + i and
    receives from r - i.
    """
    distance, sender = _grid(num_ranks)
    power_of_two = num_ranks & (num_ranks - 1) == 0
    receiver = sender ^ distance if power_of_two else (sender + distance) % num_ranks
    return np.maximum(distance - 1, 0), sender, receiver


_PAIRS: dict[str, Callable[[int], tuple[IntArray, IntArray, IntArray]]] = {"direct": _direct, "pairwise": _pairwise}


def direct_all_to_all(num_ranks: int) -> Schedule:
    """All-to-all in one step: everybody posts all n - 1 sends and receives at once, near distances first."""
    return _block_by_block(num_ranks, "direct")


def pairwise_all_to_all(num_ranks: int) -> Schedule:
    """All-to-all in n - 1 steps of one block to one partner (Thakur et al. 2005)."""
    return _block_by_block(num_ranks, "pairwise")


def _block_by_block(num_ranks: int, algorithm: str) -> Schedule:
    step, sender, receiver = _PAIRS[algorithm](num_ranks)
    rows = messages(step, sender, receiver, receiver, num_ranks + sender)
    return Schedule("all-to-all", algorithm, num_ranks, num_ranks, table(rows), num_buffers=2, output=1)


def two_step_all_to_all(num_ranks: int, group: int) -> Schedule:
    """All-to-all inside every host first, then between the ranks of the same place in every host (rail-wise).

    With h hosts of g ranks, rank i of a host hands rank j of that host, in one message, the h blocks meant for the
    ranks j of all hosts; rank j of host a then hands rank j of host b the g blocks that its host has for it. Each
    rank so sends g - 1 messages of h blocks inside the host and h - 1 messages of g blocks to other hosts. What one
    message carries is brought together by copies before each of the two steps (Hwang et al. 2023, 2D hierarchical).
    """
    n, g = num_ranks, group
    hosts = n // g
    if g in (1, n):
        return replace(direct_all_to_all(n), algorithm="two-step")
    rank = np.arange(n)
    host, local = rank // g, rank % g
    other, peer = (axis[:, None] for axis in (np.arange(hosts), np.arange(g)))  # against the ranks in the second axis
    block = np.arange(n)[:, None]
    by_local = block % g * hosts + block // g  # where block (host, local) stands when blocks are sorted by local rank
    rows = table(
        messages(0, rank, rank, block, 2 * n + by_local),
        messages(1, rank, host * g + peer, 2 * n + peer * hosts, n + local * hosts, count=hosts),
        messages(2, rank, rank, n + by_local, 2 * n + block),
        messages(3, rank, other * g + local, 2 * n + other * g, n + host * g, count=g),
    )
    return Schedule("all-to-all", "two-step", n, n, rows, num_buffers=3, output=1)


def all_to_all_v(matrix: Sequence[Sequence[int]], algorithm: str = "pairwise") -> Schedule:
    """All-to-all of unequal blocks, ``direct`` or ``pairwise``.

    Chunk s * n + d is what rank s has for rank d; every rank's buffer has room for all of them.

    Args:
        matrix: row s, column d: elements that rank s has for rank d; zero is allowed. For a buffer of another size
            than their sum they are relative sizes.
        algorithm: "direct" or "pairwise".

    Raises:
        InputError: unknown algorithm, a matrix that is not square, or one with negative entries or only zeros.
    """
    n = len(matrix)
    weights = tuple(int(entry) for row in matrix for entry in row)
    if n < 1 or any(len(row) != n for row in matrix):
        raise InputError(f"all-to-all-v: the matrix must be square, not rows of {[len(row) for row in matrix]} entries")
    if min(weights) < 0 or not any(weights):
        raise InputError("all-to-all-v: the entries of the matrix must not be negative, nor all zero")
    return replace(uniform_all_to_all_v(n, algorithm), weights=weights)


def uniform_all_to_all_v(num_ranks: int, algorithm: str) -> Schedule:
    """All-to-all-v whose n * n blocks are equal.

    Raises:
        InputError: unknown algorithm.
    """
    if algorithm not in _PAIRS:
        raise InputError(f"algorithm {algorithm!r} is unknown for all-to-all-v; known: {', '.join(_PAIRS)}")
    n = num_ranks
    step, sender, receiver = _PAIRS[algorithm](n)
    chunk = sender * n + receiver
    rows = messages(step, sender, receiver, chunk, n * n + chunk)
    return Schedule("all-to-all-v", algorithm, n, n * n, table(rows), num_buffers=2, output=1)


_GROUPED = "NCCL 2.30.7 and gloo: all sends and receives in one group"
_EXCHANGE = "Thakur, Rabenseifner and Gropp 2005, pairwise exchange"

ALGORITHMS = (
    made_by(direct_all_to_all, "all-to-all", "direct", _GROUPED),
    made_by(pairwise_all_to_all, "all-to-all", "pairwise", _EXCHANGE),
    made_by(
        two_step_all_to_all,
        "all-to-all",
        "two-step",
        "Hwang et al. 2023 (Tutel), two-dimensional hierarchical all-to-all",
        grouped=True,
        refuses=whole_hosts,
        worlds="multiples of the ranks per host",
    ),
    made_by(partial(uniform_all_to_all_v, algorithm="direct"), "all-to-all-v", "direct", _GROUPED),
    made_by(partial(uniform_all_to_all_v, algorithm="pairwise"), "all-to-all-v", "pairwise", _EXCHANGE),
)
