# SPDX-License-Identifier: Apache-2.0
"""Published pipeline bubbles beside simulated ones: ``python -m benchmarks.bubbles`` (a minute or two).

The zero-bubble papers' figures: idle share of the longest span of a stage, computed by them from the times that they
measured of F, I, W and transfers. Ours come from the step's simulation with our own times of these, on the hosts with
eight A100 that they had.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from commbench.cluster import make_cluster
from commbench.experiments.step_rows import StepRow, read_rows
from commbench.libraries.ideal import Ideal
from commbench.topology.load import load_fabric
from commbench.training.simulate import simulate_step
from commbench.workload.step_costs import read_step_costs
from commbench.workload.step_efficiency import step_efficiency

__all__ = ["bubble_table", "simulated_bubble"]

ROWS = Path(__file__).parents[1] / "sims/published/bubbles.csv"
FABRIC = "dgx-a100-x4"
LIBRARY = Ideal(algorithms=dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), "ring"), channels=None)


@dataclass(frozen=True, slots=True)
class Bubbles:
    """A published bubble and ours, as shares of the longest span of a stage; theory: with equal passes."""

    schedule: str
    published: float
    theory: float
    simulated: float


def simulated_bubble(row: StepRow) -> float:
    """Idle share of the longest span of a stage."""
    costs = read_step_costs()
    device = costs.device(row.plan.device.name)
    assert device is not None
    stack = costs.stack(row.stack)
    formats = row.plan.run.formats.name
    plan = replace(
        row.plan, efficiency=step_efficiency(device, row.plan.device.name, formats, row.attention, stack), stack=stack
    )
    cluster = make_cluster(load_fabric(FABRIC), num_ranks=plan.degrees.num_ranks)
    bubble = simulate_step(plan, cluster, LIBRARY).record.bubble_of_span
    assert bubble is not None
    return bubble


def compare(path: Path = ROWS) -> list[Bubbles]:
    """Every row of a file.

    Raises:
        InputError: the file cannot be read.
    """
    rows, _ = read_rows(path, timed=False)
    with path.open(encoding="utf-8", newline="") as file:
        figures = {row["id"]: row for row in csv.DictReader(file)}
    return [
        Bubbles(one["schedule"], float(one["reported"]), float(one["theory"]), simulated_bubble(row))
        for row in rows
        for one in [figures[row.name]]
    ]


def bubble_table(path: Path = ROWS) -> list[str]:
    """By schedule: means of published, simulated and ideal bubbles, and how far ours are off, in points of a percent,
    as lines of Markdown.
    """
    by = defaultdict[str, list[Bubbles]](list)
    for one in compare(path):
        by[one.schedule].append(one)
    lines = [
        "| schedule | figures | published | simulated | equal passes | mean \\|difference\\| | worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for schedule, own in by.items():
        means = [fmean(getattr(one, key) for one in own) for key in ("published", "simulated", "theory")]
        off = [abs(one.simulated - one.published) for one in own]
        shown = " | ".join(f"{mean:.1%}" for mean in means)
        lines.append(f"| {schedule} | {len(own)} | {shown} | {fmean(off):.1%} | {max(off):.1%} |")
    return lines


if __name__ == "__main__":
    print("\n".join(bubble_table()))
