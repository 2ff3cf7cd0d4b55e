# SPDX-License-Identifier: Apache-2.0
"""From the words of a published row to numbers."""

from pathlib import Path

import pytest

from commbench.experiments.step_fit import local_priors
from commbench.experiments.step_rows import _between, _fabric, _gpu, _nics, read_rows

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
    assert (_between(row) / 1e9, _nics(row, 8), _fabric(row)) == (gigabytes, nics, fabric)


def test_the_gpus_of_a_rack_are_one_host_and_each_brings_its_own_rate() -> None:
    row = {"interconnect": "NVL72: NVLink5, 400Gb/s per GPU", "gpu": "GB200"}
    device, inside, gpus = _gpu(row)
    assert (device.name, inside, gpus, _between(row, gpus)) == ("gb200-186gb", 900e9, 64, 64 * 50e9)


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
