# SPDX-License-Identifier: Apache-2.0
"""The text that nccl-tests and rccl-tests print, of all releases, as the tables in it.

Between their lines may stand anything else (NCCL INFO, shell traces, prose around an excerpt); before each line what
MPI, Slurm, Kubernetes and Ray put there to say who printed it, or the mark of a quotation. Where somebody took the
hashes of comments away, as pages do to whom they mean headings, lines are known by their words.
"""

import re

from commbench.errors import InputError
from commbench.results.log_rows import RowError, read_header, read_row
from commbench.results.log_tables import LogTable

__all__ = ["looks_like_text", "tables_of_text"]

_TAG = re.compile(
    r"^(?:>[ ]?)*"  # a quotation of mail or Markdown
    r"(?:\([\w.-]{1,99}, rank=\d+, pid=\d+(?:, ip=[\w.:]{1,45})?\) )?"  # Ray, as SkyPilot starts it
    r"(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) )?"  # kubectl logs --timestamps
    r"(?:\s*(?:\[\d+,\d+\](?:<std(?:out|err|diag)>)?:?|\d+:(?=[\s#])|\[[\w.-]*\d\](?=\s|#)) ?)?"
)
_BARE = re.compile(
    r"\s*(?:nThread\s+\d|size\s+count\s.*busbw|\(B\)\s+\(elements\)|Rank\s+\d+\s+(?:Group|Pid)\s|nccl-tests version\s"
    r"|Collective test starting:|Out of bounds values\s*:|Avg bus bandwidth\s*:)"
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ROW = re.compile(r"\s*\d+\s+\d+(\s|$)")
_STARTING = re.compile(r"# *Collective test starting: *([a-z_]{1,40})_perf")
_PROGRAM = re.compile(
    r"(all_reduce|all_gather|reduce_scatter|broadcast|reduce|alltoallv|alltoall|gather|scatter|sendrecv|hypercube)_perf"
)
_RUN = re.compile(r"#\s*nThread\s+(\d{1,7})\s+nGpus\s+(\d{1,7})\b(.*)")
_STEP = re.compile(r"step:\s*(\d{1,18}(?:\.\d{0,9})?)\b\s*\((factor|bytes)\)")
_RANK = re.compile(
    r"#?\s*Rank\s+(\d{1,7})(?:\s+Group\s+(\d{1,7}))?\s+Pid\s+-?\d+\s+on\s+(\S+)\s+device\s+\d+\s*(?:\[[^\]]*\])?\s*(.*)"
)
_VERSION = re.compile(r"\b([NR]CCL) version\s*:?\s*(\d+(?:\.\d+){1,3})")
_LIBRARY = re.compile(r"nccl-library=(\d{4,6})\b")
_AVERAGE = re.compile(r"#\s*Avg bus bandwidth\s*:\s*([-+\d.eE]+)\s*(FAILED)?")
_WRONG = re.compile(r"#\s*Out of bounds values\s*:\s*\d+\s+(OK|FAILED)")
_UNITS = frozenset({"(B)", "(elements)", "(us)", "(GB/s)", "(%)"})
_OWN_RANKS = re.compile(r"# commbench \S+: .*\b(\d{1,7}) ranks\b")
_MOST_PROBLEMS = 20
_LEAST_FIELDS = 7  # of a row: size, count, type, and a time with what goes with it


def looks_like_text(text: str) -> bool:
    """Whether it is such a log at all."""
    return re.search(r"\bsize\s+count\b.*\bbusbw\b", text) is not None


def tables_of_text(text: str, place: str) -> list[LogTable]:
    """The tables of a log, in order; ``place`` opens messages.

    Raises:
        InputError: a table whose columns or units are not those of nccl-tests; names the line.
    """
    reader = _Reader(place)
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        reader.take(number, _ANSI.sub("", _TAG.sub("", line)))
    return reader.tables


class _Reader:
    """Goes through a log line by line; the last of ``tables`` is being filled."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._above = ""
        self._units_due = False
        self.tables = [LogTable(1)]

    def take(self, number: int, line: str) -> None:
        """One line, without what stands before it."""
        table = self.tables[-1]
        line = f"#{line}" if _BARE.match(line) else line
        if _ROW.match(line) and not line.lstrip().startswith("#"):
            self._row(number, line)
        elif line.lstrip().startswith("#"):
            self._comment(number, line.strip())
        elif line.startswith("rccl-tests:"):
            self._known(number).library = "RCCL"
        elif match := _VERSION.search(line):
            self._known(number).library, self._known(number).version = match[1], match[2]
        elif (match := _PROGRAM.search(line)) and (table.ended or not table.program):
            self._known(number).program = match[1]
        if line.strip():
            self._above = line

    def _known(self, number: int) -> LogTable:
        return self._fresh(number, "version") if self.tables[-1].ended else self.tables[-1]

    def _fresh(self, number: int, what: str) -> LogTable:
        """The table that what is told before a table belongs to: a new one if the last has its rows."""
        table = self.tables[-1]
        if table.rows or (table.header is not None and what == "run"):
            table = LogTable(number)
            self.tables.append(table)
        elif table.header is None and not table.program and not table.members:
            table.line = number
        return table

    def _row(self, number: int, line: str) -> None:
        table = self.tables[-1]
        if table.header is None:
            if len(self.tables) > 1 and len(line.split()) >= _LEAST_FIELDS:
                table.problems.append(f"line {number}: a row before the header of its table; left out")
            return
        if table.ended:
            table.problems.append(f"line {number}: a row behind the last line of its table; left out")
            return
        try:
            table.rows.append((number, read_row(line, table.header)))
        except RowError as error:
            if len(table.problems) < _MOST_PROBLEMS:
                table.problems.append(f"line {number}: left out, {error}")

    def _comment(self, number: int, line: str) -> None:
        names = line.lstrip("#").split()
        if self._units_due:
            self._units_due = False
            self._require_units(number, names)
        if match := _RUN.match(line):
            self._run(number, match)
        elif match := _STARTING.match(line):
            self._fresh(number, "run").program = match[1]
        elif match := _RANK.match(line):
            self._fresh(number, "rank").members[int(match[1])] = (int(match[2] or 0), match[3], match[4].strip())
        elif {"size", "count", "busbw"} <= set(names):
            self._header(number, names)
        elif match := _LIBRARY.search(line):
            code = int(match[1])
            table = self._fresh(number, "version")
            table.library = table.library or "NCCL"
            major, minor, patch = (code // 10000, code // 100 % 100, code % 100) if code >= 10000 else (
                code // 1000, code // 100 % 10, code % 100)  # fmt: skip
            table.version = f"{major}.{minor}.{patch}"
        elif match := _OWN_RANKS.match(line):
            self._fresh(number, "rank").ranks = int(match[1])
        else:
            self._footer(number, line)

    def _require_units(self, number: int, names: list[str]) -> None:
        odd = [name for name in names if name.startswith("(") and name not in _UNITS]
        if odd and "(B)" in names:
            raise InputError(
                f"{self._place}, line {number}: a column is in {odd[0]}; nccl-tests prints bytes, us and GB/s"
            )

    def _run(self, number: int, match: re.Match[str]) -> None:
        table = self._fresh(number, "run")
        each = int(match[1]) * int(match[2])
        table.each = each if 0 < each <= 2**20 else None
        step = _STEP.search(match[3])
        if step and float(step[1]) > 0:
            table.step, table.additive = float(step[1]), step[2] == "bytes"

    def _header(self, number: int, names: list[str]) -> None:
        names = ["#wrong" if name == "wrong" else name for name in names]  # its hash goes as the line's own does
        try:
            header = read_header(names, self._above)
        except RowError as error:
            raise InputError(f"{self._place}, line {number}: {error}") from None
        self._fresh(number, "header").header = header
        self._units_due = True

    def _footer(self, number: int, line: str) -> None:
        table = self.tables[-1]
        if match := _WRONG.match(line):
            table.ended, table.failed = True, table.failed or match[1] == "FAILED"
        elif match := _AVERAGE.match(line):
            table.ended, table.slow = True, table.slow or bool(match[2])
            try:
                table.average = float(match[1])
            except ValueError:
                table.problems.append(f"line {number}: the average {match[1][:40]!r} is no number")
        elif re.match(r"#\s*Testing \d+ cycle", line):
            table.cycles.append(number)
