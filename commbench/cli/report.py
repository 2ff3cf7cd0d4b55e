# SPDX-License-Identifier: Apache-2.0
"""``commbench report``: records as one HTML page."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from commbench.cli.options import Salvage

__all__ = ["report"]


def report(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines files of run, sim and validate.")],
    topology: Annotated[
        list[str] | None, typer.Option("-t", "--topology", help="Draw this one (name or path); repeat for more.")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "Collective communication",
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("report.html"),
    salvage: Salvage = False,
) -> None:
    """Write a page that holds everything it shows, and print its path."""
    from commbench.errors import InputError
    from commbench.report.page import ReportInput, write_report
    from commbench.results.journal import read_records
    from commbench.topology.load import load_topology

    notes: list[str] = []
    records = [r for path in files for r in read_records(path, salvage=salvage, on_bad=notes.append)]
    if not records:
        raise InputError(f"{', '.join(map(str, files))}: no records, so there is nothing to report")
    for note in notes:
        typer.echo(f"left out: {note}", err=True)
    page = ReportInput(
        title=title,
        records=records,
        topologies=[load_topology(name) for name in topology or ()],
        command=_command(files, topology or [], title, out, salvage),
        notes=[f"Left out: {note}" for note in notes],
    )
    typer.echo(str(write_report(page, out)))


def _command(files: list[Path], topologies: list[str], title: str, out: Path, salvage: bool) -> str:
    """What to type to get the same page."""
    words = ["commbench", "report", *map(str, files)]
    for name in topologies:
        words += ["--topology", name]
    words += ["--title", title, "--out", str(out), *(["--salvage"] if salvage else [])]
    return shlex.join(words)
