# SPDX-License-Identifier: Apache-2.0
"""Several runs in one testbed at the same time, watched over as one: when one fails, all end."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commbench.emulate.clock import FaultClock
from commbench.emulate.state import Process, process
from commbench.emulate.testbed import Testbed
from commbench.emulate.watch import blank, size_of
from commbench.errors import CommbenchError, InputError, RunError
from commbench.live.job import LiveJob
from commbench.live.job_barrier import JobBarrier
from commbench.live.measure import run_job
from commbench.live.observe import Observer, SessionFacts
from commbench.live.progress import Position
from commbench.results.records import Measured, Record
from commbench.topology.fabric import Fabric
from commbench.topology.faults import FaultScript
from commbench.topology.jobs import deal

__all__ = ["EmulatedJob", "jobs_of", "run_jobs"]

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class EmulatedJob:
    """One run: ``plan`` on the hosts of ``ranks`` of the topology, in that order. Each job has an observer."""

    plan: LiveJob
    ranks: tuple[int, ...]
    observer: Observer


def jobs_of(text: str, num_ranks: int | None, topology: Fabric) -> list[tuple[int, ...]]:
    """Ranks of the topology that each job runs on, in the job's order.

    Args:
        text: see :func:`commbench.topology.jobs.deal`.
        num_ranks: that run at all, on the first hosts; None for all.
        topology: whose hosts they run on.

    Raises:
        InputError: not such a text, ranks that are not there or are in two places, or too few for a job.
    """
    count = topology.num_ranks if num_ranks is None else num_ranks
    if not 2 <= count <= topology.num_ranks:
        raise InputError(f"--nproc {count} is outside 2..{topology.num_ranks}, the hosts of {topology.name}")
    return deal(text, count)


def run_jobs(
    testbed: Testbed,
    jobs: Sequence[EmulatedJob],
    *,
    faults: FaultScript | None = None,
    first_plane: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> list[list[Record]]:
    """Run jobs at the same time, size by size, and return the records of each.

    Args:
        testbed: to run in. jobs: on hosts that no two share.
        faults: applied from the first measured iteration of any job on; their background flows are the testbed's from
            ``first_plane`` on.
        tell: hears of faults as they are applied.

    Raises:
        InputError: the ranks found a plan unusable.
        RunError: a rank died, hung or failed, killed by a fault among them; all other jobs were ended.
    """
    with tempfile.TemporaryDirectory(prefix="commbench-barrier-") as folder:
        pool = _ConcurrentJobs(testbed, jobs, Path(folder), faults, first_plane, tell)
        return pool.run()


class _ConcurrentJobs:
    """The threads of the jobs, one each: the kernel ends ranks when the thread that started them has ended."""

    def __init__(
        self,
        testbed: Testbed,
        jobs: Sequence[EmulatedJob],
        folder: Path,
        faults: FaultScript | None,
        first_plane: int,
        tell: Callable[[str], None],
    ) -> None:
        self._testbed = testbed
        self._jobs = jobs
        self._gates = [JobBarrier(folder, number, len(jobs)) for number in range(len(jobs))]
        self._records: list[list[Record]] = [[] for _ in jobs]
        self._errors: list[BaseException] = []
        self._pids: dict[int, Process] = {}
        self._lock = threading.Lock()
        self._sound = {job.plan.out: size_of(job.plan.out) for job in jobs}
        self._trouble: RunError | None = None
        self._clock: FaultClock | None = None
        if faults is not None:
            self._clock = FaultClock(
                testbed, faults, first_plane=first_plane, pid_of=self._pid_of, tell=tell, fail=self._errors.append
            )

    def run(self) -> list[list[Record]]:
        threads = [threading.Thread(target=self._run, args=(number,)) for number in range(len(self._jobs))]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads) and not self._errors and self._trouble is None:
                for thread in threads:
                    thread.join(_POLL_S)
                self._look()
        finally:  # nothing to end where all went well
            while any(thread.is_alive() for thread in threads):
                self._end_ranks()
                for thread in threads:
                    thread.join(_POLL_S)
            self._look()
            if self._clock is not None:
                self._clock.close()
        if self._trouble is not None:
            raise self._taken_back(self._trouble)
        if self._errors:
            raise self._errors[0]
        return self._records

    def _look(self) -> None:
        """See whether the background flows go on: if they do, all that was on record before that is sound."""
        sizes = {journal: size_of(journal) for journal in self._sound}
        try:
            self._testbed.require_flows()
        except RunError as error:
            self._trouble = self._trouble or error
        else:
            self._sound = sizes

    def _taken_back(self, trouble: RunError) -> RunError:
        """Take back what was recorded since the flows were seen to go on, and say so."""
        runs = {job.plan.run for job in self._jobs}
        count = sum(blank(journal, since, runs) for journal, since in self._sound.items())
        return RunError(f"{trouble}; {count or 'no'} records since then{' were taken back' if count else ''}")

    def _run(self, number: int) -> None:
        job = self._jobs[number]
        variables = self._gates[number].variables if len(self._jobs) > 1 else {}
        hosts = self._testbed.rank_hosts(job.ranks, variables)
        try:
            self._records[number] = run_job(job.plan, observer=_Listener(self, job), hosts=hosts)
        except CommbenchError as error:
            named = f"job {number}: {error}" if len(self._jobs) > 1 else str(error)
            self._errors.append(type(error)(named))
        except BaseException as error:  # raised again by the thread that waits for this one
            self._errors.append(error)

    def launched(self, job: EmulatedJob, pids: Sequence[int]) -> None:
        """Ranks have been started."""
        with self._lock:
            self._testbed.note_processes(pids, "rank")
            self._pids.update({rank: process(pid, "rank") for rank, pid in zip(job.ranks, pids, strict=True)})

    def moved(self, place: Position) -> None:
        """A job goes on."""
        if self._clock is not None and place.timed_at_s:
            with self._lock:
                self._clock.start(place.timed_at_s)

    def say(self, what: Callable[[], None]) -> None:
        """One job speaks at a time."""
        with self._lock:
            what()

    def _pid_of(self, rank: int) -> int | None:
        found = self._pids.get(rank)
        return found.pid if found is not None and found.alive else None

    def _end_ranks(self) -> None:
        for found in list(self._pids.values()):
            if found.alive:
                os.kill(found.pid, signal.SIGTERM)


class _Listener(Observer):
    """Between a run and its observer: notes the processes, starts the clock, and lets one job speak at a time."""

    def __init__(self, pool: _ConcurrentJobs, job: EmulatedJob) -> None:
        self._crew = pool
        self._job = job

    def launched(self, pids: Sequence[int]) -> None:
        self._crew.launched(self._job, pids)

    def started(self, facts: SessionFacts) -> None:
        self._crew.say(lambda: self._job.observer.started(facts))

    def moved(self, place: Position) -> None:
        self._crew.moved(place)
        self._crew.say(lambda: self._job.observer.moved(place))

    def measured(self, record: Measured) -> None:
        self._crew.say(lambda: self._job.observer.measured(record))
