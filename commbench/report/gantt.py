# SPDX-License-Identifier: Apache-2.0
"""A simulated collective as a rank-by-time chart: one row per rank, one bar per transfer on its sender's row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commbench.arrays import IntArray
from commbench.program.critical import critical_path
from commbench.report.activity import activity
from commbench.report.chart import Chart
from commbench.report.lanes import LaneBar, LaneChart, names_width
from commbench.report.style import WIDTH, Picture
from commbench.report.svg import channels, mixed
from commbench.report.text import plural, time_text
from commbench.units import PS_PER_S, format_bytes, seconds

if TYPE_CHECKING:
    from commbench.sim.collective import Simulation

__all__ = ["MOST_BARS", "MOST_RANKS", "GanttChart", "gantt", "has_transfers", "pack"]

MOST_RANKS = 32
MOST_BARS = 4000
_MOST_LANES = 8
_RAMP = ("#3a63a0", "#2f8f9d", "#7dbf7a", "#f0c84b")  # ever brighter: the order shows without colour as well
_STRIP = 5  # pixels of a reduction
_MARGIN = 2.5  # pixels between a row and its bars


@dataclass(frozen=True, slots=True)
class GanttChart:
    """The picture, and what its caption needs.

    Attributes:
        num_steps, ramp: step colours in order. has_reductions: whether reductions took time.
        critical: the critical path in words. left_out: what is not drawn. overview: of all ranks and the whole time,
            where something is left out.
    """

    picture: Picture
    num_steps: int
    ramp: tuple[str, ...]
    has_reductions: bool
    critical: str
    left_out: str
    overview: Picture | None = None


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Tasks that are drawn, by start; ``lane`` is the bar's place inside its row."""

    task: IntArray
    lane: IntArray

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


def has_transfers(simulation: "Simulation") -> bool:
    """Whether single transfers were simulated and their spans kept, which is what the chart shows."""
    return simulation.record.detail == "transfer" and len(simulation.trace.end_ps) > 0


def gantt(simulation: "Simulation") -> GanttChart:
    """The chart; ranks beyond :data:`MOST_RANKS` or bars beyond :data:`MOST_BARS` are left out, and it says so."""
    record, finish = simulation.record, simulation.trace.finish_ps
    num_ranks, until = _window(simulation)
    sends, adds = _transfers(simulation, num_ranks, until), _reductions(simulation, num_ranks, until)
    num_steps = int(simulation.flat.step.max(initial=0)) + 1
    path = critical_path(simulation.flat, simulation.trace.end_ps[: simulation.flat.num_tasks])
    picture = _draw(simulation, sends, adds, (num_ranks, until, num_steps), frozenset(path))
    left_out = []
    if num_ranks < record.ranks:
        left_out.append(f"the first {num_ranks} of {record.ranks:,} ranks")
    if until < finish:
        left_out.append(f"the first {time_text(until / PS_PER_S)} of {time_text(finish / PS_PER_S)}")
    words = f"Shown: {' and '.join(left_out)}." if left_out else ""
    ramp = _RAMP if num_steps > 1 else _RAMP[:1]
    overview = activity(simulation) if left_out else None
    return GanttChart(picture, num_steps, ramp, len(adds) > 0, _path(simulation, path), words, overview)


def _path(simulation: "Simulation", path: Sequence[int]) -> str:
    """The critical path in words."""
    moves = [task for task in path if simulation.flat.peer[task] >= 0]
    ranks = len({int(simulation.flat.rank[task]) for task in moves})
    in_turn = " one after the other" if len(moves) > 1 else ""
    return f"{plural(len(moves), 'transfer')}{in_turn}, sent by {plural(ranks, 'rank')}"


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


def _transfers(simulation: "Simulation", num_ranks: int, until: int) -> _Drawn:
    """What each drawn rank sends; a compute task has no peer."""
    program, trace = simulation.flat, simulation.trace
    drawn = np.flatnonzero((program.peer >= 0) & (program.rank < num_ranks) & (trace.start_ps < max(until, 1)))
    drawn = drawn[np.lexsort((drawn, trace.start_ps[drawn]))]
    rank, start, end = program.rank[drawn], trace.start_ps[drawn], trace.end_ps[drawn]
    lane = np.zeros(len(drawn), dtype=np.int64)
    for r in range(num_ranks):
        mine = np.flatnonzero(rank == r)
        lane[mine] = pack(start[mine].tolist(), end[mine].tolist())
    return _Drawn(drawn, lane)


