# SPDX-License-Identifier: Apache-2.0
"""The page's part on curves that nothing was fitted to: its figures are the code's, and what is unknown is said so."""

from pathlib import Path

import pytest

from benchmarks.nccl.__main__ import main
from benchmarks.nccl.unseen import INDEX, TITLE, judged_in, unseen
from commbench.libraries.nccl import Machine, predict_sizes
from commbench.libraries.nccl.constants import values

PAGE = Path("docs/nccl-accuracy.md")
HEAD = (
    "curve,gpu,gpus_per_node,nodes,intra_link,intra_link_GBps_per_gpu,nic,nics_per_node,nic_Gbps,fabric,collective,"
    "library,library_version,env,healthy,diagnosis,source,notes"
)
SIZES = [2.0**k for k in range(13, 31)]


def index_of(folder: Path, slower: float) -> Path:
    """An index of an A100 node whose curve is the model's times a factor, and of a GPU that the model does not know."""
    machine = Machine(gpu="a100", gpus_per_node=8, link="nvswitch", link_GBps=300.0, version="2.27")
    times = [one.time_s * 1e6 * slower for one in predict_sizes(machine, "all-reduce", SIZES)]
    rest = "8,1,NVSwitch,300,,,,,allreduce,NCCL,,,yes,,here,"
    (folder / "some.csv").write_text(f"{HEAD}\na,A100,{rest}\nb,Voodoo 2,{rest}\n", encoding="utf-8")
    rows = [f"{name},{size:.0f},float,{t},{t}" for name in "ab" for size, t in zip(SIZES, times, strict=True)]
    head = "curve,size_bytes,dtype,oop_time_us,ip_time_us"
    (folder / "some-points.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return folder / "some.csv"


def test_the_page_has_the_figures_of_the_model_as_it_ships() -> None:
    part = PAGE.read_text(encoding="utf-8").partition(f"\n{TITLE}\n")[2]
    assert part == "\n".join([*unseen(INDEX, values())[2:], ""])


def test_an_error_has_the_sign_of_the_prediction_and_a_slow_machine_is_called_so(tmp_path: Path) -> None:
    same, _ = judged_in(index_of(tmp_path, 1.0), values())
    assert same.errors["from 1 MiB"] == pytest.approx(0.0, abs=1e-9)
    twice, _ = judged_in(index_of(tmp_path, 2.0), values())
    assert twice.errors["knee"] == pytest.approx(-0.5)
    assert (same.word, twice.word) == ("ok", "slow")


def test_a_gpu_that_the_model_does_not_know_is_said_so(tmp_path: Path) -> None:
    lines = unseen(index_of(tmp_path, 1.0), values())
    assert "`unknown` for 1 of 2, whose classes have no constants." in "\n".join(lines)
    assert "| b | healthy | unknown GPU | unknown GPU | unknown GPU | unknown GPU |" in lines


def test_only_that_part_of_the_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Above\n\nkept\n\n{TITLE}\n\nold\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["benchmarks.nccl", "--unseen", "--docs", str(page)])
    main()
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Above\n\nkept\n\n{TITLE}\n\nWritten by")
    assert "old" not in text
    assert text.endswith(PAGE.read_text(encoding="utf-8").partition(TITLE)[2])
