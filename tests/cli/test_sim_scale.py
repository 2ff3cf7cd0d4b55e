# SPDX-License-Identifier: Apache-2.0
"""``commbench sim`` on large worlds: what it says, what it refuses, and what Ctrl-C leaves."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.commands import commbench
from tests.sim.test_nics import USES_ALL

COMMBENCH = [sys.executable, "-m", "commbench"]


def sim(*words: str) -> subprocess.CompletedProcess[str]:
    return commbench("sim", "all-reduce", "--algorithm", "ring", *words, folder=Path())


def test_folded_says_what_was_folded_and_gives_the_same_time() -> None:
    whole, folded = (sim("-t", "fat-tree-256", "-b", "64M", "--detail", d, "--json") for d in ("transfer", "folded"))
    records = [json.loads(done.stdout) for done in (whole, folded)]
    assert records[0]["time_s"] == records[1]["time_s"]
    assert [r["shortcut"] == "" for r in records] == [True, False]
    told = sim("-t", "fat-tree-256", "-b", "64M", "--detail", "folded").stderr
    assert told == f"64 MiB: {records[1]['shortcut']}\n"
    assert told.startswith("64 MiB: 512 tasks of a round folded to ")


def test_what_cannot_be_folded_is_simulated_whole_and_said_so() -> None:
    done = sim("-t", "fat-tree-64", "-b", "1000", "--detail", "folded")
    assert done.returncode == 0
    assert "simulated whole" in done.stderr or "not folded: chunks differ in size" in done.stderr


def test_engines_give_the_same_line() -> None:
    words = ["-t", "leaf-spine-16-4to1", "--routing", "ecmp", "-b", "1M", "-e", "1M", "--json"]
    lines = [json.loads(sim(*words, "--engine", engine).stdout) for engine in ("compiled", "reference")]
    for line in lines:
        del line["engine"], line["wall_s"], line["run"]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--detail", "packet"], "--detail 'packet' is unknown; known: transfer, folded, collective"),
        (["--engine", "simgrid"], "--engine 'simgrid' is unknown; known: auto, compiled, reference"),
        (["--engine", "reference", "--detail", "folded"], "give --detail transfer, or --engine compiled"),
        (["--detail", "collective", "--jitter", "0.1"], "give --detail transfer"),
    ],
)
def test_bad_input(words: list[str], rule: str) -> None:
    done = sim("-t", "star-8", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert rule in done.stderr


def test_ctrl_c_leaves_the_sizes_that_were_done() -> None:
    """The first size takes no time, the second minutes: blocks of one element do not vary, larger ones all differ."""
    words = ["sim", "all-to-all", "-a", "direct", "-t", "leaf-spine-256-2to1", "--jitter", "0.1"]
    sizes = ["-b", "1K", "-e", "64M", "-f", "65536", "--json"]
    with subprocess.Popen([*COMMBENCH, *words, *sizes], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert json.loads(first)["size_bytes"] == 1024
    assert rest == b""
    assert process.returncode == 130
    assert b"interrupted; complete records are kept" in said


def test_a_terminal_sees_a_bar_after_a_second() -> None:
    """A simulation of more than some seconds, watched for two: the bar with its estimate of the time left."""
    words = ["sim", "all-to-all", "-a", "direct", "-t", "fat-tree-512", "--routing", "ecmp", "--jitter", "0.1"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMBENCH, *words, "-b", "64M"], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)
    seen, until = b"", time.monotonic() + 60
    while b"%" not in seen and time.monotonic() < until:
        time.sleep(0.1)
        try:
            seen += os.read(ours, 65536)
        except BlockingIOError:
            continue
    process.kill()
    process.wait()
    os.close(ours)
    assert b"simulating 64 MiB" in seen
    assert b"%" in seen


def test_the_table_ends_as_that_of_nccl_tests_does() -> None:
    done = sim("-t", "star-8", "-b", "1M", "-e", "2M")
    rows = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    mean = sum(float(row.split()[4]) for row in rows) / len(rows)
    label, value = done.stdout.splitlines()[-1].split(":")
    assert label == "# Avg bus bandwidth    "
    assert float(value) == pytest.approx(mean, abs=0.01)


def test_busiest_links_and_jobs_stand_under_their_size() -> None:
    done = sim("-t", "star-8", "-b", "1M", "-e", "1M", "--links", "--jobs", "0,1,2/4,5")
    assert "# job 0: " in done.stdout
    assert done.stdout.count("h0/cpu0 -> h0/nic0") == 1
    words = ["-t", "star-8", "-b", "1M", "-e", "1M", "--links", "--groups", "0,1,2/4,5", "--json"]
    record = json.loads(sim(*words).stdout)
    assert (len(record["links"]), [job["ranks"] for job in record["jobs"]]) == (10, [[0, 1, 2], [4, 5]])


def test_unused_nics_are_told_on_stderr() -> None:
    done = sim("-t", "dgx-h100-x2", "-b", "1M", "--json")
    assert done.stderr == f"note: {USES_ALL}\n"
    assert sim("-t", "dgx-h100-x2", "-b", "1M", "--json", "--channels", "8").stderr == ""
