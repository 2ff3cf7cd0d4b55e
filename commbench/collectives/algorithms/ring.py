# SPDX-License-Identifier: Apache-2.0
"""Ring algorithms: every rank sends to the next rank and receives from the one before.

Source: P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
J. Parallel Distrib. Comput. 69 (2009) 117-124, section 3.

Channels on several hosts, or on directly linked ranks, go round different rings (commbench.collectives.orders); rank r
ends with block r on each of them.
"""

from collections.abc import Callable

import numpy as np

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms.messages import as_asked
from commbench.collectives.orders import orders_of
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule

__all__ = [
    "ALGORITHMS",
    "bidirectional_ring",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_reduce_scatter",
]

_SOURCE = "Patarasuk and Yuan 2009, section 3"


def ring_all_reduce(num_ranks: int) -> Rounds:
    """All-reduce in 2(n-1) steps of one chunk out of n: reduce-scatter, then all-gather, round the same ring.

    In step s rank r sends chunk r - s to rank r + 1; in the first n - 1 steps what arrives is added, afterwards it is
    kept. Each rank sends 2(n-1)/n of the buffer, which is the least possible without help from the switches.
    """
    return _round_the_ring("all-reduce", num_ranks, 2 * (num_ranks - 1), num_ranks - 1)


def ring_reduce_scatter(num_ranks: int) -> Rounds:
    """Reduce-scatter in n - 1 steps: in step s rank r sends block r - 1 - s, so that it is left with block r.

    Each rank sends (n-1)/n of the buffer, the least possible.
    """
    return _round_the_ring("reduce-scatter", num_ranks, num_ranks - 1, num_ranks - 1, ahead=-1)


def ring_all_gather(num_ranks: int) -> Rounds:
    """All-gather in n - 1 steps: in step s rank r sends block r - s, its own first.

    Each rank sends (n-1)/n of the buffer, the least possible.
    """
    return _round_the_ring("all-gather", num_ranks, num_ranks - 1, 0)


def _round_the_ring(collective: str, num_ranks: int, num_rounds: int, num_reduces: int, ahead: int = 0) -> Rounds:
    """In step s rank r sends chunk r + ``ahead`` - s to rank r + 1."""
    rank = np.arange(num_ranks, dtype=np.int64)
    zero = np.zeros_like(rank)
    return Rounds(
        collective=collective,
        algorithm="ring",
        num_ranks=num_ranks,
        num_rounds=num_rounds,
        num_reduces=num_reduces,
        num_blocks=num_ranks,
        num_pieces=1,
        sender=rank,
        receiver=(rank + 1) % num_ranks,
        channel=zero,
        block=(rank + ahead) % num_ranks,
        piece=zero,
        stride=zero - 1,
    )


def bidirectional_ring(ring: Rounds) -> Rounds:
    """The ring both ways at once: half of every chunk goes round the other way, on channel 1.

    Steps and bytes per rank stay the same, but each direction of a link pair carries only half of them, at the same
    time. Chunk c becomes chunks 2c, which goes to higher ranks, and 2c + 1, which goes to lower ones.
    """
    return ring.both_ways("ring-bidirectional")


def _algorithm(collective: str, name: str, of: Callable[[int], Rounds], source: str) -> Algorithm:
    def rounds(request: Request) -> Rounds:
        ring = of(request.num_ranks)
        return ring.on_channels(orders_of(request, int(ring.channel.max()) + 1, ring=True))

    def build(request: Request) -> Schedule:
        return as_asked(of(request.num_ranks).schedule(), request, ring=True)

    return Algorithm(collective=collective, name=name, build=build, source=source, rounds=rounds)


_RINGS = {"all-reduce": ring_all_reduce, "reduce-scatter": ring_reduce_scatter, "all-gather": ring_all_gather}

ALGORITHMS = (
    *(_algorithm(name, "ring", ring, _SOURCE) for name, ring in _RINGS.items()),
    *(
        _algorithm(
            name,
            "ring-bidirectional",
            lambda n, ring=ring: bidirectional_ring(ring(n)),  # type: ignore[misc]
            f"{_SOURCE}, once in each direction",
        )
        for name, ring in _RINGS.items()
    ),
)
