# SPDX-License-Identifier: Apache-2.0
"""What a matrix product and an all-reduce cost each other: each timed alone, and while the other runs without a pause.

The all-reduce is kept busy by handing torch enough of them at once, the same number on every rank, and the product by a
thread (CPU) or by enqueueing enough of them on another stream (CUDA). One that is kept busy is meant to outlast the one
that is timed; where it did not, there is no answer, and that is an error.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from commbench.errors import RunError
from commbench.live.gemm import product_of
from commbench.live.job import OverlapJob
from commbench.live.progress import TIMED, Progress
from commbench.live.session import Session
from commbench.results.device_records import OverlapMeasured
from commbench.results.records import Record

__all__ = ["measure_overlap"]

_MARGIN = 4  # times as much of the other as should be enough: side by side both are slower

Samples = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _OverlapObserved:
    """What one rank saw: seconds of every repetition."""

    product_alone: Samples
    product_beside: Samples
    collective_alone: Samples
    collective_beside: Samples


def measure_overlap(job: OverlapJob, session: Session, progress: Progress) -> Iterator[Record]:
    """One record on rank 0, none elsewhere.

    Raises:
        RunError: what should have run beside ended too early, so that nothing was measured side by side.
    """
    progress.size(job.size_bytes)
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    everyone = session.gather(_OverlapBench(job, session, progress).observe())
    if everyone:
        yield OverlapMeasured(
            run=job.run,
            backend=session.facts.backend,
            ranks=job.ranks,
            m=job.m,
            n=job.n,
            k=job.k,
            dtype=job.dtype,
            size_bytes=job.size_bytes,
            product_alone_s=tuple(seen.product_alone for seen in everyone),
            product_beside_s=tuple(seen.product_beside for seen in everyone),
            collective_alone_s=tuple(seen.collective_alone for seen in everyone),
            collective_beside_s=tuple(seen.collective_beside for seen in everyone),
            launcher=session.facts.launcher,
            started_at=started_at,
            environment=session.facts.environment,
        )


class _OverlapBench:
    """A product and a buffer to reduce on this rank."""

    def __init__(self, job: OverlapJob, session: Session, progress: Progress) -> None:
        self._job, self._session, self._progress = job, session, progress
        self._clock = session.clock
        self._product, check = product_of((job.m, job.n, job.k), getattr(torch, job.dtype), session.device)
        self._product()
        check()
        self._buffer = torch.zeros(job.size_bytes // 4, device=session.device)

    def observe(self) -> _OverlapObserved:
        """Both alone, then each beside the other."""
        product_alone = self._repeat("product alone", self._product)
        collective_alone = self._repeat("all-reduce alone", self._collective)
        product_s, collective_s = (self._session.agreed(median(each)) for each in (product_alone, collective_alone))
        wanted = _MARGIN * ceil(product_s * self._rounds / collective_s) + 1
        with self._collectives(wanted) as running:
            product_beside = self._repeat("product beside", self._product, meet=False)
            self._require(running(), "the all-reduces", "the products")
        with self._products(_MARGIN * ceil(collective_s * self._rounds / product_s) + 1) as running:
            collective_beside = self._repeat("all-reduce beside", self._collective)
            self._require(running(), "the products", "the all-reduces")
        return _OverlapObserved(product_alone, product_beside, collective_alone, collective_beside)

    @property
    def _rounds(self) -> int:
        return self._job.iters + self._job.warmup

    def _collective(self) -> Any:
        return dist.all_reduce(self._buffer, group=self._session.data)

    def _repeat(self, what: str, work: Callable[[], Any], *, meet: bool = True) -> Samples:
        """Seconds of each repetition; ``meet``: ranks begin together."""
        if meet:
            self._session.barrier()
        samples = []
        for iteration in range(self._rounds):
            self._progress.reach(TIMED if iteration >= self._job.warmup else what, iteration)
            begin = self._clock.mark()
            work()
            end = self._clock.mark()
            self._clock.reach(end)
            samples.append(self._clock.elapsed_s(begin, end))
        return tuple(samples[self._job.warmup :])

    def _require(self, running: bool, other: str, timed: str) -> None:
        if not running:
            raise RunError(
                f"rank {self._session.rank}: {other} ended before {timed}: nothing was measured side by side; give "
                "sizes whose times are closer to each other, or fewer iterations"
            )

    @contextmanager
    def _collectives(self, count: int) -> Iterator[Callable[[], bool]]:
        """``count`` all-reduces under way; gives a function that says whether they still are."""
        self._session.barrier()
        works = [dist.all_reduce(self._buffer, group=self._session.data, async_op=True) for _ in range(count)]
        try:
            yield lambda: not works[-1].is_completed()
        finally:
            for work in works:
                work.wait()
            self._clock.settle()

    @contextmanager
    def _products(self, count: int) -> Iterator[Callable[[], bool]]:
        """Products under way: on a CPU until the block ends, on CUDA ``count`` of them on a stream of their own."""
        if self._session.device.type == "cuda":
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            with torch.cuda.stream(stream):
                for _ in range(count):
                    self._product()
                last = stream.record_event()
            yield lambda: not last.query()
            self._clock.settle()
            return
        stop = threading.Event()

        def keep_on() -> None:
            while not stop.is_set():
                self._product()

        thread = threading.Thread(target=keep_on, name="products", daemon=True)
        thread.start()
        try:
            yield thread.is_alive
        finally:
            stop.set()
            thread.join()
