# SPDX-License-Identifier: Apache-2.0
"""Results in a notebook: what they say, as a DataFrame, as a figure, as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, overload

from commbench.door import Result
from commbench.errors import InputError
from commbench.report.headlines import verdicts
from commbench.report.kinds import page_title
from commbench.report.page import ReportInput, write_report
from commbench.report.plots import Rows, plot_rows
from commbench.report.plots import plot as plot_curves
from commbench.report.trace import Pass, passes_of
from commbench.results.frame import frame_of
from commbench.results.journal import read_records
from commbench.results.records import Record
from commbench.results.spans import PASSES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Results", "plot", "read"]



@dataclass(frozen=True, slots=True)
class Results(Sequence[Record]):
    """Records, each with the file that it stands in; a notebook shows what they say."""

    records: tuple[Record, ...]
    files: tuple[str, ...]

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> "Results": ...

    def __getitem__(self, place: int | slice) -> "Record | Results":
        if isinstance(place, slice):
            return Results(self.records[place], self.files[place])
        return self.records[place]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def frame(self) -> "pd.DataFrame":
        """One row a record, as :mod:`commbench.results.frame` says."""
        return frame_of(list(zip(self.files, self.records, strict=True)))

    def plot(self) -> "Figure":
        """A figure of them: see :func:`plot`."""
        return plot(self)

    def page(self, path: "Path | str") -> Path:
        """Write the page of them, as ``commbench report`` does, and return its path."""
        files = [Path(file) for file in self.files]
        return write_report(ReportInput(page_title(self.records), self.records, files), Path(path))

    def _repr_html_(self) -> str:
        """The headlines of the page, and how many records there are of each kind."""
        said = (f"<li><b>{escape(one.word)}</b> {escape(one.sentence)}</li>" for one in verdicts(self.records))
        kinds = dict.fromkeys(record.kind for record in self.records)
        counts = ", ".join(f"{sum(r.kind == kind for r in self.records)} {kind}" for kind in kinds)
        return f"<ul>{''.join(said)}</ul><p>{escape(counts) or 'no records'}</p>"


def read(*files: "Path | str", salvage: bool = False) -> Results:
    """The records of results files.

    Raises:
        ResultsError: a file cannot be read, or (without ``salvage``) a line is no whole record.
    """
    pairs = [(record, str(file)) for file in files for record in read_records(Path(file), salvage=salvage)]
    return Results(tuple(record for record, _ in pairs), tuple(file for _, file in pairs))


def plot(what: "Result | Record | Sequence[Record]") -> "Figure":
    """A figure: curves of records by size, passes of steps and pipelines by time, tasks of a result by time.

    Raises:
        InputError: there is nothing to plot; says what can be.
    """
    if isinstance(what, Result):
        return _tasks(what)
    records: list[Record] = [what] if isinstance(what, Record) else list(what)
    panels = [_passes(*found) for record in records if (found := passes_of(record)) is not None]
    return plot_rows(panels) if panels else plot_curves(records)


def _passes(title: str, lanes: Sequence[str], passes: Sequence[Pass]) -> Rows:
    return title, lanes, [(lane, PASSES[kind], begin, end) for lane, _, kind, _, begin, end in passes]


def _tasks(result: Result) -> "Figure":
    frame = result.frame()
    frame = frame[frame.end_s > frame.start_s]
    if not len(frame):
        raise InputError("no task of this result took any time: there is nothing to plot")
    rows = list(zip(frame["rank"], frame["kind"], frame["start_s"], frame["end_s"], strict=True))
    lanes = [f"rank {rank}" for rank in range(int(frame["rank"].max()) + 1)]
    return plot_rows([(result.cluster.fabric.name, lanes, rows)])
