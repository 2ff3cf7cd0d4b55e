# SPDX-License-Identifier: Apache-2.0
"""Simulated steps against closed forms, timelines worked out by hand, and identities."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from commbench.lowering.aggregate import layouts_of
from commbench.lowering.scenario import Scenario
from commbench.program.operations import NOTHING, Collective, Program, Transfer
from commbench.training.simulate import StepSimulation
from commbench.units import PS_PER_S
from commbench.workload import step as step_module
from commbench.workload.compute import work_seconds
from commbench.workload.operator import Work as Cost
from commbench.workload.pipeline.lower import StageTimes
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.step import build_step
from commbench.workload.step_passes import Layer, Picoseconds, Work, pass_items, stage_layers
from commbench.workload.step_plan import StepPlan
from tests.cases import star
from tests.training.plans import DEVICE, MIXTURE, TINY, plan, simulate
from tests.workload.pipelines import run as run_pipeline

UNTIED = replace(TINY, tied=False)
FREE = 1e30  # bytes/s: a transfer takes 0 ps


def link_bytes(found: StepSimulation) -> npt.NDArray[np.float64]:
    assert found.ran.bound is not None
    return found.ran.bound.link_bytes()


def communications(program: Program) -> list[tuple[str, Collective | Transfer]]:
    """(What it is for, what) of every operation that is one."""
    return [
        (program.purposes[program.purpose[number]], program.communications[program.communication[number]])
        for number in np.flatnonzero(program.communication != NOTHING).tolist()
    ]


def lasts(step: StepPlan) -> Picoseconds:
    def of(work: Cost, core: bool) -> int:
        return round(work_seconds(work, step.device, step.dtype, step.efficiency, core=core) * PS_PER_S)

    return of


def pass_ps(step: StepPlan, stage: int, kind: Pass) -> int:
    """Work of one pass, from its items."""
    last = len(step.layers) - 1
    layers = stage_layers(step.model, step.run, range(step.layers[stage]), first=stage == 0, last=stage == last)
    items = pass_items(layers, step.run, kind, lasts(step))
    return sum(item.duration_ps for item in items if isinstance(item, Work))


@pytest.mark.parametrize(
    ("name", "p", "m", "stages"),
    [("gpipe", 4, 8, 1), ("1f1b", 4, 8, 1), ("1f1b", 8, 16, 1), ("interleaved-1f1b", 4, 8, 2), ("zb-h1", 4, 8, 1),
     ("zb-h2", 4, 8, 1), ("zbv", 4, 8, 2), ("looped-bfs", 2, 4, 2), ("dualpipev", 2, 4, 2)],
)  # fmt: skip
def test_on_free_links_a_step_is_its_pipeline(name: str, p: int, m: int, stages: int) -> None:
    """Equal to the plain lowering of the schedule with the same times per stage, plus the optimizer of the slowest."""
    model = replace(UNTIED, num_layers=16)
    step = plan(model, pp=p, batch=m, schedule=name, stages=stages)
    found = simulate(step, star(p, bandwidth=FREE, latency_ps=0))
    times = [
        StageTimes(
            forward_ps=pass_ps(step, stage, Pass.FORWARD),
            input_ps=pass_ps(step, stage, Pass.INPUT),
            weight_ps=pass_ps(step, stage, Pass.WEIGHT),
        )
        for stage in range(len(step.layers))
    ]
    plain = run_pipeline(build_pipeline(name, p, m, stages), times)
    ends = max(found.ran.trace.end_ps[one.last] for one in found.step.passes)
    assert ends == plain.total
    assert found.record.bubble_of_total == pytest.approx(1 - np.mean(plain.busy) / plain.total, abs=1e-12)
    assert not any(found.record.exposed_s.values())


@pytest.mark.parametrize(("p", "m"), [(2, 2), (4, 8), (8, 16), (4, 13)])
def test_equal_stages_on_free_links_have_the_bubble_of_the_closed_form(
    p: int, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(m + p - 1) (F + B), bubble (p-1)/m of ideal and (p-1)/(m+p-1) of total (arXiv 2104.04473, section 2.2.1)."""

    def without_ends(model: object, run: object, layers: object, **ends: bool) -> object:
        return stage_layers(model, run, layers, first=False, last=False)  # type: ignore[arg-type]

    monkeypatch.setattr(step_module, "stage_layers", without_ends)
    step = plan(replace(UNTIED, num_layers=16), pp=p, batch=m, device=replace(DEVICE, memory_bytes_per_s=1e30))
    found = simulate(step, star(p, bandwidth=FREE, latency_ps=0))
    one = simulate(replace(step, schedule=build_pipeline("1f1b", p, p)), star(p, bandwidth=FREE, latency_ps=0))
    both = one.ran.trace.finish_ps // (2 * p - 1)  # F + B, from a step with as many microbatches as ranks
    assert found.ran.trace.finish_ps == (m + p - 1) * both
    assert found.record.bubble_of_ideal == pytest.approx((p - 1) / m, rel=1e-12)
    assert found.record.bubble_of_total == pytest.approx((p - 1) / (m + p - 1), rel=1e-12)


