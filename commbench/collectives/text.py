# SPDX-License-Identifier: Apache-2.0
"""The text form of a schedule: one record a line, so that it reads in a diff and pastes into a bug report.

::

    commbench-schedule 1
    collective all-reduce
    algorithm ring
    ranks 2
    chunks 2
    window 1
    root 0
    # step rank channel op peer chunk count
    0 0 0 send 1 0 1
    ...

Reading what was written gives the same schedule back. Blank lines and lines that start with # are skipped.
"""

from pathlib import Path

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import ScheduleError

__all__ = ["from_text", "read_schedule", "to_text"]

_MAGIC = "commbench-schedule 1"
_HEADER = ("collective", "algorithm", "ranks", "chunks", "window", "root")
_COLUMNS = "# step rank channel op peer chunk count"


def to_text(schedule: Schedule) -> str:
    """The schedule as text, ending in a newline."""
    values = (
        schedule.collective,
        schedule.algorithm,
        schedule.num_ranks,
        schedule.num_chunks,
        schedule.window,
        schedule.root,
    )
    head = [_MAGIC, *(f"{key} {value}" for key, value in zip(_HEADER, values, strict=True)), _COLUMNS]
    body = [
        f"{op.step} {op.rank} {op.channel} {op.kind.name.lower()} {op.peer} {op.chunk} {op.count}" for op in schedule
    ]
    return "\n".join(head + body) + "\n"


def from_text(text: str, place: str = "schedule") -> Schedule:
    """The schedule written in ``text``; ``place`` (a file name) opens every error message.

    Raises:
        ScheduleError: a missing or unknown header, or a line that is not a record; names place and line.
    """
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1)]
    lines = [(i, line) for i, line in lines if line and not line.startswith("#")]
    if not lines or lines[0][1] != _MAGIC:
        raise ScheduleError(f"{place}: the first line must be {_MAGIC!r}")
    header: dict[str, str] = {}
    for (number, line), key in zip(lines[1:], _HEADER, strict=False):
        name, _, value = line.partition(" ")
        if name != key or not value:
            raise ScheduleError(f"{place}, line {number}: {line!r} where '{key} VALUE' must stand")
        header[key] = value
    if len(header) < len(_HEADER):
        raise ScheduleError(f"{place}: the header ends before {_HEADER[len(header)]!r}")
    ranks, chunks, window, root = (_integer(header[key], f"{place}, {key}") for key in _HEADER[2:])
    ops = [_record(line, f"{place}, line {number}") for number, line in lines[1 + len(_HEADER) :]]
    try:
        return Schedule.from_ops(
            header["collective"], header["algorithm"], ranks, chunks, ops, window=window, root=root
        )
    except ScheduleError as error:
        raise ScheduleError(f"{place}: {error}") from None


def read_schedule(path: Path) -> Schedule:
    """The schedule in a file.

    Raises:
        ScheduleError: the file cannot be read, or is no schedule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScheduleError(f"{path}: cannot be read: {error}") from error
    return from_text(text, str(path))


def _integer(text: str, place: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ScheduleError(f"{place}: {text!r} is not a whole number") from None
    if abs(number) >= 2**31:  # the table is int32
        raise ScheduleError(f"{place}: {text} does not fit into 32 bits")
    return number


def _record(line: str, place: str) -> Op:
    words = line.split()
    if len(words) != 7:
        raise ScheduleError(
            f"{place}: {line!r} has {len(words)} fields, a record has 7: step rank channel op peer chunk count"
        )
    kinds = {kind.name.lower(): kind for kind in Kind}
    if words[3] not in kinds:
        raise ScheduleError(f"{place}: op {words[3]!r} is unknown; known: {', '.join(kinds)}")
    step, rank, channel, peer, chunk, count = (_integer(w, place) for w in words[:3] + words[4:])
    return Op(step, rank, channel, kinds[words[3]], peer, chunk, count)
