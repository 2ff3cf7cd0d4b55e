# SPDX-License-Identifier: Apache-2.0
"""How long NCCL takes: parts that add up, what they depend on, what is not known, and a machine's own points."""

from dataclasses import replace
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.libraries.nccl import Machine, MachinePoint, adapt, predict, predict_sizes
from commbench.libraries.nccl.constants import constants, read_constants, values

K, M, G = 2**10, 2**20, 2**30
H100 = Machine(gpu="h100-sxm5-80gb", gpus_per_node=8, link="nvswitch", link_GBps=450.0, version="2.27")
A100 = Machine(gpu="A100-SXM4-80GB", gpus_per_node=8, link="nvswitch", link_GBps=300.0, version="2.27")
V100 = Machine(gpu="v100-sxm2", gpus_per_node=8, link="cube-mesh", link_GBps=150.0, version="2.19")
H100_X2 = replace(H100, nodes=2, nics=8, nic_Gbps=400.0)
MI300X = Machine(gpu="mi300x", gpus_per_node=8, link="xgmi", link_GBps=448.0, library="rccl")
EVERYWHERE = [H100, A100, V100, H100_X2, MI300X]


def busbw(machine: Machine, kind: str, size: int, dtype: str = "float32") -> float:
    ranks = machine.ranks
    factor = 2 * (ranks - 1) / ranks if kind == "all-reduce" else (ranks - 1) / ranks
    return size * factor / predict(machine, kind, size, dtype).time_s / 1e9


@pytest.mark.parametrize(
    ("machine", "kind"),
    [(m, kind) for m in EVERYWHERE for kind in ("all-reduce", "all-gather", "all-to-all")[: 3 if m.nodes == 1 else 2]],
    ids=lambda value: value if isinstance(value, str) else f"{value.nodes}x{value.gpu}",
)
def test_parts_add_up_and_time_grows(machine: Machine, kind: str) -> None:
    sizes = [2**n for n in range(3, 34)]
    found = predict_sizes(machine, kind, sizes)
    for one in found:
        assert one.status == "known", one.reason
        assert sum(one.terms.values()) == pytest.approx(one.time_s)
        assert all(value >= -1e-12 for value in one.terms.values())
    assert found[0].time_s < 250e-6
    assert found[-1].time_s > 10 * found[-10].time_s


@pytest.mark.parametrize(
    ("machine", "kind", "expected"),  # GB/s at 1 GiB, from public curves
    [
        (V100, "all-reduce", 134),
        (A100, "all-reduce", 230),
        (H100, "all-reduce", 466),
        (replace(H100, nvls=False), "all-reduce", 360),
        (H100_X2, "all-gather", 360),
        (MI300X, "all-reduce", 314),
    ],
    ids=["v100", "a100", "h100", "h100 rings", "2 h100", "mi300x"],
)
def test_the_plateau_is_that_of_public_curves(machine: Machine, kind: str, expected: float) -> None:
    assert busbw(machine, kind, G) == pytest.approx(expected, rel=0.1)


def test_two_nodes_exceed_the_rate_of_their_nics() -> None:
    assert busbw(H100_X2, "all-reduce", 8 * G) > 8 * 50 * 1.05


def test_between_two_nodes_nvls_trees_go_at_the_rate_of_the_switches_or_of_the_nics() -> None:
    """Each node sends the size once: switches of H100 add 265 GB/s of it, those of B200 more than eight NICs carry."""
    b200 = replace(H100_X2, gpu="b200", link_GBps=900.0)
    found = predict(b200, "all-reduce", 8 * G)
    assert found.algorithm == "NVLSTree"
    assert 8 * G / found.time_s / 1e9 == pytest.approx(8 * 48, rel=0.06)
    faster = [8 * G / predict(replace(m, nic_Gbps=800.0), "all-reduce", 8 * G).time_s / 1e9 for m in (b200, H100_X2)]
    assert 8 * 48 * 1.03 < faster[0] < 480  # until its switches are full, which one node fills at 480
    assert faster[1] == pytest.approx(8 * G / predict(H100_X2, "all-reduce", 8 * G).time_s / 1e9, rel=0.01)


