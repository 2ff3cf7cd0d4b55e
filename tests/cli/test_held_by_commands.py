# SPDX-License-Identifier: Apache-2.0
"""What commands promise as they are typed: what records and pages hold, what files mean, which words are known.

In one process, so that each costs milliseconds; exit codes and streams stand in test_bad_input and test_words.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commbench.cli.main import app
from commbench.results.journal import Journal
from commbench.results.records import Record
from commbench.topology.load import load_fabric
from commbench.validate.pipeline import FREE, compare_pipeline, simulate_pipeline
from commbench.workload.pipeline.registry import build_pipeline
from tests.report.test_live_steps import OVERLAP, PRODUCT, TRAFFIC
from tests.validate.made_up import measured, unit_times

ALL_REDUCE = "sim all-reduce -t dgx-h100-x2 -b 1M -e 1M --json "
OUTCOMES = {"run", "wall_s", "time_s", "algbw_GBps", "busbw_GBps", "lower_bound_s", "transfers"}
STEP = (
    "sim train --model gpt3-125m --topology dgx-h100 --tp 2 --pp 4 --microbatch 1 --global-batch 8 --device h100 "
    "--matrix-efficiency 0.625 --attention-efficiency 0.5 --memory-efficiency 0.75 --seed 77"
)


def typed(command: str) -> str:
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.exception
    return done.stdout


def refused(command: str) -> str:
    done = CliRunner().invoke(app, command.split())
    assert done.exception is not None
    return f"{type(done.exception).__name__}: {done.exception}"


@pytest.mark.parametrize("options", ["--channels 2", "--group 4", "-d float64"])
def test_what_tells_two_simulations_apart_is_in_the_record(options: str) -> None:
    one, two = (json.loads(typed(f"{ALL_REDUCE}-a hierarchical {given}")) for given in ("", options))
    assert {key for key in one if key not in OUTCOMES and one[key] != two[key]}


def _pipelines() -> list[Record]:
    schedule = build_pipeline("1f1b", 2, 4)
    record: Any = measured(schedule, simulate_pipeline(schedule, unit_times, FREE))
    return [record, compare_pipeline(record)]


@pytest.mark.parametrize(
    "records", [[TRAFFIC], [PRODUCT], [OVERLAP], _pipelines()], ids=["tensor-parallel", "gemm", "overlap", "pipeline"]
)
def test_a_page_of_every_kind_has_a_headline(records: list[Record], tmp_path: Path) -> None:
    for record in records:
        Journal(tmp_path / "r.jsonl").append(record)
    typed(f"report {tmp_path}/r.jsonl --out {tmp_path}/r.html")
    assert 'class="verdict' in (tmp_path / "r.html").read_text("utf-8")


def test_a_page_of_training_says_efficiencies_flags_and_seed(tmp_path: Path) -> None:
    typed(f"{STEP} --out {tmp_path}/r.jsonl")
    typed(f"report {tmp_path}/r.jsonl --out {tmp_path}/r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert 'class="verdict' in page
    for said in ("0.625", "flash yes", "precision megatron-bf16", ">77<"):
        assert said in page


READERS = ["topology show FILE", "sim train FILE", "sim all-reduce -t star-8 -b 1K --scenario FILE"]


@pytest.mark.parametrize("command", READERS)
def test_a_bomb_of_aliases_is_refused_by_every_reader(command: str, tmp_path: Path) -> None:
    bomb = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    (tmp_path / "x.yaml").write_text(bomb, encoding="utf-8")
    assert "aliases" in refused(command.replace("FILE", f"{tmp_path}/x.yaml"))


def test_a_leading_zero_is_no_octal_number(tmp_path: Path) -> None:
    text = Path(__file__).resolve().parents[2].joinpath("topologies", "star-8.yaml").read_text(encoding="utf-8")
    (tmp_path / "x.yaml").write_text(text.replace("hosts: 8", "hosts: 010"), encoding="utf-8")
    assert load_fabric(tmp_path / "x.yaml").num_hosts == 10


@pytest.mark.parametrize("verb", ["report", "validate"])
def test_a_log_of_nccl_tests_is_called_what_it_is(verb: str, tmp_path: Path) -> None:
    log = "# nccl-tests version 2.17\n#       size   count    type\n           8       2   float\n"
    (tmp_path / "x.log").write_text(log, encoding="utf-8")
    said = refused(f"{verb} {tmp_path}/x.log --out {tmp_path}/out")
    assert "nccl-tests" in said
    assert "--salvage" not in said


@pytest.mark.parametrize("collective", ["all-to-all", "broadcast", "scatter", "barrier", "send-recv"])
def test_a_collective_needs_no_algorithm(collective: str) -> None:
    """That nobody chose one is no error."""
    ranks = " --ranks 2" if collective == "send-recv" else ""
    assert json.loads(typed(f"sim {collective} -t star-8 -b 1K -e 1K --json{ranks}"))["collective"] == collective


@pytest.mark.parametrize(("spelling", "num_bytes"), [("half", 2), ("bf16", 2), ("float", 4), ("double", 8)])
def test_types_are_understood_as_nccl_tests_writes_them(spelling: str, num_bytes: int) -> None:
    assert json.loads(typed(f"sim all-reduce -t star-8 -b 1K -e 1K --json -d {spelling}"))["element_bytes"] == num_bytes


def test_a_new_topology_of_a_users_own_cluster_can_be_simulated(tmp_path: Path) -> None:
    text = typed("topology new --hosts 64 --gpus 8 --rails 8 --tiers 3 --oversubscription 2:1")
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    fabric = load_fabric(tmp_path / "my.yaml")
    assert (fabric.num_hosts, fabric.num_ranks) == (64, 512)
    assert json.loads(typed("topology schema"))["$defs"]


def test_ranks_sit_where_a_host_file_puts_them(tmp_path: Path) -> None:
    """Two GPUs of one host are joined by NVLink at 450 GB/s, two of different hosts by one NIC at 50."""
    times = []
    for name, hosts in (("near", "h0/gpu0\nh0/gpu1\n"), ("far", "h0/gpu0\nh1/gpu0\n")):
        (tmp_path / name).write_text(hosts, encoding="utf-8")
        words = "sim all-reduce -t dgx-h100-x2 -a ring -b 1G -e 1G --json --placement"
        found = json.loads(typed(f"{words} {tmp_path / name}"))
        assert (found["ranks"], found["placement"]) == (2, str(tmp_path / name))
        times.append(found["time_s"])
    assert times[1] / times[0] == pytest.approx(9, rel=0.01)
    dealt = json.loads(typed(ALL_REDUCE + "--ranks-per-host 2 --placement round-robin"))
    assert dealt["ranks"] == 4


def test_a_picture_that_finds_the_disk_full_names_the_file() -> None:
    assert "/dev/full" in refused("topology draw star-8 --out /dev/full")
