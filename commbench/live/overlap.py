# SPDX-License-Identifier: Apache-2.0
"""What a matrix product and an all-reduce cost each other: each timed alone, and while the other runs without a pause.

The all-reduce is kept busy by handing torch enough of them at once, the same number on every rank, and the product by a
thread (CPU) or by enqueueing enough of them on another stream (CUDA). One that is kept busy is meant to outlast the one
that is timed; where it did not, there is no answer, and that is an error.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import ceil
from statistics import median
from typing import Any, NoReturn

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

_MARGINS = (4, 16)  # times as much of the other as should be enough: side by side both are slower; then once more

Samples = tuple[float, ...]
_Other = Callable[[int], AbstractContextManager[Callable[[], bool]]]
"""So many of something under way; gives a function that says whether they still are."""


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
        products = partial(self._repeat, "product beside", self._product, meet=False)
        product_beside = self._beside(products, self._collectives, product_s / collective_s)
        if not product_beside:
            self._give_up("the all-reduces", "the products")
        collectives = partial(self._repeat, "all-reduce beside", self._collective)
        collective_beside = self._beside(collectives, self._products, collective_s / product_s)
        if not collective_beside:
            self._give_up("the products", "the all-reduces")
        return _OverlapObserved(product_alone, product_beside, collective_alone, collective_beside)

    def _beside(self, timed: Callable[[], Samples], other: _Other, ratio: float) -> Samples:
        """What is timed, while ``other`` runs all the time on every rank; () if it ended first.

        One moment in which the machine does something else can make it end first, so there is a second try.

        Args:
            ratio: how long one of what is timed takes, by one of the other.
        """
        for margin in _MARGINS:
            with other(margin * ceil(ratio * self._rounds) + 1) as running:
                samples = timed()
                ended = not running()
            if not self._session.agreed(float(ended)):
                return samples
        return ()

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

    def _give_up(self, other: str, timed: str) -> NoReturn:
        raise RunError(
            f"rank {self._session.rank}: {other} ended before {timed}, twice: nothing was measured side by side; give "
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
