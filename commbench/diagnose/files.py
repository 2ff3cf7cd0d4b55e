# SPDX-License-Identifier: Apache-2.0
"""Files that are diagnosed: which kind they are, and what is found in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from commbench.diagnose.broken import broken_by
from commbench.diagnose.flight import is_dump, read_dump
from commbench.diagnose.straggler import stragglers
from commbench.errors import InputError, unknown
from commbench.libraries.base import LIBRARIES
from commbench.results.diagnoses import Blamed, Diagnosed
from commbench.results.journal import read_records
from commbench.results.records import Measured
from commbench.results.run_id import new_run_id
from commbench.topology.host_names import read_host_names
from commbench.topology.load import load_fabric

__all__ = ["blame_ranks", "diagnose_files", "is_of_ranks"]

_LOOKED_AT = 2**16
RESULTS, DUMP, TRACE = "results", "a dump of a flight recorder", "a trace"


def is_of_ranks(files: Sequence[Path]) -> bool:
    """Whether the files are dumps or traces, one of each rank, rather than results.

    Raises:
        InputError: they are of different kinds, or one cannot be read.
    """
    kinds = {file: _kind(file) for file in files}
    if len(set(kinds.values())) > 1:
        first, other = files[0], next(file for file in files if kinds[file] != kinds[files[0]])
        raise InputError(f"{first} is {kinds[first]} and {other} is {kinds[other]}: give files of one kind")
    return kinds[files[0]] != RESULTS


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if head[:2] == b"\x1f\x8b" or b'"traceEvents"' in head:
        return TRACE
    return DUMP if is_dump(head) else RESULTS


def blame_ranks(files: Sequence[Path]) -> Blamed:
    """The ranks that broke or delayed a collective.

    Raises:
        InputError: a file that cannot be used.
    """
    if _kind(files[0]) == DUMP:
        return broken_by([read_dump(file) for file in files], new_run_id())
    from commbench.workload.traces.read import read_trace

    return stragglers([read_trace(file) for file in files], new_run_id())


def diagnose_files(
    files: Sequence[Path],
    topology: str,
    hosts: Path | None = None,
    library: str | None = None,
    salvage: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Diagnosed:
    """What the measurements of results files say of a fabric.

    Args:
        files: of results. topology: name or path. hosts: file with the names of its hosts. library: whose times they
            are held against; None goes by the records. salvage: read whole records of files that were cut.
        tell: hears what was left out.

    Raises:
        InputError: something that cannot be used; says what.
    """
    from commbench.diagnose.expect import Simulator
    from commbench.diagnose.judge import diagnose
    from commbench.diagnose.measurement import measurements_of

    if library not in (None, *LIBRARIES):
        raise InputError(f"--library {library!r} {unknown(library, LIBRARIES)}")
    fabric = load_fabric(topology)
    names = None if hosts is None else read_host_names(hosts, fabric)
    read = [record for file in files for record in read_records(file, salvage=salvage, on_bad=_left_out(tell))]
    records = [record for record in read if isinstance(record, Measured)]
    if not records:
        raise InputError(f"{', '.join(map(str, files))}: no measured record in it")
    if single := sum(record.ranks < 2 for record in records):
        tell(f"left out: {single} records of one rank, which crosses no link")
    return diagnose(measurements_of(records, fabric, names), Simulator(fabric, library), new_run_id())


def _left_out(tell: Callable[[str], None]) -> Callable[[str], None]:
    return lambda problem: tell(f"left out: {problem}")
