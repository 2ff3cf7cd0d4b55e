# SPDX-License-Identifier: Apache-2.0
"""Who sends when, of worlds too large for a bar per transfer: groups of ranks by slices of time."""

from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from commbench.arrays import FloatArray, IntArray
from commbench.report.chart import Chart
from commbench.report.lanes import LaneBar, LaneChart, names_width
from commbench.report.style import WIDTH, Picture
from commbench.report.text import time_text
from commbench.units import PS_PER_S, seconds

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation

__all__ = ["activity", "under_way"]

_MOST_ROWS, _SLICES = 32, 160
_ROW = 18
_SHADES = 50  # so many steps of opacity; neighbours of one step are one bar


def activity(simulation: "Simulation") -> Picture:
    """Rows of ranks, shaded by how many transfers each of them has under way on average in a slice of the time."""
    ranks, finish = simulation.record.ranks, max(1, simulation.trace.finish_ps)
    bounds = np.unique(np.linspace(0, ranks, min(ranks, _MOST_ROWS) + 1).astype(np.int64))
    edges = np.unique(np.linspace(0, finish, _SLICES + 1).astype(np.int64))
    shares = under_way(simulation, bounds, edges)
    most = float(shares.max(initial=0.0)) or 1.0
    names = [_name(int(first), int(end) - 1) for first, end in pairwise(bounds)]
    left, height = names_width(names), 14 + _ROW * len(names) + 46
    chart = Chart("activity", WIDTH, height, left=left, right=16, top=14, bottom=46)
    lanes = LaneChart(chart, finish / PS_PER_S)
    for row, name in enumerate(names):
        lanes.row(chart.top + (row + 0.5) * _ROW, name)
        lanes.bars(_bars(name, shares[row], edges, chart.top + row * _ROW + 1, most))
    detail = f"full colour: {most:.3g} transfers under way per rank"
    return lanes.picture(title="Who sends when", detail=detail, label="Ranks by time, shaded by transfers under way")


def _name(first: int, last: int) -> str:
    return f"rank {first}" if first == last else f"ranks {first} to {last}"


def under_way(simulation: "Simulation", bounds: IntArray, edges: IntArray) -> FloatArray:
    """Mean number of transfers per rank, shape (groups of ranks, slices of time).

    Args:
        bounds: group g has ranks ``bounds[g]`` to ``bounds[g + 1] - 1``. edges: of the slices, picoseconds.
    """
    program, trace = simulation.flat, simulation.trace
    sends = np.flatnonzero(program.peer >= 0)
    group = np.searchsorted(bounds, program.rank[sends], side="right") - 1
    found = np.empty((len(bounds) - 1, len(edges) - 1))
    for number in range(len(found)):
        mine = sends[group == number]
        lasted = _time_since(trace.start_ps[mine], edges) - _time_since(trace.end_ps[mine], edges)
        found[number] = np.diff(lasted) / np.diff(edges) / (bounds[number + 1] - bounds[number])
    return found


def _time_since(times: IntArray, edges: IntArray) -> IntArray:
    """Picoseconds from every time that is over until each edge, added up."""
    ordered = np.sort(times)
    before = np.searchsorted(ordered, edges)
    sums = np.concatenate([[0], np.cumsum(ordered)])
    lasted: IntArray = before * edges - sums[before]
    return lasted


def _bars(name: str, shares: FloatArray, edges: IntArray, top: float, most: float) -> list[LaneBar]:
    """Neighbouring slices of one shade as one bar."""
    shades = np.round(_SHADES * shares / most).astype(np.int64).tolist()
    bars = []
    for shade, members in groupby(range(len(shades)), key=shades.__getitem__):
        run = list(members)
        begin, end = seconds(int(edges[run[0]])), seconds(int(edges[run[-1] + 1]))
        mean = float(np.average(shares[run], weights=np.diff(edges)[run]))
        words = (name, f"{time_text(begin)} to {time_text(end)}: {mean:.2f} transfers under way per rank")
        if shade:
            bars.append(LaneBar(begin, end, top, _ROW - 2, "var(--s0)", words, look="even", opacity=shade / _SHADES))
    return bars
