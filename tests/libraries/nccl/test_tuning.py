# SPDX-License-Identifier: Apache-2.0
"""NCCL's choice, against values derived by hand from the source of 2.30.7 and one printed by NCCL (nccl#1453)."""

from dataclasses import replace

import numpy as np
import pytest

from commbench.errors import InputError
from commbench.libraries.nccl import tables
from commbench.libraries.nccl.graph import graphs_of
from commbench.libraries.nccl.machine import VERSIONS, NcclMachine
from commbench.libraries.nccl.tables import tables_of
from commbench.libraries.nccl.tuning import channels_of, costs_of, formula_us, passed_on

K, M, G = 2**10, 2**20, 2**30


def h100(nodes: int = 1, **other: object) -> NcclMachine:
    network = {"nics": 8, "nic_Gbps": 400.0} if nodes > 1 else {}
    given = {"gpu": "h100", "gpus_per_node": 8, "nodes": nodes, "link": "nvswitch", "link_GBps": 450.0}
    return NcclMachine(**{**given, **network, "version": "2.30", **other})  # type: ignore[arg-type]


def a100(nodes: int = 1, **other: object) -> NcclMachine:
    network = {"nics": 8, "nic_Gbps": 200.0, "cpu": "amd"} if nodes > 1 else {}
    given = {"gpu": "a100", "gpus_per_node": 8, "nodes": nodes, "link": "nvswitch", "link_GBps": 300.0}
    return NcclMachine(**{**given, **network, "version": "2.30", **other})  # type: ignore[arg-type]


GOLDEN = {  # us/GB/s of all-reduce: Tree LL, LL128, Simple; Ring LL, LL128, Simple; NVLS or NVLSTree
    a100(): "15.2/29.1 31.5/85.9 64.4/110.4 15.0/50.1 40.6/126.2 56.0/137.1",
    h100(): "15.2/43.6 31.5/128.8 64.4/165.6 15.0/80.6 40.6/189.3 56.0/205.7 25/272.0",
    h100(2): "25.2/16.6 48.5/124.8 92.4/140.8 40.0/20.8 75.2/156.6 131.6/204.8 66.8/246.2",
    h100(4): "35.2/8.7 65.5/98.6 120.4/122.4 78.8/10.5 144.4/151.5 282.8/198.2 108.6/187.9",
    h100(16): "55.2/8.7 99.5/98.6 176.4/122.4 311.6/10.3 559.6/148.0 1190/193.5 192.2/183.4",
    a100(4): "35.2/9.5 65.5/66.8 120.4/71.2 134.8/9.8 150/82.6 428.4/99.1",
}


@pytest.mark.parametrize(("machine", "expected"), GOLDEN.items(), ids=lambda value: str(value)[:24])
def test_latencies_and_bandwidths_are_those_of_the_source(machine: NcclMachine, expected: str) -> None:
    known = tables_of("2.30.7")
    costs = costs_of(machine, graphs_of(machine, known), known, "all-reduce")
    pairs = [tuple(map(float, pair.split("/"))) for pair in expected.split()]
    assert len(costs) == len(pairs)
    for cost, (latency, bandwidth) in zip(costs, pairs, strict=True):
        assert cost.latency_us == pytest.approx(latency, abs=0.4 if latency > 1000 else 0.051)
        assert cost.bandwidth == pytest.approx(bandwidth, abs=0.051)


