# SPDX-License-Identifier: Apache-2.0
"""A pipeline on live ranks and its simulated twin: the job, the comparison, and the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commbench.errors import CheckFailedError, InputError
from commbench.live.job import EXECUTORS, PipelineJob
from commbench.results.journal import Journal
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.records import Record
from commbench.results.run_id import new_run_id
from commbench.units import parse_duration_ps, seconds
from commbench.validate.pipeline import MAX_POINTS, CounterpartNetwork, compare_pipeline, twin
from commbench.workload.pipeline.registry import ALIASES, build_pipeline, get_pipeline
from commbench.workload.pipeline.text import read_pipeline, to_csv

__all__ = ["PipelineTwins", "compare_all", "judge", "make_job"]


@dataclass(frozen=True, slots=True)
class PipelineTwins:
    """A measured pipeline, its simulated twin, and both held together."""

    measured: PipelineMeasured
    simulated: PipelineSimulated
    compared: PipelineCompared

    @property
    def name(self) -> str:
        """For messages."""
        return f"pipeline {self.measured.schedule} by {self.measured.executor}"


def make_job(
    schedule: str,
    *,
    run: str = "",
    ranks: int,
    out: Path,
    microbatches: int | None = None,
    stages_per_rank: int | None = None,
    executor: str = "schedule",
    forward: str = "20 ms",
    input_: str = "20 ms",
    weight: str = "20 ms",
    slow: Sequence[str] | None = None,
    timeout: float = 300.0,
    join_timeout: float = 120.0,
    **given: Any,
) -> PipelineJob:
    """The job that the options of the same names describe, ``given`` among them; ``run`` left out is a new one.

    Raises:
        InputError: what cannot be run; names option, value and rule.
        ScheduleError: a CSV that is no schedule, or none for these ranks.
    """
    if executor not in (*EXECUTORS, "both"):
        raise InputError(f"--executor {executor!r} is unknown; known: {', '.join(EXECUTORS)}, both")
    name, torch_name, orders, count, num_stages = _orders(schedule, ranks, microbatches, stages_per_rank)
    return PipelineJob(
        **given,
        ranks=ranks,
        out=out,
        run=run or new_run_id(),
        timeout_s=timeout,
        join_timeout_s=join_timeout,
        schedule=name,
        microbatches=count,
        order=orders[0],
        double=orders[1],
        executors=EXECUTORS if executor == "both" else (executor,),
        torch_name=torch_name,
        delays_s=_delays_s(forward, input_, weight),
        slow=tuple(_slow(text, num_stages) for text in slow or ()),
    )


def _orders(
    schedule: str, ranks: int, microbatches: int | None, stages_per_rank: int | None
) -> tuple[str, str, tuple[str, str], int, int]:
    """Name, torch's name, orders for m and for 2m microbatches ("" where there are none), m, and stages."""
    if schedule.endswith(".csv"):
        found = read_pipeline(Path(schedule))
        for option, value in (("--microbatches", microbatches), ("--stages-per-rank", stages_per_rank)):
            if value is not None:
                raise InputError(f"{option} {value} has no meaning with the file {schedule}, which says it")
        if found.num_ranks != ranks:
            raise InputError(f"{schedule} is for {found.num_ranks} ranks, --nproc is {ranks}")
        return Path(schedule).stem, "", (to_csv(found), ""), found.num_microbatches, found.num_stages
    name, count = ALIASES.get(schedule, schedule), 8 if microbatches is None else microbatches
    least = get_pipeline(name).least_stages
    per_rank = least if stages_per_rank is None and least > 1 else stages_per_rank
    once, twice = (build_pipeline(name, ranks, m, per_rank) for m in (count, 2 * count))
    return name, get_pipeline(name).torch_name, (to_csv(once), to_csv(twice)), count, once.num_stages


def _delays_s(*texts: str) -> tuple[float, float, float]:
    forward, input_, weight = (seconds(parse_duration_ps(text)) for text in texts)
    return forward, input_, weight


def _slow(text: str, num_stages: int) -> tuple[int, float]:
    """Stage and factor of "2=1.5"."""
    stage, equals, factor = text.partition("=")
    try:
        number, times = int(stage), float(factor)
    except ValueError:
        number, times = -1, 0.0
    if not equals or not 0 <= number < num_stages or not 0 < times < float("inf"):
        raise InputError(f"--slow {text!r} must be STAGE=FACTOR with a stage of 0..{num_stages - 1}, a factor above 0")
    return number, times


def compare_all(
    records: Sequence[Record],
    out: Path,
    *,
    max_points: float | None = None,
    max_error: float | None = None,
    network_of: Callable[[PipelineMeasured], CounterpartNetwork | None] = lambda measured: None,
) -> list[PipelineTwins]:
    """Simulate the twin of every measured pipeline, hold them together, and append both to the journal.

    Args:
        records: as they were measured. out: the journal.
        max_points: of the bubbles, None for the usual. max_error: of the length of the step, a fraction; None for any.
        network_of: what a twin's messages go over; see ``validate.pipeline.twin``.
    """
    points = MAX_POINTS if max_points is None else max_points
    found = []
    for record in records:
        if isinstance(record, PipelineMeasured):
            network = network_of(record)
            compared = compare_pipeline(record, network, max_points=points, max_error=max_error)
            found.append(PipelineTwins(record, twin(record, network), compared))
            for more in (found[-1].simulated, found[-1].compared):
                Journal(out).append(more)
    return found


def judge(twins: Sequence[PipelineTwins], *, max_points: float | None, max_error: float | None) -> None:
    """Fail on wrong values, and past the thresholds that were given.

    Raises:
        CheckFailedError: names schedule, executor and numbers.
    """
    for both in twins:
        if both.measured.wrong:
            raise CheckFailedError(f"{both.name}: {both.measured.wrong} wrong values in the gradients of the weights")
    for both in twins:
        c = both.compared
        if max_points is not None and not c.points_ok:
            raise CheckFailedError(
                f"{both.name}: measured bubble {c.measured_bubble:.1%}, simulated {c.simulated_bubble:.1%}: more than "
                f"{max_points:g} points apart"
            )
        if max_error is not None and not c.time_ok:
            raise CheckFailedError(
                f"{both.name}: measured step {1e3 * c.measured_s:.2f} ms, simulated {1e3 * c.simulated_s:.2f} ms "
                f"({100 * c.error:+z.1f} %): more than {100 * max_error:g} % apart"
            )
