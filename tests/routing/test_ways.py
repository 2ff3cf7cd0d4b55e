# SPDX-License-Identifier: Apache-2.0
"""All ways of a flow: those of networkx between its NICs, and among them the route that any policy chooses."""

import re
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.routing.policies import POLICIES
from commbench.routing.router import Router
from commbench.routing.ways import ARRIVED, WayGraph
from commbench.topology import Fabric, load_fabric
from tests.topology.trees import trees


def walks(ways: WayGraph, state: int) -> list[tuple[int, ...]]:
    """Links of every way from a state."""
    if state == ARRIVED:
        return [()]
    choices = range(ways.first[state], ways.first[state + 1])
    return [(int(ways.links[at]), *rest) for at in choices for rest in walks(ways, int(ways.after[at]))]


def shortest(fabric: Fabric, graph: nx.MultiDiGraph, route: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Links of all ways that have the route's first and last links inside hosts, and shortest paths between them."""
    outer = [i for i, link in enumerate(route) if not fabric.inside_hosts[link]]
    if not outer:
        return {route}
    begin, end = outer[0], outer[-1] + 1
    ends = int(fabric.src[route[begin]]), int(fabric.dst[route[end - 1]])
    found = set()
    for nodes in nx.all_shortest_paths(nx.DiGraph(graph), *ends):
        steps: list[tuple[int, ...]] = [()]
        for a, b in pairwise(nodes):
            steps = [(*one, link) for one in steps for link in graph[a][b]]
        found |= {(*route[:begin], *one, *route[end:]) for one in steps}
    return found


def network_of(fabric: Fabric) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    for link in np.flatnonzero(~fabric.inside_hosts).tolist():
        graph.add_edge(int(fabric.src[link]), int(fabric.dst[link]), key=link)
    return graph


def check(fabric: Fabric, policy: str, src: list[int], dst: list[int], channel: list[int]) -> None:
    router, graph = Router(fabric, policy), network_of(fabric)
    ways = router.ways(src, dst, channel)
    assert np.all(np.diff(ways.first) >= 1)
    for i, flow in enumerate(zip(src, dst, channel, strict=True)):
        route, found = router.route(*flow), walks(ways, int(ways.start[i]))
        assert len(set(found)) == len(found)
        assert set(found) == shortest(fabric, graph, route), flow
        assert route in found


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["fat-tree-k4", "leaf-spine-16-4to1", "two-rail-8", "dgx-h100-x2", "p3dn-x2"])
def test_ways_are_all_shortest_paths_between_the_nics_of_the_route(name: str, policy: str) -> None:
    fabric, random = load_fabric(name), np.random.default_rng(3)
    src, dst, channel = (random.integers(0, end, 30).tolist() for end in (fabric.num_ranks, fabric.num_ranks, 3))
    check(fabric, policy, src, dst, channel)


@given(tree=trees(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_ways_of_any_tree(tree: Fabric, seed: int) -> None:
    random = np.random.default_rng(seed)
    src, dst = (random.integers(0, tree.num_ranks, 4).tolist() for _ in range(2))
    check(tree, "d-mod-k", src, dst, [0] * 4)


@pytest.mark.parametrize("kind", ["torus", "dragonfly+"])
def test_ways_where_routes_are_searched_for(kind: str, tmp_path: Path) -> None:
    """The fabrics that the page on topology files shows."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "topology-files.md").read_text(encoding="utf-8")
    (text,) = (each for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if f"kind: {kind}\n" in each)
    (tmp_path / "fabric.yaml").write_text(text, encoding="utf-8")
    fabric, random = load_fabric(str(tmp_path / "fabric.yaml")), np.random.default_rng(4)
    src, dst = (random.integers(0, fabric.num_ranks, 20).tolist() for _ in range(2))
    check(fabric, "ecmp", src, dst, [0] * 20)


def test_a_fat_tree_has_as_many_ways_as_its_fan_outs_make() -> None:
    """k = 4: k / 2 spines within a pod, (k / 2)^2 cores between pods; a rank and itself are joined by no link."""
    ways = Router(load_fabric("fat-tree-k4")).ways([0, 0, 0, 0], [0, 1, 2, 15])
    assert ways.start[0] == ARRIVED
    assert ways.fan_outs()[ways.start[1:]].tolist() == [1, 2, 4]
    assert [len(walks(ways, int(state))) for state in ways.start] == [1, 1, 2, 4]


def test_ways_beside_others_keep_their_own() -> None:
    router = Router(load_fabric("fat-tree-k4"))
    one, more, both = router.ways([0, 3], [5, 3]), router.ways([7], [15]), router.ways([0, 3, 7], [5, 3, 15])
    beside = one.beside(more)
    for i in range(3):
        assert sorted(walks(beside, int(beside.start[i]))) == sorted(walks(both, int(both.start[i])))


def test_a_single_way_is_the_route() -> None:
    first, links = Router(load_fabric("fat-tree-k4")).routes([0, 1, 2], [15, 1, 3])
    ways = WayGraph.single(first, links.astype(np.int64))
    assert [walks(ways, int(state)) for state in ways.start] == [
        [tuple(links[a:b].tolist())] for a, b in pairwise(first.tolist())
    ]
    assert ways.fan_outs().tolist() == [1] * len(links)
