# SPDX-License-Identifier: Apache-2.0
"""InfraGraph YAML: what is found, what is odd, and that what is written is that machine."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from commbench.cli.main import outcome
from commbench.errors import TopologyError
from commbench.topology import Fabric, LinkKind, NodeKind, load_fabric
from commbench.topology.imports import Imported, import_topology
from commbench.topology.load import read_topology
from commbench.topology.summary import node_counts

Data = dict[str, Any]


def part(name: str, count: int, choice: str, **more: Any) -> Data:
    return {"name": name, "count": count, "choice": choice, **more}


def edge(a: str, b: str, link: str, scheme: str = "many2many") -> Data:
    """Inside a device, or between instances where ends have a blank: "host[0] nic[0:2]"."""
    def end(text: str) -> Data:
        first, _, rest = text.rpartition(" ")
        return {"instance": first, "component": rest} if first else {"component": rest}

    return {"ep1": end(a), "ep2": end(b), "link": link, "scheme": scheme}


def link(name: str, gigabits: float | None = None, **latency: float) -> Data:
    told: Data = {"bandwidth": {"choice": "gigabits_per_second", "gigabits_per_second": gigabits}} if gigabits else {}
    told |= {"latency": latency} if latency else {}
    return {"name": name, **({"physical": told} if told else {})}


SERVER: Data = {
    "name": "box",
    "components": [
        part("cpu", 2, "cpu", description="AMD EPYC"), part("gpu", 4, "xpu", description="NVIDIA A100 SXM4"),
        part("nvsw", 2, "switch"), part("plx", 2, "custom", custom={"type": "pcie-switch"}),
        part("nic", 2, "nic"), part("mgmt", 1, "custom", custom={"type": "bmc"}),
    ],
    "links": [link("smp"), link("pcie", 252, ns=300), link("nvlink", 1200)],
    "edges": [
        edge("cpu", "cpu", "smp"), edge("cpu", "plx", "pcie", "one2one"), edge("gpu[0:2]", "plx[0]", "pcie"),
        edge("gpu[2:]", "plx[1]", "pcie"), edge("nic", "plx", "pcie", "one2one"), edge("gpu", "nvsw", "nvlink"),
        edge("mgmt", "cpu[0]", "pcie"),
    ],
}  # fmt: skip
SWITCH: Data = {
    "name": "sw",
    "components": [part("asic", 1, "cpu"), part("port", 16, "port")],
    "links": [link("ic")],
    "edges": [edge("asic", "port", "ic")],
}


def clos(rails: bool = False) -> Data:
    """Four hosts of two NICs on two leaves under two spines: 400 Gbit/s below, 2 x 200 above from each leaf to each."""
    places = [((h // 2 * 2 + i) if rails else h // 2, h, i) for h in range(4) for i in range(2)]
    below = [edge(f"box[{h}] nic[{i}]", f"leaf[{at}] port[{2 * (h % 2) + i}]", "down") for at, h, i in places]
    leaves = 4 if rails else 2
    above = [edge(f"leaf[{n}] port[{8 + 2 * s + k}]", f"spine[{s}] port[{2 * n + k}]", "up")
             for n in range(leaves) for s in range(2) for k in range(2)]  # fmt: skip
    count = [("box", "box", 4), ("leaf", "sw", leaves), ("spine", "sw", 2)]
    return {
        "name": "my clos",
        "devices": copy.deepcopy([SERVER, SWITCH]),
        "instances": [{"name": name, "device": device, "count": n} for name, device, n in count],
        "links": [link("down", 400, us=0.4), link("up", 200)],
        "edges": [*below, *above],
    }


def text(data: Data) -> str:
    return str(yaml.safe_dump(data, sort_keys=False))


def read(tmp_path: Path, data: Data | str, **options: Any) -> Imported:
    file = tmp_path / "a.yaml"
    file.write_text(data if isinstance(data, str) else text(data), encoding="utf-8")
    return import_topology(file, **options)


def loaded(tmp_path: Path, found: Imported) -> Fabric:
    assert found.text, found.why_none
    file = tmp_path / "made.yaml"
    file.write_text(found.text, encoding="utf-8")
    return load_fabric(file)


def network(fabric: Fabric) -> list[float]:
    """Gbit/s of each link between NICs and switches, one direction of each."""
    return sorted(x.bandwidth * 8 / 1e9 for x in fabric.links if x.kind is LinkKind.NETWORK)[::2]


def test_a_clos_of_gpu_hosts_is_written_as_one(tmp_path: Path) -> None:
    found = read(tmp_path, clos())
    assert found.what == "InfraGraph"
    assert dict(found.facts) == {
        "instances": "box 4 x box, leaf 2 x sw, spine 2 x sw",
        "hosts": "4 of 4 GPUs and 2 NICs",
        "switches": "4",
        "cables": "16: 8 x down (400 Gbit/s), 8 x up (200 Gbit/s)",
    }
    assert found.odd == ()
    fabric = loaded(tmp_path, found)
    written = read_topology(tmp_path / "made.yaml")
    assert (fabric.name, written.fabric.kind) == ("my-clos", "leaf-spine")
    assert (fabric.device, fabric.cpu) == ("a100-sxm4", "amd")
    counts = node_counts(fabric)
    assert [counts[k] for k in (NodeKind.GPU, NodeKind.NIC, NodeKind.PCIE_SWITCH, NodeKind.CPU)] == [16, 8, 8, 8]
    assert network(fabric) == [200.0] * 8 + [400.0] * 8
    inside = {x.kind: x.bandwidth for x in fabric.links if x.src == "h0/gpu0"}
    assert inside == pytest.approx({LinkKind.NVLINK: 300e9, LinkKind.PCIE: 31.5e9})
    waits = {x.kind: x.latency_ps for x in fabric.links if x.dst in ("leaf0", "h0/pcie0")}
    assert waits[LinkKind.PCIE] == 300_000
    assert {x.latency_ps for x in fabric.links if x.src == "h0/nic0" and x.dst == "leaf0"} == {400_000}


def test_rails_are_written_as_rails_and_one_switch_as_a_star(tmp_path: Path) -> None:
    rails = loaded(tmp_path, read(tmp_path, clos(rails=True)))
    assert read_topology(tmp_path / "made.yaml").fabric.kind == "rail-optimized"
    assert network(rails) == [200.0] * 16 + [400.0] * 8
    data = clos()
    data["instances"] = data["instances"][:2]
    data["edges"] = [edge("box[0:4] nic", "leaf[0] port[0:8]", "down", "one2one")]
    star = read(tmp_path, data)
    loaded(tmp_path, star)
    assert read_topology(tmp_path / "made.yaml").fabric.kind == "star"
    assert star.odd == ("nothing is connected to leaf[1], left out",)


def test_what_is_no_clos_is_a_graph_and_short_hosts_are_told(tmp_path: Path) -> None:
    data = clos()
    del data["edges"][1]  # the second NIC of the first host
    del data["edges"][-1]  # a cable between the second leaf and the second spine
    found = read(tmp_path, data)
    assert "1 hosts have fewer NICs connected than the usual 2, so are short of a NIC: box[0] 1" in found.odd
    fabric = loaded(tmp_path, found)
    assert read_topology(tmp_path / "made.yaml").fabric.kind == "graph"
    assert node_counts(fabric)[NodeKind.NIC] == 7
    assert network(fabric) == [200.0] * 7 + [400.0] * 7


def test_hosts_are_those_of_the_graph_whichever_way_the_ends_are_given(tmp_path: Path) -> None:
    one = clos()
    turned = clos()
    turned["edges"] = [{**e, "ep1": e["ep2"], "ep2": e["ep1"]} for e in reversed(turned["edges"])]
    assert read(tmp_path, one).text == read(tmp_path, turned).text


def test_links_without_a_rate_are_told_and_take_the_one_that_is_given(tmp_path: Path) -> None:
    data = clos()
    data["links"][0] = link("down")
    found = read(tmp_path, data)
    assert "no rate of link down between instances" in found.odd
    assert "link down has no rate: give --bandwidth" in found.why_none
    assert network(loaded(tmp_path, read(tmp_path, data, bandwidth="100 Gbit/s")))[0] == 100.0


@pytest.mark.parametrize(
    ("name", "words", "rates"),
    [
        ("nvlink", "box: no rate of link nvlink: 12 x 25 GB/s (NVLink 3) is assumed", (300, 31.5)),
        ("nvlink_4", "box: no rate of link nvlink_4: 18 x 25 GB/s (NVLink 4) is assumed", (450, 31.5)),
    ],
)
def test_rates_inside_a_host_that_are_not_said_are_assumed_aloud(
    tmp_path: Path, name: str, words: str, rates: tuple[float, float]
) -> None:
    data = clos()
    data["devices"][0]["links"][2] = link(name)
    data["devices"][0]["edges"][5]["link"] = name
    found = read(tmp_path, data)
    assert words in found.odd
    inside = {x.kind: x.bandwidth / 1e9 for x in loaded(tmp_path, found).links if x.src == "h0/gpu0"}
    assert inside == pytest.approx({LinkKind.NVLINK: rates[0], LinkKind.PCIE: rates[1]})
    assert "provenance: assumed" in found.text


def test_a_device_alone_is_one_host_and_transfers_are_those_of_sixteen_lanes(tmp_path: Path) -> None:
    data = copy.deepcopy(SERVER)
    transfers = {"choice": "gigatransfers_per_second", "gigatransfers_per_second": 32}
    data["links"][1]["physical"]["bandwidth"] = transfers
    found = read(tmp_path, data)
    fabric = loaded(tmp_path, found)
    assert (fabric.num_ranks, fabric.num_hosts) == (4, 1)
    assert dict(found.facts)["hosts"] == "1 of 4 GPUs and 2 NICs"
    assert {f"{x.bandwidth:.4g}" for x in fabric.links if x.kind is LinkKind.PCIE} == {"6.302e+10"}


def test_a_mesh_of_gpus_and_nics_that_are_devices_of_their_own(tmp_path: Path) -> None:
    nic = {"name": "card", "components": [part("asic", 1, "cpu"), part("slot", 1, "custom", custom={"type": "x"}),
                                          part("port", 1, "port")],
           "links": [link("wire")], "edges": [edge("asic", "port", "wire"), edge("slot", "asic", "wire")]}  # fmt: skip
    box = {"name": "box", "components": [part("cpu", 1, "cpu"), part("npu", 4, "npu"), part("card", 2, "device")],
           "links": [link("xgmi", 512), link("pcie", 256)],
           "edges": [edge("npu", "npu", "xgmi"), edge("npu", "cpu", "pcie"),
                     {"ep1": {"device": "card[0:2]", "component": "slot[0]"}, "ep2": {"component": "cpu"},
                      "link": "pcie", "scheme": "many2many"}]}  # fmt: skip
    data = {"devices": [box, nic, copy.deepcopy(SWITCH)], "links": [link("eth", 200)],
            "instances": [{"name": "h", "device": "box", "count": 2}, {"name": "s", "device": "sw", "count": 1}],
            "edges": [edge("h card[0:2].port", "s port[0:4]", "eth", "one2one")]}  # fmt: skip
    found = read(tmp_path, data)
    fabric = loaded(tmp_path, found)
    assert read_topology(tmp_path / "made.yaml").host.wiring == "mesh"
    counts = node_counts(fabric)
    assert [counts[k] for k in (NodeKind.GPU, NodeKind.NIC, NodeKind.CPU)] == [8, 4, 2]
    assert {x.bandwidth for x in fabric.links if x.kind is LinkKind.NVLINK} == {64e9}


def test_a_ring_of_switches_is_a_graph(tmp_path: Path) -> None:
    plain = {"name": "box", "components": [part("cpu", 1, "cpu"), part("nic", 1, "nic")], "links": [link("pcie")],
             "edges": [edge("cpu", "nic", "pcie")]}  # fmt: skip
    data = {"devices": [plain, SWITCH], "links": [link("eth", 100)],
            "instances": [{"name": "h", "device": "box", "count": 3}, {"name": "s", "device": "sw", "count": 3}],
            "edges": [edge("h nic", "s port[0]", "eth", "one2one"),
                      edge("s port[1]", "s port[1]", "eth", "ring")]}  # fmt: skip
    found = read(tmp_path, data)
    assert any("more than one cable at s[0] port.1" in one for one in found.odd)
    fabric = loaded(tmp_path, found)
    assert node_counts(fabric) == {NodeKind.CPU: 3, NodeKind.NIC: 3, NodeKind.LEAF: 3}
    assert network(fabric) == [100.0] * 6


def changed(*steps: str | int, value: Any = None) -> Data:
    data: Any = clos()
    here = data
    for step in steps[:-1]:
        here = here[step]
    if value is None:
        del here[steps[-1]]
    else:
        here[steps[-1]] = value
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed("devices", 0, "components", 1, "count"), "devices.0.components.1.count: missing"),
        (changed("devices", 0, "components", 1, "count", value=10**9), "must be at most 65,536"),
        (changed("devices", 0, "components", 1, "choice", value="tpu"), "components.1.choice: 'tpu': must be"),
        (changed("devices", 0, "hat", value=1), "devices.0.hat: unknown key; "),
        (changed("instances", 0, "device", value="bax"), "instances.0.device: no device 'bax'; did you mean box?"),
        (changed("edges", 0, "link", value="dawn"), "edges.0.link: no link 'dawn' among the links of the file"),
        (changed("edges", 0, "ep1", "instance", value="bx[0]"), "edges.0.ep1.instance: no instance 'bx'; did you mean"),
        (changed("edges", 0, "ep1", "instance", value="box[4]"), "ep1.instance: [4] must lie in 0:4, box has 4"),
        (changed("edges", 0, "ep1", "component", value="nic[0"), "'nic[0' is no name with a slice, such as npu[0:2]"),
        (changed("edges", 0, "ep1", "component", value="nic[a]"), "[a] is no slice such as [0:2]"),
        (changed("edges", 0, "ep1", "component", value="nik"), "'box' has no component 'nik'; did you mean nic?"),
        (changed("edges", 0, "scheme", value="ring"), "edges.0.scheme: a ring is of one list of ends"),
        (changed("edges", 0, "scheme", value="all"), "edges.0.scheme: 'all': must be"),
        (changed("devices", 0, "edges", 2, "scheme"), "devices.0.edges.2.scheme: missing, and there are several ends"),
        (changed("devices", 1, "name", value="box"), "devices.1.name: 'box' stands twice"),
        (changed("links", 0, "physical", "bandwidth", "gigabits_per_second", value=-1), "must be at least 1e-06"),
        ({"devices": [], "connections": ["a.0.x.b.0"]}, "connections: of InfraGraph's drafts; its schema has edges"),
        ({"infrastructure": {"devices": [{"name": "x"}, {}]}}, "infrastructure.devices.1.name: missing"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_line_and_key(tmp_path: Path, data: Data, words: str) -> None:
    with pytest.raises(TopologyError) as caught:
        read(tmp_path, data)
    assert words in str(caught.value)
    assert "a.yaml: line " in str(caught.value)


def test_the_line_is_that_of_the_key_in_whichever_form_the_file_is(tmp_path: Path) -> None:
    for data in (copy.deepcopy(SERVER), {"infrastructure": clos()}, clos()):
        whole = text(data)
        place = next(i for i, line in enumerate(whole.splitlines(), 1) if "component: nvsw" in line)
        with pytest.raises(TopologyError, match=f"a.yaml: line {place}: devices.0.edges.5.ep2.component: "):
            read(tmp_path, whole.replace("component: nvsw", "component: nvsx"))


def test_devices_inside_themselves_and_files_that_would_not_end_are_refused(tmp_path: Path) -> None:
    own = {"name": "box", "components": [part("box", 1, "device")]}
    instance = [{"name": "h", "device": "box", "count": 1}]
    with pytest.raises(TopologyError, match="more than 8 deep, or 'box' in itself"):
        read(tmp_path, {"devices": [own], "instances": instance})
    big = {"name": "box", "components": [part("gpu", 65536, "xpu"), part("a", 65536, "nic")],
           "links": [link("x")], "edges": [edge("gpu", "a", "x")]}  # fmt: skip
    with pytest.raises(TopologyError, match="more than 262,144 components and pairs that edges join"):
        read(tmp_path, {"devices": [big], "instances": instance})
    nest = [{"name": f"d{i}", "components": [part(f"d{i + 1}", 100, "device")]} for i in range(6)]
    nest += [{"name": "d6", "components": [part("gpu", 100, "xpu")]}]
    with pytest.raises(TopologyError, match="more than 262,144"):
        read(tmp_path, {"devices": nest, "instances": [{"name": "h", "device": "d0", "count": 1}]})


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([edge("box[0] nic", "box[1] nic", "down", "one2one")], "hosts box[0] and box[1] are joined without a switch"),
        ([edge("box gpu", "leaf[0] port", "down", "one2one")], "an edge ends at gpu.0 of host box[0], which"),
        ([], "no edge joins the hosts"),
        ([edge("box[0] nic", "leaf[0] port[0:2]", "up", "one2one"), edge("box[1] nic", "leaf[1] port[0:2]", "up",
         "one2one")], "the edges do not join all hosts"),
    ],
)  # fmt: skip
def test_what_no_topology_file_can_be_is_said(tmp_path: Path, edges: list[Data], words: str) -> None:
    found = read(tmp_path, changed("edges", value=edges) if edges else {**clos(), "edges": []})
    assert (found.text, words in found.why_none) == ("", True)


def test_gpus_joined_in_part_give_no_topology_and_say_why(tmp_path: Path) -> None:
    data = clos()
    data["devices"][0]["edges"][5] = edge("gpu[0]", "gpu[1]", "nvlink")
    assert "neither those of a switch of them all nor one between every two" in read(tmp_path, data).why_none
    uneven = clos()
    uneven["devices"][0]["edges"][2:4] = [edge("gpu[0:3]", "plx[0]", "pcie"), edge("gpu[3]", "plx[1]", "pcie")]
    assert "out of order" in " ".join(read(tmp_path, uneven).odd)


def test_the_command_imports_a_file_that_sim_then_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "infra.yaml", tmp_path / "mine.yaml"
    file.write_text(text(clos()), encoding="utf-8")
    assert outcome(["topology", "import", str(file), "--out", str(out)]) in (0, None)
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())
    assert outcome(["sim", "all-reduce", "-t", str(out), "-b", "1M", "-e", "1M", "--library", "ideal"]) in (0, None)


WHOLE = (text(clos()), text(clos(rails=True)), text(SERVER))
