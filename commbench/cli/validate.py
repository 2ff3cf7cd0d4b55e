# SPDX-License-Identifier: Apache-2.0
"""``commbench validate``: predictions held against measurements that they have not seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commbench.cli.import_log import LogCollective, LogRanks
from commbench.cli.json_line import json_line
from commbench.cli.options import Jsonl, Salvage, writable_folder
from commbench.cli.validate_log import validate_logs
from commbench.errors import CheckFailedError, InputError
from commbench.experiments.validation import Part, circumstances, keep, measure_here, measure_in_fabrics
from commbench.terminal import put, tell

if TYPE_CHECKING:
    from commbench.validate.lab_judge import Agreement, LabPoint

__all__ = ["MAX_MEDIAN", "MAX_P95", "agreement_table", "validate"]

# What a loopback on a busy laptop can be held to; an emulated fabric must do better (see README).
MAX_MEDIAN, MAX_P95 = 0.10, 0.30


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Measured runs; left out, this machine is measured now.")
    ] = None,
    min_bytes: Annotated[str | None, typer.Option("-b", "--minbytes", help="Smallest size to measure [64K].")] = None,
    max_bytes: Annotated[str | None, typer.Option("-e", "--maxbytes", help="Largest size to measure [16M].")] = None,
    factor: Annotated[float | None, typer.Option("-f", "--stepfactor", help="Factor between sizes [2].")] = None,
    iters: Annotated[int | None, typer.Option("-n", "--iters", help="Timed iterations per size [20].")] = None,
    max_median: Annotated[
        float | None, typer.Option(help=f"Largest median |error| that passes [{MAX_MEDIAN}].")
    ] = None,
    max_p95: Annotated[
        float | None, typer.Option(help=f"Largest 95th percentile of |error| that passes [{MAX_P95}].")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            callback=writable_folder,
            help="Folder for records and report [runs/validate; runs/emulated].",
        ),
    ] = None,
    emulated: Annotated[
        bool, typer.Option("--emulated", help="On fabrics of network namespaces instead; goes on where it stopped.")
    ] = False,
    part: Annotated[
        Part | None, typer.Option(help="Of the emulated campaign: all, what fits into a test, or the wide part [all].")
    ] = None,
    topology: Annotated[
        str | None,
        typer.Option("-t", "--topology", help="Judge logs of nccl-tests by this machine; with --emulated, emulate it."),
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="Whose times logs are held against: nccl, rccl or ideal [what the GPUs take].")
    ] = None,
    collective: LogCollective = None,
    ranks: LogRanks = None,
    ranks_per_host: Annotated[
        int | None, typer.Option(help="Ranks on each host, where a log does not name hosts; all if left out.")
    ] = None,
    steps: Annotated[
        list[Path] | None, typer.Option("--steps", help="CSV of measured training steps, held against the closed form.")
    ] = None,
    step_costs: Annotated[
        Path | None, typer.Option("--step-costs", help="Constants of your own (commbench calibrate --steps).")
    ] = None,
    json: Jsonl = False,
    salvage: Salvage = False,
) -> None:
    """Fit on ring at 4 ranks, every second size; predict the other sizes, the double binary tree, and 3 ranks.

    With --emulated: fit on one star, gloo's own all-reduce; predict all other fabrics, collectives and algorithms, or
    those of --topology NAME, plain hosts joined by switches.
    LOG --topology NAME holds a log of nccl-tests against what that machine should do, size by size.
    With --steps: predict training steps, nothing is fitted.
    """
    if topology is not None and not emulated:
        measuring = {"--part": part, "-b": min_bytes, "-e": max_bytes, "-f": factor}
        _refuse(measuring | {"-n": iters, "--max-median": max_median, "--max-p95": max_p95}, "with --topology")
        return validate_logs(files or [], topology, library, collective, ranks, ranks_per_host, out, json)
    logs = {"--library": library, "--collective": collective, "--ranks": ranks, "--ranks-per-host": ranks_per_host}
    _refuse(logs, "without --topology")
    if steps:
        _refuse({"--part": part, "-b": min_bytes, "-e": max_bytes, "-f": factor, "-n": iters}, "with --steps")
        _steps([*steps, *(files or [])], step_costs, json)
        return
    _refuse({"--step-costs": step_costs}, "without --steps")
    if emulated:
        loopback = {"-b": min_bytes, "-e": max_bytes, "-f": factor, "-n": iters}
        _refuse(loopback | {"--max-median": max_median, "--max-p95": max_p95}, "with --emulated")
        _refuse({"--part": part, "--topology": topology} if files else {}, "with files of runs")
        _refuse({"--part": part} if topology else {}, "with --topology")
        _emulated(files, topology or part or Part.ALL, out or Path("runs/emulated"), json, salvage)
        return
    _refuse({"--part": part}, "without --emulated")
    sizes = (min_bytes, max_bytes, factor, iters)
    bars = MAX_MEDIAN if max_median is None else max_median, MAX_P95 if max_p95 is None else max_p95
    _loopback(files, sizes, bars, out or Path("runs/validate"), json, salvage)


def _loopback(
    files: list[Path] | None,
    sizes: tuple[str | None, str | None, float | None, int | None],
    bars: tuple[float, float],
    out: Path,
    json: bool,
    salvage: bool,
) -> None:
    """Fit and judge runs on this machine: those of the files, or new ones of these sizes."""
    from commbench.cli.reading import read_measured, this_command
    from commbench.cli.tables import compared_table
    from commbench.report.page import ReportInput, write_report
    from commbench.results.run_id import new_run_id
    from commbench.validate.campaign import judge

    name = new_run_id()
    if files:
        if any(option is not None for option in sizes):
            raise InputError("-b, -e, -f and -n say what to measure; they have no meaning with files of runs")
        records = read_measured(files, salvage)
    else:
        runs = out / f"{name}-runs.jsonl"
        first, last, factor, iters = sizes
        records = measure_here(first or "64K", last or "16M", factor or 2, iters or 20, runs, tell)
    source = f"commbench validate, ring on 4 ranks, every second size, {records[0].started_at}"
    journal = out / f"{name}-validation.jsonl"
    found = judge(records, max_median=bars[0], max_p95=bars[1], source=source, out=journal)
    if found.num_native:
        tell(f"not compared: {found.num_native} records of the backend's own collectives")
    verdict = [*found.compared, found.summary]
    if json:
        typer.echo("\n".join(r.to_json() for r in verdict))
    else:
        put(compared_table(found.compared, found.summary))
    machine = found.machine.topology(4)
    page = ReportInput(
        title="commbench validate",
        records=[*records, *verdict],
        topologies=[machine],
        command=this_command(),
        calibration=machine.numbers,
    )
    tell(f"records: {journal}\nreport: {write_report(page, out / f'{name}-report.html')}")
    if not found.summary.ok:
        raise CheckFailedError("validation fell short of its thresholds; the table and the report show where")


def _steps(files: list[Path], step_costs: Path | None, json: bool) -> None:
    """Predict measured steps, and print signed errors."""
    from commbench.experiments.step_accuracy import judge
    from commbench.experiments.step_rows import predict, read_rows
    from commbench.workload.step_costs import read_step_costs

    costs, rows = read_step_costs(step_costs), []
    for file in files:
        found, left = read_rows(file, costs=costs)
        rows += found
        for name, why in left:
            tell(f"left out: {name}: {why}")
        for row in found:
            if row.assumed:
                tell(f"note: {row.name}: taken for what it does not say: {', '.join(row.assumed)}")
    if not rows:
        raise InputError(f"{files[0]}: no step that can be predicted")
    if json:
        for row in rows:
            step = predict(row, costs)
            what = {"id": row.name, "source": row.source, "tier": row.tier, "stack": row.stack, "cell": row.cell}
            times = {"measured_s": row.measured_s, "simulated_s": step.iteration_s, "terms_s": step.terms}
            error = step.iteration_s / row.measured_s - 1
            typer.echo(json_line("compared-step", **what, **times, error=error))
        return
    lines = [f"#{'source':<16} {'steps':>6} {'mean error':>11} {'mean |error|':>13}  worst"]
    for one in judge([row for row in rows if row.tier != "C"], costs):
        name, worst = one.worst
        means = f"{len(one.errors):>6} {one.bias:>+11.1%} {one.mean:>13.1%}"
        lines.append(f" {one.source:<16} {means} {worst:>+7.1%} {name}")
    if uncertain := sum(row.tier == "C" for row in rows):
        tell(f"left out: {uncertain} of tier C, read from figures or at odds with themselves (--json has them)")
    put("\n".join(lines))


def _refuse(options: Mapping[str, object], where: str) -> None:
    """Refuse what was given though it has no meaning here."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} {value} has no meaning {where}")


