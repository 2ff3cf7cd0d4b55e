# SPDX-License-Identifier: Apache-2.0
"""How long what is promised a time takes: whole commands at scale, and compiled code that is loaded from disk."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from benchmarks.commands import commbench, run_checked
from benchmarks.records import Observation
from benchmarks.training_steps import LARGEST, step_words
from commbench.report.tables import Cell, Column, Table
from commbench.report.text import time_parts

__all__ = ["JOBS", "QUICK_JOBS", "Job", "Timed", "timed", "timed_table"]

_CLUSTER = Path(__file__).with_name("clusters") / "leaf-spine-512-2to1.yaml"
_ALL_TO_ALL_BEFORE_S = 13.9
"""Wall-clock seconds of the whole command by the engine of commit 897036b, the last one that filled a whole connected
part at every change, on 2 cores of an AMD EPYC (family 26), November 2026."""

_LOADING = """
import time, numpy
from commbench.engine import warm
began = time.perf_counter()
warm.run_one_transfer("fluid")
print(time.perf_counter() - began)
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: its name, the command, seconds that it may take; whether it tells its own seconds on stdout."""

    what: str
    command: tuple[str, ...]
    bar_s: float
    tells: bool = False
    allowed: tuple[int, ...] = (0,)


def _sim(words: str) -> tuple[str, ...]:
    return tuple(commbench("sim", *words.split(), "--json"))


JOBS = (
    Job("compiled code from disk, and one transfer", (sys.executable, "-c", _LOADING), 0.1, tells=True),
    Job(
        "all-to-all, direct, 512 ranks on 2:1, 10 % jitter, every transfer",
        _sim(f"all-to-all -t {_CLUSTER} -a direct -b 64M --detail transfer --jitter 0.1 --seed 1 -e 64M"),
        _ALL_TO_ALL_BEFORE_S / 10,
    ),
    Job(
        "ring, 131,072 ranks, collective detail",
        _sim("all-reduce -t fat-tree-131072 -a ring -b 64M --detail collective -e 64M"),
        1.0,
    ),
    Job(
        "step of 16,384 GPUs, placed at random",
        tuple(step_words(LARGEST, "--placement", "random")),
        60.0,
        allowed=(0, 1),  # 1: a step that does not fit into the device's memory
    ),
)
QUICK_JOBS = JOBS[:1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed(Observation):
    """One job: the seconds of every repetition, and those that its median may have."""

    kind: ClassVar[str] = "timed"

    what: str
    seconds: tuple[float, ...]
    bar_s: float

    def derived(self) -> dict[str, Any]:
        """The median."""
        return {"median_s": median(self.seconds)}


def timed(jobs: Sequence[Job], repeats: int, tell: Callable[[str], None]) -> Iterator[Timed]:
    """Every job, again and again; the first run of compiled code may have to compile it, and is not counted."""
    for job in jobs:
        tell(job.what)
        runs = [run_checked(job.command, allowed=job.allowed) for _ in range(repeats + job.tells)]
        seconds = [float(done.stdout) if job.tells else done.wall_s for done in runs[int(job.tells) :]]
        yield Timed(what=job.what, seconds=tuple(seconds), bar_s=job.bar_s)


def timed_table(jobs: Sequence[Timed]) -> Table:
    """Median, best and bar of every job."""
    columns = (Column("what", numeric=False), Column("median"), Column("best"), Column("bar"))
    rows = tuple(
        (Cell(job.what, job.what), *(_time(s) for s in (median(job.seconds), min(job.seconds), job.bar_s)))
        for job in jobs
    )
    return Table("timed", "Whole commands with a bar", (), columns, rows)


def _time(time_s: float) -> Cell:
    number, unit = time_parts(time_s)
    return Cell(number, time_s, unit)
