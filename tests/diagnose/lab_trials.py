# SPDX-License-Identifier: Apache-2.0
"""Trials on a testbed: real TCP between network namespaces, a link or a host slowed, every pair of hosts measured.

``python -m tests.diagnose.lab_trials 100`` (as root) prints how many were right.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from commbench.collectives.registry import build_schedule
from commbench.diagnose.expect import Simulator
from commbench.diagnose.judge import diagnose
from commbench.diagnose.measurement import measurements_of
from commbench.diagnose.parts import FabricPart, parts_of
from commbench.emulate.testbed import Testbed
from commbench.emulate.worker_pool import Task, WorkerPool
from commbench.live.plan import Plan
from commbench.results.diagnoses import Diagnosed
from commbench.results.records import Measured
from commbench.topology.fabric import Fabric
from tests.emulate.fabrics import plan_of

HOSTS, RATE = 6, "10 Mbit/s"
SIZE, ITERATIONS = 2**16, 3
FABRIC = {"kind": "leaf-spine", "hosts": HOSTS, "hosts_per_leaf": 2, "spines": 2, "oversubscription": 1.0}
"""Three leaves under two spines; a pair's links are those of its hosts and one spine's."""


@dataclass(frozen=True)
class LabTrial:
    """What was at fault, and what was said."""

    faults: tuple[tuple[FabricPart, float], ...]
    first: bool
    found: int
    innocent: tuple[str, ...]
    said: Diagnosed


class Bench:
    """A testbed with a process on every host, and its parts that can be slowed."""

    def __init__(self, testbed: Testbed, pool: WorkerPool) -> None:
        self.testbed, self.pool = testbed, pool
        self.fabric: Fabric = testbed.plan.topology
        outside = np.flatnonzero((self.fabric.node_hosts[self.fabric.src] < 0)
                                 | (self.fabric.node_hosts[self.fabric.dst] < 0))  # fmt: skip
        every = parts_of(self.fabric, outside)
        self.cables = [part for part in every if part.kind == "link"]
        self.hosts = [part for part in every if part.kind == "host"]

    def set(self, part: FabricPart, factor: float) -> None:
        for link in part.links.tolist():
            ends = (self.fabric.name_of(int(node[link])) for node in (self.fabric.src, self.fabric.dst))
            self.testbed.set_factor(*ends, factor)

    def measured(self) -> list[Measured]:
        """A send-recv of every pair, alone."""
        return [record for pair in combinations(range(HOSTS), 2) for record in self._pair(pair)]

    def _pair(self, pair: tuple[int, int]) -> list[Measured]:
        facts = self.testbed.describe() | {"jobs": [list(pair)], "job": 0}
        plan = Plan(
            collective="send-recv",
            ranks=2,
            sizes_bytes=(SIZE,),
            out=Path("unused.jsonl"),
            run="lab",
            schedule=build_schedule("send-recv", "direct", 2),
            backend="gloo",
            iters=ITERATIONS,
            warmup=1,
            check=False,
            facts={"emulated": facts},
        )
        [records] = self.pool.run([Task(plan, pair)], 60.0)
        return records

    def diagnosed(self, records: Sequence[Measured]) -> Diagnosed:
        fabric = replace(self.fabric)
        return diagnose(measurements_of(records, fabric, None), Simulator(fabric), "lab")

    def trial(self, faults: Sequence[tuple[FabricPart, float]]) -> LabTrial:
        for part, factor in faults:
            self.set(part, factor)
        try:
            said = self.diagnosed(self.measured())
        finally:
            for part, _ in faults:
                self.set(part, 1.0)
        blamed = [one for one in said.suspects if one.blamed]
        guilty = [{part.name for part, _ in faults if part.name in one.parts} for one in blamed]
        return LabTrial(
            faults=tuple(faults),
            first=bool(blamed) and bool(guilty[0]),
            found=len(set().union(*guilty)) if guilty else 0,
            innocent=tuple(one.parts[0] for one, names in zip(blamed, guilty, strict=True) if not names),
            said=said,
        )

    def drawn(self, seed: int) -> list[tuple[FabricPart, float]]:
        """Half of the trials have one fault, a quarter two, a quarter none."""
        draw = np.random.default_rng([seed, 7])
        faults: list[tuple[FabricPart, float]] = []
        while len(faults) < (1, 2, 1, 0)[seed % 4]:
            pool = self.cables if draw.random() < 0.5 else self.hosts
            part = pool[int(draw.integers(len(pool)))]
            if not any(np.isin(part.links, other.links).any() for other, _ in faults):
                faults.append((part, float(draw.uniform(0.2, 0.8))))
        return faults


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    testbed = Testbed(plan_of(FABRIC, host=RATE), folder=folder, realtime=True)
    with testbed, WorkerPool(testbed, range(HOSTS)) as pool:
        yield Bench(testbed, pool)


def summary(done: Sequence[LabTrial]) -> str:
    lines = []
    for count in (1, 2, 0):
        mine = [one for one in done if len(one.faults) == count]
        lines.append(
            f"{count} faults: {len(mine)} trials; first right {sum(o.first for o in mine)}; faults found "
            f"{sum(o.found for o in mine)} of {count * len(mine)}; innocent blamed in "
            f"{sum(bool(o.innocent) for o in mine)}"
        )
    noise = [one.said.noise for one in done]
    return "\n".join([*lines, f"scatter of healthy pairs: {np.median(noise):.2%} median, {max(noise):.2%} largest"])


def main(count: int, first: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(Path(folder)) as made:
        done = []
        for seed in range(first, first + count):
            one = made.trial(made.drawn(seed))
            done.append(one)
            faults = ", ".join(f"{part.name} {factor:.2f}" for part, factor in one.faults) or "none"
            said = ", ".join(f"{s.parts[0]} {s.factor:.2f}{'' if s.blamed else ' (not blamed)'}"
                             for s in one.said.suspects) or one.said.verdict  # fmt: skip
            wrong = "" if one.found == len(one.faults) and not one.innocent else "  <<<"
            print(f"{seed}: {faults} -> {said}; noise {one.said.noise:.1%}{wrong}", flush=True)
        print(summary(done))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
