# SPDX-License-Identifier: Apache-2.0
"""``commbench report``: records as one HTML page, as Markdown, curves for papers, or a table for other programs."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl, Salvage, writable
from commbench.errors import InputError
from commbench.terminal import tell

__all__ = ["page_line", "report"]


class Format(StrEnum):
    """What is written."""

    HTML = "html"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    MD = "md"
    PNG = "png"
    PDF = "pdf"
    TRACE = "trace"


def report(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines files of run, sim and validate.")],
    topology: Annotated[
        list[str] | None, typer.Option("-t", "--topology", help="Draw this one (name or path); repeat for more.")
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Heading of the page [what is on it].")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="A page (html, md), curves (png, pdf), a row per record, or a trace of passes [as --out ends, html].",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="The file to write [report.html].")
    ] = None,
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Write a page that holds everything it shows, or a table of the records, and print its path."""
    chosen = _format(form, out)
    out = out or Path("trace.json" if chosen is Format.TRACE else f"report.{chosen}")
    if chosen not in (Format.HTML, Format.MD):
        _refuse(chosen, {"--topology": topology, "--title": title})
        path = _file(files, salvage, chosen, out)
        kind = _KINDS.get(chosen, "table")
        typer.echo(page_line(path, kind) if json else str(path))
        return
    from commbench.cli.reading import read_all, this_command
    from commbench.report.kinds import page_title
    from commbench.report.markdown import markdown
    from commbench.report.page import ReportInput, write_report
    from commbench.results.outfile import write_whole
    from commbench.topology.layout import drawable
    from commbench.topology.load import load_fabric

    notes: list[str] = []
    read = [(file, record) for file in files for record in read_all([file], salvage, on_bad=notes.append)]
    records = [record for _, record in read]
    if not records:
        raise InputError(f"{', '.join(map(str, files))}: no records, so there is nothing to report")
    for note in notes:
        tell(f"left out: {note}")
    page = ReportInput(
        title=page_title(records) if title is None else title,
        records=records,
        files=[file for file, _ in read],
        topologies=[drawable(load_fabric(name)) for name in topology or ()],
        command=this_command(),
        notes=[f"Left out: {note}" for note in notes],
    )
    path = write_report(page, out) if chosen is Format.HTML else write_whole(out, markdown(page).encode())
    typer.echo(page_line(path) if json else str(path))


def _format(form: Format | None, out: Path | None) -> Format:
    """As --format says, else as the name of the file ends."""
    if form is not None:
        return form
    suffix = "" if out is None else out.suffix.lower().removeprefix(".")
    if suffix in ("xlsx", "xls", "ods", "tsv", "svg"):
        known = ", ".join(f".{form}" for form in Format if form is not Format.TRACE)
        raise InputError(f"--out {out}: .{suffix} is not written; name it {known}, or give --format")
    return Format(suffix) if suffix in set(Format) - {Format.TRACE} else Format.HTML


def _refuse(form: Format, options: dict[str, object]) -> None:
    for name, value in options.items():
        if value:
            what = _KINDS.get(form, f"table ({form})")
            raise InputError(f"{name} has no meaning for a {what}; only pages have it")


_KINDS = {Format.TRACE: "trace", Format.PNG: "picture", Format.PDF: "picture"}


def _file(files: Sequence[Path], salvage: bool, form: Format, out: Path) -> Path:
    """Write the records of the files, one a row; their curves, or their passes."""
    from commbench.cli.reading import read_all
    from commbench.results.frame import table
    from commbench.results.outfile import write_whole

    records = [(str(file), record) for file in files for record in read_all([file], salvage)]
    if not records:
        raise InputError(f"{', '.join(map(str, files))}: no records, so there is nothing to report")
    if form is Format.TRACE:
        from commbench.report.trace import records_trace

        return write_whole(out, records_trace([record for _, record in records]))
    if form in (Format.PNG, Format.PDF):
        from commbench.report.plots import plot_file

        return write_whole(out, plot_file([record for _, record in records], form))
    return write_whole(out, table(records, form))


def page_line(path: Path, kind: str = "report") -> str:
    """A page or a picture that was written, as a JSON object of one line."""
    return json_line(kind, path=str(path))
