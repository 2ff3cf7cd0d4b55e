# SPDX-License-Identifier: Apache-2.0
"""Run pipeline schedules on links that cost nothing; and the grid of cases that several tests share."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.errors import InputError
from commbench.program.operations import NOTHING
from commbench.workload.pipeline.bubble import Bubble
from commbench.workload.pipeline.lower import Durations, StageTimes, pipeline_program
from commbench.workload.pipeline.registry import PIPELINES
from commbench.workload.pipeline.schedule import PipelineSchedule
from tests.cases import star
from tests.programs import run as run_program

__all__ = ["CASES", "Ran", "bubble_of", "by_stage", "equal_times", "run"]


def _cases() -> list[tuple[str, int, int, int]]:
    """(name, ranks, microbatches, stages per rank): every schedule on small pipelines, all that it accepts."""
    cases = []
    for name, pipeline in PIPELINES.items():
        for per_rank in (pipeline.stages_per_rank,) if pipeline.stages_per_rank else (1, 2, 3):
            for p in (1, 2, 3, 4, 5):
                least = pipeline.least_microbatches(p, p * per_rank)
                counts = {p, 2 * p, 3 * p, 4 * p} | (set() if pipeline.multiple else {2 * p + 1, 3 * p + 2})
                cases += [(name, p, m, per_rank) for m in sorted(counts) if m >= least]
    return cases


CASES = _cases()


@dataclass(frozen=True)
class Ran:
    """Times in ps: of the whole step, and per rank from its first start to its last end, and busy."""

    total: int
    spans: tuple[int, ...]
    busy: tuple[int, ...]
    passes: tuple[tuple[tuple[int, int], ...], ...]


def equal_times(schedule: PipelineSchedule, forward: int, input_: int, weight: int) -> Sequence[StageTimes]:
    """The same times on every stage."""
    return [StageTimes(forward_ps=forward, input_ps=input_, weight_ps=weight)] * schedule.num_stages


def run(schedule: PipelineSchedule, times: Sequence[StageTimes], *, num_bytes: int = 0) -> Ran:
    """Simulate with the reference engine; links have no latency, and a byte takes 1e-18 s, which is 0 ps."""
    program = pipeline_program(schedule, by_stage(times), num_bytes)
    topology = star(schedule.num_ranks, bandwidth=1e18, latency_ps=0)
    trace = run_program(program, topology, engine="reference").trace
    passes = []
    for rank in range(schedule.num_ranks):
        mine = (program.communication == NOTHING) & (program.rank == rank)  # a task each
        passes.append(tuple(zip(trace.start_ps[mine].tolist(), trace.end_ps[mine].tolist(), strict=True)))
    return Ran(
        total=max(end for rank in passes for _, end in rank),
        spans=tuple(max(end for _, end in rank) - min(begin for begin, _ in rank) for rank in passes),
        busy=tuple(sum(end - begin for begin, end in rank) for rank in passes),
        passes=tuple(passes),
    )


def by_stage(times: Sequence[StageTimes]) -> Durations:
    """Durations that depend on stage and pass alone; ``times[s]`` are those of stage s."""
    return lambda action: times[action.stage].of(action.kind)


def bubble_of(spans: Sequence[Sequence[tuple[float, float]]]) -> Bubble:
    """The bubble of a step from the (begin, end) of every pass on every rank.

    Raises:
        InputError: no rank, a rank without a pass, or passes that last no time at all.
    """
    if not spans or not all(spans):
        raise InputError("a bubble needs at least one rank, and at least one pass on every rank")
    total = max(end for rank in spans for _, end in rank) - min(begin for rank in spans for begin, _ in rank)
    busy = tuple(sum(end - begin for begin, end in rank) for rank in spans)
    if not sum(busy) > 0:
        raise InputError("a bubble needs passes that last some time; all of them last 0")
    longest = max(max(end for _, end in rank) - min(begin for begin, _ in rank) for rank in spans)
    return Bubble(total, busy, longest)
