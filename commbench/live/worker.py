# SPDX-License-Identifier: Apache-2.0
"""What one rank of a job does: meet the others, do its part, and on rank 0 write the records."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from commbench.errors import CommbenchError, RunError
from commbench.live.group_job import GroupJob
from commbench.live.job import LiveJob, OverlapJob, PipelineJob, TensorParallelJob
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.rank_info import RankInfo
from commbench.live.session import Session, open_session
from commbench.live.suite import Suite
from commbench.live.watch import Watch
from commbench.results.journal import Journal
from commbench.results.records import Record

__all__ = ["measuring", "run_rank"]

_LONGEST_MESSAGE = 300

Measuring = Callable[[Session, Progress], Iterator[Record]]


def run_rank(
    job: LiveJob,
    info: RankInfo,
    *,
    progress: Progress,
    observer: Observer,
    timeout_s: float,
    watch: Watch | None = None,
) -> list[Record]:
    """Do this rank's part of a job.

    Args:
        job: the same on every rank.
        info: this rank's.
        progress: told where the rank is.
        observer: hears of the start and of each record, on rank 0 only.
        timeout_s: how long torch.distributed waits for another rank before it raises.
        watch: over ranks that others started.

    Returns:
        The records on rank 0, nothing elsewhere. Each is in the journal as soon as it is complete.

    Raises:
        InputError: the job cannot run here.
        RunError: torch failed; one line that names the rank and where it was.
    """
    progress.reach("joining the other ranks")
    records: list[Record] = []
    try:
        session = open_session(job, info, timeout_s, watch)
        if session.rank == 0:
            observer.started(session.facts)
        for record in measuring(job)(session, progress):
            Journal(job.out).append(record)
            records.append(record)
            observer.measured(record)
        progress.reach("leaving")
        session.close()
    except CommbenchError:
        raise
    except Exception as error:  # whatever torch raises, the user gets one line
        raise RunError(f"rank {info.rank} failed at {progress.place}: {_one_line(error)}") from error
    return records


def measuring(job: LiveJob) -> Measuring:
    """What measures a job and yields its records on rank 0; each kind's own code is loaded only here."""
    if isinstance(job, Plan):
        from commbench.live.collective import measure_collective

        return partial(measure_collective, job)
    if isinstance(job, Suite):
        return partial(_one_by_one, [measuring(plan) for plan in job.plans])
    if isinstance(job, PipelineJob):
        from commbench.live.pipeline import measure_pipeline

        if "torch" in job.executors:
            from commbench.live import pipeline_torch  # noqa: F401  measure_pipeline will ask for it
        return partial(_met, partial(measure_pipeline, job))
    if isinstance(job, TensorParallelJob):
        from commbench.live.tensor_parallel import measure_tensor_parallel

        return partial(_met, partial(measure_tensor_parallel, job))
    if isinstance(job, GroupJob):
        from commbench.live.grouped import measure_groups

        return partial(_met, partial(measure_groups, job))
    assert isinstance(job, OverlapJob)
    from commbench.live.overlap import measure_overlap

    return partial(_met, partial(measure_overlap, job))


def _one_by_one(parts: Sequence[Measuring], session: Session, progress: Progress) -> Iterator[Record]:
    return chain.from_iterable(part(session, progress) for part in parts)


def _met(measure: Measuring, session: Session, progress: Progress) -> Iterator[Record]:
    session.meet()
    return measure(session, progress)


def _one_line(error: Exception) -> str:
    """The first line of what torch says; the rest is its C++ stack."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_MESSAGE]
