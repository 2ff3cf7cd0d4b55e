# SPDX-License-Identifier: Apache-2.0
"""The page of a campaign in labs: predicted against measured, errors by size and fabric, and every point in a table."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.report.axes import even_ticks, log_limits, size_limits, size_ticks, time_ticks
from commbench.report.chart import Chart, Scale, mark, path_of
from commbench.report.facts import Fact
from commbench.report.figures import BAND, columns_for, signed_tick
from commbench.report.headlines import verdicts
from commbench.report.html import fill_page
from commbench.report.identity import base_name
from commbench.report.style import WIDTH, Picture, for_both
from commbench.report.svg import colour, element
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    count_cell,
    error_cell,
    filled_table,
    group_table,
    share_cell,
    time_cell,
    word_cell,
)
from commbench.report.text import plural, signed_percent, time_text
from commbench.results.outfile import write_whole
from commbench.units import format_bytes

if TYPE_CHECKING:
    from commbench.validate.lab_judge import Agreement, LabPoint

__all__ = ["render_agreement", "write_agreement"]

_KINDS: Mapping[bool, str] = {False: "No link shared", True: "Links shared"}
_QUEUES: Mapping[bool, str] = {True: "By packets", False: "By packets, one queue at every port"}


def write_agreement(found: "Agreement", path: Path, *, command: str, notes: Sequence[str] = ()) -> Path:
    """Write the page and return its path.

    Raises:
        InputError: the file cannot be written.
    """
    return write_whole(path, render_agreement(found, command=command, notes=notes))


def render_agreement(found: "Agreement", *, command: str, notes: Sequence[str] = ()) -> str:
    """The page as HTML text; it fetches nothing and is the same for the same input."""
    algorithms = _numbered(base_name(p.compared) for p in found.used)
    named = [(_KINDS[c], s) for c, s in found.summaries.items()]
    if found.packets is not None:
        named += [(_QUEUES[fair], s) for fair, s in found.packets.summaries.items()]
    tables = [(name, group_table(summary, f"groups{i}")) for i, (name, summary) in enumerate(named)]
    said = [(name, verdicts([summary])[0]) for name, summary in named]
    return fill_page(
        "agreement.html.j2",
        {
            "over": "commbench validate --emulated",
            "title": "Simulated against emulated fabrics",
            "verdicts": [replace(verdict, word=f"{kind}: {verdict.word.lower()}") for kind, verdict in said],
            "facts": _facts(found),
            "notes": notes,
            "scatter": _scatters(found.used, algorithms),
            "errors": _errors(found.used, algorithms),
            "columns": columns_for(len({p.compared.topology for p in found.used})),
            "band": f"{BAND:.0%}".replace("%", " %"),
            "algorithms": [(name, colour(number)) for name, number in algorithms.items()],
            "points": _point_table("points", found.used),
            "busy": _point_table("busy", found.busy) if found.busy else None,
            "groups": [(name, table) for name, table in tables if table],
            "command": command,
        },
    )


def _facts(found: "Agreement") -> list[Fact]:
    latency_us, overhead_us = found.transport.latency_ps / 1e6, found.transport.overhead_ps / 1e6
    return [
        Fact(
            "Measured",
            "torch.distributed on gloo over real TCP, one rank in each host of a fabric of network namespaces",
        ),
        Fact("Simulated", f'the same schedules on the same fabric and paths, over "{found.transport.name}"'),
        Fact(
            "Fitted",
            f"latency {latency_us:.0f} µs and processor time {overhead_us:.1f} µs of a message, on gloo's own "
            "all-reduce on one star alone (fit points, hollow)",
        ),
        *_packet_facts(found),
    ]


def _packet_facts(found: "Agreement") -> list[Fact]:
    if found.packets is None:
        return []
    own = found.packets.transport
    drops, repeated = (sum(getattr(point, name) for point in found.points) for name in ("drops", "repeated"))
    return [
        Fact(
            "By packets",
            "the same messages as packets under TCP through the ports' queues; latency "
            f"{own.latency_ps / 1e6:.0f} µs and processor time {own.overhead_ps / 1e6:.1f} µs fitted on the same "
            f"points; {plural(drops, 'packet')} lost and {repeated:,} sent again in the simulations",
        )
    ]


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """Each name once, in the order of first appearance, with its number."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _scatters(points: "Sequence[LabPoint]", algorithms: Mapping[str, int]) -> list[Picture]:
    """Simulated by measured time, on one pair of axes for each kind of points."""
    times = [t for p in points for t in (p.compared.measured_s, p.compared.simulated_s, p.compared.packets_s) if t]
    limits = log_limits(min(times), max(times))
    pictures = []
    panels = [(title, [p for p in points if p.fair and p.contended is kind]) for kind, title in _KINDS.items()]
    by_packets = [p.by_packets for p in points if p.compared.packets_s is not None]
    panels += [(title, [p for p in by_packets if p.fair is fair]) for fair, title in _QUEUES.items()]
    for number, (title, mine) in enumerate(panels):
        if mine or number < len(_KINDS):
            pictures.append(for_both(partial(_scatter, mine, algorithms, limits, title), (WIDTH - 28) // 2))
    return pictures


def _scatter(
    points: "Sequence[LabPoint]",
    algorithms: Mapping[str, int],
    limits: tuple[float, float],
    title: str,
    width: int,
    more: str,
) -> Picture:
    chart = Chart(f"scatter{more}", width, min(420, width), left=64, right=12, top=10, bottom=44)
    low, high = limits
    x, y = Scale(low, high, chart.left, chart.right, log=True), chart.upward(low, high, log=True)
    ends = [(low, low * (1 - BAND)), (high, high * (1 - BAND)), (high, high * (1 + BAND)), (low, low * (1 + BAND))]
    band = [(x.at(a), min(chart.bottom, max(chart.top, y.at(b)))) for a, b in ends]
    chart.add(element("path", d=path_of(band, close=True), class_="level"))
    chart.left_axis(y, time_ticks(low, high))
    chart.bottom_axis(x, time_ticks(low, high))
    chart.add(element("path", d=path_of([(x.at(low), y.at(low)), (x.at(high), y.at(high))]), class_="zero"))
    for point in points:
        chart.add(_dot(point, x.at(point.compared.measured_s), y.at(point.compared.simulated_s), algorithms))
    return chart.picture(title=title, detail="simulated (up) by measured (right), both logarithmic")


def _dot(point: "LabPoint", x: float, y: float, algorithms: Mapping[str, int]) -> str:
    c = point.compared
    words = (
        f"{c.topology}, {base_name(c)}, {c.ranks} ranks, {format_bytes(c.size_bytes)}",
        f"measured {time_text(c.measured_s)}, simulated {time_text(c.simulated_s)}: {signed_percent(c.error)}, {c.set}",
    )
    hollow = c.set == "fit"
    return mark(x, y, algorithms[base_name(c)], words, hollow=hollow, size=3.6, set=c.set, error=c.error)


def _errors(points: "Sequence[LabPoint]", algorithms: Mapping[str, int]) -> list[Picture]:
    """Signed error by size, a panel for each fabric; all share their axes."""
    fabrics = _numbered(p.compared.topology for p in points)
    sizes = [p.compared.size_bytes for p in points]
    ticks = [(exponent, format_bytes(2**exponent)) for exponent in size_ticks(min(sizes), max(sizes), 5)]
    reach = 1.04 * max(abs(p.compared.error) for p in points)
    columns = columns_for(len(fabrics))
    pictures = []
    for fabric, number in fabrics.items():
        mine = [p for p in points if p.compared.topology == fabric]
        width = (WIDTH - (columns - 1) * 28) // columns
        chart = Chart(f"fabric{number}", width, 250, left=56, right=12, top=10, bottom=28)
        x, y = chart.across(*size_limits(min(sizes), max(sizes))), chart.upward(-reach, reach)
        level, height = y.at(min(BAND, reach)), y.at(-min(BAND, reach)) - y.at(min(BAND, reach))
        chart.add(element("rect", x=chart.left, y=level, width=chart.right - chart.left, height=height, class_="level"))
        chart.left_axis(y, [(t, signed_tick(t)) for t in even_ticks(-reach, reach, 7)])
        chart.bottom_axis(x, ticks)
        for i, point in enumerate(mine):
            beside = 0.5 * (i / max(1, len(mine) - 1) - 0.5)  # so that points of one size do not cover each other
            at = x.at(math.log2(point.compared.size_bytes) + beside)
            chart.add(_dot(point, at, y.at(point.compared.error), algorithms))
        pictures.append(chart.picture(title=fabric, detail=f"{len(mine)} points"))
    return pictures


def _point_table(name: str, points: "Sequence[LabPoint]") -> Table:
    errors = [e for p in points for e in (p.compared.error, p.compared.packets_error) if e is not None]
    reach = max(map(abs, errors)) or 1.0
    fields: list[Field] = [
        (Column("fabric", numeric=False), lambda p: word_cell(p.compared.topology)),
        (Column("collective", numeric=False), lambda p: word_cell(p.compared.collective)),
        (Column("algorithm", numeric=False), lambda p: word_cell(base_name(p.compared))),
        (Column("ranks"), lambda p: count_cell(p.compared.ranks)),
        (Column("jobs"), lambda p: count_cell(1 + p.leg.count("/"))),
        (Column("size"), lambda p: bytes_cell(p.compared.size_bytes)),
        (Column("links", numeric=False), lambda p: word_cell("shared" if p.contended else "own")),
        (Column("set", numeric=False), lambda p: Cell(p.compared.set, p.compared.set, tone=f"set-{p.compared.set}")),
        (Column("measured", "median"), lambda p: time_cell(p.compared.measured_s)),
        (Column("spread", "± of median"), lambda p: share_cell(p.compared.spread_s / p.compared.measured_s)),
        (Column("simulated"), lambda p: time_cell(p.compared.simulated_s)),
        (Column("error", "signed"), lambda p: error_cell(p.compared.error, reach)),
        (Column("packets"), lambda p: _known(p.compared.packets_s, time_cell)),
        (Column("error", "by packets"), lambda p: _known(p.compared.packets_error, lambda e: error_cell(e, reach))),
        (Column("idle", "of processors"), lambda p: _known(p.idle, share_cell)),
    ]
    return filled_table(name, plural(len(points), "point"), points, fields)


def _known(value: float | None, make: Callable[[float], Cell]) -> Cell:
    return Cell("n/a", -1, tone="muted") if value is None else make(value)
