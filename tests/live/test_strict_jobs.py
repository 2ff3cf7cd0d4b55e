# SPDX-License-Identifier: Apache-2.0
"""Every live job on the strict backend: what only NCCL punishes fails here, as a fault that pipelines once had does.

Pipelines by commbench's executor are in test_backend.py, and schedules of all algorithms in test_every_algorithm.py.
"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commbench.collectives.registry import build_schedule
from commbench.collectives.spec import COLLECTIVES
from commbench.experiments.pipeline import make_job
from commbench.live.group_job import GroupJob
from commbench.live.job import LiveJob, OverlapJob, TensorParallelJob
from commbench.live.plan import Plan, rounded_sizes

pytestmark = pytest.mark.live
pytest.importorskip("torch")


def jobs(n: int, folder: Path) -> list[LiveJob]:
    """Small ones of every kind, on ``n`` ranks."""
    shared: dict[str, Any] = {"ranks": n, "out": folder / "r.jsonl", "run": "r", "backend": "strict"}
    brief = shared | {"iters": 2, "warmup": 1}

    def plan(name: str, **options: Any) -> Plan:
        sizes = rounded_sizes(COLLECTIVES[name], n, (4 * n * n,), 4)
        return Plan(collective=name, sizes_bytes=sizes, **(brief | options))

    found: list[LiveJob] = [plan(name) for name in COLLECTIVES]
    found += [plan("all-reduce", timing="pipelined"), plan("all-gather", place="both")]
    found += [plan("all-reduce", schedule=build_schedule("all-reduce", "ring", n), timing=way)
              for way in ("isolated", "pipelined")]  # fmt: skip
    found += group_jobs(n, brief)
    block = {"hidden": 8 * n, "heads": n, "ffn": 8 * n, "sequence": 2 * n, "micro_batch": 1}
    found.append(TensorParallelJob(**brief, **block))
    found.append(OverlapJob(**shared, iters=1, warmup=0, m=64, n=64, k=64, size_bytes=2**12))
    by_torch = {"tokens": 4, "hidden": 8, "compute": "matmul", "executor": "torch", "iters": 2, "timeout": 60.0}
    found += [
        make_job(name, ranks=n, out=folder / "r.jsonl", microbatches=2 * n, backend="strict", **by_torch)  # type: ignore[arg-type]
        for name in ("gpipe", "1f1b", "interleaved", "zbv")
    ]
    return found


def group_jobs(n: int, brief: dict[str, Any]) -> list[GroupJob]:
    """Groups of every kind: pairs that go over the group of all ranks, and groups of their own."""
    shared = brief | {"sizes_bytes": (16 * n,), "how": "both" if n == 4 else "at-once"}
    pairs = shared | {"experiment": "pairwise"}
    groups = "0-1" if n < 4 else f"0-1/{n - 1},2"
    multi = shared | {"experiment": "multi", "groups": groups}
    return [
        GroupJob(**pairs, collective="send-recv", algorithm="direct"),
        GroupJob(**pairs, collective="broadcast", algorithm="binomial", one_way=True),
        GroupJob(**shared, experiment="incast", collective="gather", algorithm="direct", receiver=n - 1),
        GroupJob(**multi, collective="all-reduce", algorithm="native"),
        GroupJob(**multi, collective="barrier", algorithm="native"),
        GroupJob(**multi, collective="all-gather", algorithm="ring"),
    ]


def num_groups(n: int, folder: Path) -> int:
    """Records of all group jobs."""
    found = [job for job in jobs(n, folder) if isinstance(job, GroupJob)]
    return sum(len(one.groups) for job in found for one in job.rounds([("h", rank) for rank in range(n)]))


def run_all(folder: Path, rank: int, num_ranks: int, store: str) -> list[dict[str, Any]]:
    """What every job has measured."""
    from commbench.live.progress import Progress
    from commbench.live.rank_info import RankInfo
    from commbench.live.session import open_session
    from commbench.live.worker import measuring

    asked = jobs(num_ranks, folder)
    session = open_session(asked[0], RankInfo("test", rank, num_ranks, local_rank=rank, store=Path(store)), 60.0)
    session = replace(session, shares_clock=False)  # else a block is measured beside all-reduces for half a minute
    records: list[Any] = []
    for job in asked:
        progress = Progress()
        try:
            records += measuring(job)(session, progress)
        except Exception as error:
            raise RuntimeError(f"{job.kind} {getattr(job, 'collective', '')}, {progress.place}: {error}") from error
    session.barrier()
    return [{"kind": r.kind, "backend": getattr(r, "backend", ""), "wrong": getattr(r, "wrong", 0)} for r in records]


MORE = pytest.mark.skipif(not os.environ.get("COMMBENCH_FULL"), reason="takes minutes: set COMMBENCH_FULL=1")


@pytest.mark.parametrize(
    "num_ranks", [2, 4, *(pytest.param(n, marks=(pytest.mark.full, MORE)) for n in (3, 5, 6, 7, 8, 9))]
)
def test_every_live_job_is_right_on_the_strict_backend(num_ranks: int, tmp_path: Path) -> None:
    from groups import in_world

    records, *others = in_world(num_ranks, tmp_path, run_all, tmp_path, timeout_s=240)
    assert not any(others)
    assert {record["backend"] for record in records} == {"strict"}
    assert [record for record in records if record["wrong"]] == []
    assert Counter(record["kind"] for record in records) == {
        "measured": len(COLLECTIVES) + 5 + num_groups(num_ranks, tmp_path),
        "tensor-parallel": 4,
        "overlap": 1,
        "pipeline-measured": 4,
    }


def post_before_settling(folder: Path, rank: int, num_ranks: int, store: str) -> str:
    """How a pipeline ends whose ranks post receives before they settle, as where work is not enqueued."""
    from commbench.live import pipeline
    from commbench.live.backend import Strict
    from commbench.live.progress import Progress
    from commbench.live.rank_info import RankInfo
    from commbench.live.session import open_session

    pipeline._TRIPS = 3
    Strict.streams = False
    job = make_job("1f1b", ranks=num_ranks, out=folder / "r.jsonl", microbatches=4, backend="strict", compute="matmul",
                   tokens=4, hidden=8, iters=1, timeout=60.0)  # fmt: skip
    session = open_session(job, RankInfo("test", rank, num_ranks, local_rank=rank, store=Path(store)), 1.5)
    try:
        list(pipeline.measure_pipeline(job, session, Progress()))
    except Exception as error:
        return str(error)
    return ""


def test_a_pipeline_that_posts_before_it_settles_hangs_there(tmp_path: Path) -> None:
    """The fault that NCCL alone would have shown."""
    from groups import in_world

    told = in_world(2, tmp_path, post_before_settling, tmp_path)
    assert any("recv from" in text for text in told), told
