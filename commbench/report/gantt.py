# SPDX-License-Identifier: Apache-2.0
"""A simulated collective as a rank-by-time chart: one row per rank, one bar per transfer on its sender's row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commbench.report.style import INK, PAPER, WIDTH, Picture, bare_axes, drawing, new_figure, to_picture
from commbench.report.text import plural, time_text
from commbench.units import PS_PER_S, format_bytes

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from commbench.sim.collective import Simulation

    IntArray = npt.NDArray[np.int64]

__all__ = ["MOST_BARS", "MOST_RANKS", "GanttChart", "gantt", "pack"]

MOST_RANKS = 32
MOST_BARS = 4000
_MOST_LANES = 8
_RAMP = ("#3a63a0", "#2f8f9d", "#7dbf7a", "#f0c84b")  # ever brighter: the order shows without colour as well
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True, slots=True)
class GanttChart:
    """The picture, and what its caption needs: step colours in order, and whether reductions took time."""

    picture: Picture
    num_steps: int
    ramp: tuple[str, ...]
    has_reductions: bool
    left_out: str


@dataclass(frozen=True, slots=True)
class _Bars:
    """Transfers that are drawn, by start; times in picoseconds. ``lane`` is the bar's place inside its row."""

    rank: "IntArray"
    start: "IntArray"
    end: "IntArray"
    step: "IntArray"
    lane: "IntArray"

    @property
    def lanes(self) -> int:
        """Lanes of the fullest row."""
        return int(self.lane.max(initial=0)) + 1


def pack(start: Sequence[int], end: Sequence[int]) -> list[int]:
    """Lane of each bar so that no two in a lane overlap: the lowest that is free; bars come sorted by start."""
    free_at: list[int] = []
    lanes = []
    for begin, finish in zip(start, end, strict=True):
        lane = next((i for i, t in enumerate(free_at) if t <= begin), len(free_at))
        free_at[lane : lane + 1] = [finish]
        lanes.append(lane)
    return lanes


def gantt(simulation: "Simulation") -> GanttChart:
    """The chart; ranks beyond :data:`MOST_RANKS` or bars beyond :data:`MOST_BARS` are left out, and it says so."""
    record, finish = simulation.record, simulation.trace.finish_ps
    num_ranks, until = _window(simulation)
    bars = _transfers(simulation, num_ranks, until)
    adds = _reductions(simulation, num_ranks, until)
    num_steps = int(simulation.flat.step.max(initial=0)) + 1
    with drawing():
        picture = _draw(simulation, bars, adds, num_steps, num_ranks, until)
    left_out = []
    if num_ranks < record.ranks:
        left_out.append(f"the first {num_ranks} of {record.ranks} ranks")
    if until < finish:
        left_out.append(f"the first {time_text(until / PS_PER_S)} of {time_text(finish / PS_PER_S)}")
    words = f"Shown: {' and '.join(left_out)}." if left_out else ""
    return GanttChart(picture, num_steps, _RAMP if num_steps > 1 else _RAMP[:1], len(adds.rank) > 0, words)


def _window(simulation: "Simulation") -> tuple[int, int]:
    """How many ranks are drawn, and up to which time (ps): fewer ranks first, then less time."""
    program, trace = simulation.flat, simulation.trace
    num_ranks = min(simulation.record.ranks, MOST_RANKS)
    per_rank = np.bincount(program.rank[program.peer >= 0], minlength=simulation.record.ranks)
    while num_ranks > 4 and per_rank[:num_ranks].sum() > MOST_BARS:
        num_ranks -= 1
    sends = (program.peer >= 0) & (program.rank < num_ranks)
    starts = np.sort(trace.start_ps[sends])
    return num_ranks, int(starts[MOST_BARS]) if len(starts) > MOST_BARS else trace.finish_ps


def _transfers(simulation: "Simulation", num_ranks: int, until: int) -> _Bars:
    """What each drawn rank sends; a compute task has no peer."""
    program, trace = simulation.flat, simulation.trace
    drawn = np.flatnonzero((program.peer >= 0) & (program.rank < num_ranks) & (trace.start_ps < max(until, 1)))
    drawn = drawn[np.lexsort((drawn, trace.start_ps[drawn]))]
    rank, start, end = program.rank[drawn], trace.start_ps[drawn], np.minimum(trace.end_ps[drawn], until)
    lane = np.zeros(len(drawn), dtype=np.int64)
    for r in range(num_ranks):
        mine = np.flatnonzero(rank == r)
        lane[mine] = pack(start[mine].tolist(), end[mine].tolist())
    return _Bars(rank, start, end, program.step[drawn], lane)


