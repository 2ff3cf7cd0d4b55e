# SPDX-License-Identifier: Apache-2.0
"""Single flows on a page: how much slower than alone, the slowest of them, and where packets queued."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from commbench.report.axes import even_ticks, log_limits
from commbench.report.chart import Chart, mark, path_of
from commbench.report.packets import QUEUE_FIELDS
from commbench.report.queue_times import queue_times
from commbench.report.style import Picture, for_both
from commbench.report.svg import colour, element, text
from commbench.report.tables import (
    Cell,
    Column,
    Field,
    Table,
    bytes_cell,
    count_cell,
    filled_table,
    time_cell,
    word_cell,
)
from commbench.report.text import time_text
from commbench.results.flows import SimulatedFlows
from commbench.results.records import Record

__all__ = ["FlowsPart", "flow_parts", "verdict_of_flows"]

_MOST_POINTS = 400
_TICKS = (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class FlowsPart:
    """What the template draws of one file of flows."""

    name: str
    verdict: str
    picture: Picture | None
    tables: tuple[Table, ...]
    queues: Picture | None


def flow_parts(records: Sequence[Record]) -> list[FlowsPart]:
    """A part for each set of flows among the records."""
    found = [record for record in records if isinstance(record, SimulatedFlows)]
    return [_part(one, f"flows{number}") for number, one in enumerate(found)]


def verdict_of_flows(one: SimulatedFlows) -> str:
    """When all are through, and how much slower than alone."""
    slow = f"{one.slowdown['p50']:.2f} times as long as alone in the median, {one.slowdown['max']:.2f} at most"
    return f"{one.source} on {one.topology} ({one.network}): all through after {time_text(one.time_s)}; {slow}"


def _part(one: SimulatedFlows, place: str) -> FlowsPart:
    tables = [_percentiles(one, place), _slowest(one, place), *([_queues(one, place)] if one.queues else [])]
    picture = for_both(partial(_slowdowns, one, place)) if one.slowdowns else None
    name = f"{one.source} on {one.topology}, {one.network}"
    over_time = queue_times(one.queues, name, f"{place}by-time")
    return FlowsPart(name, f"{verdict_of_flows(one)}.", picture, tuple(tables), over_time)


def _percentiles(one: SimulatedFlows, place: str) -> Table:
    fields: list[Field] = [
        (Column("completion", numeric=False), word_cell),
        (Column("time"), lambda name: time_cell(one.completion_s[name])),
        (Column("slowdown", "x alone"), lambda name: _times(one.slowdown[name])),
    ]
    if one.fluid_completion_s:
        fields.append((Column("fluid model"), lambda name: time_cell(one.fluid_completion_s[name])))
    common = (("flows", f"{one.flows:,}"), ("routing", one.routing), ("engine", one.engine), ("seed", str(one.seed)))
    return filled_table(f"{place}times", "From start to end of a flow", list(one.completion_s), fields, common)


def _slowest(one: SimulatedFlows, place: str) -> Table:
    fields: list[Field] = [
        (Column("from rank"), lambda flow: count_cell(flow["src"])),
        (Column("to rank"), lambda flow: count_cell(flow["dst"])),
        (Column("size"), lambda flow: bytes_cell(flow["bytes"])),
        (Column("time"), lambda flow: time_cell(flow["completion_s"])),
        (Column("slowdown", "x alone"), lambda flow: _times(flow["slowdown"])),
    ]
    return filled_table(f"{place}slowest", "The slowest flows", one.slowest, fields)


def _times(slowdown: float) -> Cell:
    return Cell(f"{slowdown:.2f}", slowdown)


def _queues(one: SimulatedFlows, place: str) -> Table:
    late = int(one.counted.get("reordered", 0))
    common = (("packets out of order", f"{late:,}"),) if late else ()
    return filled_table(f"{place}queues", "Deepest queues", one.queues, QUEUE_FIELDS, common)


def _slowdowns(one: SimulatedFlows, place: str, width: int, more: str) -> Picture:
    """Share of the flows that are at most so slow; marks at the percentiles of the record."""
    ordered = np.sort(np.array(one.slowdowns))
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_POINTS)).astype(int))
    low, high = log_limits(float(ordered[0]), float(ordered[-1]))
    chart = Chart(f"{place}slow{more}", width, 260, left=56, right=20, top=14, bottom=46)
    x, y = chart.across(0, 1), chart.upward(max(1.0, low), high, log=True)
    chart.left_axis(y, [(tick, f"{tick:g}") for tick in _TICKS if y.low <= tick <= y.high])
    ticks = [(tick, f"{100 * tick:.0f} %") for tick in even_ticks(0, 1, 6)]
    chart.bottom_axis(x, ticks, "share of the flows that are no slower")
    shares = [(float(i) + 1) / len(ordered) for i in shown]
    places = [(x.at(share), y.at(max(1.0, float(ordered[i])))) for share, i in zip(shares, shown, strict=True)]
    corners = [(x.at(0), places[0][1]), *places]
    chart.add(element("path", d=path_of(corners), class_="line", stroke=colour(0)))
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        slow = one.slowdown[name]
        words = (f"{name}: {slow:.2f} x alone",)
        chart.add(mark(x.at(share), y.at(max(1.0, slow)), 0, words, slowdown=slow))
    chart.add(text(16, 6, "x alone", class_="tick"))
    return chart.picture(title="How much slower than alone", detail="logarithmic axis")
