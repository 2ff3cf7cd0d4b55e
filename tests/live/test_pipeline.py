# SPDX-License-Identifier: Apache-2.0
"""Pipelines on live ranks: right values, right order, dependencies kept, the right stage blamed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from commbench.errors import InputError, RunError, ScheduleError
from commbench.experiments.pipeline import make_job
from commbench.live.job import PipelineJob
from commbench.live.kinds import job_of
from commbench.live.measure import run_job
from commbench.live.observe import Observer
from commbench.results.journal import read_records
from commbench.results.pipeline_records import PipelineMeasured
from commbench.workload.pipeline.schedule import Action, Pass, gives, needs
from commbench.workload.pipeline.text import from_csv

pytest.importorskip("torch")
live = pytest.mark.live

ROOT = Path(__file__).parents[2]


def lasting(delay: str) -> dict[str, str]:
    """F, I and W."""
    return dict.fromkeys(("forward", "input_", "weight"), delay)


def job(tmp_path: Path, schedule: str, **options: object) -> PipelineJob:
    settings = {"ranks": 2, "microbatches": 4, "iters": 2, "backend": "gloo", "timeout": 60.0, **lasting("2 ms")}
    return make_job(schedule, out=tmp_path / "r.jsonl", **(settings | options))  # type: ignore[arg-type]


def measured(job: PipelineJob) -> list[PipelineMeasured]:
    records = run_job(job)
    assert all(isinstance(record, PipelineMeasured) for record in records)
    return records  # type: ignore[return-value]


def check_spans(record: PipelineMeasured) -> None:
    """Each rank runs its list in order, one pass at a time, and no pass begins before what it needs has ended."""
    schedule = from_csv(record.order, record.schedule)
    for iteration in record.spans:
        made = {}
        for rank, spans in enumerate(iteration):
            ran = [Action(stage, Pass(kind), microbatch) for stage, kind, microbatch, _, _ in spans]
            assert ran == [action for step in schedule.orders[rank] for action in step.parts]
            assert all(before[4] <= after[3] for before, after in pairwise(spans))
            made |= {gives(action): span[4] for action, span in zip(ran, spans, strict=True)}
        for spans in iteration:
            for stage, kind, microbatch, begin, _ in spans:
                for result in needs(Action(stage, Pass(kind), microbatch), schedule.num_stages):
                    assert made[result] <= begin, (stage, kind, microbatch)


@live
@pytest.mark.parametrize(
    ("schedule", "ranks", "executors"),
    [("1f1b", 3, "both"), ("zbv", 2, "both"), ("dualpipev", 2, "schedule")],
)
def test_every_executor_is_right_and_in_order(schedule: str, ranks: int, executors: str, tmp_path: Path) -> None:
    asked = job(tmp_path, schedule, ranks=ranks, executor=executors)
    records = measured(asked)
    assert [record.executor for record in records] == list(asked.executors)
    for record in records:
        assert record.wrong == 0
        assert record.clock == "shared"
        assert len(record.spans) == 2
        assert [len(walls) for walls in record.double_walls_s] == [2] * ranks
        assert len(record.transfers_s) >= ranks - 1
        check_spans(record)
        assert min(record.pass_s().values()) > 0.0015  # the delays were slept, not skipped
    assert read_records(asked.out) == records


@live
def test_a_csv_without_a_double_runs_by_products(tmp_path: Path) -> None:
    csv = tmp_path / "own.csv"
    csv.write_text("0F0,0F1,,0B0,0B1\n1F0,1B0,1F1,1B1\n")
    sizes = {"tokens": 16, "hidden": 32, "layers": 3}
    asked = make_job(str(csv), ranks=2, out=tmp_path / "r.jsonl", compute="matmul", backend="gloo", **sizes)
    (record,) = measured(asked)
    assert (record.schedule, record.microbatches, record.compute) == ("own", 2, "matmul")
    assert record.wrong == 0
    assert record.delays_s == {}
    assert record.double_walls_s == ()
    assert record.bubble_clock_free is None
    check_spans(record)


@dataclass
class Pids(Observer):
    """Kills a rank when the ranks have met and some passes have run."""

    kill: int
    pids: list[int] = field(default_factory=list)

    def launched(self, pids: Sequence[int]) -> None:
        self.pids = list(pids)

    def started(self, facts: object) -> None:
        time.sleep(2.0)  # into its iterations, which take a minute
        os.kill(self.pids[self.kill], signal.SIGKILL)


@live
def test_a_stage_that_dies_is_named_and_ends_the_others(tmp_path: Path) -> None:
    observer = Pids(kill=1)
    asked = job(tmp_path, "1f1b", ranks=2, iters=100, **lasting("50 ms"))
    with pytest.raises(RunError, match=r"rank 1 was killed by signal 9 \(SIGKILL\) at 16 KiB, .*stage 1[FB]\d+"):
        run_job(asked, observer=observer)
    assert not any(Path(f"/proc/{pid}").exists() for pid in observer.pids)


RAISES = """
import os
if "COMMBENCH_PARENT" in os.environ:
    from commbench.live.stage import LiveStage
    whole = LiveStage.backward_input
    def broken(self, microbatch, gradient):
        if microbatch == 2 and os.environ["RANK"] == "1":
            raise ValueError("the stage is broken")
        return whole(self, microbatch, gradient)
    LiveStage.backward_input = broken
