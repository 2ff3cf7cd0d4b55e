# SPDX-License-Identifier: Apache-2.0
"""A measured pipeline and its simulated twin: the same schedule, with the durations that were measured.

Every iteration has a twin of its own: each pass lasts as long as it did in that iteration, and what is sent goes over a
:class:`CounterpartNetwork`. On real machines that is one where a message takes as long as it took when it was measured
alone; in a lab it is the lab's own links (``validate.lab_pipeline``). Messages are posted as in
``live.pipeline_execute``: a rank does not wait for what it sends, receives are there before the step begins, and what
goes from one rank to another goes over one connection in the order in which it is made.

What the twin does not know is the host: waking up, bookkeeping, waiting for a core. So measured less simulated bubble
is the host's share, unless the schedule was not kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Protocol

import numpy as np

from commbench.cluster import Cluster
from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.libraries.base import Library
from commbench.libraries.ideal import Ideal
from commbench.program.operations import NOTHING
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.spans import RankSpans, Span, busy_s, total_s
from commbench.routing.wires import Wires
from commbench.units import PS_PER_S, seconds
from commbench.workload.pipeline.lower import Durations, pipeline_program
from commbench.workload.pipeline.schedule import Action, PipelineSchedule, Step
from commbench.workload.pipeline.text import from_csv

__all__ = [
    "ENGINE",
    "FREE",
    "MAX_POINTS",
    "CounterpartNetwork",
    "LatencyNetwork",
    "compare_pipeline",
    "simulate_pipeline",
    "twin",
]

MAX_POINTS = 3.0
"""Percentage points by which a measured bubble may differ from its twin's."""

ENGINE = "reference"
"""Of the twins: a few hundred tasks are done before numba has loaded."""

Pair = tuple[int, int]


class CounterpartNetwork(Protocol):
    """What carries the messages of a twin."""

    @property
    def library(self) -> Library:
        """What messages go over."""

    def cluster(self, num_ranks: int) -> Cluster:
        """The links, with the ranks of the pipeline on them."""

    def describe(self) -> Mapping[str, Any]:
        """What it is, for the record, in JSON values."""


@dataclass(frozen=True, slots=True)
class LatencyNetwork:
    """A message takes ``transfers_s`` of its two ranks (lower first), whatever its bytes and whatever else goes on."""

    transfers_s: Mapping[Pair, float] = field(default_factory=dict)
    library: Library = field(default_factory=Ideal)

    def cluster(self, num_ranks: int) -> Cluster:
        """See :class:`CounterpartNetwork`."""
        latency_ps = np.zeros((num_ranks, num_ranks), dtype=np.int64)
        for (rank, other), lasts_s in self.transfers_s.items():
            latency_ps[rank, other] = latency_ps[other, rank] = round(lasts_s * PS_PER_S)
        wires = Wires(latency_ps)
        return Cluster(fabric=wires.fabric, router=wires, placed=np.arange(num_ranks))

    def describe(self) -> Mapping[str, Any]:
        """See :class:`CounterpartNetwork`; what transfers took stands beside it in the record."""
        return {"kind": "latency"}


FREE = LatencyNetwork()
"""Messages take no time."""


def simulate_pipeline(
    schedule: PipelineSchedule, durations: Durations, network: CounterpartNetwork, num_bytes: int = 1
) -> RankSpans:
    """Spans of every rank, from 0, with ``num_bytes`` in every message.

    Raises:
        ScheduleError: the schedule deadlocks.
    """
    program = pipeline_program(schedule, durations, num_bytes, one_stream=True)
    done = simulate(program, network.cluster(schedule.num_ranks), network.library, Run(engine=ENGINE))
    ends = done.ends_ps()
    steps = {(rank, str(step)): step for rank, order in enumerate(schedule.orders) for step in order}
    found: list[list[Span]] = [[] for _ in schedule.orders]
    for number in np.flatnonzero(program.communication == NOTHING).tolist():
        rank = int(program.rank[number])
        begin_ps = int(ends[number] - program.duration_ps[number])
        found[rank] += _spans(steps[rank, program.label_of(number)], begin_ps, durations)
    return tuple(tuple(sorted(rank, key=lambda span: span.begin_s)) for rank in found)


