# SPDX-License-Identifier: Apache-2.0
"""NCCL's topology XML of a host: what is written is read back as the same machine, and what is not is said."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from commbench.cli.main import outcome
from commbench.errors import InputError
from commbench.topology import Fabric, LinkKind, list_topologies, load_fabric
from commbench.topology.exports import export_topology
from commbench.topology.imports import import_topology
from commbench.topology.load import read_topology
from commbench.topology.schema import GpuHost

GPU_TOPOLOGIES = [name for name in list_topologies() if isinstance(read_topology(name).host, GpuHost)]


def inside(fabric: Fabric, trays: int) -> list[tuple[str, str, LinkKind, float]]:
    """Links of host 0 by name with GB/s to four figures; of a rack those of its first tray."""
    def number(name: str) -> int:
        return int(name.rpartition("/")[2].lstrip("abcdefghijklmnopqrstuvwxyz"))

    sizes = {node.kind: 0 for node in fabric.of_kind(*{node.kind for node in fabric.nodes if node.host == 0})}
    for node in fabric.nodes:
        sizes[node.kind] = sizes.get(node.kind, 0) + (node.host == 0)
    kinds = {node.name: node.kind for node in fabric.nodes}
    own = [x for x in fabric.links if x.src.startswith("h0/") and x.dst.startswith("h0/")]
    first = [x for x in own if all(number(n) < max(1, sizes[kinds[n]] // trays) for n in (x.src, x.dst))]
    return sorted((x.src, x.dst, x.kind, float(f"{x.bandwidth / 1e9:.3g}")) for x in first)


def back(tmp_path: Path, text: str) -> tuple[Fabric, Any]:
    file, made = tmp_path / "host.xml", tmp_path / "host.yaml"
    file.write_text(text, encoding="utf-8")
    found = import_topology(file)
    made.write_text(found.text, encoding="utf-8")
    return load_fabric(made), found


def small(name: str) -> Fabric:
    """The same host alone or with few others: big fabrics have no names for tests to go through."""
    fabric = load_fabric(name)
    return fabric if fabric.num_hosts <= 16 else load_fabric(name.partition("-x")[0])


@pytest.mark.parametrize("name", GPU_TOPOLOGIES)
def test_every_shipped_gpu_host_is_read_back_as_the_same_machine(tmp_path: Path, name: str) -> None:
    host = read_topology(name).host
    assert isinstance(host, GpuHost)
    made = export_topology(name, "nccl-xml")
    fabric, found = back(tmp_path, made.text)
    assert not [one for one in found.odd if one != "no network interface" or host.nics]
    assert fabric.device.startswith(host.device or "?")
    assert fabric.cpu == host.cpu
    assert inside(fabric, 1) == inside(small(name), getattr(host, "trays", 1))
    assert all(" ".join(one.split()) in " ".join(made.text.split()) for one in made.said)


@pytest.mark.parametrize("name", ["dgx-h100", "p5-x2", "p3dn-x2", "pcie-4090", "gh200-quad"])
def test_devices_hang_where_they_do_in_the_fabric(name: str) -> None:
    root = ElementTree.fromstring(export_topology(name, "nccl-xml").text)
    cpus = root.findall("cpu")
    switches = [pci for cpu in cpus for pci in cpu.findall("pci") if pci.get("class") == "0x060400"]
    points = {f"pcie{i}": one for i, one in enumerate(switches)} or {f"cpu{i}": one for i, one in enumerate(cpus)}
    found = {
        (f"h0/{kind}{tag.get('dev')}", f"h0/{point}")
        for point, one in points.items()
        for kind, path in (("gpu", "pci/gpu"), ("nic", "pci/nic/net"))
        for tag in one.findall(path)
    }
    fabric, words = load_fabric(name), ("h0/gpu", "h0/nic")
    told = {(x.src, x.dst) for x in fabric.links if x.src.startswith(words) and x.kind is LinkKind.PCIE}
    assert found == told


def test_speeds_of_nics_are_those_of_the_fabric_and_made_up_without_one(tmp_path: Path) -> None:
    assert 'speed="400000"' in export_topology("dgx-h100-x4", "nccl-xml").text
    file = tmp_path / "a.yaml"
    downlink = {"bandwidth": "100 Gbit/s", "latency": "1 us", "efficiency": 0.8}
    data = {"name": "a", "description": "d", "routing": "ecmp", "host": "dgx-h100", "fabric":
            {"kind": "star", "hosts": 2, "planes": 2, "downlink": downlink},
            "costs": {"message_overhead": "0 us", "reduction": "line-rate"}}  # fmt: skip
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    made = export_topology(file, "nccl-xml")
    assert 'speed="200000"' in made.text
    assert "efficiency of downlink has no place in the format" in made.said
    alone = export_topology("dgx-a100", "nccl-xml")
    assert 'speed="200000"' in alone.text
    assert "the NICs have no fabric and so no speed: 200 Gbit/s, what their PCIe carries" in alone.said


def changed(tmp_path: Path, name: str = "dgx-h100", **host: Any) -> Path:
    data = yaml.safe_load((Path(__file__).parents[2] / f"topologies/{name}.yaml").read_text(encoding="utf-8"))
    data["host"] = {key: value for key, value in {**data["host"], **host}.items() if value is not None}
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"nvlink": {"links": 18, "bandwidth": "20 GB/s", "latency": "0 us"}}, "nvlink.bandwidth 20 GB/s: the format"),
        ({"pcie": {"bandwidth": "40 GB/s", "latency": "0 us"}}, "40 GB/s: of no PCIe link; 16.0 GT/s x 16 is nearest"),
        ({"socket": {"bandwidth": "30 GB/s", "latency": "0 us"}}, "socket.bandwidth 30 GB/s: the format names the CPU"),
        ({"cpu": None}, "cpu is not said"),
        ({"pcie": {"bandwidth": "63 GB/s", "latency": "0 us", "efficiency": 0.7}}, "efficiency of pcie has no place"),
    ],
)
def test_what_the_format_cannot_hold_is_said(tmp_path: Path, host: dict[str, Any], words: str) -> None:
    assert any(words in one for one in export_topology(changed(tmp_path, **host), "nccl-xml").said)


def test_a_rack_gives_one_tray_and_says_so(tmp_path: Path) -> None:
    made = export_topology("gb200-nvl72", "nccl-xml")
    assert back(tmp_path, made.text)[0].num_ranks == 4
    assert any("one tray of 18" in one for one in made.said)


def test_the_host_of_a_mixed_cluster_is_chosen_by_its_number(tmp_path: Path) -> None:
    groups = [{"hosts": 1, "host": "dgx-h100"}, {"hosts": 2, "host": "dgx-a100"}]
    fabric = {"kind": "star", "hosts": 3, "downlink": {"bandwidth": "200 Gbit/s", "latency": "1 us"}}
    data = {"name": "m", "description": "d", "routing": "ecmp", "host": {"wiring": "mixed", "groups": groups},
            "fabric": fabric, "costs": {"message_overhead": "0 us", "reduction": "line-rate"}}  # fmt: skip
    file = tmp_path / "m.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert 'sm="90"' in export_topology(file, "nccl-xml").text
    made = export_topology(file, "nccl-xml", 2).text
    assert 'sm="80"' in made
    assert 'speed="200000"' in made
    with pytest.raises(InputError, match="--host 3: m has hosts 0 to 2"):
        export_topology(file, "nccl-xml", 3)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["star-8", "--format", "nccl-xml"], "star-8: plain hosts have no GPUs, of which NCCL's topology is made"),
        (["dgx-h100", "--format", "svg"], "--format 'svg': must be one of nccl-xml"),
        (["dgx-h101", "--format", "nccl-xml"], "did you mean dgx-h100"),
        (["CHANGED", "--format", "nccl-xml"], "host.device is left out"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    file = changed(tmp_path, device=None)
    assert outcome(["topology", "export", *(word.replace("CHANGED", str(file)) for word in words)]) == 2
    assert error in capsys.readouterr().err


def test_the_command_prints_the_file_or_writes_it_and_says_what_is_made_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["topology", "export", "dgx-h100", "--format", "nccl-xml"]) in (0, None)
    shown = capsys.readouterr().out
    assert shown.startswith("<!--\n  NCCL topology of one host of dgx-h100")
    out = tmp_path / "host.xml"
    assert outcome(["topology", "export", "dgx-h100", "--format", "nccl-xml", "--out", str(out)]) in (0, None)
    assert out.read_text(encoding="utf-8") == shown
    said = capsys.readouterr().err
    assert "bus ids" in said
    assert all(len(line) <= 80 for line in said.splitlines()[:-1])
