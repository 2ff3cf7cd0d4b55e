# SPDX-License-Identifier: Apache-2.0
"""Fitting the constants of the model of NCCL: curves made with known constants give these back."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.nccl.curves import Curve, clusters_in
from benchmarks.nccl.fit import complete, fit, predicted, samples_of
from benchmarks.nccl.score import adapted, baselines, errors_of, gather, row
from commbench.libraries.nccl import Machine

SIZES = 2.0 ** np.arange(3, 34)
TRUE = {"floor.ampere": 7.0, "hop.LL.ampere": 1.3, "wire.Simple.sm80": 1.1, "copy.all-reduce.ampere": 1.5}


def curve(ranks: int, times: np.ndarray | None = None) -> Curve:
    machine = Machine(gpu="a100", gpus_per_node=ranks, link="nvswitch", link_GBps=300.0)
    measured = np.ones_like(SIZES) if times is None else times
    return Curve(
        name=f"a100 {ranks}",
        cluster=f"a100 {ranks}",
        machine=machine,
        kind="all-reduce",
        dtype="float32",
        sizes=SIZES,
        times=measured,
    )


def made_up() -> list[Curve]:
    """Curves by constants of ours."""
    blank = samples_of([curve(ranks) for ranks in (2, 4, 8)], 30)
    known = {**fit(blank, rounds=0), **dict.fromkeys(("overlap.ampere",), 1.0), **TRUE}
    known |= {name: 1.0 for one in blank for name in _names(one) if name not in known}
    return [curve(one.curve.machine.gpus_per_node, predicted(one, known) * 1e-6) for one in blank]


def _names(sample) -> set[str]:  # type: ignore[no-untyped-def]
    from commbench.libraries.nccl.timing import names_of

    return {name for option in sample.call.options for name in names_of(option.shape)}


def test_constants_that_made_the_curves_are_found() -> None:
    samples = samples_of(made_up(), 30)
    known = fit(samples, rounds=25)
    assert known["floor.ampere"] == pytest.approx(7.0, rel=0.15)
    assert known["wire.Simple.sm80"] == pytest.approx(1.1, rel=0.03)
    for sample in samples:
        errors = errors_of(sample.curve, predicted(sample, known))
        assert np.median(np.abs(errors["from 1 MiB"])) < 0.03
        assert np.median(np.abs(errors["<= 64 KiB"])) < 0.03


def test_points_of_the_machine_bring_a_wrong_class_near() -> None:
    samples = samples_of(made_up(), 30)
    known = fit(samples, rounds=25)
    slow = samples_of([curve(8, made_up()[2].times * 1.3)], 30)[0]
    before = errors_of(slow.curve, predicted(slow, known))
    after = adapted(slow, known, 3)
    assert np.median(np.abs(before["from 1 MiB"])) > 0.2
    assert np.median(np.abs(after["from 1 MiB"])) < 0.05
    assert set(baselines(slow)) >= {"alpha-beta through two points"}
    assert row(gather([(slow.curve, after)], lambda _: "all")["all"])[0] != "-"


def test_a_class_takes_of_others_what_none_of_its_curves_shows_but_no_rate() -> None:
    known = {"floor.hopper": 5.0, "floor.ampere": 9.0, "host.ampere": 3.0, "wire.Simple.sm90": 1.0, "wire.LL.sm80": 1.4}
    found = complete(known)
    assert found["host.hopper"] == (3.0, "the median of 1 other classes")
    assert found["wire.LL.sm90"][0] == 1.4
    assert "wire.Simple.sm80" not in found
    young = {"wire.Simple.sm100": 1.0, "floor.blackwell": 8.0}
    assert complete(young)["wire.Simple.sm103"] == (1.0, "as wire.Simple.sm100")
    assert "wire.Simple.sm103" not in complete(young, rates=False)


HEAD = "file,gpu,gpus_per_node,nodes,intra_link,intra_link_GBps_per_gpu,nic,nics_per_node,nic_Gbps,fabric,collective"
HEAD += ",library,library_version,env,healthy,diagnosis,source,notes\n"
INDEX = f"""{HEAD}a.csv,H100-SXM5-80GB,8,2,NVLink4+NVSwitch,450,ConnectX-7 IB NDR,8,400,InfiniBand NDR,allreduce,\
NCCL,2.26.2,NCCL_ALGO=Ring,yes,,somewhere,
b.csv,GB200,4,18,NVLink5 NVL72,900,ConnectX-7,4,400,one NVL72 rack,allreduce,NCCL,2.26.2,-g 4,yes,,elsewhere,
c.csv,CPU,1,2,n/a,,,1,100,TCP,allreduce,gloo,,,yes,,nowhere,
"""
ROWS = """size_bytes,count,dtype,redop,oop_time_us,oop_algbw_GBps,oop_busbw_GBps,ip_time_us,ip_algbw_GBps,ip_busbw_GBps
8,2,float,sum,30,0,0,20,0,0
1048576,262144,float,sum,72,0,0,70,0,0
2097152,524288,float,sum,,0,,80,0,0
4194304,1048576,float,sum,,0,78.6432,,,
"""


def test_a_folder_of_curves_is_read(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(INDEX)
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text(ROWS)
    ring, rack = clusters_in(tmp_path)
    assert (ring.machine.nodes, ring.machine.network, ring.machine.algorithms) == (2, "ib", ("Ring",))
    assert (rack.machine.nodes, rack.machine.gpus_per_node, rack.machine.launch) == (1, 72, "threads")
    assert ring.times * 1e6 == pytest.approx([20, 72, 80, 100])  # in place where it is a quarter faster; from busbw
