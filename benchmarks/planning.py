# SPDX-License-Identifier: Apache-2.0
"""The planner measured: ``python -m benchmarks.planning [--strategies N] [--seed S] [--kinds | --search [...]]``.

Closed form against exact simulation on random strategies that fit, over models, topologies and degrees: mean and worst
|error|, and strategies whose lower bound is above what was simulated (there must be none). ``--kinds`` draws them of
kinds that are hard (``benchmarks.planning_kinds``). ``--search [--calculon FOLDER]`` plans
MT-NLG 530B on 5,128 A100 and says how many strategies took how long; with a checkout of Calculon
(github.com/calculon-ai/calculon, needs psutil) its search of the same model on as many GPUs is run behind it, else its
29.2 s of another 2-core machine are named. Output is Markdown."""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.planning_kinds import KINDS
from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_options import simulate_options
from commbench.planner.estimate import Estimated
from commbench.planner.plan import Planner, Wishes, make_plan
from commbench.planner.strategy import Strategy

HERE = Path(__file__).with_name("clusters")
CASES: tuple[Mapping[str, Any], ...] = (
    {"model": "gpt3-1.3b", "topology": "dgx-h100", "global_batch": 64},
    {"model": "gpt3-1.3b", "topology": "dgx-h100-x4", "global_batch": 128},
    {"model": "llama3-8b", "topology": "dgx-h100-x4", "global_batch": 128},
    {"model": "llama2-13b", "topology": "dgx-a100-x4", "device": "a100-sxm4-80gb", "global_batch": 256},
    {"model": "llama3-70b", "topology": "dgx-h100-x16", "global_batch": 128},
    {"model": "llama3-70b", "topology": "dgx-h100-x64", "global_batch": 512},
    {"model": "gpt3-175b", "topology": "dgx-h100-x64", "global_batch": 512},
    {"model": "mixtral-8x7b", "topology": "dgx-h100-x4", "sequence": 4096, "global_batch": 128},
    {"model": "mixtral-8x7b", "topology": "dgx-h100-x16", "sequence": 4096, "global_batch": 256},
    {"model": "llama2-7b", "topology": "p5-x2", "global_batch": 64},
)
SEARCH = {
    "model": "mt-nlg-530b", "topology": str(HERE / "dgx-a100-x641.yaml"), "device": "a100-sxm4-80gb",
    "global_batch": 1920,
}  # fmt: skip
_MOST_PASSES = 4096  # of a sample: a second or so


@dataclass(frozen=True, slots=True)
class Sample:
    """A strategy of a case, estimated and simulated."""

    case: str
    estimated: Estimated
    time_s: float

    @property
    def error(self) -> float:
        """Estimated / simulated - 1."""
        return self.estimated.time_s / self.time_s - 1


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", type=int, help="how many are simulated [500; 36 of a kind]")
    parser.add_argument("--seed", type=int, default=1, help="of the draw [1]")
    parser.add_argument("--kinds", action="store_true", help="strategies of kinds that are hard instead")
    parser.add_argument("--search", action="store_true", help="the search of MT-NLG 530B on 5,128 GPUs instead")
    parser.add_argument("--calculon", type=Path, help="folder of a checkout, whose search is run in the same run")
    given = parser.parse_args()
    if given.search:
        print("\n".join(_search(given.calculon)))
    elif given.kinds:
        for kind in KINDS:
            print(f"{kind.name}:\n")
            print("\n".join(_accuracy(list(samples(kind.cases, given.strategies or 36, given.seed, kind.pick)))), "\n")
    else:
        print("\n".join(_accuracy(list(samples(CASES, given.strategies or 500, given.seed)))))


Pick = Callable[[Strategy, Random], Strategy | None]