def test_over_tcpxo_two_nodes_reduce_by_trees_and_gather_by_rings_of_the_same_hop() -> None:
    tcpxo = replace(H100_X2, network="tcpxo", nic_Gbps=200.0)
    sizes = [2**n for n in range(3, 34)]
    assert {one.algorithm for one in predict_sizes(tcpxo, "all-reduce", sizes)} == {"Tree"}
    assert predict(replace(tcpxo, algorithms=("Ring",)), "all-reduce", M).algorithm == "Ring"
    assert values()["net.Ring.Simple.tcpxo"] == values()["net.Tree.Simple.tcpxo"]
    assert predict(tcpxo, "all-gather", K).time_s < predict(tcpxo, "all-reduce", K).time_s


def test_what_is_added_decides_the_algorithm() -> None:
    assert predict(H100, "all-reduce", 64 * M, "float16").algorithm == "NVLS"
    assert predict(H100, "all-reduce", 64 * M, "int8").algorithm == "Ring"
    assert predict(H100, "all-reduce", 64 * M, "float16", redop="avg").algorithm == "Ring"


def test_one_process_for_all_gpus_starts_them_one_by_one() -> None:
    one_each, all_in_one = (
        predict(replace(A100, launch=how), "all-reduce", 8).time_s for how in ("process", "threads")
    )
    assert one_each < 26e-6
    assert all_in_one == pytest.approx(37e-6, rel=0.15)


def test_candidates_begin_with_the_choice_and_carry_both_estimates() -> None:
    found = predict(H100, "all-reduce", 8 * M, "float16")
    names = [(one.algorithm, one.protocol) for one in found.candidates]
    assert names[0] == (found.algorithm, found.protocol) == ("NVLS", "Simple")
    assert len(names) == 7
    assert found.candidates[0].time_s == pytest.approx(found.time_s)
    assert all(a.formula_s <= b.formula_s for a, b in zip(found.candidates[1:], found.candidates[2:], strict=False))


def test_a_plugin_goes_in_simple_alone() -> None:
    efa = replace(A100, nodes=2, nics=4, nic_Gbps=100.0, network="efa")
    assert {predict(efa, "all-reduce", size).protocol for size in (8, M, G)} == {"Simple"}
    assert predict(efa, "all-reduce", 8).time_s == pytest.approx(165e-6, rel=0.15)


def test_a_class_without_constants_is_unknown_and_asks_for_points() -> None:
    assert predict(H100_X2, "all-to-all", G).status == "unknown"  # curves show it of PCIe boxes alone
    strange = Machine(gpu="rtx-3090", gpus_per_node=4, link="pcie", link_GBps=31.5)
    found = predict(strange, "all-reduce", G)
    assert (found.status, found.time_s == found.time_s) == ("unknown", False)
    assert "no constants for rtx-3090 over pcie" in found.reason
    assert "measure two or three points" in found.reason


def test_what_is_no_collective_of_nccl_is_refused() -> None:
    with pytest.raises(InputError, match="none that the model of NCCL knows"):
        predict(H100, "barrier", 8)
    with pytest.raises(InputError, match="nothing is left of PAT"):
        predict(replace(H100, algorithms=("PAT",)), "all-reduce", 8)


def test_own_points_move_floor_and_plateau() -> None:
    two = adapt(H100, [MachinePoint(8, 20e-6), MachinePoint(G, 4.6e-3)])
    assert two.points == 2
    assert two.knee == pytest.approx(1, abs=1e-6)
    assert predict(H100, "all-reduce", 8, own=two).time_s == pytest.approx(20e-6, rel=0.02)
    assert predict(H100, "all-reduce", G, own=two).time_s == pytest.approx(4.6e-3, rel=0.02)
    three = adapt(H100, [MachinePoint(8, 20e-6), MachinePoint(G, 4.6e-3), MachinePoint(8 * M, 130e-6)])
    assert three.knee > 1.1
    assert three.knee_bytes == 8 * M
    found = predict(H100, "all-reduce", 8 * M, own=three)
    assert found.time_s == pytest.approx(130e-6, rel=0.05)
    assert sum(found.terms.values()) == pytest.approx(found.time_s)


