# SPDX-License-Identifier: Apache-2.0
"""What is promised of speed, line by line, each with its bar and what this run found: told, not judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.records import ColdStart, Observation, Race
from benchmarks.training_steps import LARGEST, TrainingStep
from benchmarks.whole import Timed
from commbench.report.tables import Cell, Column, Table
from commbench.report.text import time_text

__all__ = ["Bar", "bar_table", "bars"]

_AHEAD_S = 0.25
"""Seconds that a process of Python may take longer than one of C++ where there is next to nothing to simulate."""

_RATIOS = {
    (256, "in order"): 1.0,
    (1024, "in order"): 8.0,
    (512, "random placement, 10 % jitter"): 4.0,
    (1024, "random placement, 10 % jitter"): 4.0,
}
"""wall(SimGrid) / wall(commbench) at least, by ranks and case; medians of whole processes."""

_STEP_S = 6.0
_STARTS_S = {"commbench --help": 0.12, "commbench sim all-reduce --topology dgx-h100": 0.5}


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise: of what, the bar and what was found in words, and whether it was kept."""

    what: str
    bar: str
    found: str
    kept: bool


def bars(observations: Sequence[Observation]) -> list[Bar]:
    """Every promise that this run has figures for."""
    return [bar for one in observations for bar in _of(one)]


def _of(one: Observation) -> Iterator[Bar]:
    if isinstance(one, Race) and one.peer is not None:
        ours_s, peer_s = median(one.ours.walls_s), median(one.peer.walls_s)
        what = f"{one.ranks:,} ranks, {one.case}, against {one.peer.name}"
        if one.ranks == 16:
            most_s = peer_s + _AHEAD_S
            yield Bar(what, f"at most {time_text(most_s)}", time_text(ours_s), ours_s <= most_s)
        if (least := _RATIOS.get((one.ranks, one.case))) is not None:
            yield Bar(what, f"at least {least:g} x", f"{peer_s / ours_s:.2f} x", peer_s / ours_s >= least)
    elif isinstance(one, ColdStart) and one.command in _STARTS_S:
        yield _at_most(one.command, one.walls_s[1:], _STARTS_S[one.command])
    elif isinstance(one, TrainingStep) and one.arguments == LARGEST.arguments:
        yield _at_most("step of 16,384 GPUs, in order", one.walls_s, _STEP_S)
    elif isinstance(one, Timed):
        yield _at_most(one.what, one.seconds, one.bar_s)


def _at_most(what: str, seconds: Sequence[float], most_s: float) -> Bar:
    return Bar(what, f"at most {time_text(most_s)}", time_text(median(seconds)), median(seconds) <= most_s)


def bar_table(found: Sequence[Bar]) -> Table:
    """One row per promise."""
    columns = (
        Column("what", numeric=False),
        Column("bar", numeric=False),
        Column("found", "median", numeric=False),
        Column("kept", numeric=False),
    )
    rows = tuple(
        (
            *(Cell(words, words) for words in (bar.what, bar.bar, bar.found)),
            Cell("yes", "yes") if bar.kept else Cell("NO", "no", tone="bad"),
        )
        for bar in found
    )
    return Table("bars", "What is promised, on a quiet machine", (), columns, rows)
