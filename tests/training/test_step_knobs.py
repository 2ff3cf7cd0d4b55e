# SPDX-License-Identifier: Apache-2.0
"""One knob at a time: the answer moves in the right direction, and by the right amount."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from commbench.errors import InputError
from commbench.results.steps import SimulatedStep
from commbench.workload.compute import Efficiency
from tests.cases import star
from tests.training.plans import FREE_STACK, MIXTURE, TINY, plan, simulate

UNTIED = replace(TINY, tied=False)
FREE = 1e30  # bytes/s


def on_star(ranks: int, *, bandwidth: float = 12.5e9, latency_ps: int = 0, **how: Any) -> SimulatedStep:
    return simulate(plan(**how), star(ranks, bandwidth=bandwidth, latency_ps=latency_ps)).record


@pytest.mark.parametrize(
    "how", [{"tp": 4, "pp": 2, "dp": 2}, {"dp": 16, "zero": 3}, {"tp": 2, "cp": 2, "pp": 4}], ids=str
)
def test_with_free_links_a_step_is_compute_and_bubble(how: dict[str, Any]) -> None:
    """Nothing is exposed, and what is not optimizer is compute / (1 - bubble of total)."""
    found = on_star(16, bandwidth=FREE, model=UNTIED, **how)
    assert not any(found.exposed_s.values())
    compute_s = found.time_s["forward"] + found.time_s["backward"]
    slowest_optimizer_s = found.iteration_s - compute_s / (1 - found.bubble_of_total)
    assert found.time_s["optimizer"] * (1 - 1e-9) <= slowest_optimizer_s < 1.5 * found.time_s["optimizer"]
    assert found.bubble_of_total == pytest.approx(1 - 1 / (1 + found.bubble_of_ideal), rel=1e-12, abs=1e-15)


def test_half_the_bandwidth_doubles_what_is_exposed() -> None:
    """Tensor collectives stand alone on their links, so without latency each takes twice as long."""
    whole, half = (on_star(4, tp=4, bandwidth=bandwidth) for bandwidth in (10e9, 5e9))
    assert half.exposed_s["tensor"] == pytest.approx(2 * whole.exposed_s["tensor"], rel=1e-6)
    assert half.iteration_s - whole.iteration_s == pytest.approx(whole.exposed_s["tensor"], rel=1e-6)


def test_time_grows_by_the_same_for_every_layer_and_every_microbatch() -> None:
    layers = [on_star(1, model=replace(UNTIED, num_layers=count)).iteration_s for count in (8, 16, 24)]
    assert layers[1] - layers[0] == pytest.approx(layers[2] - layers[1], rel=1e-6)
    batches = [on_star(4, bandwidth=FREE, pp=4, batch=count).iteration_s for count in (8, 16, 24)]
    assert batches[1] - batches[0] == pytest.approx(batches[2] - batches[1], rel=1e-6)


def test_half_the_efficiencies_double_the_compute() -> None:
    full, half = (
        on_star(2, bandwidth=FREE, pp=2, efficiency=Efficiency(matrix=e, attention=e, memory=e)) for e in (0.8, 0.4)
    )
    for kind in ("forward", "backward", "optimizer"):
        assert half.time_s[kind] == pytest.approx(2 * full.time_s[kind], rel=1e-6)
    assert half.bubble_of_ideal == pytest.approx(full.bubble_of_ideal, rel=1e-6)


def test_full_recomputation_runs_the_layers_forward_once_more_and_keeps_their_inputs() -> None:
    none, full = (on_star(1, model=UNTIED, recompute=how) for how in ("none", "full"))
    ends = on_star(1, model=replace(UNTIED, num_layers=1))
    one = on_star(1, model=replace(UNTIED, num_layers=2)).time_s["forward"] - ends.time_s["forward"]
    assert full.time_s["recompute"] == pytest.approx(8 * one, rel=1e-6)
    assert full.iteration_s - none.iteration_s == pytest.approx(full.time_s["recompute"], rel=1e-9)
    assert full.mfu / none.mfu == pytest.approx(none.iteration_s / full.iteration_s, rel=1e-12)
    assert full.hfu > full.mfu
    assert full.memory_bytes["activations"] < none.memory_bytes["activations"] / 4


def test_zero_divides_one_kind_of_memory_after_the_other() -> None:
    """By 4 ranks, up to rounding; ZeRO 2 and 3 pay for it with more traffic, 1 does not."""
    uses = [on_star(4, dp=4, zero=zero, batch=16) for zero in range(4)]
    for kind, stage in (("optimizer", 1), ("gradients", 2), ("parameters", 3)):
        sizes = [one.memory_bytes[kind] for one in uses]
        assert sizes[:stage] == [sizes[0]] * stage
        assert all(4 * size == pytest.approx(sizes[0], rel=1e-3) for size in sizes[stage:])
    carried = [sum(link["bytes"] for link in one.busiest_links) for one in uses]
    assert carried[0] == pytest.approx(carried[1], rel=1e-9)
    assert carried[1] < carried[2] < carried[3]


def test_experts_over_more_ranks_take_less_memory_and_send_more() -> None:
    """ep 1 sends no tokens; each rank sends (n-1)/n of its copies, so 1.5 times as much at ep 4 as at ep 2. All
    gradients are one bucket, sent behind everything, so that nothing contends with them.
    """
    one, two, four = (on_star(4, model=MIXTURE, ep=ep, dp=4, batch=8, bucket_bytes=2**40) for ep in (1, 2, 4))
    assert "expert" not in one.exposed_s
    assert four.exposed_s["expert"] == pytest.approx(1.5 * two.exposed_s["expert"], rel=1e-3)
    parameters = [found.memory_bytes["parameters"] for found in (one, two, four)]
    assert parameters[0] - parameters[1] == pytest.approx(2 * (parameters[1] - parameters[2]), rel=1e-9)
    assert one.model_flops == two.model_flops == four.model_flops


def test_stages_per_rank_divide_the_bubble_of_interleaved_1f1b() -> None:
    """(p - 1) / (v m) of ideal, but for embedding and head, which make the end stages longer."""
    model = replace(UNTIED, num_layers=32, vocab=128)
    bubbles = [
        on_star(4, bandwidth=FREE, model=model, pp=4, batch=8, schedule="interleaved-1f1b", stages=v).bubble_of_ideal
        for v in (1, 2, 4)
    ]
    assert bubbles == pytest.approx([3 / 8, 3 / 16, 3 / 32], rel=0.06)


def test_gradients_that_are_not_overlapped_are_sent_behind_the_last_pass() -> None:
    """All of them are exposed, one after the other; beside the backward pass some are not."""
    beside, behind = (on_star(8, dp=8, bandwidth=100e9, overlap_gradients=overlap) for overlap in (True, False))
    assert behind.exposed_s["data"] == pytest.approx(behind.iteration_s - sum(
        behind.time_s[kind] for kind in ("forward", "backward", "optimizer")
    ), rel=1e-6)
    assert behind.exposed_s["data"] > 1.5 * beside.exposed_s["data"]
    pipelined = on_star(8, pp=2, dp=4, stages=2, schedule="interleaved-1f1b", overlap_gradients=False)
    assert pipelined.exposed_s["data"] > 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"dp": 8, "zero": 2, "overlap_gradients": False}, "--no-overlap-gradients: with --zero 2 those of each micro"),
        ({"dp": 8, "zero": 2, "stale_gradients": True}, "--stale-gradients: goes with --zero 0 or 1, which send the"),
        ({"dp": 8, "zero": 3, "gradient_ratio": 0.5}, "--gradient-ratio 0.5: goes with --zero 0 or 1, which send the"),
        ({"gradient_ratio": 0}, "--gradient-ratio 0: must be above 0 and at most 1"),
        ({"dp": 8, "zero": 1, "zero_group": 3}, r"--zero-group 3: must divide the 8 data ranks \(dp x cp\)"),
        ({"dp": 8, "zero": 1, "zero_group": 16}, "--zero-group 16: must divide the 8"),
        ({"dp": 8, "zero_group": 4}, "--zero-group 4: goes with --zero 1, 2 or 3"),
        ({"dp": 8, "ep": 2, "zero": 1, "zero_group": 4, "model": MIXTURE}, "--zero-group 4: goes with --ep 1"),
    ],
)
def test_what_does_not_go_with_sharding_or_overlap_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(**how)


@pytest.mark.parametrize("bandwidth", [100e9, 0.5e9])
def test_gradients_of_the_step_before_are_sent_from_the_beginning(bandwidth: float) -> None:
    """Beside all passes; the optimizer waits for them, as it must where they take longer than those."""
    how: dict[str, Any] = {"dp": 4, "bandwidth": bandwidth, "model": UNTIED}
    behind, stale = (on_star(4, **how, **more) for more in ({"overlap_gradients": False}, {"stale_gradients": True}))
    passes_s = stale.time_s["forward"] + stale.time_s["backward"]
    sent_s = behind.iteration_s - passes_s - behind.time_s["optimizer"]
    assert stale.iteration_s == pytest.approx(max(passes_s, sent_s) + stale.time_s["optimizer"], rel=1e-6)
    assert (sent_s < passes_s) is (bandwidth > 1e9)


@pytest.mark.parametrize("zero", [0, 1])
def test_compressed_gradients_are_fewer_bytes_and_more_compute(zero: int) -> None:
    """A quarter of the bytes; each of 4 is read, one written, and back. What ZeRO gathers behind stays as it is."""
    step = plan(dp=4, zero=zero, overlap_gradients=False)
    less = replace(step, gradient_ratio=0.25)
    whole, quarter = (simulate(one, star(4, bandwidth=1e9, latency_ps=0)).record for one in (step, less))
    parameters = sum(one.size_bytes for one in step.traffic(0) if one.when == "backward") // 4
    compute_s = 2 * 4 * 1.25 * parameters / 0.5e12
    assert quarter.time_s["optimizer"] - whole.time_s["optimizer"] == pytest.approx(compute_s, rel=1e-6)
    kind, moved = ("zero", 0.75) if zero else ("data", 1.5)
    saved_s = 0.75 * moved * 4 * parameters / 1e9
    assert whole.exposed_s[kind] - quarter.exposed_s[kind] == pytest.approx(saved_s, rel=0.01)
    for when, share in (("backward", 0.25), ("step", 1)):
        sizes = [[call.size_bytes for call in one.traffic(0) if call.when == when] for one in (step, less)]
        assert sizes[1] == pytest.approx([share * size for size in sizes[0]], abs=1)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_in_groups_gathers_inside_and_sums_across(zero: int) -> None:
    """Groups of 8 that fill a host: more memory, and only sums of a rank's own share cross the network."""
    whole, inside = (
        simulate(plan(dp=16, zero=zero, batch=32, zero_group=group), "dgx-h100-x2") for group in (0, 8)
    )
    kind = ("optimizer", "gradients", "parameters")[zero - 1]
    assert inside.record.memory_bytes[kind] == pytest.approx(2 * whole.record.memory_bytes[kind], rel=1e-3)
    crossing = {what.kind for what in inside.step.program.communications if what.groups.shape[1] == 2}
    assert crossing == {"all-reduce"}
    assert {what.groups.shape[1] for what in inside.step.program.communications} == {2, 8}
    assert inside.record.iteration_s < whole.record.iteration_s


