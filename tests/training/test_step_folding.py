# SPDX-License-Identifier: Apache-2.0
"""Folding changes no time: folded steps equal unfolded ones to the picosecond; what is not symmetric says so."""

from typing import Any

import numpy as np
import pytest

from commbench.errors import InputError
from commbench.sim.scenario import Scenario
from commbench.topology.faults import Background, KilledRank, LinkFault, SlowRank
from commbench.training import simulate as simulate_module
from tests.cases import star
from tests.training.plans import plan, simulate

CASES: list[tuple[str, dict[str, Any]]] = [
    ("dgx-h100-x2", {"tp": 2, "pp": 2, "dp": 4}),
    ("dgx-h100-x2", {"tp": 2, "pp": 4, "dp": 2}),
    ("dgx-h100-x2", {"tp": 8, "pp": 2, "zero": 1}),
    ("dgx-h100-x2", {"dp": 16, "zero": 3, "batch": 16}),
    ("dgx-h100-x2", {"tp": 4, "pp": 4, "schedule": "zb-h1", "sequence_parallel": True}),
    ("dgx-h100-x4", {"tp": 4, "pp": 2, "dp": 4, "scatter_gather": True}),
    ("dgx-h100-x4", {"pp": 2, "dp": 16, "zero": 1, "batch": 32}),
    ("dgx-h100-x8-rail-only", {"tp": 8, "pp": 2, "dp": 4, "overlap_tensor": True}),
    ("dgx-h100-x8-rail-only", {"tp": 4, "pp": 4, "dp": 4, "schedule": "interleaved-1f1b", "stages": 2, "batch": 16}),
]


@pytest.mark.parametrize(("fabric", "how"), CASES, ids=str)
@pytest.mark.parametrize("slowdown", [1.0, 1.25])
def test_folded_equals_unfolded(fabric: str, how: dict[str, Any], slowdown: float) -> None:
    step = plan(**how)
    folded = simulate(step, fabric, slowdown=slowdown)
    unfolded = simulate(step, fabric, slowdown=slowdown, unfolded=True)
    assert folded.step.units.num_units == step.degrees.pp
    assert unfolded.step.units.num_units == step.degrees.num_ranks
    assert folded.record.folded == f"{step.degrees.num_ranks} ranks as {step.degrees.pp} pipeline positions"
    assert folded.record.notes == ()
    spans = {(span[1:4]): span[4:] for span in folded.record.spans}
    assert len(unfolded.record.spans) == len(spans) * step.degrees.num_ranks // step.degrees.pp
    assert all(spans[span[1:4]] == span[4:] for span in unfolded.record.spans)
    assert folded.ran.trace.finish_ps == unfolded.ran.trace.finish_ps
    for name in ("time_s", "exposed_s"):
        assert getattr(folded.record, name) == pytest.approx(getattr(unfolded.record, name), rel=1e-9, abs=1e-15)
    assert np.allclose(folded.fitted.link_bytes(), unfolded.fitted.link_bytes(), rtol=1e-12)


@pytest.mark.parametrize("slowdown", [1.0, 1.3])
def test_both_engines_agree(slowdown: float) -> None:
    step = plan(tp=2, pp=2, dp=4, zero=1)
    ends = [simulate(step, engine=engine, slowdown=slowdown).ran.trace.end_ps for engine in ("compiled", "reference")]
    assert np.array_equal(*ends)


@pytest.mark.parametrize("slowdown", [1.0, 1.25])
def test_a_slow_rank_is_a_class_of_its_own(slowdown: float) -> None:
    step = plan(tp=4, pp=2, dp=4)
    scenario = Scenario((SlowRank(0, 5, 0.5), SlowRank(10**10, 5, 1.0)))
    healthy = simulate(step, "dgx-h100-x4", slowdown=slowdown)
    folded = simulate(step, "dgx-h100-x4", slowdown=slowdown, scenario=scenario)
    unfolded = simulate(step, "dgx-h100-x4", slowdown=slowdown, scenario=scenario, unfolded=True)
    assert folded.ran.trace.finish_ps == unfolded.ran.trace.finish_ps > healthy.ran.trace.finish_ps
    assert folded.record.folded == "32 ranks as 8 classes of them at 2 pipeline positions"
    assert folded.record.notes == ("ranks 5 are classes of their own",)


