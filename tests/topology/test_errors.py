# SPDX-License-Identifier: Apache-2.0
"""Bad topology files: each gives one line with the file, the key, the value and the rule."""

from collections.abc import Callable
from pathlib import Path

import pytest

from commbench.errors import TopologyError
from commbench.topology import Link, LinkKind, Node, NodeKind, load_fabric
from tests.cases import fabric_of

ErrorOf = Callable[[str, str, str], str]
SHIPPED = Path(__file__).resolve().parents[2] / "topologies"


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ErrorOf:
    """A function that edits a shipped file, loads the result as x.yaml and returns the error line."""
    monkeypatch.chdir(tmp_path)

    def error_of(name: str, old: str, new: str) -> str:
        text = (SHIPPED / f"{name}.yaml").read_text()
        assert old in text
        (tmp_path / "x.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(TopologyError) as caught:
            load_fabric("x.yaml")
        return str(caught.value)

    return error_of


UNITS = "give a number and a unit (bit/s, kbit/s, Kbit/s, Mbit/s, Gbit/s, Tbit/s, B/s, kB/s, KB/s, MB/s, GB/s, "
UNITS += "TB/s, KiB/s, MiB/s, GiB/s, TiB/s), for example '100 Gbit/s'"


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        (
            "dgx-h100-x4",
            "value: 400 Gbit/s",
            "value: 400",
            f"x.yaml: line 17: fabric.downlink.bandwidth.value: 400 is not a bandwidth: {UNITS}",
        ),
        (
            "dgx-h100-x4",
            "value: 400 Gbit/s",
            "value: '400'",
            f"x.yaml: line 17: fabric.downlink.bandwidth.value: '400' is not a bandwidth: {UNITS}",
        ),
        (
            "dgx-h100-x4",
            "value: 400 Gbit/s",
            "value: -400 Gbit/s",
            "x.yaml: line 17: fabric.downlink.bandwidth.value: bandwidth '-400 Gbit/s' must be above zero",
        ),
        (
            "fat-tree-16",
            "hosts: 16",
            "hosts: 18",
            "x.yaml: line 18: fabric.hosts: 18 is not a multiple of hosts_per_leaf 4",
        ),
        (
            "fat-tree-16",
            "hosts: 16",
            "hosts: 0",
            "x.yaml: line 18: fabric.hosts: 0: must be at least 1",
        ),
        (
            "fat-tree-16",
            "hosts: 16",
            "hosts: '16'",
            "x.yaml: line 18: fabric.hosts: '16': must be a whole number, for example `hosts: 16`",
        ),
        (
            "fat-tree-16",
            "  hosts: 16\n",
            "",
            "x.yaml: line 16: fabric.hosts: missing; every key must be given, there are no defaults, for "
            "example `hosts: 16`",
        ),
        (
            "fat-tree-16",
            "oversubscription: 1",
            "oversubscription: 0",
            "x.yaml: line 21: fabric.oversubscription: 0: must be at least 0.001",
        ),
        (
            "fat-tree-k4",
            "k: 4",
            "k: 5",
            "x.yaml: line 19: fabric.k: 5 must be even and at least 2 (k/2 ports down, k/2 up)",
        ),
        (
            "fat-tree-k4",
            "kind: fat-tree",
            "kind: fat-bush",
            "x.yaml: line 18: fabric.kind: 'fat-bush': must be one of 'dragonfly+', 'none', 'star', 'leaf-spine', "
            "'fat-tree', 'three-tier', 'rail-optimized', 'rail-three-tier', 'rail-only', 'torus', 'graph'",
        ),
        (
            "fat-tree-k4",
            "  kind: fat-tree\n",
            "",
            "x.yaml: line 17: fabric.kind: missing; every key must be given, there are no defaults, for "
            "example `kind: leaf-spine`",
        ),
        (
            "fat-tree-k4",
            "routing: d-mod-k",
            "routing: shortest",
            "x.yaml: line 5: routing: 'shortest': must be 'd-mod-k', 'ecmp' or 'rail-aware'",
        ),
        (
            "fat-tree-k4",
            "reduction: line-rate",
            "reduction: free",
            f"x.yaml: line 31: costs.reduction: 'free' is not a bandwidth: {UNITS}",
        ),
        (
            "star-8",
            "{value: 1 us, provenance: assumed, source: *why}",
            "{value: 1 us, provenance: guessed, source: *why}",
            "x.yaml: line 21: fabric.downlink.latency.provenance: 'guessed': must be 'measured', 'emulated', "
            "'simulated', 'fitted', 'vendor' or 'assumed'",
        ),
        (
            "star-8",
            "{value: 1 us, provenance: assumed, source: *why}",
            "{value: 1 us, provenance: assumed, source: ' '}",
            "x.yaml: line 21: fabric.downlink.latency.source: ' ': must not be empty, for example `source: "
            "datasheet of the NIC`",
        ),
        (
            "star-8",
            "{value: 1 us, provenance: assumed, source: *why}",
            "{value: 1 us, provenance: assumed}",
            "x.yaml: line 21: fabric.downlink.latency.source: missing; every key must be given, there are no "
            "defaults, for example `source: datasheet of the NIC`",
        ),
        (
            "star-8",
            "value: 1 us",
            "value: -1 us",
            "x.yaml: line 21: fabric.downlink.latency.value: duration '-1 us' must not be negative",
        ),
        (
            "star-8",
            "  hosts: 8",
            "  hosts: 8\n  hosts: 9",
            "x.yaml: line 19: key 'hosts' is given twice, first in line 18; keep one",
        ),
        (
            "dgx-h100",
            "links: 18",
            "links: 0",
            "x.yaml: line 15: host.nvlink.links: 0: must be at least 1",
        ),
        (
            "star-8",
            "  nics: 1",
            "  nics: 0",
            "x.yaml: line 8: host.nics: 0: must be at least 1",
        ),
        (
            "dgx-h100-x4",
            "host: dgx-h100",
            "host: dgx-h100-x2",
            "x.yaml: line 7: host: 'dgx-h100-x2' names another file in turn; one step only",
        ),
    ],
)
def test_one_line_says_all(edited: ErrorOf, name: str, old: str, new: str, line: str) -> None:
    assert edited(name, old, new) == line


