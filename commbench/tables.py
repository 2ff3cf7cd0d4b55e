# SPDX-License-Identifier: Apache-2.0
"""A table as data: columns with heading, unit, format and side; here as text, and report's templates draw it."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.units import GB, format_figure

__all__ = ["Column", "average_line", "head_text", "rate_text", "row_text"]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and how the fields below it are written.

    Attributes:
        title, under: the heading, and its second line: a unit, or what else tells it from others.
        numeric: whether fields are set to the right, as numbers are.
        folds: on a page, a column that is the same in all rows is taken out and told once above the table.
        width: as text, in characters. form: of numbers, as :func:`format` takes it.
    """

    title: str
    under: str = ""
    numeric: bool = True
    folds: bool = False
    width: int = 0
    form: str = ""

    def text(self, value: str | float | None) -> str:
        """A field; "n/a" for None."""
        text = "n/a" if value is None else value if isinstance(value, str) else format(value, self.form)
        return text.rjust(self.width) if self.numeric else text.ljust(self.width)


def head_text(columns: Sequence[Column], lead: str = "#") -> str:
    """The headings as comments: a line, and one of units where there are any."""
    lines = [[column.title for column in columns], [column.under for column in columns]]
    return "\n".join(_line(columns, line, lead) for line in lines if any(line))


def row_text(columns: Sequence[Column], values: Sequence[str | float | None], lead: str = " ") -> str:
    """One row; a first field that is a number may grow into the blank before it."""
    return _line(columns, values, lead)


def _line(columns: Sequence[Column], values: Sequence[str | float | None], lead: str) -> str:
    first, *more = (column.text(value) for column, value in zip(columns, values, strict=True))
    if len(first) > columns[0].width and columns[0].numeric:
        lead = lead.removesuffix(" ")
    return " ".join([lead + first, *more]).rstrip()


def rate_text(value_GBps: float | None, unit: float) -> str | None:  # noqa: N803  the unit is spelled as in the records
    """A bandwidth in ``unit`` bytes/s, for a field of seven characters."""
    return None if value_GBps is None else format_figure(value_GBps * GB / unit, 7)


def average_line(busbws_GBps: Sequence[float | None], unit: float = GB) -> str:  # noqa: N803
    """nccl-tests' last line, which scripts look for: the mean over the rows; what has no bus bandwidth counts as 0."""
    told = "" if unit == GB else "# the average is in GB/s, as nccl-tests prints it\n"
    return f"{told}# Avg bus bandwidth    : {sum(value or 0.0 for value in busbws_GBps) / len(busbws_GBps):g}"
