# SPDX-License-Identifier: Apache-2.0
"""Text tables of the verbs, with nccl-tests' columns; every line fits 80 columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from commbench.results.records import Compared, Simulated, Summary
from commbench.tables import Column, head_text, rate_text, row_text
from commbench.units import GB, format_bytes, format_time

if TYPE_CHECKING:
    from rich.table import Table

    from commbench.topology.model import Quantity

__all__ = [
    "compared_head",
    "compared_points",
    "compared_row",
    "compared_table",
    "explained",
    "heading",
    "number_table",
    "packet_lines",
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
    return next((t for d in (2, 1) if len(t := f"{value:.{d}f}") <= width), f"{value:.0f}")


def simulated_header(record: Simulated, unit: str = "GB/s") -> str:
    """Where it is simulated and what tells it from others, and the column names; bandwidths in ``unit``."""
    scenario = f", scenario {record.scenario}" if record.scenario else ""
    scenario += f", jitter {record.jitter:g}" if record.jitter else ""
    modelled = bool(record.library_version)
    what = f"as {record.library} {record.library_version}" if modelled else record.algorithm
    how = f"channels {record.channels}, slices {record.slices}, groups of {record.group}, "
    told = heading(
        f"simulated {record.collective} {what} on {record.topology}: {record.ranks} ranks, "
        f"routing {record.routing}, placement {record.placement}{scenario}",
        f"engine {record.engine}, detail {record.detail}, {'' if modelled else how}seed {record.seed}",
    )
    return f"{told}\n{head_text(_simulated(unit, modelled=modelled))}"


def _simulated(unit: str = "GB/s", *, modelled: bool = False) -> tuple[Column, ...]:
    """Columns of a table; where a library's model told the time, what it chose instead of the transfers."""
    chose = (Column("algo", width=8), Column("proto", width=6), Column("ch", width=3))
    last = chose if modelled else (Column("transfers", width=10), Column("wall", "(s)", width=7, form=".3f"))
    return (
        Column("size", "(B)", width=11),
        Column("count", "(elements)", width=10),
        Column("time", "(us)", width=10),
        *(Column(name, f"({unit})", width=7) for name in ("algbw", "busbw")),
        Column("bound", "(us)", width=10),
        *last,
    )


def simulated_row(record: Simulated, element_bytes: int, unit: float = GB) -> str:
    """One size, below it what each of several jobs took and the busiest links; bandwidths in ``unit`` bytes/s."""
    times = (_fixed(1e6 * time_s, 10) for time_s in (record.time_s, record.lower_bound_s))
    rates = (rate_text(rate, unit) for rate in (record.algbw_GBps, record.busbw_GBps))
    count, (time, bound) = record.size_bytes // element_bytes, times
    modelled = bool(record.library_version)
    last = (record.algorithm, record.protocol, record.channels) if modelled else (record.transfers, record.wall_s)
    fields = (record.size_bytes, count, time, *rates, bound, *last)
    line = row_text(_simulated(modelled=modelled), fields)
    return "\n".join([line, *_job_lines(record), *_packet_lines(record), *_busiest_lines(record)])


def explained(record: Simulated, candidates: Sequence[tuple[str, float, float]]) -> list[str]:
    """What a library weighed, with the margin of its choice, and where the time goes; under the row of a size."""
    parts = ", ".join(f"{name} {value * 1e6:.2f}" for name, value in record.terms.items())
    lines = [heading(f"{record.time_s * 1e6:.2f} us = {parts}")]
    if len(candidates) > 1:
        first, second = candidates[0], candidates[1]
        margin = second[1] / first[1] - 1 if first[1] else 0.0
        lines.append(f"# {first[0]} is {margin:.0%} before {second[0]} by the library's own estimate (us; would take):")
        told = ((name, own, f"{time * 1e6:.1f}" if time == time else "not known") for name, own, time in candidates)
        lines += [f"#   {name:16} {own * 1e6:12.1f} {time:>12}" for name, own, time in told]
    return lines


def _job_lines(record: Simulated) -> list[str]:
    """How long each of several jobs took."""
    return [
        f"# job {number}: {job['time_s'] * 1e6:.2f} us on {len(job['ranks'])} ranks"
        for number, job in enumerate(record.jobs)
    ]


def _packet_lines(record: Simulated) -> list[str]:
    """What a packet network counted, and the fluid model's answer beside its own; none for other networks."""
    if record.fluid_time_s is None:
        return []
    more = f" ({record.time_s / record.fluid_time_s - 1:+z.1%})" if record.fluid_time_s else ""
    beside = f"# {record.network}; fluid {_fixed(1e6 * record.fluid_time_s, 10)} us{more}"
    return [beside, *packet_lines(record.counted, record.queues)]


