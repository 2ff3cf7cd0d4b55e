# SPDX-License-Identifier: Apache-2.0
"""Topologies of other programs: what is found in them, what is odd, and that what is written is that machine."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commbench.cli.main import outcome
from commbench.errors import CommbenchError, TopologyError
from commbench.topology import Fabric, LinkKind, NodeKind, load_fabric
from commbench.topology.hosts import CUBE_MESH
from commbench.topology.imports import Imported, import_topology
from commbench.topology.imports.slurm import host_list
from commbench.topology.summary import node_counts

DOCS = Path(__file__).resolve().parents[2] / "docs"
IBNET = (DOCS / "ibnetdiscover-6.txt").read_text(encoding="utf-8")
PCI = 'link_speed="16.0 GT/s PCIe" link_width="16"'


def nvlinks(gpu: int, kind: str) -> str:
    if kind == "nvswitch":
        return '<nvlink target="0000:c0:00.0" count="12" tclass="0x068000"/>'
    peers = {"mesh": {p: 4 for p in range(8) if p != gpu}, "none": {}, "self": {gpu: 12}}.get(kind)
    if peers is None:
        peers = {b if a == gpu else a: n for (a, b), n in CUBE_MESH.items() if gpu in (a, b)}
    return "".join(f'<nvlink target="0000:1{p}:00.0" count="{n}" tclass="0x030200"/>' for p, n in peers.items())


def system(kind: str = "nvswitch", *, sm: int = 80, device: str = "0x20b2", link: str = PCI) -> str:
    """Eight GPUs and four NICs of 200 Gbit/s on four switches of two sockets."""
    def gpu(i: int) -> str:
        return (f'<pci busid="0000:1{i}:00.0" class="0x030200" vendor="0x10de" device="{device}" {link}>'
                f'<gpu dev="{i}" sm="{sm}" rank="{i}" gdr="1">{nvlinks(i, kind)}</gpu></pci>')  # fmt: skip

    def switch(s: int) -> str:
        nic = (f'<pci busid="0000:2{s}:00.0" class="0x020700" {PCI}><nic><net name="mlx5_{s}" dev="{s}" '
               'speed="200000" port="1" gdr="1"/></nic></pci>')  # fmt: skip
        inside = gpu(2 * s) + gpu(2 * s + 1) + nic
        return f'<pci busid="0000:0{s}:00.0" class="0x060400" {PCI}>{inside}</pci>'

    head = 'arch="x86_64" vendor="AuthenticAMD"'
    cpus = [f'<cpu numaid="{c}" {head}>{switch(2 * c)}{switch(2 * c + 1)}</cpu>' for c in (0, 1)]
    return f'<system version="1">{"".join(cpus)}</system>'


def read(tmp_path: Path, text: str, name: str = "a.txt", **options: Any) -> Imported:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return import_topology(file, **options)


def loaded(tmp_path: Path, found: Imported) -> Fabric:
    file = tmp_path / "made.yaml"
    file.write_text(found.text, encoding="utf-8")
    return load_fabric(file)


@pytest.mark.parametrize(
    ("kind", "wiring", "rate_GBps"),
    [("nvswitch", "nvswitch", 300), ("mesh", "mesh", 700), ("cube", "cube-mesh", 150), ("none", "pcie", 0)],
)
def test_an_nccl_topology_gives_the_host_that_it_describes(
    tmp_path: Path, kind: str, wiring: str, rate_GBps: float  # noqa: N803
) -> None:
    found = read(tmp_path, system(kind), "my host.xml")
    assert (found.what, dict(found.facts)["wiring"], found.odd) == ("NCCL topology", wiring, ())
    fabric = loaded(tmp_path, found)
    assert (fabric.name, fabric.device, fabric.cpu) == ("my-host", "a100-sxm4-80gb", "amd")
    counts = node_counts(fabric)
    counted = [counts[kind] for kind in (NodeKind.GPU, NodeKind.NIC, NodeKind.PCIE_SWITCH, NodeKind.CPU)]
    assert counted == [8, 4, 4, 2]
    out = sum(x.bandwidth for x in fabric.links if x.src == "h0/gpu0" and x.kind is LinkKind.NVLINK)
    assert out == pytest.approx(rate_GBps * 1e9)
    pcie = {x.bandwidth for x in fabric.links if x.kind is LinkKind.PCIE}
    assert pcie == {31.51e9}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (system("self"), "NVLinks of GPU 0, GPU 1, GPU 2, GPU 3, GPU 4, GPU 5 and 2 more point at the GPU itself"),
        (system(link='link_speed="" link_width="0"'), "empty link speed or width at 0000:10:00.0"),
        (system().replace("<gpu ", "<hat/><gpu ", 1), "unknown tags, left out: hat (1)"),
        (system().replace("<gpu ", "7<gpu ", 1), "stray text between tags at 1 places (7)"),
        (system().replace('speed="200000"', "", 1), "no speed of mlx5_0"),
        (system().replace('count="12"', 'count="8"', 1), "GPUs have 12 NVLinks, but GPU 0 8"),
        (system().replace("16.0 GT/s", "8.0 GT/s", 2), "PCIe link of GPU 0 is slower than that of the other GPUs"),
        (system().replace('"0000:11:00.0"', '"0000:10:00.0"', 1), "bus 0000:10:00.0 stands twice"),
        (system("mesh").replace("0000:17:00.0", "0000:99:00.0", 1), "lead to 0000:99:00.0, which is no GPU"),
        (system().replace('sm="80"', 'sm="xx"', 1), "not used: sm='xx' of <gpu> at bus 0000:10:00.0"),
        (system(sm=999), "sm='999' of <gpu> at bus 0000:10:00.0 (a100-sxm4-80gb has 80)"),
        (system(sm=999, device="0x1"), "sm='999' of <gpu> at bus 0000:10:00.0 (from 30 to 199)"),
        (system(link='link_speed="16.0 GT/s" link_width="-4"'), "link_width='-4' of <pci> at bus 0000:10:00.0"),
        (system().replace("<nic><net", "<nic></nic><nic><net", 1), "adapter 0000:20:00.0 has no network interface"),
    ],
)
def test_what_is_odd_about_an_nccl_topology_is_said(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in one for one in read(tmp_path, text).odd)


def test_a_compute_capability_that_cannot_be_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(tmp_path, system(sm=999)).text == read(tmp_path, system()).text
    assert "without a compute capability" in read(tmp_path, system(sm=999, device="0x1")).why_none
    (tmp_path / "a.xml").write_text(system(), encoding="utf-8")
    assert outcome(["topology", "import", str(tmp_path / "a.xml"), "--out", str(tmp_path / "a.yaml")]) in (0, None)
    assert "--out FILE.yaml" not in capsys.readouterr().out


BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]><system>&b;</system>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "XML with a document type, entities or CDATA"),
        ("<system>&a;</system>", "no whole XML: undefined entity"),
        (system()[:-40], "no whole XML"),
        ('<system version="1"/>', "an NCCL topology without a GPU"),
        ("<system>" + "<pci>" * 60 + "</pci>" * 60 + "</system>", "more than 40 deep"),
        ("<algo/>", "root is <algo>, not NCCL's <system> or <graphs>; an MSCCL algorithm"),
        ("hello", "none of the kinds that are read: NCCL's topology or graph XML"),
        ("collective,size_bytes,algorithm\n", "measurements that NCCL's tuner script makes its rules of"),
        ("allreduce,0,1,wood,simple,2,1,8\n", "algorithm 'wood' is none of tree, ring"),
        (IBNET.replace('[2]\t"H-0000000000000021"[1]', '[2]\t"H-00000', 1), "line 6: a port line that is cut"),
        ("SwitchName=a Nodes=n[3-1]\n", "line 1: '3-1' is no range such as 01-16"),
        ("SwitchName=a Nodes=n1\nSwitchName=a Nodes=n2\n", "line 2: switch a stands twice"),
        ("SwitchName=a Hats=n1\n", "key 'hats' is unknown"),
        ("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV99999\nGPU1\tNV4\t X \n", "line 2: 'NV99999' is no link"),
        ("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \n", "line 2: 1 cells for 2 columns in the row of GPU0"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TopologyError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)


def test_an_nccl_graph_is_told_and_gives_no_topology(tmp_path: Path) -> None:
    channel = '<channel><net dev="0"/><gpu dev="0"/><gpu dev="1"/><net dev="0"/></channel>'
    told = 'id="0" nchannels="2" speedintra="20" speedinter="12" typeintra="NVL" typeinter="PIX"'
    found = read(tmp_path, f"<graphs><graph {told}>{channel}</graph></graphs>")
    assert found.facts == (("ring", "2 channels of 20 GB/s by NVL, 12 GB/s by PIX between hosts"),)
    assert found.odd == ("ring: says 2 channels, lists 1",)
    assert "import the topology XML" in found.why_none


def test_ibnetdiscover_says_what_is_odd_and_gives_the_fabric(tmp_path: Path) -> None:
    found = read(tmp_path, IBNET)
    facts = dict(found.facts)
    assert facts["switches"] == "4: 2 x leaf, 2 x spine"
    assert facts["hosts"] == "3, 1 x 1 NICs, 2 x 2 NICs"
    assert facts["cables"] == "9: 9 x 200 Gbit/s"
    assert found.odd == (
        "1 adapters without a host name: 1 x MT4123 ConnectX6 Mellanox Technologies",
        "1 hosts have fewer NICs than the usual 2, so are short of a rail: node-3 1",
        "leaves have 1 to 2 uplinks, 1 of 2 fewer than 2: leaf-2 1 up, 3 down",
    )
    fabric = loaded(tmp_path, found)
    assert node_counts(fabric) == {NodeKind.CPU: 3, NodeKind.NIC: 5, NodeKind.LEAF: 2, NodeKind.SPINE: 2}
    assert {x.bandwidth for x in fabric.links if x.kind is LinkKind.NETWORK} == {25e9}
    assert fabric.network == "ib"


def test_ibnetdiscover_notices_one_sided_slow_and_doubled_cables(tmp_path: Path) -> None:
    cut = read(tmp_path, IBNET[: IBNET.rindex("Ca\t1")])
    assert any("1 cables are listed from one end alone: the file was cut" in one for one in cut.odd)
    assert any("cables lead to 1 nodes that have no block: H-0000000000000099" in one for one in cut.odd)
    slow = read(tmp_path, IBNET.replace("lid 4 4xHDR", "lid 4 4xEDR"))
    assert any("1 cables are slower than the usual 200 Gbit/s" in one for one in slow.odd)
    two = IBNET.replace("[21]\t", '[9]\t"H-0000000000000011"[2](11) \t\t# "node-1 mlx5_0" lid 11 4xHDR\n[21]\t', 2)
    two = two.replace('[9]\t"H-0000000000000011"[2](11) \t\t# "node-1 mlx5_0" lid 11 4xHDR\n', "", 1)
    assert any("an adapter of node-1 is on two switches" in one for one in read(tmp_path, two).odd)


SLURM = """# two leaves and one above
SwitchName=leaf[1-2] Nodes=x
SwitchName=top Switches=leaf[1-2]
"""


def test_a_slurm_tree_with_a_rate_gives_the_fabric(tmp_path: Path) -> None:
    text = "SwitchName=leaf1 Nodes=n[01-04]\nSwitchName=leaf2 Nodes=n[05-07],m1\nSwitchName=top Switches=leaf[1-2]\n"
    found = read(tmp_path, text)
    assert found.text == ""
    assert "give --bandwidth" in found.why_none
    fabric = loaded(tmp_path, read(tmp_path, text, bandwidth="400 Gbit/s"))
    assert node_counts(fabric) == {NodeKind.CPU: 8, NodeKind.NIC: 8, NodeKind.LEAF: 2, NodeKind.SPINE: 1}
    assert {x.bandwidth for x in fabric.links if x.kind is LinkKind.NETWORK} == {50e9}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SLURM, "x on two switches"),
        ("SwitchName=a Nodes=n1\nSwitchName=b Nodes=n2\n", "2 switches have none above: a, b"),
        ("SwitchName=a Nodes=n[1-2]\nSwitchName=t Switches=a,c\n", "switches c are named above"),
        ("SwitchName=a Nodes=n[1-2]\nSwitchName=b Nodes=n3\n", "leaves do not have 2 nodes: b 1"),
    ],
)
def test_what_is_odd_about_a_slurm_tree_is_said(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in one for one in read(tmp_path, text).odd)


def test_host_lists_of_slurm() -> None:
    assert host_list("n[01-03,7],m4,r[1-2]x", "p") == ["n01", "n02", "n03", "n7", "m4", "r1x", "r2x"]


MATRIX = """\x1b[4m\tGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\x1b[0m
GPU0\t X \tNV12\tPXB\tSYS\t0-63\t0
GPU1\tNV12\t X \tSYS\tSYS\t64-127\t1
NIC0\tPXB\tSYS\t X \tSYS\t\t
NIC1\tSYS\tSYS\tSYS\t X \t\t

Legend:
  X    = Self
NIC Legend:
  NIC0: mlx5_0
  NIC1: mlx5_1
"""


def test_the_matrix_of_nvidia_smi(tmp_path: Path) -> None:
    found = read(tmp_path, MATRIX)
    facts = dict(found.facts)
    assert facts["GPUs"] == "2; pairs: 1 x NV12"
    assert facts["NICs"] == "2: mlx5_0, mlx5_1"
    assert found.odd == ("no NIC under a PCIe switch with GPU1: traffic crosses a host bridge",)
    uneven = read(tmp_path, MATRIX.replace("GPU1\tNV12", "GPU1\tNV10"))
    assert any("say different things of each other" in one for one in uneven.odd)


def test_a_tuner_file_is_checked_rule_by_rule(tmp_path: Path) -> None:
    text = "# x\nallreduce,0,65536,tree,simple,2,1,-1\nallreduce,1,100,ring,ll,4,1,-1\nallreduce,9,1,ring,ll,4,1,-1\n"
    found = read(tmp_path, text)
    assert found.facts == (("allreduce", "2 rules"),)
    hidden = "line 3: never taken, an earlier rule has all its sizes"
    assert found.odd == (hidden, "line 4: sizes end before they begin")


def test_the_command_writes_a_topology_that_sim_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fabric.yaml"
    assert outcome(["topology", "import", str(DOCS / "ibnetdiscover-6.txt"), "--out", str(out)]) in (0, None)
    shown = capsys.readouterr().out
    assert "odd: 1 hosts have fewer NICs than the usual 2" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert outcome(["sim", "all-reduce", "-t", str(out), "-b", "1M", "-e", "1M"]) in (0, None)
    file = tmp_path / "m.txt"
    file.write_text(MATRIX, encoding="utf-8")
    assert outcome(["topology", "import", str(file), "--out", str(out)]) == 2
    assert "gives no topology: the matrix has neither rates" in capsys.readouterr().err


WHOLE = (system(), system("cube"), IBNET, MATRIX, SLURM, "allreduce,0,65536,tree,simple,2,1,-1\n")


@given(st.sampled_from(WHOLE), st.integers(0, 10**6), st.text(max_size=4), st.integers(0, 60))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_gives_a_topology_that_loads(
    tmp_path: Path, whole: str, at: int, put_in: str, taken: int
) -> None:
    at %= len(whole)
    try:
        found = read(tmp_path, whole[:at] + put_in + whole[at + taken :], bandwidth="100 Gbit/s")
        if found.text:
            loaded(tmp_path, found)
    except CommbenchError:
        return
    assert found.facts


@given(st.binary(max_size=300) | st.text(alphabet='<>/="systemcpgu \n[]S-H0,GPU1XNV', max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_at_all_is_imported_or_refused(tmp_path: Path, data: bytes | str) -> None:
    file = tmp_path / "x"
    for before in (b"", b"<system>", b'Switch 1 "S-1"\n', b"SwitchName=a Nodes=b\n", b"\tGPU0\nGPU0\tX\n"):
        file.write_bytes(before + (data if isinstance(data, bytes) else data.encode()))
        try:
            import_topology(file)
        except CommbenchError:
            continue
