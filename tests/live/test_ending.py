# SPDX-License-Identifier: Apache-2.0
"""A run that is told to end, in whatever way, takes its ranks and its private folder with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.live.ending import end_in_order, undisturbed
from tests.live.test_run import alive, long_run, measured

pytest.importorskip("torch")

ENDING = """
import os, signal, sys
from commbench.live.ending import end_in_order
end_in_order()
try:
    os.kill(os.getpid(), int(sys.argv[1]))
finally:
    print("in order")
"""


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGALRM"])
def test_every_signal_ends_a_process_by_way_of_finally(name: str) -> None:
    number = signal.Signals[name]
    done = subprocess.run([sys.executable, "-c", ENDING, str(int(number))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "in order\n", "")


@pytest.mark.live
def test_a_signal_that_no_verb_knows_leaves_no_rank_and_no_folder(tmp_path: Path) -> None:
    """Those that people send are in test_run."""
    number = signal.SIGXCPU
    with long_run(tmp_path) as (process, ranks):
        process.send_signal(number)
        stderr = process.communicate(timeout=15)[1]
        assert process.returncode == 128 + number
        assert list(tmp_path.iterdir()) == [tmp_path / "r.jsonl"]
        assert "Traceback" not in stderr
        assert len(measured(tmp_path / "r.jsonl")) == 1
        assert not any(map(alive, ranks))


@pytest.mark.live
def test_a_reader_that_goes_away_ends_a_run_quietly_and_leaves_no_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "commbench", "run", "all-reduce", "--nproc", "2", "-b", "4K", "-e", "64K"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", '"$@" | true; echo ${PIPESTATUS[0]}', "-", *command, "--out", str(tmp_path / "r.jsonl")],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{128 + signal.SIGPIPE}\n"
    assert "roken" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


IGNORED = """
import os, signal
from commbench.live.ending import end_in_order
end_in_order()
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""


def test_what_is_ignored_stays_ignored() -> None:
    """As by nohup."""
    done = subprocess.run(["nohup", sys.executable, "-c", IGNORED], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"


def test_a_signal_waits_until_all_is_taken_away() -> None:
    before = {number: signal.getsignal(number) for number in signal.Signals}
    done = []

    def take_away() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            done.append("whole")

    try:
        end_in_order()
        with pytest.raises(SystemExit) as ended:
            take_away()
        assert ended.value.code == 128 + signal.SIGTERM
        signal.raise_signal(signal.SIGQUIT)  # one is enough
        assert done == ["whole"]
    finally:
        for number, handler in before.items():
            if handler is not None and number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, handler)
