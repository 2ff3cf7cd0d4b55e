# SPDX-License-Identifier: Apache-2.0
"""Whose fault it is when ranks that others started do not go on: decided from their heartbeats alone.

No torch and no store here: what ranks say goes in, a verdict comes out (``live.watch`` carries both). The cause is, in
this order: a rank whose process is gone or stopped, a rank that is heard no longer, a rank that found its input
unusable, the rank that reported a failure first, the rank that is behind.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commbench.errors import CheckFailedError, CommbenchError, InputError, RunError
from commbench.live.seats import ranks_text

__all__ = [
    "DONE",
    "FAILED",
    "GONE",
    "GRACE_S",
    "RUNNING",
    "STOPPED",
    "TOLD",
    "Beat",
    "Judge",
    "RunVerdict",
    "Who",
    "own_place",
    "process_state",
]

RUNNING, FAILED, TOLD, DONE = "running", "failed", "told to end", "done"
GRACE_S = 3.0  # after the first trouble a rank that lives is heard within this
_SILENT_S = 3.0
_TOLD_CODE = 143  # 128 + SIGTERM, as shells say it
GONE, STOPPED = "gone", "stopped"


@dataclass(frozen=True, slots=True)
class Who:
    """Where a rank is.

    Attributes:
        rank: its number. host, device, pid: for people.
        place: where process ids mean the same: kernel and namespace.
    """

    rank: int
    host: str = ""
    device: str = ""
    pid: int = 0
    place: str = ""

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.host, self.device)))
        return f"rank {self.rank} ({where})" if where else f"rank {self.rank}"


@dataclass(frozen=True, slots=True)
class Beat:
    """What a rank says of itself, twice a second.

    Attributes:
        count: of its beats. ticks, started, place: see :class:`~commbench.live.progress.Position`.
        state: RUNNING, FAILED, TOLD (by a signal) or DONE.
        error, code: of a failure; order: how many had failed before it.
    """

    count: int = 0
    ticks: int = 0
    started: bool = False
    place: str = "starting"
    state: str = RUNNING
    error: str = ""
    code: int = RunError.exit_code
    order: int = 0


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """How a run ends.

    Attributes:
        code: exit code of every rank; 0 if all is well. message: one line. guilty: ranks at fault.
        living: ranks that can still hear it.
    """

    code: int
    message: str = ""
    guilty: tuple[int, ...] = ()
    living: tuple[int, ...] = ()

    def error(self) -> CommbenchError | SystemExit:
        """What each rank raises."""
        kinds: dict[int, type[CommbenchError]] = {1: CheckFailedError, 2: InputError, 3: RunError}
        return kinds[self.code](self.message) if self.code in kinds else SystemExit(self.code)


def own_place() -> str:
    """Where the process ids that this process sees mean something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_state(pid: int) -> str:
    """Whether a process of this place is "gone" or "stopped"; "" if it is neither, or nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return GONE if Path("/proc/self").exists() else ""
    except OSError:
        return ""
    letter = stat.rpartition(")")[2].split()[0]
    return GONE if letter in ("Z", "X") else STOPPED if letter in ("T", "t") else ""


@dataclass(slots=True)
class Judge:
    """Hears of the beats of all ranks, again and again.

    Attributes:
        whos: of all ranks, in rank order. timeout_s, join_timeout_s: as of a job.
        place: of the judge's own process. state_of: of a process; "" where nobody can tell.
        clock: monotonic seconds.
    """

    whos: Sequence[Who]
    timeout_s: float
    join_timeout_s: float
    place: str = ""
    state_of: Callable[[int], str] = process_state
    clock: Callable[[], float] = time.monotonic
    _beats: list[Beat] = field(init=False)
    _seen_at: list[float] = field(init=False)
    _trouble_at: float | None = field(init=False, default=None)
    _ticks: int = field(init=False, default=-1)
    _moved_at: float = field(init=False)

    def __post_init__(self) -> None:
        now = self.clock()
        self._beats, self._seen_at, self._moved_at = [Beat() for _ in self.whos], [now] * len(self.whos), now

    def seen_s_ago(self, rank: int) -> float:
        """Seconds since a rank was heard."""
        return self.clock() - self._seen_at[rank]

    @property
    def places(self) -> list[str]:
        """For people: each rank, what it last said and where it was."""
        pairs = zip(self.whos, self._beats, strict=True)
        return [f"{who}: {beat.state} at {beat.place}" for who, beat in pairs]

    def hear(self, beats: Sequence[Beat | None]) -> RunVerdict | None:
        """What ranks have said last, None for one that never has; a verdict once it is clear what is wrong, or that
        all are done."""
        now = self.clock()
        for rank, beat in enumerate(beats):
            if beat is not None and beat.count != self._beats[rank].count:
                self._beats[rank], self._seen_at[rank] = beat, now
        if all(beat.state == DONE for beat in self._beats):
            return RunVerdict(0)
        running = [rank for rank, beat in enumerate(self._beats) if beat.state == RUNNING]
        gone = {rank: state for rank in running if (state := self._process(rank))}
        if dead := [rank for rank, state in gone.items() if state == GONE]:
            return self._blame(dead, "is gone (killed, or it crashed)", dead)
        if any(beat.state in (FAILED, TOLD) for beat in self._beats):
            return self._after_trouble(now, running, list(gone))
        return self._of_hung(now, running, list(gone))

    def _process(self, rank: int) -> str:
        who = self.whos[rank]
        return self.state_of(who.pid) if self.place and who.place == self.place else ""

    def _after_trouble(self, now: float, running: list[int], stopped: list[int]) -> RunVerdict | None:
        """A rank has failed, or was told to end: find out whether that is the cause or follows from another's end."""
        if self._trouble_at is None:
            self._trouble_at = now
        if stopped:
            return self._blame(stopped, "is stopped by a signal", stopped)
        silent = [rank for rank in running if self._seen_at[rank] <= self._trouble_at]
        if not silent:
            return self._reported()
        if now - self._trouble_at <= GRACE_S:
            return None
        return self._blame(silent, self._silence(now, silent), silent)

    def _of_hung(self, now: float, running: list[int], stopped: list[int]) -> RunVerdict | None:
        """Nobody has failed: do they go on?"""
        self._trouble_at = None
        ticks = sum(beat.ticks for beat in self._beats)
        if ticks != self._ticks:
            self._ticks, self._moved_at = ticks, now
        started = all(beat.started for beat in self._beats)
        limit, option = (self.timeout_s, "") if started else (self.join_timeout_s, " (--join-timeout)")
        if now - self._moved_at <= limit:
            return None
        held = f"made no progress for {limit:g} s{option}"
        if stopped:
            return self._blame(stopped, held, stopped, " (stopped by a signal)")
        if silent := [rank for rank in running if now - self._seen_at[rank] > _SILENT_S]:
            return self._blame(silent, self._silence(now, silent), silent)
        least = min(self._beats[rank].ticks for rank in running)
        behind = [rank for rank in running if self._beats[rank].ticks == least]
        together = " (all ranks wait for each other)" if len(behind) == len(self.whos) > 1 else ""
        return self._blame(behind, held, [], together)

    def _silence(self, now: float, silent: Sequence[int]) -> str:
        since = now - max(self._seen_at[rank] for rank in silent)
        return f"gave no sign of life for {since:.0f} s (process, host or network)"

    def _reported(self) -> RunVerdict:
        """The cause among the failures that ranks have told."""
        failed = [(rank, beat) for rank, beat in enumerate(self._beats) if beat.state == FAILED]
        living = tuple(range(len(self.whos)))
        if not failed:
            return RunVerdict(_TOLD_CODE, "told to end by a signal", (), living)
        rank, beat = min(failed, key=lambda one: (one[1].code == RunError.exit_code, one[1].order))
        where = str(self.whos[rank]).partition(" (")[2]
        return RunVerdict(beat.code, f"{beat.error} ({where}" if where else beat.error, (rank,), living)

    def _blame(self, ranks: Sequence[int], how: str, lost: Sequence[int], why: str = "") -> RunVerdict:
        if len(ranks) == 1:
            named = str(self.whos[ranks[0]])
        else:
            hosts = ", ".join(dict.fromkeys(self.whos[rank].host for rank in ranks if self.whos[rank].host))
            named = ranks_text(ranks) + (f" ({hosts})" if hosts else "")
            how = how.replace("is ", "are ", 1) if how.startswith("is ") else how
        living = tuple(rank for rank in range(len(self.whos)) if rank not in lost)
        message = f"{named} {how} at {self._beats[ranks[0]].place}{why}"
        return RunVerdict(RunError.exit_code, message, tuple(ranks), living)
