# SPDX-License-Identifier: Apache-2.0
"""Measuring from Python, as other rooms do it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import schedules

from commbench.errors import CheckFailedError, RunError
from commbench.live.console import session_notes
from commbench.live.job import OverlapJob
from commbench.live.job_barrier import JobBarrier
from commbench.live.measure import measure, require_right, run_job
from commbench.live.observe import Observer, SessionFacts
from commbench.live.plan import Plan
from commbench.live.processors import Spent, idle_share
from commbench.live.rank_host import RankHost
from commbench.results.journal import read_records
from commbench.results.records import Measured

pytest.importorskip("torch")


class Listener(Observer):
    def __init__(self) -> None:
        self.facts: list[SessionFacts] = []
        self.records: list[Measured] = []

    def started(self, facts: SessionFacts) -> None:
        self.facts.append(facts)

    def measured(self, record: Measured) -> None:
        self.records.append(record)


def plan(out: Path) -> Plan:
    return Plan(
        collective="all-reduce", ranks=2, sizes_bytes=(8, 64), out=out, run="r", schedule=schedules.ring(2), iters=2
    )


@pytest.mark.live
@pytest.mark.parametrize(("timing", "meetings"), [("isolated", 1 + 1 + 2 + 1), ("pipelined", 1)])
def test_runs_at_one_time_meet_before_every_iteration_that_is_isolated(
    tmp_path: Path, timing: str, meetings: int
) -> None:
    """Before a size, each warm-up and timed iteration and the check; what is back to back has no room for it."""
    folder = tmp_path / "meetings"
    folder.mkdir()
    hosts = [RankHost(variables=JobBarrier(folder, 0, 1).variables)] * 2
    asked = replace(plan(tmp_path / "r.jsonl"), warmup=1, timing=timing)
    assert len(measure(asked, hosts=hosts)) == 2
    assert len(list(folder.glob("round*"))) == 2 * meetings


@pytest.mark.live
@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux tells what processors do there")
def test_a_run_in_a_lab_tells_what_it_leaves_of_the_processors(tmp_path: Path) -> None:
    lab = {"emulated": {"jobs": [[0, 1]]}}
    found = measure(replace(plan(tmp_path / "lab.jsonl"), facts=lab))
    assert all(0 <= record.environment["emulated"]["idle"] <= 1 for record in found)
    assert read_records(tmp_path / "lab.jsonl") == found
    (record, _) = measure(plan(tmp_path / "plain.jsonl"))
    assert "emulated" not in record.environment


def test_what_a_run_leaves_is_what_nobody_used_or_what_is_not_its_own() -> None:
    cores, one = os.cpu_count() or 1, [[0.5, 0.5]]
    alone = [Spent(own_s=0.2 * cores, busy_s=0.3 * cores, interrupts_s=0.3 * cores)] * 2
    assert idle_share(alone, samples_s=one, num_ranks=2) == pytest.approx(0.7)
    beside_others = [replace(spent, busy_s=0.9 * cores) for spent in alone]
    assert idle_share(beside_others, samples_s=one, num_ranks=2) == pytest.approx(1 - (2 * 0.2 + 0.3))
    assert idle_share(beside_others, samples_s=one, num_ranks=4) == pytest.approx(0.1)  # as much again for another run
    assert idle_share(beside_others, samples_s=[[0.25, 0.25]], num_ranks=2) == 0.0
    early = [[0.001, 0.001], [0.6, 0.4]]  # the root of a broadcast has handed its bytes on, and waits
    assert idle_share(alone, samples_s=early, num_ranks=2) == pytest.approx(0.7)


@pytest.mark.live
def test_records_come_back_and_are_appended(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    out.write_text('{"cut')  # a journal that a crash left
    listener = Listener()
    hosts = [RankHost(variables={"NCCL_DEBUG": f"rank{rank}", "NCCL_ALGO": "x"}) for rank in range(2)]
    records = measure(plan(out), observer=listener, hosts=hosts)
    assert [record.size_bytes for record in records] == [8, 64]
    assert records == listener.records == read_records(out, salvage=True)
    require_right(records)
    (facts,) = listener.facts
    assert (facts.backend, facts.ranks) == ("gloo", 2)
    assert len(facts.environment["hosts"]) == 2
    cores = len(os.sched_getaffinity(0))
    assert any("oversubscribed" in note for note in session_notes(facts)) == (cores < 2)
    kept = facts.environment["variables"]
    assert (kept["NCCL_DEBUG"], kept["NCCL_ALGO"]) == ("rank0", "x")
    assert facts.environment["by_rank"] == {"1": {"variables": {"NCCL_DEBUG": "rank1"}}}
    assert any("NCCL_DEBUG (rank 1)" in note for note in facts.notes)


@pytest.mark.live
def test_other_jobs_tell_of_their_records_too(tmp_path: Path) -> None:
    listener = Listener()
    job = OverlapJob(ranks=2, out=tmp_path / "r.jsonl", run="r", backend="gloo", iters=1, m=8, n=8, k=8, size_bytes=64)
    records = run_job(job, observer=listener)
    assert [record.kind for record in records] == ["overlap"]
    assert records == listener.records == read_records(job.out)
    assert len(listener.facts) == 1


@pytest.mark.live
def test_a_rank_whose_host_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"rank 1 .*\(rank 1 cannot start: /no/such/network: No such file"):
        measure(plan(tmp_path / "r.jsonl"), hosts=[RankHost(), RankHost(network="/no/such/network")])


def test_wrong_values_are_refused_with_their_sizes() -> None:
    record = Measured(
        run="r",
        collective="all-reduce",
        algorithm="ring",
        backend="gloo",
        ranks=2,
        size_bytes=1024,
        num_elements=256,
        dtype="float32",
        op="sum",
        samples_s=((1.0,), (1.0,)),
        busbw_factor=1.0,
        timing="isolated",
        launcher="commbench",
        started_at="2026-01-01T00:00:00+00:00",
        wrong=3,
    )
    with pytest.raises(CheckFailedError, match="wrong values: 3 at 1 KiB"):
        require_right([record])
