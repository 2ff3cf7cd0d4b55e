# SPDX-License-Identifier: Apache-2.0
"""Pipelines on live ranks, simulated, and held together. Spans are kept in the record file, not shown on stdout."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Annotated, Any, ClassVar

from commbench.results.records import Record, require_rows
from commbench.results.shapes import Environment, Shaped
from commbench.results.spans import RankSpans, SpanRecord, busy_s, total_s
from commbench.results.statistics import deviation, median, slowest
from commbench.results.values import (
    Bytes,
    Count,
    Factor,
    Instant,
    Lasting,
    Name,
    OneOf,
    Positive,
    Samples,
    Seconds,
    Share,
    Whole,
    Within,
)

__all__ = ["PipelineCompared", "PipelineMeasured", "PipelineSimulated"]

Transfers = tuple[tuple[Whole, Whole, Seconds], ...]
Executor = Annotated[str, OneOf(("schedule", "torch"))]
Compute = Annotated[str, OneOf(("delay", "matmul"))]
Clock = Annotated[str, OneOf(("shared", "barrier"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pipeline(SpanRecord):
    """What the records of one pipeline share.

    Attributes:
        run: identifier of the invocation.
        schedule: name. order: what every rank does, as CSV. executor: "schedule" (commbench's) or "torch".
        ranks, stages, microbatches: how many. activation_bytes: of one microbatch at a stage boundary.
    """

    bulky: ClassVar[frozenset[str]] = frozenset({"spans", "order"})

    run: Name
    schedule: Name
    order: str
    executor: Executor
    ranks: Count
    stages: Count
    microbatches: Count
    activation_bytes: Bytes

    def _require_spans(self, name: str, spans: RankSpans) -> None:
        """Refuse spans that are not those of every rank of this pipeline, or together last no time.

        Raises:
            ValueError: names the field.
        """
        if len(spans) != self.ranks or not all(spans):
            raise ValueError(f"{name} must hold one pass or more of each of {self.ranks} ranks")
        for stage, kind, microbatch, begin, end in (span for rank in spans for span in rank):
            if stage >= self.stages or microbatch >= self.microbatches or end < begin:
                raise ValueError(f"{name}: {kind}{microbatch} of stage {stage} is no pass here, or ends too early")
        if not total_s(spans) > 0 or not sum(busy_s(spans)) > 0:
            raise ValueError(f"{name} must last longer than nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineMeasured(_Pipeline):
    """One pipeline schedule on live ranks.

    Attributes:
        backend: of the transfers. compute: "delay" or "matmul". delays_s: seconds by pass that were asked for, {}
            for products. slow: (stage, factor) of stages whose delays are longer.
        spans: per iteration, spans of every rank. clock: "shared" (one host, one monotonic clock) or "barrier"
            (each rank's own, set to 0 when it leaves the barrier before the iteration).
        walls_s: barrier to last own pass, rank x iteration, by each rank's own clock. double_walls_s: the same with
            twice the microbatches; empty where that was not run.
        transfers_s: (rank, other rank, seconds) of one way of an activation, measured alone.
        sleep_over_s: what a sleep lasts too long here, taken off every delay; 0 for products.
        wrong: elements of weight gradients and outputs that are not what the arithmetic says; None if not checked.
    """

    kind: ClassVar[str] = "pipeline-measured"

    backend: Name
    compute: Compute
    delays_s: Mapping[str, Seconds]
    slow: tuple[tuple[Whole, Positive], ...]
    spans: Annotated[tuple[RankSpans, ...], Within(min_length=1)]
    clock: Clock
    walls_s: Samples
    double_walls_s: Samples
    transfers_s: Transfers
    sleep_over_s: Seconds
    launcher: str
    started_at: Instant
    wrong: Whole | None = None
    environment: Environment = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, spans in enumerate(self.spans):
            self._require_spans(f"spans[{number}]", spans)
        require_rows("walls_s", self.walls_s, self.ranks)
        if self.double_walls_s:
            require_rows("double_walls_s", self.double_walls_s, self.ranks)
        lab = self.environment.get("emulated")
        if lab and not {"topology", "routing", "rate_mbit"} <= lab.keys():
            raise ValueError("environment.emulated must tell topology, routing and rate_mbit")

    @property
    def fabric(self) -> str:
        """What it ran on, where that was emulated: topology, routing, rate of the hosts' links; else ""."""
        lab = self.environment.get("emulated")
        return f"{lab['topology']} {lab['routing']} at {lab['rate_mbit']:g} Mbit/s" if lab else ""

    @property
    def samples_s(self) -> tuple[float, ...]:
        """Per iteration, from the first begin on any rank to the last end."""
        return tuple(map(total_s, self.spans))

    @property
    def iteration_s(self) -> float:
        """Median of the iterations."""
        return median(self.samples_s)

    @property
    def spread_s(self) -> float:
        """Median absolute deviation of the iterations."""
        return deviation(self.samples_s)

    @property
    def bubbles_of_total(self) -> tuple[float, ...]:
        """Per iteration, idle share of the mean rank."""
        return tuple(1 - fmean(busy_s(spans)) / total_s(spans) for spans in self.spans)

    @property
    def bubble_of_total(self) -> float:
        """Median over iterations of idle / total time."""
        return median(self.bubbles_of_total)

    @property
    def bubble_of_ideal(self) -> float:
        """The same over ideal time."""
        return self.bubble_of_total / (1 - self.bubble_of_total)

    @property
    def bubble_clock_free(self) -> float | None:
        """Of total, without any common clock: T(m) = a m + b, so b / T(m) = 2 - T(2m) / T(m). None without T(2m).

        T is the slowest rank's wall time, the median over iterations; b is filling, draining and what is fixed.
        """
        if not self.double_walls_s:
            return None
        return 2 - median(slowest(self.double_walls_s)) / median(slowest(self.walls_s))

    @property
    def median_iteration(self) -> RankSpans:
        """Spans of the iteration whose length is nearest to the median."""
        return min(self.spans, key=lambda spans: abs(total_s(spans) - self.iteration_s))

    def pass_s(self) -> dict[tuple[int, str], float]:
        """Median seconds by (stage, pass), over microbatches and iterations."""
        found: dict[tuple[int, str], list[float]] = {}
        for iteration in self.spans:
            for rank in iteration:
                for stage, kind, _, begin, end in rank:
                    found.setdefault((stage, kind), []).append(end - begin)
        return {key: median(samples) for key, samples in sorted(found.items())}

    def derived(self) -> dict[str, Any]:
        """Length of the step and its bubble in both conventions, by busy time and clock-free."""
        return {
            "iteration_s": self.iteration_s,
            "spread_s": self.spread_s,
            "bubble_of_total": self.bubble_of_total,
            "bubble_of_ideal": self.bubble_of_ideal,
            "bubble_clock_free": self.bubble_clock_free,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSimulated(_Pipeline):
    """The same schedule simulated with measured durations.

    Attributes:
        pass_s: median seconds by stage and pass, keys like "2F". transfers_s: as measured alone.
        spans: of every rank. engine: that ran it.
        network: that the messages went over: "kind" is "latency" (each took its ``transfers_s``) or "lab" (its bytes
            over the links of a lab, with what a transport was fitted to).
    """

    kind: ClassVar[str] = "pipeline-simulated"

    pass_s: Mapping[str, Seconds]
    transfers_s: Transfers
    spans: RankSpans
    engine: Name
    network: Annotated[Mapping[str, Any], Shaped("NetworkFacts")] = field(default_factory=lambda: {"kind": "latency"})

    def __post_init__(self) -> None:
        self._require_spans("spans", self.spans)

    @property
    def iteration_s(self) -> float:
        """From the first begin on any rank to the last end."""
        return total_s(self.spans)

    @property
    def busy_s(self) -> tuple[float, ...]:
        """Per rank the time inside passes."""
        return busy_s(self.spans)

    @property
    def bubble_of_total(self) -> float:
        """Idle share of the mean rank."""
        return 1 - fmean(self.busy_s) / self.iteration_s

    @property
    def bubble_of_ideal(self) -> float:
        """Idle over ideal time."""
        return self.bubble_of_total / (1 - self.bubble_of_total)

    def derived(self) -> dict[str, Any]:
        """Length of the step and its bubble in both conventions."""
        return {
            "iteration_s": self.iteration_s,
            "bubble_of_total": self.bubble_of_total,
            "bubble_of_ideal": self.bubble_of_ideal,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCompared(Record):
    """A measured pipeline beside its simulated twin.

    Attributes:
        activation_bytes: of one microbatch at a stage boundary. fabric: emulated, that it ran on; else "".
        measured_s, spread_s, simulated_s: length of the step.
        measured_bubble, simulated_bubble: of total. clock_free_bubble: measured without a common clock, or None.
        idle_s: where the mean rank's idle seconds went: "schedule" (simulated, all stages alike, free transfers),
            "imbalance" (simulated, stages as measured, less that), "transfer" (simulated with its network, less that),
            "host" (measured, less all of them).
        max_points: percentage points by which the bubbles may differ. max_error: by which part of the measured one the
            simulated length of the step may differ, None for any.
    """

    kind: ClassVar[str] = "pipeline-compared"

    run: Name
    schedule: Name
    executor: Executor
    compute: Compute
    ranks: Count
    stages: Count
    microbatches: Count
    measured_s: Lasting
    spread_s: Seconds
    simulated_s: Seconds
    measured_bubble: Share
    simulated_bubble: Share
    clock_free_bubble: Annotated[float, Within(ge=-1e6, le=2)] | None
    idle_s: Annotated[Mapping[str, float], Shaped("IdleSeconds")]
    max_points: Factor
    max_error: Factor | None = None
    activation_bytes: Bytes = 0
    fabric: str = ""

    @property
    def error(self) -> float:
        """Signed relative error of the simulated step time."""
        return self.simulated_s / self.measured_s - 1

    @property
    def points(self) -> float:
        """Measured less simulated bubble, in percentage points."""
        return 100 * (self.measured_bubble - self.simulated_bubble)

    @property
    def ok(self) -> bool:
        """Whether the bubbles agree, and the lengths of the step where they have to."""
        return self.points_ok and self.time_ok

    @property
    def points_ok(self) -> bool:
        """Whether the bubbles agree."""
        return abs(self.points) <= self.max_points

    @property
    def time_ok(self) -> bool:
        """Whether the lengths of the step agree as they have to."""
        return self.max_error is None or abs(self.error) <= self.max_error

    def derived(self) -> dict[str, Any]:
        """Error, difference and verdict."""
        return {"error": self.error, "points": self.points, "ok": self.ok}
