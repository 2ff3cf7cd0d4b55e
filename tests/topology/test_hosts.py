# SPDX-License-Identifier: Apache-2.0
"""Host wirings: counts in closed form, and who is nearest to whom."""

from collections import Counter

import pytest

from commbench.errors import TopologyError
from commbench.topology.hosts import (
    CUBE_MESH,
    PcieTree,
    cube_mesh,
    mesh,
    pcie_host,
    plain_host,
    shared_memory_host,
    under_nvswitch,
)
from commbench.topology.model import LinkKind, NodeKind
from commbench.topology.parts import Parts, Wire

PCIE, SOCKET, NVLINK = Wire(24e9, 250_000), Wire(16e9, 100_000), Wire(25e9, 500_000)


def tree(switches: int = 4, sockets: int = 2) -> PcieTree:
    return PcieTree(switches, sockets, PCIE, SOCKET)


def kinds(parts: Parts) -> Counter[NodeKind]:
    return Counter(node.kind for node in parts.nodes)


def links(parts: Parts) -> Counter[LinkKind]:
    return Counter(cable.kind for cable in parts.cables)


@pytest.mark.parametrize("nics", [1, 2, 4])
def test_plain_host_has_one_bus_link_per_nic(nics: int) -> None:
    parts = plain_host(7, nics=nics, bus=PCIE)
    assert kinds(parts) == {NodeKind.CPU: 1, NodeKind.NIC: nics}
    assert links(parts) == {LinkKind.PCIE: 2 * nics}
    assert parts.ranks == ("h7/cpu0",)
    assert parts.nics_of == {"h7/cpu0": tuple(f"h7/nic{n}" for n in range(nics))}
    assert [node.rail for node in parts.nodes] == [None, *range(nics)]


@pytest.mark.parametrize("ranks", [1, 4, 9])
def test_shared_memory_host_leads_every_message_over_one_link(ranks: int) -> None:
    parts = shared_memory_host(0, ranks=ranks, rank_link=PCIE, memory=SOCKET)
    assert len(parts.nodes) == ranks + 2
    assert len(parts.cables) == 2 * ranks + 1  # in and out per rank, one link in the middle
    into = [c for c in parts.cables if c.dst == "h0/memory-in"]
    out = [c for c in parts.cables if c.src == "h0/memory-out"]
    middle = [c for c in parts.cables if (c.src, c.dst) == ("h0/memory-in", "h0/memory-out")]
    assert [c.src for c in into] == [c.dst for c in out] == list(parts.ranks)
    assert [c.wire for c in middle] == [SOCKET]


