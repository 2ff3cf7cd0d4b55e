# SPDX-License-Identifier: Apache-2.0
"""Tuner files of a sweep: what is fastest, in ranges that meet, read back by the importer."""

from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.libraries.nccl.tuner_file import tuner_rules
from commbench.topology.imports.tuner import import_tuner
from tests.cli.commands import commbench

NAN = float("nan")
SWEPT = [
    (8, (("Tree LL", 1.0, 10e-6), ("Ring LL", 2.0, 9.9e-6))),  # 1 % is no reason
    (64, (("Tree LL", 1.0, 10e-6), ("Ring LL", 2.0, 8e-6))),
    (512, (("Tree LL", 1.0, 10e-6), ("Ring LL", 2.0, 6e-6))),
    (4096, (("Ring LL", 1.0, 20e-6), ("NVLSTree Simple", 2.0, 5e-6), ("Tree Simple", 3.0, NAN))),
]


def test_the_fastest_is_taken_where_it_is_worth_a_rule() -> None:
    lines = tuner_rules("all-reduce", SWEPT, nodes=2, ranks=16)
    assert [line for line in lines if not line.startswith("#")] == [
        "allreduce,8,63,tree,ll,-1,2,16",
        "allreduce,64,4095,ring,ll,-1,2,16",
        "allreduce,4096,4096,nvls_tree,simple,-1,2,16",
    ]
    assert "# as NCCL's own choice" in lines
    assert "# up to 40% less time than NCCL's own choice" in lines
    assert import_tuner("\n".join(lines), "x").odd == ()


def test_what_tuner_files_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="a tuner file has no all-to-all; it has all-reduce"):
        tuner_rules("all-to-all", SWEPT, nodes=2, ranks=16)


def test_a_sweep_prints_a_tuner_file(tmp_path: Path) -> None:
    given = ["sim", "all-reduce", "-t", "dgx-h100-x2", "-b", "8", "-e", "1G", "-f", "8", "--format", "nccl-tuner"]
    done = commbench(*given, folder=tmp_path)
    assert done.returncode == 0
    rules = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert rules[0].startswith("allreduce,8,")
    assert all(line.endswith(",-1,2,16") for line in rules)
    assert rules[-1].split(",")[3] == "nvls_tree"
    refused = commbench(*given, "-a", "ring", folder=tmp_path)
    assert "--format nccl-tuner goes with --library nccl, not with ideal" in refused.stderr
