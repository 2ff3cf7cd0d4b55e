# SPDX-License-Identifier: Apache-2.0
"""The seam to torch's backends: nobody else asks for their names, and what only NCCL punishes shows on a strict one."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commbench.errors import InputError
from commbench.live.backend import AUTO, BACKENDS, may_find_gpus, usable
from commbench.live.job import PipelineJob
from commbench.workload.pipeline.registry import PIPELINES, build_pipeline
from commbench.workload.pipeline.text import to_csv

pytest.importorskip("torch")
live = pytest.mark.live

PACKAGE = Path(__file__).parents[2] / "commbench"


def compares(source: str) -> Iterator[int]:
    """Lines that compare something with the name of a backend."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            if any(isinstance(one, ast.Constant) and one.value in BACKENDS for one in (node.left, *node.comparators)):
                yield node.lineno
        elif isinstance(node, ast.match_case) and any(name in ast.unparse(node.pattern) for name in BACKENDS):
            yield node.pattern.lineno


def test_no_one_asks_which_backend_it_is() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for room in ("live", "cli", "emulate")
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for line in compares(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("source", ["x.backend == 'nccl'", "'gloo' != x", "match x:\n case 'nccl': pass"])
def test_a_compare_with_a_name_is_seen(source: str) -> None:
    assert list(compares(source))


def test_what_backends_differ_in_is_said_before_torch_is_loaded() -> None:
    assert {name: (b.streams, b.tags, b.device_type) for name, b in BACKENDS.items()} == {
        "gloo": (False, True, "cpu"),
        "nccl": (True, False, "cuda"),
        "strict": (True, False, "cpu"),
    }
    assert (may_find_gpus("nccl"), may_find_gpus("gloo")) == (True, False)


def test_a_rank_without_a_device_is_refused_and_told_what_to_type() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a device here")
    with pytest.raises(InputError, match="backend nccl needs a CUDA device; torch sees none; use --backend gloo"):
        BACKENDS["nccl"].require_device(0)
    BACKENDS["gloo"].require_device(99)


def test_delays_never_go_to_gpus_by_themselves(tmp_path: Path) -> None:
    assert usable(on_host=False) == ["nccl", "gloo"]
    for compute, names in (("delay", ["gloo"]), ("matmul", ["nccl", "gloo"])):
        assert usable(on_host=job("1f1b", 2, tmp_path, compute=compute, backend=AUTO).on_host) == names


def job(name: str, num_ranks: int, folder: Path, **options: Any) -> PipelineJob:
    microbatches = 2 * num_ranks
    return PipelineJob(
        ranks=num_ranks,
        out=folder / "r.jsonl",
        run="test",
        schedule=name,
        microbatches=microbatches,
        order=to_csv(build_pipeline(name, num_ranks, microbatches)),
        iters=1,
        tokens=4,
        hidden=8,
        **options,
    )


def pipelines(folder: Path, rank: int, num_ranks: int, store: str) -> list[dict[str, Any]]:
    """The records of these jobs on the strict backend, by the code that a run uses."""
    from commbench.live import pipeline
    from commbench.live.progress import Progress
    from commbench.live.rank_info import RankInfo
    from commbench.live.session import open_session

    pipeline._TRIPS = 3
    jobs = [job(name, num_ranks, folder, backend="strict", compute="matmul") for name in PIPELINES]
    session = open_session(jobs[0], RankInfo("test", rank, num_ranks, local_rank=rank, store=Path(store)), 20.0)
    pairs = [(0, 1), (1, 0)]
    groups: Any = session.backend.open_pairs(pairs, session.data, session.device, 20.0)
    assert all(groups[pair].connected for pair in pairs if rank in pair)
    records: list[Any] = []
    for one in jobs:
        progress = Progress()
        try:
            records += pipeline.measure_pipeline(one, session, progress)
        except Exception as error:
            raise RuntimeError(f"{one.schedule}, {progress.place}: {error}") from error
    session.barrier()
    session.close()
    return [{"schedule": r.schedule, "backend": r.backend, "wrong": r.wrong} for r in records]


@live
@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_every_pipeline_schedule_ends_and_is_right_where_work_is_enqueued(num_ranks: int, tmp_path: Path) -> None:
    from groups import in_world

    records, *others = in_world(num_ranks, tmp_path, pipelines, tmp_path)
    assert records == [{"schedule": name, "backend": "strict", "wrong": 0} for name in PIPELINES]
    assert not any(others)
