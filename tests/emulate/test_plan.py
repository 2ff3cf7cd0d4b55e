# SPDX-License-Identifier: Apache-2.0
"""The testbed's plan from small topologies: what is where, which way it goes, whose traffic is told apart. No root."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.emulate.plan import MOST_CLASSES, TestbedPlan, degraded, plan_testbed, require_plain, scaled
from commbench.emulate.tables import equal_cost, single_path
from commbench.errors import InputError
from commbench.routing.router import Router
from commbench.topology.fabric import Fabric
from commbench.topology.faults import LinkFault
from commbench.topology.load import load_fabric
from tests.emulate.fabrics import FAT_TREE, MBIT, leaf_spine, plan_of, topology_of
from tests.topology.test_kinds import KINDS, made

STAR = {"kind": "star", "hosts": 3}


def walk(plan: TestbedPlan, src: str, dst: str) -> list[str]:
    """Places from one host to another, following the routes and, where there are several, the first."""
    address = {port.address: port.place for port in plan.ports if port.address}
    (target,) = [a for a, place in address.items() if place == dst]
    places = {place.name: place for place in plan.places}
    here = [src]
    while here[-1] != dst:
        (route,) = [route for route in places[here[-1]].routes if route.address == target]
        interface = route.hops[0][0]
        (port,) = [port for port in plan.ports_of(here[-1]) if port.interface == interface]
        here.append(address.get(route.hops[0][1], port.peer))
    return here


def test_a_star_in_full() -> None:
    """3 hosts on a switch: 4 places, 3 links, and on each link the traffic of its own host alone."""
    plan = plan_of(STAR)
    assert [place.name for place in plan.places] == ["h0", "h1", "h2", "leaf0"]
    assert [place.forwards for place in plan.places] == [False, False, False, True]
    assert [[p.interface for p in cable.ports] for cable in plan.cables] == [["nic0", f"h{h}-nic0"] for h in range(3)]
    assert [port.address for port in plan.ports if port.address] == ["10.64.0.1", "10.64.0.2", "10.64.0.3"]
    assert len({port.mac for port in plan.ports}) == 6
    assert plan.port("h1/nic0", "leaf0").pairs == ((1, 0), (1, 2))
    assert plan.port("leaf0", "h1/nic0").pairs == ((0, 1), (2, 1))
    host, leaf = plan.places[1], plan.places[3]
    assert [(r.address, r.hops) for r in host.routes] == [
        ("10.64.0.1", (("nic0", "10.65.0.1"),)),
        ("10.64.0.3", (("nic0", "10.65.0.1"),)),
    ]
    assert leaf.address == "10.65.0.1"
    assert leaf.routes[2].hops == (("h2-nic0", "10.64.0.3"),)
    assert host.neighbours == (("nic0", "10.65.0.1", plan.cables[1].b.mac),)
    assert leaf.neighbours[2] == ("h2-nic0", "10.64.0.3", plan.cables[2].a.mac)


@pytest.mark.parametrize("fabric", [STAR, leaf_spine(8, spines=2), FAT_TREE], ids=["star", "leaf-spine", "fat-tree"])
def test_the_routes_are_those_of_the_router(fabric: dict[str, object]) -> None:
    """From every host to every other, hop by hop by the testbed's own routes: the same switches as in the simulator."""
    topology, plan = topology_of(fabric), plan_of(fabric)
    router = Router(topology)
    for src, dst in permutations(range(topology.num_ranks), 2):
        switches = router.path(src, dst)[2:-2]  # without cpu and nic at both ends
        assert walk(plan, f"h{src}", f"h{dst}") == [f"h{src}", *switches, f"h{dst}"]


def test_pairs_of_a_port_are_those_whose_route_crosses_it() -> None:
    topology, plan = topology_of(FAT_TREE), plan_of(FAT_TREE)
    router = Router(topology)
    crossing: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for pair in permutations(range(16), 2):
        for link in router.route(*pair)[1:-1]:
            crossing.setdefault((topology.links[link].src, topology.links[link].dst), set()).add(pair)
    assert {(p.node, p.peer): set(p.pairs) for p in plan.ports if p.pairs} == crossing


def test_ecmp_has_every_shortest_way() -> None:
    """k = 4: k/2 = 2 ways up at a leaf and 2 at a spine to another pod, one way down."""
    plan = plan_of(FAT_TREE, ecmp=True)
    places = {place.name: {route.address: route.hops for route in place.routes} for place in plan.places}
    far, mate, own = "10.64.0.16", "10.64.0.3", "10.64.0.1"  # hosts 15 (another pod), 2 (next leaf), 0 (this leaf)
    assert [len(places["leaf0"][a]) for a in (far, mate, own)] == [2, 2, 1]
    assert [len(places["spine0"][a]) for a in (far, mate, own)] == [2, 1, 1]
    assert {len(hops) for hops in places["core0"].values()} == {1}
    # all traffic from a pod to others may come by any of its 4 uplinks of spines: 4 hosts x 12 others
    assert len(plan.port("spine0", "core0").pairs) == 4 * 12


def test_several_nics_are_rails() -> None:
    """Rail r of a host talks to rail r of others, and leaves by its own NIC."""
    plan = plan_of({"kind": "rail-only", "hosts": 3}, nics=2)
    assert plan.nics == ("h0/nic0", "h0/nic1", "h1/nic0", "h1/nic1", "h2/nic0", "h2/nic1")
    host = plan.places[0]
    assert [(r.address, r.hops[0]) for r in host.routes] == [
        ("10.64.0.3", ("nic0", "10.65.0.1")),
        ("10.64.0.5", ("nic0", "10.65.0.1")),
        ("10.64.0.4", ("nic1", "10.65.0.2")),
        ("10.64.0.6", ("nic1", "10.65.0.2")),
    ]
    both_on_one_leaf = plan_of(STAR, nics=2)
    assert [interface for interface, _, _ in both_on_one_leaf.places[0].neighbours] == ["nic0", "nic1"]


