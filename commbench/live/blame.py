# SPDX-License-Identifier: Apache-2.0
"""Which rank is at fault when a run fails, and how to say it in one line.

When one rank dies, the others fail moments later because their connections break. The cause is, in this
order: a rank killed by a signal, a rank that ended without a word, a rank that found its input unusable, the
rank that reported a failure first.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commbench.errors import CommbenchError, RunError
from commbench.live.files import SessionFiles
from commbench.live.progress import Position, read_failure, read_position

__all__ = ["Ended", "RankError", "blame_ended", "blame_hung", "is_stopped"]


class RankError(RunError):
    """A run failed by the fault of some ranks."""

    def __init__(self, message: str, ranks: Sequence[int]) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
"""Signals that say nothing of what the rank printed last; others come from a crash, and it may have said why."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A rank whose process ended with an error.

    Attributes:
        code: exit code; negative is minus the signal that killed it, as subprocess says it.
    """

    rank: int
    code: int


def blame_ended(files: SessionFiles, ended: Sequence[Ended]) -> CommbenchError:
    """The error to raise when these ranks have ended and the run has not."""
    for one in ended:
        if one.code < 0:
            why = "" if -one.code in _FROM_OUTSIDE else _last_line(files.output(one.rank))
            return _died(files, one, f"was killed by {_signal_name(-one.code)}" + (f" ({why})" if why else ""))
    failures = [(read_failure(files.failure(one.rank)), one) for one in ended]
    for failure, one in failures:
        if failure is None:
            last = _last_line(files.output(one.rank))
            return _died(files, one, f"ended with exit code {one.code}" + (f" ({last})" if last else ""))
    told = [(failure, one.rank) for failure, one in failures if failure is not None]
    first, rank = min(told, key=lambda told: (told[0].exit_code == RunError.exit_code, told[0].at_s))
    return RankError(first.message, [rank]) if first.exit_code == RunError.exit_code else first.error()


def blame_hung(places: Sequence[Position], stopped: Sequence[int], silent_s: float) -> RunError:
    """The error to raise when no rank has moved for ``silent_s`` seconds.

    Args:
        places: of all ranks, in rank order.
        stopped: ranks whose process is stopped (SIGSTOP, a debugger).
        silent_s: seconds without progress.
    """
    least = min(place.ticks for place in places)
    behind = [rank for rank, place in enumerate(places) if place.ticks == least]
    ranks = list(stopped) or behind
    names = ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
    why = " (stopped by a signal)" if stopped else ""
    if len(ranks) == len(places) > 1:
        why = " (all ranks wait for each other)" if not stopped else why
    limit = "" if all(place.started for place in places) else " (--join-timeout)"
    return RankError(f"{names} made no progress for {silent_s:g} s{limit} at {places[ranks[0]]}{why}", ranks)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped; False where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")


def _died(files: SessionFiles, one: Ended, how: str) -> RunError:
    return RankError(f"rank {one.rank} {how} at {read_position(files.progress(one.rank))}", [one.rank])


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _last_line(path: Path) -> str:
    """The last line that a rank printed, empty if none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:200] if lines else ""
