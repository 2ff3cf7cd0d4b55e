# SPDX-License-Identifier: Apache-2.0
"""``commbench report``: records as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.options import Jsonl, Salvage

__all__ = ["page_line", "report"]


def report(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines files of run, sim and validate.")],
    topology: Annotated[
        list[str] | None, typer.Option("-t", "--topology", help="Draw this one (name or path); repeat for more.")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "Collective communication",
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("report.html"),
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Write a page that holds everything it shows, and print its path."""
    from commbench.cli.reading import read_all, tell, this_command
    from commbench.errors import InputError
    from commbench.report.page import ReportInput, write_report
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
        title=title,
        records=records,
        files=[file for file, _ in read],
        topologies=[drawable(load_fabric(name)) for name in topology or ()],
        command=this_command(),
        notes=[f"Left out: {note}" for note in notes],
    )
    path = write_report(page, out)
    typer.echo(page_line(path) if json else str(path))


def page_line(path: Path, kind: str = "report") -> str:
    """A page or a picture that was written, as a JSON object of one line."""
    import json

    return json.dumps({"kind": kind, "schema": 1, "path": str(path)})