def test_one_group_of_all_is_plain_zero() -> None:
    assert on_star(4, dp=4, zero=3, zero_group=4).iteration_s == on_star(4, dp=4, zero=3).iteration_s


def test_gathers_and_reductions_of_a_group_follow_each_other() -> None:
    """They are calls of one communicator: under ZeRO 3 no two of them are under way at once."""
    found = simulate(plan(dp=8, zero=3, batch=16), star(8, bandwidth=5e9))
    program, trace = found.step.program, found.ran.trace
    zero = [i for i in range(program.num_operations) if program.purposes[program.purpose[i]] == "zero"]
    spans = sorted((int(trace.start_ps[i]), int(trace.end_ps[i])) for i in zero)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_sums_of_shares_follow_their_reductions_beside_what_comes_next() -> None:
    """They are calls of another communicator over other links (torch: FSDPCommContext.all_reduce_stream). One behind
    the other, sums between hosts kept gathers inside them waiting.
    """
    model = replace(TINY, hidden=2048, num_heads=16, vocab=256)
    found = simulate(plan(model, dp=16, zero=3, batch=16, zero_group=8), "dgx-h100-x2")
    program, trace = found.step.program, found.ran.trace
    zero = [i for i in range(program.num_operations) if program.purposes[program.purpose[i]] == "zero"]
    spans: dict[str, list[tuple[int, int]]] = {"data": [], "shares": []}
    for i in zero:
        spans[program.streams[program.stream[i]]].append((int(trace.start_ps[i]), int(trace.end_ps[i])))
    assert len(spans["shares"]) == model.num_layers + 2
    inside = {end for _, end in spans["data"]}
    assert all(any(end <= begin for end in inside) for begin, _ in spans["shares"])
    beside = [one for one in spans["data"] if any(one[0] < end and begin < one[1] for begin, end in spans["shares"])]
    assert len(beside) >= model.num_layers


