# SPDX-License-Identifier: Apache-2.0
"""How long a training step takes to simulate: folded against every rank by itself, and at 1,024 and 16,384 GPUs.

Whole processes of ``commbench sim train``. Where every rank can be simulated by itself both are run in turns, and must
give the same time. ``python -m benchmarks.training_steps`` runs these alone; ``--quick`` takes the small one only.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.commands import commbench, run_checked
from benchmarks.process import Finished
from benchmarks.records import Observation
from benchmarks.tables import text
from commbench.report.tables import Cell, Column, Table
from commbench.report.text import time_parts

__all__ = [
    "CASES",
    "LARGEST",
    "QUICK_CASES",
    "Case",
    "TrainingStep",
    "main",
    "step_table",
    "step_words",
    "training_steps",
]

_MIB = 2**20
_DEVICE = (
    "--device h100-sxm5-80gb --matrix-efficiency 0.6 --attention-efficiency 0.6 --memory-efficiency 0.8 --microbatch 1"
)


@dataclass(frozen=True, slots=True)
class Case:
    """Arguments of a step, and whether it is small enough to simulate every rank by itself."""

    arguments: str
    small: bool = False


CASES = (
    Case("--model gpt3-1.3b --topology dgx-h100-x4 --tp 4 --pp 2 --dp 4 --global-batch 64", small=True),
    Case("--model gpt3-175b --topology dgx-h100-x16 --tp 8 --pp 8 --dp 2 --global-batch 48", small=True),
    Case("--model gpt3-175b --topology dgx-h100-x128 --tp 8 --pp 8 --dp 16 --global-batch 1536"),
    Case("--model gpt3-175b --topology dgx-h100-x2048 --tp 8 --pp 16 --dp 128 --global-batch 6144"),
)
QUICK_CASES = CASES[:1]
LARGEST = CASES[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep(Observation):
    """One step.

    Attributes:
        arguments: of ``commbench sim train``, less those of the device. ranks, operations: simulated when folded.
        walls_s, peak_bytes: of the whole process, every repetition, and its largest resident set. time_s: simulated.
        unfolded_walls_s, unfolded_peak_bytes, unfolded_time_s: the same with --unfolded; empty and None where not run.
    """

    kind: ClassVar[str] = "training-step"

    arguments: str
    ranks: int
    operations: int
    walls_s: tuple[float, ...]
    peak_bytes: int
    time_s: float
    unfolded_walls_s: tuple[float, ...] = ()
    unfolded_peak_bytes: int | None = None
    unfolded_time_s: float | None = None

    @property
    def ratio(self) -> float | None:
        """wall(unfolded) / wall(folded)."""
        return min(self.unfolded_walls_s) / min(self.walls_s) if self.unfolded_walls_s else None

    @property
    def same(self) -> bool:
        """Whether folding changed nothing, as far as it was tried."""
        return self.unfolded_time_s is None or self.unfolded_time_s == self.time_s

    def derived(self) -> dict[str, Any]:
        """The ratio, and whether the times agree."""
        return {"ratio": self.ratio, "same": self.same}


def training_steps(cases: Sequence[Case], repeats: int, tell: Callable[[str], None]) -> Iterator[TrainingStep]:
    """Every case, folded and, where it is small, unfolded, in turns."""
    for case in cases:
        tell(f"sim train {case.arguments}")
        runs: dict[bool, list[Finished]] = {False: [], True: []}
        for _ in range(repeats):
            for unfolded in (False, True) if case.small else (False,):
                command = step_words(case, *(["--unfolded"] if unfolded else []))
                # 1: a step that does not fit into the device's memory
                runs[unfolded].append(run_checked(command, allowed=(0, 1)))
        yield _step(case, runs[False], runs[True])


def step_words(case: Case, *more: str) -> list[str]:
    """The command of a case, with more options."""
    return commbench("sim", "train", *case.arguments.split(), *_DEVICE.split(), "--json", *more)


def _step(case: Case, folded: Sequence[Finished], unfolded: Sequence[Finished]) -> TrainingStep:
    record = json.loads(folded[0].stdout)
    return TrainingStep(
        arguments=case.arguments,
        ranks=record["ranks"],
        operations=record["operations"],
        walls_s=tuple(done.wall_s for done in folded),
        peak_bytes=max(done.peak_bytes for done in folded),
        time_s=record["iteration_s"],
        unfolded_walls_s=tuple(done.wall_s for done in unfolded),
        unfolded_peak_bytes=max((done.peak_bytes for done in unfolded), default=None),
        unfolded_time_s=json.loads(unfolded[0].stdout)["iteration_s"] if unfolded else None,
    )


def step_table(steps: Sequence[TrainingStep]) -> Table:
    """Walls, memory and the ratio of every step."""
    columns = (
        Column("step", numeric=False),
        Column("GPUs"),
        Column("operations", "folded"),
        Column("wall", "folded"),
        Column("peak memory", "folded"),
        Column("wall", "every rank"),
        Column("peak memory", "every rank"),
        Column("ratio", "of the walls"),
        Column("same time", "simulated", numeric=False),
    )
    return Table("training", "Training steps, whole processes", (), columns, tuple(map(_row, steps)))


def _row(step: TrainingStep) -> tuple[Cell, ...]:
    return (
        Cell(step.arguments.replace("--", ""), step.arguments),
        Cell(f"{step.ranks:,}", step.ranks),
        Cell(f"{step.operations:,}", step.operations),
        _time(min(step.walls_s)),
        _memory(step.peak_bytes),
        _time(min(step.unfolded_walls_s)) if step.unfolded_walls_s else _NONE,
        _NONE if step.unfolded_peak_bytes is None else _memory(step.unfolded_peak_bytes),
        _NONE if step.ratio is None else Cell(f"{step.ratio:.2f}", step.ratio, "×"),
        _NONE if step.ratio is None else Cell("yes", "yes") if step.same else Cell("NO", "no", tone="bad"),
    )


_NONE = Cell("not run", -1.0, tone="muted")


def _time(time_s: float) -> Cell:
    number, unit = time_parts(time_s)
    return Cell(number, time_s, unit)


def _memory(num_bytes: int) -> Cell:
    return Cell(f"{num_bytes / _MIB:.0f}", num_bytes, "MiB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code, 1 if folding changed a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_steps", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small step only, once")
    options = parser.parse_args(arguments)
    cases, repeats = (QUICK_CASES, 1) if options.quick else (CASES, 2)
    steps = list(training_steps(cases, repeats, lambda words: print(f"bench: {words}", file=sys.stderr)))
    print(text(step_table(steps)))
    return 0 if all(step.same for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
