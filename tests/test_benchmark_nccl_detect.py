# SPDX-License-Identifier: Apache-2.0
"""The table of what ``validate LOG`` calls slow, from small inputs of our own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.nccl.detect import detection, points_in, verdict_on
from benchmarks.nccl.fit import predicted, samples_of
from commbench.libraries.nccl.constants import values

HEAD = "case,gpu,gpus_per_node,nodes,nic,collective,size_bytes,time_us,busbw_GBps,state,healthy,diagnosis,source"
ROW = 'iommu,H100-SXM5,8,2,"8x ConnectX-7 400G RoCEv2",allreduce,1073741824,,{busbw},{state},{healthy},,'


def points(folder: Path, *rows: str) -> Path:
    (folder / "points.csv").write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
    return folder / "points.csv"


def test_a_point_is_a_machine_with_what_its_state_says_was_set(tmp_path: Path) -> None:
    rows = [ROW.format(busbw=400, state=state, healthy="yes") for state in ("as found", "NCCL_NVLS_ENABLE=0")]
    plain, without = points_in(points(tmp_path, *rows, rows[0].replace("1073741824", "")))  # no size: left out
    machine = plain.machine
    assert (machine.nodes, machine.nics, machine.nic_Gbps, machine.network) == (2, 8, 400.0, "roce")
    assert (machine.nvls, without.machine.nvls) == (None, False)
    assert plain.times[0] == pytest.approx(2**30 * 2 * 15 / 16 / 400e9)


def test_ill_points_are_slow_healthy_ones_ok_and_the_counts_are_those(tmp_path: Path) -> None:
    rows = [ROW.format(busbw=200, state="before", healthy="no"), ROW.format(busbw=450, state="after", healthy="yes")]
    lines = detection([], [], points_in(points(tmp_path, *rows)), values())
    assert "**1 of 1 ill ones are called\nslow, 0 of 1 healthy ones are.**" in "\n".join(lines)
    assert [line.split(" | ")[1:3] for line in lines if "iommu" in line] == [["ill", "slow"], ["healthy", "ok"]]


def test_a_class_without_constants_is_unknown_and_an_accused_healthy_curve_is_named(tmp_path: Path) -> None:
    (curve,) = points_in(points(tmp_path, ROW.format(busbw=450, state="after", healthy="yes")))
    (sample,) = samples_of([curve])
    assert verdict_on(sample, {}).word == "unknown"
    slow = replace(curve, times=3e-6 * predicted(sample, values()))
    lines = detection([(samples_of([slow])[0], values())], [], [], values())
    assert "slow, 1 of 1 healthy ones are.**" in "\n".join(lines)
    assert np.isfinite(predicted(sample, values())).all()