@pytest.mark.parametrize(
    ("gpus", "nics", "switches", "sockets"),
    [(8, 8, 4, 2), (8, 2, 0, 2), (4, 4, 0, 1), (8, 0, 8, 2), (16, 8, 4, 4)],
)
def test_pcie_host_counts(gpus: int, nics: int, switches: int, sockets: int) -> None:
    parts = pcie_host(0, gpus=gpus, nics=nics, tree=tree(switches, sockets))
    assert len(parts.nodes) == gpus + nics + switches + sockets
    # each GPU, NIC and switch has one PCIe link upward; every two sockets are joined; both ways
    assert links(parts)[LinkKind.PCIE] == 2 * (gpus + nics + switches)
    assert links(parts)[LinkKind.SOCKET] == 2 * (sockets * (sockets - 1) // 2)
    assert parts.ranks == tuple(f"h0/gpu{i}" for i in range(gpus))


def test_each_pcie_switch_holds_an_equal_share() -> None:
    parts = pcie_host(0, gpus=8, nics=8, tree=tree(4, 2))
    below = Counter((c.dst, c.src.split("/")[1][:3]) for c in parts.cables if c.dst.startswith("h0/pcie"))
    assert all(below[f"h0/pcie{s}", what] == 2 for s in range(4) for what in ("gpu", "nic"))
    sockets = {c.src: c.dst for c in parts.cables if c.src.startswith("h0/pcie") and "cpu" in c.dst}
    assert sockets == {f"h0/pcie{s}": f"h0/cpu{s // 2}" for s in range(4)}


@pytest.mark.parametrize(
    ("nics", "switches", "own"),
    [
        (8, 4, [0, 1, 2, 3, 4, 5, 6, 7]),  # as many NICs as GPUs: its own number, whatever the switches
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8, 0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (4, 4, [0, 0, 1, 1, 2, 2, 3, 3]),  # two GPUs share the NIC of their switch
        (4, 0, [0, 0, 1, 1, 2, 2, 3, 3]),  # four GPUs of a socket share its two NICs
        (2, 4, [0, 0, 0, 0, 1, 1, 1, 1]),  # NICs on switches 0 and 2: the other switches look on their socket
        (1, 0, [0, 0, 0, 0, 0, 0, 0, 0]),  # one NIC on socket 0: the GPUs of socket 1 cross over
    ],
)
def test_own_nic_is_the_nearest(nics: int, switches: int, own: list[int]) -> None:
    parts = pcie_host(0, gpus=8, nics=nics, tree=tree(switches, 2))
    assert [parts.nics_of[gpu] for gpu in parts.ranks] == [(f"h0/nic{n}",) for n in own]


def test_a_nic_on_the_same_switch_goes_before_one_on_the_same_socket() -> None:
    parts = pcie_host(0, gpus=4, nics=3, tree=tree(2, 1))  # NICs 0 and 1 on switch 0, NIC 2 on switch 1
    assert [parts.nics_of[gpu] for gpu in parts.ranks] == [("h0/nic0",), ("h0/nic1",), ("h0/nic2",), ("h0/nic2",)]


@pytest.mark.parametrize(
    ("gpus", "nics", "own"),
    [(1, 2, [(0, 1)]), (2, 4, [(0, 1), (2, 3)]), (2, 3, [(0,), (1, 2)]), (4, 8, [(0, 1), (2, 3), (4, 5), (6, 7)])],
)
def test_more_nics_than_gpus_are_shared_out(gpus: int, nics: int, own: list[tuple[int, ...]]) -> None:
    parts = pcie_host(0, gpus=gpus, nics=nics, tree=tree(0, 1))
    assert [parts.nics_of[gpu] for gpu in parts.ranks] == [tuple(f"h0/nic{n}" for n in each) for each in own]


def test_gpus_without_nics_have_no_own_nic() -> None:
    assert pcie_host(0, gpus=8, nics=0, tree=tree()).nics_of == {}


def test_nvswitch_host_adds_one_switch_and_one_link_per_gpu() -> None:
    parts = under_nvswitch(pcie_host(2, gpus=8, nics=8, tree=tree()), NVLINK.times(18))
    assert kinds(parts)[NodeKind.NVSWITCH] == 1
    assert links(parts)[LinkKind.NVLINK] == 2 * 8
    assert {c.wire.bandwidth for c in parts.cables if c.kind is LinkKind.NVLINK} == {450e9}  # 18 x 25 GB/s


@pytest.mark.parametrize("gpus", [4, 8])
def test_mesh_host_joins_every_two(gpus: int) -> None:
    parts = mesh(pcie_host(0, gpus=gpus, nics=0, tree=tree(0, 2)), NVLINK)
    assert links(parts)[LinkKind.NVLINK] == gpus * (gpus - 1)
    degree = Counter(c.src for c in parts.cables if c.kind is LinkKind.NVLINK)
    assert set(degree.values()) == {gpus - 1}


def test_cube_mesh_gives_every_gpu_six_nvlinks() -> None:
    degree = Counter[int]()
    for pair, count in CUBE_MESH.items():
        degree.update(dict.fromkeys(pair, count))
    assert degree == dict.fromkeys(range(8), 6)
    assert sum(CUBE_MESH.values()) == 8 * 6 // 2


def test_cube_mesh_is_two_full_quads_and_four_twins() -> None:
    within = [(a, b) for a, b in CUBE_MESH if a // 4 == b // 4]
    assert len(within) == 2 * 6
    assert sorted(set(CUBE_MESH) - set(within)) == [(0, 4), (1, 5), (2, 6), (3, 7)]


def test_cube_mesh_host_has_150_GB_per_s_out_of_each_gpu() -> None:  # noqa: N802
    parts = cube_mesh(pcie_host(0, gpus=8, nics=4, tree=tree()), NVLINK)
    out = Counter[str]()
    for cable in parts.cables:
        if cable.kind is LinkKind.NVLINK:
            out[cable.src] += int(cable.wire.bandwidth)
    assert set(out.values()) == {150_000_000_000}  # 6 x 25 GB/s
    assert len(out) == 8


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: plain_host(0, nics=0, bus=PCIE), "host.nics: 0 must be at least 1"),
        (
            lambda: shared_memory_host(0, ranks=0, rank_link=PCIE, memory=PCIE),
            "host.ranks: 0 must be at least 1",
        ),
        (lambda: pcie_host(0, gpus=0, nics=1, tree=tree()), "host.gpus: 0 must be at least 1"),
        (lambda: pcie_host(0, gpus=8, nics=-1, tree=tree()), "host.nics: -1 must be at least 0"),
        (
            lambda: pcie_host(0, gpus=6, nics=1, tree=tree()),
            "host.gpus: 6 is not a multiple of pcie_switches 4",
        ),
        (
            lambda: pcie_host(0, gpus=7, nics=1, tree=tree(0, 2)),
            "host.gpus: 7 is not a multiple of sockets 2",
        ),
        (
            lambda: pcie_host(0, gpus=8, nics=1, tree=tree(3)),
            "host.pcie_switches: 3 is not a multiple of sockets 2",
        ),
        (lambda: pcie_host(0, gpus=8, nics=1, tree=tree(0, 0)), "host.sockets: 0 must be at least 1"),
        (
            lambda: cube_mesh(pcie_host(0, gpus=4, nics=1, tree=tree()), NVLINK),
            "host.gpus: 4 must be 8, the hybrid cube mesh is drawn for 8 GPUs",
        ),
    ],
)
def test_impossible_hosts_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(TopologyError) as caught:
        build()
    assert str(caught.value) == message
