# SPDX-License-Identifier: Apache-2.0
"""One line about every algorithm: what it serves, its steps, and what its busiest rank sends."""

from dataclasses import dataclass

import numpy as np

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import ALGORITHMS, build
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.spec import COLLECTIVES, get_collective
from commbench.errors import InputError

__all__ = ["EXAMPLE", "Facts", "algorithms_of", "busiest_share", "facts"]

EXAMPLE = Request(num_ranks=8, group=4, num_elements=8 * 2**15)
"""What the figures are for: 8 ranks on two hosts, 1 MiB of float32, not pipelined."""


@dataclass(frozen=True, slots=True)
class Facts:
    """An algorithm in figures.

    Attributes:
        steps: of the longest channel for :data:`EXAMPLE`; None if the algorithm cannot serve it.
        sent_share: bytes sent by the busiest rank, as a share of the buffer; None likewise.
    """

    algorithm: Algorithm
    steps: int | None
    sent_share: float | None


def algorithms_of(collective: str | None = None) -> list[Algorithm]:
    """Every algorithm once, in the order of the collectives and of the registry; of one collective if it is named.

    Raises:
        InputError: unknown collective.
    """
    wanted = list(COLLECTIVES) if collective is None else [get_collective(collective).name]
    found = [a for (_, name), a in ALGORITHMS.items() if name == a.name]
    return [a for name in wanted for a in found if a.collective == name]


def facts(algorithm: Algorithm) -> Facts:
    """The figures of an algorithm."""
    try:
        schedule = build(algorithm, EXAMPLE)
    except InputError:
        return Facts(algorithm, None, None)
    return Facts(algorithm, schedule.num_steps, busiest_share(schedule))


def busiest_share(schedule: Schedule) -> float:
    """What the busiest rank sends to others, as a share of the buffer; switches are no ranks."""
    weights = np.array(schedule.weights or (1,) * schedule.num_chunks, dtype=np.float64)
    ends = np.concatenate([[0.0], np.cumsum(np.tile(weights, schedule.num_buffers))])
    rank, peer, chunk, count = (schedule.column(name) for name in ("rank", "peer", "chunk", "count"))
    leaves = (schedule.column("kind") == Kind.SEND) & (rank != peer) & (rank < schedule.num_ranks)
    sizes = (ends[chunk + count] - ends[chunk])[leaves]
    sent = np.bincount(rank[leaves], weights=sizes, minlength=schedule.num_ranks)
    return float(sent.max() / weights.sum())
