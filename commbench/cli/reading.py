# SPDX-License-Identifier: Apache-2.0
"""Results files given on the command line, and the command line itself."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from commbench.errors import InputError
from commbench.results.journal import read_records
from commbench.results.records import Measured, Record
from commbench.terminal import tell

__all__ = ["read_all", "read_measured", "this_command"]


def this_command() -> str:
    """What the user typed, for the page that it makes."""
    return shlex.join(["commbench", *sys.argv[1:]])


def read_all(
    files: Sequence[Path], salvage: bool, on_bad: Callable[[str], None] = lambda problem: tell(f"left out: {problem}")
) -> list[Record]:
    """Every record of the files in order; with ``salvage``, ``on_bad`` hears of each line that is no record."""
    return [record for file in files for record in read_records(file, salvage=salvage, on_bad=on_bad)]


def read_measured(files: Sequence[Path], salvage: bool) -> list[Measured]:
    """The measurements among the records.

    Raises:
        InputError: there is none.
    """
    records = [record for record in read_all(files, salvage) if isinstance(record, Measured)]
    if not records:
        raise InputError(f"{', '.join(map(str, files))}: no measured record in it")
    return records
