# SPDX-License-Identifier: Apache-2.0
"""``run all``: every collective on ranks that meet once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.collectives.spec import COLLECTIVES
from commbench.live.kinds import job_of
from commbench.live.plan import Plan
from commbench.live.suite import Suite


def run_all(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "commbench", "run", "all", "-b", "4", "-e", "64", "-f", "16", "-n", "1", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_suite_survives_the_way_to_a_rank() -> None:
    plans = tuple(
        Plan(collective=name, ranks=2, sizes_bytes=(4,), out=Path("r.jsonl"), run="r") for name in ("reduce", "barrier")
    )
    assert job_of(Suite.of(plans).to_json()) == Suite.of(plans)


@pytest.mark.live
def test_all_measures_every_collective_under_its_own_header(tmp_path: Path) -> None:
    done = run_all(tmp_path, "--out", "all.jsonl")
    assert done.returncode == 0, done.stderr
    headers = [line.split()[1].rstrip(",") for line in done.stdout.splitlines() if ", native: 2 ranks" in line]
    assert headers == list(COLLECTIVES)
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(dict.fromkeys(record["collective"] for record in records)) == list(COLLECTIVES)
    assert {record["wrong"] for record in records} == {0}


@pytest.mark.live
def test_all_with_an_algorithm_takes_the_collectives_that_have_it(tmp_path: Path) -> None:
    done = run_all(tmp_path, "--algorithm", "binomial", "--root", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = {(record["collective"], record["root"]) for record in map(json.loads, done.stdout.splitlines())}
    assert found == {(name, 1) for name in ("broadcast", "reduce", "gather", "scatter")}
    done = run_all(tmp_path, "--algorithm", "mine.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "all --algorithm mine.txt: no collective has it" in done.stderr
