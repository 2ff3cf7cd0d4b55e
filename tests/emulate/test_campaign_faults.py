# SPDX-License-Identifier: Apache-2.0
"""One fault script in both worlds: it slows an emulated and a simulated all-reduce by the same factor."""

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from commbench.collectives.registry import build_schedule
from commbench.emulate.jobs import EmulatedJob, run_jobs
from commbench.emulate.testbed import Testbed
from commbench.live.observe import Observer
from commbench.live.plan import Plan
from commbench.lowering.scenario import Scenario
from commbench.topology.fault_files import load_faults
from commbench.topology.faults import Fault, FaultScript
from commbench.units import seconds
from tests.cases import simulate_collective
from tests.emulate.fabrics import leaf_spine, plan_of

pytestmark = [pytest.mark.root, pytest.mark.live]
pytest.importorskip("torch")

AGREE = 0.10
RANKS, SIZE, CLEAN_S = 4, 2**18, 2.0

SCRIPTS = {
    "link at 10 %": "{kind: link, at: 2 s, src: h1/nic0, dst: leaf0, direction: forward, factor: 0.1}",
    "trunk at 10 %": "{kind: link, at: 2 s, src: leaf0, dst: spine0, direction: both, factor: 0.1}",
    "slow rank": "{kind: slow-rank, at: 2 s, rank: 2, factor: 0.8}",
}


def emulated(script: FaultScript, folder: Path) -> float:
    """Time of an iteration under the fault over that of one before it, in one run."""
    schedule = build_schedule("all-reduce", "ring", RANKS)
    plan = Plan(
        collective="all-reduce",
        ranks=RANKS,
        sizes_bytes=(SIZE,),
        out=folder / "runs.jsonl",
        run="faults",
        schedule=schedule,
        backend="gloo",
        iters=8,
        warmup=1,
        check=False,
    )
    with Testbed(plan_of(leaf_spine(4, spines=1, oversubscription=2.0), host="10 Mbit/s"), folder=folder) as testbed:
        [[record]] = run_jobs(testbed, [EmulatedJob(plan, tuple(range(RANKS)), Observer())], faults=script)
    clean = [t for i, t in enumerate(record.slowest_s) if sum(record.slowest_s[: i + 1]) < CLEAN_S]
    return median(record.slowest_s[len(clean) + 1 :]) / median(clean)


def simulated(faults: tuple[Fault, ...]) -> float:
    """The same in the simulator, where the fault is there from the start."""
    topology = plan_of(leaf_spine(4, spines=1, oversubscription=2.0), host="10 Mbit/s").topology
    from_start = tuple(_at_start(fault) for fault in faults)
    times = [
        simulate_collective(topology, "all-reduce", "ring", SIZE, scenario=scenario, keep_trace=False).record.time_s
        for scenario in (Scenario(from_start), None)
    ]
    return times[0] / times[1]


def _at_start(fault: Fault) -> Fault:
    assert seconds(fault.at_ps) == CLEAN_S
    return replace(fault, at_ps=0)


@pytest.mark.measured
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_fault_slows_both_worlds_alike(name: str, tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text(f"faults:\n  - {SCRIPTS[name]}\n", encoding="utf-8")
    script = load_faults(tmp_path / "faults.yaml")
    there, here = emulated(script, tmp_path), simulated(script.faults)
    print(f"{name}: emulated x {there:.3f}, simulated x {here:.3f}")
    assert here == pytest.approx(there, rel=AGREE)
