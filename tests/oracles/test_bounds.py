# SPDX-License-Identifier: Apache-2.0
"""Lower bounds of every collective: below every simulated time, and worth something where the arithmetic is plain."""

import pytest

from commbench.collectives.registry import build
from commbench.collectives.spec import COLLECTIVES
from commbench.network.bounds import lower_bound_s
from commbench.routing.router import Router
from commbench.sim.collective import simulate
from commbench.topology.load import load_topology
from tests.contracts.worlds import ALGORITHM_LIST, requests

STAR = load_topology("star-8")
TREE = load_topology("leaf-spine-16-4to1")


@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
def test_no_simulated_time_lies_below_its_bound(algorithm) -> None:
    for topology in (STAR, TREE):
        chosen = {r.num_ranks: r for r in requests(algorithm, (2, 3, 8), (1, 2))}
        for request in chosen.values():
            if build(algorithm, request).num_switches:
                continue  # needs hosts with such switches; see the tests of in-switch algorithms
            for size in (64 * request.num_ranks, 2**20, 2**24):
                record = simulate(
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
    assert lower_bound_s(collective, STAR, STAR.ranks, size) == pytest.approx(buffers * size / 12.5e9, rel=1e-12)


def test_above_an_oversubscribed_leaf_the_cut_decides() -> None:
    """16 ranks, 4 to a leaf, 4:1: a leaf's uplinks carry 12.5 GB/s together, as much as one port.

    All-to-all: 4 ranks owe a block of S/16 to each of 12 others: 3 S must leave the leaf.
    """
    size = 2**24
    bound = lower_bound_s("all-to-all", TREE, TREE.ranks, size)
    assert bound == pytest.approx(4 * 12 / 16 * size / 12.5e9, rel=1e-12)


def test_in_a_small_message_latency_decides() -> None:
    """On a star every route has the same latency: 8 bytes cannot arrive sooner."""
    router = Router(STAR)
    latency_s = router.latency_ps(router.route(0, 1)) * 1e-12
    assert latency_s > 0
    for collective in sorted(COLLECTIVES.keys() - {"all-to-all-v"}):
        assert lower_bound_s(collective, STAR, STAR.ranks, 8) == pytest.approx(latency_s, rel=1e-12)


def test_every_collective_has_a_bound() -> None:
    for collective in COLLECTIVES:
        assert lower_bound_s(collective, STAR, STAR.ranks[:1], 8) == 0.0
        assert lower_bound_s(collective, STAR, STAR.ranks, 2**20) >= 0.0
