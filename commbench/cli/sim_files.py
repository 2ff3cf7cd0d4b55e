# SPDX-License-Identifier: Apache-2.0
"""What ``commbench sim COLLECTIVE`` writes beside its table: a page (``--page``), and a trace (``--trace``)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from commbench.errors import InputError
from commbench.terminal import tell

if TYPE_CHECKING:
    from commbench.experiments.simulated import CollectiveCase
    from commbench.results.records import Simulated
    from commbench.sim.collective import Simulation

__all__ = ["write_files"]


def write_files(
    case: "CollectiveCase", records: "Sequence[Simulated]", page: Path | None, trace: Path | None, json: bool
) -> None:
    """Simulate the largest size once more, with its spans, and write what was asked for."""
    if not records or (page is None and trace is None):
        return
    from commbench.cli.report import page_line
    from commbench.report.trace import collective_trace
    from commbench.results.outfile import write_whole

    notes: list[str] = []
    largest = max(records, key=lambda record: record.size_bytes)
    simulation = _in_full(case, largest, notes)
    for note in notes:
        tell(f"note: {note}")
    if page is not None:
        shown = [simulation.record if record is largest else record for record in records]
        path = _page(case, shown, simulation, page, notes)
        typer.echo(page_line(path)) if json else tell(f"page: {path}")
    if trace is not None:
        path = write_whole(trace, collective_trace(simulation, case.fabric))
        typer.echo(page_line(path, "trace")) if json else tell(f"trace: {path} (ui.perfetto.dev opens it)")


def _page(
    case: "CollectiveCase", records: "Sequence[Simulated]", simulation: "Simulation", page: Path, notes: Sequence[str]
) -> Path:
    from commbench.cli.reading import this_command
    from commbench.report.page import ReportInput, write_report
    from commbench.topology.layout import MOST_HOSTS

    record = simulation.record
    shown = ReportInput(
        title=f"Simulated {record.collective} on {record.topology}",
        records=records,
        topologies=[case.fabric] if case.fabric.num_hosts <= MOST_HOSTS else [],
        simulation=simulation,
        command=this_command(),
        notes=notes,
    )
    return write_report(shown, page)


def _in_full(case: "CollectiveCase", largest: "Simulated", notes: list[str]) -> "Simulation":
    """With link loads, terms and spans, as far as there are any: what there is not is told in the notes."""
    how = {"links": True, "explain": case.modelled or (largest.detail == "transfer" and not largest.jobs)}
    while True:
        try:
            return case.run(largest.size_bytes, keep_trace=True, **how)
        except InputError as error:  # routes that move: no bytes by link, no terms
            missing = next((name for name in how if how[name] and f"--{name} " in str(error)), None)
            if missing is None:
                raise
            notes.append(f"not here: {error}")
            how[missing] = False
