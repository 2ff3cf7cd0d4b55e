# SPDX-License-Identifier: Apache-2.0
"""Every topology that is shipped: it loads, and each of its numbers says where it comes from."""

import time
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from commbench.topology import LinkKind, NodeKind, Provenance, list_topologies, load_fabric
from commbench.topology.search import search_directories
from commbench.topology.summary import link_classes, node_counts
from commbench.units import parse_bandwidth, parse_duration_ps

HERE = Path(__file__).resolve().parents[2] / "topologies"
SHIPPED = sorted(path.stem for path in HERE.glob("*.yaml"))
SMALL = [name for name in SHIPPED if load_fabric(name).num_hosts <= 256]  # of larger ones the graph takes long


def test_every_file_is_listed() -> None:
    assert set(SHIPPED) <= set(list_topologies())
    wanted = "fat-tree-16 fat-tree-64 fat-tree-128 fat-tree-256 fat-tree-512 fat-tree-1024 fat-tree-131072"
    wanted += " leaf-spine-16-4to1 fat-tree-k4 star-8"
    wanted += " dgx-a100 dgx-h100 hgx-a800 hgx-h800 pcie-4090 oam-mesh dgx-v100"
    wanted += " dgx-h100-x4 dgx-h100-x16 dgx-h100-x64 dgx-h100-x128 dgx-h100-x2048"
    wanted += " dgx-h100-x8-rail-only shared-memory-4"
    assert set(wanted.split()) <= set(SHIPPED)


