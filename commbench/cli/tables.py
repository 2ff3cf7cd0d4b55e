# SPDX-License-Identifier: Apache-2.0
"""Text tables of the verbs, with nccl-tests' columns; every line fits 80 columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from commbench.results.records import Compared, Simulated, Summary
from commbench.units import GB, format_bytes, format_figure, format_time

if TYPE_CHECKING:
    from rich.table import Table

    from commbench.topology.model import Quantity

__all__ = [
    "average_line",
    "columns",
    "compared_points",
    "compared_row",
    "compared_table",
    "heading",
    "number_table",
    "plain",
    "simulated_header",
    "simulated_row",
    "simulated_table",
    "summary_lines",
]

_WIDTH = 80  # columns that every table fits into


def plain(part: "Table | str") -> str:
    """A table, or words to be broken into lines, as text without blanks at the ends of lines.

    It takes 80 columns at the most, and fewer where the terminal, or the variable COLUMNS, has fewer.
    """
    import shutil

    from rich.console import Console

    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns)
    console = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as capture:
        console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def columns(**titles: str) -> "Table":
    """A plain table, its columns "left" or "right"; the last takes what room is left and wraps."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    last = list(titles)[-1]
    for title, side in titles.items():
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=title != last)
    return table


def number_table(numbers: "Mapping[str, Quantity]") -> "Table":
    """Numbers by their key paths, with their origin."""
    table = columns(number="left", source="left")
    for path, number in numbers.items():
        table.add_row(f"{path}\n  {number.text}, {number.provenance.value}", number.source)
    return table


def heading(*sentences: str) -> str:
    """Sentences above a table, as comments."""
    import textwrap

    return "\n".join(
        textwrap.fill(one, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
        for one in sentences
    )


def _fixed(value: float, width: int) -> str:
    """Two decimals where they fit, fewer where not."""
    return next((t for d in (2, 1) if len(t := f"{value:.{d}f}") <= width), f"{value:.0f}").rjust(width)


def _rate(value_GBps: float | None, unit: float) -> str:  # noqa: N803  the unit is spelled as in the records
    return "    n/a" if value_GBps is None else format_figure(value_GBps * GB / unit, 7).rjust(7)


def simulated_header(record: Simulated, unit: str = "GB/s") -> str:
    """Where it is simulated and what tells it from others, and the column names; bandwidths in ``unit``."""
    scenario = f", scenario {record.scenario}" if record.scenario else ""
    scenario += f", jitter {record.jitter:g}" if record.jitter else ""
    told = heading(
        f"simulated {record.collective} {record.algorithm} on {record.topology}: {record.ranks} ranks, "
        f"routing {record.routing}, placement {record.placement}{scenario}",
        f"engine {record.engine}, detail {record.detail}, channels {record.channels}, slices {record.slices}, "
        f"groups of {record.group}, seed {record.seed}",
    )
    widths = (11, 10, 10, 7, 7, 10, 10, 7)
    titles = ("size", "count", "time", "algbw", "busbw", "bound", "transfers", "wall")
    units = ("(B)", "(elements)", "(us)", f"({unit})", f"({unit})", "(us)", "", "(s)")
    lines = (" ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in (titles, units))
    return "\n".join([told, *(f"#{line}" for line in lines)])


def simulated_row(record: Simulated, element_bytes: int, unit: float = GB) -> str:
    """One size, below it what each of several jobs took and the busiest links; bandwidths in ``unit`` bytes/s."""
    row = (
        f" {record.size_bytes:>11} {record.size_bytes // element_bytes:>10} {_fixed(record.time_s * 1e6, 10)} "
        f"{_rate(record.algbw_GBps, unit)} {_rate(record.busbw_GBps, unit)} "
        f"{_fixed(record.lower_bound_s * 1e6, 10)} {record.transfers:>10} {record.wall_s:>7.3f}"
    )
    return "\n".join([row, *_job_lines(record), *_busiest_lines(record)])


def _job_lines(record: Simulated) -> list[str]:
    """How long each of several jobs took."""
    return [
        f"# job {number}: {job['time_s'] * 1e6:.2f} us on {len(job['ranks'])} ranks"
        for number, job in enumerate(record.jobs)
    ]


def _busiest_lines(record: Simulated) -> list[str]:
    """The busiest links under the row that they belong to; none where they were not asked for."""
    if not record.links:
        return []
    width = max(12, *(len(link["link"]) for link in record.links))
    title = f"#   {'busiest link':<{width}} {'bytes':>14} {'utilisation':>12} {'of lower bound':>15}"
    rows = [
        f"#   {each['link']:<{width}} {each['bytes']:>14} {each['utilisation']:>12.1%} {_share(each['bound_share'])}"
        for each in record.links
    ]
    return [title, *rows]


def _share(value: float | None) -> str:
    return f"{'n/a':>15}" if value is None else f"{value:>15.1%}"


def average_line(busbws_GBps: Sequence[float | None]) -> str:  # noqa: N803  the unit is spelled as in the records
    """nccl-tests' last line, which scripts look for: the mean over the rows; what has no bus bandwidth counts as 0."""
    return f"# Avg bus bandwidth    : {sum(value or 0.0 for value in busbws_GBps) / len(busbws_GBps):g}"


def simulated_table(records: Sequence[Simulated], element_bytes: int) -> str:
    """One algorithm on one topology, a line for each size."""
    return "\n".join([simulated_header(records[0]), *(simulated_row(record, element_bytes) for record in records)])


def compared_table(records: Sequence[Compared], summary: Summary) -> str:
    """Every point, then the verdict and the groups."""
    return f"{compared_points(records)}\n{summary_lines(summary)}"


def compared_points(records: Sequence[Compared]) -> str:
    """Every point, without a verdict."""
    return "\n".join([_compared_header(), *map(compared_row, records)])


def _compared_header() -> str:
    """Column names of a validation."""
    left = f"#{'algorithm':<19} {'ranks':>5} {'size':>9} {'set':>4}"
    return left + f" {'measured':>10} {'+-':>6} {'simulated':>10} {'error':>7}"


def compared_row(record: Compared) -> str:
    """One point: the spread is that of the measurement, the error is signed."""
    return (
        f" {record.algorithm:<19} {record.ranks:>5} {format_bytes(record.size_bytes):>9} {record.set:>4} "
        f"{format_time(record.measured_s):>10} {record.spread_s / record.measured_s:>6.1%} "
        f"{format_time(record.simulated_s):>10} {record.error:>+7.1%}"
    )


def summary_lines(summary: Summary) -> str:
    """The thresholds and the groups."""
    lines = [
        heading(
            f"{summary.points} test points: median |error| {summary.median_abs_error:.1%} (threshold "
            f"{summary.max_median_abs_error:.0%}), 95th percentile {summary.p95_abs_error:.1%} (threshold "
            f"{summary.max_p95_abs_error:.0%}): {'ok' if summary.ok else 'FELL SHORT'}"
        ),
        f"#   {'':<28} {'points':>7} {'error':>9} {'|error|':>9} {'|error|':>9}",
        f"#   {'':<28} {'':>7} {'median':>9} {'median':>9} {'95th':>9}",
    ]
    for group, members in summary.groups.items():
        for name, figures in members.items():
            lines.append(
                f"#   {group + ' ' + name:<28} {figures['points']:>7.0f} {figures['median_error']:>+9.1%} "
                f"{figures['median_abs_error']:>9.1%} {figures['p95_abs_error']:>9.1%}"
            )
    return "\n".join(lines)
