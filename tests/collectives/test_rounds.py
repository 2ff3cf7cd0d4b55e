# SPDX-License-Identifier: Apache-2.0
"""Algorithms kept as one round: listed, they are the schedules that the passes make."""

import numpy as np
import pytest

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms.ring import ring_all_reduce
from commbench.collectives.orders import orders_of
from commbench.collectives.passes import add_channels, reorder
from commbench.collectives.registry import ALGORITHMS, build
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Kind
from commbench.collectives.verify import verify

LOOPED = [a for (_, name), a in sorted(ALGORITHMS.items()) if a.rounds and name == a.name]


def rounds_of(algorithm: Algorithm, request: Request) -> Rounds:
    assert algorithm.rounds is not None
    return algorithm.rounds(request)


def test_which_algorithms_have_rounds() -> None:
    names = {f"{a.collective}/{a.name}" for a in LOOPED}
    rings = {"all-reduce", "reduce-scatter", "all-gather"}
    assert names >= {f"{collective}/{name}" for collective in rings for name in ("ring", "ring-bidirectional")}


@pytest.mark.parametrize("algorithm", LOOPED, ids=lambda a: f"{a.collective}/{a.name}")
def test_listed_they_are_the_schedule(algorithm: Algorithm) -> None:
    count = 0
    for n in range(1, 18):
        for channels in (1, 2, 3, 4):
            for group in (g for g in range(1, n + 1) if n % g == 0):
                request = Request(num_ranks=n, channels=channels, group=group)
                schedule = rounds_of(algorithm, request).schedule()
                assert schedule == build(algorithm, request), request
                count += 1
    assert count == 4 * 52  # the numbers 1 to 17 have 52 divisors together
    verify(schedule)


def test_a_ring_of_three_round_by_round() -> None:
    """In round k rank r sends chunk r - k to rank r + 1; the first two rounds add."""
    ring = ring_all_reduce(3)
    assert (ring.num_rounds, ring.num_reduces, ring.num_chunks) == (4, 2, 3)
    assert ring.receiver.tolist() == [1, 2, 0]
    assert [ring.chunk(k).tolist() for k in range(4)] == [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 1, 2]]
    assert ring.chunk(np.arange(2)[:, None]).tolist() == [[0, 1, 2], [2, 0, 1]]
    schedule = ring.schedule()
    adds = schedule.column("kind") == Kind.REDUCE
    assert sorted(schedule.column("step")[adds].tolist()) == [0, 0, 0, 1, 1, 1]
    assert len(schedule) == 4 * 3 * 2


def test_chunk_bytes() -> None:
    """10 elements of 4 B in 3 chunks: the sizes of chunk_offsets, which add up to the buffer."""
    sizes = ring_all_reduce(3).chunk_bytes(10, 4)
    assert sizes.sum() == 40
    assert sorted(sizes.tolist()) == [12, 12, 16]


def test_both_ways() -> None:
    """Half of every chunk the other way round, on a channel of its own: rank r does there what rank -r does here."""
    both = ring_all_reduce(4).both_ways("x")
    assert (both.algorithm, both.num_chunks, len(both.sender)) == ("x", 8, 8)
    forth, back = both.channel == 0, both.channel == 1
    assert both.receiver[forth].tolist() == [1, 2, 3, 0]
    assert both.receiver[back].tolist() == [3, 0, 1, 2]
    assert both.chunk(1)[forth].tolist() == [6, 0, 2, 4]  # rank r sends the first half of chunk r - 1
    assert both.chunk(1)[back].tolist() == [3, 5, 7, 1]  # and the second half of chunk r + 1
    verify(both.schedule())


@pytest.mark.parametrize(
    ("n", "channels", "group", "turned"),
    [(8, 4, 4, True), (8, 2, 2, True), (6, 3, 3, True), (8, 2, 8, False), (9, 3, 1, False), (6, 2, 4, True)],
)
def test_channels_are_those_of_the_passes(n: int, channels: int, group: int, turned: bool) -> None:
    """One host, and hosts of one rank, turn nothing; a smaller last host turns by its own number of ranks."""
    orders = orders_of(Request(num_ranks=n, channels=channels, group=group))
    wide = ring_all_reduce(n).on_channels(orders).schedule()
    plain = add_channels(ring_all_reduce(n).schedule(), channels)
    assert wide == reorder(plain, orders)
    assert (wide != plain) == turned


def test_messages_are_sorted() -> None:
    wide = ring_all_reduce(8).on_channels(orders_of(Request(num_ranks=8, channels=4, group=4)))
    keys = list(zip(wide.sender.tolist(), wide.channel.tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == 32
