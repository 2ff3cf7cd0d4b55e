# SPDX-License-Identifier: Apache-2.0
"""A measured pipeline and its simulated twin: the same schedule, with the durations that were measured.

Every iteration has a twin of its own: each pass lasts as long as it did in that iteration, and a transfer to another
rank as long as it took when it was measured alone. What the twin does not know is the host: waking up, bookkeeping,
waiting for a core. So measured less simulated bubble is the host's share, unless the schedule was not kept.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median

from commbench.program.expand import expand
from commbench.program.flat import COMPUTE
from commbench.program.ir import Compute
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated, RankSpans, Span
from commbench.sim.engines import Run, run
from commbench.sim.placing import triples_of
from commbench.sim.setting import Paths, Setting
from commbench.units import PS_PER_S, seconds
from commbench.workload.pipeline.lower import Durations, pipeline_program
from commbench.workload.pipeline.schedule import Action, PipelineSchedule, Step
from commbench.workload.pipeline.text import from_csv

__all__ = ["MAX_POINTS", "compare_pipeline", "simulate_pipeline", "twin"]

MAX_POINTS = 3.0
"""Percentage points by which a measured bubble may differ from its twin's."""

_ENGINE = "reference"  # a few hundred tasks: done before numba has loaded
Pair = tuple[int, int]
_FREE = 1e18  # bytes/s: a transfer takes its latency


def simulate_pipeline(schedule: PipelineSchedule, durations: Durations, transfers_s: Mapping[Pair, float]) -> RankSpans:
    """Spans of every rank, from 0; a transfer takes what its two ranks (lower first) need, whatever else goes on.

    Raises:
        ScheduleError: the schedule deadlocks.
    """
    program = pipeline_program(schedule, durations, num_bytes=1)
    flat = expand(program, reduction_ps_per_byte=0.0)
    triples, route_of = triples_of(flat)
    pairs = [(min(src, dst), max(src, dst)) for src, dst, _ in triples.tolist()]
    latencies_ps = [round(transfers_s.get(pair, 0.0) * PS_PER_S) for pair in pairs]
    paths = Paths.of_lists([_FREE] * len(pairs), [[i] for i in range(len(pairs))], latencies_ps, route_of.tolist())
    trace = run(flat, Setting(paths), Run(engine=_ENGINE)).trace
    steps = {(rank, str(step)): step for rank, order in enumerate(schedule.orders) for step in order}
    found: list[list[Span]] = [[] for _ in schedule.orders]
    for task, (kind, number) in enumerate(zip(flat.kind.tolist(), flat.operation.tolist(), strict=True)):
        operation = program.operations[number]
        if kind == COMPUTE and isinstance(operation, Compute):
            step = steps[operation.rank, operation.label]
            found[operation.rank] += _spans(step, int(trace.start_ps[task]), durations)
    return tuple(tuple(sorted(rank, key=lambda span: span[3])) for rank in found)


def _spans(step: Step, begin_ps: int, durations: Durations) -> list[Span]:
    """The passes of a step, one behind the other."""
    spans: list[Span] = []
    for action in step.parts:
        end_ps = begin_ps + durations(action)
        spans.append((action.stage, action.kind.value, action.microbatch, seconds(begin_ps), seconds(end_ps)))
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


def _total_s(spans: RankSpans) -> float:
    return max(span[4] for rank in spans for span in rank) - min(span[3] for rank in spans for span in rank)


def _idle_s(spans: RankSpans) -> float:
    """Idle seconds of the mean rank."""
    return _total_s(spans) - fmean(sum(end - begin for *_, begin, end in rank) for rank in spans)


def _transfers_s(measured: PipelineMeasured) -> dict[Pair, float]:
    return {(rank, other): transfer_s for rank, other, transfer_s in measured.transfers_s}


def twin(measured: PipelineMeasured) -> PipelineSimulated:
    """The twin of the iteration whose length is nearest to the median."""
    schedule = from_csv(measured.order, measured.schedule)
    spans = simulate_pipeline(schedule, _as_measured(measured.median_iteration), _transfers_s(measured))
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
        spans=spans,
        engine=_ENGINE,
    )


def compare_pipeline(measured: PipelineMeasured, *, max_points: float = MAX_POINTS) -> PipelineCompared:
    """Measured against simulated: medians over iterations, each with its own twin; idle time as means, which add up."""
    schedule = from_csv(measured.order, measured.schedule)

    def twins(durations: Callable[[RankSpans], Durations], transfers_s: Mapping[Pair, float]) -> list[RankSpans]:
        return [simulate_pipeline(schedule, durations(spans), transfers_s) for spans in measured.spans]

    def idle_s(simulated: Sequence[RankSpans]) -> float:
        return fmean(map(_idle_s, simulated))

    whole = twins(_as_measured, _transfers_s(measured))
    alike, as_measured = idle_s(twins(_alike, {})), idle_s(twins(_as_measured, {}))
    return PipelineCompared(
        run=measured.run,
        schedule=measured.schedule,
        executor=measured.executor,
        compute=measured.compute,
        ranks=measured.ranks,
        stages=measured.stages,
        microbatches=measured.microbatches,
        measured_s=measured.iteration_s,
        spread_s=measured.spread_s,
        simulated_s=median(map(_total_s, whole)),
        measured_bubble=measured.bubble_of_total,
        simulated_bubble=median(_idle_s(spans) / _total_s(spans) for spans in whole),
        clock_free_bubble=measured.bubble_clock_free,
        idle_s={
            "schedule": alike,
            "imbalance": as_measured - alike,
            "transfer": idle_s(whole) - as_measured,
            "host": idle_s(measured.spans) - idle_s(whole),
        },
        max_points=max_points,
    )
