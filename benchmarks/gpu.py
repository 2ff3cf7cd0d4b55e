# SPDX-License-Identifier: Apache-2.0
"""``make gpu``: everything live on one GPU, in under eight minutes, as records and a verdict.

NCCL on one rank, then on two to four that share the GPU: a NCCL_HOSTID of its own for each process makes NCCL hold them
for hosts of their own and go over sockets, so that every code path of several ranks runs, at no speed worth telling.
Where there is no GPU it says so, and the strict backend stands in on CPUs: order and values as NCCL would have them.

Exit code 1 if a part failed or was left out for lack of time.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from commbench.collectives.registry import ALGORITHMS
from commbench.collectives.spec import COLLECTIVES
from commbench.collectives.uneven import zipf_weights
from commbench.errors import CommbenchError, InputError
from commbench.experiments.collective import NATIVE, Asked
from commbench.experiments.pipeline import make_job as make_pipeline
from commbench.live.backend import BACKENDS
from commbench.live.execute import require_same_order
from commbench.live.gemm import GemmPlan, measure_gemm
from commbench.live.group_job import GroupJob
from commbench.live.job import LiveJob, OverlapJob, TensorParallelJob
from commbench.live.measure import run_job
from commbench.live.plan import Plan
from commbench.live.rank_host import RankHost
from commbench.live.suite import Suite
from commbench.results.grouped import INCAST, MULTI, PAIRWISE
from commbench.results.journal import Journal
from commbench.results.run_id import new_run_id

BUDGET_S = 7.5 * 60
_TIMEOUT_S = 60.0
_LARGE = {"nccl": ("1K", "16M", 128.0, None), "strict": ("1K", "64K", 64.0, None)}


@dataclass(frozen=True)
class Part:
    """A job, or products alone where there is none."""

    name: str
    ranks: int
    job: LiveJob | None = None


def parts(backend: str, run: str, out: Path) -> Iterator[Part]:
    """Everything, small worlds first."""
    shared = {"run": run, "out": out, "backend": backend, "timeout_s": _TIMEOUT_S}
    yield Part("products", 1)
    for ranks in (1, 2, 3, 4):
        plans = tuple(Plan(**_shape(name, NATIVE, ranks, backend), **shared, iters=5, warmup=2) for name in COLLECTIVES)
        yield Part("every collective, native", ranks, Suite.of(plans))
        if ranks > 1:
            yield Part("every collective, every schedule", ranks, Suite.of(tuple(_by_schedule(backend, ranks, shared))))
    for ranks in (2, 4):
        yield Part("every reduction", ranks, Suite.of(tuple(_reductions(backend, ranks, shared))))
        uneven = {"weights": zipf_weights(1.2, ranks), "budget_s": 0.2, "cold_cache": True}
        shape = _shape("all-to-all-v", NATIVE, ranks, backend) | uneven
        yield Part("uneven pieces, cold", ranks, Plan(**shape, **shared, warmup=1))
        for job in _groups(ranks, shared):
            yield Part(f"{job.experiment} of {job.collective}, {job.algorithm}", ranks, job)
    block = {"hidden": 192, "heads": 12, "ffn": 768, "sequence": 96, "micro_batch": 1}
    for ranks in (2, 4):
        yield Part("tensor parallelism", ranks, TensorParallelJob(ranks=ranks, **shared, **block, iters=5, warmup=2))
        yield Part("overlap", ranks, OverlapJob(ranks=ranks, **shared, iters=3, size_bytes=2**16, m=256, n=256, k=256))
        for schedule in ("1f1b", "zbv"):
            options = {"microbatches": 2 * ranks, "compute": "matmul", "executor": "both", "iters": 3}
            job = make_pipeline(schedule, ranks=ranks, run=run, out=out, backend=backend, timeout=_TIMEOUT_S, **options)
            yield Part(f"pipeline {schedule}", ranks, job)


def _reductions(backend: str, ranks: int, shared: dict[str, object]) -> Iterator[Plan]:
    """Every reduction that the backend has, and small elements."""
    shape = _shape("all-reduce", NATIVE, ranks, backend) | {"sizes_bytes": (2**12,)}
    own = BACKENDS[backend]
    given = [(op, "float32") for op in own.ops] + [("sum", name) for name in ("bfloat16", "int8", "uint8")]
    for op, dtype in [*given, *([("sum", "float8_e4m3fn")] if own.float8 else [])]:
        yield Plan(**(shape | {"op": op, "dtype": dtype}), **shared, iters=2, warmup=1)


def _groups(ranks: int, shared: dict[str, object]) -> Iterator[GroupJob]:
    """Pairs, an incast and groups at once."""
    brief = shared | {"ranks": ranks, "iters": 3, "warmup": 1, "sizes_bytes": (2**16,)}
    yield GroupJob(**brief, experiment=PAIRWISE, collective="send-recv", algorithm="direct", how="both")
    yield GroupJob(**brief, experiment=PAIRWISE, collective="broadcast", algorithm="binomial", one_way=True)
    yield GroupJob(**brief, experiment=INCAST, collective="gather", algorithm="direct")
    for algorithm in (NATIVE, "ring"):
        multi = {"experiment": MULTI, "groups": "div 2", "how": "both", "algorithm": algorithm}
        yield GroupJob(**brief, **multi, collective="all-reduce")


def _shape(collective: str, algorithm: str, ranks: int, backend: str) -> dict[str, object]:
    asked = Asked(collective, algorithm, _LARGE[backend], "float32", None, None, None, None)
    return asked.shape(ranks, 1, lambda note: None)


def _by_schedule(backend: str, ranks: int, shared: dict[str, object]) -> Iterator[Plan]:
    """Every algorithm of the registry that can be had for these ranks without tags."""
    for (collective, name), algorithm in ALGORITHMS.items():
        if name != algorithm.name or not algorithm.live:
            continue
        try:
            shape = _shape(collective, name, ranks, backend)
            plan = Plan(**shape, **shared, iters=2, warmup=1)
            for schedule in plan.schedules:
                require_same_order(schedule, backend)
        except InputError:
            continue
        yield plan


def hosts(backend: str, ranks: int) -> list[RankHost]:
    """Where ranks run: on the first GPU, as if each were a host."""
    if backend != "nccl":
        return []
    device = {"CUDA_VISIBLE_DEVICES": "0", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
    return [RankHost(variables=device | {"NCCL_HOSTID": f"rank{rank}"}) for rank in range(ranks)]


def run_part(part: Part, backend: str, run: str, out: Path) -> str:
    """What is wrong with a part; "" if nothing is."""
    try:
        if part.job is None:
            plan = GemmPlan(run=run, shapes=((512, 512, 512),), dtype="fp32", on="auto", iters=3, warmup=1)
            records = list(measure_gemm(plan))
            Journal(out).extend(records)
        else:
            records = run_job(part.job, hosts=hosts(backend, part.ranks))
    except CommbenchError as error:
        return str(error)
    wrong = [record for record in records if getattr(record, "wrong", None)]
    return f"{len(wrong)} of {len(records)} records have wrong values" if wrong else "" if records else "no records"


def main(arguments: list[str] | None = None) -> int:
    """All parts; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the records [runs]")
    parser.add_argument("--only", default="", help="parts whose name has this in it")
    given = parser.parse_args(arguments)
    backend = "nccl" if torch.cuda.is_available() else "strict"
    run, began = new_run_id(), time.monotonic()
    out = given.out / f"{run}-gpu-{backend}.jsonl"
    if backend == "nccl":
        print(f"gpu: {torch.cuda.get_device_name(0)}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}")
    else:
        print("gpu: torch finds no CUDA device here: the strict backend stands in, on CPUs")
    bad = 0
    for part in parts(backend, run, out):
        if given.only not in part.name:
            continue
        started = time.monotonic()
        late = started - began > BUDGET_S
        why = f"left out: {BUDGET_S:.0f} s are over" if late else run_part(part, backend, run, out)
        bad += bool(why)
        took = f"{time.monotonic() - started:6.1f} s"
        print(f"gpu: {part.name}, {part.ranks} rank{'s' * (part.ranks > 1)}: {why or 'ok'} {took}", flush=True)
    verdict = f"{bad} parts FELL SHORT" if bad else "ok"
    print(f"gpu: {verdict} on {backend}, {time.monotonic() - began:.0f} s; records: {out}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