def test_names_are_sorted_as_people_count() -> None:
    names = [name for name in list_topologies() if name in ("fat-tree-16", "fat-tree-64", "fat-tree-128")]
    assert names == ["fat-tree-16", "fat-tree-64", "fat-tree-128"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_topology_says_what_it_is(name: str) -> None:
    fabric = load_fabric(name)
    assert fabric.name == name
    assert fabric.description.endswith(".")
    assert Path(fabric.origin).name == f"{name}.yaml"
    for path, number in fabric.numbers.items():
        assert isinstance(number.provenance, Provenance)
        assert len(number.source) >= 15, f"{name}: {path}: {number.source!r} is no source"
        parse = parse_bandwidth if path.endswith(("bandwidth", "reduction")) else parse_duration_ps
        parse(number.text)


@pytest.mark.parametrize("name", SMALL)
def test_shipped_topology_is_whole(name: str) -> None:
    topology = load_fabric(name)
    reachable = nx.descendants(topology.graph, topology.ranks[0])
    assert set(topology.ranks[1:]) <= reachable


@pytest.mark.parametrize("name", SHIPPED)
def test_no_number_is_without_its_origin(name: str) -> None:
    """Bandwidth and latency of every link come from a number with an origin (uplinks follow from it)."""
    fabric = load_fabric(name)
    latencies = {parse_duration_ps(n.text) for path, n in fabric.numbers.items() if path.endswith("latency")}
    assert set(np.unique(fabric.latencies_ps)) <= latencies
    rates = [parse_bandwidth(n.text) for path, n in fabric.numbers.items() if path.endswith("bandwidth")]
    for bandwidth in np.unique(fabric.bandwidths):
        assert any((bandwidth / rate) % 1 == 0 or (rate / bandwidth) % 1 == 0 for rate in rates)


@pytest.mark.parametrize(("hosts", "per_leaf"), [(16, 4), (64, 8), (128, 16), (256, 16), (512, 16), (1024, 16)])
def test_fat_trees_are_the_ones_of_the_cross_check(hosts: int, per_leaf: int) -> None:
    topology = load_fabric(f"fat-tree-{hosts}")
    leaves = hosts // per_leaf
    assert node_counts(topology) == {
        NodeKind.CPU: hosts, NodeKind.NIC: hosts, NodeKind.LEAF: leaves, NodeKind.SPINE: per_leaf
    }  # fmt: skip
    assert {link.bandwidth for link in topology.links} == {12.5e9}
    for link in topology.links:
        assert link.latency_ps == (1_000_000 if link.kind is LinkKind.NETWORK else 0)
    assert (topology.costs.message_overhead_ps, topology.costs.reduction_ps_per_byte) == (0, 0.0)
    assert topology.routing == "d-mod-k"
    far = nx.shortest_path(topology.graph, topology.ranks[0], topology.ranks[-1])
    hops = [topology.graph.edges[edge]["link"] for edge in nx.utils.pairwise(far)]
    assert sum(link.latency_ps for link in hops) == 4_000_000  # up, up, down, down at 1 us


def test_the_largest_tree_never_blocks_and_is_three_tiers_deep() -> None:
    """128 pods x 32 leaves x 32 hosts: as many links between any two neighbouring levels as there are hosts."""
    tree = load_fabric("fat-tree-131072")
    hosts = 131_072
    assert (tree.num_ranks, tree.num_hosts, tree.routing) == (hosts, hosts, "d-mod-k")
    assert node_counts(tree) == {
        NodeKind.CPU: hosts, NodeKind.NIC: hosts, NodeKind.LEAF: 4096, NodeKind.SPINE: 4096, NodeKind.CORE: 1024
    }  # fmt: skip
    assert [make.count for make in link_classes(tree)] == [hosts] * 4
    assert tree.bandwidths.shape == tree.latencies_ps.shape == (2 * 4 * hosts,)
    assert set(tree.bandwidths) == {12.5e9}
    assert np.flatnonzero(tree.latencies_ps == 0).tolist() == list(range(2 * hosts))  # the buses come first
    assert set(tree.latencies_ps[2 * hosts :]) == {1_000_000}


def test_oversubscribed_uplinks_have_a_quarter() -> None:
    full, lean = (
        {c.bandwidth for c in link_classes(load_fabric(name)) if c.dst_kind is NodeKind.SPINE}
        for name in ("fat-tree-16", "leaf-spine-16-4to1")
    )
    assert (full, lean) == ({12.5e9}, {12.5e9 / 4})


@pytest.mark.parametrize(
    ("name", "rate_GBps"), [("dgx-a100", 300), ("dgx-h100", 450), ("hgx-a800", 200), ("hgx-h800", 200)]
)
def test_nvlink_line_rate_per_gpu(name: str, rate_GBps: float) -> None:  # noqa: N803
    topology = load_fabric(name)
    nvlinks = [link for link in topology.links if link.kind is LinkKind.NVLINK]
    assert len(nvlinks) == 16
    assert {link.bandwidth for link in nvlinks} == {rate_GBps * 1e9}


def test_v100_and_oam_line_rates_per_gpu() -> None:
    for name, rate in (("dgx-v100", 6 * 25e9), ("oam-mesh", 7 * 64e9)):
        topology = load_fabric(name)
        out = [x.bandwidth for x in topology.links if x.kind is LinkKind.NVLINK and x.src == "h0/gpu3"]
        assert sum(out) == rate


def test_cluster_takes_its_host_from_another_file() -> None:
    alone, cluster = load_fabric("dgx-h100"), load_fabric("dgx-h100-x4")
    inside = [(x.src, x.dst, x.kind, x.bandwidth, x.latency_ps) for x in cluster.links if x.src.startswith("h0/")]
    own = [(x.src, x.dst, x.kind, x.bandwidth, x.latency_ps) for x in alone.links]
    assert [x for x in inside if x[2] is not LinkKind.NETWORK] == own
    assert {k: v for k, v in cluster.numbers.items() if k.startswith("host.")} == {
        k: v for k, v in alone.numbers.items() if k.startswith("host.")
    }
    assert [cluster.name_of(nic) for nic in cluster.nics[16:24]] == [f"h2/nic{i}" for i in range(8)]


def test_reduction_rate_becomes_time_per_byte() -> None:
    costs = load_fabric("shared-memory-4").costs
    assert costs.reduction_ps_per_byte == pytest.approx(1e12 / 5e9)  # 5 GB/s
    assert costs.message_overhead_ps == 10_000_000  # 10 us


def test_load_is_quick() -> None:
    load_fabric("dgx-h100")
    start = time.perf_counter()
    load_fabric("dgx-h100")
    assert time.perf_counter() - start < 0.2


def test_search_order(tmp_path: Path) -> None:
    places = search_directories({"COMMBENCH_TOPOLOGIES": f"{tmp_path / 'a'}:{tmp_path / 'b'}"})
    assert places[:3] == (tmp_path / "a", tmp_path / "b", HERE)


def test_own_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (HERE / "star-8.yaml").read_text().replace("hosts: 8", "hosts: 3")
    (tmp_path / "star-8.yaml").write_text(text)
    monkeypatch.setenv("COMMBENCH_TOPOLOGIES", str(tmp_path))
    assert load_fabric("star-8").num_ranks == 3
    assert load_fabric("fat-tree-16").num_ranks == 16
