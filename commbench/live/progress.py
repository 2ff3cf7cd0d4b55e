# SPDX-License-Identifier: Apache-2.0
"""How far a rank has come and how it ended, told to the process that supervises it through small files.

Progress is a few bytes of shared memory that a rank overwrites before each iteration (about one microsecond),
so the supervisor can say where a rank died or hangs without a word from it.
"""

import json
import mmap
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from commbench.errors import CheckFailedError, CommbenchError, InputError, RunError
from commbench.units import format_bytes

__all__ = ["TIMED", "Position", "Progress", "RankFailure", "read_failure", "read_position", "write_failure"]

TIMED = "timed iteration"  # the phase of the iterations that are measured
_LAYOUT = struct.Struct("<QqQ32sd")  # ticks, size in bytes (-1: none yet), iteration, phase, first timed iteration


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rank is in its run.

    Attributes:
        ticks: how often the rank has reported; a rank that moves has more of them.
        size_bytes: size being measured, -1 before the first.
        phase: for people, for example "timed". iteration: counted from 0 in phases that iterate.
        timed_at_s: monotonic clock, which ranks of one machine share, when the first timed iteration of all began;
            0 before.
    """

    ticks: int = 0
    size_bytes: int = -1
    phase: str = "starting"
    iteration: int = 0
    timed_at_s: float = 0.0

    @property
    def started(self) -> bool:
        """Whether the rank has reached its first size."""
        return self.size_bytes >= 0

    def __str__(self) -> str:
        if not self.started:
            return self.phase
        turn = f" {self.iteration}" if self.phase.endswith("iteration") else ""
        return f"{format_bytes(self.size_bytes)}, {self.phase}{turn}"


class Progress:
    """The writing side, in the rank.

    Args:
        path: of the shared file; None keeps the progress in this process alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._memory = mmap.mmap(-1, _LAYOUT.size)
        else:
            path.write_bytes(bytes(_LAYOUT.size))
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), _LAYOUT.size)
        self._ticks = 0
        self._size_bytes = -1
        self._timed_at_s = 0.0
        self.reach("starting")

    def size(self, size_bytes: int) -> None:
        """The rank begins this size."""
        self._size_bytes = size_bytes
        self.reach("meeting the other ranks")

    def reach(self, phase: str, iteration: int = 0) -> None:
        """The rank enters a phase, or the next iteration of one."""
        self._ticks += 1
        if phase == TIMED and not self._timed_at_s:
            self._timed_at_s = time.monotonic()
        values = (self._ticks, self._size_bytes, iteration, phase.encode(), self._timed_at_s)
        _LAYOUT.pack_into(self._memory, 0, *values)

    @property
    def place(self) -> Position:
        """Where the rank is."""
        return _decode(self._memory[:])


def read_position(path: Path) -> Position:
    """Where the rank that writes this file is; its start if it has not written yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Position()
    return _decode(data) if len(data) == _LAYOUT.size else Position()


def _decode(data: bytes) -> Position:
    ticks, size_bytes, iteration, phase, timed_at_s = _LAYOUT.unpack(data)
    text = phase.rstrip(b"\0").decode(errors="replace") or "starting"
    return Position(ticks, size_bytes, text, iteration, timed_at_s)


@dataclass(frozen=True, slots=True)
class RankFailure:
    """What a rank reports when it ends in an error.

    Attributes:
        exit_code: 1, 2 or 3 as in :mod:`commbench.errors`.
        message: one line.
        at_s: monotonic clock, which ranks of one machine share; the first failure is the cause, later ones
            follow.
    """

    exit_code: int
    message: str
    at_s: float

    def error(self) -> CommbenchError:
        """The error to raise in the supervisor."""
        kinds: dict[int, type[CommbenchError]] = {1: CheckFailedError, 2: InputError, 3: RunError}
        return kinds[self.exit_code](self.message)


def write_failure(path: Path, error: CommbenchError) -> None:
    """Leave the error for the supervisor; whole or not at all."""
    data = {"exit_code": error.exit_code, "message": str(error), "at_s": time.monotonic()}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data), encoding="utf-8")
    partial.rename(path)


def read_failure(path: Path) -> RankFailure | None:
    """The error that a rank left, if it left one."""
    try:
        return RankFailure(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
