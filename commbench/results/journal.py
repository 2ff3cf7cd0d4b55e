# SPDX-License-Identifier: Apache-2.0
"""Records on disk: JSON Lines that survive a crash in the middle of a write.

A journal is only ever appended to. Each record is one line, flushed and synced before :meth:`Journal.append`
returns, so whatever ends the process later cannot take it back. A line that was cut (power, kill, full disk)
stays where it is; the next record starts on a line of its own.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from commbench.errors import ResultsError
from commbench.results.foreign import looks_like
from commbench.results.kinds import record_from_json
from commbench.results.outfile import require_writable
from commbench.results.records import Record

__all__ = ["Journal", "read_records"]

_NEWLINE = b"\n"


class Journal:
    """The file that records of a run are appended to.

    Attributes:
        path: of the file; it and its folder come into being with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def require_writable(self) -> None:
        """Say now rather than after an hour of measuring that nothing can be written here.

        Raises:
            ResultsError: the path is no ordinary file, or its file or nearest existing folder may not be written.
        """
        require_writable(self.path, ResultsError)

    def append(self, record: Record) -> None:
        """Write one record and return when it is on disk.

        Raises:
            ResultsError: the file cannot be written.
        """
        self.extend([record])

    def extend(self, records: Sequence[Record]) -> None:
        """Write several at once.

        Raises:
            ResultsError: as :meth:`append`.
        """
        line = b"".join(record.to_json().encode() + _NEWLINE for record in records)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                with suppress(OSError):  # where a file system has no locks, a line is still one write
                    fcntl.flock(file, fcntl.LOCK_EX)  # another run may append here too
                file.write(line if _ends_whole(self.path) else _NEWLINE + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResultsError(f"{self.path}: cannot be written: {error.strerror}") from error


def read_records(path: Path, *, salvage: bool = False, on_bad: Callable[[str], None] | None = None) -> list[Record]:
    """The records of a journal, in the order they were written.

    Args:
        path: of the file.
        salvage: skip lines that are no whole record instead of refusing the file.
        on_bad: with ``salvage``, called with one message for each line skipped.

    Raises:
        ResultsError: the file cannot be read, or (without ``salvage``) a line is not a whole record; the
            message names the line, the rule and how many records are whole.
    """
    records: list[Record] = []
    problems: list[str] = []
    data = _content(path)
    for place, line in _lines(path, data):
        try:
            records.append(_record(line, place))
        except ResultsError as error:
            problems.append(str(error))
    if problems and not records and (what := looks_like(data)):
        raise ResultsError(f"{path}: holds no records: it looks like {what}")
    if problems and not salvage:
        raise ResultsError(f"{problems[0]}; {len(records)} records are complete: --salvage reads them", len(records))
    if on_bad is not None:
        for problem in problems:
            on_bad(problem)
    return records


def _ends_whole(path: Path) -> bool:
    """Whether the file is empty or its last line has its newline."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == _NEWLINE


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ResultsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _lines(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """(place, text) of each line that is not blank."""
    for number, line in enumerate(data.split(_NEWLINE), 1):
        if line.strip():
            yield f"{path}, line {number}", line


def _record(line: bytes, place: str) -> Record:
    """The record of one line; every way a line can be wrong is a ResultsError."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ResultsError(f"{place}: not UTF-8 text; the line is damaged") from None
    return record_from_json(text, place)
