# SPDX-License-Identifier: Apache-2.0
"""The page of a benchmark: verdicts, figures, tables and the machine, in one HTML file that fetches nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bars import bar_table, bars
from benchmarks.charts import engine_chart, link_chart, ratio_chart, wall_chart
from benchmarks.peers import peer_table
from benchmarks.records import ColdStart, Engines, Observation, Race, SharedLink
from benchmarks.tables import cold_table, effort_table, engine_table, link_table, prediction_table, speed_table
from benchmarks.training_steps import TrainingStep, step_table
from benchmarks.verdicts import verdicts
from benchmarks.whole import Timed, timed_table
from commbench.report.facts import Fact
from commbench.report.html import fill_page
from commbench.report.style import Picture
from commbench.report.tables import Table
from commbench.units import format_bytes

__all__ = ["Section", "render", "sections"]

_TITLE = "How fast commbench simulates"
_DEFINITIONS = (
    (
        "wall",
        "Wall-clock seconds of the whole process, start of the interpreter included; the best repetition, because "
        "noise only ever adds. The programs take turns. Where it says “in one process”, the call alone.",
    ),
    ("simulating", "The part of it that the program itself says went into simulating; the rest is its start."),
    ("processor", "Processor seconds, user and system, of the whole process: what others run moves them less."),
    ("ratio", "wall(peer) / wall(commbench), both from this run: above 1 commbench is faster."),
    ("peak memory", "Largest resident set that the system saw; the largest of all repetitions. 1 MiB = 2^20 bytes."),
    ("growth", "g in wall ~ ranks^g (or flows^g) between a row and the one above it; a ring has ~ ranks^2 transfers."),
    (
        "difference",
        "Predicted time of commbench / that of SimGrid − 1, signed. SimGrid takes events less than 1 ns apart as one "
        "and keeps time in doubles, commbench counts whole picoseconds. Where flows of random sizes meet at random, "
        "each step amplifies such differences until they stand at some 1e-4: SimGrid's own prediction moves about as "
        "much between a precision of 1 ns and one of 1 ps.",
    ),
    (
        "SimGrid",
        "C++ program benchmarks/simgrid/ring.cpp: model CM02 without cross traffic (bytes / bandwidth + latency, "
        "max-min), the same two-level fat tree, d-mod-k, the same rendezvous. Two ways to write it are tried, an actor "
        "per rank and callbacks without actors; the faster one of each case is what stands here.",
    ),
)


@dataclass(frozen=True, slots=True)
class Section:
    """One comparison: what it says, its figures and its tables."""

    anchor: str
    heading: str
    lede: str
    pictures: Sequence[Picture]
    tables: Sequence[Table]


def render(observations: Sequence[Observation], environment: Mapping[str, Any], command: str) -> str:
    """The page as HTML text."""
    return fill_page(
        "page.html.j2",
        {
            "over": "commbench benchmarks",
            "title": _TITLE,
            "verdicts": verdicts(observations),
            "facts": _facts(environment),
            "notes": (),
            "sections": sections(observations),
            "command": command,
            "environment": [(key.replace("_", " "), _plain(key, value)) for key, value in environment.items()],
            "definitions": _DEFINITIONS,
        },
        folder=Path(__file__).parent,
    )


def sections(observations: Sequence[Observation]) -> list[Section]:
    """One per comparison that has something to show."""
    races, engines, links, steps, starts, jobs = (
        [o for o in observations if isinstance(o, kind)]
        for kind in (Race, Engines, SharedLink, TrainingStep, ColdStart, Timed)
    )
    return [
        *_bar_section(observations),
        *_race_section(races),
        *_engine_section(engines, links),
        *_step_section(steps),
        *_timed_section(jobs),
        *_cold_section(starts),
    ]


def _bar_section(observations: Sequence[Observation]) -> Iterable[Section]:
    if found := bars(observations):
        lede = "Each with its bar, and the median of what this run found; a busy machine misses bars of seconds."
        yield Section("bars", "What is promised", lede, [], [bar_table(found)])


def _timed_section(jobs: Sequence[Any]) -> Iterable[Section]:
    if jobs:
        lede = (
            "Whole processes of commbench sim at scale; of compiled code, what it takes to load it in a new process. "
            "The bar of the all-to-all is a tenth of what it took before shares were updated where they change."
        )
        yield Section("timed", "Whole commands", lede, [], [timed_table(jobs)])


def _race_section(races: Sequence[Any]) -> Iterable[Section]:
    if races:
        plain = [r for r in races if r.case == races[0].case]
        pictures = [wall_chart(plain), *([ratio_chart(races)] if any(r.peer for r in races) else [])]
        lede = (
            "Ring all-reduce of 64 MiB per rank on two-level fat trees (100 Gbit/s and 1 µs per link), every transfer "
            "simulated; commbench sim --detail transfer and SimGrid's raw model on the same work, whole processes."
        )
        measured = ["SimGrid"] if any(r.peer for r in races) else []
        tables = [speed_table(races), prediction_table(races), effort_table(races), peer_table(measured)]
        yield Section("simgrid", "Against SimGrid", lede, pictures, tables)


def _engine_section(engines: Sequence[Any], links: Sequence[Any]) -> Iterable[Section]:
    if engines or links:
        lede = (
            "One semantics, two engines. Bare SimPy is what SimPy itself takes for as many timeouts that do nothing. "
            "On the shared link n transfers of different sizes start at once: each end changes the rate of all that "
            "are left, about n²/2 changes in all."
        )
        pictures = [*([engine_chart(engines)] if engines else []), *([link_chart(links)] if links else [])]
        tables = [*([engine_table(engines)] if engines else []), *([link_table(links)] if links else [])]
        yield Section("engines", "Engine against engine", lede, pictures, tables)


def _step_section(steps: Sequence[Any]) -> Iterable[Section]:
    if steps:
        lede = (
            "Whole processes of commbench sim train: symmetric ranks folded, and where it is small every rank by "
            "itself, which must give the same time."
        )
        yield Section("training", "Training steps", lede, [], [step_table(steps)])


def _cold_section(starts: Sequence[Any]) -> Iterable[Section]:
    if starts:
        yield Section(
            "cold", "Cold start", "Whole processes that simulate nothing or next to nothing.", [], [cold_table(starts)]
        )


def _facts(environment: Mapping[str, Any]) -> list[Fact]:
    names = {
        "cpu_model": "Processor",
        "cores_usable": "Cores",
        "load_1min": "Load before",
        "simgrid": "SimGrid",
        "started_at": "Started",
    }
    return [Fact(name, _plain(key, environment[key])) for key, name in names.items()]


def _plain(key: str, value: object) -> str:
    if value is None:
        return "not told"
    if key.endswith("_bytes") and isinstance(value, int):
        return format_bytes(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
