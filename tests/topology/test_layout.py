# SPDX-License-Identifier: Apache-2.0
"""Pictures and the command line: nothing overlaps, what is left out is stated, output is stable."""

import json
import re
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from commbench.errors import TopologyError
from commbench.report.draw import topology_drawing, topology_svg
from commbench.report.text import fitted, words_width
from commbench.topology import LinkKind, NodeKind, list_topologies, load_fabric
from commbench.topology.layout import MOST_HOSTS, drawable, layout
from commbench.topology.summary import link_classes
from tests.cases import simulate_collective


@pytest.mark.parametrize("name", [name for name in list_topologies() if load_fabric(name).num_hosts <= MOST_HOSTS])
def test_boxes_stand_inside_and_apart(name: str) -> None:
    drawing = layout(drawable(load_fabric(name)))
    for box in drawing.boxes:
        assert box.x - box.width / 2 >= 190
        assert box.x + box.width / 2 <= drawing.width
        assert 0 < box.y < drawing.height
        assert fitted(box.label, 9.7, box.width) == box.label, "a name that is wider than its box"
    for a, b in combinations(drawing.boxes, 2):
        apart = abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
        assert apart, f"{a.name} and {b.name} overlap"
    for upper, lower in zip(drawing.labels, drawing.labels[1:], strict=False):
        assert lower.y - upper.y >= 34


def test_wide_fabric_is_abbreviated_and_says_so() -> None:
    drawing = layout(load_fabric("fat-tree-256"))
    leaves = [box.name for box in drawing.boxes if box.kind is NodeKind.LEAF]
    assert leaves == ["leaf0", "leaf1", "leaf2", "leaf3", "leaf4", "leaf14", "leaf15"]
    assert "… 9 more" in [box.label for box in drawing.boxes if box.gap]
    assert drawing.note == (
        "Drawn: 7 of 16 spines, 7 of 16 leaves, 14 of 256 hosts, and the links between them; "
        "all others are wired alike."
    )


def test_what_is_in_use_is_drawn_first() -> None:
    """With few ranks on a large fabric the ends of every tier were drawn, which were idle."""
    fabric = load_fabric("fat-tree-256")
    busy = {name: place for place, name in enumerate(["leaf9", "h151", "spine7", "leaf2", "h40", "h47", "h45"])}
    drawing = layout(fabric, busy)
    names = {box.name for box in drawing.boxes}
    assert {"leaf9", "h151", "spine7", "leaf2", "h40", "h47"} <= names
    assert "h45" not in names, "a leaf has room for two hosts"
    assert [box.label for box in drawing.boxes if box.gap and box.y < 200] == ["… 9 more"]
    assert [box.name for box in drawing.boxes if box.kind is NodeKind.LEAF] == [
        f"leaf{i}" for i in (0, 1, 2, 3, 4, 5, 9)
    ]
    assert "7 of 16 leaves, 14 of 256 hosts, those in use most first" in drawing.note


def test_small_fabric_is_drawn_whole() -> None:
    drawing = layout(load_fabric("fat-tree-k4"))
    assert drawing.note == ""
    network = [stroke for stroke in drawing.strokes if stroke.kind is LinkKind.NETWORK]
    assert len(network) == 3 * 16  # k^3/4 links in each of the three tiers


@pytest.mark.parametrize("name", ["dgx-h100-x128", "gb200-nvl72-x2", "mi300x-x2", "fat-tree-16", "shared-memory-4"])
def test_keys_stand_inside_and_apart_and_names_stand_out(name: str) -> None:
    """Keys of many kinds went beyond the edge, broad letters into the next key; white on pale boxes was faint."""
    fabric = load_fabric(name)
    done = simulate_collective(fabric, "all-reduce", "ring", 2**20, links=True, detail="collective")
    for svg in (topology_svg(fabric), topology_drawing(fabric, done).svg):
        width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
        shift = float((re.findall(r'translate\(0 (-?[\d.]+)\)', svg) or ["0"])[0])
        texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" dy=".35em" font-size="10.4" [^>]*>([^<]*)</text>', svg)
        keys = sorted((float(y), float(x), words) for x, y, words in texts if float(y) + shift > height - 40)
        assert len(keys) >= 3
        for (y, x, words), (below, next_x, _) in pairwise([*keys, (height, width, "")]):
            assert x + words_width(words, 10.4) <= (next_x - 28 if below == y else width), words
        boxes = re.findall(r'<rect[^>]*fill="(#\w{6})"[^>]*/>(?:<rect[^>]*/>)?<text[^>]*fill="#ffffff"', svg)
        assert min(map(_contrast_to_white, boxes)) >= 4.5


def _contrast_to_white(colour: str) -> float:
    """WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_labels_carry_count_bandwidth_and_latency() -> None:
    labels = {label.title: label.detail for label in layout(load_fabric("leaf-spine-16-4to1")).labels}
    assert labels == {
        "16 × leaf – spine": "25 Gbit/s, 1 us",
        "16 × NIC – leaf": "100 Gbit/s, 1 us",
        "16 × PCIe": "12.5 GB/s, no latency",
    }


def test_double_nvlinks_are_drawn_twice_as_thick() -> None:
    arcs = [stroke for stroke in layout(load_fabric("dgx-v100")).strokes if stroke.bend]
    assert sorted(stroke.weight for stroke in arcs) == [1.0] * 8 + [2.0] * 8


FABRIC = """
name: mine
description: Eight hosts.
routing: ecmp
host: {wiring: plain, nics: 1, bus: {bandwidth: 400 Gbit/s, latency: 0 us}}
costs: {message_overhead: 0 us, reduction: line-rate}
fabric:
"""
PARALLEL = """  kind: leaf-spine
  hosts: 8
  planes: 2
  hosts_per_leaf: 4
  spines: 2
  oversubscription: 1
  downlink: {bandwidth: 200 Gbit/s, latency: 1 us}
  uplink: {latency: 1 us, links: 2}