def test_data_parallel_buckets_overlap_backward_as_worked_out_by_hand() -> None:
    """Two ranks, one microbatch, a bucket per layer: each is sent when its layer is through and the one before is sent.

    A ring all-reduce of S bytes on two ranks is two steps of S/2: S / bandwidth.
    """
    bandwidth = 2e9
    step = plan(replace(UNTIED, num_layers=3), dp=2, batch=2, bucket_bytes=1)
    found = simulate(step, star(2, bandwidth=bandwidth, latency_ps=0))
    layers = stage_layers(step.model, step.run, range(3), first=True, last=True)
    now = sum(pass_items_ps([layer], step, Pass.FORWARD) for layer in layers)
    sent = 0
    for layer in reversed(layers):
        now += pass_items_ps([layer], step, Pass.BACKWARD)
        num_bytes = 2 * sum(op.parameters for op in layer.operators)
        sent = max(now, sent) + round(num_bytes / bandwidth * PS_PER_S)
    parameters = sum(op.parameters for layer in layers for op in layer.operators)
    optimizer = round(parameters * (2 + 2 * 12 + 2) / (1e12 * 0.5) * PS_PER_S)
    assert found.ran.trace.finish_ps == pytest.approx(sent + optimizer, abs=20)  # weights are rounded to 2**-20
    assert found.record.exposed_s["data"] == pytest.approx((sent - now) / PS_PER_S, abs=2e-11)
    assert found.record.exposed_s["data"] > 0


def pass_items_ps(layers: list[Layer], step: StepPlan, kind: Pass) -> int:
    items = pass_items(layers, step.run, kind, lasts(step))
    return sum(item.duration_ps for item in items if isinstance(item, Work))


@pytest.mark.parametrize("t", [2, 4, 8])
@pytest.mark.parametrize("parallel", [False, True])
def test_tensor_parallel_bytes_over_the_links_are_the_formula(t: int, parallel: bool) -> None:
    """8 b s h e (t-1)/t per rank, layer and microbatch (10 with sequence parallelism), and the two ends of the model.

    The ends: as much as a quarter layer for the embedding and for the head (which with sequence parallelism gathers
    once more), three all-reduces of an FP32 number per token for the loss.
    """
    m = 4
    step = plan(tp=t, batch=m, sequence_parallel=parallel)
    found = simulate(step, star(t))
    unit = TINY.sequence * TINY.hidden * 2 * (t - 1) / t
    loss = 3 * 4 * TINY.sequence * 2 * (t - 1) / t
    per_rank = m * ((10 if parallel else 8) * unit * TINY.num_layers + (5 if parallel else 4) * unit + loss)
    over = link_bytes(found)
    assert over[0::2].sum() == pytest.approx(t * per_rank, rel=1e-12)
    assert over[1::2].sum() == pytest.approx(t * per_rank, rel=1e-12)
    assert found.record.exposed_s["tensor"] == found.record.time_s["tensor"]


