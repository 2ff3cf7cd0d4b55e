# SPDX-License-Identifier: Apache-2.0
"""A sweep of plans is split over workers, survives one that is killed, and goes on where Ctrl-C cut it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commbench.cli.main import outcome
from commbench.results.journal import read_records
from commbench.results.plans import Planned

psutil = pytest.importorskip("psutil")
pytest.importorskip("distributed")


def sweep_file(folder: Path, plans: int) -> Path:
    """So many plans of a second or less each."""
    file = folder / "sweep.yaml"
    seeds = ", ".join(map(str, range(plans // 2)))
    file.write_text(f"model: gpt3-1.3b\ntopology: dgx-h100\nglobal_batch: [16, 32]\ntp: 2\nzero: 1\nseed: [{seeds}]\n")
    return file


WHOLE = pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="takes a minute; set COMMBENCH_FULL=1")


def start(file: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "commbench", "plan", str(file), "--schedules", "1f1b", "--seconds", "0"]
    words += ["--workers", "2", "--out", str(out), "--json", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def records(out: Path, *, growing: bool = False) -> list[Planned]:
    """Of a file that is whole, or grows and may end in half a line."""
    found = read_records(out, salvage=growing) if out.exists() else []
    return [one for one in found if isinstance(one, Planned)]


def wait_for(out: Path, count: int) -> None:
    until = time.monotonic() + 120
    while len(records(out, growing=True)) < count:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("plans", [12, pytest.param(200, marks=(pytest.mark.full, WHOLE))])
def test_it_survives_a_killed_worker_and_resumes_after_ctrl_c(tmp_path: Path, plans: int) -> None:
    file, out = sweep_file(tmp_path, plans), tmp_path / "plans.jsonl"
    process = start(file, out)
    wait_for(out, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    wait_for(out, 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    done = len(records(out))
    assert 3 <= done < plans
    told = start(file, out, "--resume")
    _, words = told.communicate(timeout=600)
    assert told.returncode == 0, words
    assert f"{done} of {plans} plans are in" in words
    assert len({one.task for one in records(out)}) == len(records(out)) == plans
    assert len({one.run for one in records(out)}) == plans


def test_without_workers_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = sweep_file(tmp_path, 4), tmp_path / "plans.jsonl"
    words = ["plan", str(file), "--schedules", "1f1b", "--seconds", "0", "--out", str(out), "--json"]
    assert not outcome(words)
    assert not outcome([*words, "--resume"])
    assert "4 of 4 plans are in" in capsys.readouterr().err
    assert len(records(out)) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workers", "0"], "--workers 0: must be 1"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "give one of them"),
        (["--scheduler", "tcp://"], "--scheduler tcp://"),
        (["--resume"], "--resume: give --out"),
    ],
)
def test_what_does_not_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert outcome(["plan", str(sweep_file(tmp_path, 2)), *more]) == 2
    assert words in capsys.readouterr().err


def test_a_plan_that_cannot_be_made_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "s.yaml", tmp_path / "p.jsonl"
    file.write_text("model: gpt3-1.3b\ntopology: dgx-h100\nglobal_batch: 16\ntp: [3, 2]\nzero: 1\n")
    assert outcome(["plan", str(file), "--schedules", "1f1b", "--seconds", "0", "--out", str(out), "--json"]) == 2
    assert "num_heads 16 is not divisible by tp 3" in capsys.readouterr().err
    assert len(records(out)) == 1
