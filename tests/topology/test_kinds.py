# SPDX-License-Identifier: Apache-2.0
"""Kinds of fabric beside the plain trees: routes by an independent check, bandwidth of cuts by hand, one more kind."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import networkx as nx
import numpy as np
import pytest

from commbench.errors import TopologyError
from commbench.network.cuts import Surroundings
from commbench.routing.policies import POLICIES
from commbench.routing.router import Router
from commbench.topology import Fabric, NodeKind, load_fabric
from commbench.topology.build import build_fabric
from commbench.topology.cabling import Cabling
from commbench.topology.fabric import Stage
from commbench.topology.kinds import FABRIC_KINDS, FabricKind, register
from commbench.topology.model import SWITCH_KINDS
from commbench.topology.schema import TopologyFile
from commbench.topology.sections import Hosts, LinkSection
from tests.cases import simulate_collective

GBIT = 1e9 / 8
LINK = {"bandwidth": "100 Gbit/s", "latency": "1 us"}
TWO = {"links": 2, "bandwidth": "50 Gbit/s", "latency": "1 us"}
PCIE = {"bandwidth": "63 GB/s", "latency": "0.25 us"}
GPU = {"gpus": 4, "nics": 2, "pcie_switches": 0, "sockets": 2, "pcie": PCIE, "socket": PCIE}
RACK = {"wiring": "nvlink-rack", "trays": 3, **GPU, "nvlink": {"links": 18, **PCIE}}
MIXED = {
    "wiring": "mixed",
    "groups": [{"hosts": 2, "host": {"wiring": "pcie", **GPU, "gpus": gpus}} for gpus in (4, 2)],
}
SHAPE = {"hosts_per_leaf": 2, "spines": 2, "oversubscription": 1, "downlink": LINK}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "torus": ({"kind": "torus", "shape": [4, 3, 2], "hosts_per_leaf": 1, "downlink": LINK, "grid_link": TWO}, None),
    "dragonfly+": (
        {
            "kind": "dragonfly+", "groups": 3, "hosts_per_leaf": 2, "leaves_per_group": 2, "spines_per_group": 2,
            "downlink": LINK, "group_link": LINK, "global_link": TWO | {"links": 3},
        },
        None,
    ),
    "dual-plane": ({"kind": "leaf-spine", "hosts": 8, "planes": 2, **SHAPE, "uplink": {"latency": "1 us"}}, None),
    "bundles": ({"kind": "leaf-spine", "hosts": 8, **SHAPE, "uplink": {"latency": "1 us", "links": 4}}, None),
    "planes of bundles": (
        {"kind": "rail-optimized", "hosts": 8, "planes": 2, **SHAPE, "uplink": {"latency": "1 us", "links": 3}},
        None,
    ),
    "racks": ({"kind": "rail-optimized", "hosts": 4, **SHAPE, "uplink": {"latency": "1 us"}}, RACK),
    "mixed": ({"kind": "leaf-spine", "hosts": 4, **SHAPE, "uplink": {"latency": "1 us"}}, MIXED),
    "graph": (
        {
            "kind": "graph",
            "hosts": 3,
            "switches": [{"name": name, "tier": "leaf"} for name in "abc"],
            "cables": [
                *({"a": f"h{h}/nic{n}", "b": "abc"[h], **LINK} for h in range(3) for n in range(2)),
                {"a": "a", "b": "b", **TWO},
                {"a": "c", "b": "b", **LINK},
            ],
        },
        None,
    ),
}  # fmt: skip


def made(fabric: dict[str, Any], host: dict[str, Any] | None = None) -> Fabric:
    document = {
        "name": "made",
        "description": "made.",
        "routing": "d-mod-k",
        "host": host or {"wiring": "plain", "nics": 2, "bus": {"bandwidth": "400 Gbit/s", "latency": "0 us"}},
        "fabric": fabric,
        "costs": {"message_overhead": "0 us", "reduction": "line-rate"},
    }
    return build_fabric(TopologyFile.model_validate(document), "a test")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
def test_routes_are_shortest_ways_through_the_switches(kind: str, policy: str) -> None:
    """Held against networkx, which knows nothing of NICs, policies or trees."""
    fabric = made(*KINDS[kind])
    graph = nx.DiGraph((link.src, link.dst) for link in fabric.links)
    inside = {node.name for node in fabric.nodes if node.kind not in SWITCH_KINDS}
    src, dst = np.divmod(np.arange(fabric.num_ranks**2), fabric.num_ranks)
    first, links = Router(fabric, policy, seed=3).routes(src, dst, np.arange(len(src)) % 3)
    for i, (a, b) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        route = [fabric.links[link] for link in links[first[i] : first[i + 1]].tolist()]
        assert [link.src for link in route] + [fabric.ranks[b]] == [fabric.ranks[a]] + [link.dst for link in route]
        nodes = [link.dst for link in route]
        assert len(set(nodes)) == len(nodes)
        if fabric.host_of[a] != fabric.host_of[b]:
            leave = next(j for j, link in enumerate(route) if link.dst not in inside)
            arrive = next(j for j in range(leave + 1, len(route)) if route[j].dst in inside)
            ends = route[leave].src, route[arrive].dst
            switches = graph.subgraph({*ends, *(set(graph) - inside)})
            assert arrive - leave + 1 == nx.shortest_path_length(switches, *ends)


def test_an_ecmp_flow_takes_any_cable_and_any_plane() -> None:
    for kind, count in (("dual-plane", 4), ("bundles", 8)):
        fabric = made(*KINDS[kind])
        router = Router(fabric, "ecmp")
        up = {link for channel in range(0, 80, 2) for link in router.route(0, 7, channel)}
        assert sum(fabric.links[link].src.startswith("leaf") for link in up) >= count
        into = Counter(fabric.links[link].dst for link in up if fabric.links[link].dst.startswith("spine"))
        assert sum(into.values()) == count


@pytest.mark.parametrize(
    ("kind", "gbit"),
    [
        ("torus", {200, 200 + 2 * 100 + 2 * 100 + 100}),  # a NIC pair; a switch alone is no set, its host is
        ("dual-plane", {400, 800}),  # two NICs with two links each; a leaf group of two hosts
        ("bundles", {200, 400}),
        ("dragonfly+", {200, 800, 300}),
    ],
)
def test_the_bandwidth_around_hosts_and_groups(kind: str, gbit: set[int]) -> None:
    """By hand: what leaves a host, and what hangs together without spines or cores."""
    fabric = made(*KINDS[kind])
    cuts = Surroundings(fabric, np.arange(fabric.num_ranks)).cuts(0)
    assert np.array_equal(cuts.leave, cuts.enter)
    assert {round(rate / GBIT) for rate in cuts.leave.tolist()} - {800} <= gbit | {800}
    assert min(round(rate / GBIT) for rate in cuts.leave.tolist()) == min(gbit)


def test_a_torus_has_two_neighbours_in_each_direction_and_one_where_two_stand_in_a_row() -> None:
    fabric = made(*KINDS["torus"])
    degree = Counter(link.src for link in fabric.links if link.src.startswith("leaf") and link.dst.startswith("leaf"))
    assert set(degree.values()) == {2 * (2 + 2 + 1)}
    assert len(degree) == 24


def test_every_two_groups_of_a_dragonfly_have_their_links() -> None:
    fabric = made(*KINDS["dragonfly+"])
    spine = {f"spine{i}": i // 2 for i in range(6)}
    pairs = Counter((spine[x.src], spine[x.dst]) for x in fabric.links if {x.src, x.dst} <= spine.keys())
    assert pairs == {(a, b): 3 for a in range(3) for b in range(3) if a != b}


def test_planes_share_no_switch() -> None:
    fabric = made(*KINDS["dual-plane"])
    network = nx.Graph((x.src, x.dst) for x in fabric.links if "h" not in x.src[:1] and "h" not in x.dst[:1])
    assert sorted(map(len, nx.connected_components(network))) == [6, 6]  # 4 leaves and 2 spines, twice


def test_a_rack_is_one_host_and_its_trays_meet_at_nvswitch_alone() -> None:
    fabric = made(*KINDS["racks"])
    assert (fabric.num_hosts, fabric.num_ranks, len(fabric.of_kinds(NodeKind.NIC))) == (4, 48, 24)
    assert Router(fabric, "d-mod-k").path(0, 11) == ["h0/gpu0", "h0/nvswitch0", "h0/gpu11"]
    without = fabric.graph.subgraph(name for name in fabric.names if name.startswith("h0/") and "nvs" not in name)
    assert nx.number_weakly_connected_components(without) == 3
    assert [fabric.name_of(nic) for nic in fabric.nics[:12:2]] == [f"h0/nic{i}" for i in range(6)]


def test_mixed_hosts_stand_group_by_group(tmp_path: Path) -> None:
    fabric = made(*KINDS["mixed"])
    assert np.bincount(fabric.host_of).tolist() == [4, 4, 2, 2]
    record = simulate_collective(fabric, "all-reduce", "ring", 2**20).record
    assert record.time_s > record.lower_bound_s > 0
    with pytest.raises(TopologyError, match=r"host\.groups: 4 hosts in all groups, but the fabric joins 8"):
        made(KINDS["bundles"][0], MIXED)


def test_a_graph_of_networkx_is_the_same_as_its_cables(tmp_path: Path) -> None:
    section = KINDS["graph"][0]
    graph = nx.MultiGraph()
    graph.add_nodes_from((switch["name"], {"tier": "leaf"}) for switch in section["switches"])
    for cable in section["cables"]:
        graph.add_edge(cable["a"], cable["b"], **{key: value for key, value in cable.items() if key not in "ab"})
    path = tmp_path / "my.json"
    path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")), encoding="utf-8")
    read = made({"kind": "graph", "hosts": 3, "node_link": str(path)})
    listed = made(section)
    assert sorted((x.src, x.dst, x.bandwidth, x.latency_ps) for x in read.links) == sorted(
        (x.src, x.dst, x.bandwidth, x.latency_ps) for x in listed.links
    )
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(TopologyError, match=r"fabric.node_link: .*my\.json is no node-link JSON of networkx: 'nodes'"):
        made({"kind": "graph", "hosts": 3, "node_link": str(path)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cables": [{"a": "x", "b": "a", **LINK}]}, "fabric.cables.0: 'x' is no listed switch and no NIC"),
        ({"cables": [{"a": "h0/nic0", "b": "h1/nic0", **LINK}]}, "fabric.cables.0: h0/nic0 - h1/nic0 must join"),
        ({"cables": [{"a": "h0/nic0", "b": "a", **LINK}]}, "fabric.cables: h0/nic1 has no cable"),
        ({"switches": [{"name": "a", "tier": "leaf"}] * 2}, "fabric.switches: name 'a' is used twice"),
        ({"cables": KINDS["graph"][0]["cables"][:-1]}, "the graph is not connected: no path leads from h0/cpu0 to h2"),
    ],
)
def test_graphs_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        made(KINDS["graph"][0] | change)


def test_a_kind_is_added_from_outside() -> None:
    """A ring of switches, one host on each: a schema class that knows its builder, and nothing else."""

    class RingFabric(FabricKind):
        kind: Literal["ring-of-switches"]
        hosts: Hosts
        cable: LinkSection

        def join(self, net: Cabling) -> tuple[Stage, ...]:
            leaf = net.switches(NodeKind.LEAF, self.hosts) + np.arange(self.hosts)
            net.join(net.nics, np.repeat(leaf, net.nics_per_host), self.cable.wire)
            net.join(leaf, np.roll(leaf, -1), self.cable.wire)
            return ()

    try:
        register(RingFabric)
        fabric = made({"kind": "ring-of-switches", "hosts": 5, "cable": LINK})
        path = [name for name in Router(fabric).path(0, 3) if name.startswith("leaf")]
        assert path == ["leaf0", "leaf4", "leaf3"]
        assert simulate_collective(fabric, "all-reduce", "ring", 2**20).record.time_s > 0
    finally:
        FABRIC_KINDS.pop("ring-of-switches", None)
        register(FABRIC_KINDS["torus"])  # tells all who know the kinds


def test_131072_gpus_load_in_two_seconds_and_a_gibibyte() -> None:
    fabric = load_fabric("dgx-h100-x16384")
    assert (fabric.num_ranks, fabric.num_hosts) == (131_072, 16_384)
    assert sum(getattr(fabric, name).nbytes for name in ("src", "dst", "bandwidths", "latencies_ps")) < 2**26
