# SPDX-License-Identifier: Apache-2.0
"""Text tables of the verbs, with nccl-tests' columns; every line fits 100 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from commbench.results.records import Compared, Simulated, Summary
from commbench.units import format_bytes, format_time

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "average_line",
    "compared_points",
    "compared_row",
    "compared_table",
    "plain",
    "simulated_header",
    "simulated_row",
    "simulated_table",
    "summary_lines",
]

_WIDTH = 100  # columns that every table fits into


def plain(part: "Table | str") -> str:
    """A table, or words to be broken into lines, as text without blanks at the ends of lines.

    It takes 100 columns at the most, and fewer where the terminal, or the variable COLUMNS, has fewer.
    """
    import shutil

    from rich.console import Console

    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns)
    console = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as capture:
        console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def _number(value: float | None, width: int, digits: int = 2) -> str:
    return f"{'n/a':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def simulated_header(record: Simulated) -> str:
    """Where it is simulated, and the column names."""
    return (
        f"# simulated {record.collective} {record.algorithm} on {record.topology}: {record.ranks} ranks, "
        f"routing {record.routing}, placement {record.placement}\n"
        f"# engine {record.engine}, detail {record.detail}, slices {record.slices}, seed {record.seed}\n"
        f"#{'size':>12} {'count':>11} {'time':>12} {'algbw':>8} {'busbw':>8} {'lower bound':>12} {'transfers':>10}"
        f" {'wall':>7}\n"
        f"#{'(B)':>12} {'(elements)':>11} {'(us)':>12} {'(GB/s)':>8} {'(GB/s)':>8} {'(us)':>12} {'':>10} {'(s)':>7}"
    )


def simulated_row(record: Simulated, element_bytes: int) -> str:
    """One size, below it what each of several jobs took and the busiest links."""
    row = (
        f" {record.size_bytes:>12} {record.size_bytes // element_bytes:>11} {record.time_s * 1e6:>12.2f} "
        f"{_number(record.algbw_GBps, 8)} {_number(record.busbw_GBps, 8)} {record.lower_bound_s * 1e6:>12.2f} "
        f"{record.transfers:>10} {record.wall_s:>7.3f}"
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
    left = f"#{'algorithm':<19} {'ranks':>5} {'size':>10} {'set':>5}"
    return left + f" {'measured':>11} {'+-':>6} {'simulated':>11} {'error':>8}"


def compared_row(record: Compared) -> str:
    """One point: the spread is that of the measurement, the error is signed."""
    return (
        f" {record.algorithm:<19} {record.ranks:>5} {format_bytes(record.size_bytes):>10} {record.set:>5} "
        f"{format_time(record.measured_s):>11} {record.spread_s / record.measured_s:>6.1%} "
        f"{format_time(record.simulated_s):>11} {record.error:>+8.1%}"
    )


def summary_lines(summary: Summary) -> str:
    """The thresholds and the groups."""
    lines = [
        f"# {summary.points} test points: median |error| {summary.median_abs_error:.1%} (threshold "
        f"{summary.max_median_abs_error:.0%}), 95th percentile {summary.p95_abs_error:.1%} (threshold "
        f"{summary.max_p95_abs_error:.0%}): {'ok' if summary.ok else 'FELL SHORT'}"
    ]
    for group, members in summary.groups.items():
        for name, figures in members.items():
            lines.append(
                f"#   {group + ' ' + name:<30} {figures['points']:>3.0f} points: "
                f"median error {figures['median_error']:>+6.1%}, "
                f"|error| median {figures['median_abs_error']:>5.1%}, p95 {figures['p95_abs_error']:>5.1%}"
            )
    return "\n".join(lines)