def _reductions(simulation: "Simulation", num_ranks: int, until: int) -> _Bars:
    """Compute tasks that took time; in a collective these are the additions of received bytes."""
    program, trace = simulation.flat, simulation.trace
    took = (program.peer < 0) & (program.duration_ps > 0) & (program.rank < num_ranks) & (trace.start_ps < until)
    end = np.minimum(trace.end_ps[took], until)
    start = np.maximum(trace.start_ps[took], end - program.duration_ps[took])
    return _Bars(program.rank[took], start, end, program.step[took], np.zeros(len(end), dtype=np.int64))


def _draw(simulation: "Simulation", bars: _Bars, adds: _Bars, num_steps: int, num_ranks: int, until: int) -> Picture:
    record = simulation.record
    lanes = min(bars.lanes, _MOST_LANES)
    room = lanes * (14 if lanes == 1 else 11 if lanes <= 3 else 6) + (5 if len(adds.rank) else 0) + 7
    row = max(20 if num_ranks > 8 else 32, room)
    figure = new_figure(WIDTH, 14 + row * num_ranks + 46)
    axes = bare_axes(figure, left=56, right=16, top=14, bottom=46)
    factor, unit = next(((f, u) for f, u in _SECONDS if until >= f * PS_PER_S), _SECONDS[-1])
    scale = factor * PS_PER_S
    axes.set_xlim(0, max(until, 1) / scale)
    axes.set_ylim(num_ranks - 0.5, -0.5)
    axes.grid(False)
    axes.grid(axis="x")
    axes.set_xlabel(f"time ({unit})")
    axes.set_yticks(range(num_ranks), [f"rank {r}" for r in range(num_ranks)])
    strip = 5 / row if len(adds.rank) else 0.0
    _draw_bars(
        axes, bars, scale=scale, top=-0.5 + 2.5 / row, height=1 - 5 / row - strip, num_steps=num_steps, lanes=lanes
    )
    if len(adds.rank):
        spans = [(r + 0.5 - 2.5 / row - strip, s / scale, (e - s) / scale) for r, s, e in _rows(adds)]
        _rectangles(axes, [(x, y, w, strip) for y, x, w in spans], [INK] * len(spans), linewidth=0)
    what = f"{record.algorithm} {record.collective} of {format_bytes(record.size_bytes)}"
    title = f"{what}, {record.ranks} ranks on {record.topology}"
    detail = f"{time_text(record.time_s)}, {plural(record.transfers, 'transfer')}, {plural(num_steps, 'step')}"
    return to_picture(figure, "gantt", title=title, detail=detail, label=f"Rank by time: {title}, {detail}")


def _rows(bars: _Bars) -> list[tuple[int, int, int]]:
    return list(zip(bars.rank.tolist(), bars.start.tolist(), bars.end.tolist(), strict=True))


def _draw_bars(
    axes: "Axes", bars: _Bars, *, scale: float, top: float, height: float, num_steps: int, lanes: int
) -> None:
    """Bars coloured by step; the step's number stands in those that have room for it."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("steps", _RAMP)
    shades = [ramp(s / max(1, num_steps - 1)) for s in range(num_steps)]
    lane_height = height / lanes
    boxes, colours = [], []
    pixels = (WIDTH - 72) / axes.get_xlim()[1]
    numbered = len(bars.rank) <= 700 and lanes <= 3
    for (rank, start, end), step, lane in zip(_rows(bars), bars.step.tolist(), bars.lane.tolist(), strict=True):
        y = rank + top + min(lane, lanes - 1) * lane_height
        x, width = start / scale, (end - start) / scale
        boxes.append((x, y, width, lane_height))
        colours.append(to_hex(shades[step]))
        if numbered and width * pixels >= 18:
            ink = "#ffffff" if _luminance(shades[step]) < 0.45 else "#1a1a1a"
            middle = y + lane_height / 2
            axes.text(x + width / 2, middle, str(step), color=ink, fontsize=9, ha="center", va="center")
    _rectangles(axes, boxes, colours, linewidth=0.6)


def _luminance(rgba: Sequence[float]) -> float:
    return 0.2126 * rgba[0] + 0.7152 * rgba[1] + 0.0722 * rgba[2]


def _rectangles(
    axes: "Axes", boxes: Sequence[tuple[float, float, float, float]], colours: Sequence[str], *, linewidth: float
) -> None:
    """Rectangles (x, y, width, height) as one collection; a thin edge in the page's colour keeps neighbours apart."""
    from matplotlib.collections import PolyCollection

    corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes]
    axes.add_collection(
        PolyCollection(corners, facecolors=colours, edgecolors=PAPER, linewidths=linewidth), autolim=False
    )
