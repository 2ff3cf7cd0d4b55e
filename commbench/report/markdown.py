# SPDX-License-Identifier: Apache-2.0
"""A page's answers and tables as Markdown, for issues, wikis and mails."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from commbench.report.page import ReportInput, page_context
from commbench.report.tables import Cell, Table

__all__ = ["markdown"]


def markdown(report: ReportInput) -> str:
    """The verdicts of a page, and every table of it in its order."""
    context = page_context(report)
    lines = [f"# {_plain(report.title)}", ""]
    lines += [f"- **{_plain(one.word)}** {_plain(one.sentence)}" for one in context["verdicts"]]
    for table in _tables(context):
        lines += ["", *_rows(table)]
    return "\n".join(lines) + "\n"


def _tables(value: object) -> Iterator[Table]:
    """All tables in the parts of a page, in their order."""
    if isinstance(value, Table):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tables(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tables(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for own in fields(value):
            yield from _tables(getattr(value, own.name))


def _rows(table: Table) -> Iterator[str]:
    if table.title:
        yield f"## {_plain(table.title)}"
        yield ""
    if table.common:
        yield "; ".join(f"{_plain(name)}: {_plain(text)}" for name, text in table.common)
        yield ""
    yield "| " + " | ".join(_plain(f"{one.title} ({one.under})" if one.under else one.title)
                            for one in table.columns) + " |"  # fmt: skip
    yield "|" + "|".join("---:" if one.numeric else "---" for one in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(cell: Cell) -> str:
    return _plain(f"{cell.text} {cell.unit}".strip())


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
