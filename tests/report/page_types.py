# SPDX-License-Identifier: Apache-2.0
"""A page of every type with the records that it was made of: what the browser opens, and where numbers must be found.

Records are those of short commands and of the files that are kept in ``reports``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from commbench.experiments.explain import explain
from commbench.report.explained import render_explained
from commbench.report.page import ReportInput, render
from commbench.results.journal import read_records
from commbench.results.records import Measured, Record
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from commbench.units import seconds
from commbench.validate.pipeline import FREE, compare_pipeline, simulate_pipeline, twin
from commbench.workload.pipeline.registry import build_pipeline
from tests.cli.commands import commbench
from tests.report import samples
from tests.report.test_live_steps import OVERLAP, PRODUCT, TRAFFIC, TWIN
from tests.training.plans import plan, simulate
from tests.validate.made_up import measured, unit_times

__all__ = ["PAGE_TYPES", "PageType"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class PageType:
    """Records, the fabrics that are drawn, and the page of both; ``made`` are numbers that it makes of two records."""

    records: Sequence[Record]
    fabrics: Sequence[Fabric] = ()
    command: str = ""
    page: str = ""
    made: frozenset[float] = frozenset()

    def __post_init__(self) -> None:
        if not self.page:
            made = render(ReportInput("page", self.records, topologies=self.fabrics, command=self.command))
            object.__setattr__(self, "page", made)


def _of(command: str, *fabrics: str) -> Callable[[Path], PageType]:
    """The page of what a command writes; a check that falls short (exit code 1) writes as well."""

    def make(folder: Path) -> PageType:
        done = commbench(*command.split(), "--out", str(folder / "out.jsonl"), folder=ROOT)
        assert done.returncode < 2, done.stderr
        out = folder / "out.jsonl"
        files = sorted(out.glob("*.jsonl")) if out.is_dir() else [out]
        records = [record for file in files for record in read_records(file)]
        return PageType(records, [load_fabric(str(ROOT / name) if "/" in name else name) for name in fabrics], command)

    return make


def _kept(file: str) -> Callable[[Path], PageType]:
    return lambda _: PageType(list(read_records(ROOT / "reports" / file)))


def _explained(_: Path) -> PageType:
    """Ratios of the network's bandwidth, explained by terms that are in neither record as such."""
    names = ("all-to-all-1-to-1.yaml", "all-to-all-4-to-1.yaml")
    found = explain(*(ROOT / "sims/experiments" / name for name in names), lambda note: None)
    command = f"commbench explain {' '.join(names)}"
    whole = [one for each in found for one in (each, *each.terms)]
    ps = {number for one in whole for number in (one.a_ps, one.b_ps, one.difference_ps)}
    shares = {one.difference_ps / of for each in found for of in (each.a_ps, each.difference_ps) if of
              for one in (each, *each.terms)}  # fmt: skip
    records = [record for each in found for record in (each.a, each.b)]
    page = render_explained(found, names=names, command=command)
    return PageType(records, (), command, page, frozenset(ps | {seconds(number) for number in ps} | shares))


def _pipeline(_: Path) -> PageType:
    schedule = build_pipeline("zb-h1", 2, 4)
    live = measured(schedule, simulate_pipeline(schedule, unit_times, FREE))
    return PageType([live, twin(live), compare_pipeline(live)])


def _group(ranks: Sequence[int], time_s: float, **told: object) -> Measured:
    """What these ranks did, of a world on hosts of their own."""
    members = [[f"h{rank}", 0] for rank in ranks]
    about = {"number": 0, "groups": 1, "ranks": list(ranks)} | told
    given = samples.ENVIRONMENT | {"members": members, "beside": [], "hosts": [one for one, _ in members]}
    pair, incast = told["experiment"] == "pairwise", told["experiment"] == "incast"
    kind = ("send-recv", "direct") if pair else ("gather", "native") if incast else ("all-reduce", "ring")
    return samples.measured(
        collective=kind[0], algorithm=kind[1], ranks=len(ranks), size=2**26 * (len(ranks) if incast else 1),
        busbw_factor=1.0, samples_s=((time_s, 1.1 * time_s),) * len(ranks), warmup_s=(),
        environment=given | {"round": about},
    )  # fmt: skip


def _groups(_: Path) -> PageType:
    pairs = combinations(range(4), 2)
    apart = [_group(two, 1e-3 + 1e-4 * sum(two), experiment="pairwise", distance="other hosts") for two in pairs]
    incasts = [_group(range(n + 1), 1e-3 * n, experiment="incast") for n in (1, 2, 3)]
    several = [_group(one, 3e-3 / n, experiment="multi", groups=n) for one in ((0, 1), (2, 3)) for n in (1, 2)]
    return PageType([*apart, *incasts, *several])


FEW = "--tp 2 --microbatch 1 --recompute none --zero 1"
PAGE_TYPES: Mapping[str, Callable[[Path], PageType]] = {
    "diagnosis": _of("diagnose reports/diagnose/slow-link.jsonl -t docs/leaf-spine-6.yaml", "docs/leaf-spine-6.yaml"),
    "changes": _of("compare reports/diagnose/healthy.jsonl reports/diagnose/slow-link.jsonl"),
    "judged": _of("validate docs/all-reduce-8.log -t dgx-h100"),
    "library": _of("sim all-reduce -t dgx-h100 -b 8 -e 1G -f 512 --explain", "dgx-h100"),
    "packets": _of("sim all-to-all -t star-8 -b 256K -e 256K --network packet:dcqcn --links", "star-8"),
    "flows": _of("sim flows docs/victim.csv -t fat-tree-16 --network packet", "fat-tree-16"),
    "plan": _of(f"plan --model gpt3-1.3b -t dgx-h100 --global-batch 16 {FEW}"),
    "step": lambda _: PageType([simulate(plan(tp=2, pp=2, dp=4)).record]),
    "pipeline": _pipeline,
    "tensor-parallel": _kept("tensor-parallel/five-runs.jsonl"),
    "groups": _groups,
    "live": lambda _: PageType([TRAFFIC, TWIN, PRODUCT, OVERLAP]),
    "loopback": _kept("loopback/validation.jsonl"),
    "explained": _explained,
    "emulated": _kept("emulated/validation.jsonl"),
}
"""By name, what makes one; the argument is a folder of its own."""
