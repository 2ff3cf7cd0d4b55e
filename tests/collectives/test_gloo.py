# SPDX-License-Identifier: Apache-2.0
"""The ``gloo`` schedules against gloo's own arithmetic in bytes, written down once more without the package's help.

Whether torch really sends this is counted in tests/live/test_gloo_bytes.py.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.gloo import ALGORITHMS
from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.spec import COLLECTIVES, get_collective
from commbench.collectives.verify import verify
from commbench.errors import InputError
from commbench.lowering.expand import expand_schedule
from commbench.program.flat import TRANSFER
from tests.cases import ALL_WORLD_SIZES, US, simulate_collective, star

MIB = 2**20
NAMES = [algorithm.collective for algorithm in ALGORITHMS]
SIZED = [algorithm.collective for algorithm in ALGORITHMS if algorithm.sized]

Message = tuple[int, int, int]
"""(peer, offset in bytes, length in bytes) of a send."""


def up(value: int, unit: int) -> int:
    return (value + unit - 1) // unit * unit


# ----------------------------------------------------------------- gloo's loops, in bytes, as a rank goes through them


def ring(n: int, rank: int, total: int, num: int, size: int, posts: int, ahead: int) -> Iterator[Message]:
    """Segments that a rank sends to the rank before it; those that lie past the end are skipped."""
    for i in range(posts):
        offset = ((rank + ahead) * (num // n) + i) * size % (num * size)
        if offset < total:
            yield (rank - 1) % n, offset, min(size, total - offset)


def all_reduce(n: int, rank: int, total: int, element: int) -> Iterator[Message]:
    if n == 1:
        return
    most = element * max(1, MIB // element)
    num = up(max((total + most - 1) // most, 2 * n), n)
    size = up((total + num - 1) // num, element)
    for ahead in (1, 0):
        yield from ring(n, rank, total, num, size, num - num // n, ahead)


def reduce(n: int, rank: int, total: int, element: int, root: int) -> Iterator[Message]:
    if n == 1:
        return
    most = element * max(1, MIB // element)
    size = up(min((total + 2 * n - 1) // (2 * n), most), element)
    num = up(max((total + size - 1) // size, 2 * n), n)
    yield from ring(n, rank, total, num, size, num - 2, 1)
    part = num // n * size
    if rank != root and rank * part < total:
        yield root, rank * part, min(part, total - rank * part)


def all_gather(n: int, rank: int, total: int, element: int) -> Iterator[Message]:
    """Halves of whole elements: gloo halves the bytes."""
    block = total // n
    first = block // element // 2 * element
    for i in range(2 * (n - 1)):
        offset = (rank - i // 2) % n * block + i % 2 * first
        yield (rank + 1) % n, offset, block - first if i % 2 else first


def of_schedule(schedule: Schedule, rank: int, num_elements: int, element: int) -> list[Message]:
    """The sends to others in the order of their steps; offsets are those inside a buffer."""
    borders = schedule.offsets(num_elements) * element
    buffer = num_elements * element
    sends = [op for op in schedule.ops_of(rank) if op.kind is Kind.SEND and op.peer != rank]
    return [
        (op.peer, int(borders[op.chunk]) % buffer, int(borders[op.chunk + op.count] - borders[op.chunk]))
        for op in sends
    ]


SIZES = (1, 7, 4099, 600_001)  # elements; those of blocks are rounded to whole blocks


@pytest.mark.parametrize("collective", SIZED)
@pytest.mark.parametrize("n", ALL_WORLD_SIZES)
def test_sends_what_gloos_loops_send(collective: str, n: int) -> None:
    """Message by message: peer, place and length, in order; k from 2 to 5 segments per rank."""
    loops: dict[str, Callable[..., Iterator[Message]]] = {
        "all-reduce": all_reduce,
        "reduce-scatter": all_reduce,  # torch all-reduces the whole input
        "reduce": reduce,
        "all-gather": all_gather,
    }
    root = n // 2 if collective == "reduce" else 0
    roots = (root,) if collective == "reduce" else ()
    for elements in (*SIZES, 1_100_000 * n + 3 if n <= 4 else 12_345):
        for element in (4, 2) if elements < 5000 else (4,):
            size = max(1, elements // n) * n if get_collective(collective).blocked else elements
            schedule = build_schedule(collective, "gloo", n, root=root, num_elements=size, element_bytes=element)
            assert not schedule.weights or sum(schedule.weights) == size
            verify(schedule)
            for rank in range(n):
                wanted = list(loops[collective](n, rank, size * element, element, *roots))
                assert of_schedule(schedule, rank, size, element) == wanted, f"{size} elements of {element} B, {rank}"


@pytest.mark.parametrize("collective", NAMES)
@pytest.mark.parametrize("n", ALL_WORLD_SIZES)
def test_without_a_size(collective: str, n: int) -> None:
    for root in sorted({0, n // 2, n - 1}) if get_collective(collective).rooted else [0]:
        verify(build_schedule(collective, "gloo", n, root=root))


def test_there_is_one_for_every_collective() -> None:
    assert set(NAMES) == set(COLLECTIVES)


# -------------------------------------------------------------------------------------------------- closed forms


def sent(schedule: Schedule, rank: int, size: int) -> tuple[int, int]:
    """(messages, bytes) that a rank sends of a buffer of ``size`` bytes in elements of 4."""
    messages = of_schedule(schedule, rank, size // 4, 4)
    return len(messages), sum(length for _, _, length in messages)


@pytest.mark.parametrize("n", range(2, 18))
@pytest.mark.parametrize("k", [2, 3])
def test_closed_forms_where_everything_divides(n: int, k: int) -> None:
    """Buffers of n k segments of a whole MiB, k per rank: (messages, bytes) per rank as in docs/gloo.md."""
    size = n * k * MIB
    block = size // n
    forms = {
        "all-reduce": lambda rank: (2 * (n - 1) * k, 2 * (n - 1) * block),
        "reduce-scatter": lambda rank: (2 * (n - 1) * k, 2 * (n - 1) * block),
        "all-gather": lambda rank: (2 * (n - 1), (n - 1) * block),
        # The ring posts all segments but two; everybody but the root then sends its part.
        "reduce": lambda rank: (n * k - 2 + (rank != 1), (n * k - 2) * MIB + (rank != 1) * block),
        "gather": lambda rank: (int(rank != 1), (rank != 1) * block),
        "scatter": lambda rank: ((rank == 1) * (n - 1), (rank == 1) * (n - 1) * block),
        "all-to-all": lambda rank: (n - 1, (n - 1) * block),
        "send-recv": lambda rank: (1, size),
        "broadcast": lambda rank: (children(n, (rank - 1) % n), children(n, (rank - 1) % n) * size),
        "barrier": lambda rank: ((n - 1).bit_length(), (n - 1).bit_length() * size),  # of a token: empty in gloo
    }
    for collective, form in forms.items():
        root = 1 if get_collective(collective).rooted else 0
        schedule = build_schedule(collective, "gloo", n, root=root, num_elements=size // 4)
        for rank in range(n):
            assert sent(schedule, rank, size) == form(rank), f"{collective}, rank {rank}"


def children(n: int, place: int) -> int:
    """Ranks that one at a place counted from the root sends to: at place + 1, 2, 4 ... beyond its highest bit."""
    return sum(1 for bit in range(place.bit_length(), 20) if place + 2**bit < n)


def test_the_example_of_the_page() -> None:
    """4 ranks, 4 MiB: 8 segments of 512 KiB, 12 messages and 6 MiB per rank, window 2, to the rank before."""
    schedule = build_schedule("all-reduce", "gloo", 4, num_elements=MIB)
    assert (schedule.num_chunks, schedule.window, set(schedule.weights)) == (8, 2, {131072})
    assert [sent(schedule, rank, 4 * MIB) for rank in range(4)] == [(12, 6 * MIB)] * 4
    assert {(op.rank - op.peer) % 4 for op in schedule if op.kind is Kind.SEND} == {1}


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_simulated_transfers_are_the_messages(n: int) -> None:
    """What the simulator moves: as many transfers and bytes per rank as the schedule's messages."""
    for collective in NAMES:
        size = 12_000 * n + (0 if get_collective(collective).blocked else 5)
        schedule = build_schedule(collective, "gloo", n, num_elements=size)
        program = expand_schedule(schedule, num_elements=size, element_bytes=4, reduction_ps_per_byte=0.0)
        moved: dict[int, list[int]] = defaultdict(list)
        for row in np.flatnonzero((program.kind == TRANSFER) & (program.rank != program.peer)):
            moved[int(program.rank[row])].append(int(program.num_bytes[row]))
        for rank in range(n):
            wanted = [length for _, _, length in of_schedule(schedule, rank, size, 4)]
            assert sorted(moved[rank]) == sorted(wanted), f"{collective}, rank {rank}"


