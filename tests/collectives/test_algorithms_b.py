# SPDX-License-Identifier: Apache-2.0
"""All-to-all, Bruck, hierarchical, torus, PAT and in-switch algorithms: right, and as cheap as their papers say."""

from collections.abc import Callable
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.algorithms import alltoall, bruck, hierarchical, in_switch, pat, ring, torus
from commbench.collectives.algorithms.alltoall import all_to_all_v
from commbench.collectives.algorithms.pat import pat_all_gather, pat_reduce_scatter
from commbench.collectives.algorithms.torus import torus_shape
from commbench.collectives.passes import pipeline
from commbench.collectives.registry import build, get_algorithm
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.summary import busiest_share
from commbench.collectives.verify import verify
from commbench.errors import InputError, ScheduleError
from commbench.sim.crossover import crossover
from commbench.topology.load import load_fabric
from tests.cases import simulate_collective

WORLDS = range(1, 18)
ALGORITHMS = [a for module in (alltoall, bruck, hierarchical, torus, pat, in_switch) for a in module.ALGORITHMS]
BY_NAME = {f"{a.collective}/{a.name}": a for a in ALGORITHMS}
HAS_HOSTS = ("all-to-all/two-step", "all-reduce/hierarchical")


def requests(key: str, num_ranks: int) -> list[Request]:
    """Every slicing and, where it matters, every size of host that divides the world."""
    groups = [g for g in range(1, num_ranks + 1) if num_ranks % g == 0] if key in HAS_HOSTS else [1]
    return [Request(num_ranks=num_ranks, slices=s, group=g) for s in (1, 2, 3) for g in groups]


def traffic(schedule: Schedule) -> tuple[int, Fraction]:
    """What the busiest rank sends to others: messages, and share of the buffer. Copies and switches do not count."""
    sends = [op for op in schedule if op.kind is Kind.SEND and op.rank != op.peer and op.rank < schedule.num_ranks]
    ranks = range(schedule.num_ranks)
    return (
        max(sum(op.rank == rank for op in sends) for rank in ranks),
        Fraction(max(sum(op.count for op in sends if op.rank == rank) for rank in ranks), schedule.num_chunks),
    )


@pytest.mark.parametrize("num_ranks", WORLDS)
@pytest.mark.parametrize("key", BY_NAME)
def test_right(key: str, num_ranks: int) -> None:
    served = [r for r in requests(key, num_ranks) if not BY_NAME[key].refuses(r)]
    assert served or key.startswith("all-reduce/torus")
    for request in served:
        verify(build(BY_NAME[key], request))


@pytest.mark.parametrize("key", [key for key in BY_NAME if not key.startswith("all-to-all-v")])
def test_right_on_channels(key: str) -> None:
    verify(build(BY_NAME[key], Request(num_ranks=6, slices=2, channels=3, group=2)))


@pytest.mark.parametrize("key", BY_NAME)
def test_registered(key: str) -> None:
    algorithm = BY_NAME[key]
    assert get_algorithm(algorithm.collective, algorithm.name) is algorithm
    assert algorithm.live == (key not in ("all-reduce/nvls", "all-reduce/sharp"))


# Steps, messages and share of the busiest rank ---------------------------------------------------------------------

AT_8 = {  # on hosts of 4: steps (of them only copies), messages, share of the buffer in eighths
    "all-to-all/direct": (1, 0, 7, 7),
    "all-to-all/pairwise": (7, 0, 7, 7),
    "all-to-all/two-step": (4, 2, 4, 10),
    "all-to-all/bruck": (11, 8, 3, 12),
    "all-to-all-v/direct": (1, 0, 7, Fraction(7, 8)),
    "all-to-all-v/pairwise": (7, 0, 7, Fraction(7, 8)),
    "all-gather/bruck": (3, 0, 5, 7),
    "all-gather/pat": (5, 2, 3, 7),
    "reduce-scatter/pat": (5, 2, 3, 7),
    "all-reduce/hierarchical": (8, 0, 8, 14),
    "all-reduce/torus-2d": (8, 0, 8, 14),
    "all-reduce/torus-2d-two-way": (8, 0, 16, 14),
    "all-reduce/nvls": (4, 0, 2, 9),
    "all-reduce/sharp": (2, 0, 1, 8),
}