"""
TORUS = """  kind: torus
  shape: [4, 2]
  hosts_per_leaf: 1
  grid_link: {links: 1, bandwidth: 100 Gbit/s, latency: 1 us}
  downlink: {bandwidth: 400 Gbit/s, latency: 1 us}
"""


def test_parallel_cables_are_counted_and_drawn_one_by_one(tmp_path: Path) -> None:
    """Two cables between any two switches were told as half of the cables there are."""
    (tmp_path / "mine.yaml").write_text(FABRIC + PARALLEL, "utf-8")
    drawing = layout(load_fabric(str(tmp_path / "mine.yaml")))
    assert {label.title for label in drawing.labels} == {"16 × leaf – spine", "16 × NIC – leaf", "8 × PCIe"}
    network = [(s.x0, s.y0, s.x1, s.y1) for s in drawing.strokes if s.kind is LinkKind.NETWORK]
    assert len(network) == len(set(network)) == 32


def test_links_within_a_tier_do_not_run_through_what_stands_between(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(FABRIC + TORUS, "utf-8")
    drawing = layout(load_fabric(str(tmp_path / "mine.yaml")))
    level = [s for s in drawing.strokes if s.kind is LinkKind.NETWORK and s.y0 == s.y1]
    assert len(level) == 4 * 2 + 4
    assert all(stroke.bend > 0 and stroke.weight == 1 for stroke in level)


def test_svg_is_self_contained_and_stable() -> None:
    topology = load_fabric("dgx-h100-x4")
    svg = topology_svg(topology)
    assert svg == topology_svg(topology)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "<image" not in svg
    assert "@import" not in svg
    text = " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))
    for word in (
        "dgx-h100-x4",
        "spine0",
        "leaf7 r7",
        "gpu7",
        "nvswitch0",
        "450 GB/s",
        "400 Gbit/s",
        "PCIe switch",
    ):
        assert word in text


def test_link_classes_count_each_duplex_link_once() -> None:
    classes = {(c.src_kind, c.dst_kind): c.count for c in link_classes(load_fabric("dgx-h100-x4"))}
    assert classes == {
        (NodeKind.GPU, NodeKind.PCIE_SWITCH): 4 * 8,
        (NodeKind.NIC, NodeKind.PCIE_SWITCH): 4 * 8,
        (NodeKind.PCIE_SWITCH, NodeKind.CPU): 4 * 4,
        (NodeKind.CPU, NodeKind.CPU): 4,
        (NodeKind.GPU, NodeKind.NVSWITCH): 4 * 8,
        (NodeKind.NIC, NodeKind.LEAF): 4 * 8,
        (NodeKind.LEAF, NodeKind.SPINE): 8 * 4,
    }
    memory = [(c.duplex, c.count) for c in link_classes(load_fabric("shared-memory-4"))]
    assert memory == [(False, 4), (False, 1), (False, 4)]


def run(*arguments: str, columns: int = 80) -> str:
    from commbench.cli.topology import app

    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return result.stdout


def test_list_as_json_is_one_object_per_line() -> None:
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert [row["name"] for row in rows] == list(list_topologies())
    assert {(row["kind"], row["schema"]) for row in rows} == {("topology", 1)}
    assert next(row["ranks"] for row in rows if row["name"] == "dgx-h100-x16") == 128


def test_show_as_json() -> None:
    (line,) = run("show", "dgx-h100", "--json").splitlines()
    facts = json.loads(line)
    assert facts["nodes"] == {"gpu": 8, "cpu": 2, "nvswitch": 1, "pcie-switch": 4, "nic": 8}
    nvlink = next(make for make in facts["links"] if make["kind"] == "nvlink")
    assert (nvlink["count"], nvlink["bandwidth_GBps"], nvlink["latency_s"]) == (8, 450.0, 2.5e-07)
    assert facts["numbers"]["host.nvlink.bandwidth"]["provenance"] == "vendor"


@pytest.mark.parametrize(
    "arguments", [("list",), ("show", "dgx-h100"), ("show", "shared-memory-4"), ("show", "fat-tree-131072")]
)
def test_tables_fit_the_terminal_and_100_columns(arguments: tuple[str, ...]) -> None:
    for columns, most in ((80, 80), (160, 100)):
        lines = run(*arguments, columns=columns).splitlines()
        assert max(map(len, lines)) <= most


def test_show_names_every_number_and_its_origin() -> None:
    text = run("show", "dgx-h100")
    for path, number in load_fabric("dgx-h100").numbers.items():
        assert path in text
        assert f"{number.text}, {number.provenance.value}" in text


def test_draw_writes_the_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("draw") / "star.svg"
    assert run("draw", "star-8", "--out", str(out)) == ""
    assert out.read_text().startswith("<svg")
    assert json.loads(run("draw", "star-8", "--out", str(out), "--json")) == {
        "kind": "drawing",
        "schema": 1,
        "path": str(out),
    }


def test_what_is_too_large_to_draw_is_refused() -> None:
    from commbench.cli.topology import app

    with pytest.raises(TopologyError) as caught:
        CliRunner().invoke(app, ["draw", "fat-tree-131072", "--out", "no.svg"], catch_exceptions=False)
    assert str(caught.value) == (
        "topology fat-tree-131072: 131072 hosts are too many to draw, at most 4096; "
        "`commbench topology show fat-tree-131072` has its counts"
    )


def test_the_room_loads_nothing_heavy() -> None:
    code = "import sys, commbench.topology as t; t.load_fabric('dgx-h100'); "
    code += "print([m for m in ('matplotlib', 'torch', 'numba', 'rich', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
