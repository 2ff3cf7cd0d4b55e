# SPDX-License-Identifier: Apache-2.0
"""The host's floor in simulated steps, and the closed form beside the simulator."""

from dataclasses import replace
from functools import cache
from statistics import fmean
from typing import Any

import pytest

from commbench.experiments.step_library import ideal_of_steps
from commbench.training.closed_form import closed_form
from commbench.training.link_curve import LinkCurve
from commbench.training.step_hosts import StepHosts
from commbench.workload.stack_habits import habits_of
from commbench.workload.step_costs import LinkCosts, StackCosts
from commbench.workload.step_plan import StepPlan
from commbench.workload.transformer import LatentAttention
from tests.training.plans import FREE_STACK, LATENT, TINY, plan, simulate

STACK = FREE_STACK
WIRE = LinkCosts(share=1, half_bytes=0, latency_s=1e-6, far_nics=1, transfer=1, nccl_share=1, nccl_wait_s=0)
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


REAL = StackCosts(
    host_pass_s=50e-6, host_call_s=2e-6, host_step_s=1e-3, memory_passes=1, accumulation_bytes=6, hidden_data=0.8,
    hidden_sharded=0.5, hidden_tensor=0.3, zero_rank_s=1e-4, sharded_share=1,
)  # fmt: skip
LINKS = LinkCosts(
    share=0.8, half_bytes=10e3, latency_s=10e-6, far_nics=1, transfer=0.7, nccl_share=0.8, nccl_wait_s=10e-6
)
HOSTS = replace(MACHINE, links_inside=LINKS, links_between=replace(LINKS, latency_s=20e-6))
MODEL = replace(TINY, hidden=2048, num_heads=16)
WIDE = replace(
    LATENT, hidden=2048, num_heads=16, num_kv_heads=16, head_size=192, ffn=1024, shared_ffn=1024, dense_ffn=4096,
    latent=LatentAttention(q_rank=512, kv_rank=256, rope_size=64, value_size=128),
)
CORE, INTERLEAVED = habits_of("megatron-core"), {"stages": 2, "schedule": "interleaved-1f1b"}
EACH: list[dict[str, Any]] = [
    {"tp": 8, "dp": 2}, {"tp": 4, "dp": 4, "sequence_parallel": True, "recompute": "full"},
    {"tp": 8, "dp": 2, "sequence_parallel": True, "overlap_tensor": True},
    {"dp": 16}, {"dp": 16, "overlap_gradients": False}, {"dp": 16, "zero": 1}, {"dp": 16, "zero": 1, "zero_group": 8},
    {"dp": 16, "stale_gradients": True}, {"dp": 16, "gradient_ratio": 0.25},
    {"dp": 16, "zero": 2}, {"dp": 16, "zero": 3}, {"dp": 16, "zero": 3, "zero_group": 8}, {"cp": 2, "dp": 8},
    {"tp": 2, "cp": 4, "dp": 2, "context": "all-to-all", "recompute": "full"},
    {"tp": 2, "pp": 4, "dp": 2}, {"tp": 8, "pp": 2, "scatter_gather": True}, {"pp": 8, "dp": 2, "zero": 1},
    {"tp": 8, "pp": 2, "stages": 2, "schedule": "interleaved-1f1b"}, {"tp": 4, "pp": 4, "schedule": "zb-h1"},
    {"tp": 8, "pp": 2, "schedule": "zbv"}, {"tp": 4, "pp": 4, "schedule": "gpipe"},
    {"tp": 2, "pp": 4, "dp": 2, "layers": (3, 2, 2, 1)}, {"tp": 2, "pp": 4, "dp": 2, "zero": 2, "layers": (1, 2, 2, 3)},
    {"tp": 4, "pp": 4, "launch_blocking": True}, {"dp": 16, "zero": 3, "launch_blocking": True},
    {"model": WIDE, "tp": 2, "ep": 4, "dp": 8, "sequence_parallel": True},
    {"model": WIDE, "ep": 4, "dp": 4, "pp": 4, "zero": 1, "recompute": "full"},
    {"model": WIDE, "dp": 16, "zero": 3}, {"model": WIDE, "cp": 2, "dp": 8, "ep": 2},
    {"dp": 16, "zero": 1, "overlap_parameters": True}, {"dp": 16, "zero": 2, "overlap_parameters": True},
    {"pp": 4, "dp": 4, "zero": 1, "overlap_parameters": True},
    {**INTERLEAVED, "pp": 4, "dp": 4, "zero": 1, "habits": CORE, "overlap_parameters": True},
    {**INTERLEAVED, "tp": 8, "pp": 2, "sequence_parallel": True, "habits": CORE, "overlap_tensor": True},
    {"tp": 8, "dp": 2, "sequence_parallel": True, "overlap_tensor": True, "habits": CORE},
    {"cp": 4, "dp": 4, "habits": CORE},
]  # fmt: skip