def test_what_a_third_point_says_is_local() -> None:
    ends = [MachinePoint(8, 20e-6), MachinePoint(G, 4.6e-3)]
    two, three = adapt(H100, ends), adapt(H100, [*ends, MachinePoint(8 * M, 130e-6)])
    for size in (8, 64 * 1024, G):
        times = [predict(H100, "all-reduce", size, own=own).time_s for own in (two, three)]
        assert times[1] == pytest.approx(times[0], rel=0.02)


def test_a_ring_of_few_bytes_a_rank_is_quicker() -> None:
    """Measured on eight H100: 13 us up to 16 bytes, 15.5 from 128 on."""
    times = {size: predict(H100, "all-reduce", size).time_s for size in (8, 16, 64, 128, 512)}
    assert times[8] == pytest.approx(times[16], rel=1e-3)
    assert times[16] < times[64] < times[128]
    assert times[128] / times[16] == pytest.approx(15.5 / 12.9, rel=0.05)
    assert times[512] == pytest.approx(times[128], rel=0.02)


def test_one_process_that_is_slower_than_its_gpus_hides_what_they_do() -> None:
    """Eight A100 started by one process take about 40 us from 8 bytes to 64 KiB, by one process each 20 to 32."""
    threads = replace(A100, launch="threads")
    small, large = (predict(threads, "all-reduce", size).time_s for size in (8, 64 * 1024))
    alone = [predict(A100, "all-reduce", size).time_s for size in (8, 64 * 1024)]
    assert large - small < 0.6 * (alone[1] - alone[0])
    assert predict(threads, "all-reduce", G).time_s == pytest.approx(predict(A100, "all-reduce", G).time_s, rel=1e-3)


def test_points_that_agree_change_nothing() -> None:
    sizes = (8.0, float(8 * M), float(G))
    points = [MachinePoint(size, predict(H100, "all-reduce", size).time_s) for size in sizes]
    own = adapt(H100, points)
    assert (own.latency, own.wire, own.knee) == pytest.approx((1, 1, 1), abs=1e-3)


@pytest.mark.parametrize(
    "points", [[], [MachinePoint(8, 0.0)], [MachinePoint(0, 1.0)], [MachinePoint(8, float("nan"))]]
)
def test_points_that_are_none_are_refused(points: list[MachinePoint]) -> None:
    with pytest.raises(InputError, match=r"points|point"):
        adapt(H100, points)


def test_every_constant_says_where_it_is_from() -> None:
    for name, constant in constants().items():
        assert constant.provenance in ("fitted", "assumed"), name
        assert constant.source, name
        assert constant.value > 0, name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("constants:\n  floor.hopper: 3\n", "floor.hopper needs value, provenance and source"),
        ("constants:\n  floor.hopper: {value: 0, provenance: fitted, source: s}\n", "must be a number above 0"),
    ],
)
def test_a_constant_without_origin_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_constants(file)


@pytest.mark.parametrize("kind", ["broadcast", "reduce"])
def test_a_ring_from_a_root_leaves_each_node_once(kind: str) -> None:
    sizes = [M * 2**n for n in range(14)]
    times = [one.time_s for one in predict_sizes(replace(H100_X2, nodes=4), kind, sizes)]
    assert times == sorted(times)
    assert times[0] < 400e-6
    assert times[-1] > G / 400e9


def test_faster_nics_carry_more_on_pcie_of_gen6() -> None:
    b300 = replace(H100_X2, gpu="b300", link_GBps=900.0, nic_Gbps=800.0)
    assert busbw(b300, "all-gather", 4 * G) > 1.7 * busbw(replace(b300, nic_Gbps=400.0), "all-gather", 4 * G)
    h100 = replace(H100_X2, nic_Gbps=800.0)
    assert busbw(h100, "all-gather", 4 * G) == pytest.approx(busbw(H100_X2, "all-gather", 4 * G), rel=0.01)
