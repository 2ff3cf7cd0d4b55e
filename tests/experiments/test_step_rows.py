# SPDX-License-Identifier: Apache-2.0
"""From the words of a published row to numbers."""

import csv
from pathlib import Path

import pytest

from commbench.experiments.step_calibration import calibrate_steps
from commbench.experiments.step_cells import between, fabric_of, nics_of
from commbench.experiments.step_fit import local_priors
from commbench.experiments.step_rows import _gpu, predict, read_rows
from commbench.workload.step_costs import read_step_costs

ROWS = {row.name: row for row in read_rows(Path(__file__).parents[2] / "sims/published/steps.csv")[0]}


@pytest.mark.parametrize(
    ("words", "gigabytes", "nics", "fabric"),
    [
        ("NVSwitch in node; 8x 200Gb/s RoCE (1600Gb/s) per node", 200, 8, "roce"),
        ("Selene DGX A100-80GB: NVLink3/NVSwitch 600GB/s/GPU, 8x HDR-200 IB HCA per node", 200, 8, "infiniband"),
        ("Jean Zay: 8x A100-80 NVLink3, 4x Omni-Path 100Gb/s per node", 50, 4, "omni-path"),
        ("NVSwitch in node (config 150 GB/s AR busbw); 800Gb/s (4x HDR200) per node", 100, 4, "infiniband"),
        ("DGX H100: NVLink4, 8x NDR-400 IB", 400, 8, "infiniband"),
        ("8x H200 NVLink; 400Gb/s CX-7 per GPU", 400, 8, "infiniband"),
        ("4x 100Gb/s RoCE per node; NVSwitch in node", 50, 4, "roce"),
        ("NVL72: NVLink5, 400Gb/s per GPU", 400, 8, "infiniband"),
    ],
)  # fmt: skip
def test_what_a_host_sends_is_read_from_the_words_about_its_nics(
    words: str, gigabytes: int, nics: int, fabric: str
) -> None:
    row = {"interconnect": words, "gpu": "A100"}
    assert ((between(row, 8) or 0) / 1e9, nics_of(row, 8), fabric_of(row)) == (gigabytes, nics, fabric)


def test_the_gpus_of_a_rack_are_one_host_and_each_brings_its_own_rate() -> None:
    row = {"interconnect": "NVL72: NVLink5, 400Gb/s per GPU", "gpu": "GB200"}
    device, inside, gpus = _gpu(row)
    assert (device.name, inside, gpus, between(row, gpus)) == ("gb200-186gb", 900e9, 64, 64 * 50e9)


@pytest.mark.parametrize(
    ("name", "far"),
    [
        ("vtrain-multi-0000-g64-t1d64p1-mb8", False),  # all eight GPUs of each host
        ("vtrain-multi-0002-g64-t2d32p1-mb8", True),  # four, of 4 NICs for 8 GPUs
        ("vtrain-multi-0007-g64-t4d16p1-mb16", True),  # two
        ("vtrain-multi-0016-g64-t8d8p1-mb32", False),  # one
        ("sc21-t1-7.5B", False),  # two, of a NIC for each GPU
        ("zb-1.5B-1F1B-m24", False),  # no data parallelism
    ],
)
def test_steps_of_groups_beside_different_shared_nics_decide_what_these_reach(name: str, far: bool) -> None:
    row = ROWS[name]
    assert (("links", row.fabric, "far_nics") in local_priors([row])) is far


OWN = {
    "id": "mine", "layers": "32", "hidden": "4096", "heads": "32", "kv_heads": "8", "ffn": "14336", "vocab": "128256",
    "seq": "8192", "global_batch": "64", "micro_batch": "1", "precision": "bf16", "gpu": "H100", "gpus": "16",
    "gpus_per_host": "8", "tp": "4", "pp": "2", "dp": "2", "recompute": "full", "sequence_parallel": "1",
    "stack": "megatron", "attention": "flash-2", "interconnect": "8x NDR-400 IB", "iter_time_s": "7.0",
}  # fmt: skip


