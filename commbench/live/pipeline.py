# SPDX-License-Identifier: Apache-2.0
"""Measure a pipeline on live ranks: begin and end of every pass, the transfers alone, and twice the microbatches."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import torch

from commbench.live.backend import Pair
from commbench.live.job import PipelineJob
from commbench.live.pipeline_execute import Channels, Recorder, ScheduleRunner, StepRunner, directed_pairs, wait
from commbench.live.progress import TIMED, Progress
from commbench.live.session import Session
from commbench.live.stage import StageShape, count_wrong, rehearse
from commbench.results.pipeline_records import PipelineMeasured
from commbench.results.records import Record
from commbench.results.spans import RankSpans, Span
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule
from commbench.workload.pipeline.text import from_csv

__all__ = ["measure_pipeline"]

_TRIPS, _WARM_TRIPS = 50, 2  # of a message and its answer, when transfers are timed alone
_LONGEST_S, _FEWEST_TRIPS = 1.0, 3  # of one pair, where links are slow
_SLEEPS, _SLEEP_S = 20, 0.005  # to find out what a sleep lasts too long


@dataclass(frozen=True, slots=True)
class _PipelineStep:
    """One step on one rank. Spans begin when the rank left the barrier, at ``origin_s`` of the host's clock."""

    spans: tuple[Span, ...]
    origin_s: float

    @property
    def wall_s(self) -> float:
        """To the end of the rank's last pass."""
        return self.spans[-1][4]


@dataclass(frozen=True, slots=True)
class _PipelineObserved:
    """What one rank saw; travels to rank 0."""

    once: tuple[_PipelineStep, ...]
    twice: tuple[_PipelineStep, ...]
    wrong: int | None
    transfers_s: tuple[tuple[int, int, float], ...]
    sleep_over_s: float


def measure_pipeline(job: PipelineJob, session: Session, progress: Progress) -> Iterator[Record]:
    """Run the pipeline by every executor of the job; one record each on rank 0, none elsewhere."""
    progress.size(job.activation_bytes)
    bench = _PipelineBench(job, session, progress)
    for executor in job.executors:
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        everyone = session.gather(bench.observe(executor))
        if everyone:
            yield _record(job, session, bench.once, executor, started_at, everyone)


class _PipelineBench:
    """What all executors share: schedules, channels, and what was found out once."""

    def __init__(self, job: PipelineJob, session: Session, progress: Progress) -> None:
        self._job, self._session, self._progress = job, session, progress
        self.once = from_csv(job.order, job.schedule)
        self.twice = from_csv(job.double, job.schedule) if job.double else None
        self._shape = StageShape(job.tokens, job.hidden, job.layers)
        rehearse(self._shape, session.device)
        self._channels = Channels(self.once, session)
        self._clock = session.clock
        progress.reach("timing transfers")
        self._transfers_s = _transfers_s(self.once, self._shape, session, self._channels)
        self._over_s = 0.0
        if job.compute == "delay":
            progress.reach("timing sleeps")
            self._over_s = _sleep_over_s()
        self._recorder = Recorder(self._clock, progress, _lasts_s(job), self._over_s)

    def observe(self, executor: str) -> _PipelineObserved:
        """Warm up, time and check on this rank."""
        runners = [(self.once, self._runner(executor, self.once))]
        if self.twice is not None:
            runners.append((self.twice, self._runner(executor, self.twice)))
        for iteration in range(self._job.warmup):
            self._progress.reach("warm-up iteration", iteration)
            for _, runner in runners:
                self._time(runner)
        steps: list[list[_PipelineStep]] = [[] for _ in runners]
        for iteration in range(self._job.iters):  # in turn, so that a machine that changes does so for both
            self._progress.reach(TIMED, iteration)
            for found, (_, runner) in zip(steps, runners, strict=True):
                found.append(self._time(runner))
        wrong = None
        if self._job.check:
            self._progress.reach("checking")
            wrong = sum(self._count_wrong(schedule, runner) for schedule, runner in runners)
        return _PipelineObserved(
            tuple(steps[0]), tuple(steps[1]) if len(steps) > 1 else (), wrong, self._transfers_s, self._over_s
        )

    def _runner(self, executor: str, schedule: PipelineSchedule) -> StepRunner:
        if executor == "schedule":
            return ScheduleRunner(schedule, self._shape, self._session, self._channels, self._recorder)
        from commbench.live.pipeline_torch import TorchRunner

        return TorchRunner(self._job.torch_name, schedule, self._shape, self._session, self._recorder)

    def _time(self, runner: StepRunner) -> _PipelineStep:
        clock, recorder = self._clock, self._recorder
        recorder.marks.clear()
        runner.prepare()
        self._session.barrier()
        clock.settle()
        origin, origin_s = clock.mark(), time.perf_counter()
        runner.run()
        clock.settle()
        spans = tuple(
            Span(action.stage, action.kind.value, action.microbatch, *(clock.elapsed_s(origin, mark) for mark in marks))
            for action, *marks in recorder.marks
        )
        return _PipelineStep(spans, origin_s)

    def _count_wrong(self, schedule: PipelineSchedule, runner: StepRunner) -> int:
        """Wrong elements after the last step that was timed."""
        return sum(
            count_wrong(
                runner.gradients(stage),
                self._shape,
                stage,
                num_stages=schedule.num_stages,
                microbatches=schedule.num_microbatches,
            )
            for stage in schedule.stages_of(self._session.rank)
        )


