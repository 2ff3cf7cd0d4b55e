# SPDX-License-Identifier: Apache-2.0
"""``commbench sim``: simulate a collective on a topology."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commbench.cli.first_word import by_first_word
from commbench.cli.options import (
    DEFAULT_SIZE,
    Jsonl,
    MaxBytes,
    MinBytes,
    StepBytes,
    StepFactor,
    require_collective,
    require_one_format,
    with_options_of,
    writable,
)
from commbench.errors import InputError, UnknownTimeError
from commbench.experiments.collective_options import CollectiveOptions
from commbench.tables import average_line
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.experiments.simulated import CollectiveCase
    from commbench.results.journal import Journal
    from commbench.results.records import Simulated
    from commbench.sim.collective import Simulation

__all__ = ["COMMAND", "other", "show_case", "sim"]


def other(word: str) -> str | None:
    """The module that the first word means; None for this one, the word being a collective."""
    verbs = {"train": "sim_train", "trace": "sim_trace", "flows": "sim_flows"}
    return verbs.get(word, "sim_file" if word.endswith((".yaml", ".yml")) else None)


COMMAND = {
    "cls": by_first_word(other),
    "epilog": "commbench sim train simulates a whole training step, sim trace FILE a recorded one, sim flows FILE "
    "single flows, sim FILE.yaml an experiment file.",
}


@with_options_of(CollectiveOptions)
def sim(
    collective: Annotated[str, typer.Argument(help="What to simulate, for example all-reduce.")],
    min_bytes: MinBytes = DEFAULT_SIZE,
    max_bytes: MaxBytes = None,
    factor: StepFactor = None,
    step: StepBytes = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Where the time goes; with a library's model also what it weighed."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", callback=writable, help="Append the records to this JSON Lines file.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", callback=writable, help="Write a page of it: what went where, and when.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", callback=writable, help="Write its transfers as a trace for ui.perfetto.dev (JSON)."),
    ] = None,
    json: Jsonl = False,
    form: Annotated[
        Literal["table", "nccl-tests", "nccl-tuner"],
        typer.Option("--format", help="table, nccl-tests (its text), or nccl-tuner (a tuner file of the fastest)."),
    ] = "table",
    **given: Any,
) -> None:
    """Simulate COLLECTIVE on a topology, one line per size."""
    from commbench.cli.sim_files import write_files
    from commbench.experiments.simulated import prepare

    require_one_format(form, json)
    options = CollectiveOptions(collective=require_collective(collective, "train"), **given)
    case = prepare(options, [(min_bytes, max_bytes, factor, step)], tell)
    if form == "nccl-tuner" and not case.modelled:
        raise InputError("--format nccl-tuner goes with --library nccl, not with ideal")
    records = show_case(case, _journal(out), json, form, explain=explain)
    write_files(case, records, page, trace, json)


def _journal(out: Path | None) -> "Journal | None":
    if out is None:
        return None
    from commbench.results.journal import Journal  # knows all kinds of records

    return Journal(out)


def show_case(
    case: "CollectiveCase", journal: "Journal | None", json: bool, form: str = "table", *, explain: bool = False
) -> "list[Simulated]":
    """Simulate every size of a collective, show each as it is done, and keep its record; the records."""
    from commbench.cli.progress import progress_bar
    from commbench.results.log_write import log_foot
    from commbench.units import format_bytes

    records = list["Simulated"]()
    weighed = list[tuple[int, tuple[tuple[str, float, float], ...]]]()
    unknown: UnknownTimeError | None = None
    for size in case.sizes_bytes:
        with progress_bar(f"simulating {format_bytes(size)}") as progress:
            try:
                done = case.run(size, hints=not records, progress=progress, explain=explain)
            except UnknownTimeError as error:  # others may be known
                unknown = error
                tell(f"{format_bytes(size)}: n/a: {error}")
                continue
        if journal is not None:
            journal.append(done.record)
        records.append(done.record)
        if done.links_why:
            tell(f"{format_bytes(size)}: what links carry is not known: {done.links_why}")
        weighed.append((size, done.candidates))
        if form == "nccl-tests":
            _show_log(done.record, case, header=len(records) == 1)
        elif form == "table":
            _show(done, case.element_bytes, case.unit, header=len(records) == 1, json=json, explain=explain)
    if not records and unknown is not None:
        raise unknown
    if form == "nccl-tuner":
        _show_tuner_file(case, records, weighed)
    elif records and not json:
        busbw = [record.busbw_GBps for record in records]
        put(log_foot(records[0].collective, busbw) if form == "nccl-tests" else average_line(busbw, case.unit[0]))
    return records


def _show_tuner_file(
    case: "CollectiveCase",
    records: "list[Simulated]",
    weighed: list[tuple[int, tuple[tuple[str, float, float], ...]]],
) -> None:
    """The whole sweep as rules of NCCL's tuner plugin."""
    from commbench.libraries.nccl.tuner_file import tuner_rules

    nodes = len({host for host, _, _ in case.members()})
    put("\n".join(tuner_rules(records[0].collective, weighed, nodes=nodes, ranks=records[0].ranks)))


def _show_log(record: "Simulated", case: "CollectiveCase", *, header: bool) -> None:
    """One size as nccl-tests prints it; what was simulated once stands in the columns of both placements."""
    from commbench.results.log_write import log_head, log_row

    if header:
        by = "" if record.library in ("nccl", "rccl") else f" by {record.algorithm}"  # which differ from size to size
        where = f"simulated on {record.topology}{by}, library {record.library}"
        notes = [where, "simulated once: in-place is as out-of-place"]
        if record.library_version:  # as the library itself says it
            put(f"{record.library.upper()} version {record.library_version.split(',')[0]}")
        put(log_head(record.collective, case.members(), case.sizes_bytes, notes))
    elements = record.size_bytes // record.element_bytes
    times = (record.time_s, record.time_s)
    put(log_row(record.collective, record.ranks, record.size_bytes, elements, case.dtype, times, root=record.root))


def _show(
    done: "Simulation", element_bytes: int, unit: tuple[float, str], *, header: bool, json: bool, explain: bool
) -> None:
    """One size: its line on stdout, what was folded or skipped and what would be faster on stderr."""
    from commbench.cli.tables import explained, simulated_header, simulated_row
    from commbench.units import format_bytes

    record = done.record
    if done.hint:
        tell(f"note: {done.hint}")
    if json:
        typer.echo(record.to_json())
        return
    if record.network_why:
        tell(f"{format_bytes(record.size_bytes)}: network {record.network}: {record.network_why}")
    if record.shortcut:
        tell(f"{format_bytes(record.size_bytes)}: {record.shortcut}")
    if header:
        put(simulated_header(record, unit[1]))
    put(simulated_row(record, element_bytes, unit[0]))
    if explain:
        put("\n".join(explained(record, done.candidates)))