def test_model_flop_utilisation_is_the_formula_over_the_time() -> None:
    """72 b s L h^2 (1 + s/6h + V/12Lh) (arXiv 2104.04473, section 5.1, without its recomputation)."""
    step = plan(tp=2, pp=2, dp=2, batch=16, attention="full", flash=False)
    record = simulate(step, star(8)).record
    s, h, layers, vocab = TINY.sequence, TINY.hidden, TINY.num_layers, TINY.vocab
    flops = 72 * 16 * s * layers * h * h * (1 + s / (6 * h) + vocab / (12 * layers * h))
    assert record.mfu == pytest.approx(flops / (record.iteration_s * 8 * 100e12), rel=1e-12)
    assert record.hfu == pytest.approx(record.mfu, rel=1e-12)
    assert record.tokens_per_s_per_gpu == pytest.approx(16 * s / record.iteration_s / 8)
    again = simulate(replace(step, run=replace(step.run, recompute="full")), star(8)).record
    layers_alone = 72 * 16 * s * layers * h * h * (1 + s / (6 * h)) / 3
    assert again.hfu * again.iteration_s - again.mfu * again.iteration_s == pytest.approx(layers_alone / 8 / 100e12)


def test_the_groups_of_tp2_dp2_pp4_on_16_gpus() -> None:
    """Megatron-LM's own example (megatron/core/parallel_state.py); stage 2 to 3 joins GPU 8 to 12."""
    step = build_step(plan(tp=2, dp=2, pp=4))
    groups: dict[str, set[tuple[int, ...]]] = {}
    for kind, what in communications(step.program):
        groups.setdefault(kind, set()).update(tuple(row) for row in what.groups.tolist())
    assert sorted(groups["tensor"]) == [(r, r + 1) for r in range(0, 16, 2)]
    data = {(r, r + 2) for r in (0, 1, 4, 5, 8, 9, 12, 13)}
    ends = {(r, r + 12) for r in range(4)}
    assert groups["data"] == data | ends
    assert groups["pipeline"] == {(r, r + 4) for r in range(12)} | {(r + 4, r) for r in range(12)}


@pytest.mark.parametrize(("zero", "m"), [(1, 1), (1, 8), (2, 1), (2, 8)])
def test_zero_one_and_two_send_what_zero_nought_sends(zero: int, m: int) -> None:
    """A reduce-scatter of gradients and an all-gather of as many bytes of parameters are an all-reduce; ZeRO 2, which
    keeps a share of the gradients only, reduces those of each of m microbatches: (m + 1) halves of an all-reduce.
    """
    plain, sharded = (simulate(plan(dp=4, batch=4 * m, zero=z), star(4)) for z in (0, zero))
    halves = 2 if zero == 1 else m + 1
    assert link_bytes(sharded).sum() == pytest.approx(halves / 2 * link_bytes(plain).sum(), rel=1e-9)
    assert sharded.record.memory_bytes["optimizer"] < plain.record.memory_bytes["optimizer"] / 3
    assert sharded.record.time_s["optimizer"] == pytest.approx(plain.record.time_s["optimizer"] / 4, rel=1e-6)


def test_zero_three_gathers_every_layer_for_every_pass_and_never_far_ahead() -> None:
    """Per microbatch (n-1)/n of the parameters twice and of the gradients once; a gather waits for the layer two
    before it in its microbatch, for what its group sent before it (one communicator carries one collective at a
    time), at a microbatch's begin for the gradients of the one before, and for nothing else.
    """
    m, n = 3, 4
    found = simulate(plan(UNTIED, dp=n, batch=m * n, zero=3), star(n))
    layers = stage_layers(UNTIED, found.step.plan.run, range(8), first=True, last=True)
    parameters = 2 * sum(op.parameters for layer in layers for op in layer.operators)
    assert link_bytes(found)[0] == pytest.approx(3 * m * parameters * (n - 1) / n, rel=1e-9)
    starts, ends = found.ran.trace.start_ps, found.ran.trace.end_ps
    gathers, sums = (
        [i for i in range(found.step.program.num_operations) if f"zero {name}" in found.step.program.label_of(i)]
        for name in ("all-gather", "reduce-scatter")
    )
    each = 2 * len(layers)
    assert len(gathers) == m * each == 2 * len(sums)
    done = [int(end) for i, end in enumerate(ends) if found.step.program.label_of(i) in PASSES]
    for number, gather in enumerate(gathers):
        microbatch, place = divmod(number, each)
        reduced = int(ends[sums[microbatch * len(layers) - 1]]) if microbatch else 0
        computed = done[number - 2] if place >= 2 else 0
        sent = max((int(ends[i]) for i in (*gathers, *sums) if starts[i] < starts[gather]), default=0)
        assert starts[gather] == max(computed, reduced, sent)
    carried = sorted((int(starts[i]), int(ends[i])) for i in (*gathers, *sums))
    assert all(before[1] <= after[0] for before, after in pairwise(carried))


