# SPDX-License-Identifier: Apache-2.0
"""What tensor parallelism sends, how fast products are, and what they cost collectives that run beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any, ClassVar, Self

from commbench.results.records import Record, Samples
from commbench.units import GB

__all__ = ["DEVICE_RECORDS", "CollectiveCount", "GemmMeasured", "OverlapMeasured", "TensorParallelMeasured"]


def _slowest(samples: Samples) -> float:
    """Median over iterations of the slowest rank."""
    slowest: list[float] = [max(column) for column in zip(*samples, strict=True)]
    return median(slowest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveCount:
    """Calls of one collective that one rank made in one iteration.

    Attributes:
        collective: a key of ``collectives.spec.COLLECTIVES``. calls: how many.
        size_bytes: of all of them, the full buffers, as nccl-tests counts. busbw_factor: of the collective.
    """

    collective: str
    calls: int
    size_bytes: int
    busbw_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorParallelMeasured(Record):
    """One transformer block, forward and backward of one microbatch, split over all ranks.

    Attributes:
        run: identifier of the invocation. method: "hand" or "dtensor". sequence_parallel: see Execution.
        backend, ranks: as for collectives; tp = ranks.
        hidden, heads, ffn, sequence, micro_batch, dtype: of the block.
        counts: collectives that a rank handed to torch.distributed, all ranks alike.
        formula_bytes: what a rank must move: 8 b s h e (t-1)/t, times t, which is a whole number.
        samples_s: seconds of forward and backward, rank x iteration. collective_s: of them, inside collectives and
            with no product running: what is exposed.
        largest_error: of the output and all gradients against those of the whole block, in float64: largest absolute
            difference over largest absolute value. tolerance: what passes. None where it was not checked.
        launcher, started_at, environment: as for collectives.
    """

    kind: ClassVar[str] = "tensor-parallel"

    run: str
    method: str
    sequence_parallel: bool
    backend: str
    ranks: int
    hidden: int
    heads: int
    ffn: int
    sequence: int
    micro_batch: int
    dtype: str
    counts: tuple[CollectiveCount, ...]
    formula_bytes_times_ranks: int
    samples_s: Samples
    collective_s: Samples
    largest_error: float | None
    tolerance: float
    launcher: str
    started_at: str
    environment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """See the base.

        Raises:
            KeyError: a required field is missing.
        """
        counts = tuple(CollectiveCount(**count) for count in data["counts"])
        exposed = tuple(tuple(row) for row in data["collective_s"])
        return super(TensorParallelMeasured, cls).from_json({**data, "counts": counts, "collective_s": exposed})

    @property
    def calls(self) -> int:
        """Collectives per microbatch."""
        return sum(count.calls for count in self.counts)

    @property
    def moved_bytes(self) -> float:
        """Bytes that a rank sends: size x busbw factor."""
        return self.moved_bytes_times_ranks / self.ranks

    @property
    def moved_bytes_times_ranks(self) -> int:
        """The same times the ranks: whole, so that it can be compared exactly."""
        return sum(count.size_bytes * round(count.busbw_factor * self.ranks) for count in self.counts)

    @property
    def formula_bytes(self) -> float:
        """8 b s h e (t-1)/t (arXiv 2104.04473, section 3.2)."""
        return self.formula_bytes_times_ranks / self.ranks

    @property
    def bytes_ok(self) -> bool:
        """Whether what was passed to the collectives is the formula, to the byte."""
        return self.moved_bytes_times_ranks == self.formula_bytes_times_ranks

    @property
    def values_ok(self) -> bool | None:
        """Whether output and gradients are those of the whole block; None if not checked."""
        return None if self.largest_error is None else self.largest_error <= self.tolerance

    @property
    def time_s(self) -> float:
        """Median over iterations of the slowest rank."""
        return _slowest(self.samples_s)

    @property
    def exposed_s(self) -> float:
        """Median over iterations of the slowest rank's time in collectives."""
        return _slowest(self.collective_s)

    @property
    def busbw_GBps(self) -> float | None:  # noqa: N802  the unit is spelled as in the output
        """Moved bytes / time in collectives; None for one rank."""
        return self.moved_bytes / self.exposed_s / GB if self.ranks > 1 and self.exposed_s > 0 else None

    def derived(self) -> dict[str, Any]:
        """Totals, verdicts, times and bandwidth."""
        names = ("calls", "moved_bytes", "formula_bytes", "bytes_ok", "values_ok", "time_s", "exposed_s", "busbw_GBps")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmMeasured(Record):
    """One shape of matrix product; ``workload.gemm_table`` reads these lines as they are.

    Attributes:
        m, n, k: (m x k) by (k x n). dtype: as data sheets spell it ("bf16", "fp32"). device: a name of
            ``workload.compute.DEVICES``, or what the user calls it.
        samples_s: seconds of one product, one per repetition. peak_flops: FLOP/s that are promised, None if no one has
            said. peak_source: who says so.
        environment: as for collectives. started_at: ISO 8601.
    """

    kind: ClassVar[str] = "gemm"

    run: str
    m: int
    n: int
    k: int
    dtype: str
    device: str
    samples_s: tuple[float, ...]
    peak_flops: float | None
    peak_source: str
    started_at: str
    environment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """See the base.

        Raises:
            KeyError: a required field is missing.
        """
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        try:
            return cls(**{**known, "samples_s": tuple(data["samples_s"])})
        except TypeError as error:
            raise KeyError(str(error)) from error

    @property
    def seconds(self) -> float:
        """Median."""
        return median(self.samples_s)

    @property
    def flops(self) -> float:
        """FLOP/s reached: 2 m n k / seconds."""
        return 2 * self.m * self.n * self.k / self.seconds

    @property
    def efficiency(self) -> float | None:
        """Share of the stated peak; None where none is stated."""
        return None if self.peak_flops is None else self.flops / self.peak_flops

    def derived(self) -> dict[str, Any]:
        """Median seconds, FLOP/s and share of peak."""
        return {"seconds": self.seconds, "flops": self.flops, "efficiency": self.efficiency}


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapMeasured(Record):
    """A product and an all-reduce, each alone and while the other runs without a pause.

    Attributes:
        run, backend, ranks: as for collectives. m, n, k, dtype: of the product. size_bytes: of the all-reduce.
        product_alone_s, product_beside_s, collective_alone_s, collective_beside_s: seconds, rank x repetition.
        launcher, started_at, environment: as for collectives.
    """

    kind: ClassVar[str] = "overlap"

    run: str
    backend: str
    ranks: int
    m: int
    n: int
    k: int
    dtype: str
    size_bytes: int
    product_alone_s: Samples
    product_beside_s: Samples
    collective_alone_s: Samples
    collective_beside_s: Samples
    launcher: str
    started_at: str
    environment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """See the base.

        Raises:
            KeyError: a required field is missing.
        """
        rows = {n: tuple(map(tuple, v)) for n, v in data.items() if n.endswith(("_alone_s", "_beside_s"))}
        return super(OverlapMeasured, cls).from_json({**data, **rows})

    @property
    def product_slowdown(self) -> float:
        """Time of the product beside the all-reduce over its time alone."""
        return _slowest(self.product_beside_s) / _slowest(self.product_alone_s)

    @property
    def collective_slowdown(self) -> float:
        """Time of the all-reduce beside the product over its time alone."""
        return _slowest(self.collective_beside_s) / _slowest(self.collective_alone_s)

    def derived(self) -> dict[str, Any]:
        """Times and both slowdowns."""
        names = ("product_alone_s", "product_beside_s", "collective_alone_s", "collective_beside_s")
        times = {name.replace("_s", "_time_s"): _slowest(getattr(self, name)) for name in names}
        return times | {"product_slowdown": self.product_slowdown, "collective_slowdown": self.collective_slowdown}


DEVICE_RECORDS: Sequence[type[Record]] = (TensorParallelMeasured, GemmMeasured, OverlapMeasured)