def test_all_errors_are_said_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        """name: mine
description: all wrong
routing: shortest
host:
  wiring: nvswitch
  gpus: 1000000
  nics: eight
  pcie_switches: 4
  sockets: 2
  nvlnk: {links: 18, bandwidth: 25 GB/s, latency: 0.25 us}
  pcie: {bandwidth: 63, latency: 0.25 us}
  socket: {bandwidth: 22 GB/s, latency: {value: 1 us, provenance: guess, source: x}}
fabric:
  kind: leaf-spine
  hosts: 18
  hosts_per_leaf: 4
  spines: 4
  oversubscription: 2:0
  downlink: {bandwidth: 400 Gbit/s, latency: 1 us}
  uplink: {latency: 1 us, efficiency: 2}
costs: {message_overhead: 0 us}
"""
    )
    with pytest.raises(TopologyError) as caught:
        load_fabric(path)
    first, *others = str(caught.value).splitlines()
    assert first == f"{path}: 10 errors"
    starts = (
        "line 3: routing: 'shortest': must be 'd-mod-k', 'ecmp' or 'rail-aware'",
        "line 6: host.gpus: 1000000: must be at most 576, the most that 'gpus' may be",
        "line 7: host.nics: 'eight': must be a whole number, for example `nics: 8`",
        "line 10: host.nvlnk: unknown key; did you mean nvlink? known keys here: wiring, gpus, ",
        "line 11: host.pcie.bandwidth: 63 is not a bandwidth: give a number and a unit (",
        "line 12: host.socket.latency.provenance: 'guess': must be 'measured', ",
        "line 18: fabric.oversubscription: '2:0' is not a ratio: give a number above zero, or two as in '2:1'",
        "line 20: fabric.uplink.efficiency: 2: must be at most 1.0, the most that 'efficiency' may be",
        "line 21: costs.reduction: missing; every key must be given, there are no defaults, for example `reduction: l",
    )
    for start in starts:
        assert [line for line in others if line.startswith(f"  {start}")], start