def log2(n: int) -> int:
    """Rounded up."""
    return (n - 1).bit_length()


def set_bits(n: int) -> int:
    """Bits set in all the numbers below n: the hops of all blocks in Bruck's all-to-all."""
    return sum(i.bit_count() for i in range(n))


def grid(n: int) -> int:
    """Rows plus columns."""
    return sum(torus_shape(n))


Form = Callable[[int, int, int], int | Fraction]
CLOSED_FORMS: dict[str, tuple[Form, Form, Form]] = {  # of n ranks on h hosts of g: steps, messages, share times n
    "all-to-all/direct": (lambda n, g, h: 1, lambda n, g, h: n - 1, lambda n, g, h: n - 1),
    "all-to-all/pairwise": (lambda n, g, h: max(1, n - 1), lambda n, g, h: n - 1, lambda n, g, h: n - 1),
    "all-to-all/bruck": (lambda n, g, h: 2 + 3 * log2(n), lambda n, g, h: log2(n), lambda n, g, h: set_bits(n)),
    "all-to-all/two-step": (
        lambda n, g, h: 1 if 1 in (g, h) else 4,
        lambda n, g, h: g - 1 + h - 1,
        lambda n, g, h: (g - 1) * h + (h - 1) * g if 1 not in (g, h) else n - 1,
    ),
    "all-to-all-v/direct": (lambda n, g, h: 1, lambda n, g, h: n - 1, lambda n, g, h: Fraction(n - 1, n)),
    "all-to-all-v/pairwise": (
        lambda n, g, h: max(1, n - 1),
        lambda n, g, h: n - 1,
        lambda n, g, h: Fraction(n - 1, n),
    ),
    "all-gather/bruck": (
        lambda n, g, h: log2(n),
        lambda n, g, h: 2 * log2(n) - (n > 1) - (n > 2 and n - 1 == 2 ** (log2(n) - 1)),  # one block cannot wrap
        lambda n, g, h: n - 1,
    ),
    "all-gather/pat": (lambda n, g, h: log2(n) + (2 if n > 1 else 1), lambda n, g, h: log2(n), lambda n, g, h: n - 1),
    "reduce-scatter/pat": (lambda n, g, h: log2(n) + 2, lambda n, g, h: log2(n), lambda n, g, h: n - 1),
    "all-reduce/hierarchical": (
        lambda n, g, h: 2 * (g - 1) + 2 * (h - 1),
        lambda n, g, h: 2 * (g - 1) + 2 * (h - 1),
        lambda n, g, h: 2 * (n - 1),
    ),
    "all-reduce/torus-2d": (
        lambda n, g, h: 2 * (grid(n) - 2),
        lambda n, g, h: 2 * (grid(n) - 2),
        lambda n, g, h: 2 * (n - 1),
    ),
    "all-reduce/torus-2d-two-way": (
        lambda n, g, h: 2 * (grid(n) - 2),
        lambda n, g, h: 4 * (grid(n) - 2),
        lambda n, g, h: 2 * (n - 1),
    ),
    "all-reduce/nvls": (lambda n, g, h: 4, lambda n, g, h: 2, lambda n, g, h: n + 1),
    "all-reduce/sharp": (lambda n, g, h: 2, lambda n, g, h: 1, lambda n, g, h: n),
}


def copying_steps(schedule: Schedule) -> int:
    """Steps in which nothing leaves any rank."""
    return schedule.num_steps - len({op.step for op in schedule if op.rank != op.peer})


@pytest.mark.parametrize("key", BY_NAME)
def test_cost_on_8_ranks(key: str) -> None:
    schedule = build(BY_NAME[key], Request(num_ranks=8, group=4))
    messages, share = traffic(schedule)
    assert (schedule.num_steps, copying_steps(schedule), messages, share * 8) == AT_8[key]