def test_rates_follow_the_topology() -> None:
    """4 hosts at 20 on two leaves under one spine, 2:1: a trunk of 2 x 20 / 2. A slower bus limits its host's link."""
    plan = plan_of(leaf_spine(4, oversubscription=2.0))
    assert plan.port("leaf0", "spine0").rate == plan.port("spine0", "leaf0").rate == 20 * MBIT
    assert plan.host_rate == 20 * MBIT
    assert plan.total_rate == (4 + 2) * 2 * 20 * MBIT
    slow_bus = plan_of(leaf_spine(4), bus="5 Mbit/s")
    assert {slow_bus.port(*ends).rate for ends in (("h0/nic0", "leaf0"), ("leaf0", "h0/nic0"))} == {5 * MBIT}
    assert slow_bus.port("leaf0", "spine0").rate == 40 * MBIT


def test_scaling_keeps_the_proportions_and_says_so() -> None:
    plan = scaled(scaled(plan_of(leaf_spine(4)), 10 * MBIT), 5 * MBIT)
    assert plan.scale == 0.25
    assert plan.port("h3/nic0", "leaf1").rate == 5 * MBIT
    assert plan.port("leaf1", "spine0").rate == 10 * MBIT
    graph = plan.topology.graph
    assert graph.edges["leaf1", "spine0"]["link"].bandwidth == 10 * MBIT  # what a simulation of the testbed must use
    assert plan.topology.numbers["emulate.scale"].text == "0.25"


@given(st.integers(2, 60), st.data())
def test_classes_tell_all_pairs_and_planes_apart(num_nics: int, data: st.DataObject) -> None:
    planes = data.draw(st.integers(1, MOST_CLASSES // num_nics**2))
    plan = replace(plan_of(STAR), nics=tuple(map(str, range(num_nics))), planes=planes)
    plane = data.draw(st.integers(0, planes - 1))
    pair = data.draw(st.tuples(*[st.integers(0, num_nics - 1)] * 2))
    assert 0 < plan.class_of(pair, plane) <= MOST_CLASSES
    assert plan.pair_of(plan.class_of(pair, plane)) == (pair, plane)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dgx-h100-x2", "topology dgx-h100-x2: h0/gpu0 is a gpu; only plain hosts"),
        ("shared-memory-4", "h0/memory-in is a memory; only plain hosts"),
    ],
)
def test_what_is_no_plain_host_is_refused(name: str, message: str) -> None:
    topology = load_fabric(name)
    with pytest.raises(InputError, match=message):
        plan_testbed(topology, {}, routing="d-mod-k")


def test_too_much_for_the_kernel_is_refused() -> None:
    topology = topology_of({"kind": "star", "hosts": 200})
    with pytest.raises(InputError, match="200 NICs with 1 background flows need 80000 classes"):
        plan_testbed(topology, equal_cost(topology), routing="ecmp", num_background=1)
    with pytest.raises(InputError, match="--mtu 100 must be from 576 to 65535 bytes"):
        plan_testbed(topology, equal_cost(topology), routing="ecmp", mtu=100)
    with pytest.raises(InputError, match="the testbed has no link leaf0 -> spine7"):
        plan_of(STAR).port("leaf0", "spine7")


class BySource:
    """A routing that no table can hold: the spine depends on the sender."""

    def __init__(self, topology: Fabric) -> None:
        self._router = Router(topology)

    def path(self, src: int, dst: int, channel: int = 0) -> Sequence[str]:
        path = self._router.path(src, dst, channel)
        return [f"spine{src % 2}" if node.startswith("spine") else node for node in path]


def test_routing_by_source_is_refused() -> None:
    with pytest.raises(InputError, match=r"leaves leaf0 by spine0 or by spine1, depending on where it comes from"):
        single_path(topology_of(leaf_spine(4, spines=2)), BySource)


def test_links_side_by_side_are_refused() -> None:
    with pytest.raises(InputError, match=r"links side by side .* cannot be emulated; give one"):
        require_plain(made(*KINDS["bundles"]))


def test_a_degraded_link_is_slow_in_its_direction_for_both_worlds() -> None:
    """A host's bus that is slower than its link counts, as it does for the port; routes and other links stay."""
    plan = plan_of({"kind": "star", "hosts": 3}, host="20 Mbit/s", bus="10 Mbit/s")
    slow = degraded(plan, [LinkFault(0, "h1/nic0", "leaf0", 0.5), LinkFault(0, "leaf0", "h2/nic0", 0.1)])
    assert slow.port("h1/nic0", "leaf0").rate == 5 * MBIT
    assert slow.port("leaf0", "h2/nic0").rate == 1 * MBIT
    assert slow.port("leaf0", "h1/nic0") == plan.port("leaf0", "h1/nic0")
    assert slow.places == plan.places
    rates = {(link.src, link.dst): link.bandwidth for link in slow.topology.links}
    before = {(link.src, link.dst): link.bandwidth for link in plan.topology.links}
    assert rates == before | {("h1/nic0", "leaf0"): 5 * MBIT, ("leaf0", "h2/nic0"): 1 * MBIT}


def test_a_link_that_is_not_there_cannot_be_degraded() -> None:
    with pytest.raises(InputError, match="the testbed has no link h1/nic0 -> spine0"):
        degraded(plan_of(leaf_spine()), [LinkFault(0, "h1/nic0", "spine0", 0.5)])