def test_rules_between_keys_are_said_beside_other_errors(edited: ErrorOf) -> None:
    lines = edited("fat-tree-16", "routing: d-mod-k", "routing: shortest").splitlines()
    assert len(lines) == 1
    text = (SHIPPED / "fat-tree-16.yaml").read_text().replace("hosts: 16", "hosts: 18").replace("d-mod-k", "best")
    Path("y.yaml").write_text(text)
    with pytest.raises(TopologyError) as caught:
        load_fabric("y.yaml")
    assert "  line 18: fabric.hosts: 18 is not a multiple of hosts_per_leaf 4" in str(caught.value).splitlines()


def test_unknown_name_suggests_near_ones_and_says_where_it_looked() -> None:
    with pytest.raises(TopologyError) as caught:
        load_fabric("fat-tre-16")
    line = str(caught.value)
    assert line.startswith("topology 'fat-tre-16': not found; did you mean fat-tree-16 or ")
    assert str(SHIPPED) in line
    assert "$COMMBENCH_TOPOLOGIES is not set" in line


def test_unknown_host_names_the_file_that_asked(edited: ErrorOf) -> None:
    line = edited("dgx-h100-x4", "host: dgx-h100", "host: dgx-h10")
    assert line.startswith("x.yaml: line 7: host: topology 'dgx-h10': not found; did you mean dgx-h100 or ")


def test_unknown_host_does_not_hide_the_other_errors(edited: ErrorOf) -> None:
    text = edited("dgx-h100-x4", "host: dgx-h100", "host: dgx-h10\nowner: me")
    assert text.startswith("x.yaml: 2 errors\n  line 7: host: topology 'dgx-h10': not found; did you mean dgx-h100 or ")
    assert "\n  line 8: owner: unknown key" in text


def test_a_name_whose_file_lies_here_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("name: mine\n")
    with pytest.raises(TopologyError, match=r"topology 'mine': not found; did you mean the file mine\.yaml\?"):
        load_fabric("mine")


def test_missing_path() -> None:
    with pytest.raises(TopologyError, match=r"topology 'no/such\.yaml': no such file"):
        load_fabric("no/such.yaml")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be a mapping"),
        ("- 1\n", "must be a mapping"),
        ("a: [1\n", "not YAML: "),
        ("a: b: c\n", "not YAML: "),
        ("[a]: 1\n", "line 1: a key must be text"),
        ("a: &a [*a]\n", "line 1: this holds itself by an alias"),
    ],
)
def test_not_a_topology_at_all(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(TopologyError) as caught:
        load_fabric(path)
    assert str(caught.value).startswith(f"{path}: {rule}")
    assert "\n" not in str(caught.value)


def test_disconnected_graph_is_refused() -> None:
    nodes = tuple(Node(f"h{h}/gpu0", NodeKind.GPU, h, 0) for h in range(4))
    ends = [(0, 1), (1, 0), (2, 3), (3, 2)]
    links = tuple(Link(i, f"h{a}/gpu0", f"h{b}/gpu0", LinkKind.NVLINK, 1e9, 0) for i, (a, b) in enumerate(ends))
    with pytest.raises(TopologyError) as caught:
        fabric_of("islands", nodes, links, [node.name for node in nodes], "d-mod-k")
    assert str(caught.value) == "topology islands: the graph is not connected: no path leads from h0/gpu0 to h2/gpu0"


def test_a_graph_that_leads_only_one_way_is_refused() -> None:
    nodes = tuple(Node(f"h{h}/gpu0", NodeKind.GPU, h, 0) for h in range(2))
    links = (Link(0, "h1/gpu0", "h0/gpu0", LinkKind.NVLINK, 1e9, 0),)
    with pytest.raises(TopologyError, match="no path leads from h0/gpu0 to h1/gpu0"):
        fabric_of("one way", nodes, links, [node.name for node in nodes], "d-mod-k")