@pytest.mark.parametrize("num_ranks", WORLDS)
@pytest.mark.parametrize("key", BY_NAME)
def test_closed_form(key: str, num_ranks: int) -> None:
    steps, messages, share = CLOSED_FORMS[key]
    for request in requests(key, num_ranks):
        if request.slices > 1 or BY_NAME[key].refuses(request):
            continue
        schedule = build(BY_NAME[key], request)
        shape = (num_ranks, request.group, num_ranks // request.group)
        expected = (steps(*shape), messages(*shape), Fraction(share(*shape), num_ranks))
        assert (schedule.num_steps, *traffic(schedule)) == expected


# All-to-all ---------------------------------------------------------------------------------------------------------


def test_pairwise_partners() -> None:
    """XOR in powers of two, r + i elsewhere."""
    assert [op.peer for op in alltoall.pairwise_all_to_all(4).ops_of(1) if op.kind is Kind.SEND] == [1, 0, 3, 2]
    assert [op.peer for op in alltoall.pairwise_all_to_all(5).ops_of(1) if op.kind is Kind.SEND] == [1, 2, 3, 4, 0]


def test_direct_sends_near_ranks_first_and_receives_from_near_ranks_first() -> None:
    ops = alltoall.direct_all_to_all(5).ops_of(3)
    assert [op.peer for op in ops if op.kind is Kind.SEND] == [3, 4, 0, 1, 2]
    assert [op.peer for op in ops if op.kind.receives] == [3, 2, 1, 0, 4]


def test_two_steps_cross_hosts_only_between_ranks_of_the_same_place() -> None:
    schedule = alltoall.two_step_all_to_all(12, 4)
    for op in schedule:
        assert op.rank // 4 == op.peer // 4 or op.rank % 4 == op.peer % 4


def test_refused_worlds() -> None:
    for key in HAS_HOSTS:
        with pytest.raises(InputError, match="needs whole hosts, not 6 ranks on hosts of 4; it serves: multiples"):
            build(BY_NAME[key], Request(num_ranks=6, group=4))
    for name in ("torus-2d", "torus-2d-two-way"):
        for prime in (1, 2, 3, 5, 7, 11, 13, 17):
            with pytest.raises(InputError, match=f"two columns, not {prime} ranks; it serves: products"):
                build(get_algorithm("all-reduce", name), Request(num_ranks=prime))


@st.composite
def matrices(draw: st.DrawFn) -> list[list[int]]:
    """Square ones with a positive entry somewhere and many zeros."""
    n = draw(st.integers(1, 9))
    entry = st.one_of(st.just(0), st.integers(0, 50))
    matrix = draw(st.lists(st.lists(entry, min_size=n, max_size=n), min_size=n, max_size=n))
    matrix[draw(st.integers(0, n - 1))][draw(st.integers(0, n - 1))] = draw(st.integers(1, 50))
    return matrix


@settings(max_examples=40, deadline=None)
@given(matrices(), st.sampled_from(["direct", "pairwise"]))
def test_any_matrix(matrix: list[list[int]], algorithm: str) -> None:
    schedule = all_to_all_v(matrix, algorithm)
    verify(schedule)
    sizes = np.diff(schedule.offsets(int(np.sum(matrix))))[: schedule.num_chunks]
    assert sizes.reshape(len(matrix), -1).tolist() == matrix


def test_unfit_matrices() -> None:
    for matrix, rule in (
        ([], "must be square"),
        ([[1, 2]], "must be square"),
        ([[1, 2], [3]], "must be square"),
        ([[1, -2], [3, 4]], "must not be negative"),
        ([[0, 0], [0, 0]], "nor all zero"),
    ):
        with pytest.raises(InputError, match=rule):
            all_to_all_v(matrix)
    with pytest.raises(InputError, match="'bruck' is unknown for all-to-all-v; known: direct, pairwise"):
        all_to_all_v([[1]], "bruck")


@pytest.mark.parametrize("algorithm", ["direct", "pairwise"])
def test_blocks_of_one_size_can_be_sliced_and_unequal_ones_cannot(algorithm: str) -> None:
    verify(build(get_algorithm("all-to-all-v", algorithm), Request(num_ranks=3, slices=2)))
    with pytest.raises(ScheduleError, match="chunks of unequal size cannot be sliced"):
        pipeline(all_to_all_v([[1, 2], [3, 4]], algorithm), 2)


# Hierarchical and torus ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [1, 6])
def test_one_level_is_the_plain_ring(group: int) -> None:
    """As many messages to the same peers, of as many bytes."""
    plain, one_level = ring.ring_all_reduce(6).schedule(), hierarchical.hierarchical_all_reduce(6, group)
    keys = [[(op.step, op.rank, op.kind, op.peer, op.count) for op in schedule] for schedule in (plain, one_level)]
    assert keys[0] == keys[1]


def test_little_leaves_the_host() -> None:
    """Rank-wise 2(h - 1)/n of the buffer: with h = 3 hosts of 4, 4 of 12 chunks."""
    schedule = hierarchical.hierarchical_all_reduce(12, 4)
    leaving = [op for op in schedule.ops_of(5) if op.kind is Kind.SEND and op.peer // 4 != 1]
    assert {op.peer for op in leaving} == {9}
    assert sum(op.count for op in leaving) == 4


@pytest.mark.parametrize(
    ("num_ranks", "shape"), [(1, (1, 1)), (4, (2, 2)), (6, (2, 3)), (7, (1, 7)), (12, (3, 4)), (16, (4, 4))]
)
def test_most_square_shape(num_ranks: int, shape: tuple[int, int]) -> None:
    assert torus_shape(num_ranks) == shape
    assert prod(shape) == num_ranks


def test_torus_messages_go_to_neighbours() -> None:
    """On 3 x 4: one to the right or one down, wrapping."""
    for op in torus.two_way_torus_all_reduce(12):
        if op.kind is Kind.SEND:
            (row, column), (to_row, to_column) = divmod(op.rank, 4), divmod(op.peer, 4)
            assert ((to_row - row) % 3, (to_column - column) % 4) in {(0, 1), (1, 0)}


def test_two_ways_use_both_dimensions_from_the_first_step() -> None:
    first = [op for op in torus.two_way_torus_all_reduce(16).ops_of(0) if op.step == 0 and op.kind is Kind.SEND]
    assert [(op.channel, op.peer) for op in first] == [(0, 1), (1, 4)]


# PAT ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_ranks", WORLDS)
def test_pat_with_any_aggregation(num_ranks: int) -> None:
    for aggregation in (1, 2, 3, 4, 8, 100):
        for schedule in (pat_all_gather(num_ranks, aggregation), pat_reduce_scatter(num_ranks, aggregation)):
            verify(schedule)
            sends = [op for op in schedule.ops_of(0) if op.kind is Kind.SEND and op.peer != 0]
            assert all(op.count <= aggregation for op in sends)
            assert len({op.step for op in sends}) == len(sends)  # one message per round
            assert sum(op.count for op in sends) == num_ranks - 1


@pytest.mark.parametrize(("aggregation", "rounds"), [(1, 15), (2, 8), (3, 8), (4, 5), (8, 4), (None, 4)])
def test_pat_rounds_on_16_ranks(aggregation: int | None, rounds: int) -> None:
    """log2 A + 16/A - 1, with A rounded down to a power of two: 0 + 15, 1 + 7, 2 + 3, 3 + 1."""
    assert traffic(pat_all_gather(16, aggregation))[0] == rounds
    assert traffic(pat_reduce_scatter(16, aggregation))[0] == rounds


def test_pat_sends_least_over_the_farthest_distance() -> None:
    gathering = [(-op.peer % 16, op.count) for op in pat_all_gather(16).ops_of(0) if op.kind is Kind.SEND and op.peer]
    scattering = [(op.peer, op.count) for op in pat_reduce_scatter(16).ops_of(0) if op.kind is Kind.SEND and op.peer]
    assert gathering == [(8, 1), (4, 2), (2, 4), (1, 8)]
    assert scattering == gathering[::-1]


# In the switch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_ranks", [2, 5, 8])
def test_nvls_amounts(num_ranks: int) -> None:
    """(1 + 1/n) S leaves every rank and (1 + 1/n) S arrives: n + 1 of n chunks; the switch multicasts n (n + 1)."""
    schedule = in_switch.nvls_all_reduce(num_ranks)
    for rank in range(num_ranks):
        ops = schedule.ops_of(rank)
        assert sum(op.count for op in ops if op.kind is Kind.SEND) == num_ranks + 1
        assert sum(op.count for op in ops if op.kind.receives) == num_ranks + 1
    assert busiest_share(schedule) == pytest.approx(1 + 1 / num_ranks, rel=1e-9)  # (n + 1) of n slices


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if not a.live], ids=lambda a: a.name)
def test_every_input_must_reach_the_switch(algorithm: Algorithm) -> None:
    """Without the last rank's data the sum is refused, though nothing waits."""
    schedule = algorithm.build(Request(num_ranks=4))
    kept = [op for op in schedule if not (op.step == 0 and 3 in (op.rank, op.peer))]
    short = Schedule.from_ops("all-reduce", "short", 4, schedule.num_chunks, kept, num_switches=1)
    with pytest.raises(ScheduleError, match=r"without rank 3's chunk 0"):
        verify(short)


