# SPDX-License-Identifier: Apache-2.0
"""Watch over the ranks of a run from beside them: where they are, what they have recorded, which one is at fault.

No torch here: the supervisor stays light beside the ranks it watches.
"""

import json
import signal
import time

from commbench.errors import ResultsError, RunError
from commbench.live.blame import Ended, RankError, blame_ended, blame_hung
from commbench.live.files import SessionFiles
from commbench.live.forked import ForkedRanks
from commbench.live.job import LiveJob
from commbench.live.kept import beside, keep_by_rank, record_failure
from commbench.live.observe import Observer, SessionFacts
from commbench.live.progress import read_position
from commbench.results.kinds import record_from_json
from commbench.results.records import Record
from commbench.terminal import tell

__all__ = ["JournalTail", "supervise"]

_POLL_S = 0.05
_STACKS_S = 0.5
_SETTLE_S = 0.5  # from the first rank's end to the judgement: lets the others' ends be seen


def supervise(
    job: LiveJob,
    files: SessionFiles,
    ranks: ForkedRanks,
    tail: "JournalTail",
    observer: Observer,
) -> None:
    """Return when all ranks have ended well.

    Args:
        job: what the ranks do.
        files: where they leave things for the supervisor.
        ranks: their processes.
        tail: of the job's journal; it has every record of the run on return.
        observer: hears of the processes, of the start and of rank 0's place.

    Raises:
        CommbenchError: what a rank reported; a RunError, also for a rank that died or hung, says what the journal has.
    """
    watch = _Watch(files, ranks, job)
    try:
        _until_all_ended(files, ranks, watch, tail, observer)
    except RunError as error:
        tail.read()
        told = f"{error}; {len(tail.records)} complete records in {job.out}"
        places = [f"rank {rank}: {read_position(files.progress(rank))}" for rank in range(job.ranks)]
        stacks = _stacks(job, files, ranks)
        guilty = error.ranks if isinstance(error, RankError) else ()
        record_failure(job, "commbench", told, guilty, places, stacks)
        raise RunError(f"{told}; stacks: {stacks}" if stacks else told) from None


def _stacks(job: LiveJob, files: SessionFiles, ranks: ForkedRanks) -> str:
    """The name of the file with the stacks of all ranks that still run; "" if none does."""
    stopped = ranks.stopped()
    asked = [rank for rank in ranks.running() if rank not in stopped and files.stack(rank).exists()]
    for rank in asked:
        ranks.send(rank, signal.SIGUSR1)
    deadline, sizes = time.monotonic() + _STACKS_S, [0]
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        before, sizes = sizes, [files.stack(rank).stat().st_size for rank in asked]
        if all(sizes) and sizes == before:  # each has come, and is whole
            break
    texts = {rank: files.stack(rank).read_text(encoding="utf-8", errors="replace") for rank in asked}
    return keep_by_rank(beside(job.out, job.run, "stacks"), texts)


def _until_all_ended(
    files: SessionFiles, ranks: ForkedRanks, watch: "_Watch", tail: "JournalTail", observer: Observer
) -> None:
    launched = told = False
    while True:
        running = any(code is None for code in ranks.codes())
        if not launched and ranks.pids:
            observer.launched(ranks.pids)
            launched = True
        if not told and files.facts.exists():
            observer.started(SessionFacts(**json.loads(files.facts.read_text(encoding="utf-8"))))
            told = True
        tail.read()
        watch.judge()
        if not running:
            return
        observer.moved(read_position(files.progress(0)))
        time.sleep(_POLL_S)


class _Watch:
    """Judges whether the ranks are well."""

    def __init__(self, files: SessionFiles, ranks: ForkedRanks, job: LiveJob) -> None:
        self._files = files
        self._ranks = ranks
        self._job = job
        self._ticks = -1
        self._told = False
        self._moved_at = time.monotonic()

    def judge(self) -> None:
        """Raise if a rank has failed or all have stood still for too long."""
        if self._ended():
            time.sleep(_SETTLE_S)
            raise blame_ended(self._files, self._ended())
        places = [read_position(self._files.progress(rank)) for rank in range(self._job.ranks)]
        ticks, now = sum(place.ticks for place in places), time.monotonic()
        if ticks != self._ticks:
            self._ticks, self._moved_at = ticks, now
        started = all(place.started for place in places)
        limit = self._job.timeout_s if started else self._job.join_timeout_s
        if self._job.timeout_s < now - self._moved_at < limit and not self._told:
            tell(
                f"note: --timeout {self._job.timeout_s:g} has passed; until every rank has reached its first size "
                f"--join-timeout {limit:g} holds instead"
            )
            self._told = True
        if now - self._moved_at > limit:
            raise blame_hung(places, self._ranks.stopped(), limit)

    def _ended(self) -> list[Ended]:
        return [Ended(rank, code) for rank, code in enumerate(self._ranks.codes()) if code not in (None, 0)]


class JournalTail:
    """Reads the records that rank 0 appends to the journal from now on, and tells an observer of each.

    Other runs may write there too, and people may do what they like with the file: lines that are no record of this run
    are passed over, and a file that was cut or taken away is said, once, and read again from its start.
    """

    def __init__(self, job: LiveJob, observer: Observer) -> None:
        self._path = job.out
        self._run = job.run
        self._observer = observer
        self._file, self._offset = self._now() or (0, 0)
        self.records: list[Record] = []

    def read(self) -> None:
        """Take in the lines that are whole by now."""
        now = self._now()
        if now is None or now[1] < self._offset or (self._offset and now[0] != self._file):
            self._lost()
        if now is None or now[1] == self._offset:
            return
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:  # taken away since: the next look tells
            return
        self._file = now[0]
        self._offset += len(whole) + len(newline)
        for line in filter(bytes.strip, whole.split(b"\n")):
            self._take(line)

    def _take(self, line: bytes) -> None:
        """Tell of a record, if the line is one of this run that has not been told."""
        try:
            record = record_from_json(line.decode(), str(self._path))
        except (ResultsError, UnicodeDecodeError):  # somebody else's: what rank 0 writes is whole
            return
        if getattr(record, "run", None) == self._run and record not in self.records:
            self.records.append(record)
            self._observer.measured(record)

    def _now(self) -> tuple[int, int] | None:
        """Which file it is and its size; None if it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size

    def _lost(self) -> None:
        """Say that the file is not what it was, and begin again with what it is now."""
        if self._offset:
            text = f"warning: {self._path} was cut or taken away during the run; records that were in it are lost there"
            tell(text)
        self._offset = 0