def _lasts_s(job: PipelineJob) -> Callable[[Action], float]:
    """Seconds that a pass must last."""
    if job.compute != "delay":
        return lambda action: 0.0
    forward, backward, weight = job.delays_s
    delays = {Pass.FORWARD: forward, Pass.INPUT: backward, Pass.WEIGHT: weight, Pass.BACKWARD: backward + weight}
    slow = dict(job.slow)
    return lambda action: delays[action.kind] * slow.get(action.stage, 1.0)


def _sleep_over_s() -> float:
    """What a sleep lasts longer than asked, the median of some."""
    over = []
    for _ in range(_SLEEPS):
        began = time.perf_counter()
        time.sleep(_SLEEP_S)
        over.append(time.perf_counter() - began - _SLEEP_S)
    return max(0.0, median(over))


def _transfers_s(
    schedule: PipelineSchedule, shape: StageShape, session: Session, channels: Channels
) -> tuple[tuple[int, int, float], ...]:
    """(rank, other, seconds) of one way of an activation, nothing else going on: half of the median round trip.

    Every rank tells of the pairs in which it is the lower one.
    """
    buffer = torch.zeros(shape.tokens, shape.hidden, device=session.device)
    found = []
    for pair in sorted({(min(pair), max(pair)) for pair in directed_pairs(schedule)}):
        session.barrier()
        if session.rank not in pair:
            continue
        warm = [_trip_s(pair, buffer, session, channels) for _ in range(_WARM_TRIPS)]
        number = torch.tensor([_num_trips(warm[-1])], device=session.device)
        _pass_on(number, pair, session, channels)
        trips = [_trip_s(pair, buffer, session, channels) for _ in range(int(number))]
        if session.rank == pair[0]:
            found.append((*pair, median(trips) / 2))
    return tuple(found)


def _trip_s(pair: Pair, buffer: torch.Tensor, session: Session, channels: Channels) -> float:
    """Seconds of a message from the first to the second rank of a pair and its answer; both call this."""
    clock = session.clock
    begin = clock.mark()
    _pass_on(buffer, pair, session, channels)
    _pass_on(buffer, pair[::-1], session, channels)
    end = clock.mark()
    clock.settle()
    return clock.elapsed_s(begin, end)


def _num_trips(trip_s: float) -> int:
    return max(_FEWEST_TRIPS, min(_TRIPS, int(_LONGEST_S / trip_s)))


def _pass_on(tensor: torch.Tensor, pair: Pair, session: Session, channels: Channels) -> None:
    """Bring what the first rank of a pair has to the second; both call this."""
    sender, receiver = pair
    wait(channels.send(tensor, receiver) if session.rank == sender else channels.receive(tensor, sender))


def _record(
    job: PipelineJob,
    session: Session,
    schedule: PipelineSchedule,
    executor: str,
    started_at: str,
    everyone: list[_PipelineObserved],
) -> PipelineMeasured:
    shared = session.shares_clock
    return PipelineMeasured(
        run=job.run,
        schedule=job.schedule,
        order=job.order,
        executor=executor,
        ranks=job.ranks,
        stages=schedule.num_stages,
        microbatches=job.microbatches,
        activation_bytes=job.activation_bytes,
        backend=session.facts.backend,
        compute=job.compute,
        delays_s=dict(zip("FIW", job.delays_s, strict=True)) if job.compute == "delay" else {},
        slow=job.slow,
        spans=tuple(_aligned([seen.once[i] for seen in everyone], shared) for i in range(job.iters)),
        clock="shared" if shared else "barrier",
        walls_s=tuple(tuple(step.wall_s for step in seen.once) for seen in everyone),
        double_walls_s=tuple(tuple(step.wall_s for step in seen.twice) for seen in everyone) if job.double else (),
        transfers_s=tuple(sorted(one for seen in everyone for one in seen.transfers_s)),
        sleep_over_s=max(seen.sleep_over_s for seen in everyone),
        launcher=session.facts.launcher,
        started_at=started_at,
        wrong=sum(seen.wrong or 0 for seen in everyone) if job.check else None,
        environment=session.facts.environment,
    )


def _aligned(steps: list[_PipelineStep], shared: bool) -> RankSpans:
    """Spans of all ranks from one origin: the first begin on any rank."""
    origins = [step.origin_s if shared else 0.0 for step in steps]
    first = min(origin + step.spans[0].begin_s for origin, step in zip(origins, steps, strict=True))
    return tuple(
        tuple(
            span._replace(begin_s=span.begin_s + origin - first, end_s=span.end_s + origin - first)
            for span in step.spans
        )
        for origin, step in zip(origins, steps, strict=True)
    )
