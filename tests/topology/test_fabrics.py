# SPDX-License-Identifier: Apache-2.0
"""Fabrics: node and link counts, degrees and bandwidths as formulas of the parameters."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import networkx as nx
import pytest

from commbench.errors import TopologyError
from commbench.topology import tiers
from commbench.topology.cabling import Cabling, copies
from commbench.topology.clos import clos
from commbench.topology.fabric import Fabric
from commbench.topology.hosts import plain_host, shared_memory_host
from commbench.topology.model import LinkKind, NodeKind
from commbench.topology.parts import Wire
from commbench.topology.tiers import Pods, Tier, k_ary, star, three_tier

BUS, DOWN = Wire(12.5e9, 0), Wire(12.5e9, 1_000_000)
UP_PS, CORE_PS = 2_000_000, 3_000_000


def plain(hosts: int, nics: int = 1) -> Cabling:
    return Cabling([copies(plain_host(0, nics=nics, bus=BUS), hosts)])


def tree(net: Cabling, shape: Sequence[Tier], *, rails: bool = False) -> Fabric:
    return net.fabric(stages=clos(net, shape, rails=rails), name="made", routing="d-mod-k")


def count(made: Fabric, kind: NodeKind) -> int:
    return sum(1 for _ in made.of_kind(kind))


def tier(made: Fabric, low: NodeKind, high: NodeKind) -> list[float]:
    """Bandwidth of every directed link from ``low`` up to ``high``; the way down must mirror it."""
    kind = {node.name: node.kind for node in made.nodes}
    up = {(x.src, x.dst): x.bandwidth for x in made.links if (kind[x.src], kind[x.dst]) == (low, high)}
    down = {(x.dst, x.src): x.bandwidth for x in made.links if (kind[x.dst], kind[x.src]) == (low, high)}
    assert up == down
    return list(up.values())


def above(made: Fabric, name: str, kind: NodeKind) -> list[str]:
    return [other for other in made.graph.successors(name) if made.by_name[other].kind is kind]


@pytest.mark.parametrize(("hosts", "nics"), [(1, 1), (8, 1), (5, 2)])
def test_star(hosts: int, nics: int) -> None:
    made = tree(plain(hosts, nics), star(hosts, downlink=DOWN))
    assert len(made.nodes) == hosts * (1 + nics) + 1
    assert len(made.links) == 2 * hosts * nics + 2 * hosts * nics  # buses, then downlinks
    assert made.graph.in_degree("leaf0") == hosts * nics


@pytest.mark.parametrize(
    ("hosts", "per_leaf", "spines", "nics", "ratio"),
    [
        (16, 4, 4, 1, 1),
        (64, 8, 8, 1, 1),
        (16, 4, 4, 1, 4),
        (12, 3, 2, 2, 1.5),
        (6, 6, 1, 1, 2),
        (4, 1, 3, 1, 0.5),
    ],
)
def test_leaf_spine(hosts: int, per_leaf: int, spines: int, nics: int, ratio: float) -> None:
    made = leaf_spine(
            plain(hosts, nics),
            hosts_per_leaf=per_leaf,
            spines=spines,
            oversubscription=ratio,
            downlink=DOWN,
            uplink_latency_ps=UP_PS,
        )
    leaves = hosts // per_leaf
    assert (count(made, NodeKind.LEAF), count(made, NodeKind.SPINE)) == (leaves, spines)
    assert len(made.nodes) == hosts * (1 + nics) + leaves + spines
    assert len(made.links) == 2 * (hosts * nics + hosts * nics + leaves * spines)
    degrees = Counter(made.graph.out_degree(f"leaf{i}") for i in range(leaves))
    assert degrees == {per_leaf * nics + spines: leaves}
    assert {made.graph.out_degree(f"spine{i}") for i in range(spines)} == {leaves}
    ups = tier(made, NodeKind.LEAF, NodeKind.SPINE)
    below = per_leaf * nics * DOWN.bandwidth
    assert sum(ups) / leaves == pytest.approx(below / ratio, rel=1e-12)  # bandwidth above one leaf
    for h in range(hosts):
        assert made.graph.has_edge(f"h{h}/nic0", f"leaf{h // per_leaf}")


def test_spines_are_listed_in_index_order() -> None:
    """d-mod-k takes spine number (destination mod spines) by its place in the list."""
    made = leaf_spine(
            plain(24),
            hosts_per_leaf=12,
            spines=12,
            oversubscription=1,
            downlink=DOWN,
            uplink_latency_ps=UP_PS,
        )
    for leaf in ("leaf0", "leaf1"):
        assert above(made, leaf, NodeKind.SPINE) == [f"spine{i}" for i in range(12)]


@pytest.mark.parametrize("k", [2, 4, 6, 8])
def test_fat_tree_counts_of_al_fares(k: int) -> None:
    made = make_fat_tree(k)
    hosts = k**3 // 4
    assert made.num_ranks == hosts
    assert count(made, NodeKind.LEAF) == count(made, NodeKind.SPINE) == k * k // 2
    assert count(made, NodeKind.CORE) == k * k // 4
    assert len(made.nodes) == 2 * hosts + 5 * k * k // 4
    assert len(made.links) == 2 * 4 * hosts  # k^3/4 links in each of: bus, down, leaf-spine, spine-core
    switches = [n for n in made.nodes if n.kind in (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)]
    assert {made.graph.out_degree(node.name) for node in switches} == {k}  # every switch has k ports


def test_fat_tree_core_reaches_every_pod_once() -> None:
    made = make_fat_tree(6)
    for core in made.of_kind(NodeKind.CORE):
        pods = sorted((made.by_name[name].index or 0) // 3 for name in made.graph.successors(core.name))
        assert pods == list(range(6))
    assert above(made, "spine4", NodeKind.CORE) == ["core3", "core4", "core5"]  # spine 1 of pod 1


def test_fat_tree_hosts_of_one_leaf_one_pod_and_two_pods_are_2_4_and_6_links_apart() -> None:
    made = make_fat_tree(4)
    nics = [nx.shortest_path_length(made.graph, "h0/nic0", f"h{h}/nic0") for h in (1, 2, 3, 4, 15)]
    assert nics == [2, 4, 4, 6, 6]


@pytest.mark.parametrize(("leaf", "spine", "nics"), [(1, 1, 1), (2, 1, 1), (3, 4, 2)])
def test_fat_tree_oversubscription(leaf: float, spine: float, nics: int) -> None:
    made = make_fat_tree(4, leaf, spine, nics)
    total = 16 * nics * DOWN.bandwidth
    assert sum(tier(made, NodeKind.NIC, NodeKind.LEAF)) == total
    assert sum(tier(made, NodeKind.LEAF, NodeKind.SPINE)) == pytest.approx(total / leaf, rel=1e-12)
    assert sum(tier(made, NodeKind.SPINE, NodeKind.CORE)) == pytest.approx(total / leaf / spine, rel=1e-12)


def make_fat_tree(k: int, leaf: float = 1, spine: float = 1, nics: int = 1) -> Fabric:
    return make_three_tier(k * k_ary(k).hosts, k_ary(k), leaf, spine, nics)


def make_three_tier(hosts: int, pods: Pods, leaf: float = 1, spine: float = 1, nics: int = 1) -> Fabric:
    tiers = three_tier(
        hosts,
        nics,
        pods=pods,
        leaf_oversubscription=leaf,
        spine_oversubscription=spine,
        downlink=DOWN,
        uplink_latency_ps=UP_PS,
        core_latency_ps=CORE_PS,
    )
    return tree(plain(hosts, nics), tiers)


@pytest.mark.parametrize(
    ("pods", "num_pods", "leaf", "spine", "nics"),
    [
        (Pods(hosts_per_leaf=2, leaves_per_pod=3, spines_per_pod=2, cores=6), 4, 1, 1, 1),
        (Pods(hosts_per_leaf=3, leaves_per_pod=2, spines_per_pod=4, cores=4), 3, 2, 1.5, 2),
        (Pods(hosts_per_leaf=1, leaves_per_pod=1, spines_per_pod=1, cores=1), 2, 1, 1, 1),
        (Pods(hosts_per_leaf=2, leaves_per_pod=2, spines_per_pod=3, cores=3), 1, 1, 0.5, 1),
    ],
)
def test_three_tier(pods: Pods, num_pods: int, leaf: float, spine: float, nics: int) -> None:
    hosts = num_pods * pods.hosts
    made = make_three_tier(hosts, pods, leaf, spine, nics)
    leaves, spines = num_pods * pods.leaves_per_pod, num_pods * pods.spines_per_pod
    plane = pods.cores // pods.spines_per_pod
    assert [count(made, kind) for kind in (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)] == [
        leaves, spines, pods.cores
    ]  # fmt: skip
    assert len(made.links) == 2 * (2 * hosts * nics + leaves * pods.spines_per_pod + spines * plane)
    below = hosts * nics * DOWN.bandwidth  # what all hosts can send, and what each tier passes on of it
    assert sum(tier(made, NodeKind.LEAF, NodeKind.SPINE)) == pytest.approx(below / leaf, rel=1e-12)
    assert sum(tier(made, NodeKind.SPINE, NodeKind.CORE)) == pytest.approx(below / leaf / spine, rel=1e-12)
    for h in range(hosts):
        assert made.graph.has_edge(f"h{h}/nic{nics - 1}", f"leaf{h // pods.hosts_per_leaf}")
    for i in range(leaves):
        first = i // pods.leaves_per_pod * pods.spines_per_pod
        wanted = [f"spine{first + j}" for j in range(pods.spines_per_pod)]
        assert above(made, f"leaf{i}", NodeKind.SPINE) == wanted
    for i in range(spines):
        first = i % pods.spines_per_pod * plane  # spine j of every pod joins plane j
        assert above(made, f"spine{i}", NodeKind.CORE) == [f"core{first + c}" for c in range(plane)]


def test_fat_tree_latency_of_each_tier() -> None:
    made = make_fat_tree(4)
    kind = {node.name: node.kind for node in made.nodes}
    assert {x.latency_ps for x in made.links if kind[x.dst] is NodeKind.CORE} == {CORE_PS}
    assert {x.latency_ps for x in made.links if (kind[x.src], kind[x.dst]) == (NodeKind.LEAF, NodeKind.SPINE)} == {
        UP_PS
    }


@pytest.mark.parametrize(
    ("hosts", "per_leaf", "spines", "nics", "ratio"), [(4, 4, 4, 8, 1), (16, 8, 8, 8, 1), (6, 2, 3, 4, 2)]
)
def test_rail_optimized(hosts: int, per_leaf: int, spines: int, nics: int, ratio: float) -> None:
    shape = tiers.two_tier(
        hosts,
        nics,
        hosts_per_leaf=per_leaf,
        spines=spines,
        oversubscription=ratio,
        downlink=DOWN,
        uplink_latency_ps=UP_PS,
        rails=True,
    )
    made, leaves = tree(plain(hosts, nics), shape, rails=True), hosts // per_leaf * nics
    assert (count(made, NodeKind.LEAF), count(made, NodeKind.SPINE)) == (leaves, spines)
    assert len(made.links) == 2 * (2 * hosts * nics + leaves * spines)
    assert {made.graph.out_degree(f"leaf{i}") for i in range(leaves)} == {per_leaf + spines}
    for h in range(hosts):
        for rail in range(nics):
            leaf = made.by_name[f"leaf{h // per_leaf * nics + rail}"]
            assert leaf.rail == rail
            assert above(made, f"h{h}/nic{rail}", NodeKind.LEAF) == [leaf.name]
    ups = tier(made, NodeKind.LEAF, NodeKind.SPINE)
    assert sum(ups) / leaves == pytest.approx(per_leaf * DOWN.bandwidth / ratio, rel=1e-12)


@pytest.mark.parametrize(
    ("per_leaf", "units", "pods", "spines", "plane", "nics"),
    [(2, 2, 2, 4, 2, 4), (1, 1, 3, 1, 1, 2), (3, 2, 2, 2, 3, 8)],
)
def test_rails_in_three_tiers(per_leaf: int, units: int, pods: int, spines: int, plane: int, nics: int) -> None:
    """A leaf for each rail of each unit; all leaves of a pod join all its spines; NIC r of one unit meets one leaf."""
    hosts, counts = per_leaf * units * pods, Pods(per_leaf, units * nics, spines, spines * plane)
    shape = three_tier(
        hosts,
        nics,
        pods=counts,
        leaf_oversubscription=2,
        spine_oversubscription=3,
        downlink=DOWN,
        uplink_latency_ps=UP_PS,
        core_latency_ps=CORE_PS,
        rails=True,
    )
    made = tree(plain(hosts, nics), shape, rails=True)
    leaves = pods * units * nics
    assert [count(made, kind) for kind in (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)] == [
        leaves,
        pods * spines,
        spines * plane,
    ]
    assert len(made.links) == 2 * (2 * hosts * nics + leaves * spines + pods * spines * plane)
    for h in range(hosts):
        for rail in range(nics):
            leaf = f"leaf{h // per_leaf * nics + rail}"
            assert above(made, f"h{h}/nic{rail}", NodeKind.LEAF) == [leaf]
            assert made.by_name[leaf].rail == rail
            pod = h // (per_leaf * units)
            assert above(made, leaf, NodeKind.SPINE) == [f"spine{pod * spines + j}" for j in range(spines)]
    total = hosts * nics * DOWN.bandwidth
    assert sum(tier(made, NodeKind.LEAF, NodeKind.SPINE)) == pytest.approx(total / 2, rel=1e-12)
    assert sum(tier(made, NodeKind.SPINE, NodeKind.CORE)) == pytest.approx(total / 6, rel=1e-12)


def test_rail_only_leaves_meet_only_inside_hosts() -> None:
    made = tree(plain(8, 4), star(8, downlink=DOWN), rails=True)
    assert (count(made, NodeKind.LEAF), count(made, NodeKind.SPINE)) == (4, 0)
    assert len(made.links) == 2 * (8 * 4 + 8 * 4)
    network = nx.Graph((x.src, x.dst) for x in made.links if x.kind is LinkKind.NETWORK)
    assert sorted(map(len, nx.connected_components(network))) == [9] * 4  # a leaf and eight NICs, four times


def test_single_host_has_no_nic_to_go_by() -> None:
    made = plain(1).fabric(name="made", routing="d-mod-k")
    assert made.num_ranks == 1
    assert len(made.nics) == 0


def leaf_spine(net: Cabling, **shape: Any) -> Fabric:
    """Hosts under :func:`commbench.topology.tiers.two_tier`."""
    return tree(net, tiers.two_tier(net.num_hosts, net.nics_per_host, **shape))


def one_leaf(hosts: Cabling, per_leaf: int, spines: int = 2, ratio: float = 1.0) -> Fabric:
    return leaf_spine(
        hosts,
        hosts_per_leaf=per_leaf,
        spines=spines,
        oversubscription=ratio,
        downlink=DOWN,
        uplink_latency_ps=0,
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: one_leaf(plain(10), 4), "fabric.hosts: 10 is not a multiple of hosts_per_leaf 4"),
        (lambda: one_leaf(plain(8), 0), "fabric.hosts_per_leaf: 0 must be above zero"),
        (lambda: one_leaf(plain(8), 4, 0), "fabric.spines: 0 must be above zero"),
        (lambda: one_leaf(plain(8), 4, 2, 0), "fabric.oversubscription: 0 must be above zero"),
        (lambda: one_leaf(plain(8), 4, 2, -1.5), "fabric.oversubscription: -1.5 must be above zero"),
        (lambda: one_leaf(plain(8), 4, 2, float("nan")), "fabric.oversubscription: nan must be above zero"),
        (
            lambda: make_fat_tree(3),
            "fabric.k: 3 must be even and at least 2 (k/2 ports down, k/2 up)",
        ),
        (
            lambda: make_three_tier(8, Pods(2, 3, 1, 1)),
            "fabric.hosts: 8 is not a multiple of hosts_per_leaf 2 x leaves_per_pod 3 = 6",
        ),
        (
            lambda: make_three_tier(6, Pods(2, 3, 2, 3)),
            "fabric.cores: 3 is not a multiple of spines_per_pod 2",
        ),
        (lambda: make_three_tier(6, Pods(2, 0, 2, 3)), "fabric.leaves_per_pod: 0 must be above zero"),
        (lambda: make_three_tier(6, Pods(2, 3, 2, 0)), "fabric.cores: 0 must be above zero"),
        (lambda: make_fat_tree(4, spine=-1), "fabric.oversubscription.spine: -1 must be above zero"),
        (
            lambda: tree(plain(3), star(4, downlink=DOWN)),
            "fabric.hosts: 3 are not the hosts that the tiers join",
        ),
        (lambda: make_fat_tree(4, leaf=0), "fabric.oversubscription.leaf: 0 must be above zero"),
        (
            lambda: tree(
                Cabling([copies(shared_memory_host(0, ranks=2, rank_link=BUS, memory=BUS), 1)]), star(1, downlink=DOWN)
            ),
            "host.nics: 0 in every host; a fabric joins hosts by their NICs, so 1 or more",
        ),
        (
            lambda: tree(
                Cabling([copies(plain_host(0, nics=n, bus=BUS), 1, first=n - 1) for n in (1, 2)]),
                star(2, downlink=DOWN),
            ),
            "host.nics: [1, 2] differ; a fabric needs as many NICs in every host",
        ),
    ],
)
def test_impossible_fabrics_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(TopologyError) as caught:
        build()
    assert str(caught.value) == message
