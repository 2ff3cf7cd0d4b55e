# SPDX-License-Identifier: Apache-2.0
"""Lower bounds of every collective: below every simulated time, and worth something where the arithmetic is plain."""

import pytest

from commbench.collectives.registry import build
from commbench.collectives.spec import COLLECTIVES
from commbench.network.bounds import lower_bound_s
from commbench.routing.router import Router
from commbench.routing.routes import route_latencies_ps
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.topology.model import Link, LinkKind, Node, NodeKind
from tests.cases import fabric_of, simulate_collective
from tests.contracts.worlds import ALGORITHM_LIST, requests

STAR = load_fabric("star-8")
TREE = load_fabric("leaf-spine-16-4to1")


@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
def test_no_simulated_time_lies_below_its_bound(algorithm) -> None:
    for topology in (STAR, TREE):
        chosen = {r.num_ranks: r for r in requests(algorithm, (2, 3, 8), (1, 2))}
        for request in chosen.values():
            if build(algorithm, request).num_switches:
                continue  # needs hosts with such switches; see the tests of in-switch algorithms
            for size in (64 * request.num_ranks, 2**20, 2**24):
                record = simulate_collective(
                    topology, algorithm.collective, algorithm.name, size, num_ranks=request.num_ranks,
                    root=request.root, group=request.group, slices=request.slices,
                ).record  # fmt: skip
                assert record.lower_bound_s <= record.time_s * (1 + 1e-12), record


@pytest.mark.parametrize(
    ("collective", "buffers"),
    [
        # n = 8 on a star, every port 12.5 GB/s in and out: what the busiest port must pass, in buffers of 16 MiB.
        ("all-reduce", 2 * 7 / 8),  # 2(n-1) buffers over n ports
        ("reduce-scatter", 7 / 8),  # every rank sends its part of 7 other blocks
        ("all-gather", 7 / 8),  # every rank receives 7 blocks
        ("broadcast", 1),  # the root sends its buffer once, at least
        ("reduce", 1),
        ("all-to-all", 7 / 8),
        ("gather", 7 / 8),  # the root receives 7 blocks
        ("scatter", 7 / 8),
        ("send-recv", 1),
    ],
)
def test_on_a_star_the_port_decides(collective: str, buffers: float) -> None:
    size = 2**24
    bound = lower_bound_s(collective, STAR, range(STAR.num_ranks), size)
    assert bound == pytest.approx(buffers * size / 12.5e9, rel=1e-12)


def test_above_an_oversubscribed_leaf_the_cut_decides() -> None:
    """16 ranks, 4 to a leaf, 4:1: a leaf's uplinks carry 12.5 GB/s together, as much as one port.

    All-to-all: 4 ranks owe a block of S/16 to each of 12 others: 3 S must leave the leaf.
    """
    size = 2**24
    bound = lower_bound_s("all-to-all", TREE, range(TREE.num_ranks), size)
    assert bound == pytest.approx(4 * 12 / 16 * size / 12.5e9, rel=1e-12)


def test_in_a_small_message_latency_decides() -> None:
    """On a star every route has the same latency: 8 bytes cannot arrive sooner."""
    router = Router(STAR)
    latency_s = route_latencies_ps(STAR, *router.routes(0, 1))[0] * 1e-12
    assert latency_s > 0
    for collective in sorted(COLLECTIVES.keys() - {"all-to-all-v"}):
        assert lower_bound_s(collective, STAR, range(STAR.num_ranks), 8) == pytest.approx(latency_s, rel=1e-12)


def test_a_shift_counts_the_way_to_the_next_rank() -> None:
    """Four hosts on a leaf: hosts 0 and 1 are two links of 1 us apart, hosts 0 and 4 four, hosts 4 and 5 two."""
    fabric = load_fabric("fat-tree-16")
    near, far = (0, 1, 4, 5), (0, 4, 5, 6)
    assert lower_bound_s("send-recv", fabric, near, 8) == 2e-6
    assert lower_bound_s("send-recv", fabric, far, 8) == 4e-6
    assert lower_bound_s("send-recv", fabric, far, 8, root=1) == 2e-6


def test_every_collective_has_a_bound() -> None:
    for collective in COLLECTIVES:
        assert lower_bound_s(collective, STAR, [0], 8) == 0.0
        assert lower_bound_s(collective, STAR, range(STAR.num_ranks), 2**20) >= 0.0


def lopsided() -> Fabric:
    """Three ranks on a switch; each direction of each link differs, and rank 0 is not like the others.

    Rank 0 sends 1 GB/s after 1 us and receives 5 GB/s after 10 us; ranks 1 and 2: 2 GB/s, 2 us, 3 GB/s, 3 us.
    """
    ranks = [Node(f"cpu{r}", NodeKind.CPU, 0, r) for r in range(3)]
    out = [("cpu0", "hub", 1e9, 1_000_000), ("cpu1", "hub", 2e9, 2_000_000), ("cpu2", "hub", 2e9, 2_000_000)]
    into = [("hub", "cpu0", 5e9, 10_000_000), ("hub", "cpu1", 3e9, 3_000_000), ("hub", "cpu2", 3e9, 3_000_000)]
    links = [Link(i, a, b, LinkKind.NVLINK, rate, ps) for i, (a, b, rate, ps) in enumerate(out + into)]
    nodes = (*ranks, Node("hub", NodeKind.NVSWITCH, 0, 0))
    return fabric_of("lopsided", nodes, links, [node.name for node in ranks], "d-mod-k")


@pytest.mark.parametrize(
    ("collective", "latency_s", "ns_per_byte"),
    [
        ("broadcast", 4e-6, 1),  # the root's way out, then any way in; the root sends the buffer at 1 GB/s
        ("reduce", 12e-6, 1 / 2),  # any way out, then the root's way in; each other rank sends its buffer
        ("scatter", 4e-6, 2 / 3),  # two blocks of three leave the root
        ("gather", 12e-6, 1 / 6),  # a block of three leaves each other rank at 2 GB/s; into the root they go faster
        ("reduce-scatter", 4e-6, 2 / 3),  # rank 0 owes two blocks
        ("all-gather", 4e-6, 1 / 3),  # rank 0 owes its own block
    ],
)
def test_each_direction_counts_for_itself(collective: str, latency_s: float, ns_per_byte: float) -> None:
    fabric = lopsided()
    assert lower_bound_s(collective, fabric, range(3), 3) == pytest.approx(latency_s, rel=1e-12)
    assert lower_bound_s(collective, fabric, range(3), 3 * 10**6) == pytest.approx(3e-3 * ns_per_byte, rel=1e-12)


@pytest.mark.parametrize(
    ("collective", "size", "bound_s"),
    [
        ("all-reduce", 8, 6e-6),  # six links of 1 us between the pods; buses have no latency
        ("send-recv", 8, 2e-6),  # rank 1 hangs on the leaf of rank 0
        ("all-reduce", 2**30, 2 * 131_071 / 131_072 * 2**30 / 12.5e9),  # 2(n-1) buffers over n ports
        ("all-to-all", 2**30, 131_071 / 131_072 * 2**30 / 12.5e9),  # nothing is oversubscribed: the port decides
    ],
)
def test_the_bounds_of_the_largest_tree(collective: str, size: int, bound_s: float) -> None:
    tree = load_fabric("fat-tree-131072")
    assert lower_bound_s(collective, tree, range(tree.num_ranks), size) == pytest.approx(bound_s, rel=1e-12)
