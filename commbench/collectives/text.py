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

Lines ``buffers``, ``output``, ``switches`` and ``weights`` may follow ``root``; left out, they are 1, 0, 0 and equal.
Reading what was written gives the same schedule back. Blank lines and lines that start with # are skipped.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import ScheduleError

__all__ = ["digest", "from_text", "read_schedule", "to_text"]

_MAGIC = "commbench-schedule 1"
_HEADER = ("collective", "algorithm", "ranks", "chunks", "window", "root")
_MEMORY = {"buffers": "num_buffers", "output": "output", "switches": "num_switches"}  # only where not the default
_DEFAULTS = {"num_buffers": 1, "output": 0, "num_switches": 0}
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
    head = [_MAGIC, *(f"{key} {value}" for key, value in zip(_HEADER, values, strict=True))]
    for key, name in _MEMORY.items():
        if getattr(schedule, name) != _DEFAULTS[name]:
            head.append(f"{key} {getattr(schedule, name)}")
    if schedule.weights:
        head.append(f"weights {' '.join(map(str, schedule.weights))}")
    body = [
        f"{op.step} {op.rank} {op.channel} {op.kind.name.lower()} {op.peer} {op.chunk} {op.count}" for op in schedule
    ]
    return "\n".join([*head, _COLUMNS, *body]) + "\n"


def digest(schedule: Schedule) -> str:
    """16 hex digits that tell schedules apart, whatever they call themselves."""
    return sha256(to_text(schedule).encode()).hexdigest()[:16]


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
    memory, records = _memory(lines[1 + len(_HEADER) :], place)
    ops = [_record(line, f"{place}, line {number}") for number, line in records]
    try:
        return Schedule.from_ops(
            header["collective"], header["algorithm"], ranks, chunks, ops, window=window, root=root, **memory
        )
    except ScheduleError as error:
        raise ScheduleError(f"{place}: {error}") from None


def _memory(lines: list[tuple[int, str]], place: str) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """The optional headers, as attributes of the schedule, and the lines behind them."""
    memory: dict[str, Any] = {}
    while lines and lines[0][1].split()[0] in (*_MEMORY, "weights"):
        key, *words = lines[0][1].split()
        numbers = tuple(_integer(word, f"{place}, {key}") for word in words)
        if key in memory or _MEMORY.get(key) in memory or (key != "weights" and len(numbers) != 1):
            raise ScheduleError(f"{place}, line {lines[0][0]}: {lines[0][1]!r} where '{key} VALUE' may stand once")
        memory[_MEMORY.get(key, key)] = numbers if key == "weights" else numbers[0]
        lines = lines[1:]
    return memory, lines


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
