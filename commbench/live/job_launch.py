# SPDX-License-Identifier: Apache-2.0
"""Run a job from wherever this process is: supervisor of local ranks, or one rank of a launcher's world.

The supervision is that of :mod:`commbench.live.launch`; only what a rank executes and which records count differ.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from commbench.errors import InputError, RunError
from commbench.live import launch
from commbench.live.files import SessionFiles
from commbench.live.job import Job
from commbench.live.launch import RankHost
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.live.progress import Progress
from commbench.live.seat import Seat
from commbench.results.journal import Journal
from commbench.results.records import Record, record_from_json

__all__ = ["run_job"]


def run_job(
    job: Job, *, seat: Seat | None = None, observer: Observer | None = None, hosts: Sequence[RankHost] = ()
) -> list[Record]:
    """Run a job and return its records (under a launcher: on rank 0, nothing elsewhere).

    Args:
        job: what to run.
        seat: this process's rank under a launcher; None starts ``job.ranks`` ranks on this machine.
        observer: hears of the start; records come back whole.
        hosts: for local ranks, where each of them runs.

    Raises:
        InputError: the job cannot run here.
        RunError: a rank died, hung or failed; names the rank, how and where.
    """
    Journal(job.out).require_writable()
    if seat is None:
        return _launch(job, observer or Observer(), hosts or [RankHost()] * job.ranks)
    if job.ranks != seat.world_size:
        raise InputError(f"--nproc {job.ranks}, but {seat.launcher} started {seat.world_size} ranks")
    try:
        from commbench.live.job_worker import run_job_rank
    except ImportError as error:
        raise RunError(
            f"rank {seat.rank} cannot load torch ({error}); install it: pip install 'commbench[run]'"
        ) from error
    return run_job_rank(job, seat, progress=Progress(), observer=observer or Observer(), timeout_s=job.timeout_s)


def _launch(job: Job, observer: Observer, hosts: Sequence[RankHost]) -> list[Record]:
    with tempfile.TemporaryDirectory(prefix="commbench-") as folder:
        files = SessionFiles(Path(folder))
        files.plan.write_text(job.to_json(), encoding="utf-8")
        tail = _Tail(job)
        with _ranks(files, job, hosts) as processes:
            observer.launched([process.pid for process in processes])
            watch = launch._Watch(files, processes, job.timeout_s)
            try:
                launch._supervise(files, watch, cast(launch._Tail, tail), observer)
            except RunError as error:
                tail.read()
                raise RunError(f"{error}; {len(tail.records)} complete records in {job.out}") from None
        tail.read()
        return tail.records


class _Tail:
    """The records of this run that rank 0 appends to the journal."""

    def __init__(self, job: Job) -> None:
        self._path, self._run = job.out, job.run
        self._offset = job.out.stat().st_size if job.out.exists() else 0
        self.records: list[Record] = []

    def read(self) -> None:
        """Take in the lines that are whole by now."""
        if not self._path.exists() or self._path.stat().st_size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in filter(bytes.strip, whole.split(b"\n")):
            record = record_from_json(line.decode(), str(self._path))
            if getattr(record, "run", "") == self._run:  # others may write there too
                self.records.append(record)


@contextmanager
def _ranks(files: SessionFiles, job: Job, hosts: Sequence[RankHost]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The ranks' processes; none is left when the block ends."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank, host in enumerate(hosts):
            processes.append(_start(files, job, rank, host))
        yield processes
    finally:
        launch._end(processes)


def _start(files: SessionFiles, job: Job, rank: int, host: RankHost) -> subprocess.Popen[bytes]:
    command = [*host.prefix, sys.executable, "-m", "commbench.live.job_child", str(files.folder), str(rank)]
    variables = launch._variables(cast(Plan, job), rank) | dict(host.variables)
    with files.output(rank).open("wb") as output:
        try:
            # a session of its own: Ctrl-C reaches the supervisor alone, which then ends the ranks
            return subprocess.Popen(
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"rank {rank} cannot start: {command[0]}: {error.strerror}") from error