def own_rows(folder: Path, *changes: dict[str, str]) -> Path:
    """Rows of the user's own, each with changes."""
    path = folder / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for one in ({}, *changes) for key in OWN | one)))
        writer.writeheader()
        writer.writerows(OWN | one for one in changes)
    return path


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"iter_time_s": "0"}, "iter_time_s = '0' must be seconds, above 0 and finite"),
        ({"iter_time_s": "-1"}, "iter_time_s = '-1' must be seconds, above 0 and finite"),
        ({"iter_time_s": "nan"}, "iter_time_s = 'nan' must be seconds, above 0 and finite"),
        ({"iter_time_s": "1e400"}, "iter_time_s = '1e400' must be seconds, above 0 and finite"),
        ({"iter_time_s": "7 s"}, "iter_time_s = '7 s' is no number of seconds"),
        ({"iter_time_s": "", "tflops_per_gpu": "0"}, "tflops_per_gpu = '0' must be TFLOP/s, above 0 and finite"),
        ({"layers": "2.7"}, "layers = '2.7' must be a whole number, 1 to 4096"),
        ({"layers": "1e9"}, "layers = '1e9' must be a whole number, 1 to 4096"),
        ({"layers": "33"}, "layers = 33 cannot be split evenly over pp x vp = 2 stages"),
        ({"heads": "31"}, "hidden = 4096 is not divisible by heads = 31"),
        ({"global_batch": "1e18"}, "global_batch = '1e18' must be a whole number"),
        ({"global_batch": "10000000"}, "global_batch = 10000000: 5,000,000 microbatches are more than 200,000 passes"),
        ({"global_batch": "63"}, "global_batch = 63 must be a multiple of micro_batch x dp = 2"),
        ({"gpus": "8"}, "gpus = 8 must be tp 4 x cp 1 x dp 2 x pp 2 = 16"),
        ({"ep": "8"}, "ep = 8: a row is of a dense model unless"),
        ({"zero": "stage 3"}, "zero = 'stage 3' must begin with 0, 1, 2 or 3, or be FSDP"),
        ({"zero": "2.7"}, "zero = '2.7' must begin with"),
        ({"precision": "fp32"}, "precision = 'fp32' must name bf16, fp16, fp8 or fp8-rowwise"),
        ({"sequence_parallel": "yes"}, "sequence_parallel = 'yes' must be 1 or 0"),
        ({"launch_blocking": "2"}, "launch_blocking = '2' must be 1 or 0"),
        ({"recompute": "Full"}, "recompute = 'Full' must begin with none, selective, per-op, full"),
        ({"attention": "flash2"}, "attention = 'flash2' is unknown; did you mean flash-2?"),
        ({"attention": ""}, "the attention kernel is not known; add a column attention (unfused, flash-1"),
        ({"stack": "megatorn"}, "stack = 'megatorn' is unknown; did you mean megatron?"),
        ({"gpu": "MI250"}, "gpu 'MI250' has no constants of training steps; it may begin with GB200, B200"),
        ({"interconnect": "fast"}, "interconnect = 'fast' must say what NICs there are, such as '8x NDR-400 IB'"),
    ],
    ids=str,
)
def test_a_cell_that_breaks_its_rule_leaves_its_row_out_and_no_other(
    tmp_path: Path, changes: dict[str, str], rule: str
) -> None:
    rows, left = read_rows(own_rows(tmp_path, changes, {"id": "other"}))
    assert [row.name for row in rows] == ["other"]
    assert [name for name, _ in left] == ["mine"]
    assert rule in left[0][1]


def test_what_is_taken_for_what_a_row_does_not_say_is_said(tmp_path: Path) -> None:
    plain = {"vocab": "", "interconnect": "", "gpus_per_host": ""}
    (whole, less), _ = read_rows(own_rows(tmp_path, {}, plain))
    assert whole.assumed == ()
    assert less.assumed == ("vocab 51200", "gpus_per_host 8", "interconnect 3200 Gb/s")
    assert all(row.assumed == () for row in ROWS.values())  # whose kind implies it


def test_hosts_of_fewer_gpus(tmp_path: Path) -> None:
    (row,), _ = read_rows(own_rows(tmp_path, {"gpus_per_host": "4", "interconnect": "400 Gb/s per GPU"}))
    assert (row.gpus, row.between) == (4, 4 * 400e9 / 8)


def test_rows_without_a_name_are_called_by_their_line(tmp_path: Path) -> None:
    rows, left = read_rows(own_rows(tmp_path, {"id": ""}, {"id": "", "tp": "x"}))
    assert (rows[0].name, left[0][0]) == ("line 2", "line 3")


@pytest.mark.parametrize("count", range(1, 7))
def test_one_to_six_steps_come_nearer(tmp_path: Path, count: int) -> None:
    """Steps of a machine that takes a quarter longer than ours: no fit may leave them further off."""
    batches = [{"id": f"of {8 * n}", "global_batch": str(8 * n)} for n in range(1, count + 1)]
    (rows, _), costs = read_rows(own_rows(tmp_path, *batches)), read_step_costs()
    slower = [one | {"iter_time_s": str(1.25 * predict(row, costs).iteration_s)}
              for one, row in zip(batches, rows, strict=True)]  # fmt: skip
    found = calibrate_steps(own_rows(tmp_path, *slower), tmp_path / "mine.yaml")
    assert all(abs(after / measured - 1) < 0.08 for _, measured, _, after in found.steps)
    assert 0.02 < found.next_step < 0.12
    assert found.unexplained == ()


def test_a_step_that_no_machine_explains_is_named(tmp_path: Path) -> None:
    """Milliseconds for seconds: the next step was said to be within 5 %."""
    found = calibrate_steps(own_rows(tmp_path, {}, {"id": "short", "iter_time_s": "0.007"}), tmp_path / "mine.yaml")
    assert [name for name, _ in found.unexplained] == ["short"]
    assert found.next_step > 1
