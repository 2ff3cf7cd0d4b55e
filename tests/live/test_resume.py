# SPDX-License-Identifier: Apache-2.0
"""A run that was cut goes on in its file: what is there is not measured again, and nothing else is mixed in."""

import subprocess
import sys
from pathlib import Path

import pytest

from commbench.cli.main import outcome
from commbench.results.journal import read_records
from commbench.results.records import Measured

pytest.importorskip("torch")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "commbench", "run", *words, "-n", "2", "-w", "1", "--out", "r.jsonl"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.live
def test_a_run_that_was_cut_in_a_line_goes_on_behind_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.jsonl"
    assert run(tmp_path, "all-gather", "-b", "64", "-e", "256", "--place", "both").returncode == 0
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 6
    file.write_bytes(b"".join(lines[:3]) + lines[3][:100])  # 64 B in both ways, 128 B out of place, half a record
    done = run(tmp_path, "all-gather", "-b", "64", "-e", "256", "--place", "both", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    records = [r for r in read_records(file, salvage=True) if isinstance(r, Measured)]
    assert [(r.size_bytes, r.in_place) for r in records] == [(s, way) for s in (64, 128, 256) for way in (False, True)]
    assert len({r.run for r in records}) == 1
    assert file.read_bytes().startswith(b"".join(lines[:3]))  # what was measured stays as it was

    capsys.readouterr()
    again = ["run", "all-gather", "-b", "64", "-e", "256", "--place", "both", "-n", "2", "-w", "1", "--resume"]
    again += ["--out", str(file)]
    assert not outcome(again)
    assert "nothing is left to measure" in capsys.readouterr().err
    assert outcome([*again, "-d", "double"]) == 2
    assert "of 64 B measured with dtype float32, not float64; go on as it was begun" in capsys.readouterr().err
    assert len([r for r in read_records(file, salvage=True) if isinstance(r, Measured)]) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--resume: give --out FILE, the results file to go on in"),
        (("--out", "none.jsonl"), "--resume: none.jsonl is not there; leave --resume out to begin"),
        (("--out", "empty.jsonl"), "--resume: empty.jsonl has no run to go on with"),
    ],
)
def test_there_must_be_a_run_to_go_on_with(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    assert outcome(["run", "all-reduce", "--resume", *words]) == 2
    assert said in capsys.readouterr().err
