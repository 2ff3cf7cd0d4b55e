# SPDX-License-Identifier: Apache-2.0
"""Routes by arithmetic are, link for link, those that a search finds; and many at once are the same as one by one."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.errors import RoutingError
from commbench.routing.policies import POLICIES
from commbench.routing.router import Router
from commbench.routing.routes import route_latencies_ps
from commbench.topology import Fabric, load_fabric
from tests.topology.trees import trees


def rows(found: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, ...]]:
    """Compressed rows as tuples."""
    first, links = found
    assert (first.dtype, links.dtype) == (np.int64, np.int32)
    assert (first[0], first[-1]) == (0, len(links))
    return [tuple(links[a:b].tolist()) for a, b in pairwise(first.tolist())]


def all_pairs(num_ranks: int) -> tuple[np.ndarray, np.ndarray]:
    return np.divmod(np.arange(num_ranks**2), num_ranks)


def searching(fabric: Fabric) -> Fabric:
    """The same without the knowledge that it is a tree."""
    return replace(fabric, stages=())


@given(tree=trees(), policy=st.sampled_from(sorted(POLICIES)), channel=st.integers(0, 9), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_arithmetic_in_a_tree_gives_the_routes_that_a_search_finds(
    tree: Fabric, policy: str, channel: int, seed: int
) -> None:
    src, dst = all_pairs(tree.num_ranks)
    wanted = rows(Router(searching(tree), policy, seed).routes(src, dst, channel))
    assert rows(Router(tree, policy, seed).routes(src, dst, channel)) == wanted


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["fat-tree-k4", "leaf-spine-16-4to1", "dgx-h100-x2"])
def test_many_flows_are_the_same_as_one_by_one(name: str, policy: str) -> None:
    """Every flow gets its own route, however often and wherever it stands among the others."""
    random = np.random.default_rng(5)
    src, dst, channel = (random.integers(0, end, 300) for end in (16, 16, 3))
    fabric = load_fabric(name)
    one = Router(fabric, policy, 7)
    wanted = [one.route(*flow) for flow in zip(src.tolist(), dst.tolist(), channel.tolist(), strict=True)]
    for each in (fabric, searching(fabric)):
        router = Router(each, policy, 7)
        assert rows(router.routes(src, dst, channel)) == wanted
        assert rows(router.routes(src[:50], dst[:50], channel[:50])) == wanted[:50]  # remembered


def test_latencies_of_routes() -> None:
    tree = load_fabric("fat-tree-k4")
    first, links = Router(tree).routes([0, 0, 0, 0], [0, 1, 2, 15])
    # nothing; up and down one leaf; over a spine; over a core: 2, 4 and 6 links of 1 us, buses have none
    assert route_latencies_ps(tree, first, links).tolist() == [0, 2_000_000, 4_000_000, 6_000_000]


def test_d_mod_k_spreads_a_shift_over_all_links_of_the_largest_tree() -> None:
    """Every rank sends to the one half the fabric further: no link carries two flows (Zahavi 2012), on any tier."""
    tree = load_fabric("fat-tree-131072")
    src = np.arange(tree.num_ranks)
    first, links = Router(tree).routes(src, (src + tree.num_ranks // 2) % tree.num_ranks)
    assert set(np.diff(first)) == {8}  # bus, leaf, spine, core and back
    assert np.bincount(links, minlength=len(tree.bandwidths)).tolist() == [1] * (8 * tree.num_ranks)


def test_no_flows_no_routes() -> None:
    for name in ("fat-tree-k4", "dgx-h100"):
        for policy in POLICIES:
            first, links = Router(load_fabric(name), policy).routes([], [])
            assert (first.tolist(), links.tolist()) == ([0], [])


def test_the_fabrics_own_policy_unless_another_is_asked_for() -> None:
    tree = load_fabric("fat-tree-k4")
    assert Router(tree).policy.name == "d-mod-k"
    assert Router(tree, "ecmp").policy.name == "ecmp"
    with pytest.raises(RoutingError, match="routing 'ospf' is unknown; known: ecmp, d-mod-k, rail-aware"):
        Router(tree, "ospf")


@pytest.mark.parametrize(("src", "dst", "wrong"), [([0, 16], [1, 2], 16), ([0, 1], [1, -2], -2)])
def test_a_rank_that_does_not_exist(src: list[int], dst: list[int], wrong: int) -> None:
    with pytest.raises(RoutingError) as caught:
        Router(load_fabric("fat-tree-k4")).routes(src, dst)
    assert str(caught.value) == f"topology fat-tree-k4: rank {wrong} is not one of 0 to 15"


def test_routing_a_tree_needs_no_graph_library() -> None:
    code = "import sys, commbench.topology as t, commbench.routing.router as r; "
    code += "r.Router(t.load_fabric('fat-tree-k4'), 'ecmp').routes([0], [9]); print('networkx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
