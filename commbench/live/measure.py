# SPDX-License-Identifier: Apache-2.0
"""Run a job from wherever this process is: supervisor of local ranks, or one rank of a launcher's world."""

from collections.abc import Iterable, Sequence

from commbench.errors import CheckFailedError, InputError, RunError
from commbench.live.job import LiveJob
from commbench.live.launch import launch_ranks
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.rank_host import RankHost
from commbench.live.rank_info import RankInfo
from commbench.live.watch import Watch
from commbench.results.journal import Journal
from commbench.results.records import Measured, Record
from commbench.units import format_bytes

__all__ = ["measure", "require_right", "run_job"]


def run_job(
    job: LiveJob, *, info: RankInfo | None = None, observer: Observer | None = None, hosts: Sequence[RankHost] = ()
) -> list[Record]:
    """Run a job and return its records (under a launcher: on rank 0, nothing elsewhere).

    Each record is appended to ``job.out`` as soon as it is complete, so that what is there survives any end.

    Args:
        job: what to run.
        info: this process's rank under a launcher, from :func:`~commbench.live.rank_info.find_rank_info`; None starts
            ``job.ranks`` ranks on this machine.
        observer: hears of the run as it goes on.
        hosts: for local ranks, where each of them runs.

    Raises:
        InputError: the job cannot run here.
        RunError: a rank died, hung or failed; names the rank, how and where.
    """
    if info is None or info.rank == 0:  # which writes the records
        Journal(job.out).require_writable()
    observer = observer or Observer()
    if info is None:
        return launch_ranks(job, observer=observer, hosts=hosts)
    if job.ranks != info.world_size:
        raise InputError(f"--nproc {job.ranks}, but there are {info.world_size} ranks, started by {info.launcher}")
    try:
        from commbench.live.worker import run_rank
    except ImportError as error:
        raise RunError(
            f"rank {info.rank} cannot load torch ({error}); install it: pip install 'commbench[run]'"
        ) from error
    progress = Progress()
    with Watch(job, info.rank, info.launcher, progress) as watch:
        return run_rank(job, info, progress=progress, observer=observer, timeout_s=job.torch_timeout_s, watch=watch)


def measure(
    plan: Plan, *, info: RankInfo | None = None, observer: Observer | None = None, hosts: Sequence[RankHost] = ()
) -> list[Measured]:
    """:func:`run_job` for a plan, whose records are all of one kind."""
    records = run_job(plan, info=info, observer=observer, hosts=hosts)
    return [record for record in records if isinstance(record, Measured)]


def require_right(records: Iterable[Measured]) -> None:
    """Refuse records with wrong values.

    Raises:
        CheckFailedError: names the sizes and how many elements were wrong.
    """
    bad = [f"{record.wrong} at {format_bytes(record.size_bytes)}" for record in records if record.wrong]
    if bad:
        raise CheckFailedError(f"wrong values: {', '.join(bad)} (elements over all ranks)")