def _spans(step: Step, begin_ps: int, durations: Durations) -> list[Span]:
    """The passes of a step, one behind the other."""
    spans: list[Span] = []
    for action in step.parts:
        end_ps = begin_ps + durations(action)
        spans.append(Span(action.stage, action.kind.value, action.microbatch, seconds(begin_ps), seconds(end_ps)))
        begin_ps = end_ps
    return spans


def _as_measured(spans: RankSpans) -> Durations:
    """Every pass as long as it was."""
    lasted = {
        (stage, kind, microbatch): round((end - begin) * PS_PER_S)
        for rank in spans
        for stage, kind, microbatch, begin, end in rank
    }
    return lambda action: lasted[action.stage, action.kind.value, action.microbatch]


def _alike(spans: RankSpans) -> Durations:
    """Every pass as long as the mean of its kind over all stages and microbatches."""
    by_kind: dict[str, list[float]] = {}
    for rank in spans:
        for _, kind, _, begin, end in rank:
            by_kind.setdefault(kind, []).append(end - begin)
    means = {kind: round(fmean(lasted) * PS_PER_S) for kind, lasted in by_kind.items()}

    def lasts(action: Action) -> int:
        return means[action.kind.value]

    return lasts


def _idle_s(spans: RankSpans) -> float:
    """Idle seconds of the mean rank."""
    return total_s(spans) - fmean(busy_s(spans))


def twin(measured: PipelineMeasured, network: CounterpartNetwork | None = None) -> PipelineSimulated:
    """The twin of the iteration whose length is nearest to the median.

    Args:
        measured: what ran. network: None takes the transfers as they were measured alone.
    """
    schedule, network = from_csv(measured.order, measured.schedule), network or _measured_alone(measured)
    durations = _as_measured(measured.median_iteration)
    return PipelineSimulated(
        run=measured.run,
        schedule=measured.schedule,
        order=measured.order,
        executor=measured.executor,
        ranks=measured.ranks,
        stages=measured.stages,
        microbatches=measured.microbatches,
        activation_bytes=measured.activation_bytes,
        pass_s={f"{stage}{kind}": lasted for (stage, kind), lasted in measured.pass_s().items()},
        transfers_s=measured.transfers_s,
        network=network.describe(),
        spans=simulate_pipeline(schedule, durations, network, measured.activation_bytes),
        engine=ENGINE,
    )


def _measured_alone(measured: PipelineMeasured) -> LatencyNetwork:
    return LatencyNetwork({(rank, other): transfer_s for rank, other, transfer_s in measured.transfers_s})


def compare_pipeline(
    measured: PipelineMeasured,
    network: CounterpartNetwork | None = None,
    *,
    max_points: float = MAX_POINTS,
    max_error: float | None = None,
) -> PipelineCompared:
    """Measured against simulated: medians over iterations, each with its own twin; idle time as means, which add up.

    Args:
        measured: what ran. network: as for :func:`twin`.
        max_points, max_error: by how much bubble (percentage points) and length of the step (a fraction) may differ.
    """
    schedule = from_csv(measured.order, measured.schedule)

    def twins(durations: Callable[[RankSpans], Durations], over: CounterpartNetwork) -> list[RankSpans]:
        num_bytes = measured.activation_bytes
        return [simulate_pipeline(schedule, durations(spans), over, num_bytes) for spans in measured.spans]

    def idle_s(simulated: Sequence[RankSpans]) -> float:
        return fmean(map(_idle_s, simulated))

    whole = twins(_as_measured, network or _measured_alone(measured))
    alike, as_measured = idle_s(twins(_alike, FREE)), idle_s(twins(_as_measured, FREE))
    return PipelineCompared(
        run=measured.run,
        schedule=measured.schedule,
        executor=measured.executor,
        compute=measured.compute,
        ranks=measured.ranks,
        stages=measured.stages,
        microbatches=measured.microbatches,
        activation_bytes=measured.activation_bytes,
        fabric=measured.fabric,
        measured_s=measured.iteration_s,
        spread_s=measured.spread_s,
        simulated_s=median(map(total_s, whole)),
        measured_bubble=measured.bubble_of_total,
        simulated_bubble=median(_idle_s(spans) / total_s(spans) for spans in whole),
        clock_free_bubble=measured.bubble_clock_free,
        idle_s={
            "schedule": alike,
            "imbalance": as_measured - alike,
            "transfer": idle_s(whole) - as_measured,
            "host": idle_s(measured.spans) - idle_s(whole),
        },
        max_points=max_points,
        max_error=max_error,
    )
