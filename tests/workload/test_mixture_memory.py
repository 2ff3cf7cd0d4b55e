# SPDX-License-Identifier: Apache-2.0
"""Memory of pipeline positions whose layers differ."""

from dataclasses import replace

import pytest

from commbench.workload.cost import layer_activation_bytes
from commbench.workload.gradient_traffic import unreduced_gradient_bytes
from commbench.workload.model_files import model_from_shape
from commbench.workload.operators import layer_operators, stage_operators
from commbench.workload.presets import get_model
from tests.training.plans import LATENT, plan
from tests.workload.shapes import execution


def test_each_position_holds_its_own_layers() -> None:
    """Two dense layers, one and one with experts, and so on: weights and activations of what is there."""
    step = plan(LATENT, pp=4, ep=2, dp=2, batch=16)
    assert step.kinds == ((0, 0), (0, 3), (0, 3), (0, 3))
    uses = step.memory()
    assert [use.parameters for use in uses] == [
        step.precision.parameter_bytes
        * sum(op.parameters for op in stage_operators(LATENT, step.run, kinds, first=at == 0, last=at == 3))
        for at, kinds in enumerate(step.kinds)
    ]


def test_for_a_moment_the_largest_layer_is_there_whole() -> None:
    """Recomputed, or gathered twice under ZeRO 3; of this model that is one with experts."""
    model = replace(LATENT, dense_ffn=256)
    run = plan(model, recompute="full").run
    layers = [layer_operators(model, run, kind) for kind in model.kinds]
    again = [sum(op.saved_bytes for op in layer) - layer_activation_bytes(model, run, layer) for layer in layers]
    assert again[0] < again[1]
    (use,) = plan(model, recompute="full").memory()
    assert use.workspace == again[1]
    parameters = [sum(op.parameters for op in layer) for layer in layers]
    assert parameters[0] < parameters[1]
    step = plan(model, zero=3, dp=2)
    reduced = unreduced_gradient_bytes(step.traffic(0))
    assert step.memory()[0].workspace == 2 * 2 * parameters[1] + reduced


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("split", [{}, {"dp": 4, "zero_group": 1}], ids=str)
def test_nothing_is_gathered_or_reduced_where_nothing_is_divided(zero: int, split: dict[str, int]) -> None:
    """One data rank, or groups of one: a step has what it has without ZeRO."""
    model = get_model("gpt2")
    divided, whole = plan(model, zero=zero, **split), plan(model, zero=0, **(split | {"zero_group": 0}))
    assert divided.memory() == whole.memory()


@pytest.mark.parametrize("ep", [1, 2, 4])
def test_experts_that_no_other_rank_has_are_not_gathered(ep: int) -> None:
    """Over as many expert ranks as there are data ranks each has its own, whole: of a layer the rest is gathered."""
    step = plan(LATENT, zero=3, ep=ep, dp=4)
    counts = [
        sum(op.parameters for op in layer_operators(LATENT, step.run, kind) if ep < 4 or not op.expert)
        for kind in LATENT.kinds
    ]
    sent = [one for one in step.traffic(0) if ep < 4 or one.group != "edp"]
    assert step.memory()[0].workspace == 2 * 2 * max(counts) + unreduced_gradient_bytes(sent)


def test_of_every_second_product_the_output_is_kept() -> None:
    """Recomputation per operator, DeepSeek-V3's first layer: products to the latents and from them are one weight each,
    those of the MLP a gate and its like.
    """
    model, t = get_model("deepseek-v3"), 4096
    run = execution(model, recompute="per-op", flash=True)
    kept = 1536 + 576 + 7168 + 18432  # of q-down, q-up, kv-down, kv-up, projection, gate, up, down
    assert layer_activation_bytes(model, run, layer_operators(model, run, 0)) == (
        2 * t * (7168 + kept + 128 * 128) + 4 * t * 128
    )


def test_changed_heads_keep_the_widths_of_latent_attention() -> None:
    """A head of DeepSeek is not the residual stream over the heads."""
    changed = model_from_shape({"num_heads": 64}, get_model("deepseek-v3"))
    assert (changed.num_heads, changed.num_kv_heads, changed.head_size) == (64, 64, 192)
