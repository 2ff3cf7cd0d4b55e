# SPDX-License-Identifier: Apache-2.0
"""Measure a transformer block that all ranks share: right gradients first, then what it sends and how long it takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

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

from commbench.live.block import Block, HandBlock, Sizes, cut
from commbench.live.collective_meter import CollectiveMeter
from commbench.live.job import TensorParallelJob
from commbench.live.progress import TIMED, Progress
from commbench.live.session import Session
from commbench.live.timing import clock_of
from commbench.results.device_records import CollectiveCount, TensorParallelMeasured
from commbench.results.records import Record

__all__ = ["TOLERANCE", "measure_tensor_parallel"]

TOLERANCE = 1e-12
"""Of float64 gradients, largest difference over largest value: sums in another order differ by some 1e-16 of each."""

_SEED = 20_26
_NORMS = ("norm1", "norm2")
_CUTS = {"qkv": 0, "projection": 1, "up": 0, "down": 1}  # weight -> dimension that is cut

Gradients = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Observed:
    """What one rank saw; travels to rank 0."""

    samples_s: tuple[float, ...]
    exposed_s: tuple[float, ...]
    counts: tuple[CollectiveCount, ...]
    largest_error: float | None


@dataclass(frozen=True, slots=True)
class _Way:
    """How the block is split."""

    method: str
    sequence_parallel: bool


def measure_tensor_parallel(job: TensorParallelJob, session: Session, progress: Progress) -> Iterator[Record]:
    """Run every method of the job with and without sequence parallelism; one record each on rank 0."""
    element_bytes = getattr(torch, job.dtype).itemsize
    progress.size(job.micro_batch * job.sequence * job.hidden * element_bytes)
    for sequence_parallel in job.sequence_parallel:
        for method in job.methods:
            way = _Way(method, sequence_parallel)
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            error = _largest_error(job, way, session, progress) if job.check else None
            samples, exposed, counts = _time(job, way, session, progress)
            everyone = session.gather(_Observed(samples, exposed, counts, error))
            if everyone:
                yield _record(job, way, session, started_at, element_bytes, everyone)


def _sizes(job: TensorParallelJob) -> Sizes:
    return Sizes(job.hidden, job.heads, job.ffn, job.sequence, job.micro_batch)


def _whole(job: TensorParallelJob, session: Session, dtype: torch.dtype) -> tuple[Block, torch.Tensor, torch.Tensor]:
    """The block, its input and the gradient of its output: the same on every rank."""
    generator = torch.Generator().manual_seed(_SEED)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    block = Block(_sizes(job)).double()
    with torch.no_grad():
        for parameter in block.parameters():  # norms too: a weight of ones would hide that it was left out
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 1.0
            parameter.copy_(scale * normal(*parameter.shape))
    shape = (job.sequence, job.micro_batch, job.hidden)
    x, target = (normal(*shape).to(session.device, dtype) for _ in range(2))
    return block.to(session.device, dtype), x, target


def _split(
    job: TensorParallelJob, way: _Way, session: Session, dtype: torch.dtype
) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The rank's share of the block, of its input and of the gradient of its output."""
    block, x, target = _whole(job, session, dtype)
    if way.sequence_parallel:
        x, target = (cut(tensor, 0, session.rank, job.ranks) for tensor in (x, target))
    if way.method == "hand":
        return HandBlock(block, session.data, way.sequence_parallel), x, target
    mesh = DeviceMesh.from_group(session.data, session.device.type)
    return _distributed(block, mesh, way.sequence_parallel), x, target


def _distributed(block: Block, mesh: DeviceMesh, sequence_parallel: bool) -> torch.nn.Module:
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


def _largest_error(job: TensorParallelJob, way: _Way, session: Session, progress: Progress) -> float:
    """Output and gradients against those of the whole block, in float64."""
    progress.reach("correctness run")
    block, x, target = _whole(job, session, torch.float64)
    expected = dict(zip(("output", "input"), _step(block, x, target), strict=True))
    expected |= {name.removesuffix(".weight"): p.grad for name, p in block.named_parameters() if p.grad is not None}
    module, x, target = _split(job, way, session, torch.float64)
    found = dict(zip(("output", "input"), _step(module, x, target), strict=True)) | _gradients(module, way, session)

    def own(name: str) -> torch.Tensor:
        """This rank's share of what is expected."""
        if name in ("output", "input"):
            return cut(expected[name], 0, session.rank, job.ranks) if way.sequence_parallel else expected[name]
        return cut(expected[name], _CUTS[name], session.rank, job.ranks) if name in _CUTS else expected[name]

    return max(float((found[name] - own(name)).abs().max() / expected[name].abs().max()) for name in expected)


def _gradients(module: torch.nn.Module, way: _Way, session: Session) -> Gradients:
    """Gradients of the rank's shares of the weights; those of norms summed over the ranks that share the sequence."""
    found: Gradients = {}
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        name = name.removesuffix(".weight")
        if isinstance(gradient, DTensor):
            gradient = gradient.full_tensor() if name in _NORMS else gradient.to_local()
        elif name in _NORMS and way.sequence_parallel:
            dist.all_reduce(gradient, group=session.data)
        found[name] = gradient
    return found


def _time(
    job: TensorParallelJob, way: _Way, session: Session, progress: Progress
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[CollectiveCount, ...]]:
    """(seconds, seconds inside collectives) of each iteration, and what was called in one of them."""
    module, x, target = _split(job, way, session, getattr(torch, job.dtype))
    clock = clock_of(session.device)

    def once(reach: Callable[[], None]) -> tuple[float, float, tuple[CollectiveCount, ...]]:
        reach()
        module.zero_grad(set_to_none=True)
        session.barrier()
        meter = CollectiveMeter(job.ranks, clock)
        begin = clock.mark()
        with meter:
            _step(module, x, target)
        end = clock.mark()
        clock.settle()
        return clock.elapsed_s(begin, end), meter.seconds(), meter.counts()

    for iteration in range(job.warmup):
        once(lambda iteration=iteration: progress.reach("warm-up iteration", iteration))  # type: ignore[misc]
    runs = [
        once(lambda iteration=iteration: progress.reach(TIMED, iteration))  # type: ignore[misc]
        for iteration in range(job.iters)
    ]
    assert all(counts == runs[0][2] for _, _, counts in runs), "every iteration sends the same"
    return tuple(run[0] for run in runs), tuple(run[1] for run in runs), runs[0][2]


def _record(
    job: TensorParallelJob,
    way: _Way,
    session: Session,
    started_at: str,
    element_bytes: int,
    everyone: list[_Observed],
) -> TensorParallelMeasured:
    assert all(seen.counts == everyone[0].counts for seen in everyone), "every rank sends the same"
    errors = [seen.largest_error for seen in everyone if seen.largest_error is not None]
    return TensorParallelMeasured(
        run=job.run,
        method=way.method,
        sequence_parallel=way.sequence_parallel,
        backend=session.facts.backend,
        ranks=job.ranks,
        hidden=job.hidden,
        heads=job.heads,
        ffn=job.ffn,
        sequence=job.sequence,
        micro_batch=job.micro_batch,
        dtype=job.dtype,
        counts=everyone[0].counts,
        formula_bytes_times_ranks=8 * job.micro_batch * job.sequence * job.hidden * element_bytes * (job.ranks - 1),
        samples_s=tuple(seen.samples_s for seen in everyone),
        collective_s=tuple(seen.exposed_s for seen in everyone),
        largest_error=max(errors) if errors else None,
        tolerance=TOLERANCE,
        launcher=session.facts.launcher,
        started_at=started_at,
        environment=session.facts.environment,
    )