# ------------------------------------------------------------------------------------------------- simulated times


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_times_on_an_ideal_switch(n: int) -> None:
    """80 ps per byte and 2 us per message; the two messages in flight share the rank's link, and so arrive together.

    So the rings go in rounds of two half blocks: n - 1 rounds of (2 us + block), twice that for an all-reduce.
    """
    size = 8000 * n
    block, alpha = 8000 * 80, 2 * US
    times = {
        "all-reduce": 2 * (n - 1) * (alpha + block),
        "reduce-scatter": 2 * (n - 1) * (alpha + block),
        "all-gather": (n - 1) * (alpha + block),
        "all-to-all": alpha + (n - 1) * block,
        "gather": alpha + (n - 1) * block,
        "scatter": alpha + (n - 1) * block,
        "send-recv": alpha + n * block,
        "reduce": (n - 1) * (alpha + block) + alpha + (n - 1) * block,
        "barrier": (n - 1).bit_length() * (alpha + 4 * 80),  # a token of one element, whatever the size
    }
    for collective, expected in times.items():
        assert simulate_collective(star(n), collective, "gloo", size).trace.finish_ps == expected, collective


def test_broadcast_on_an_ideal_switch() -> None:
    """8 ranks: the root's three copies share its link and arrive together at alpha + 3 S. Rank 1 then sends two copies,
    which take alpha + 2 S, and rank 3 its one copy: 3 alpha + 6 S."""
    assert simulate_collective(star(8), "broadcast", "gloo", 8000).trace.finish_ps == 3 * 2 * US + 6 * 8000 * 80


def test_additions_come_between_the_iterations() -> None:
    """With 2.5 ps per byte added, every round of the first half has two additions of half a block, one by one."""
    n, block = 4, 8000
    expected = 2 * (n - 1) * (2 * US + block * 80)
    slow = simulate_collective(star(n, reduction_ps_per_byte=2.5), "all-reduce", "gloo", n * block).trace.finish_ps
    assert expected < slow <= expected + (n - 1) * int(block * 2.5)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("collective", NAMES)
@pytest.mark.parametrize("option", [{"slices": 2}, {"channels": 2}])
def test_slices_and_channels_are_refused(collective: str, option: dict[str, int]) -> None:
    with pytest.raises(
        InputError, match=rf"algorithm gloo for {collective} cuts by itself .* it serves: any, with one"
    ):
        build_schedule(collective, "gloo", 4, **option)


def test_an_element_larger_than_a_segment() -> None:
    """A segment holds at least one element."""
    (algorithm,) = [a for a in ALGORITHMS if a.collective == "all-reduce"]
    schedule = algorithm.build(Request(num_ranks=2, num_elements=9, element_bytes=2 * MIB))
    assert set(schedule.weights) == {1}
    verify(schedule)
