# SPDX-License-Identifier: Apache-2.0
"""How full the busiest links are over time: a row for each, shaded by its load."""

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from commbench.report.chart import Chart
from commbench.report.lanes import LaneBar, LaneChart, names_width
from commbench.report.load import load_colour
from commbench.report.style import WIDTH, Picture
from commbench.report.text import percent, time_text
from commbench.sim.link_load import LinkSpans, busiest_spans
from commbench.units import PS_PER_S, seconds

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation
    from commbench.topology.fabric import Fabric

__all__ = ["link_times"]

_ROW = 20
_SLICES = 240
_SHADES = 50  # so many steps of colour; neighbours of one step are one bar


def link_times(simulation: "Simulation", fabric: "Fabric") -> Picture | None:
    """The ten links that are in use most; None where nothing is known of them."""
    spans = list(busiest_spans(simulation)) if simulation.record.topology == fabric.name else []
    if not spans:
        return None
    finish = max(1, simulation.trace.finish_ps)
    names = [fabric.link_name(one.link) for one in spans]
    left, height = names_width(names), 14 + _ROW * len(spans) + 46
    chart = Chart("links", WIDTH, height, left=left, right=16, top=14, bottom=46)
    lanes = LaneChart(chart, finish / PS_PER_S)
    edges = np.unique(np.linspace(0, finish, _SLICES + 1).astype(np.int64))
    for row, (name, one) in enumerate(zip(names, spans, strict=True)):
        lanes.row(chart.top + (row + 0.5) * _ROW, name)
        lanes.bars(_bars(name, one, edges, chart.top + row * _ROW + 1))
    title, detail = "Links over time", "each transfer at its mean rate"
    return lanes.picture(title=title, detail=detail, label="Busiest links by time, shaded by load")


def _bars(name: str, one: LinkSpans, edges: "np.ndarray", top: float) -> list[LaneBar]:
    """Neighbouring slices of one shade as one bar."""
    loads = one.mean_load(edges)
    shades = np.round(_SHADES * np.minimum(loads, 1.0)).astype(np.int64).tolist()
    bars = []
    for shade, members in groupby(range(len(shades)), key=shades.__getitem__):
        run = list(members)
        begin, end = seconds(int(edges[run[0]])), seconds(int(edges[run[-1] + 1]))
        mean = float(np.average(loads[run], weights=np.diff(edges)[run]))
        words = (name, f"{time_text(begin)} to {time_text(end)}: {percent(mean)} of its bandwidth")
        if mean > 0:
            bars.append(LaneBar(begin, end, top, _ROW - 2, load_colour(shade / _SHADES), words, look="even"))
    return bars
