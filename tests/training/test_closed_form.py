# SPDX-License-Identifier: Apache-2.0
"""The host's floor in simulated steps, and the closed form beside the simulator."""

from dataclasses import replace

import pytest

from commbench.training.closed_form import StepHosts, closed_form
from commbench.workload.step_costs import LinkCosts
from commbench.workload.step_plan import StepPlan
from tests.training.plans import FREE_STACK, plan, simulate

STACK = FREE_STACK
WIRE = LinkCosts(share=1, half_bytes=0, latency_s=1e-6, transfer=1)
MACHINE = StepHosts(gpus=8, inside=450e9, between=400e9, links_inside=WIRE, links_between=WIRE)


def seconds(step: StepPlan) -> float:
    return simulate(step, "dgx-h100").record.iteration_s


def test_a_step_that_its_host_bounds_lasts_as_long_as_the_launches() -> None:
    """Eight layers, embedding and head, forward and backward, of eight microbatches; then the optimizer."""
    slow = replace(STACK, host_pass_s=0.01)
    assert seconds(plan(stack=slow)) == pytest.approx(8 * 2 * 10 * 0.01, rel=0.01)
    assert seconds(plan(stack=slow, recompute="full")) == pytest.approx(8 * 3 * 10 * 0.01, rel=0.01)
    assert closed_form(plan(stack=slow), slow, MACHINE).terms["passes"] == pytest.approx(8 * 2 * 10 * 0.01)


def test_a_host_that_keeps_up_costs_nothing() -> None:
    assert seconds(plan(stack=replace(STACK, host_pass_s=1e-9))) == seconds(plan()) == seconds(plan(stack=STACK))


def test_waiting_for_the_host_is_a_kind_of_its_own() -> None:
    record = simulate(plan(stack=replace(STACK, host_pass_s=0.01)), "dgx-h100").record
    assert record.time_s["host"] > 0.9 * record.iteration_s
    assert sum(record.time_s.values()) == pytest.approx(record.iteration_s)


def test_gradients_of_every_microbatch_are_added_up() -> None:
    adding = replace(STACK, accumulation_bytes=10)
    parameters = 8 * 12 * 512 * 512
    assert seconds(plan(stack=adding)) - seconds(plan()) == pytest.approx(8 * 10 * parameters / 0.5e12, rel=0.1)


@pytest.mark.parametrize(
    "step",
    [
        plan(), plan(recompute="full"), plan(tp=4), plan(tp=2, sequence_parallel=True, recompute="selective"),
        plan(pp=4), plan(pp=4, batch=2), plan(pp=2, stages=2, schedule="interleaved-1f1b"),
        plan(pp=4, schedule="zb-h1"), plan(dp=8), plan(dp=8, zero=1), plan(tp=2, pp=2, dp=2), plan(recompute="per-op"),
    ],
)  # fmt: skip
def test_the_closed_form_is_near_the_simulator(step: StepPlan) -> None:
    closed = closed_form(step, STACK, MACHINE).iteration_s
    assert closed == pytest.approx(seconds(step), rel=0.08)