def switches(machine: NcclMachine, kind: str = "all-reduce") -> list[tuple[int, str]]:
    """First power of two at which each candidate is taken."""
    known = tables_of(machine.version)
    graphs = graphs_of(machine, known)
    costs = costs_of(machine, graphs, known, kind)
    sizes = 2.0 ** np.arange(3, 35)
    best = np.stack([formula_us(cost, sizes, machine, graphs, known, kind) for cost in costs]).argmin(axis=0)
    found: list[tuple[int, str]] = []
    for size, number in zip(sizes.astype(int).tolist(), best.tolist(), strict=True):
        name = f"{costs[number].algorithm} {costs[number].protocol}"
        if not found or found[-1][1] != name:
            found.append((size, name))
    return found


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (a100(), [(8, "Ring LL"), (4 * M, "Ring LL128"), (32 * M, "Ring Simple")]),
        (h100(), [(8, "Ring LL"), (2 * M, "NVLS Simple")]),
        (h100(nvls=False), [(8, "Ring LL"), (4 * M, "Ring LL128"), (64 * M, "Ring Simple")]),
        (h100(2), [(8, "Tree LL"), (256 * K, "Tree LL128"), (2 * M, "NVLSTree Simple")]),
        (h100(4), [(8, "Tree LL"), (256 * K, "Tree LL128"), (8 * M, "NVLSTree Simple"), (G, "Ring Simple")]),
        (h100(16), [(8, "Tree LL"), (256 * K, "Tree LL128"), (16 * M, "NVLSTree Simple"), (8 * G, "Ring Simple")]),
        (a100(4), [(8, "Tree LL"), (256 * K, "Tree LL128"), (32 * M, "Ring LL128"), (256 * M, "Ring Simple")]),
    ],
    ids=["a100", "h100", "h100 without nvls", "2 h100", "4 h100", "16 h100", "4 a100"],
)
def test_the_first_size_of_each_choice_is_that_of_the_source(
    machine: NcclMachine, expected: list[tuple[int, str]]
) -> None:
    assert switches(machine) == expected


@pytest.mark.parametrize(
    ("machine", "ring", "nvls", "channels"),
    [
        (a100(), (12, 20, 20), None, (24, 0)),
        (h100(), (12, 30, 30), (8, 40, 60), (24, 16)),
        (h100(2), (8, 48, 48), (8, 40, 48), (16, 16)),
        (a100(4), (8, 24, 24), None, (16, 0)),
        (h100(gpu="b200", link_GBps=900.0), (16, 45, 45), (8, 80, 90), (32, 24)),
        (a100(gpu="v100", link="cube-mesh", link_GBps=150.0), (6, 20, 20), None, (12, 0)),
        (a100(gpus_per_node=2, link="nvlink"), (12, 20, 20), None, (24, 0)),
        (a100(gpu="a800", link_GBps=200.0), (8, 20, 20), None, (16, 0)),
    ],
    ids=["a100", "h100", "2 h100", "4 a100", "b200", "v100", "a100 bridge", "a800"],
)
def test_graphs_are_those_that_the_search_finds(
    machine: NcclMachine, ring: tuple[int, ...], nvls: tuple[int, ...] | None, channels: tuple[int, int]
) -> None:
    found = graphs_of(machine, tables_of("2.30"))
    assert (found.ring.channels, found.ring.intra, found.ring.inter) == ring
    assert (found.nvls and (found.nvls.channels, found.nvls.intra, found.nvls.inter)) == nvls
    assert (found.channels, found.nvls_channels) == channels


def test_a_printed_estimate_is_met() -> None:  # "Algo 0 proto 0 time 25.210000" for 128 bytes on two nodes of 8 H100
    known, machine = tables_of("2.21"), h100(2, version="2.21")
    graphs = graphs_of(machine, known)
    first = costs_of(machine, graphs, known, "all-reduce")[0]
    assert formula_us(first, np.array([128.0]), machine, graphs, known, "all-reduce") == pytest.approx(25.21, abs=0.01)


V100 = a100(gpu="v100", link="cube-mesh", link_GBps=150.0, version="2.19")
MEASURED = [(V100, 4, 5), (V100, 6, 4), (V100, 7, 9), (V100, 8, 14), (a100(version="2.19"), 7, 20)]
"""Ranks, and the mebibytes from which public curves of these machines (vTrain) show Simple instead of LL128."""