"""


@live
def test_a_stage_that_raises_is_named_with_its_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(RAISES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    with pytest.raises(RunError, match=r"rank 1 failed at 16 KiB, stage 1B2: the stage is broken; 0 complete records"):
        run_job(job(tmp_path, "1f1b"))


@live
def test_the_command_measures_simulates_and_compares(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "commbench",
        "run",
        "pipeline",
        "--nproc",
        "2",
        "-m",
        "4",
        "--schedule",
        "zero-bubble",
    ]
    options = ["--forward", "5 ms", "--input", "5 ms", "--weight", "5 ms", "--json", "--out", "r.jsonl"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["pipeline-measured", "pipeline-simulated", "pipeline-compared"]
    assert not any("spans" in line for line in lines)
    for line in lines[:2]:
        assert line["iteration_s"] > 0
        assert line["bubble_of_ideal"] == pytest.approx(line["bubble_of_total"] / (1 - line["bubble_of_total"]))
    assert lines[2]["schedule"] == "zb-h1"
    assert sum(lines[2]["idle_s"].values()) > 0
    assert [record.kind for record in read_records(tmp_path / "r.jsonl")] == [line["kind"] for line in lines]


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        ("zb-h2", {"ranks": 4, "microbatches": 3}, "3 microbatches are too few for 4 ranks"),
        ("1f1b", {"ranks": 4, "microbatches": 3, "executor": "torch"}, "torch's 1f1b has no fewer"),
        ("interleaved", {"ranks": 4, "microbatches": 6}, "6 microbatches are not a multiple of 4 ranks"),
        ("1f1b", {"stages_per_rank": 2}, "it has 1 stages per rank, not 2"),
        ("pipedream", {}, "pipeline schedule 'pipedream' is unknown"),
        ("zb-h2", {"executor": "torch"}, "torch.distributed.pipelining has no schedule zb-h2; use --executor schedule"),
        ("1f1b", {"executor": "magic"}, "--executor 'magic' is unknown; known: schedule, torch, both"),
        ("1f1b", {"compute": "prayer"}, "--compute 'prayer' is unknown; known: delay, matmul"),
        ("1f1b", {"compute": "delay", "backend": "nccl"}, "give --compute matmul"),
        ("1f1b", {"compute": "matmul", "slow": ["1=2"]}, "no meaning with --compute matmul"),
        ("1f1b", {"slow": ["2=1.5"]}, "'2=1.5' must be STAGE=FACTOR with a stage of 0..1"),
        ("1f1b", {"slow": ["1"]}, "--slow '1' must be STAGE=FACTOR"),
        ("1f1b", {"slow": ["1=nan"]}, "--slow '1=nan' must be STAGE=FACTOR"),
        ("1f1b", {"forward": "0 ms"}, "must be above 0"),
        ("1f1b", {"input_": "20"}, "is not a duration"),
        ("1f1b", {"tokens": 0}, "--tokens 0 must be at least 1"),
        ("1f1b", {"tokens": 2**18}, "float32 is exact up to 16777216"),
        ("1f1b", {"iters": 0}, "--iters 0 must be at least 1"),
        ("1f1b", {"timeout": 0.0}, "--timeout 0 must be above 0 and at most"),
    ],
)
def test_bad_input_is_refused_with_rule_and_numbers(
    schedule: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        job(tmp_path, schedule, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "ranks", "message"),
    [
        ("0F0,0B0\n1B0,1F0\n", 2, "deadlock"),
        ("0F0,0F1,0B0,0B1\n1F0,1B0\n", 2, "stage 1 skips microbatch 1"),
        ("0F0,0B0\n1F0,1B0\n", 3, "is for 2 ranks, --nproc is 3"),
    ],
)
def test_a_bad_csv_is_refused(rows: str, ranks: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(rows)
    with pytest.raises(InputError, match=message):
        make_job(str(tmp_path / "own.csv"), ranks=ranks, out=tmp_path / "r.jsonl")
    assert issubclass(ScheduleError, InputError)


def test_a_job_comes_back_from_its_text(tmp_path: Path) -> None:
    asked = job(tmp_path, "zbv", slow=["3=1.5"], executor="both")
    assert job_of(asked.to_json()) == asked
    assert asked.slow == ((3, 1.5),)
    assert asked.delays_s == (0.002, 0.002, 0.002)
