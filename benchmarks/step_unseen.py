# SPDX-License-Identifier: Apache-2.0
"""Published steps that no constant was fitted to, predicted: ``sims/published/unseen.csv``, a section of the page.

Nothing is ever fitted to these rows. Those of tier C leave something open that decides their time; what was taken for
it stands in their column ``assumed``, and they are told apart.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.step_exact import simulate_rows
from commbench.experiments.step_rows import StepRow, predict, read_rows
from commbench.workload.step_costs import StepCosts

__all__ = ["UNSEEN", "Unseen", "group_of", "predicted", "section"]

UNSEEN = Path(__file__).parents[1] / "sims/published/unseen.csv"


@dataclass(frozen=True, slots=True)
class Unseen:
    """A step's signed errors, predicted / measured - 1, by the simulator and by the closed form."""

    row: StepRow
    simulated: float
    closed: float


def group_of(row: StepRow) -> str:
    """Whose step, on which type of GPU, by which software, in which format."""
    gpu = row.plan.device.name.split("-")[0]
    experts = ", experts" if row.plan.model.num_experts > 1 else ""
    return f"{row.source}, {gpu}, {row.stack}, {row.plan.run.formats.name}{experts}"


def predicted(rows: Iterable[StepRow], costs: StepCosts) -> tuple[list[Unseen], list[tuple[str, str]]]:
    """Each row by both models, and (id, why) of those that cannot be simulated."""
    own = list(rows)
    times, left = simulate_rows(own, costs)
    found = [
        Unseen(row, times[row.name] / row.measured_s - 1, predict(row, costs).iteration_s / row.measured_s - 1)
        for row in own
        if row.name in times
    ]
    return found, list(left.items())


def section(costs: StepCosts) -> Mapping[str, str]:
    """Parts of the page's section: tables of steps that say all and of others, what was assumed, what is left out."""
    rows, left = read_rows(UNSEEN)
    found, unsimulated = predicted(rows, costs)
    whole, open_ = ([one for one in found if (one.row.tier == "C") is which] for which in (False, True))
    return {
        "unseen": "\n".join(_table(whole)),
        "unseen_worst": "\n".join(_worst(whole)),
        "unseen_open": "\n".join(_table(open_)),
        "unseen_assumed": "\n".join(_assumed()),
        "unseen_left": "\n".join(_left([*left, *unsimulated])),
    }


def _table(found: Sequence[Unseen]) -> list[str]:
    groups = defaultdict[str, list[Unseen]](list)
    for one in found:
        groups[group_of(one.row)].append(one)
    lines = [
        "| source, GPU, software, format | steps | mean error | mean \\|error\\| | worst | closed form |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {_columns(own)} |" for name, own in groups.items()),
    ]
    each = [fmean(abs(one.simulated) for one in own) for own in groups.values()]
    by_group = [fmean(abs(one.closed) for one in own) for own in groups.values()]
    lines.append(f"| **all steps** | {_columns(found)} |")
    return [*lines, f"| mean over the lines | {len(groups)} | | {fmean(each):.1%} | | {fmean(by_group):.1%} |"]


def _columns(own: Sequence[Unseen]) -> str:
    worst = max(own, key=lambda one: abs(one.simulated))
    cells = (
        str(len(own)),
        f"{fmean(one.simulated for one in own):+.1%}",
        f"{fmean(abs(one.simulated) for one in own):.1%}",
        f"{worst.simulated:+.1%} {worst.row.name}",
        f"{fmean(abs(one.closed) for one in own):.1%}",
    )
    return " | ".join(cells)


def _worst(found: Sequence[Unseen], most: int = 8) -> list[str]:
    named = sorted(found, key=lambda one: -abs(one.simulated))[:most]
    return [f"- {one.simulated:+.1%} {one.row.name}" for one in named]


def _assumed() -> list[str]:
    """What rows leave open, and what was taken for it."""
    with UNSEEN.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["assumed"]]
    counts = Counter((row["id"].split("-")[0], row["assumed"]) for row in rows)
    return [f"- {source} ({count}): {words}" for (source, words), count in counts.items()]


def _left(left: Sequence[tuple[str, str]]) -> list[str]:
    counts = Counter((name.split("-")[0], re.sub(r"about [\d,]+ ", "", why.split(":")[0])) for name, why in left)
    return [f"- {source} ({count}): {why}" for (source, why), count in counts.items()] or ["- none"]
