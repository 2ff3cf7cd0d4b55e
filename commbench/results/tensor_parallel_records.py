# SPDX-License-Identifier: Apache-2.0
"""A transformer block that ranks share: what it sent and how long that took, its simulated twin, and both compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from commbench.results.records import Record, require_rows
from commbench.results.shapes import Environment
from commbench.results.spans import IterationSpans, SpanRecord
from commbench.results.statistics import deviation, median, slowest
from commbench.results.strict import CONFIG
from commbench.results.values import (
    Bytes,
    Count,
    Factor,
    Flop,
    Instant,
    Lasting,
    Name,
    OneOf,
    Samples,
    Seconds,
    Within,
)
from commbench.units import GB

__all__ = [
    "CollectiveCount",
    "TensorParallelCompared",
    "TensorParallelMeasured",
    "TensorParallelSimulated",
]

Method = Annotated[str, OneOf(("hand", "dtensor"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveCount:
    """Calls of one collective that one rank made in one iteration.

    Attributes:
        collective: a key of ``collectives.spec.COLLECTIVES``. calls: how many.
        size_bytes: of all of them, the full buffers, as nccl-tests counts. busbw_factor: of the collective.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = CONFIG

    collective: Name
    calls: Count
    size_bytes: Bytes
    busbw_factor: Factor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traffic(SpanRecord):
    """What a measured block and its twin share: spans, and what follows from them.

    Attributes:
        run: identifier of the invocation. method: "hand" or "dtensor". sequence_parallel: see Execution.
        backend, ranks: as for collectives; tp = ranks.
        samples_s: seconds of forward and backward, rank x iteration.
        spans: per iteration, those of every rank; see the module.
    """

    run: Name
    method: Method
    sequence_parallel: bool
    backend: Name
    ranks: Count
    samples_s: Samples
    spans: tuple[IterationSpans, ...]

    def __post_init__(self) -> None:
        require_rows("samples_s", self.samples_s, self.ranks, len(self.spans) or 1)
        for number, iteration in enumerate(self.spans):
            if len(iteration) != self.ranks:
                raise ValueError(f"spans[{number}] must hold the spans of each of {self.ranks} ranks")
            for name, _, *marks in (span for rank in iteration for span in rank):
                if marks != sorted(marks):
                    raise ValueError(f"spans[{number}]: begin, called, wait and end of a {name} are not in this order")

    @property
    def collective_s(self) -> Samples:
        """Seconds inside collectives, rank x iteration: handing them over and waiting for them, for the slowest
        rank too; what is computed while one is under way is not counted, so what is counted is exposed.
        """
        return tuple(
            tuple(
                sum(called - begin + end - wait for _, _, begin, called, wait, end in iteration[rank])
                for iteration in self.spans
            )
            for rank in range(self.ranks)
        )

    @property
    def time_s(self) -> float:
        """Median over iterations of the slowest rank."""
        return median(slowest(self.samples_s))

    @property
    def exposed_s(self) -> float:
        """Median over iterations of the slowest rank's time in collectives."""
        return median(slowest(self.collective_s))

    @property
    def spread_s(self) -> float:
        """Median absolute deviation over iterations of the slowest rank's time in collectives."""
        return deviation(slowest(self.collective_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorParallelMeasured(_Traffic):
    """One transformer block, forward and backward of one microbatch, split over all ranks.

    Attributes:
        hidden, heads, ffn, sequence, micro_batch, dtype: of the block.
        counts: collectives that a rank handed to torch.distributed, all ranks alike.
        formula_bytes: what a rank must move: 8 b s h e (t-1)/t, times t, which is a whole number.
        starts_s: when each rank began, rank x iteration, from the first that did; zeros where ranks share no clock.
        clock: "shared" (one host, one monotonic clock) or "barrier" (each rank's own, from the barrier before the
            iteration).
        largest_error: of the output and all gradients against those of the whole block, in float64: largest absolute
            difference over largest absolute value. tolerance: what passes. None where it was not checked.
        launcher, started_at, environment: as for collectives.
    """

    kind: ClassVar[str] = "tensor-parallel"

    hidden: Count
    heads: Count
    ffn: Count
    sequence: Count
    micro_batch: Count
    dtype: Name
    counts: tuple[CollectiveCount, ...]
    formula_bytes_times_ranks: Flop
    starts_s: tuple[tuple[Seconds, ...], ...]
    clock: Annotated[str, OneOf(("shared", "barrier"))]
    largest_error: Annotated[float, Within(ge=0)] | None
    tolerance: Factor
    launcher: str
    started_at: Instant
    environment: Environment = field(default_factory=dict)

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
    def busbw_GBps(self) -> float | None:  # noqa: N802  the unit is spelled as in the output
        """Moved bytes / time in collectives; None for one rank."""
        return self.moved_bytes / self.exposed_s / GB if self.ranks > 1 and self.exposed_s > 0 else None

    def derived(self) -> dict[str, Any]:
        """Totals, verdicts, times and bandwidth."""
        names = ("calls", "moved_bytes", "formula_bytes", "bytes_ok", "values_ok", "time_s")
        more = ("exposed_s", "spread_s", "collective_s", "busbw_GBps")
        return {name: getattr(self, name) for name in (*names, *more)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorParallelSimulated(_Traffic):
    """The same block simulated: compute as measured, collectives as gloo's messages on a calibrated machine.

    Attributes:
        machine: the numbers of the calibration, by name. engine: that ran it.
    """

    kind: ClassVar[str] = "tensor-parallel-simulated"

    machine: Mapping[str, Any]
    engine: Name

    def derived(self) -> dict[str, Any]:
        """Times."""
        return {"time_s": self.time_s, "exposed_s": self.exposed_s, "collective_s": self.collective_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorParallelCompared(Record):
    """A measured block beside its simulated twin.

    Attributes:
        run, method, sequence_parallel, backend, ranks: as measured.
        measured_s, spread_s, simulated_s: time in collectives. measured_step_s, simulated_step_s: of the iteration.
        calibration: (size in bytes, measured, spread, simulated seconds) of each all-reduce alone that was fitted.
        max_error: what |error| may be.
    """

    kind: ClassVar[str] = "tensor-parallel-compared"

    run: Name
    method: Method
    sequence_parallel: bool
    backend: Name
    ranks: Count
    measured_s: Lasting
    spread_s: Seconds
    simulated_s: Seconds
    measured_step_s: Lasting
    simulated_step_s: Lasting
    calibration: Annotated[tuple[tuple[Bytes, Lasting, Seconds, Seconds], ...], Within(min_length=1)]
    max_error: Factor

    @property
    def error(self) -> float:
        """Signed relative error of the simulated time in collectives."""
        return self.simulated_s / self.measured_s - 1

    @property
    def fit_error(self) -> float:
        """Median |error| on the points that were fitted: what the machine does not explain of them."""
        return median(abs(simulated / measured - 1) for _, measured, _, simulated in self.calibration)

    @property
    def ok(self) -> bool:
        """Whether they agree."""
        return abs(self.error) <= self.max_error

    def derived(self) -> dict[str, Any]:
        """Errors and verdict."""
        return {"error": self.error, "fit_error": self.fit_error, "ok": self.ok}
