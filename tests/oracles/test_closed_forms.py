# SPDX-License-Identifier: Apache-2.0
"""Simulated times against arithmetic, in whole picoseconds.

On an ideal switch every rank has its own link each way, so in a ring no two transfers share one. By SEMANTICS.md, if
all ranks are ready at t with idle message engines, a transfer of c bytes is posted at t + o, enters at t + o + alpha
(alpha: the two links' latencies), has passed c/B later, and is handled by the receiver for o: the engine has been
idle since t + o. So a step takes 2o + alpha + c/B, and, if it adds, c x rho more at its end.
"""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from commbench.cluster import place
from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.verify import verify
from commbench.errors import InputError
from commbench.network.bounds import lower_bound_s
from commbench.program.operations import ProgramBuilder
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from tests.cases import MIB, US, leaf_spine, shared_link, simulate_collective, star
from tests.programs import all_reduce, run

# Picoseconds per byte: exact for these bandwidths.
PS_PER_BYTE = {12.5e9: 80, 1e9: 1000, 50e9: 20}


def finish_ps(topology: Fabric, algorithm: str | Schedule, size: int, **options) -> int:
    return simulate_collective(topology, "all-reduce", algorithm, size, **options).trace.finish_ps


@pytest.mark.parametrize("bandwidth", PS_PER_BYTE)
@pytest.mark.parametrize("n", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("elements_per_chunk", [1, 1000, 65536])
def test_ring_on_an_ideal_switch(n: int, bandwidth: float, elements_per_chunk: int) -> None:
    """2(n-1) steps of alpha + S/n/B, with alpha = 2 links x 1 us."""
    size = 4 * elements_per_chunk * n
    chunk_ps = size // n * PS_PER_BYTE[bandwidth]
    result = simulate_collective(star(n, bandwidth=bandwidth), "all-reduce", "ring", size)
    assert result.trace.finish_ps == 2 * (n - 1) * (2 * US + chunk_ps)
    assert result.record.transfers == 2 * n * (n - 1)
    # In each step all flows come in one instant and go in another.
    assert result.trace.num_shares == 2 * 2 * (n - 1)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_ring_with_reductions(n: int) -> None:
    """The first n - 1 steps add a chunk of 1000 elements: 4000 B x 2.5 ps/B = 10,000 ps each."""
    topology = star(n, reduction_ps_per_byte=2.5)
    expected = 2 * (n - 1) * (2 * US + 4000 * 80) + (n - 1) * 10_000
    assert finish_ps(topology, "ring", 4000 * n) == expected


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_ring_with_message_overhead(n: int) -> None:
    """2(n-1)(2o + alpha + c/B) with o = 7 us, and reductions on top."""
    topology = star(n, overhead_ps=7 * US, reduction_ps_per_byte=2.5)
    expected = 2 * (n - 1) * (2 * 7 * US + 2 * US + 4000 * 80) + (n - 1) * 10_000
    assert finish_ps(topology, "ring", 4000 * n) == expected


def test_ring_in_slices() -> None:
    """Two ranks, two slices, q = S/4. The pipeline of T = 2 steps has 3; in the middle one both slices are on the way.

    Slice 0 goes in step 0; slice 0 back and slice 1 out share each rank's link in step 1; slice 1 back in step 2:
    3 alpha + (1 + 2 + 1) q/B.
    """
    q = 4000
    assert finish_ps(star(2), "ring", 4 * q, slices=2) == 3 * 2 * US + 4 * q * 80


def test_tree_on_two_ranks() -> None:
    """Each tree is one edge, up then down, and the two trees run the opposite way: 2 (alpha + h/B), h = S/2."""
    assert finish_ps(star(2), "tree", 8000, slices=1) == 2 * (2 * US + 4000 * 80)


def test_tree_on_two_ranks_with_costs() -> None:
    """Up: 2o + alpha + h/B and the addition h x rho. Down: 2o + alpha + h/B.

    Both ranks post one message at t and handle the other's when it comes: no engine is ever asked twice at once.
    """
    topology = star(2, overhead_ps=3 * US, reduction_ps_per_byte=2.5)
    expected = 2 * (2 * 3 * US + 2 * US + 4000 * 80) + 10_000
    assert finish_ps(topology, "tree", 8000, slices=1) == expected


def test_tree_on_three_ranks() -> None:
    """Tree 0 is the chain 1 > 2 > 0, tree 1 the chain 2 > 0 > 1: two steps up, two down.

    Step by step the two trees use: up-links of 1 and 2; of 2 and 0; of 0 and 1; of 2 and 0. Never one twice, nor a
    down-link: 4 (alpha + h/B).
    """
    assert finish_ps(star(3), "tree", 8000, slices=1) == 4 * (2 * US + 4000 * 80)


def test_tree_on_four_ranks() -> None:
    """Tree 0: 1 and 3 under 2, 2 under 0. Tree 1: 0 and 2 under 1, 1 under 3.

    Step 0: 1 and 3 send to 2, which has one down-link: 2h/B; in tree 1 the same at rank 1. Step 1: 2 > 0 and 1 > 3
    alone: h/B. Steps 2 and 3 are the way back: h/B, then 2h/B, now shared on the up-link. 4 alpha + 6 h/B.
    """
    assert finish_ps(star(4), "tree", 8000, slices=1) == 4 * 2 * US + 6 * 4000 * 80


def test_two_transfers_over_one_link() -> None:
    """12,500 B each over 1 GB/s: alone 12.5 us, together 25 us; a third the other way does not notice."""
    topology = shared_link(2, bandwidth=1e9, latency_ps=3 * US)
    together = ProgramBuilder(4)
    for src, dst in [(0, 2), (1, 3), (3, 0)]:
        together.transfer(src, dst, 12_500, stream=str(src))
    assert run(together, topology).ends_ps().tolist() == [28 * US, 28 * US, 3 * US + 12_500_000]


def test_a_program_on_streams() -> None:
    """Rank 0 computes 5 us, rank 1 9 us; then both all-reduce 8000 B on a star; then rank 0 computes 1 us.

    Beside it, on another stream, rank 0 computes 30 us. The all-reduce starts at 9 us and takes
    2 x (2 us + 4000 x 80 ps) = 4.64 us: 9 + 4.64 + 1 = 14.64 us on the main stream.
    """
    build = ProgramBuilder(2)
    build.compute(0, 5 * US)
    build.compute(1, 9 * US)
    build.communicate(all_reduce((0, 1), num_elements=2000), stream="compute")
    build.compute(0, US)
    build.compute(0, 30 * US, stream="side")
    ends = run(build, star(2)).ends_ps()
    assert ends[3] == 14_640_000
    assert ends[4] == 30 * US


# Fat trees, against SimGrid ---------------------------------------------------------------------------------

# Ranks; microseconds as SimGrid 3.32 printed them (raw model, two-level fat tree, d-mod-k, 1 us and 100 Gbit/s a
# link); shares computed by this engine: exact, so that a change of the event order shows.
FAT_TREES = [(16, "10186.330", 149), (64, "11073.646", 876), (128, "11669.532", 2766), (256, "12735.475", 5582)]


@pytest.mark.parametrize(("n", "printed_us", "num_shares"), FAT_TREES)
def test_fat_trees_agree_with_simgrid(n: int, printed_us: str, num_shares: int) -> None:
    """Ring all-reduce of 64 MiB. The slowest hop has four links: 2(n-1) (S/n/12.5e9 + 4 us), in ps 80 S/n + 4e6."""
    result = simulate_collective(load_fabric(f"fat-tree-{n}"), "all-reduce", "ring", 64 * MIB)
    assert f"{result.trace.finish_ps / US:.3f}" == printed_us
    assert result.trace.finish_ps == 2 * (n - 1) * (64 * MIB // n * 80 + 4 * US)
    assert result.record.transfers == 2 * n * (n - 1)
    assert result.trace.num_shares == num_shares


# Bounds -----------------------------------------------------------------------------------------------------------

TOPOLOGIES = [
    star(2),
    star(3, latency_ps=0),
    star(5, overhead_ps=2 * US),
    star(8, reduction_ps_per_byte=3.0),
    leaf_spine(8, hosts_per_leaf=4, spines=4),
    leaf_spine(8, hosts_per_leaf=4, spines=1),
    shared_link(3, bandwidth=1e9, latency_ps=US),
    load_fabric("dgx-h100-x2"),
    load_fabric("shared-memory-4"),
]


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: f"{t.name}-{t.num_ranks}")
@pytest.mark.parametrize("algorithm", ["ring", "tree"])
@pytest.mark.parametrize("placement", ["linear", "random"])
def test_nothing_is_faster_than_the_lower_bound(topology: Fabric, algorithm: str, placement: str) -> None:
    for size in (4, 100, 4096, MIB + 4):
        for slices in (1, 3):
            record = simulate_collective(
                topology, "all-reduce", algorithm, size, slices=slices, placement=placement, seed=3
            ).record
            # Every step rounds to whole picoseconds, at most half of one down.
            steps = build_schedule("all-reduce", algorithm, topology.num_ranks, slices).num_steps
            assert 0 < record.lower_bound_s <= record.time_s + 0.5e-12 * steps


def direct_exchange(n: int) -> Schedule:
    """Everybody sends everything to everybody at once."""
    ops = [
        Op(0, rank, 0, kind, peer, 0)
        for rank in range(n)
        for peer in range(n)
        if peer != rank
        for kind in (Kind.SEND, Kind.REDUCE)
    ]
    return Schedule.from_ops("all-reduce", "direct", n, 1, ops)


def test_a_direct_exchange_beats_rounds_but_not_the_bound() -> None:
    """8 ranks, 4 B: one step of 2 us + 7 x 4 B x 80 ps. log2(8) = 3 rounds are no bound for that."""
    verify(direct_exchange(8))
    record = simulate_collective(star(8), "all-reduce", direct_exchange(8), 4).record
    assert record.time_s == pytest.approx(2e-6 + 7 * 4 * 80e-12, rel=1e-12)
    assert record.lower_bound_s == 2e-6


def test_a_slow_rank_may_send_less_than_the_others() -> None:
    """Rank 0's up-link is 100 times slower. Gathered at rank 1 and sent back, it sends one buffer, not 4/3 of it."""
    fast = star(3, latency_ps=0)
    topology = replace(fast, bandwidths=fast.bandwidths / np.where(np.arange(fast.num_links) == 0, 100, 1))
    ops = []
    for leaf in (0, 2):
        ops += [Op(0, leaf, 0, Kind.SEND, 1, 0), Op(0, 1, 0, Kind.REDUCE, leaf, 0)]
        ops += [Op(1, 1, 0, Kind.SEND, leaf, 0), Op(1, leaf, 0, Kind.RECV, 1, 0)]
    gather = Schedule.from_ops("all-reduce", "gather", 3, 1, ops)
    verify(gather)
    record = simulate_collective(topology, "all-reduce", gather, 8000).record
    assert record.time_s == pytest.approx(8000 * 80e-12 * (100 + 2), rel=1e-12)
    assert record.lower_bound_s == pytest.approx(8000 * 80e-12 * 100, rel=1e-12)


def test_the_bound_is_reached() -> None:
    """Without latency the ring is as fast as any all-reduce can be: 2(n-1)/n S/B."""
    record = simulate_collective(star(4, latency_ps=0), "all-reduce", "ring", 4 * MIB).record
    assert record.time_s == record.lower_bound_s


def test_bounds_of_one_rank_and_of_the_unknown() -> None:
    topology = star(2)
    assert lower_bound_s("all-reduce", topology, [0], 100) == 0.0
    with pytest.raises(InputError, match="no lower bound is known for all-sing"):
        lower_bound_s("all-sing", topology, [0, 1], 100)


# One front door ----------------------------------------------------------------------------------------------------


def test_two_runs_are_the_same() -> None:
    topology = leaf_spine(16, hosts_per_leaf=4, spines=4)
    options = {"slices": 3, "routing": "ecmp", "placement": "random", "seed": 11}
    first, second = (simulate_collective(topology, "all-reduce", "tree", 99_996, **options) for _ in range(2))
    assert np.array_equal(first.trace.start_ps, second.trace.start_ps)
    assert np.array_equal(first.trace.end_ps, second.trace.end_ps)
    assert first.trace.num_shares == second.trace.num_shares


def test_placement() -> None:
    topology = star(16)
    assert place(topology, 5, "linear", 9).tolist() == [0, 1, 2, 3, 4]
    drawn = place(topology, 16, "random", 1).tolist()
    assert drawn == list(random.Random(1).sample(range(16), 16))
    assert drawn == place(topology, 16, "random", 1).tolist() != place(topology, 16, "random", 2).tolist()
    assert sorted(drawn) == list(range(16))


def test_placement_changes_the_time() -> None:
    """In order, one flow goes up from each leaf, as in fat-tree-16. At random, and hashed, some share a link."""
    topology = leaf_spine(16, hosts_per_leaf=4, spines=4)
    in_order = 2 * 15 * (MIB // 16 * 80 + 4 * US)
    assert finish_ps(topology, "ring", MIB) == in_order
    assert finish_ps(topology, "ring", MIB, placement="random", seed=1, routing="ecmp") > in_order


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_ranks": 5}, "5 ranks on topology star: it has 4 endpoints, give 1 to that many"),
        ({"num_ranks": 0}, "0 ranks on topology star: it has 4 endpoints, give 1 to that many"),
        ({"placement": "best"}, "placement 'best' is unknown; known: linear, random, round-robin, "
            "or a host file's path"),
        ({"element_bytes": 8}, "size 4 B is smaller than one element of 8 B"),
    ],
)
def test_bad_input(options: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        simulate_collective(star(4), "all-reduce", "ring", 4, **options)
    assert str(error.value) == message


@pytest.mark.parametrize("collective", ["all-gather", "reduce-scatter", "all-to-all", "barrier"])
def test_no_ranks_are_refused_by_every_collective(collective: str) -> None:
    """Those whose size is in blocks of ranks too."""
    with pytest.raises(InputError, match="0 ranks on topology star: it has 4 endpoints, give 1 to that many"):
        simulate_collective(star(4), collective, "direct", 4, num_ranks=0)


@pytest.mark.parametrize("given", [{"slices": 4}, {"channels": 8}, {"slices": 1}])
def test_a_schedule_has_its_own_steps_and_channels(given: dict[str, int]) -> None:
    with pytest.raises(InputError, match="schedule direct has its own steps and channels: give no --slices"):
        simulate_collective(star(4), "all-reduce", direct_exchange(4), 4, **given)


def test_a_schedule_for_another_world() -> None:
    with pytest.raises(InputError, match="schedule direct is for 3 ranks, not 4"):
        simulate_collective(star(4), "all-reduce", direct_exchange(3), 4)


def test_one_rank_takes_no_time() -> None:
    record = simulate_collective(star(4), "all-reduce", "ring", 4, num_ranks=1).record
    assert (record.time_s, record.lower_bound_s, record.transfers) == (0.0, 0.0, 0)


def test_the_size_is_rounded_down_to_whole_elements() -> None:
    assert simulate_collective(star(2), "all-reduce", "ring", 11).record.size_bytes == 8


@pytest.mark.parametrize("algorithm", ["ring", "tree"])
def test_more_bytes_never_take_less_time(algorithm: str) -> None:
    sizes = (4, 40, 400, 4000, 40_000)
    times = [finish_ps(star(5), algorithm, size) for size in sizes]
    assert all(a < b for a, b in pairwise(times))