@pytest.mark.parametrize(
    ("machine", "algorithm", "protocol", "expected"),  # GB/s of the size, by hand
    [
        (h100(2), "NVLSTree", "Simple", 272.0),  # as on one node; the NICs would carry 8 x 48
        (h100(2, gpu="b200", link_GBps=900.0), "NVLSTree", "Simple", 384.0),  # 8 NICs of 48; one node: 473.6
        (h100(2), "Tree", "LL128", 146.8),  # 8 channels of 36.7, both ways; the NICs would carry 331
        (a100(2), "Tree", "LL128", 80.0),  # 8 channels of 20, both ways
        (h100(2), "Tree", "Simple", 180.0),  # 0.8 of 450, up and down the chain
        (h100(4), "NVLSTree", "Simple", 187.9),  # NCCL's own
    ],
    ids=lambda value: f"{value.nodes}x{value.gpu}" if isinstance(value, NcclMachine) else str(value),
)
def test_two_nodes_send_the_size_once(machine: NcclMachine, algorithm: str, protocol: str, expected: float) -> None:
    known = tables_of("2.30")
    graphs = graphs_of(machine, known)
    costs = costs_of(machine, graphs, known, "all-reduce")
    (cost,) = (one for one in costs if (one.algorithm, one.protocol) == (algorithm, protocol))
    assert passed_on(cost, machine, graphs, known, "all-reduce").bandwidth == pytest.approx(expected, rel=0.002)


def test_rings_switch_where_measured_curves_do() -> None:
    near = 0
    for machine, ranks, mebibytes in MEASURED:
        known, fewer = tables_of(machine.version), replace(machine, gpus_per_node=ranks)
        graphs = graphs_of(fewer, known)
        costs = costs_of(fewer, graphs, known, "all-reduce")
        sizes = np.arange(1, 65) * float(M)
        best = np.stack([formula_us(cost, sizes, fewer, graphs, known, "all-reduce") for cost in costs]).argmin(axis=0)
        first = [costs[number].protocol for number in best.tolist()].index("Simple") + 1
        near += mebibytes / 1.5 <= first <= mebibytes * 1.5
    assert near >= 4


def test_channels_and_threads_follow_the_size() -> None:
    known, machine = tables_of("2.30"), a100()
    graphs = graphs_of(machine, known)
    ring = {cost.protocol: cost for cost in costs_of(machine, graphs, known, "all-reduce") if cost.algorithm == "Ring"}
    assert channels_of(ring["Simple"], 24 * 32 * K, machine, graphs) == (24, 544)
    assert channels_of(ring["Simple"], 23.5 * 32 * K, machine, graphs) == (23, 544)
    assert channels_of(ring["LL"], 3 * 32 * K, machine, graphs) == (3, 512)
    assert channels_of(ring["LL128"], 10 * 5 * K, machine, graphs) == (10, 640)
    assert channels_of(ring["LL"], 8, machine, graphs) == (1, 96)


def test_nvls_adds_half_but_not_int8() -> None:
    known, machine = tables_of("2.30"), h100()
    graphs = graphs_of(machine, known)

    def names(kind: str, dtype: str, redop: str = "sum") -> set[str]:
        return {cost.algorithm for cost in costs_of(machine, graphs, known, kind, dtype, redop)}

    assert "NVLS" in names("all-reduce", "float16")
    assert "NVLS" not in names("all-reduce", "int8")
    assert "NVLS" not in names("all-reduce", "float32", "max")
    assert "NVLS" in names("all-gather", "int8")
    assert "Tree" not in names("all-gather", "int8")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_tables(version: str) -> None:
    assert tables_of(version).source


def test_old_versions_differ_as_their_release_did() -> None:
    assert tables_of("2.19.3").hop_us["nvlink"]["tree"][2] == 28
    assert tables_of("2.23").hop_us["nvlink"]["tree"][2] == 4
    assert tables_of("2.20").ll_max["hopper"] == tables_of("2.20").ll_max["ampere"]
    assert tables_of("2.5").version == (2, 18)


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="give it as"):
        tables_of("newest")


def test_a_key_of_differences_that_the_newest_has_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"ratios\.ring-l is not a key"):
        tables._over({"ratios": {"ring-ll": 1}}, {"ratios": {"ring-l": 2}}, "2.19.yaml", "")


def test_a_list_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"base_us\.ring has 2 values instead of 3"):
        tables._over({"base_us": {"ring": [1, 2, 3]}}, {"base_us": {"ring": [1, 2]}}, "2.19.yaml", "")


def test_a_machine_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="none of nvswitch"):
        h100(link="copper")
    with pytest.raises(InputError, match="is not known to the model"):
        h100(gpu="tpu")
    with pytest.raises(InputError, match="has no NVLS"):
        a100(nvls=True)
    with pytest.raises(InputError, match="need nics"):
        h100(2, nics=0)