def test_a_slow_rank_that_computes_all_the_time_slows_the_step_by_its_factor() -> None:
    step = plan(dp=1, batch=4)
    healthy, slow = (
        simulate(step, star(1), scenario=scenario).ran.trace.finish_ps
        for scenario in (None, Scenario((SlowRank(0, 0, 0.25),)))
    )
    assert slow == 4 * healthy


def test_a_slower_link_unfolds_the_step() -> None:
    step = plan(tp=4, pp=2, dp=4)
    scenario = Scenario((LinkFault(0, "h0/nic0", "leaf0", 0.01),))
    found = simulate(step, "dgx-h100-x4", scenario=scenario)
    assert found.record.folded == "nothing folded: 32 ranks, each simulated"
    assert found.record.notes[0].startswith("not folded: ")
    assert found.record.iteration_s > simulate(step, "dgx-h100-x4").record.iteration_s


def test_an_asymmetric_fabric_unfolds_the_step_or_says_that_it_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    step = plan(tp=2, pp=2, dp=4, ranks_per_host=1)
    exact = simulate(step, "fat-tree-16").record
    assert exact.notes == ("not folded: data all-reduce at position 0 is not in symmetric positions on fat-tree-16",)
    monkeypatch.setattr(simulate_module, "MOST_OPERATIONS", 10)
    estimate = simulate(step, "fat-tree-16").record
    assert estimate.folded == "16 ranks as 2 pipeline positions"
    assert estimate.notes[0].startswith("an estimate: ")
    assert estimate.iteration_s >= exact.iteration_s


def test_jitter_is_of_every_rank_and_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    step = plan(tp=2, dp=4, batch=8)
    plain = simulate(step, "dgx-h100").record
    first, again, other = (
        simulate(step, "dgx-h100", scenario=Scenario(jitter=0.2, seed=seed)).record for seed in (1, 1, 2)
    )
    assert first.folded == "nothing folded: 8 ranks, each simulated"
    assert first.iteration_s == again.iteration_s != other.iteration_s
    assert plain.iteration_s < first.iteration_s < 1.2 * plain.iteration_s  # every sum waits for the slowest
    monkeypatch.setattr(simulate_module, "MOST_OPERATIONS", 10)
    with pytest.raises(InputError, match=r"--jitter, by which every rank is its own: 8 ranks would be .* more than 10"):
        simulate(step, "dgx-h100", scenario=Scenario(jitter=0.2))
    with pytest.raises(InputError, match=r"--unfolded: 8 ranks would be"):
        simulate(step, "dgx-h100", unfolded=True)


@pytest.mark.parametrize(
    "fault", [LinkFault(0, "h0/gpu0", "h0/nvswitch0", 0.0), KilledRank(0, 1), Background(0, 0, 1, 8), SlowRank(0, 1, 0)]
)
def test_faults_that_a_step_cannot_have_are_refused(fault: Any) -> None:
    with pytest.raises(InputError, match="a training step can have slow ranks and slower links"):
        simulate(plan(tp=8), "dgx-h100", scenario=Scenario((fault,)))


def test_a_fault_on_an_idle_rank_is_refused() -> None:
    with pytest.raises(InputError, match="on rank 7 of the topology nothing runs"):
        simulate(plan(tp=4), "dgx-h100", scenario=Scenario((SlowRank(0, 7, 0.5),)))


def test_more_ranks_than_the_fabric_has_are_refused() -> None:
    with pytest.raises(InputError, match="16 ranks on topology dgx-h100: it has 8 endpoints"):
        simulate(plan(tp=8, pp=2), "dgx-h100")
