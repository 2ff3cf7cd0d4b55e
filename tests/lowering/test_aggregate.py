# SPDX-License-Identifier: Apache-2.0
"""Communications as aggregate flows: each group by itself, groups that sit differently, all together, what is even."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.cluster import Cluster, make_cluster, place
from commbench.errors import InputError
from commbench.libraries.base import Layout, Library
from commbench.libraries.ideal import Ideal
from commbench.lowering.aggregate import GroupFlows, aggregate, layouts_of, together
from commbench.lowering.choose import Choices
from commbench.lowering.placing import processors_of
from commbench.lowering.symmetry import kinds_of_links, positions
from commbench.program.operations import Collective, ProgramBuilder, Transfer
from commbench.routing.router import Router
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from tests.cases import US, leaf_spine, shared_link, star
from tests.programs import RING, all_reduce, cluster_of, run

SIZE = 8 * 10**6
AS_THEY_SIT = replace(RING, channels=None)
HOSTS = load_fabric("dgx-h100-x4")  # 4 hosts of 8


def flows_of(cluster: Cluster, *groups: Sequence[int], library: Library = RING, size: int = SIZE) -> GroupFlows:
    """An all-reduce of bytes."""
    what = all_reduce(*groups, num_elements=size, element_bytes=1)
    return aggregate(what, cluster, Choices(library, "here"), processors_of(cluster.fabric, cluster.placed))


@pytest.mark.parametrize("rate", [12.5e9, 1e9])
def test_a_ring_on_a_star_by_hand(rate: float) -> None:
    """8 ranks: 14 steps of a chunk of S/8 on every link, of which 7 add; 2 us and 2 messages of 3 ps each a step.

    So the flow carries 14 chunks at the rate of a link, and every link 14 chunks, a transfer at a time.
    """
    fabric = star(8, bandwidth=rate, latency_ps=US, overhead_ps=3, reduction_ps_per_byte=0.5)
    one = together(flows_of(cluster_of(fabric), range(8)))
    assert one.chain_ps == 14 * (2 * US + 2 * 3) + 7 * SIZE // 8 // 2
    assert (one.num_bytes, one.own_bandwidth) == (14 * SIZE // 8, pytest.approx(rate, rel=1e-12))
    assert one.link.tolist() == list(range(16))
    assert one.weights.tolist() == [1.0] * 16
    assert one.loads.tolist() == [14 * SIZE / 8] * 16
    assert one.transfers == 8 * 14


def test_a_group_on_hosts_sends_its_bytes_over_the_links_of_its_ranks() -> None:
    fabric = load_fabric("dgx-h100-x2")
    one = together(flows_of(cluster_of(fabric), range(8)))
    carried = one.loads[np.isin(one.link, [link.index for link in fabric.links if link.src in fabric.ranks[:8]])]
    assert carried.sum() == pytest.approx(8 * SIZE * 2 * 7 / 8)


def test_groups_add_up_and_the_slowest_sets_the_pace() -> None:
    """One group on a side of a thin link pair with latency, one across it: the latter is slower in both respects."""
    found = flows_of(cluster_of(shared_link(3, bandwidth=1e9, latency_ps=US)), (0, 1), (2, 3))
    assert found.chain_ps.tolist() == [0, 2 * US]
    assert found.own_bandwidth.tolist() == [1e12, 1e9]
    flow = together(found)
    assert (flow.chain_ps, flow.own_bandwidth) == (2 * US, 1e9)
    assert flow.loads.sum() == found.loads.sum()
    assert set(flow.link) == set(found.link)


def test_groups_that_carry_different_bytes_are_joined_at_one_pace() -> None:
    """By hand: one carries 10 bytes, the other 40 on a link of its own and on the first's; both last 1 s alone.

    At the pace of the first, 10 bytes/s, the second sends 40 bytes/s: its weights count four times, its own bandwidth
    of 80 bytes/s is one of 20.
    """
    flow = together(
        GroupFlows(
            chain_ps=np.array([3, 2]),
            num_bytes=np.array([10, 40]),
            own_bandwidth=np.array([30.0, 80.0]),
            transfers=np.array([1, 5]),
            group=np.array([0, 1, 1]),
            link=np.array([0, 0, 1]),
            weights=np.array([1.0, 0.5, 2.0]),
            loads=np.array([10.0, 20.0, 80.0]),
        )
    )
    assert (flow.chain_ps, flow.num_bytes, flow.own_bandwidth, flow.transfers) == (3, 10, 20.0, 6)
    assert (flow.link.tolist(), flow.weights.tolist(), flow.loads.tolist()) == ([0, 1], [3.0, 8.0], [30.0, 80.0])


def test_a_transfer_is_a_message_of_the_first_to_the_second() -> None:
    what = Transfer(np.array([[1, 0], [2, 3]]), 77)
    cluster = cluster_of(star(4))
    found = aggregate(what, cluster, Choices(RING, "star"), processors_of(cluster.fabric, cluster.placed))
    assert list(zip(found.group.tolist(), found.link.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 4), (1, 7)]
    assert set(found.loads.tolist()) == {77.0}
    assert found.chain_ps.tolist() == [2 * US, 2 * US]


# How groups sit ---------------------------------------------------------------------------------------------------


def by_hand(cluster: Cluster, ranks: Sequence[int]) -> tuple[int, ...]:
    """Hosts numbered in the order in which they come."""
    number: dict[int, int] = {}
    return tuple(number.setdefault(int(cluster.hosts[rank]), len(number)) for rank in ranks)


@given(
    members=st.integers(1, 9),
    groups=st.lists(st.randoms(use_true_random=False), min_size=1, max_size=12),
    seed=st.integers(0, 5),
    tree=st.booleans(),
)
def test_layouts_are_those_of_each_group_by_itself(members: int, groups: list, seed: int, tree: bool) -> None:
    """On hosts of 8, and on a tree in closed form, with ranks anywhere."""
    fabric = load_fabric("fat-tree-64") if tree else HOSTS
    cluster = make_cluster(fabric, num_ranks=32, placement="random", seed=seed)
    rows = np.array([random.sample(range(32), members) for random in groups])
    numbers, layouts = layouts_of(rows, cluster)
    assert [layouts[number].hosts for number in numbers] == [by_hand(cluster, row) for row in rows.tolist()]
    assert len(set(layouts)) == len(layouts) == len(set(numbers.tolist()))


def test_direct_links_are_part_of_a_layout() -> None:
    """On a DGX-1 some ranks of a host are joined directly and some are not."""
    cluster = cluster_of(load_fabric("dgx-v100"))
    numbers, layouts = layouts_of(np.array([[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 6, 7]]), cluster)
    for number, ranks in zip(numbers.tolist(), ([0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 6, 7]), strict=True):
        assert layouts[number] == Layout((0, 0, 0, 0), cluster.ways_of(np.array(ranks)))
    assert layouts[numbers[0]].ways
    assert numbers[0] == numbers[1] != numbers[2]


def channels_of(cluster: Cluster, group: Sequence[int]) -> int:
    (layout,) = layouts_of(np.array([group]), cluster)[1]
    return Choices(AS_THEY_SIT, "here").of(all_reduce(group, num_elements=SIZE), layout).choice.request.channels


def test_every_group_gets_the_channels_of_its_own_layout() -> None:
    """tp 3 and dp 4 on hosts of 8: ranks 2 and 5 share a host, 8 and 11 the next; of the others three do."""
    cluster = cluster_of(HOSTS, 12)
    assert [channels_of(cluster, group) for group in ((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11))] == [3, 3, 2]


@pytest.mark.parametrize("groups", [((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11)), ((2, 10), (0, 1), (3, 11), (4, 5))])
def test_groups_of_several_layouts_go_each_as_it_would_alone(groups: tuple[tuple[int, ...], ...]) -> None:
    """In their order, whatever that of the layouts is."""
    cluster = cluster_of(HOSTS)
    whole = flows_of(cluster, *groups, library=AS_THEY_SIT)
    for number, group in enumerate(groups):
        alone = flows_of(cluster, group, library=AS_THEY_SIT)
        mine = whole.group == number
        assert whole.link[mine].tolist() == alone.link.tolist()
        assert whole.loads[mine].tolist() == alone.loads.tolist()
        assert whole.weights[mine].tolist() == alone.weights.tolist()
        for column in ("chain_ps", "num_bytes", "own_bandwidth", "transfers"):
            assert getattr(whole, column)[number] == getattr(alone, column)[0], column
    assert (np.diff(whole.group) >= 0).all()


def test_channels_go_by_where_ranks_really_sit() -> None:
    """At random, neighbours are on different hosts: as many channels as share the fullest host, whoever they are."""
    placed = place(HOSTS, 32, "random", 3)
    cluster = Cluster(fabric=HOSTS, router=Router(HOSTS), placed=placed)
    group = range(8)
    fullest = max(np.bincount(placed[:8] // 8).tolist())
    assert channels_of(cluster_of(HOSTS), group) == 1
    assert 1 < fullest < 8
    assert channels_of(cluster, group) == fullest


@pytest.mark.parametrize("collective", ["reduce-scatter", "all-gather", "all-reduce"])
def test_rings_of_several_hosts_have_a_channel_per_rank_on_a_host(collective: str) -> None:
    """On 2 hosts each of 4 channels leaves a host by another rank; bytes are those of the formula, halves add once."""
    library = Ideal(algorithms={collective: "ring"}, channels=None)
    what = Collective(collective, np.array([[0, 1, 2, 3, 8, 9, 10, 11]]), 8000, 1)
    chosen = Choices(library, "here").of(what, layouts_of(what.groups, cluster_of(HOSTS))[1][0])
    leaving, total = set(), 0.0
    for step in chosen.traffic:
        crosses = step.src // 4 != step.dst // 4
        leaving |= set(zip(step.channel[crosses].tolist(), step.src[crosses].tolist(), strict=True))
        total += step.times * step.num_bytes.sum()
        if collective != "all-reduce":
            assert step.adds.all() if collective == "reduce-scatter" else not step.adds.any()
    assert len(leaving) == 8
    assert {rank for _, rank in leaving} == set(range(8))
    assert total == 8 * 8000 * 7 / 8 * (2 if collective == "all-reduce" else 1)
    one_host = Choices(library, "here").of(what, Layout((0,) * 8))
    assert {int(channel) for step in one_host.traffic for channel in step.channel} == {0}


def test_a_collective_without_an_algorithm_and_one_of_switches_are_refused() -> None:
    cluster = cluster_of(star(4))
    with pytest.raises(InputError, match="library ideal: no algorithm is named for all-to-all"):
        aggregate(
            Collective("all-to-all", np.array([[0, 1]]), 64, 1), cluster, Choices(RING, "star"),
            processors_of(cluster.fabric, cluster.placed),
        )  # fmt: skip
    with pytest.raises(InputError, match="switches that add need --detail transfer"):
        flows_of(cluster, range(4), library=Ideal(algorithms={"all-reduce": "sharp"}))


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_half_a_picosecond_is_rounded_up_in_either_detail(engine: str) -> None:
    """1 byte added at 0.5 ps per byte behind 2 us of latency each way: floor(0.5 + 0.5) is one picosecond in both."""
    fabric = star(2, bandwidth=1e24, reduction_ps_per_byte=0.5)
    ends = set()
    for detail in ("transfer", "collective"):
        build = ProgramBuilder(2)
        build.communicate(Collective("reduce", np.array([[0, 1]]), 1, 1))
        library = Ideal(algorithms={"reduce": "binomial"})
        ends.add(run(build, fabric, library, detail=detail, engine=engine).finish_ps)
    assert ends == {2 * US + 1}


# What is even -----------------------------------------------------------------------------------------------------


def uneven_of(flows: list[GroupFlows], fabric: Fabric, marks: npt.NDArray[np.int64] | None = None) -> list[int]:
    """Numbers of the communications whose groups are in several classes."""
    classes = positions(flows, fabric.bandwidths, kinds=kinds_of_links(fabric), marks=marks)
    return [number for number, found in enumerate(classes) if found.max()]


@pytest.mark.parametrize(
    ("groups", "uneven"),
    [
        ([[(0, 1, 2, 3), (4, 5, 6, 7)]], []),  # a group per leaf
        ([[(0, 1, 2), (3, 4, 5)]], [0]),  # the second lies on both leaves
        ([[(0, 1), (2, 3), (4, 5), (6, 7)]], []),
        ([[(0, 1), (2, 3)], [(0, 2)]], []),  # the second communication touches each group of the first once
        ([[(0, 1), (2, 3)], [(0, 1)]], [0]),  # here it touches the first only
    ],
)
def test_what_is_symmetric(groups: list[list[tuple[int, ...]]], uneven: list[int]) -> None:
    fabric = leaf_spine(8, hosts_per_leaf=4, spines=4)
    assert uneven_of([flows_of(cluster_of(fabric), *each) for each in groups], fabric) == uneven


def test_a_link_that_will_change_is_not_like_the_others() -> None:
    fabric = star(4)
    flows = [flows_of(cluster_of(fabric), (0, 1), (2, 3))]
    marks = np.zeros(8, dtype=np.int64)
    assert uneven_of(flows, fabric, marks) == []
    marks[2] = 1
    assert uneven_of(flows, fabric, marks) == [0]