def _emulated(files: "list[Path] | None", part: Part | str, out: Path, json: bool, salvage: bool) -> None:
    """Measure what is missing, judge all of it, and write records and page."""
    from commbench.cli.reading import read_measured, this_command

    records = read_measured(files, salvage) if files else measure_in_fabrics(part, out / "runs.jsonl", tell)
    from commbench.report.agreement import write_agreement
    from commbench.validate.lab_judge import PACKET_BARS, judge_labs

    quick = not files and part is Part.SMOKE  # packets take a minute to compile and to fit
    found = judge_labs(records, packet_bars=None if quick else PACKET_BARS, tell=tell)
    verdict = [*(point.compared for point in found.points), *found.all_summaries]
    if json:
        typer.echo("\n".join(record.to_json() for record in verdict))
    else:
        put(agreement_table(found))
    journal = out / "validation.jsonl"
    keep(verdict, journal)
    page = write_agreement(found, out / "index.html", command=this_command(), notes=circumstances(records))
    tell(f"records: {journal}\nreport: {page}")
    if not found.ok:
        raise CheckFailedError("validation fell short of its thresholds; the table and the report show where")


def _points(points: "Sequence[LabPoint]") -> list[str]:
    """A line for each, below the name of its fabric and collective."""
    from commbench.cli.tables import compared_row

    lines = list[str]()
    where = ""
    for point in points:
        if (here := f"# {point.compared.topology}, {point.compared.collective}") != where:
            lines.append(where := here)
        lines.append(compared_row(point.compared))
    return lines


def agreement_table(found: "Agreement") -> str:
    """The points of each kind, then its verdict and groups; then packets' own; then the points that no verdict uses."""
    from commbench.cli.tables import compared_head, compared_row, summary_lines
    from commbench.validate.lab_runs import LEAST_IDLE

    lines = [compared_head(by_packets=found.packets is not None)]
    for contended, summary in found.summaries.items():
        lines.append(f"# {'links shared by several pairs of hosts' if contended else 'no link shared'}")
        lines += _points([point for point in found.used if point.fair and point.contended is contended])
        lines.append(summary_lines(summary))
    if found.packets is not None:
        for fair, summary in found.packets.summaries.items():
            lines.append(f"# by packets, {'a queue for each pair' if fair else 'one queue at every port'}")
            lines += [] if fair else _points([point for point in found.used if not point.fair])
            lines.append(summary_lines(summary))
    if found.busy:
        lines.append(f"# in no figure above, for processors had less than {LEAST_IDLE:.0%} of their time left")
        lines += [compared_row(point.compared) for point in found.busy]
    return "\n".join(lines)
