# SPDX-License-Identifier: Apache-2.0
"""Ranks that others started, when one of them is killed, stopped or cut off: it is named, all end, nothing is lost."""

import json
import os
import random
from pathlib import Path

import pytest
from trials import FATES, LONG, TIMEOUT_S, WITHIN_S, Ended, ranks_of_others

from commbench.results.failures import FailedRun
from commbench.results.journal import read_records
from commbench.results.records import Measured

pytestmark = [pytest.mark.live, pytest.mark.alone]
pytest.importorskip("torch")

FULL, TRIALS = "COMMBENCH_FULL", "COMMBENCH_TRIALS"


def trial(folder: Path, rank: int, fate: str, *, torchrun: bool, num_ranks: int = 4) -> Ended:
    with ranks_of_others(folder, num_ranks, f"{LONG} --timeout {TIMEOUT_S}", torchrun=torchrun) as run:
        run.begin()
        return run.befall(rank, fate)


def faults(folder: Path, rank: int, ended: Ended, *, torchrun: bool) -> list[str]:
    """What is wrong with how a trial ended."""
    found = []
    if ended.seconds >= TIMEOUT_S + WITHIN_S:
        found.append(f"not over after {ended.seconds:.1f} s")
    if ended.named() != {rank}:
        found.append(f"names {ended.named()}")
    if not torchrun and set(ended.codes) != {3}:  # torchrun's own code is 1 whatever its ranks' are
        found.append(f"exit codes {ended.codes}")
    if ended.left:
        found.append(f"processes left: {ended.left}")
    if any("Traceback (most recent call last)" in text for text in ended.said) and not torchrun:
        found.append("a traceback")
    records = read_records(folder / "r.jsonl")
    if [type(record) for record in records] != [Measured, FailedRun] or records[1].guilty != (rank,):  # type: ignore[attr-defined]
        found.append(f"records {[(type(r).__name__, getattr(r, 'guilty', '')) for r in records]}")
    return found


@pytest.mark.parametrize(
    ("rank", "fate", "torchrun"),
    [(0, "stopped", True), (0, "killed", False), (2, "cut off", False)],
)
def test_a_rank_that_is_lost_is_named_and_ends_all(rank: int, fate: str, torchrun: bool, tmp_path: Path) -> None:
    ended = trial(tmp_path, rank, fate, torchrun=torchrun, num_ranks=3)
    assert faults(tmp_path, rank, ended, torchrun=torchrun) == [], ended


def test_a_stopped_rank_is_named_with_host_place_and_the_others_stacks(tmp_path: Path) -> None:
    ended = trial(tmp_path, 1, "stopped", torchrun=False, num_ranks=3)
    assert faults(tmp_path, 1, ended, torchrun=False) == [], ended
    (line,) = ended.errors
    assert f"rank 1 ({os.uname().nodename}, cpu) made no progress for 3 s at 16 MiB, " in line
    assert "(stopped by a signal); stacks: r." in line
    (stacks,) = tmp_path.glob("r.*.stacks.txt")
    text = stacks.read_text()
    assert [f"=== rank {rank} ===" in text for rank in range(3)] == [True, False, True]
    assert "in run_rank" in text  # what it waits in, from the bottom
    failed = read_records(tmp_path / "r.jsonl")[-1]
    assert isinstance(failed, FailedRun)
    assert (failed.stacks, failed.guilty, failed.launcher) == (stacks.name, (1,), "env://")
    assert len(failed.places) == 3


@pytest.mark.full
@pytest.mark.skipif(os.environ.get(FULL) != "1", reason=f"many trials take an hour: set {FULL}=1, {TRIALS}=200")
def test_many_random_trials(tmp_path: Path) -> None:
    """At least 99 in 100 name the right rank; every one ends in time, keeps its records and leaves no process."""
    count, chance = int(os.environ.get(TRIALS, "200")), random.Random(14)
    kept = tmp_path / "trials.jsonl"
    bad: dict[int, list[str]] = {}
    for number in range(count):
        rank, fate, torchrun = chance.randrange(4), chance.choice(sorted(FATES)), number % 2 == 0
        folder = tmp_path / str(number)
        folder.mkdir()
        ended = trial(folder, rank, fate, torchrun=torchrun)
        found = faults(folder, rank, ended, torchrun=torchrun)
        told = {"number": number, "rank": rank, "fate": fate, "torchrun": torchrun, "seconds": ended.seconds,
                "faults": found, "errors": sorted(ended.errors)}  # fmt: skip
        with kept.open("a") as file:
            file.write(json.dumps(told) + "\n")
        if found:
            bad[number] = found
            print(told, ended.said)
    print(f"{count} trials, {len(bad)} with faults: {bad}")
    assert sum(any("names" in fault for fault in found) for found in bad.values()) <= count / 100
    assert [found for found in bad.values() if not all("names" in fault for fault in found)] == []
