# SPDX-License-Identifier: Apache-2.0
"""How deep the deepest queues of a packet network were over time: a row for each, shaded by its depth."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from commbench.report.chart import Chart
from commbench.report.lanes import LaneBar, LaneChart, names_width
from commbench.report.load import load_colour
from commbench.report.style import WIDTH, Picture
from commbench.report.text import time_text
from commbench.results.records import Record, Simulated
from commbench.units import format_bytes

__all__ = ["largest_queue_times", "queue_times"]

_ROW = 20

Queues = Sequence[Mapping[str, Any]]


def largest_queue_times(records: Sequence[Record]) -> Picture | None:
    """Of the largest size that was simulated by packets; None where none tells of its queues over time."""
    found = [one for one in records if isinstance(one, Simulated) and one.queues]
    if not found:
        return None
    one = max(found, key=lambda one: one.size_bytes)
    what = f"{format_bytes(one.size_bytes)} {one.algorithm} {one.collective}, {one.network}"
    return queue_times(one.queues, what, "queues-by-time")


def queue_times(queues: Queues, what: str, name: str) -> Picture | None:
    """The queues of one record; None in records from before they told of time, or where nothing ever waited.

    Args:
        queues: of a record. what: was simulated. name: of the figure on its page.
    """
    told = [one for one in queues if any(one.get("by_time_bytes", ()))]
    if not told:
        return None
    deepest = max(max(one["by_time_bytes"]) for one in told)
    slice_s = told[0]["slice_s"]
    left, height = names_width(one["link"] for one in told), 14 + _ROW * len(told) + 46
    chart = Chart(name, WIDTH, height, left=left, right=16, top=14, bottom=46)
    lanes = LaneChart(chart, slice_s * len(told[0]["by_time_bytes"]))
    for row, one in enumerate(told):
        lanes.row(chart.top + (row + 0.5) * _ROW, one["link"])
        lanes.bars(_bars(one, deepest, chart.top + row * _ROW + 1))
    detail = f"{what}; the darkest is {format_bytes(deepest)}, in slices of {time_text(slice_s)}"
    return lanes.picture(title="Queues over time", detail=detail, label="Deepest queues by time, shaded by depth")


def _bars(one: Mapping[str, Any], deepest: int, top: float) -> list[LaneBar]:
    """Neighbouring slices of one depth as one bar."""
    depths, bars = one["by_time_bytes"], []
    for depth, members in groupby(range(len(depths)), key=depths.__getitem__):
        run = list(members)
        begin, end = one["slice_s"] * run[0], one["slice_s"] * (run[-1] + 1)
        words = (f"before {one['link']}", f"{time_text(begin)} to {time_text(end)}: {format_bytes(depth)}")
        if depth:
            bars.append(LaneBar(begin, end, top, _ROW - 2, load_colour(depth / deepest), words, look="even"))
    return bars
