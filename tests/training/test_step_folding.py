# SPDX-License-Identifier: Apache-2.0
"""Folding changes no time: folded steps equal unfolded ones to the picosecond; what is not symmetric says so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from commbench.errors import InputError
from commbench.lowering.scenario import Scenario
from commbench.topology.faults import Background, KilledRank, LinkFault, SlowRank
from commbench.training import folding as folding_module
from commbench.training.simulate import StepSimulation
from commbench.units import format_time
from tests.cases import star
from tests.training.plans import LATENT, MIXTURE, TINY, plan, simulate

CASES: list[tuple[str, dict[str, Any], int]] = [  # fabric, plan, classes of ranks at a pipeline position
    ("dgx-h100-x2", {"tp": 2, "pp": 2, "dp": 4}, 1),
    ("dgx-h100-x2", {"tp": 2, "pp": 4, "dp": 2}, 1),
    ("dgx-h100-x2", {"tp": 8, "pp": 2, "zero": 1}, 1),
    ("dgx-h100-x2", {"dp": 16, "zero": 3, "batch": 16}, 1),
    ("dgx-h100-x2", {"tp": 4, "pp": 4, "schedule": "zb-h1", "sequence_parallel": True}, 1),
    ("dgx-h100-x4", {"tp": 4, "pp": 2, "dp": 4, "scatter_gather": True}, 1),
    ("dgx-h100-x4", {"pp": 2, "dp": 16, "zero": 1, "batch": 32}, 1),
    ("dgx-h100-x4", {"model": MIXTURE, "tp": 2, "ep": 4, "dp": 8, "pp": 2, "batch": 16, "zero": 2}, 1),
    ("dgx-h100-x4", {"model": LATENT, "tp": 2, "ep": 4, "dp": 8, "pp": 2, "batch": 16, "layers": (3, 5)}, 1),
    ("dgx-h100-x8-rail-only", {"tp": 8, "pp": 2, "dp": 4, "overlap_tensor": True}, 1),
    ("dgx-h100-x8-rail-only", {"tp": 4, "pp": 4, "dp": 4, "schedule": "interleaved-1f1b", "stages": 2, "batch": 16}, 1),
    ("dgx-h100-x16", {"tp": 8, "pp": 2, "dp": 6, "batch": 24}, 2),  # some pairs of stages cross the spines, some not
    ("dgx-h100-x16", {"tp": 8, "pp": 4, "dp": 3, "batch": 12}, 2),
    ("dgx-h100-x16", {"tp": 4, "pp": 4, "dp": 6, "batch": 24, "zero": 1}, 2),
    ("fat-tree-16", {"tp": 2, "pp": 2, "dp": 4}, 1),
    ("leaf-spine-16-4to1", {"tp": 2, "pp": 2, "dp": 4}, 2),
    ("dgx-v100", {"tp": 2, "pp": 2, "dp": 2}, 2),
]


@pytest.mark.parametrize(("fabric", "how", "classes"), CASES, ids=str)
@pytest.mark.parametrize("slowdown", [1.0, 1.25])
def test_folded_equals_unfolded(fabric: str, how: dict[str, Any], classes: int, slowdown: float) -> None:
    step = plan(**how)
    folded = simulate(step, fabric, slowdown=slowdown)
    unfolded = simulate(step, fabric, slowdown=slowdown, unfolded=True)
    ranks, pp = step.degrees.num_ranks, step.degrees.pp
    assert folded.step.units.num_units == pp * classes
    assert unfolded.step.units.num_units == ranks
    assert folded.record.folded.startswith(f"{ranks} ranks folded to {pp * classes}: ")
    assert unfolded.record.folded == f"nothing folded: each of {ranks} ranks is simulated by itself"
    assert not any("estimate" in note for note in folded.record.notes)
    assert spans_by_rank(folded) == spans_by_rank(unfolded)
    assert folded.ran.trace.finish_ps == unfolded.ran.trace.finish_ps
    for name in ("time_s", "exposed_s"):
        assert getattr(folded.record, name) == pytest.approx(getattr(unfolded.record, name), rel=1e-9, abs=1e-15)
    assert np.allclose(folded.ran.bound.link_bytes(), unfolded.ran.bound.link_bytes(), rtol=1e-12)


def spans_by_rank(done: StepSimulation) -> dict[tuple[int, int, str, int], tuple[float, float]]:
    """(rank of the world, stage, pass, microbatch) -> begin and end."""
    ranks = done.step.units.ranks
    return {(rank, *span[1:4]): span[4:] for span in done.record.spans for rank in ranks[span[0]]}


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
    assert folded.step.units.num_units == 8
    assert folded.record.folded == (
        "32 ranks folded to 8: the 16 ranks of each of 2 pipeline positions are 4 classes, and those of a class do the "
        "same at the same time, so one is simulated for all"
    )
    assert "slow ranks are classes of their own: 5" in folded.record.notes


def test_a_slow_rank_that_computes_all_the_time_slows_the_step_by_its_factor() -> None:
    step = plan(dp=1, batch=4)
    healthy, slow = (
        simulate(step, star(1), scenario=scenario).ran.trace.finish_ps
        for scenario in (None, Scenario((SlowRank(0, 0, 0.25),)))
    )
    assert slow == 4 * healthy


def test_a_slower_link_tells_ranks_apart() -> None:
    step = plan(tp=4, pp=2, dp=4)
    scenario = Scenario((LinkFault(0, "h0/nic0", "leaf0", 0.01),))
    found, unfolded = (simulate(step, "dgx-h100-x4", scenario=scenario, unfolded=flag) for flag in (False, True))
    assert 2 < found.step.units.num_units <= unfolded.step.units.num_units == 32
    assert spans_by_rank(found) == spans_by_rank(unfolded)
    assert found.ran.trace.finish_ps == unfolded.ran.trace.finish_ps
    assert found.record.iteration_s > simulate(step, "dgx-h100-x4").record.iteration_s


def test_random_placement_is_as_exact() -> None:
    step = plan(tp=2, pp=2, dp=4)
    found, unfolded = (
        simulate(step, "fat-tree-64", placement="random", seed=3, unfolded=flag) for flag in (False, True)
    )
    assert spans_by_rank(found) == spans_by_rank(unfolded)


def test_what_is_too_large_to_tell_apart_is_an_estimate_with_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    step = plan(replace(TINY, tied=False), tp=8, pp=2, dp=6, batch=24)
    exact = simulate(step, "dgx-h100-x16").record
    monkeypatch.setattr(folding_module, "MOST_OPERATIONS", 10)
    estimate = simulate(step, "dgx-h100-x16").record
    assert exact.folded.startswith("96 ranks folded to 4: ")
    assert estimate.folded.startswith("96 ranks folded to 2: ")
    (note,) = [note for note in estimate.notes if "estimate" in note]
    assert note.startswith(
        "an estimate: 2 communications (2 pipeline; first: pipeline stage 0 to 1) have groups that are not in "
        "symmetric positions on dgx-h100-x16; all are taken to be as slow as the slowest, so the step may be shorter, "
    )
    bound_s = estimate.critical_s["pipeline"]
    assert f"by {format_time(bound_s)} ({bound_s / estimate.iteration_s:.1%}) at most" in note
    assert estimate.iteration_s - bound_s <= exact.iteration_s <= estimate.iteration_s


def test_the_notes_say_who_is_in_a_group_and_what_was_folded() -> None:
    record = simulate(plan(MIXTURE, tp=2, ep=4, dp=8, pp=2, batch=16), "dgx-h100-x4").record
    assert record.notes == (
        "rank order tp-cp-ep-dp-pp, nearest ranks first; groups of rank 0: tensor (tp) 0 1; expert (ep) 0 2 4 6; "
        "data (dp) 0 2 .. 14; data of experts (edp) 0 8; pipeline (pp) 0 16",
        "folded: 11 communications (3 tensor, 2 expert, 2 pipeline, 4 data), each a collective or transfer of one size "
        "at one pipeline position; the groups of each are in symmetric positions on dgx-h100-x4, so that one flow "
        "gives the exact time of all",
    )
    alone = simulate(plan(tp=8), "dgx-h100").record
    assert alone.notes[1] == "simulated whole: 2 communications (2 tensor) of one group"


def test_jitter_is_of_every_rank_and_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    step = plan(tp=2, dp=4, batch=8)
    plain = simulate(step, "dgx-h100").record
    first, again, other = (
        simulate(step, "dgx-h100", scenario=Scenario(jitter=0.2, seed=seed)).record for seed in (1, 1, 2)
    )
    assert first.folded == "nothing folded: each of 8 ranks is simulated by itself"
    assert first.iteration_s == again.iteration_s != other.iteration_s
    assert plain.iteration_s < first.iteration_s < 1.2 * plain.iteration_s  # every sum waits for the slowest
    monkeypatch.setattr(folding_module, "MOST_OPERATIONS", 10)
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


def test_of_two_faults_of_one_instant_the_later_line_counts() -> None:
    """Whichever is the larger: of the link's bandwidth as of the rank's speed."""
    step = plan(tp=4, dp=2, pp=2)
    for one in (lambda factor: LinkFault(10**9, "h0/nic0", "leaf0", factor), lambda factor: SlowRank(10**9, 5, factor)):
        half, whole, down, up = (
            simulate(step, "dgx-h100-x2", scenario=Scenario(tuple(map(one, factors)))).ran.trace.finish_ps
            for factors in ((0.01,), (1.0,), (1.0, 0.01), (0.01, 1.0))
        )
        assert half != whole
        assert (down, up) == (half, whole)
