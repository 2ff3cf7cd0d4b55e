# SPDX-License-Identifier: Apache-2.0
"""Which way flows go, and what it does to their times: ECMP and its collisions, d-mod-k, rail-aware, errors."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from commbench.errors import RoutingError
from commbench.program.operations import ProgramBuilder
from commbench.routing.policies import POLICIES
from commbench.routing.router import Router
from commbench.routing.routes import route_latencies_ps
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from tests.cases import US, leaf_spine, shared_link, simulate_collective, star
from tests.programs import run

EIGHT = leaf_spine(8, hosts_per_leaf=4, spines=4)
SIXTEEN = leaf_spine(16, hosts_per_leaf=4, spines=4)
PAIRS = [(i, i + 4) for i in range(4)]  # from the first leaf to the second


def spines(topology: Fabric, policy: str, seed: int = 0, channel: int = 0) -> list[str]:
    """The spine that each of PAIRS crosses: cpu, nic, leaf, SPINE, leaf, nic, cpu."""
    router = Router(topology, policy, seed)
    return [router.path(src, dst, channel)[3] for src, dst in PAIRS]


def times_ps(topology: Fabric, policy: str, seed: int, pairs: list[tuple[int, int]], num_bytes: int) -> list[int]:
    """End of each of several transfers that start together."""
    build = ProgramBuilder(topology.num_ranks)
    for src, dst in pairs:
        build.transfer(src, dst, num_bytes)
    return run(build, topology, router=Router(topology, policy, seed)).ends_ps().tolist()


def test_ecmp_is_seeded() -> None:
    assert spines(EIGHT, "ecmp", seed=7) == spines(EIGHT, "ecmp", seed=7)
    assert len({tuple(spines(EIGHT, "ecmp", seed)) for seed in range(20)}) > 10


def test_ecmp_may_take_another_way_on_another_channel() -> None:
    assert len({tuple(spines(EIGHT, "ecmp", 0, channel)) for channel in range(20)}) > 10


def test_ecmp_does_not_depend_on_what_was_asked_before() -> None:
    forward, backward = Router(EIGHT, "ecmp", 3), Router(EIGHT, "ecmp", 3)
    there = [forward.route(src, dst) for src, dst in PAIRS]
    back = [backward.route(src, dst) for src, dst in reversed(PAIRS)]
    assert there == back[::-1]


def test_ecmp_collides() -> None:
    """Four flows on four of four spines is a draw with a chance of 4!/4^4 = 9 %: most seeds collide, some do not."""
    free = [seed for seed in range(100) if len(set(spines(EIGHT, "ecmp", seed))) == 4]
    assert 0 < len(free) < 30


def test_two_flows_over_one_spine_get_half() -> None:
    """12,500 B at 12.5 GB/s take 1 us; four links of 1 us come first. Over one spine both take 2 us instead."""
    pairs = PAIRS[:2]
    for seed in range(20):
        first, second = spines(EIGHT, "ecmp", seed)[:2]
        expected = 4 * US + (2 if first == second else 1) * US
        assert times_ps(EIGHT, "ecmp", seed, pairs, 12_500) == [expected] * 2
    assert {spines(EIGHT, "ecmp", s)[0] == spines(EIGHT, "ecmp", s)[1] for s in range(20)} == {True, False}


@pytest.mark.parametrize("shift", range(1, 16))
def test_d_mod_k_has_no_collisions_on_shifts(shift: int) -> None:
    """Every rank sends to the rank ``shift`` further: no link carries two flows (Zahavi 2012)."""
    router = Router(SIXTEEN, "d-mod-k")
    load = Counter(link for src in range(16) for link in router.route(src, (src + shift) % 16))
    assert set(load.values()) == {1}


def test_d_mod_k_chooses_the_spine_by_destination() -> None:
    assert spines(EIGHT, "d-mod-k") == ["spine0", "spine1", "spine2", "spine3"]
    assert spines(EIGHT, "d-mod-k", seed=5) == spines(EIGHT, "d-mod-k", seed=6)


def test_from_a_rank_to_itself_there_is_no_link() -> None:
    assert Router(EIGHT).route(2, 2) == ()
    assert Router(EIGHT).path(2, 2) == ["h2/cpu0"]


def test_below_one_leaf_nothing_goes_up() -> None:
    assert Router(EIGHT, "ecmp").path(0, 3) == ["h0/cpu0", "h0/nic0", "leaf0", "h3/nic0", "h3/cpu0"]


def test_latency_of_a_route() -> None:
    latencies = route_latencies_ps(EIGHT, *Router(EIGHT, "d-mod-k").routes([0, 0], [4, 1]))
    assert latencies.tolist() == [4 * US, 2 * US]


def test_rail_aware_takes_nvlink_to_the_right_rail() -> None:
    """PXN: GPU 0 reaches GPU 3 of the next host through its neighbour GPU 3, so that the flow stays on rail 3."""
    path = Router(load_fabric("dgx-h100-x4"), "rail-aware").path(0, 8 + 3)
    assert path[:4] == ["h0/gpu0", "h0/nvswitch0", "h0/gpu3", "h0/pcie1"]
    assert path[4] == "h0/nic3"
    assert path[-4:] == ["leaf3", "h1/nic3", "h1/pcie1", "h1/gpu3"]
    assert len(path) == 9  # one leaf, no spine


def test_without_pxn_it_crosses_a_spine() -> None:
    path = Router(load_fabric("dgx-h100-x4"), "d-mod-k").path(0, 8 + 3)
    assert [name for name in path if name.startswith("spine")] == [path[4]]
    assert path[:4] == ["h0/gpu0", "h0/pcie0", "h0/nic0", "leaf0"]


@pytest.mark.parametrize("policy", POLICIES)
def test_channels_take_the_nics_of_a_rank_in_turn(policy: str) -> None:
    """The same NIC at both ends; with one channel nothing changes."""
    router = Router(load_fabric("two-rail-8"), policy)
    for channel in range(5):
        path = router.path(0, 5, channel)
        assert path[:2] == ["h0/cpu0", f"h0/nic{channel % 2}"]
        assert path[-2:] == [f"h5/nic{channel % 2}", "h5/cpu0"]


@pytest.mark.parametrize(
    ("topology", "channels", "speedup"),
    [("two-rail-8", 2, 2), ("two-rail-8", 4, 2), ("star-8", 2, 1), ("fat-tree-k4", 2, 1)],
)
def test_a_ring_uses_as_many_nics_as_its_channels_reach(topology: str, channels: int, speedup: int) -> None:
    fabric = load_fabric(topology)
    one, more = (
        simulate_collective(fabric, "all-gather", "ring", 2**30, channels=k).record.time_s for k in (1, channels)
    )
    assert one / more == pytest.approx(speedup, rel=1e-3)


def test_inside_a_host_nvlink_beats_pcie() -> None:
    path = Router(load_fabric("dgx-h100"), None).path(0, 1)
    assert path == ["h0/gpu0", "h0/nvswitch0", "h0/gpu1"]


def test_rail_only_needs_rail_aware() -> None:
    fabric = load_fabric("dgx-h100-x8-rail-only")
    assert len(Router(fabric, "rail-aware").route(0, 11)) > 0
    with pytest.raises(RoutingError) as error:
        Router(fabric, "d-mod-k").route(0, 11)
    assert str(error.value) == (
        "topology dgx-h100-x8-rail-only, routing d-mod-k: no route from h0/gpu0 to h1/gpu3: "
        "their leaves are not joined; a rail-only fabric needs routing rail-aware"
    )


def test_an_unknown_policy() -> None:
    with pytest.raises(RoutingError, match="routing 'ospf' is unknown; known: ecmp, d-mod-k, rail-aware"):
        Router(EIGHT, "ospf")


def test_no_nic_no_route() -> None:
    bare = np.zeros(EIGHT.num_ranks + 1, np.int64)
    without = replace(EIGHT, name="bare", nics_first=bare, nics=np.zeros(0, np.int32))
    with pytest.raises(RoutingError, match="topology bare, routing d-mod-k: no route from h0/cpu0 to h4/cpu0: "):
        Router(without).route(0, 4)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("topology", [star(4), shared_link(2, bandwidth=1e9), EIGHT], ids=lambda t: t.name)
def test_a_route_is_a_walk_from_end_to_end(topology: Fabric, policy: str) -> None:
    router = Router(topology, policy, seed=1)
    for src in range(topology.num_ranks):
        for dst in set(range(topology.num_ranks)) - {src}:
            path = router.path(src, dst)
            assert (path[0], path[-1]) == (topology.ranks[src], topology.ranks[dst])
            assert len(set(path)) == len(path)
            assert not set(path[1:-1]) & set(topology.ranks)
