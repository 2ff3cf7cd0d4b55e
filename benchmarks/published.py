# SPDX-License-Identifier: Apache-2.0
"""Published training steps against the closed form: ``python -m benchmarks.published [--fit] [FILE.csv ...]``.

Predicts every usable row of ``sims/published`` (or of the files that are named) and prints signed errors by source.
``--exact`` simulates them too (with ``--every N`` each Nth of a source, with ``--library nccl`` by NCCL's model) and
prints both side by side.
``--unseen`` writes the page's section of steps that no constant was fitted to, and nothing else of it.
``--sweeps`` takes steps of one model, batch and number of GPUs together and tells what choosing by prediction costs.
``--page`` writes all to docs/training-accuracy.md, with each source left out of the fit in turn and then calibrated on
1, 3 and 6 of its own steps; ``--fit`` first fits the constants of ``commbench/workload/tables/steps.yaml`` anew, about
the prior in ``sims/published/prior.yaml``.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.step_constants import calibrated, fit_all, fit_nccl, left_out, write_costs
from benchmarks.step_exact import predict_by, simulate_rows, smallest_of_cells
from benchmarks.step_sweeps import sweeps_of
from benchmarks.step_unseen import section
from commbench.experiments.step_accuracy import Accuracy, errors_of, judge
from commbench.experiments.step_fit import Fit
from commbench.experiments.step_rows import StepRow, read_rows
from commbench.workload.step_costs import StepCosts, read_step_costs

ROOT = Path(__file__).parents[1]
ROWS = (ROOT / "sims/published/steps.csv", ROOT / "sims/published/steps-vtrain-single.csv")
CONSTANTS = ROOT / "commbench/workload/tables/steps.yaml"
PRIOR = ROOT / "sims/published/prior.yaml"
PAGE = ROOT / "docs/training-accuracy.md"
SINGLE = "vtrain-single"
_LAST = "## Steps of sources that no constant has seen\n"
_SAMPLES = {"ideal": 3, "nccl": 6}  # of each source, the steps that the page simulates: each third, each sixth
SOURCE = "sims/published, least squares of log errors (python -m benchmarks.published --fit)"


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="CSV files of steps [those of sims/published]")
    parser.add_argument("--fit", action="store_true", help="fit the constants anew")
    parser.add_argument("--exact", action="store_true", help="simulate the steps too (some minutes)")
    parser.add_argument("--library", choices=("ideal", "nccl"), default="ideal", help="that prices collectives [ideal]")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="simulate each Nth step of a source [1]")
    parser.add_argument("--page", action="store_true", help="write docs/training-accuracy.md (some minutes)")
    parser.add_argument("--unseen", action="store_true", help="write its section of unseen steps alone")
    parser.add_argument("--sweeps", action="store_true", help="what choosing a strategy by prediction costs")
    given = parser.parse_args()
    if given.every < 1:
        parser.error("--every: give 1 or more")
    if given.unseen:
        _write_unseen()
        return
    rows, left = list[StepRow](), Counter[str]()
    for file in given.files or ROWS:
        found, unusable = read_rows(file)
        rows += [row for row in found if row.tier != "C"]
        left.update([*(why for _, why in unusable), *("of tier C" for row in found if row.tier == "C")])
    fit = fit_all(rows, read_step_costs(PRIOR), read_step_costs()) if given.fit or given.page else None
    if given.fit and fit is not None:
        write_costs([fit, fit_nccl(fit)], CONSTANTS, SOURCE)
        read_step_costs.cache_clear()
    if given.sweeps:
        print("\n".join(_sweeps(rows)))
        return
    accuracy = judge(rows, read_step_costs())
    text = "\n".join([*_table(accuracy), "", *_worst(accuracy)])
    print(text)
    for why, count in left.most_common():
        print(f"left out: {count} {why}")
    costs = read_step_costs()
    if given.exact:
        print("\n" + "\n".join(_exact(rows, costs, given.library, given.every)))
    if given.page and fit is not None:
        exact = {name: "\n".join(_exact(rows, costs, name, every)) for name, every in _SAMPLES.items()}
        PAGE.write_text(_page(text, _generality(rows, fit), exact), encoding="utf-8")


def _table(accuracy: Sequence[Accuracy]) -> list[str]:
    lines = ["| source | steps | mean error | mean \\|error\\| | worst |", "|---|---|---|---|---|"]
    for one in accuracy:
        name, worst = one.worst
        lines.append(f"| {one.source} | {len(one.errors)} | {one.bias:+.1%} | {one.mean:.1%} | {worst:+.1%} {name} |")
    several = [one for one in accuracy if one.source != SINGLE]
    each = [abs(error) for one in several for error in one.errors.values()]
    if each:
        lines.append(f"| **all but {SINGLE}** | {len(each)} | | **{fmean(each):.1%}** | |")
        lines.append(f"| mean over sources | {len(several)} | | {fmean(one.mean for one in several):.1%} | |")
    return lines


def _sweeps(rows: Sequence[StepRow]) -> list[str]:
    lines = ["| source | model | GPUs | batch | steps | Spearman | best is predicted | regret |", "|---" * 8 + "|"]
    found = sweeps_of([row for row in rows if row.source != SINGLE], read_step_costs())
    for one in found:
        figures = f"{one.steps} | {one.spearman:.2f} | {one.place}. | {one.regret:.1%}"
        lines.append(f"| {one.source} | {one.model} | {one.gpus} | {one.batch} | {figures} |")
    over = sum(one.regret > 0.03 for one in found)
    return [*lines, "", f"{len(found)} sweeps; mean regret {fmean(one.regret for one in found):.1%}, {over} above 3 %."]


def _worst(accuracy: Sequence[Accuracy]) -> list[str]:
    each = [(error, name) for one in accuracy if one.source != SINGLE for name, error in one.errors.items()]
    named = sorted((one for one in each if abs(one[0]) > 0.15), key=lambda one: -abs(one[0]))
    return [f"- {error:+.1%} {name}" for error, name in named]


def _generality(rows: Sequence[StepRow], fit: Fit) -> list[str]:
    lines = ["| source left out | none of it | 1 step | 3 steps | 6 steps |", "|---|---|---|---|---|"]
    columns: list[list[float]] = [[], [], [], []]
    for source in sorted({row.source for row in rows} - {SINGLE}):
        own = [row for row in rows if row.source == source]
        costs = left_out(fit, source)
        found = [fmean(map(abs, errors_of(own, costs).values()))]
        found += [calibrated(own, costs, steps) for steps in (1, 3, 6) if steps < len(own)]
        for column, value in zip(columns, found, strict=False):
            column.append(value)
        lines.append(f"| {source} | {' | '.join([*(f'{value:.1%}' for value in found), *['-'] * (4 - len(found))])} |")
    return [*lines, f"| **mean over sources** | {' | '.join(f'**{fmean(column):.1%}**' for column in columns)} |"]


@dataclass(frozen=True, slots=True)
class _Both:
    """A step by both models: errors to what was measured, and the closed form's to the simulator."""

    name: str
    simulated: float
    closed: float
    apart: float

    @classmethod
    def of(cls, row: StepRow, simulated_s: float, costs: StepCosts, library: str) -> "_Both":
        closed_s, measured_s = predict_by(row, costs, library).iteration_s, row.measured_s
        return cls(row.name, simulated_s / measured_s - 1, closed_s / measured_s - 1, closed_s / simulated_s - 1)


