# SPDX-License-Identifier: Apache-2.0
"""Start the ranks of a run on this machine, watch over them, and let none outlive the run.

No torch here: the supervisor stays light beside the ranks it watches. Ranks end with their parent however it
ends, for the kernel kills them when the thread that started them is gone (see :mod:`commbench.live.child`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import commbench
from commbench.errors import RunError
from commbench.live.blame import Ended, blame_ended, blame_hung, is_stopped
from commbench.live.files import SessionFiles
from commbench.live.observe import Observer, SessionFacts
from commbench.live.plan import Plan
from commbench.live.progress import read_place
from commbench.results.records import Measured, record_from_json

__all__ = ["RankHost", "launch_ranks"]

_POLL_S = 0.05
_START_S = 120.0  # loading torch on a busy machine is no hang
_SETTLE_S = 0.5  # from the first rank's end to the judgement: lets the others' ends be seen
_GRACE_S = 0.5  # from asking a rank to end to ending it
_BEYOND_S = 60.0  # torch's own timeout comes later than the supervisor's, which knows more


@dataclass(frozen=True, slots=True)
class RankHost:
    """Where one rank runs, if not plainly here.

    Attributes:
        prefix: command that executes the rest of its arguments in its own place (exec, no child), for example
            ``("ip", "netns", "exec", "host0")``.
        variables: environment variables for this rank alone.
    """

    prefix: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def launch_ranks(plan: Plan, *, observer: Observer | None = None, hosts: Sequence[RankHost] = ()) -> list[Measured]:
    """Run a plan on ``plan.ranks`` processes of this machine and return the records.

    Args:
        plan: what to run.
        observer: hears of the run as it goes on.
        hosts: one per rank where ranks do not simply run here.

    Raises:
        InputError: the ranks found the plan unusable.
        RunError: a rank died, hung or failed; names the rank, how, where, and what is in the journal.
    """
    observer = observer or Observer()
    hosts = hosts or [RankHost()] * plan.ranks
    with tempfile.TemporaryDirectory(prefix="commbench-") as folder:
        files = SessionFiles(Path(folder))
        files.plan.write_text(plan.to_json(), encoding="utf-8")
        tail = _Tail(plan, observer)
        with _ranks(files, plan, hosts) as processes:
            observer.launched([process.pid for process in processes])
            watch = _Watch(files, processes, plan.timeout_s)
            try:
                _supervise(files, watch, tail, observer)
            except RunError as error:
                tail.read()
                raise RunError(f"{error}; {len(tail.records)} complete records in {plan.out}") from None
        return tail.records


def _supervise(files: SessionFiles, watch: "_Watch", tail: "_Tail", observer: Observer) -> None:
    """Return when all ranks have ended well."""
    told = False
    while True:
        running = watch.running()
        if not told and files.facts.exists():
            observer.started(SessionFacts(**json.loads(files.facts.read_text(encoding="utf-8"))))
            told = True
        tail.read()
        watch.judge()
        if not running:
            return
        observer.moved(read_place(files.progress(0)))
        time.sleep(_POLL_S)


class _Watch:
    """Judges whether the ranks are well."""

    def __init__(self, files: SessionFiles, processes: Sequence[subprocess.Popen[bytes]], timeout_s: float) -> None:
        self._files = files
        self._processes = processes
        self._timeout_s = timeout_s
        self._ticks = -1
        self._moved_at = time.monotonic()

    def running(self) -> bool:
        """Whether a rank still runs."""
        return any(process.poll() is None for process in self._processes)

    def judge(self) -> None:
        """Raise if a rank has failed or all have stood still for too long."""
        if self._ended():
            time.sleep(_SETTLE_S)
            raise blame_ended(self._files, self._ended())
        places = [read_place(self._files.progress(rank)) for rank in range(len(self._processes))]
        ticks, now = sum(place.ticks for place in places), time.monotonic()
        if ticks != self._ticks:
            self._ticks, self._moved_at = ticks, now
        started = all(place.started for place in places)
        limit = self._timeout_s if started else max(self._timeout_s, _START_S)
        if now - self._moved_at > limit:
            stopped = [rank for rank, process in enumerate(self._processes) if is_stopped(process.pid)]
            raise blame_hung(places, stopped, limit)

    def _ended(self) -> list[Ended]:
        codes = [(rank, process.poll()) for rank, process in enumerate(self._processes)]
        return [Ended(rank, code) for rank, code in codes if code not in (None, 0)]


class _Tail:
    """Reads the records that rank 0 appends to the journal during this run."""

    def __init__(self, plan: Plan, observer: Observer) -> None:
        self._path = plan.out
        self._run = plan.run
        self._observer = observer
        self._offset = plan.out.stat().st_size if plan.out.exists() else 0
        self.records: list[Measured] = []

    def read(self) -> None:
        """Take in the lines that are whole by now."""
        if not self._path.exists() or self._path.stat().st_size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            if line.strip():
                record = record_from_json(line.decode(), str(self._path))
                if isinstance(record, Measured) and record.run == self._run:  # others may write there too
                    self.records.append(record)
                    self._observer.measured(record)


@contextmanager
def _ranks(files: SessionFiles, plan: Plan, hosts: Sequence[RankHost]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The ranks' processes; none is left when the block ends."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank, host in enumerate(hosts):
            processes.append(_start(files, plan, rank, host))
        yield processes
    finally:
        _end(processes)


def _start(files: SessionFiles, plan: Plan, rank: int, host: RankHost) -> subprocess.Popen[bytes]:
    command = [*host.prefix, sys.executable, "-m", "commbench.live.child", str(files.folder), str(rank)]
    variables = _variables(plan, rank) | dict(host.variables)
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


def _variables(plan: Plan, rank: int) -> dict[str, str]:
    """The environment of a rank: the user's, and what the user left open."""
    package_root = str(Path(commbench.__file__).parent.parent)
    search = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    defaults = {"OMP_NUM_THREADS": "1"} | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})
    return (
        defaults
        | os.environ
        | {
            "RANK": str(rank),
            "WORLD_SIZE": str(plan.ranks),
            "LOCAL_RANK": str(rank),
            "PYTHONPATH": os.pathsep.join(search),
            "COMMBENCH_PARENT": str(os.getpid()),
            "COMMBENCH_GROUP_TIMEOUT": str(max(plan.timeout_s, _START_S) + _BEYOND_S),
        }
    )


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that still run: ask, then insist."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S
    _until(lambda: all(process.poll() is not None for process in running), deadline)
    for process in running:
        process.kill()
        process.wait()


def _until(done: Callable[[], bool], deadline: float) -> None:
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL_S / 5)