@pytest.mark.parametrize("how", EACH, ids=str)
def test_with_the_same_constants_the_closed_form_is_the_simulator(how: dict[str, Any]) -> None:
    """Host, links, overlap that slows both sides, sharding and pipelines: within 3 %, in the mean 1 %."""
    assert abs(apart(how)) <= 0.03


def test_in_the_mean_the_two_are_a_percent_apart() -> None:
    assert fmean(abs(apart(how)) for how in EACH) <= 0.01


@cache
def _apart(key: int) -> float:
    step = plan(**{"model": MODEL, "batch": 32, "stack": REAL} | EACH[key])
    library = LinkCurve.of_plan(step, HOSTS, ideal_of_steps())
    return closed_form(step, REAL, HOSTS).iteration_s / simulate(step, library=library).record.iteration_s - 1


def apart(how: dict[str, Any]) -> float:
    return _apart(EACH.index(how))


@pytest.mark.parametrize("between", [20e9, 50e9, 400e9])
def test_sums_of_shares_are_beside_layers_however_long_they_last(between: float) -> None:
    """Hybrid sharding over links on which the sum of a layer's share lasts longer than computing it, and shorter: it is
    slowed by what it slows, beside what is fetched and reduced."""
    step, hosts = plan(model=MODEL, batch=16, stack=REAL, dp=16, zero=3, zero_group=8), replace(HOSTS, between=between)
    library = LinkCurve.of_plan(step, hosts, ideal_of_steps())
    simulated = simulate(step, library=library).record.iteration_s
    assert closed_form(step, REAL, hosts).iteration_s == pytest.approx(simulated, rel=0.015)


def test_what_megatron_core_overlaps_takes_less_by_what_was_exposed() -> None:
    """Transfers, tensor collectives, keys and parameters that run beside compute cost nothing where nothing is slowed;
    an overlap that is lost shows as more time."""
    free, wide = replace(REAL, hidden_data=0, hidden_tensor=0), {"model": MODEL, "batch": 64}
    for how, kinds in (
        ({"dp": 16, "zero": 1}, ("zero",)),
        ({"tp": 2, "dp": 8, "micro_batch": 8, "sequence_parallel": True, "overlap_tensor": True}, ("tensor",)),
        ({"cp": 2, "dp": 8, "micro_batch": 4}, ("context",)),
    ):
        plain = plan(**wide, **how, stack=free)
        core = replace(plain, habits=CORE, overlap_parameters=how.get("zero") == 1)
        before, after = (
            simulate(step, library=LinkCurve.of_plan(step, HOSTS, ideal_of_steps())).record for step in (plain, core)
        )
        exposed = [sum(record.exposed_s.get(kind, 0.0) for kind in kinds) for record in (before, after)]
        assert exposed[1] < 0.6 * exposed[0]
        assert after.iteration_s < before.iteration_s


def test_what_an_all_to_all_sends_to_other_hosts_each_rank_sends_by_itself() -> None:
    """16 ranks on 2 hosts of 8: half of each rank's 160 MB go to the other host, by its own NIC of 50 GB/s. A ring of
    the same ranks leaves a host once, by 8 NICs."""
    size = 160_000_000
    assert MACHINE.of_group("all-to-all", size, 16, 1).wire_s == pytest.approx(size / 2 / 50e9)
    assert MACHINE.of_group("all-gather", size, 16, 1).wire_s == pytest.approx(size * 15 / 16 / 400e9)
    assert MACHINE.of_group("all-to-all", size, 8, 1).wire_s == pytest.approx(size * 7 / 8 / 450e9)
    assert MACHINE.of_group("all-to-all", size, 4, 8).wire_s == pytest.approx(size * 3 / 4 / 50e9)


def test_senders_of_interleaved_stages_do_not_wait_where_the_software_does_not() -> None:
    waits = {
        (name, stages): plan(pp=4, stages=stages, schedule=kind, habits=habits_of(name), stack=REAL).sender_waits
        for name in ("megatron", "megatron-core")
        for stages, kind in ((1, "1f1b"), (2, "interleaved-1f1b"))
    }
    assert waits == {
        ("megatron", 1): True, ("megatron", 2): True, ("megatron-core", 1): True, ("megatron-core", 2): False
    }  # fmt: skip
