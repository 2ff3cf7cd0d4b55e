# SPDX-License-Identifier: Apache-2.0
"""``run all``: every collective on ranks that meet once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commbench.cli.main import outcome
from commbench.collectives.spec import COLLECTIVES
from commbench.live.kinds import job_of
from commbench.live.observe import Observer, SessionFacts
from commbench.live.plan import Plan
from commbench.live.suite import Suite
from commbench.results.records import Record
from tests.report import samples


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
    """Out of place and in place where torch has both ways, else in the one that it has."""
    done = run_all(tmp_path, "--out", "all.jsonl", "--place", "both")
    assert done.returncode == 0, done.stderr
    headers = [line.split()[1].rstrip(",") for line in done.stdout.splitlines() if ", native: 2 ranks" in line]
    assert headers == list(COLLECTIVES)
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(dict.fromkeys(record["collective"] for record in records)) == list(COLLECTIVES)
    assert {record["wrong"] for record in records} == {0}
    ways = {name: {r["in_place"] for r in records if r["collective"] == name} for name in COLLECTIVES}
    both, aside = {"all-gather", "reduce-scatter", "gather", "scatter"}, {"all-to-all", "all-to-all-v", "send-recv"}
    assert ways == {name: {False, True} if name in both else {name not in aside} for name in COLLECTIVES}
    assert done.stdout.count("n/a") >= 4 * (len(COLLECTIVES) - len(both))


def test_what_holds_for_all_tables_of_a_run_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = samples.ENVIRONMENT | {"load_1min": 9.0, "cores_by_host": {"lab-03": 8.0}}
    facts = SessionFacts("gloo", "commbench", 2, busy)

    def shown(job: Suite, seat: None, observer: Observer) -> list[Record]:
        found = [samples.measured(collective=plan.collective, ranks=2) for plan in job.plans[:3]]
        observer.started(facts)
        for record in found:
            observer.measured(record)
        return list(found)

    monkeypatch.setattr("commbench.cli.run.run_here", shown)
    outcome(["run", "all", "--out", str(tmp_path / "r.jsonl")])
    out, err = capsys.readouterr()
    assert out.count(", native: 2 ranks on gloo") == 3
    assert err.count("load average 9.0") == 1


@pytest.mark.live
def test_all_with_an_algorithm_takes_the_collectives_that_have_it(tmp_path: Path) -> None:
    done = run_all(tmp_path, "--algorithm", "binomial", "--root", "1", "--json", "--place", "both")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    found = {(record["collective"], record["root"]) for record in records}
    assert found == {(name, 1) for name in ("broadcast", "reduce", "gather", "scatter")}
    assert {record["wrong"] for record in records} == {0}
    assert {(r["collective"], r["in_place"]) for r in records} == {(c, way) for c, _ in found for way in (False, True)}
    done = run_all(tmp_path, "--algorithm", "mine.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "all --algorithm mine.txt: no collective has it" in done.stderr
