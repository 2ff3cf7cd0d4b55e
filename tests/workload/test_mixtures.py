# SPDX-License-Identifier: Apache-2.0
"""Latent attention, shared experts and layers that differ: published counts, and what each adds, worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.workload.cost import activation_bytes, hardware_flops
from commbench.workload.gradient_traffic import data_traffic
from commbench.workload.memory import get_precision
from commbench.workload.model_files import read_config
from commbench.workload.operator import Matmul
from commbench.workload.operators import layer_operators, stage_operators
from commbench.workload.presets import get_model
from commbench.workload.step_passes import distinct_layers, stage_layers
from commbench.workload.traffic import layer_traffic
from commbench.workload.transformer import LatentAttention, Transformer, stage_kinds
from tests.workload.shapes import active_parameters, execution, moved_bytes, num_parameters

DEEPSEEK, LLAMA4 = get_model("deepseek-v3"), get_model("llama4-maverick")
SOURCES = {
    # arXiv 2405.04434, abstract
    "deepseek-v2": (236e9, 21e9),
    # arXiv 2412.19437, abstract; README_WEIGHTS.md of huggingface.co/deepseek-ai/DeepSeek-V3
    "deepseek-v3": (671e9, 37e9),
    # model cards of huggingface.co/Qwen/Qwen3-30B-A3B and Qwen3-235B-A22B
    "qwen3-30b-a3b": (30.5e9, 3.3e9),
    "qwen3-235b-a22b": (235e9, 22e9),
    # model card of huggingface.co/meta-llama/Llama-4-Scout-17B-16E: 108.64 B weights with those for pictures (0.87 B)
    "llama4-scout": (108.64e9 - 0.87e9, 17e9),
    "llama4-maverick": (400e9, 17e9),
}


@pytest.mark.parametrize("name", SOURCES)
def test_published_parameters(name: str) -> None:
    """The whole within 1 %; what a token meets as printed, to two digits, within 2.5 %."""
    total, active = SOURCES[name]
    assert num_parameters(get_model(name)) == pytest.approx(total, rel=0.01)
    assert active_parameters(get_model(name)) == pytest.approx(active, rel=0.025)


def test_operators_of_latent_attention() -> None:
    """DeepSeek-V3, tp 4: 32 of 128 heads; queries and keys of 128 + 64, values of 128."""
    run = execution(DEEPSEEK, tp=4, flash=True, attention="causal")
    layer = {op.name: op for op in layer_operators(DEEPSEEK, run, 0)}
    t, h, s = 4096, 7168, 4096
    assert {name: op.forward.matmul for name, op in layer.items() if op.forward.matmul and op.block == "attention"} == {
        "q-down": Matmul(t, 1536, h),
        "q-up": Matmul(t, 32 * 192, 1536),
        "kv-down": Matmul(t, 512 + 64, h),
        "kv-up": Matmul(t, 32 * (128 + 128), 512),
        "attention-core": Matmul(s, s, 192, 32),
        "projection": Matmul(t, h, 32 * 128),
    }
    core = layer["attention-core"]
    assert core.forward.flops == 2 * t * s * 32 * (192 + 128) // 2
    assert core.input.flops == 2 * t * s * 32 * (3 * 192 + 2 * 128) // 2
    assert core.kept_bytes == 2 * t * 32 * (192 + 192 + 128)
    assert (layer["q-norm"].parameters, layer["kv-norm"].parameters) == (1536, 512)
    read_by_both = layer["q-down"].saved_bytes + layer["kv-down"].saved_bytes
    assert read_by_both == 2 * t * h
    kept = [op for name, op in layer.items() if name.endswith("norm") and name != "mlp-norm"]
    assert sum(op.saved_bytes for op in kept) == 2 * t * (h + 1536 + 512)


def test_a_core_of_several_kernels_is_as_many_flop() -> None:
    """Without the one kernel: no third product of Q and K in backward, one row of values is 128 wide and not 192."""
    run = execution(DEEPSEEK, tp=4)
    layer = {op.name: op for op in layer_operators(DEEPSEEK, run, 0)}
    square = 2 * 4096 * 4096 * 32
    assert (layer["scores"].forward.flops, layer["context"].forward.flops) == (square * 192, square * 128)
    assert layer["context"].forward.matmul == Matmul(4096, 128, 4096, 32)
    assert layer["context"].kept_bytes == 2 * 4096 * 32 * 128
    assert layer["scores"].kept_bytes == 2 * 4096 * 32 * (192 + 192)


def test_as_wide_as_others_latent_attention_has_their_core() -> None:
    """With values as wide as queries only the products differ from a model without latents."""
    plain = get_model("llama2-7b")
    latent = replace(plain, latent=LatentAttention(q_rank=0, kv_rank=64, rope_size=32, value_size=plain.head_size))
    for flash in (True, False):
        run = execution(plain, flash=flash, attention="causal", tp=2)
        ours, theirs = (
            [op for op in layer_operators(model, run) if op.core or op.name in ("rotary", "projection")]
            for model in (latent, plain)
        )
        assert ours == theirs
    assert "q" in {op.name for op in layer_operators(latent, run)}


def test_first_layers_are_dense() -> None:
    """DeepSeek-V3: three of 18432, then 256 experts of 2048 with a shared one, of which a rank of ep 64 holds 4."""
    run = execution(DEEPSEEK, ep=64, flash=True)
    dense, sparse = ({op.name: op for op in layer_operators(DEEPSEEK, run, number)} for number in (2, 3))
    assert dense["up"].forward.matmul == Matmul(4096, 2 * 18432, 7168)
    assert "router" not in dense
    assert "up" not in sparse
    assert sparse["expert-up"].forward.matmul == Matmul(8 * 4096 // 4, 2 * 2048, 7168, 4)
    assert sparse["shared-up"].forward.matmul == Matmul(4096, 2 * 2048, 7168)
    assert not sparse["shared-up"].expert
    assert sparse["router"].saved_bytes + sparse["shared-up"].saved_bytes == 2 * 4096 * 7168  # one input of both
    assert sparse["shared-down"].parameters == 2048 * 7168
    assert DEEPSEEK.kinds == (0, 3)
    assert LLAMA4.kinds == (0, 1)
    assert [LLAMA4.is_sparse(number) for number in range(4)] == [False, True, False, True]
    assert get_model("llama4-scout").kinds == (0,) == get_model("gpt2").kinds


@pytest.mark.parametrize("model", [DEEPSEEK, LLAMA4], ids=lambda model: model.name)
def test_stages_of_layers_that_differ_add_up(model: Transformer) -> None:
    """Whatever the cut: weights, FLOP and kept bytes of the stages are those of the whole."""
    run = execution(model, flash=True, ep=8)
    whole = stage_operators(model, run, range(model.num_layers), first=True, last=True)
    cuts = (2, 3, model.num_layers - 6, 1)
    parts = [
        stage_operators(model, run, kinds, first=stage == 0, last=stage == 3)
        for stage, kinds in enumerate(stage_kinds(model, cuts))
    ]
    assert [op for part in parts for op in part] == list(whole)
    kept = [
        activation_bytes(model, run, kinds, first=stage == 0, last=stage == 3)
        for stage, kinds in enumerate(stage_kinds(model, cuts))
    ]
    assert sum(kept) == sum(op.saved_bytes for op in whole)


def test_stages_alike_have_the_same_kinds() -> None:
    assert stage_kinds(DEEPSEEK, (2, 2, 2, 55)) == ((0, 0), (0, 3), (3, 3), (3,) * 55)
    assert len(set(stage_kinds(LLAMA4, (4,) * 12))) == 1
    run = execution(LLAMA4, flash=True)
    found = distinct_layers(LLAMA4, run, range(4, 8), first=False, last=True)
    assert [(layer.number, places) for layer, places in found] == [(0, (0, 2)), (1, (1, 3)), (48, (4,))]
    layers = stage_layers(LLAMA4, run, range(4, 8), first=False, last=True)
    assert [(layer.number, layer.operators[-2].name) for layer in layers] == [
        (0, "down"), (1, "unpermute"), (2, "down"), (3, "unpermute"), (4, "logits"),
    ]  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"sequence_parallel": True}], ids=str)
def test_tensor_ranks_share_the_work(more: dict[str, bool]) -> None:
    """All but the products to the latents, which each rank makes of all tokens unless these are split, and the router.
    """
    whole, part = (execution(DEEPSEEK, flash=True, tp=tp, **(more if tp > 1 else {})) for tp in (1, 4))
    again = 0
    if not more:
        own = (op for number in range(61) for op in layer_operators(DEEPSEEK, whole, number))
        names = ("q-down", "kv-down", "router")
        again = sum(3 * op.forward.flops for op in own if op.name in names)
    assert 4 * hardware_flops(DEEPSEEK, part) == hardware_flops(DEEPSEEK, whole) + 3 * again


def test_what_tensor_ranks_send_of_latents_and_shared_experts() -> None:
    """Latents are gathered, and not the residual stream; backward sums their gradients. The shared expert is summed
    with the routed ones where each rank has all tokens.
    """
    t = 2 * 4096
    plain = [one for one in layer_traffic(DEEPSEEK, execution(DEEPSEEK, tp=4), 3) if one.kind == "tensor"]
    assert [(one.operator, one.when, one.size_bytes) for one in plain] == [
        ("projection", "forward", t * 7168), ("unpermute", "forward", t * 7168), ("permute", "backward", t * 7168),
        ("kv-up", "backward", t * (512 + 64)), ("q-up", "backward", t * 1536),
    ]  # fmt: skip
    split = layer_traffic(DEEPSEEK, execution(DEEPSEEK, tp=4, sequence_parallel=True), 3)
    found = {(one.operator, one.collective, one.when): one.size_bytes for one in split}
    assert found["q-up", "all-gather", "forward"] == found["q-up", "all-gather", "weight"] == t * 1536
    assert found["kv-up", "reduce-scatter", "backward"] == t * (512 + 64)
    assert found["shared-up", "all-gather", "forward"] == found["shared-down", "reduce-scatter", "forward"] == t * 7168
    dense = layer_traffic(DEEPSEEK, execution(DEEPSEEK, tp=4, ep=4), 0)
    assert {one.kind for one in dense} == {"tensor"}
    assert moved_bytes(dense, 4) == moved_bytes(plain, 4)  # the sum of a dense MLP is as large
    keys = [one for one in layer_traffic(DEEPSEEK, execution(DEEPSEEK, cp=2, flash=True), 0) if one.kind == "context"]
    assert {one.size_bytes for one in keys} == {t * 128 * (192 + 128)}


def test_gradients_of_the_products_to_latents_are_summed_where_tokens_are_split() -> None:
    def sums(**run: object) -> list[tuple[str, int, int | None]]:
        found = data_traffic(
            DEEPSEEK, execution(DEEPSEEK, flash=True, **run), (0, 3), get_precision("megatron-bf16"), first=False,
            last=False, bucket_bytes=2**20, zero=1,
        )  # fmt: skip
        return [(one.group, one.size_bytes, one.layer) for one in found if one.kind == "tensor"]

    assert sums(tp=4) == []
    size = 4 * 7168 * (1536 + 512 + 64)
    assert sums(tp=4, sequence_parallel=True) == [("tp", size, 1), ("tp", size, 0)]


V3 = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128,
    "num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "vocab_size": 129280, "max_position_embeddings": 163840, "tie_word_embeddings": False,
    "num_nextn_predict_layers": 1,
}  # fmt: skip
V2 = V3 | {
    "model_type": "deepseek_v2", "num_hidden_layers": 60, "hidden_size": 5120, "intermediate_size": 12288,
    "moe_intermediate_size": 1536, "n_routed_experts": 160, "n_shared_experts": 2, "num_experts_per_tok": 6,
    "first_k_dense_replace": 1, "vocab_size": 102400,
}  # fmt: skip
QWEN3 = {
    "model_type": "qwen3_moe", "num_hidden_layers": 94, "hidden_size": 4096, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 12288, "moe_intermediate_size": 1536,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": False,
}  # fmt: skip
TEXT = {
    "model_type": "llama4_text", "num_hidden_layers": 48, "hidden_size": 5120, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
    "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "attention_chunk_size": 8192,
    "vocab_size": 202048, "max_position_embeddings": 10485760,
}  # fmt: skip
SCOUT = {"model_type": "llama4", "text_config": TEXT, "tie_word_embeddings": False}
MAVERICK = SCOUT | {"text_config": TEXT | {
    "num_local_experts": 128, "interleave_moe_layer_step": 2, "moe_layers": list(range(1, 48, 2)),
}}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (V2, "deepseek-v2"), (V3, "deepseek-v3"), (QWEN3, "qwen3-235b-a22b"), (SCOUT, "llama4-scout"),
        (MAVERICK, "llama4-maverick"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_a_config_gives_the_preset(tmp_path: Path, config: dict[str, object], name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    found, preset = read_config(tmp_path / "config.json"), get_model(name)
    assert replace(found, name=preset.name, source=preset.source, sequence=preset.sequence) == preset
    assert found.sequence == {"deepseek": 163840, "qwen3-23": 40960, "llama4-s": 8192, "llama4-m": 8192}[name[:8]]


def test_queries_without_a_latent(tmp_path: Path) -> None:
    """DeepSeek-V2-Lite, whose q_lora_rank is null: 15.7 B (arXiv 2405.04434, appendix B)."""
    lite = V2 | {
        "num_hidden_layers": 27, "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 16,
        "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64, "q_lora_rank": None,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(lite))
    model = read_config(tmp_path / "config.json")
    assert num_parameters(model) == pytest.approx(15.7e9, rel=0.01)
    assert active_parameters(model) == pytest.approx(2.4e9 + 102400 * 2048, rel=0.03)  # printed without the embedding


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (V3, {"moe_layer_freq": 2}, "moe_layer_freq = 2 is not modelled; only 1 is"),
        (V3, {"kv_lora_rank": None}, "kv_lora_rank is missing"),
        (V3, {"first_k_dense_replace": -1}, "first_k_dense_replace = -1 must be a whole number above -1"),
        (V3, {"first_k_dense_replace": 61}, "none of 61 layers has experts (first_dense 61, sparse_step 1)"),
        (V3, {"num_key_value_heads": 8}, "num_kv_heads 8 must be num_heads 128: latent attention"),
        (QWEN3, {"mlp_only_layers": [0, 1]}, "mlp_only_layers = [0, 1] is not modelled; only [] is"),
        (TEXT, {"moe_layers": []}, "moe_layers = [] is not modelled; only [0, 1,"),
        (V3, {"model_type": "qwen2_moe"}, "has a gate of its shared experts"),
    ],
)
def test_a_config_of_layers_that_are_not_modelled_is_refused(
    tmp_path: Path, config: dict[str, object], changes: dict[str, object], message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError) as caught:
        read_config(tmp_path / "config.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense_ffn": 0}, "dense_ffn = 0 must be the MLP width of the layers without experts"),
        ({"num_experts": 1, "experts_per_token": 1}, "are of a model with experts, but num_experts is 1"),
        ({"shared_ffn": -1}, "shared_ffn = -1 must be at least 0"),
        ({"head_size": 64}, "head_size 64 must be more than rope_size 64"),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(DEEPSEEK, **changes)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("dense_ffn", 18430), ("shared_ffn", 2046)])
def test_widths_of_every_mlp_are_split_over_tp(key: str, value: int) -> None:
    model = replace(DEEPSEEK, **{key: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"{key} {value} is not divisible by tp 4"):
        execution(model, tp=4).check_model(model)
