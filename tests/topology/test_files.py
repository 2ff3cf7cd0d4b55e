# SPDX-License-Identifier: Apache-2.0
"""Topology files as people write them: new ones, short ones, the documented ones, and the schema that editors use."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.errors import CommbenchError, InputError, TopologyError
from commbench.topology import Provenance, load_fabric
from commbench.topology.build import build_fabric
from commbench.topology.keys import KEYS, json_schema
from commbench.topology.model import NodeKind
from commbench.topology.new import new_topology
from commbench.topology.schema import TopologyFile
from commbench.units import parse_ratio
from commbench.yaml_reader import read_yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "topology-files.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)


@settings(max_examples=60, deadline=None)
@given(
    hosts=st.integers(1, 300),
    gpus=st.integers(0, 9),
    rails=st.integers(1, 9),
    tiers=st.integers(0, 3),
    ratio=st.sampled_from(["1:1", "2:1", "3:2", "1:2", "7"]),
)
def test_new_files_are_valid_or_refused_with_what_to_type(
    tmp_path_factory: pytest.TempPathFactory, hosts: int, gpus: int, rails: int, tiers: int, ratio: str
) -> None:
    counts = {"hosts": hosts, "gpus": gpus, "rails": rails, "tiers": tiers}
    refused = ""
    try:
        text = new_topology(**counts, oversubscription=parse_ratio(ratio), name="it's: mine")
    except InputError as error:
        refused = str(error)
    if refused:
        assert "; type --" in refused
        return
    path = tmp_path_factory.mktemp("new") / "my.yaml"
    path.write_text(text, encoding="utf-8")
    document = TopologyFile.model_validate(read_yaml(path, TopologyError).data)
    made = build_fabric(document, "new") if hosts * rails < 2000 else None
    if made is not None:
        assert (made.name, made.num_hosts, made.num_ranks) == ("it's: mine", hosts, hosts * (gpus or 1))
        assert {number.provenance for number in made.numbers.values()} == {Provenance.ASSUMED}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hosts": 7}, "--hosts 7 with --tiers 2: do not share out evenly .* in each of 2 tiers; type --hosts 8"),
        ({"hosts": 6, "tiers": 3}, "--hosts 6 with --tiers 3: .* type --hosts 8 or --tiers 2"),
        ({"hosts": 2, "tiers": 0}, "--hosts 2 with --tiers 0: nothing joins them; type --tiers 1 or more"),
        ({"hosts": 0}, "--hosts 0: must be from 1 to 1,048,576"),
        ({"gpus": 1000000}, "--gpus 1000000: must be from 0 to 576"),
        ({"tiers": 1, "oversubscription": 2.0}, "--oversubscription 2 with --tiers 1: no uplinks; type --tiers 2"),
        ({"name": "a\nb"}, "--name 'a.nb': must be 1 to 200 printable characters"),
    ],
)
def test_impossible_new_files_are_refused(given: dict[str, object], message: str) -> None:
    options: dict[str, object] = {"hosts": 8, "gpus": 8, "rails": 1, "tiers": 2, "oversubscription": 1.0, "name": "x"}
    with pytest.raises(InputError, match=f"^{message}"):
        new_topology(**(options | given))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0].removeprefix("name: "))
def test_documented_files_load(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert load_fabric(tmp_path / "x.yaml").num_ranks > 1


def test_every_kind_and_key_is_documented() -> None:
    schema = json_schema()
    for definition in schema["$defs"].values():
        for key, about in definition.get("properties", {}).items():
            assert f"| `{key}` | {KEYS[key].meaning} | `{KEYS[key].example}` |" in DOCS
            if key in ("kind", "wiring"):
                assert any(re.search(rf"\b{key}: {about['const']}\b", text) for text in EXAMPLES)


def test_the_committed_schema_is_that_of_the_models() -> None:
    committed = json.loads((ROOT / "topologies" / "schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(), "commbench topology schema > topologies/schema.json"


def shipped(folder: Path, name: str, *edits: tuple[str, str]) -> Path:
    text = (ROOT / "topologies" / f"{name}.yaml").read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "x.yaml").write_text(text, encoding="utf-8")
    return folder / "x.yaml"


def test_a_short_number_counts_as_assumed(tmp_path: Path) -> None:
    long = "    latency: &hop {value: 1 us, provenance: assumed, source: *why}"
    path = shipped(tmp_path, "fat-tree-16", (long, "    latency: &hop 1 us"))
    made = load_fabric(path)
    assert made.links == load_fabric("fat-tree-16").links
    number = made.numbers["fabric.uplink.latency"]
    assert (number.text, number.provenance) == ("1 us", Provenance.ASSUMED)
    assert number.source == "given as a number alone, without a source"


def test_links_give_a_share_of_their_line_rate(tmp_path: Path) -> None:
    """Uplinks follow from line rates, so a share of the downlinks is none of theirs."""
    down = ("  downlink:\n", "  downlink:\n    efficiency: 0.5\n")
    up = ("  uplink: #", "  uplink:\n    efficiency: {value: 0.25, provenance: measured, source: here}\n    #")
    path = shipped(tmp_path, "fat-tree-16", down, up)
    for made in [load_fabric(path)]:
        assert set(made.bandwidths.tolist()) == {12.5e9, 12.5e9 / 2, 12.5e9 / 4}
        assert made.numbers["fabric.uplink.efficiency"].text == "0.25"
        assert made.numbers["fabric.uplink.efficiency"].provenance is Provenance.MEASURED
    made = load_fabric(shipped(tmp_path, "dgx-h100", ("  nvlink:\n", "  nvlink:\n    efficiency: 0.74\n")))
    assert max(made.bandwidths) == pytest.approx(0.74 * 450e9)


def test_several_nics_on_one_leaf_have_no_rails(tmp_path: Path) -> None:
    edits = (("routing: d-mod-k", "routing: rail-aware"), ("nics: 1", "nics: 4"))
    for name, kind in (("fat-tree-k4", "rail-three-tier"), ("fat-tree-16", "rail-optimized")):
        with pytest.raises(TopologyError, match=rf"fabric.kind: .* all 4 NICs .* one leaf, .* type `kind: {kind}`"):
            load_fabric(shipped(tmp_path, name, *edits))


def test_rails_in_three_tiers_end_on_leaves_of_their_own(tmp_path: Path) -> None:
    (text,) = (text for text in EXAMPLES if text.startswith("name: rail-three-tier"))
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    made = load_fabric(tmp_path / "x.yaml")
    assert [sum(1 for _ in made.of_kind(kind)) for kind in (NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE)] == [32, 4, 4]
    ups = {link.dst for link in made.links if link.src.startswith("h0/nic") and link.dst.startswith("leaf")}
    assert ups == {f"leaf{rail}" for rail in range(8)}


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("dgx-h100", ("gpus: 8", "gpus: 1000000"), "host.gpus: 1000000: must be at most 576, the most that 'gpus'"),
        ("star-8", ("hosts: 8", "hosts: 2000000"), "fabric.hosts: 2000000: must be at most 1,048,576, the most"),
        ("star-8", ("nics: 1", "nics: 1000"), "host.nics: 1000: must be at most 64"),
        ("fat-tree-k4", ("k: 4", "k: 1000"), "fabric.k: 1000: must be at most 160"),
        ("dgx-h100", ("links: 18", "links: 100000"), "host.nvlink.links: 100000: must be at most 1,024"),
        ("fat-tree-131072", ("cores: 1024", "cores: 1048576"), "fabric: [0-9,]+ links, .* at most 16,777,216"),
        ("dgx-h100-x2048", ("hosts: 2048", "hosts: 1048576"), "fabric: [0-9,]+ links, .* at most 16,777,216"),
    ],
)
def test_counts_have_bounds_that_name_themselves(
    tmp_path: Path, name: str, edit: tuple[str, str], message: str
) -> None:
    with pytest.raises(CommbenchError, match=message):
        load_fabric(shipped(tmp_path, name, edit))


def test_an_uplink_of_four_cables_stays_four_links(tmp_path: Path) -> None:
    text = (ROOT / "topologies" / "leaf-spine-16-4to1.yaml").read_text(encoding="utf-8")
    bundled = text.replace("    latency: *hop\n\ncosts", "    latency: *hop\n    links: 4\n\ncosts")
    assert bundled != text
    (tmp_path / "bundled.yaml").write_text(bundled, encoding="utf-8")
    single, bundle = load_fabric("leaf-spine-16-4to1"), load_fabric(str(tmp_path / "bundled.yaml"))
    count, expected = (sum(link.dst.startswith("spine") for link in each.links) for each in (bundle, single))
    assert count == 4 * expected
