# SPDX-License-Identifier: Apache-2.0
"""One HTML page from records: it fetches nothing, computes nothing new, and is the same for the same input."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commbench.errors import InputError
from commbench.report.changes import change_parts
from commbench.report.diagnoses import diagnosis_parts
from commbench.report.draw import topology_drawing
from commbench.report.facts import (
    MOST_RUNS,
    Fact,
    environment_rows,
    environment_tables,
    numbers,
    provenance_counts,
    run_facts,
    sample_facts,
)
from commbench.report.figures import BAND, columns_for, curve_pictures, error_pictures
from commbench.report.flows import flow_parts
from commbench.report.gantt import gantt, has_transfers
from commbench.report.grouped import group_parts
from commbench.report.headlines import CALIBRATION, verdicts
from commbench.report.html import fill_page
from commbench.report.kinds import PageSection, by_section
from commbench.report.link_times import link_times
from commbench.report.live_steps import live_steps
from commbench.report.load import LOAD_RAMP
from commbench.report.packets import packet_tables
from commbench.report.plans import plan_parts
from commbench.report.queue_times import largest_queue_times
from commbench.report.style import Picture
from commbench.report.tables import (
    compared_table,
    group_table,
    job_table,
    judged_table,
    link_table,
    measured_table,
    reported_table,
    simulated_table,
)
from commbench.report.terms import time_terms
from commbench.report.text import plural
from commbench.report.training import training_section
from commbench.results.grouped import INCAST, PAIRWISE, experiment_of
from commbench.results.judged import Health
from commbench.results.outfile import write_whole
from commbench.results.records import Record, Summary
from commbench.topology.summary import host_rate

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation
    from commbench.topology.fabric import Fabric
    from commbench.topology.model import Quantity

__all__ = ["ReportInput", "render", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportInput:
    """What goes on the page; every part but the records or the topologies may be empty.

    Attributes:
        title: heading of the page.
        records: of any kind, in any order; tables keep it.
        files: the file that each record came from, in their order; empty where all came from one place.
        topologies: to draw, and whose numbers are listed with their origin.
        simulation: one simulated collective for the rank-by-time chart.
        command: the command that makes this page again.
        notes: sentences a reader must know to judge the figures.
        calibration: fitted numbers by name.
    """

    title: str
    records: Sequence[Record]
    files: Sequence[Path] = ()
    topologies: Sequence["Fabric"] = ()
    simulation: "Simulation | None" = None
    command: str = ""
    notes: Sequence[str] = ()
    calibration: "Mapping[str, Quantity] | None" = None


def render(report: ReportInput) -> str:
    """The page as HTML text.

    Raises:
        InputError: no record, no topology and no simulation: there is nothing to show.
    """
    if not (report.records or report.topologies or report.simulation):
        raise InputError(f"report {report.title!r}: no records, no topologies and no simulation: nothing to show")
    return fill_page("page.html.j2", page_context(report))


def write_report(report: ReportInput, path: Path) -> Path:
    """Write the page and return its path.

    Raises:
        InputError: nothing to show, or the file cannot be written.
    """
    return write_whole(path, render(report))


def page_context(report: ReportInput) -> dict[str, Any]:
    """Everything that the template names, in the order of the page."""
    all_records, sources = _by_file(report)
    shown = by_section(all_records)
    everything = shown[PageSection.COLLECTIVES]
    records = [r for r in everything if experiment_of(r) not in (PAIRWISE, INCAST)]  # which have pictures of their own
    errors = error_pictures(records)
    summaries = [r for r in records if isinstance(r, Summary)]
    listed = numbers(report.topologies, report.calibration)
    runs, environment = environment_rows(everything)
    return {
        "over": "commbench report",
        "title": report.title,
        "verdicts": verdicts(all_records) if all_records else [],
        "facts": [*run_facts(everything), *sources],
        "notes": list(report.notes),
        "errors": errors,
        "error_columns": columns_for(len(errors)),
        "band": f"{BAND:.0%}".replace("%", " %"),
        "compared": compared_table(records),
        "groups": [t for i, s in enumerate(summaries) if (t := group_table(s, f"groups{i}"))],
        "curves": curve_pictures(records, {t.name: host_rate(t) for t in report.topologies}),
        "terms": time_terms(records),
        "measured": measured_table(records),
        "judged": judged_table(records),
        "reported": reported_table(records),
        "simulated": simulated_table(records),
        "details": [t for t in (job_table(records), link_table(records), *packet_tables(records)) if t],
        "grouped": group_parts(everything),
        "changes": change_parts(shown[PageSection.CHANGES]),
        "diagnoses": diagnosis_parts(shown[PageSection.DIAGNOSES]),
        "gantt": gantt(report.simulation) if report.simulation and has_transfers(report.simulation) else None,
        "plans": plan_parts(shown[PageSection.PLANS]),
        "training": training_section(shown[PageSection.TRAINING]),
        "flows": flow_parts(shown[PageSection.FLOWS]),
        "live": live_steps(shown[PageSection.LIVE]),
        "topologies": [topology_drawing(t, report.simulation) for t in report.topologies],
        "link_times": _link_times(report),
        "links_why": report.simulation.links_why if report.simulation else "",
        "queue_times": largest_queue_times(records),
        "load_ramp": LOAD_RAMP,
        "numbers": listed,
        "provenance_counts": provenance_counts(listed),
        "runs": runs,
        "environment": environment if len(runs) <= MOST_RUNS else [],
        "environments": environment_tables(everything),
        "samples": sample_facts(everything),
        "factors": _factors(everything),
        "command": report.command,
    }


def _link_times(report: ReportInput) -> list[Picture]:
    """Of the fabric that was simulated on, where single transfers are kept."""
    if report.simulation is None or not has_transfers(report.simulation):
        return []
    return [found for fabric in report.topologies if (found := link_times(report.simulation, fabric))]


def _by_file(report: ReportInput) -> tuple[list[Record], list[Fact]]:
    """The records with their runs named after their files, where there are several, and which run that is."""
    files = list(dict.fromkeys(report.files))
    if len(files) < 2:
        return list(report.records), []
    short = [file.stem for file in files]
    names = dict(zip(files, short if len(set(short)) == len(short) else map(str, files), strict=True))
    runs: dict[Path, list[str]] = {file: [] for file in files}
    for record, file in zip(report.records, report.files, strict=True):
        if record.run not in runs[file]:
            runs[file].append(record.run)
    told = {
        (file, run): name if len(runs[file]) == 1 or not run else f"{name} {run.removeprefix(name)}".strip()
        for file, name in names.items()
        for run in runs[file]
    }
    told |= _calibrations(told)
    pairs = zip(report.records, report.files, strict=True)
    facts = [_runs_of(names[file], list(filter(None, found))) for file, found in runs.items() if any(found)]
    return [replace(r, run=told[f, r.run]) for r, f in pairs], [Fact("Runs", "; ".join(facts))] if facts else []


def _calibrations(told: Mapping[tuple[Path, str], str]) -> dict[tuple[Path, str], str]:
    """Runs that a step of one file alone was calibrated on, named after it wherever they lie."""
    steps = Counter(run for _, run in told)
    names = {run: name for (_, run), name in told.items() if steps[run] == 1}
    of = {key: key[1].removesuffix(CALIBRATION) for key in told if key[1].endswith(CALIBRATION)}
    return {key: f"{names[step]}{CALIBRATION}" for key, step in of.items() if step in names}


def _runs_of(name: str, runs: Sequence[str]) -> str:
    """Which runs a file holds; of many, which the tables name, how many they are."""
    if len(runs) == 1:
        return f"{name} is {runs[0]}"
    return f"{name} holds {', '.join(runs) if len(runs) <= MOST_RUNS else plural(len(runs), 'run')}"


def _factors(records: Sequence[Record]) -> list[tuple[str, int, str]]:
    """(collective, ranks, busbw factor) of every pair on the page."""
    found: dict[tuple[str, int], float] = {}
    for record in records:
        if not isinstance(record, Summary | Health):
            rated: Any = record
            found.setdefault((rated.collective, rated.ranks), rated.busbw_factor)
    return [(collective, ranks, f"{factor:.4g}") for (collective, ranks), factor in sorted(found.items())]
