# SPDX-License-Identifier: Apache-2.0
"""Measure a transformer block that all ranks share: right gradients first, then what it sends and how long it takes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from commbench.live.affinity import bind_to_cores, keep_memory
from commbench.live.baseline import BaselineAllReduces, BaselineObserved
from commbench.live.block import HandBlock, Sizes, TransformerBlock, cut
from commbench.live.collective_meter import CollectiveMeter
from commbench.live.job import TensorParallelJob
from commbench.live.progress import TIMED, Progress
from commbench.live.session import Session
from commbench.results.records import Record
from commbench.results.spans import CallSpan
from commbench.results.tensor_parallel_records import CollectiveCount, TensorParallelMeasured

__all__ = ["TOLERANCE", "measure_tensor_parallel"]

TOLERANCE = 1e-12
"""Of float64 gradients, largest difference over largest value: sums in another order differ by some 1e-16 of each."""

_SEED = 20_26
_NORMS = ("norm1", "norm2")
_CUTS = {"qkv": 0, "projection": 1, "up": 0, "down": 1}  # weight -> dimension that is cut

Gradients = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Split:
    """How the block is split."""

    method: str
    sequence_parallel: bool


@dataclass(frozen=True, slots=True)
class _BlockStep:
    """One iteration on one rank, which began at ``origin_s`` of the host's clock."""

    time_s: float
    spans: tuple[CallSpan, ...]
    counts: tuple[CollectiveCount, ...]
    origin_s: float


@dataclass(frozen=True, slots=True)
class _About:
    """What all records of a run say: ``shared``, whether ranks share a clock; environment beside the session's."""

    started_at: str
    shared: bool
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _BlockObserved:
    """What one rank saw; travels to rank 0."""

    errors: dict[_Split, float]
    steps: dict[_Split, list[_BlockStep]]
    baseline: dict[int, BaselineObserved]


def measure_tensor_parallel(job: TensorParallelJob, session: Session, progress: Progress) -> Iterator[Record]:
    """Run every method of the job with and without sequence parallelism; one record each on rank 0.

    Where ranks share one host, all-reduces alone are measured in turn with the iterations, so that both see the same
    machine; their records come first.
    """
    element_bytes = getattr(torch, job.dtype).itemsize
    progress.size(job.micro_batch * job.sequence * job.hidden * element_bytes)
    shared, on_cpu = session.shares_clock, session.device.type == "cpu"
    about = _About(datetime.now(UTC).isoformat(timespec="milliseconds"), shared, _bind(job, session, shared))
    splits = [_Split(method, parallel) for parallel in job.sequence_parallel for method in job.methods]
    errors = {split: _largest_error(job, split, session, progress) for split in splits} if job.check else {}
    baseline = BaselineAllReduces(job, session) if job.ranks > 1 and shared and on_cpu else None
    steps = _time(job, splits, baseline, session, progress)
    everyone = session.gather(_BlockObserved(errors, steps, {} if baseline is None else baseline.checked()))
    if everyone and baseline is not None:
        yield from baseline.records([seen.baseline for seen in everyone], about.started_at)
    for split in splits if everyone else ():
        yield _record(job, split, session, about, everyone)


def _bind(job: TensorParallelJob, session: Session, shared: bool) -> dict[str, Any]:
    """Make the conditions of CPU ranks steady, and say what was done; cores are bound only where no launcher does."""
    if session.device.type != "cpu":
        return {}
    bound = bind_to_cores(session.rank, job.ranks) if shared and session.facts.launcher == "commbench" else ()
    return {"cores_of_a_rank": len(bound) or None, "memory_kept": keep_memory()}


def _sizes(job: TensorParallelJob) -> Sizes:
    return Sizes(job.hidden, job.heads, job.ffn, job.sequence, job.micro_batch)


def _whole(
    job: TensorParallelJob, session: Session, dtype: torch.dtype
) -> tuple[TransformerBlock, torch.Tensor, torch.Tensor]:
    """The block, its input and the gradient of its output: the same on every rank."""
    generator = torch.Generator().manual_seed(_SEED)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    block = TransformerBlock(_sizes(job)).double()
    with torch.no_grad():
        for parameter in block.parameters():  # norms too: a weight of ones would hide that it was left out
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 1.0
            parameter.copy_(scale * normal(*parameter.shape))
    shape = (job.sequence, job.micro_batch, job.hidden)
    x, target = (normal(*shape).to(session.device, dtype) for _ in range(2))
    return block.to(session.device, dtype), x, target


def _split(
    job: TensorParallelJob, split: _Split, session: Session, dtype: torch.dtype
) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The rank's share of the block, of its input and of the gradient of its output."""
    block, x, target = _whole(job, session, dtype)
    if split.sequence_parallel:
        x, target = (cut(tensor, 0, session.rank, job.ranks) for tensor in (x, target))
    if split.method == "hand":
        return HandBlock(block, session.data, split.sequence_parallel), x, target
    mesh = DeviceMesh.from_group(session.data, session.device.type)
    return _distributed(block, mesh, split.sequence_parallel), x, target


def _distributed(block: TransformerBlock, mesh: DeviceMesh, sequence_parallel: bool) -> torch.nn.Module:
    """The block split by DTensor, in torch's own styles."""
    if not sequence_parallel:
        styles: dict[str, ParallelStyle] = {
            name: ColwiseParallel() if dim == 0 else RowwiseParallel() for name, dim in _CUTS.items()
        }
        return parallelize_module(block, mesh, styles)
    shard = Shard(0)
    plan: dict[str, ParallelStyle] = {
        "norm1": SequenceParallel(sequence_dim=0, use_local_output=True),
        "norm2": SequenceParallel(sequence_dim=0, use_local_output=True),
        "qkv": ColwiseParallel(input_layouts=shard),
        "up": ColwiseParallel(input_layouts=shard),
        "projection": RowwiseParallel(output_layouts=shard),
        "down": RowwiseParallel(output_layouts=shard),
    }
    return parallelize_module(block, mesh, plan)