def samples(
    cases: Sequence[Mapping[str, Any]], count: int, seed: int, pick: Pick | None = None
) -> Iterator[Sample]:
    """So many strategies that fit, drawn evenly over cases, simulated.

    Args:
        cases: models, where, batches. count, seed: of the draw. pick: makes of a strategy that is drawn the one that is
            taken, None: none.
    """
    draw, share = Random(seed), -(-count // len(cases))
    for case in cases:
        planner = Planner(case, Wishes())
        every, left = list(planner.strategies), min(share, count)
        draw.shuffle(every)
        for drawn in every:
            one = drawn if pick is None else pick(drawn, draw)
            if not left or one is None or 2 * one.microbatches * one.pp * one.stages_per_rank > _MOST_PASSES:
                continue
            if planner.estimator.memory(one) > planner.capacity_bytes:
                continue
            options = replace(StepOptions(**case), **one.options)
            try:
                record = simulate_options(options, planner.cluster.fabric)
            except InputError:  # too many operations
                continue
            left -= 1
            count -= 1
            yield Sample(f"{case['model']} on {case['topology']}", planner.estimator.estimate(one), record.iteration_s)


def _accuracy(samples: list[Sample]) -> list[str]:
    cases = defaultdict[str, list[Sample]](list)
    for sample in samples:
        cases[sample.case].append(sample)
    lines = ["| model and topology | strategies | mean error | mean \\|error\\| | worst |", "|---|---|---|---|---|"]
    for case, own in [*cases.items(), ("**all**", samples)]:
        errors = [one.error for one in own]
        worst = max(errors, key=abs)
        mean = fmean(map(abs, errors))
        lines.append(f"| {case} | {len(own)} | {fmean(errors):+.2%} | {mean:.2%} | {worst:+.1%} |")
    over = [one for one in samples if one.estimated.bound_s > one.time_s * (1 + 1e-9)]
    loose = fmean(1 - one.estimated.bound_s / one.time_s for one in samples)
    lines += ["", f"Lower bounds are {loose:.1%} below the simulated time in the mean; {len(over)} are above it.", ""]
    for one in sorted(over, key=lambda one: one.time_s / one.estimated.bound_s)[:5]:
        above = one.estimated.bound_s / one.time_s - 1
        lines.append(f"- bound {above:+.2%} {one.case}: `{one.estimated.strategy.command}`")
    lines += ["Worst:", ""]
    for one in sorted(samples, key=lambda one: -abs(one.error))[:8]:
        lines.append(f"- {one.error:+.1%} {one.case}: `{one.estimated.strategy.command}`")
    return lines


def _search(calculon: Path | None) -> list[str]:
    began, spent = time.perf_counter(), time.process_time()
    record = make_plan(SEARCH, Wishes())
    wall_s, cpu_s, best = time.perf_counter() - began, time.process_time() - spent, record.best[0]
    return [
        "| search of MT-NLG 530B on 5,128 GPUs | strategies | wall s | CPU s | best |",
        "|---|---|---|---|---|",
        f"| commbench plan, this machine | {record.strategies:,} | {wall_s:.1f} | {cpu_s:.1f} | {best.time_s:.2f} s, "
        f"{'simulated' if best.simulated_s else 'closed form'}: `{best.command}` |",
        _calculon(calculon),
        "",
        f"{record.slow:,} bounded away, {record.large:,} do not fit, {record.estimated:,} estimated, "
        f"{record.simulated} simulated; proven within {record.proven_gap or 0:.1%}.",
    ]


def _calculon(folder: Path | None) -> str:
    """Calculon's search as a row of the table: with as many processes as there are cores, as it is by itself."""
    if folder is None:
        return "| Calculon, as measured elsewhere on 2 cores; not measured here | 8,112 | 29.2 | | |"
    began, spent = time.perf_counter(), os.times()
    with TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "bin/calculon", "llm-optimal-execution", "models/turing-530B.json", "5128", "2520",
             "float16", "systems/a100_80g.json", f"{out}/best.json", "-m"],
            cwd=folder, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    wall_s, after = time.perf_counter() - began, os.times()
    cpu_s = sum(getattr(after, name) - getattr(spent, name) for name in ("children_user", "children_system"))
    said = done.stdout + done.stderr
    count, rate = (re.findall(rf"{what}: ([\d.]+)", said)[0] for what in ("Total executions", "Best sample rate"))
    return f"| Calculon, in the same run | {int(count):,} | {wall_s:.1f} | {cpu_s:.1f} | {float(rate):.1f}/s |"


if __name__ == "__main__":
    main()