@pytest.mark.parametrize(("schedule", "waits"), [("1f1b", True), ("zb-h1", False)])
def test_a_stack_s_sender_waits_until_its_output_is_there(schedule: str, waits: bool) -> None:
    """Megatron's and torch's do; zero-bubble schedules send beside their passes."""
    with_stack, bare = (
        on_star(4, pp=4, bandwidth=2e9, schedule=schedule, batch=16, stack=stack) for stack in (FREE_STACK, None)
    )
    assert (with_stack.iteration_s > bare.iteration_s) is waits


def test_launches_that_block_put_the_host_s_time_on_top() -> None:
    """4 layers and 8 microbatches; forward, recomputed and backward each launch a layer once."""
    stack = replace(FREE_STACK, host_pass_s=1e-6)  # far less than a pass lasts
    how = {"batch": 8, "recompute": "full", "stack": stack}
    hidden, blocked = (on_star(1, launch_blocking=block, **how) for block in (False, True))
    assert "host" not in hidden.time_s
    on_top = blocked.iteration_s - hidden.iteration_s
    assert on_top == pytest.approx(blocked.time_s["host"], rel=1e-9)
    outside = 2  # embedding and head, which have passes of their own
    assert on_top == pytest.approx(8 * 3 * (TINY.num_layers + outside) * 1e-6, rel=1e-6)
