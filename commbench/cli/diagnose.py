# SPDX-License-Identifier: Apache-2.0
"""``commbench diagnose``: who is to blame for slow measurements, a broken collective, or a slow step."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.options import Jsonl, Salvage, writable
from commbench.errors import CheckFailedError, InputError
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.results.diagnoses import Blamed, Diagnosed, Proposed, Suspect
    from commbench.results.records import Record

__all__ = ["blamed_text", "diagnose", "diagnosis_text"]

_MOST_SLOW = 12
"""Slow measurements that are listed; all are in the record."""
_MOST_FINDINGS = 20
_WIDTH = 78


def diagnose(
    files: Annotated[
        list[Path],
        typer.Argument(help="Results files; or one dump of torch's flight recorder, or one trace, for every rank."),
    ],
    topology: Annotated[
        str | None, typer.Option("-t", "--topology", help="That results were measured on (name or path).")
    ] = None,
    hosts: Annotated[
        Path | None, typer.Option(help="Names of the topology's hosts, one a line, where records call them otherwise.")
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="Whose times they are held against: nccl, rccl or ideal [as measured].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the diagnosis to this JSON Lines file.")
    ] = None,
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Locate slow hosts, NICs, rails, links and switches; name ranks that broke or delayed a collective.

    Exit code 1 if anything is found, or something is slow and nothing can be blamed.
    """
    from commbench.diagnose.files import blame_ranks, diagnose_files, is_of_ranks

    found: Diagnosed | Blamed
    if is_of_ranks(files):
        given = {"--topology": topology, "--hosts": hosts, "--library": library, "--salvage": salvage}
        for name, value in given.items():
            if value:
                raise InputError(f"{name} has no meaning with dumps of a flight recorder or traces")
        found = blame_ranks(files)
        sound, text = not found.findings, blamed_text(found)
    else:
        if topology is None:
            raise InputError("results need the fabric that they were measured on: give --topology NAME (or a path)")
        found = diagnose_files(files, topology, hosts, library, salvage, tell)
        sound, text = found.verdict == "healthy", diagnosis_text(found)
    if json:
        typer.echo(found.to_json())
    else:
        put(text)
    _keep(found, out)
    if not sound:
        raise CheckFailedError("something is wrong; what it is, or might be, stands above")


def _keep(found: "Record", out: Path | None) -> None:
    if out is None:
        return
    from commbench.results.journal import Journal

    Journal(out).append(found)
    tell(f"records: {out}")


def diagnosis_text(found: "Diagnosed") -> str:
    """Verdict, suspects, slow measurements, what to measure next; every line fits 80 columns."""
    from commbench.cli.tables import heading

    slow = found.num_slow
    head = heading(
        f"{found.topology}: {len(found.held)} measurements against {found.library}, {slow} slow; healthy ones scatter "
        f"by {found.noise:.1%}",
        f"verdict: {found.verdict}",
    )
    lines = [head]
    for number, one in enumerate(found.suspects, 1):
        lines += _suspect_lines(one, f"suspect {number}" if one.blamed else f"suspect {number} (not blamed)")
    for one in found.others:
        lines += _suspect_lines(one, "or else")
    lines += _slow_lines(found)
    lines += [line for one in found.proposed for line in _wrapped(_proposal(one), " next: ")]
    lines += [line for note in found.notes for line in _wrapped(note, " note: ")]
    return "\n".join(lines)


def _suspect_lines(one: "Suspect", label: str) -> list[str]:
    share = f"{one.factor:.0%} of its bandwidth ({one.low:.0%} to {one.high:.0%})"
    partners = f" with {one.partners} partners" if one.partners else ""
    lines = _wrapped(
        f"{one.parts[0]} at {share}, confidence {one.confidence:.1%}; {one.slow} of {one.touched} measurements over it "
        f"are slow{partners}",
        f" {label}: ",
    )
    if len(one.parts) > 1:
        lines += _wrapped(f"not told apart from {', '.join(one.parts[1:])}", "   ")
    if one.why_not:
        lines += _wrapped(one.why_not, "   ")
    return lines


def _slow_lines(found: "Diagnosed") -> list[str]:
    """The slowest measurements, and those that no suspect explains."""
    from commbench.tables import Column, head_text, row_text
    from commbench.units import format_bytes, format_time

    slow = sorted((one for one in found.held if one.slow), key=lambda one: -one.ratio)
    if not slow:
        return []
    columns = (
        Column("ranks", numeric=False, width=16),
        Column("collective", numeric=False, width=12),
        Column("size", width=9),
        Column("measured", width=10),
        Column("ratio", "baseline 1", width=10, form=".2f"),
        Column("suspects say", width=12, form=".2f"),
    )
    lines = [head_text(columns)]
    for one in slow[:_MOST_SLOW]:
        names = ",".join(map(str, one.ranks)) if len(one.ranks) < 5 else f"{one.ranks[0]},...,{one.ranks[-1]}"
        shown = (names, one.collective, format_bytes(one.size_bytes), format_time(one.measured_s))
        lines.append(row_text(columns, (*shown, one.ratio, one.expected)))
    if len(slow) > _MOST_SLOW:
        lines.append(f"# and {len(slow) - _MOST_SLOW} more, less slow")
    if found.unexplained:
        lines.append(f"# {len(found.unexplained)} of {len(slow)} slow measurements are not explained")
    return lines


def _proposal(one: "Proposed") -> str:
    ranks = f"ranks {one.ranks[0]} and {one.ranks[1]} ({one.names[0]}, {one.names[1]})"
    return f"measure {ranks} alone; ratio then: {one.answers}"


def _wrapped(text: str, lead: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, _WIDTH, initial_indent=lead, subsequent_indent="   ", break_on_hyphens=False)


def blamed_text(found: "Blamed") -> str:
    """The findings, the worst first; every line fits 80 columns."""
    from commbench.cli.tables import heading

    what = {"flight-recorder": "the flight recorder", "trace": "traces"}[found.source]
    head = heading(f"{what} of {found.ranks} ranks: {found.collectives} collectives looked at")
    lines = [head]
    if not found.findings:
        lines.append(" nothing is wrong with them")
    for one in found.findings[:_MOST_FINDINGS]:
        lines += _wrapped(f"{one.what}: {one.detail}", f" rank {one.rank} ")
    if len(found.findings) > _MOST_FINDINGS:
        lines.append(f"# and {len(found.findings) - _MOST_FINDINGS} more findings")
    lines += [line for note in found.notes for line in _wrapped(note, " note: ")]
    return "\n".join(lines)