PASSES = {f"0{kind}{microbatch}" for kind in "FB" for microbatch in range(3)}


def slow_or_fast(peak: float, *, zero: int = 3) -> tuple[StepSimulation, StepPlan, list[int]]:
    """ZeRO on 4 ranks and 2 microbatches of 3 layers, and how long one transfer of each layer's 2-byte weights takes:
    (n-1)/n of them over a link of 2 GB/s.
    """
    n, bandwidth = 4, 2e9
    device = replace(DEVICE, peak_flops={"bf16": peak}, memory_bytes_per_s=max(1e12, peak / 1e4))
    step = plan(replace(UNTIED, num_layers=3), dp=n, batch=2 * n, zero=zero, device=device, bucket_bytes=1)
    layers = stage_layers(step.model, step.run, range(3), first=True, last=True)
    sizes = [2 * sum(op.parameters for op in layer.operators) for layer in layers]
    found = simulate(step, star(n, bandwidth=bandwidth, latency_ps=0))
    return found, step, [round(size * (n - 1) / n / bandwidth * PS_PER_S) for size in sizes]


def test_under_slow_compute_zero_three_exposes_first_gathers_and_last_reductions_of_a_microbatch() -> None:
    """By hand: before a microbatch the embedding and layer 0 are fetched, layer 0 beside the embedding's short lookup;
    behind it layer 0's gradients are reduced, beside the embedding's own, and the embedding's. All else is hidden by
    layers that last longer than what goes beside them.
    """
    found, step, lasts_ps = slow_or_fast(1e11)
    embedding = stage_layers(step.model, step.run, range(3), first=True, last=True)[:1]
    forward, backward = (pass_items_ps(embedding, step, kind) for kind in (Pass.FORWARD, Pass.BACKWARD))
    assert max(forward, backward) < lasts_ps[1]
    one = (lasts_ps[0] + lasts_ps[1] - forward) + (lasts_ps[1] - backward + lasts_ps[0])
    assert found.record.exposed_s["zero"] == pytest.approx(2 * one / PS_PER_S, rel=1e-6)
    slower, _, _ = slow_or_fast(1e10)
    assert slower.record.exposed_s["zero"] == pytest.approx(found.record.exposed_s["zero"], rel=1e-6)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_one_stage_has_no_bubble_whatever_it_waits_for(jitter: float) -> None:
    """Waiting for weights and gradients is exposed, for ranks that jitter makes late idle."""
    record = simulate(plan(UNTIED, dp=4, batch=8, zero=3), star(4), scenario=Scenario(jitter=jitter)).record
    assert (record.bubble_of_ideal, record.bubble_of_total, record.bubble_of_span) == (0, 0, 0)
    assert record.exposed_s["zero"] > 0
    assert (record.time_s["idle"] > 1e-9) is (jitter > 0)


def test_the_wait_for_weights_between_passes_is_exposed_and_no_bubble() -> None:
    """Two stages, passes of no length: nearly all their time is traffic of ZeRO, the bubble that of two stages."""
    slow = simulate(plan(UNTIED, dp=2, pp=2, batch=32, zero=3), star(4, bandwidth=1e9)).record
    begin, end = min(span[4] for span in slow.spans), max(span[5] for span in slow.spans)
    outside = 1 - sum(span[5] - span[4] for span in slow.spans) / (end - begin) / len(slow.positions)
    assert slow.exposed_s["zero"] > slow.iteration_s / 4
    assert slow.bubble_of_total < outside - 0.1