def packet_lines(counted: Mapping[str, float], queues: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a packet network counted, and where its queue was deepest."""
    where = f" before {queues[0]['link']}" if queues and counted["deepest_queue_bytes"] else ""
    trims = counted.get("trims", 0)
    lost = f", {counted['repeated']:,} sent again" if counted["drops"] or trims else ""
    cut = f", {trims:,} trims" if trims else ""
    late = f", {counted['reordered']:,} out of order" if counted["reordered"] else ""
    return [
        f"#   deepest queue {format_bytes(counted['deepest_queue_bytes'])}{where}",
        f"#   {counted['packets']:,} packets over links, {counted['marks']:,} marks, {counted['pauses']:,} pauses "
        f"({format_time(counted['paused_s'])}), {counted['drops']:,} drops{cut}{lost}{late}",
    ]


def _busiest_lines(record: Simulated) -> list[str]:
    """The busiest links under the row that they belong to; none where they were not asked for."""
    if not record.links:
        return []
    columns = (
        Column("busiest link", numeric=False, width=max(12, *(len(link["link"]) for link in record.links))),
        Column("bytes", width=14),
        Column("utilisation", width=12, form=".1%"),
        Column("of lower bound", width=15, form=".1%"),
    )
    rows = [[each[key] for key in ("link", "bytes", "utilisation", "bound_share")] for each in record.links]
    return [head_text(columns, "#   "), *(row_text(columns, row, "#   ") for row in rows)]


def simulated_table(records: Sequence[Simulated], element_bytes: int) -> str:
    """One algorithm on one topology, a line for each size."""
    return "\n".join([simulated_header(records[0]), *(simulated_row(record, element_bytes) for record in records)])


def compared_table(records: Sequence[Compared], summary: Summary) -> str:
    """Every point, then the verdict and the groups."""
    return f"{compared_points(records)}\n{summary_lines(summary)}"


def compared_points(records: Sequence[Compared]) -> str:
    """Every point, without a verdict."""
    by_packets = any(record.packets_s is not None for record in records)
    return "\n".join([compared_head(by_packets=by_packets), *map(compared_row, records)])


_COMPARED = (
    Column("algorithm", numeric=False, width=19),
    Column("ranks", width=5),
    Column("size", width=9),
    Column("set", width=4),
    Column("measured", width=10),
    Column("+-", width=6, form=".1%"),
    Column("simulated", width=10),
    Column("error", width=7, form="+.1%"),
)


_BY_BOTH = (*_COMPARED[:-2], Column("fluid", width=8, form="+.1%"), Column("packets", width=8, form="+.1%"))


def compared_head(*, by_packets: bool) -> str:
    """Above the points; ``by_packets``: the errors of both models stand in the place of a simulated time."""
    return head_text(_BY_BOTH if by_packets else _COMPARED)


def compared_row(record: Compared) -> str:
    """One point: the spread is that of the measurement, errors are signed."""
    shown = (record.algorithm, record.ranks, format_bytes(record.size_bytes), record.set)
    measured = (*shown, format_time(record.measured_s), record.spread_s / record.measured_s)
    if record.packets_s is None:
        return row_text(_COMPARED, (*measured, format_time(record.simulated_s), record.error))
    return row_text(_BY_BOTH, (*measured, record.error, record.packets_error))


_GROUPS = (
    Column("", numeric=False, width=28),
    Column("points", width=7, form=".0f"),
    Column("error", "median", width=9, form="+.1%"),
    Column("|error|", "median", width=9, form=".1%"),
    Column("|error|", "95th", width=9, form=".1%"),
)


def _threshold(fraction: float) -> str:
    return f"{100 * fraction:.3g}%"


def summary_lines(summary: Summary) -> str:
    """The thresholds and the groups."""
    import textwrap

    names = [f"{group} {name}" for group, members in summary.groups.items() for name in members]
    lines = [
        heading(
            f"{summary.points} test points: median |error| {summary.median_abs_error:.1%} (threshold "
            f"{_threshold(summary.max_median_abs_error)}), 95th percentile {summary.p95_abs_error:.1%} (threshold "
            f"{_threshold(summary.max_p95_abs_error)}): {'ok' if summary.ok else 'FELL SHORT'}"
        ),
        head_text(_GROUPS, "#   "),
    ]
    keys = ("points", "median_error", "median_abs_error", "p95_abs_error")
    found = (each for members in summary.groups.values() for each in members.values())
    for name, each in zip(names, found, strict=True):
        if len(name) > _GROUPS[0].width:  # on lines of its own, above its figures
            lines += textwrap.wrap(name, _WIDTH, initial_indent="#   ", subsequent_indent="#     ")
            name = ""
        lines.append(row_text(_GROUPS, (name, *(each[key] for key in keys)), "#   "))
    return "\n".join(lines)
