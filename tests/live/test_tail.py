# SPDX-License-Identifier: Apache-2.0
"""What a run reads back of its own records, whatever else happens to the file meanwhile."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.supervise import JournalTail
from commbench.results.journal import Journal, read_records
from commbench.results.records import Measured
from tests.results.test_journal import measured

OURS = [replace(measured(1024 * k), run="ours") for k in (1, 2, 3)]


class Heard(Observer):
    def __init__(self) -> None:
        self.records: list[Measured] = []

    def measured(self, record: Measured) -> None:
        self.records.append(record)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def tail(path: Path, heard: Heard) -> JournalTail:
    plan = Plan(ranks=2, out=path, run="ours", collective="all-reduce", sizes_bytes=(1024,))
    return JournalTail(plan, heard)


def test_lines_of_others_are_passed_over(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "r.jsonl"
    Journal(path).append(replace(OURS[0], run="earlier"))
    reads = tail(path, heard)
    Journal(path).append(OURS[0])
    for line in (b"\xff\xfe\n", b"hello\n", b'{"kind": "measured"}\n', b"[" * 5000 + b"\n"):
        with path.open("ab") as file:
            file.write(line)
        reads.read()
    Journal(path).append(replace(OURS[0], run="later"))
    Journal(path).append(OURS[1])
    reads.read()
    assert heard.records == reads.records == OURS[:2]


@pytest.mark.parametrize("harm", ["cut", "removed", "replaced"])
def test_a_file_that_is_cut_or_taken_away_is_said_and_nothing_is_told_twice(
    tmp_path: Path, heard: Heard, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    reads = tail(path, heard)
    Journal(path).append(OURS[0])
    Journal(path).append(OURS[1])
    reads.read()
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif harm == "removed":
        path.unlink()
    else:
        (tmp_path / "other").write_bytes(path.read_bytes() * 2)
        (tmp_path / "other").rename(path)
    reads.read()
    reads.read()
    assert capfd.readouterr().err.count("was cut or taken away during the run") == 1
    Journal(path).append(OURS[2])
    reads.read()
    assert heard.records == OURS


@pytest.mark.live
def test_two_runs_at_once_into_one_file_show_each_its_own(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    command = [sys.executable, "-m", "commbench", "run", "all-reduce", "-n", "3", "--json", "--out", str(path)]
    sizes = (["-b", "1K", "-e", "4K"], ["-b", "1M", "-e", "4M"])
    runs = [subprocess.Popen([*command, *one], stdout=subprocess.PIPE, text=True) for one in sizes]
    said = [run.communicate(timeout=240)[0].splitlines() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert [len(lines) for lines in said] == [3, 3]
    records = read_records(path)
    assert len(records) == 6
    assert len({record.run for record in records if isinstance(record, Measured)}) == 2
    assert sorted(line for lines in said for line in lines) == sorted(record.to_json() for record in records)