def _reductions(simulation: "Simulation", num_ranks: int, until: int) -> IntArray:
    """Compute tasks that took time; in a collective these are the additions of received bytes."""
    program, trace = simulation.flat, simulation.trace
    took = (program.peer < 0) & (program.duration_ps > 0) & (program.rank < num_ranks) & (trace.start_ps < until)
    return np.flatnonzero(took)


def _draw(
    simulation: "Simulation", sends: _Drawn, adds: IntArray, reach: tuple[int, int, int], path: frozenset[int]
) -> Picture:
    num_ranks, until, num_steps = reach
    record, lanes = simulation.record, min(sends.lanes, _MOST_LANES)
    room = lanes * (14 if lanes == 1 else 11 if lanes <= 3 else 6) + (_STRIP if len(adds) else 0) + 7
    row = max(20 if num_ranks > 8 else 32, room)
    names = [f"rank {rank}" for rank in range(num_ranks)]
    chart = Chart("gantt", WIDTH, 14 + row * num_ranks + 46, left=names_width(names), right=16, top=14, bottom=46)
    rows = LaneChart(chart, max(until, 1) / PS_PER_S)
    for rank, name in enumerate(names):
        rows.row(chart.top + (rank + 0.5) * row, name)
    strip = _STRIP if len(adds) else 0
    height = (row - 2 * _MARGIN - strip) / lanes
    shades = [mixed(_RAMP, step / max(1, num_steps - 1)) for step in range(num_steps)]
    tops = chart.top + simulation.flat.rank[sends.task] * row + _MARGIN + np.minimum(sends.lane, lanes - 1) * height
    placed = zip(sends.task.tolist(), tops.tolist(), strict=True)
    rows.bars([_send(simulation, task, top, height, shades, path) for task, top in placed])
    below = chart.top + (simulation.flat.rank[adds] + 1) * row - _MARGIN - strip
    rows.bars([_addition(simulation, task, top, path) for task, top in zip(adds.tolist(), below.tolist(), strict=True)])
    what = f"{record.algorithm} {record.collective} of {format_bytes(record.size_bytes)}"
    title = f"{what}, {record.ranks:,} ranks on {record.topology}"
    detail = f"{time_text(record.time_s)}, {plural(record.transfers, 'transfer')}, {plural(num_steps, 'step')}"
    return rows.picture(title=title, detail=detail, label=f"Rank by time: {title}, {detail}")


def _send(
    simulation: "Simulation", task: int, top: float, height: float, shades: Sequence[str], path: frozenset[int]
) -> LaneBar:
    program, step = simulation.flat, int(simulation.flat.step[task])
    words = (
        f"rank {program.rank[task]} to rank {program.peer[task]}, step {step}{', critical path' * (task in path)}",
        format_bytes(int(program.num_bytes[task])),
        _span(simulation, task),
    )
    begin, end = (seconds(int(times[task])) for times in (simulation.trace.start_ps, simulation.trace.end_ps))
    ink, look = "light" if _luminance(shades[step]) < 0.45 else "dark", "critical" * (task in path)
    return LaneBar(begin, end, top, height - 0.6, shades[step], words, str(step), ink, look)


def _addition(simulation: "Simulation", task: int, top: float, path: frozenset[int]) -> LaneBar:
    program, trace = simulation.flat, simulation.trace
    end = int(trace.end_ps[task])
    begin = max(int(trace.start_ps[task]), end - int(program.duration_ps[task]))
    what = f"rank {program.rank[task]} adds what has arrived{', critical path' * (task in path)}"
    words = (what, _span(simulation, task))
    return LaneBar(seconds(begin), seconds(end), top, _STRIP, "var(--ink)", words)


def _span(simulation: "Simulation", task: int) -> str:
    start, end = int(simulation.trace.start_ps[task]), int(simulation.trace.end_ps[task])
    return f"{time_text(seconds(start))} to {time_text(seconds(end))}: {time_text(seconds(end - start))}"


def _luminance(colour: str) -> float:
    red, green, blue = channels(colour)
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
