# SPDX-License-Identifier: Apache-2.0
"""Published steps by the simulator: near what was measured, and nearer still to the closed form."""

from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.step_exact import (
    cluster_of_row,
    predict_by,
    simulate_row,
    simulate_rows,
    smallest_of_cells,
)
from commbench.experiments.step_rows import StepRow, predict, read_rows
from commbench.workload.step_costs import read_step_costs

STEPS = Path(__file__).resolve().parents[1] / "sims" / "published" / "steps.csv"
NAMES = (
    "sc21-t1-7.5B", "sc21-t2-ZeRO-3-530B-1120", "kor22-22B-selsp", "mlm20-2B-a100-256",
    "mpt-7b-s2048-h10080gb-512-bf16", "mpt-1b-s2048-a10040gb-128-bf16", "intern-7b-tp1-z8-128",
    "titan-8b-fsdp128-compile-bf16", "titan-8b-cp2-65536", "bloom-181B-h14336L72a64-dp12tp8pp4-mbs4-gbs2016-02-25",
    "zb-1.5B-ZB-2p-m24", "zb-1.5B-1F1B-I-m24", "vtrain-multi-0029-g256-t8d32p1-mb2",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, StepRow]:
    return {row.name: row for row in read_rows(STEPS)[0]}


@pytest.fixture(scope="module")
def simulated(rows: dict[str, StepRow]) -> dict[str, float]:
    return {name: simulate_row(rows[name], read_step_costs()).iteration_s for name in NAMES}


def test_the_simulator_is_as_near_to_published_steps_as_the_closed_form(
    rows: dict[str, StepRow], simulated: dict[str, float]
) -> None:
    assert fmean(abs(simulated[name] / rows[name].measured_s - 1) for name in NAMES) <= 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_closed_form_of_a_published_step_is_within_two_percent_of_the_simulator(
    name: str, rows: dict[str, StepRow], simulated: dict[str, float]
) -> None:
    assert predict(rows[name], read_step_costs()).iteration_s == pytest.approx(simulated[name], rel=0.02)


def test_a_row_s_hosts_have_its_gpus_and_share_what_they_send(rows: dict[str, StepRow]) -> None:
    """Jean Zay: 8 A100 and 4 x 100 Gbit/s a host."""
    fabric = cluster_of_row(rows["bloom-181B-h14336L72a64-dp12tp8pp4-mbs4-gbs2016-02-25"]).fabric
    assert (fabric.num_hosts, fabric.num_ranks, len(fabric.to_network)) == (48, 384, 384)
    assert sum(fabric.bandwidths[fabric.to_network]) == pytest.approx(48 * 50e9)


@pytest.mark.parametrize(
    "name",
    [
        "bloom-181B-h14336L72a64-dp24tp8pp2-mbs1-gbs2016-02-25", "sc21-t2-ZeRO-3-530B-1120",
        "vtrain-multi-0024-g64-t16d4p1-mb4",
    ],
)  # fmt: skip
def test_nccl_in_a_step_is_as_near_as_the_constants_of_links(name: str, rows: dict[str, StepRow]) -> None:
    """Alone, without what links lose in steps, its model was 34, 54 and 16 % too fast."""
    row, costs = rows[name], read_step_costs()
    found = simulate_row(row, costs, "nccl").iteration_s
    assert abs(found / row.measured_s - 1) <= 0.12
    assert predict_by(row, costs, "nccl").iteration_s == pytest.approx(found, rel=0.03)


def test_launches_of_bloom_block(rows: dict[str, StepRow]) -> None:
    """Its chronicles: with 320 GPUs and more it always hung without CUDA_LAUNCH_BLOCKING=1."""
    assert all(row.plan.launch_blocking is (row.source == "bloom") for row in rows.values())


def test_a_step_that_cannot_be_simulated_is_told_with_the_reason(rows: dict[str, StepRow]) -> None:
    """NCCL's model knows no Grand Teton; of a cell the smallest batch is taken."""
    chosen = [rows["titan-8b-fsdp8-compile-bf16"], rows["sc21-t1-7.5B"]]
    times, left = simulate_rows(chosen, read_step_costs(), "nccl")
    assert list(times) == ["sc21-t1-7.5B"]
    assert "is not known to the model of NCCL" in left["titan-8b-fsdp8-compile-bf16"]
    assert smallest_of_cells(chosen) == sorted(chosen, key=lambda row: row.plan.global_batch)