def _step(module: torch.nn.Module, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward and backward: output and gradient of the input."""
    x = x.detach().requires_grad_()
    output = module(x)
    output.backward(target)
    assert x.grad is not None
    return output.detach(), x.grad


def _largest_error(job: TensorParallelJob, split: _Split, session: Session, progress: Progress) -> float:
    """Output and gradients against those of the whole block, in float64."""
    progress.reach("correctness run")
    block, x, target = _whole(job, session, torch.float64)
    expected = dict(zip(("output", "input"), _step(block, x, target), strict=True))
    expected |= {name.removesuffix(".weight"): p.grad for name, p in block.named_parameters() if p.grad is not None}
    module, x, target = _split(job, split, session, torch.float64)
    found = dict(zip(("output", "input"), _step(module, x, target), strict=True)) | _gradients(module, split, session)

    def own(name: str) -> torch.Tensor:
        """This rank's share of what is expected."""
        if name in ("output", "input"):
            return cut(expected[name], 0, session.rank, job.ranks) if split.sequence_parallel else expected[name]
        return cut(expected[name], _CUTS[name], session.rank, job.ranks) if name in _CUTS else expected[name]

    return max(float((found[name] - own(name)).abs().max() / expected[name].abs().max()) for name in expected)


def _gradients(module: torch.nn.Module, split: _Split, session: Session) -> Gradients:
    """Gradients of the rank's shares of the weights; those of norms summed over the ranks that share the sequence."""
    found: Gradients = {}
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        name = name.removesuffix(".weight")
        if isinstance(gradient, DTensor):
            gradient = gradient.full_tensor() if name in _NORMS else gradient.to_local()
        elif name in _NORMS and split.sequence_parallel:
            dist.all_reduce(gradient, group=session.data)
        found[name] = gradient
    return found


def _time(
    job: TensorParallelJob,
    splits: Sequence[_Split],
    baseline: BaselineAllReduces | None,
    session: Session,
    progress: Progress,
) -> dict[_Split, list[_BlockStep]]:
    """The timed iterations of every split, in turn, and with every second of them a round of all-reduces alone."""
    blocks = {split: _split(job, split, session, getattr(torch, job.dtype)) for split in splits}
    steps: dict[_Split, list[_BlockStep]] = {split: [] for split in splits}
    for number in range(-job.warmup, job.iters):
        timed = number >= 0
        for place, (split, block) in enumerate(blocks.items()):
            progress.reach(TIMED if timed else "warm-up iteration", number if timed else number + job.warmup)
            step = _once(job, block, session)
            if timed:
                steps[split].append(step)
            if baseline is not None and place % 2 == 0:
                baseline.round(keep=timed)
    for each in steps.values():
        assert all(step.counts == each[0].counts for step in each), "every iteration sends the same"
    return steps


def _once(
    job: TensorParallelJob, block: tuple[torch.nn.Module, torch.Tensor, torch.Tensor], session: Session
) -> _BlockStep:
    """One iteration, from a barrier on."""
    module, x, target = block
    clock, meter = session.clock, CollectiveMeter(job.ranks, session.clock)
    module.zero_grad(set_to_none=True)
    session.barrier()
    clock.settle()
    origin, origin_s = clock.mark(), time.perf_counter()
    with meter:
        _step(module, x, target)
    end = clock.mark()
    clock.settle()
    return _BlockStep(clock.elapsed_s(origin, end), meter.spans(origin), meter.counts(), origin_s)


def _record(
    job: TensorParallelJob,
    split: _Split,
    session: Session,
    about: _About,
    everyone: list[_BlockObserved],
) -> TensorParallelMeasured:
    counts = everyone[0].steps[split][0].counts
    assert all(seen.steps[split][0].counts == counts for seen in everyone), "every rank sends the same"
    errors = [seen.errors[split] for seen in everyone if seen.errors]
    iterations = list(zip(*(seen.steps[split] for seen in everyone), strict=True))  # of a step per rank
    element_bytes = getattr(torch, job.dtype).itemsize
    return TensorParallelMeasured(
        run=job.run,
        method=split.method,
        sequence_parallel=split.sequence_parallel,
        backend=session.facts.backend,
        ranks=job.ranks,
        hidden=job.hidden,
        heads=job.heads,
        ffn=job.ffn,
        sequence=job.sequence,
        micro_batch=job.micro_batch,
        dtype=job.dtype,
        counts=counts,
        formula_bytes_times_ranks=8 * job.micro_batch * job.sequence * job.hidden * element_bytes * (job.ranks - 1),
        samples_s=tuple(tuple(step.time_s for step in seen.steps[split]) for seen in everyone),
        starts_s=tuple(zip(*(_starts_s(steps, about.shared) for steps in iterations), strict=True)),
        clock="shared" if about.shared else "barrier",
        spans=tuple(tuple(step.spans for step in steps) for steps in iterations),
        largest_error=max(errors) if errors else None,
        tolerance=TOLERANCE,
        launcher=session.facts.launcher,
        started_at=about.started_at,
        environment={**session.facts.environment, **about.environment},
    )


def _starts_s(steps: Sequence[_BlockStep], shared: bool) -> tuple[float, ...]:
    """When each rank began an iteration, from the first on; zeros where they share no clock."""
    first = min(step.origin_s for step in steps)
    return tuple(step.origin_s - first if shared else 0.0 for step in steps)
