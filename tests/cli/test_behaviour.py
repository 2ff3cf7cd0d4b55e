# SPDX-License-Identifier: Apache-2.0
"""How the command line behaves around its verbs: pipes, interrupts, files that cannot be written, exit codes."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from commbench.collectives.spec import COLLECTIVES
from commbench.results.journal import Journal
from tests.calibrate.test_fit import SIZES, measured
from tests.cli.commands import commbench

COMMBENCH = [sys.executable, "-m", "commbench"]


def journal(folder: Path, **changes: object) -> str:
    for size in SIZES:
        Journal(folder / "runs.jsonl").append(measured(size, **changes))
    return "runs.jsonl"


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m commbench topology show fat-tree-256 | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_an_interrupt_is_said_and_exits_130(tmp_path: Path) -> None:
    options = ["sim", "all-reduce", "-t", "fat-tree-256", "-b", "1M", "-e", "1G", "--json", "--out", "sim.jsonl"]
    process = subprocess.Popen(
        [*COMMBENCH, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.monotonic() + 40
    while not (tmp_path / "sim.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "interrupted; complete records are kept"
    assert json.loads((tmp_path / "sim.jsonl").read_text().splitlines()[0])["size_bytes"] == 2**20


@pytest.mark.parametrize(
    "arguments",
    [
        ["topology", "draw", "fat-tree-16", "--out", "/proc/nothing/a.svg"],
        ["calibrate", "runs.jsonl", "--out", "/proc/nothing/machine.yaml"],
        ["report", "runs.jsonl", "--out", "/proc/nothing/report.html"],
        ["sim", "all-reduce", "-t", "star-8", "-b", "1M", "--out", "/proc/nothing/sim.jsonl"],
    ],
)
def test_a_file_that_cannot_be_written_is_bad_input(tmp_path: Path, arguments: list[str]) -> None:
    journal(tmp_path)
    done = commbench(*arguments, folder=tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert any(str(argument) in last for argument in (arguments[-1], "/proc/nothing"))


@pytest.mark.parametrize(
    ("arguments", "others"),
    [
        (["run", "pipline"], "all, pipeline, tensor-parallel, gemm, overlap, pairwise, incast, multi"),
        (["sim", "trian", "--topology", "star-8"], "train"),
    ],
)
def test_a_misspelt_first_word_lists_all_that_may_stand_there(
    tmp_path: Path, arguments: list[str], others: str
) -> None:
    done = commbench(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"error: collective {arguments[1]!r} is unknown; known: {', '.join(COLLECTIVES)}; or {others}\n"
    )


def test_calibrate_writes_a_topology_that_sim_takes(tmp_path: Path) -> None:
    done = commbench("calibrate", journal(tmp_path), "--out", "machine.yaml", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["bandwidth"] == pytest.approx(4e9, rel=0.01)
    assert figures["fit_error"] < 0.01
    simulated = commbench("sim", "all-reduce", "-t", "machine.yaml", "-b", "1M", "-e", "1M", "--json", folder=tmp_path)
    assert json.loads(simulated.stdout)["time_s"] == pytest.approx(measured(2**20).time_s, rel=0.01)


def test_calibrate_for_no_rank_writes_nothing(tmp_path: Path) -> None:
    done = commbench("calibrate", journal(tmp_path), "--out", "machine.yaml", "--ranks", "0", folder=tmp_path)
    assert done.returncode == 2
    assert "host.ranks" in done.stderr or "ranks" in done.stderr
    assert not (tmp_path / "machine.yaml").exists()


def test_wrong_values_are_neither_fitted_nor_validated(tmp_path: Path) -> None:
    name = journal(tmp_path, wrong=7)
    for command in (["calibrate", name, "--out", "m.yaml"], ["validate", name]):
        done = commbench(*command, folder=tmp_path)
        assert done.returncode == 1
        assert "wrong values" in done.stderr


def test_validate_compares_every_schedule_and_keeps_what_it_found(tmp_path: Path) -> None:
    name = journal(tmp_path)
    for algorithm, ranks in (("tree", 4), ("ring", 3), ("ring", 8)):
        for size in SIZES[:3]:
            Journal(tmp_path / name).append(measured(size, algorithm, ranks))
    done = commbench("validate", name, "--json", "--max-median", "0.02", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["compared"] * (len(SIZES) + 9) + ["summary"]
    assert {(line["algorithm"], line["ranks"]) for line in lines[:-1]} >= {("ring", 8), ("double-binary-tree", 4)}
    assert len(list((tmp_path / "runs" / "validate").glob("*-validation.jsonl"))) == 1
    assert len(list((tmp_path / "runs" / "validate").glob("*-report.html"))) == 1
    for size in SIZES:  # as if the machine had got slower meanwhile: twice the time
        point = measured(size, "ring", 3)
        slow = replace(point, samples_s=tuple(tuple(2 * t for t in row) for row in point.samples_s))
        Journal(tmp_path / name).append(slow)
    fallen = commbench("validate", name, folder=tmp_path)
    assert fallen.returncode == 1
    assert "FELL SHORT" in fallen.stdout
    refused = commbench("validate", name, "-b", "1M", folder=tmp_path)
    assert refused.returncode == 2
    assert "have no meaning with files" in refused.stderr


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("samples_s", [], "must hold a row"),
        ("samples_s", [[1.0], [1.0, 2.0], [1.0], [1.0]], "must hold a row"),
        ("samples_s", [[0.0]] * 4, "samples_s[0][0] 0.0 must be greater than"),
        ("size_bytes", "abc", "size_bytes 'abc' has the wrong type"),
        ("environment", {}, "environment.hostname"),
    ],
)
def test_a_record_of_the_wrong_shape_is_named(tmp_path: Path, key: str, value: object, rule: str) -> None:
    path = tmp_path / journal(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | {key: value}), *lines[2:]]) + "\n")
    done = commbench("calibrate", "runs.jsonl", "--out", "m.yaml", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert rule in last
    assert "Traceback" not in done.stderr


def test_time_beyond_64_bits_is_refused(tmp_path: Path) -> None:
    done = commbench("sim", "all-reduce", "-t", "fat-tree-16", "-b", "4000000T", folder=tmp_path)
    assert done.returncode == 2
    assert "the end of 64 bits" in done.stderr