def _exact(rows: Sequence[StepRow], costs: StepCosts, library: str, every: int) -> list[str]:
    """The simulator beside the closed form, on each Nth cell of a source."""
    cells, chosen = smallest_of_cells(rows), list[StepRow]()
    for source in sorted({row.source for row in cells}):
        chosen += [row for row in cells if row.source == source][::every]
    times, left = simulate_rows(chosen, costs, library)
    found: dict[str, list[_Both]] = {}
    for row in chosen:
        if row.name in times:
            found.setdefault(row.source, []).append(_Both.of(row, times[row.name], costs, library))
    lines = [
        "| source | steps | simulated | mean error | worst | closed form | apart | worst |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {source} | {_columns(own)} |" for source, own in found.items()),
    ]
    if several := [one for source, own in found.items() for one in own if source != SINGLE]:
        lines.append(f"| **all but {SINGLE}** | {_columns(several)} |")
    return [*lines, "", *(f"- not simulated: {name}\n  ({_short(why)})" for name, why in left.items())]


def _short(why: str) -> str:
    """A reason without its advice."""
    return why.split(";")[0].split(": give")[0]


def _columns(own: Sequence[_Both]) -> str:
    worst, apart = max(own, key=lambda one: abs(one.simulated)), max(own, key=lambda one: abs(one.apart))
    cells = (
        str(len(own)),
        f"{fmean(abs(one.simulated) for one in own):.1%}",
        f"{fmean(one.simulated for one in own):+.1%}",
        f"{worst.simulated:+.1%} {worst.name}",
        f"{fmean(abs(one.closed) for one in own):.1%}",
        f"{fmean(abs(one.apart) for one in own):.1%}",
        f"{apart.apart:+.1%} {apart.name}",
    )
    return " | ".join(cells)


def _page(table: str, generality: Sequence[str], exact: Mapping[str, str]) -> str:
    return _template().format(
        table=table, generality="\n".join(generality), **exact, **section(read_step_costs())
    )  # fmt: skip


def _write_unseen() -> None:
    """The page with its last section, that of unseen steps, written anew."""
    _, _, template = _template().partition(_LAST)
    assert template
    kept, last, _ = PAGE.read_text(encoding="utf-8").partition(_LAST)
    body = template.format(**section(read_step_costs()))
    PAGE.write_text(f"{kept if last else kept + chr(10)}{_LAST}{body}", encoding="utf-8")


def _template() -> str:
    return (ROOT / "benchmarks/published.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
