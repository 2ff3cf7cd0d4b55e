# SPDX-License-Identifier: Apache-2.0
"""Trees in closed form: every number, and every link number, is that of the graph built from the same document."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from commbench.errors import TopologyError
from commbench.topology import Fabric, LinkKind, NodeKind, load_fabric
from commbench.topology.build import build_tree
from commbench.topology.summary import describe_costs, details
from tests.topology.trees import document, trees

SHIPPED = Path(__file__).resolve().parents[2] / "topologies"


def node(stage: Stage, kind: NodeKind, number: int, nics: int) -> str:
    """Name of node ``number`` of a level, as the builders give it."""
    if kind is NodeKind.CPU:
        return f"h{number}/cpu0"
    return f"h{number // nics}/nic{number % nics}" if kind is NodeKind.NIC else f"{kind.value}{number}"


@given(tree=trees())
@settings(max_examples=150)
def test_every_link_has_the_number_it_has_in_the_graph(tree: Tree) -> None:
    topology = tree.topology()
    assert np.array_equal(tree.bandwidths, topology.bandwidths)
    assert np.array_equal(tree.latencies_ps, topology.latencies_ps)
    assert tree.num_links == len(topology.links)
    for stage in tree.stages:
        for lower in range(stage.num_lower):
            for c in range(stage.above):
                number = stage.first_link + 2 * (lower * stage.above + c)
                up, down = topology.links[number : number + 2]
                assert up.src == down.dst == node(stage, stage.lower, lower, tree.nics)
                assert (up.dst, down.src) == (down.src, up.dst)
                assert topology.by_name[up.dst].kind is stage.upper
                assert up.kind is stage.kind


@given(tree=trees())
@settings(max_examples=60)
def test_every_fact_is_that_of_the_graph(tree: Tree) -> None:
    """What ``topology show`` and ``list`` say, costs and origins of numbers included."""
    topology = tree.topology()
    assert details(tree) == details(topology)
    assert describe_costs(tree) == describe_costs(topology)
    assert (tree.costs, tree.num_ranks, tree.num_hosts) == (topology.costs, topology.num_ranks, topology.num_hosts)


@given(tree=trees())
@settings(max_examples=60)
def test_the_bandwidth_above_a_subtree_is_that_of_its_links(tree: Tree) -> None:
    topology = tree.topology()
    for stage in tree.stages:
        tops = {node(stage, stage.lower, q, tree.nics) for q in range(stage.lower_per_subtree)}  # of subtree 0
        above = [x for x in topology.links if x.src in tops and topology.by_name[x.dst].kind is stage.upper]
        assert stage.bandwidth == pytest.approx(sum(x.bandwidth for x in above), rel=1e-14)


def test_a_tree_by_hand() -> None:
    """Two pods of two leaves of two hosts, two spines in each pod, four cores: 8 hosts, 12 switches.

    Buses are links 0 to 15, downlinks 16 to 31, leaf-spine links 32 to 47, spine-core links 48 to 63.
    """
    fabric = {
        "kind": "three-tier",
        "hosts": 8,
        "hosts_per_leaf": 2,
        "leaves_per_pod": 2,
        "spines_per_pod": 2,
        "cores": 4,
        "oversubscription": {"leaf": 2.0, "spine": 1.0},
    }
    tree = build_tree(document(fabric), "by hand")
    assert tree is not None
    assert dict(tree.node_counts) == {
        NodeKind.CPU: 8, NodeKind.NIC: 8, NodeKind.LEAF: 4, NodeKind.SPINE: 4, NodeKind.CORE: 4
    }  # fmt: skip
    assert [stage.first_link for stage in tree.stages] == [0, 16, 32, 48]
    assert [stage.wire.latency_ps for stage in tree.stages] == [200_000, 300_000, 500_000, 700_000]
    down = 97e9 / 8
    # A leaf's two hosts send 2 x down; at 2:1 its two uplinks carry down together. A spine has two leaves and two
    # cores, so that at 1:1 a core link is as wide as an uplink.
    assert [stage.wire.bandwidth for stage in tree.stages] == [101e9 / 8, down, down / 2, down / 2]
    assert tree.bandwidths[[0, 15, 16, 31, 32, 63]].tolist() == [101e9 / 8] * 2 + [down] * 2 + [down / 2] * 2


def test_arrays_refuse_writes() -> None:
    tree, topology = load_fabric("fat-tree-16"), load_fabric("fat-tree-16")
    for fabric in (tree, topology):
        with pytest.raises(ValueError, match="read-only"):
            fabric.bandwidths[0] = 1.0
        with pytest.raises(ValueError, match="read-only"):
            fabric.latencies_ps[0] = 1


@pytest.mark.parametrize("name", ["star-8", "fat-tree-16", "fat-tree-k4", "leaf-spine-16-4to1", "fat-tree-1024"])
def test_trees_of_plain_hosts_come_in_closed_form(name: str) -> None:
    tree, topology = load_fabric(name), load_fabric(name)
    assert isinstance(tree, Tree)
    assert isinstance(topology, Fabric)
    assert tree.topology() == topology


@pytest.mark.parametrize("name", ["dgx-h100", "dgx-h100-x4", "dgx-h100-x8-rail-only", "shared-memory-4"])
def test_everything_else_comes_as_a_graph(name: str) -> None:
    assert load_fabric(name) == load_fabric(name)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("hosts: 16", "hosts: 18", "line 18: fabric.hosts: 18 is not a multiple of hosts_per_leaf 4"),
        ("hosts: 16", "hosts: 0", "line 18: fabric.hosts: 0: must be at least 1"),
        ("nics: 1", "nics: 0", "line 8: host.nics: 0: must be at least 1"),
        ("spines: 4", "spines: -1", "line 20: fabric.spines: -1: must be at least 1"),
        ("subscription: 1", "subscription: .inf", "line 21: fabric.oversubscription: '.inf': must be a finite number"),
    ],
)
def test_the_same_error_either_way(tmp_path: Path, old: str, new: str, line: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text((SHIPPED / "fat-tree-16.yaml").read_text().replace(old, new, 1))
    for load in (load_fabric, load_fabric):
        with pytest.raises(TopologyError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: {line}"


def test_a_bandwidth_from_which_zero_would_be_derived_is_refused() -> None:
    """A thousandth of the least number above zero is zero."""
    fabric = {"kind": "leaf-spine", "hosts": 2, "hosts_per_leaf": 1, "spines": 1, "oversubscription": 1e3}
    with pytest.raises(ValidationError, match="bandwidth '1e-322 bit/s' must be from 1 bit/s to 1,000,000 TB/s"):
        document(fabric, downlink="1e-322 bit/s")


def test_loading_a_tree_needs_no_graph_library() -> None:
    code = "import sys, commbench.topology as t; t.load_fabric('fat-tree-131072').bandwidths; "
    code += "print('networkx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_link_kinds() -> None:
    tree = load_fabric("fat-tree-k4")
    assert isinstance(tree, Tree)
    assert [stage.kind for stage in tree.stages] == [LinkKind.PCIE] + [LinkKind.NETWORK] * 3