@pytest.mark.parametrize("zero", [2, 3])
def test_gradients_that_wait_to_be_reduced_take_memory(zero: int) -> None:
    """Two buckets of one layer each at most: the largest pair of neighbours among embedding, layers and head. Under
    ZeRO 3 the weights of two layers are there beside; one rank keeps its own.
    """
    one, two = (plan(UNTIED, dp=dp, batch=8, zero=zero, bucket_bytes=1) for dp in (1, 2))
    layers = stage_layers(UNTIED, two.run, range(8), first=True, last=True)
    sizes = [2 * sum(op.parameters for op in layer.operators) for layer in layers]
    (alone,), (shared,) = one.memory(), two.memory()
    weights = 2 * sizes[1] * two.precision.parameter_bytes // 2 if zero == 3 else 0
    assert shared.workspace == max(a + b for a, b in pairwise(sizes)) + weights
    assert alone.workspace == 0


def test_under_fast_compute_zero_three_lasts_as_long_as_its_traffic() -> None:
    """Two gathers and one reduction of everything per microbatch keep every link full."""
    found, _, lasts_ps = slow_or_fast(1e18)
    assert found.ran.trace.finish_ps == pytest.approx(2 * 3 * sum(lasts_ps), rel=1e-4)


def test_experts_exchange_tokens_over_the_expert_groups() -> None:
    """Per layer and microbatch four all-to-alls of b s k h e; a rank sends (n-1)/n of each."""
    m = 2
    found = simulate(plan(MIXTURE, ep=4, dp=4, batch=m * 4, zero=0), star(4))
    copies = 2 * MIXTURE.sequence * MIXTURE.hidden * 2
    calls = [what for kind, what in communications(found.step.program) if kind == "expert"]
    assert len(calls) == 4 * m * MIXTURE.num_layers
    sent = set()
    for what in calls:
        assert isinstance(what, Collective)
        chosen = found.ran.choices.of(what, layouts_of(what.groups, found.ran.cluster)[1][0])
        sent |= {step.num_bytes.sum() for step in chosen.traffic}
    assert sent == {copies * 4 * 3 / 4}
    assert found.record.exposed_s["expert"] > 0


def test_scatter_and_gather_sends_a_share_over_the_boundary() -> None:
    whole, shares = (simulate(plan(tp=4, pp=2, scatter_gather=flag), "dgx-h100") for flag in (False, True))
    for found, factor in ((whole, 1), (shares, 4)):
        sent = {what.num_bytes for _, what in communications(found.step.program) if isinstance(what, Transfer)}
        assert sent == {2 * TINY.sequence * TINY.hidden / factor}
        assert {what.name[:14] for _, what in communications(found.step.program) if isinstance(what, Transfer)} == {
            "pipeline stage"
        }


def test_tensor_collectives_beside_gradients_are_less_exposed() -> None:
    alone, beside = (simulate(plan(tp=4, overlap_tensor=flag), star(4)).record for flag in (False, True))
    assert beside.exposed_s["tensor"] < alone.exposed_s["tensor"]
    assert beside.iteration_s < alone.iteration_s
    computing = ("forward", "backward", "optimizer")
    assert [beside.time_s[kind] for kind in computing] == [alone.time_s[kind] for kind in computing]


def test_a_transfer_between_stages_is_exposed_on_the_stage_that_waits_for_it() -> None:
    """One microbatch, two stages: each waits once for a transfer of b s h e bytes; all other waiting is idle time."""
    found = simulate(plan(UNTIED, pp=2, batch=1, schedule="gpipe"), star(2))
    transfer_s = 2 * TINY.sequence * TINY.hidden / 12.5e9 + 2e-6
    record = found.record
    assert record.exposed_s == {"pipeline": pytest.approx(transfer_s, rel=1e-6)}
    assert record.time_s["pipeline"] == pytest.approx(transfer_s, rel=1e-6)
    assert record.critical_s["pipeline"] == pytest.approx(2 * transfer_s, rel=1e-6)
    ends = max(found.ran.trace.end_ps[one.last] for one in found.step.passes)
    busy = sum(record.time_s[kind] for kind in ("forward", "backward"))
    assert record.bubble_of_total == pytest.approx(1 - busy / (ends / PS_PER_S), rel=1e-9)