@pytest.mark.parametrize("slices", [4, 16, 64])
def test_nvls_time(slices: int) -> None:
    """On 450 GB/s ports with 0.25 us to the switch; towards (1 + 1/n) S / 450 GB/s as slices grow.

    With S the buffer and k > 2 slices: k + 3 steps of S/k over the port, and the latency. In k - 1 of them, from the
    third to the third last, a head's S/(nk) goes over the busier direction too.
    """
    size, port, n = 2**30, 450e9, 8
    expected = ((slices + 3) + (slices - 1) / n) * size / slices / port + (slices + 3) * 0.25e-6
    simulation = simulate_collective(load_fabric("dgx-h100"), "all-reduce", "nvls", size, slices=slices)
    assert simulation.record.time_s == pytest.approx(expected, rel=1e-7)
    assert simulation.record.time_s > (1 + 1 / n) * size / port


@pytest.mark.parametrize("slices", [1, 4, 16])
def test_sharp_time(slices: int) -> None:
    """k + 1 steps of S/k over a port of 12.5 GB/s, each 1 us away from the switch."""
    expected = (slices + 1) * 2**30 / slices / 12.5e9 + (slices + 1) * 1e-6
    simulation = simulate_collective(load_fabric("star-8"), "all-reduce", "sharp", 2**30, slices=slices)
    assert simulation.record.time_s == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("topology", "ranks", "said"),
    [
        ("dgx-h100", 8, "on one host of dgx-h100: nvls adds in its NVSwitch"),
        ("dgx-h100-x2", 16, "no leaf of dgx-h100-x2 joins all 16 ranks"),
        ("fat-tree-16", 5, "no leaf of fat-tree-16 joins all 5 ranks"),
        ("fat-tree-131072", None, "no leaf of fat-tree-131072 joins all 131072 ranks"),
    ],
)
def test_sharp_is_refused_where_no_leaf_joins_the_hosts(topology: str, ranks: int | None, said: str) -> None:
    with pytest.raises(InputError, match=f"sharp adds in one InfiniBand leaf .*{said}"):
        simulate_collective(load_fabric(topology), "all-reduce", "sharp", 2**20, num_ranks=ranks, keep_trace=False)


def test_sharp_adds_in_the_leaf_that_the_ranks_hang_on(tmp_path: Path) -> None:
    """The second leaf is as near to its own ranks as the first is to its."""
    (tmp_path / "second").write_text("h4\nh5\nh6\nh7\n")
    fabric = load_fabric("fat-tree-16")
    times = [
        simulate_collective(fabric, "all-reduce", "sharp", 2**20, num_ranks=4, placement=place).record.time_s
        for place in ("linear", str(tmp_path / "second"))
    ]
    assert times[0] == times[1]


def test_a_crossover_names_no_algorithm_for_what_is_not_there() -> None:
    inside, across = (
        crossover(load_fabric(name), "all-reduce", ranks=[8], sizes_bytes=[2**20], algorithms=["sharp", "nvls"])[0]
        for name in ("dgx-h100", "star-8")
    )
    assert (list(inside.times_s), list(across.times_s)) == (["nvls"], ["sharp"])
