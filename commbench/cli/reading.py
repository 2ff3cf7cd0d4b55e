# SPDX-License-Identifier: Apache-2.0
"""Results files given on the command line."""

import sys
from collections.abc import Sequence
from pathlib import Path

from commbench.errors import InputError
from commbench.results.journal import read_records
from commbench.results.records import Measured, Record

__all__ = ["read_all", "read_measured"]


def read_all(files: Sequence[Path], salvage: bool) -> list[Record]:
    """Every record of the files in order; with ``salvage``, bad lines are named on stderr and skipped."""

    def warn(problem: str) -> None:
        print(f"warning: skipped: {problem}", file=sys.stderr)

    return [record for file in files for record in read_records(file, salvage=salvage, on_bad=warn)]


def read_measured(files: Sequence[Path], salvage: bool) -> list[Measured]:
    """The measurements among the records.

    Raises:
        InputError: there is none.
    """
    records = [record for record in read_all(files, salvage) if isinstance(record, Measured)]
    if not records:
        raise InputError(f"{', '.join(map(str, files))}: no measured record in it")
    return records
