# SPDX-License-Identifier: Apache-2.0
"""Experts whose load is not even: what is computed, sent and kept grows by the factor that was given, and no more."""

from dataclasses import replace
from typing import Any

import pytest

from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions
from commbench.experiments.step_options import step_setting
from commbench.training.closed_form import closed_form
from commbench.training.step_hosts import StepHosts
from commbench.workload.expert_load import EVEN, ExpertLoad
from commbench.workload.operators import layer_operators
from commbench.workload.step_costs import LinkCosts
from tests.cases import star
from tests.training.plans import FREE_STACK, MIXTURE, TINY, plan, simulate

HOW: dict[str, Any] = {"model": MIXTURE, "ep": 4, "dp": 4, "batch": 8, "bucket_bytes": 2**40}
WIRE = LinkCosts(share=1, half_bytes=0, latency_s=1e-6, far_nics=1, transfer=1, nccl_share=1, nccl_wait_s=0)
MACHINE = StepHosts(gpus=8, inside=450e9, between=400e9, links_inside=WIRE, links_between=WIRE)
LOADS = (ExpertLoad(capacity=2.0), ExpertLoad(imbalance=2.0))


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_twice_the_even_share_is_twice_the_tokens_sent(load: ExpertLoad) -> None:
    even, other = (
        simulate(plan(**HOW, expert_load=one), star(4, bandwidth=12.5e9, latency_ps=0)).record
        for one in (EVEN, load)
    )
    assert other.exposed_s["expert"] == pytest.approx(2 * even.exposed_s["expert"], rel=1e-6)
    assert other.iteration_s > even.iteration_s + even.exposed_s["expert"]
    assert other.memory_bytes["activations"] > even.memory_bytes["activations"]
    assert other.memory_bytes["parameters"] == even.memory_bytes["parameters"]


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_experts_compute_what_they_get_and_senders_lay_out_what_they_send(load: ExpertLoad) -> None:
    """Copies before and after are as many as the even share where nothing is padded."""
    runs = [plan(**HOW, expert_load=one).run for one in (EVEN, load)]
    even, other = ({op.name: op for op in layer_operators(MIXTURE, run)} for run in runs)
    for name in ("expert-up", "expert-down"):
        assert other[name].forward.flops == 2 * even[name].forward.flops
        assert other[name].weight.flops == 2 * even[name].weight.flops
    laid_out = 2 if load.capacity else 1
    for name in ("permute", "unpermute"):
        assert other[name].forward.num_bytes == laid_out * even[name].forward.num_bytes
    for name in ("qkv", "router", "projection"):
        assert other[name] == even[name]


def test_padding_is_executed_by_all_ranks_and_imbalance_only_moves_work() -> None:
    even, padded, uneven = (plan(**HOW, expert_load=one) for one in (EVEN, *LOADS))
    assert padded.hardware_flops > even.hardware_flops == uneven.hardware_flops
    assert even.model_flops == padded.model_flops == uneven.model_flops


def test_a_capacity_below_the_even_share_drops_tokens() -> None:
    even, less = (plan(**HOW, expert_load=one) for one in (EVEN, ExpertLoad(capacity=0.5)))
    assert less.hardware_flops < even.hardware_flops
    assert less.model_flops == even.model_flops


def test_imbalance_between_ranks_needs_several() -> None:
    """With ep 1 each rank has all experts, and as many tokens as the others."""
    how = HOW | {"ep": 1}
    even, other = (
        simulate(plan(**how, expert_load=one), star(4)).record.iteration_s
        for one in (EVEN, ExpertLoad(imbalance=2.0))
    )
    assert even == other


@pytest.mark.parametrize("tp", [{}, {"tp": 2}, {"tp": 2, "sequence_parallel": True}], ids=str)
@pytest.mark.parametrize("load", LOADS, ids=str)
def test_the_closed_form_grows_as_the_simulation_does(load: ExpertLoad, tp: dict[str, Any]) -> None:
    even, other = (plan(**(HOW | tp), expert_load=one, overlap_gradients=False) for one in (EVEN, load))
    simulated_s = [simulate(step, "dgx-h100").record.iteration_s for step in (even, other)]
    closed_s = [closed_form(step, FREE_STACK, MACHINE).iteration_s for step in (even, other)]
    assert closed_s[1] - closed_s[0] == pytest.approx(simulated_s[1] - simulated_s[0], rel=0.02)


@pytest.mark.parametrize(
    ("load", "model", "words"),
    [
        ({"capacity": -1}, MIXTURE, "--expert-capacity -1: must be above 0, such as 1.25"),
        ({"capacity": float("nan")}, MIXTURE, "--expert-capacity nan: must be above 0"),
        ({"imbalance": 0.9}, MIXTURE, "--expert-imbalance 0.9: must be at least 1, the even share"),
        ({"imbalance": 1.2, "capacity": 1.2}, MIXTURE, "--expert-imbalance 1.2 and --expert-capacity 1.2: give one"),
        ({"capacity": 2.5}, MIXTURE, "--expert-capacity 2.5: must be at most 2; 2 of 4 experts a token, and then an e"),
        ({"imbalance": 2.5}, MIXTURE, "--expert-imbalance 2.5: must be at most 2; .* then a rank of ep 4 has every"),
        ({"imbalance": 1.5}, TINY, "--expert-imbalance 1.5: model tiny is dense; leave it out"),
        ({"capacity": 1.5}, TINY, "--expert-capacity 1.5: model tiny is dense; leave it out"),
    ],
)
def test_loads_that_no_experts_can_have_are_refused(load: dict[str, float], model: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(**(HOW | {"model": model, "ep": 4 if model is MIXTURE else 1}), expert_load=ExpertLoad(**load))


OPTIONS = StepOptions(
    model="mixtral-8x7b", topology="dgx-h100", tp=1, ep=8, microbatch=1, global_batch=8, sequence=1024,
    assume_efficiencies=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "even shares of the tokens, assumed; --expert-capacity or --expert-imbalance"),
        ({"expert_capacity": 1.25}, "places for 1.25 times their even share"),
        ({"expert_imbalance": 1.5}, "the busiest expert rank gets 1.5 times its even share"),
        ({"expert_imbalance": 1.5, "ep": 1}, "with ep 1 every rank has all experts"),
    ],
)
def test_what_is_taken_is_told(more: dict[str, Any], words: str) -> None:
    remarks = step_setting(replace(OPTIONS, **more)).plan.remarks
    assert sum(words in one for one in remarks) == 1


def test_a_capacity_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="--expert-capacity 0: must be above 0"):
        step_setting(replace(OPTIONS, expert_capacity=0.0))
