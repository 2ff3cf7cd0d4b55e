# SPDX-License-Identifier: Apache-2.0
"""Parameters, FLOP and activations against published counts and formulas, exactly."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.errors import InputError
from commbench.workload.cost import (
    activation_bytes,
    hardware_flops,
    model_flops,
    recomputed,
)
from commbench.workload.gradient_traffic import data_traffic
from commbench.workload.groups import Degrees, ParallelGroups
from commbench.workload.memory import get_precision
from commbench.workload.operator import Matmul
from commbench.workload.operators import layer_operators, stage_operators
from commbench.workload.pipeline.check import peak_activations
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.presets import MODELS, get_model, gpt, llama
from commbench.workload.traffic import layer_traffic
from commbench.workload.transformer import Execution, Transformer, split_layers
from tests.workload.shapes import active_parameters, execution, num_parameters

EXACT = {  # weights of the released checkpoints, as counted by Hugging Face
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
}
ROUNDED = {  # in units of 1e9, as the papers print them (2005.14165 table 2.1, 2205.05198 table 3, 2104.04473 table 1)
    "gpt3-125m": 0.125, "gpt3-350m": 0.350, "gpt3-760m": 0.760, "gpt3-1.3b": 1.3, "gpt3-2.7b": 2.7, "gpt3-6.7b": 6.7,
    "gpt3-13b": 13.0, "gpt3-175b": 175.0, "megatron-22b": 22, "megatron-175b": 174.6, "megatron-530b": 529.6,
    "megatron-1t": 1008.0,
    # arXiv 2201.11990, 2205.01068 (table 1), 2211.05100 (table 3), 2210.02414, 2311.16867; the model cards of others
    # (that of falcon-7b counts its tied embedding twice: 7.22)
    "mt-nlg-530b": 530, "opt-6.7b": 6.7, "opt-13b": 13, "opt-30b": 30, "opt-66b": 66, "opt-175b": 175,
    "bloom-176b": 176.25, "glm-130b": 130, "falcon-7b": 6.92, "falcon-40b": 41.8, "falcon-180b": 179.5,
    "mistral-7b": 7.24, "qwen2.5-7b": 7.62, "qwen2.5-14b": 14.77, "qwen2.5-32b": 32.76, "qwen2.5-72b": 72.71,
    "qwen3-8b": 8.19, "qwen3-14b": 14.77, "qwen3-32b": 32.76, "gemma-2b": 2.51, "gemma-7b": 8.54,
    # arXiv 2405.04434; 2412.19437; 2505.09388 and model cards; of LLaMA 4 the whole is 109 and 400, pictures among it
    "deepseek-v2": 236, "deepseek-v3": 671, "qwen3-30b-a3b": 30.5, "qwen3-235b-a22b": 235, "llama4-scout": 107.8,
    "llama4-maverick": 400,
    "nemotron-340b": 340,  # arXiv 2406.11704
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name: str) -> None:
    count = num_parameters(get_model(name))
    if name in EXACT:
        assert count == EXACT[name]
    else:
        assert count / 1e9 == pytest.approx(ROUNDED[name], rel=0.02)
    assert get_model(name).source


def test_active_parameters() -> None:
    """12.9 B and 39.1 B are printed (arXiv 2401.04088, section 2; mistral.ai, Mixtral 8x22B)."""
    assert round(active_parameters(get_model("mixtral-8x7b")) / 1e9, 1) == 12.9
    assert active_parameters(get_model("mixtral-8x22b")) / 1e9 == pytest.approx(39.1, abs=0.1)
    assert active_parameters(get_model("llama3-8b")) == EXACT["llama3-8b"]


@st.composite
def gpts(draw: st.DrawFn) -> Transformer:
    heads = draw(st.sampled_from([8, 16, 32]))
    return gpt(
        "drawn",
        "a test",
        num_layers=draw(st.integers(1, 6)),
        hidden=heads * draw(st.sampled_from([8, 64, 128])),
        num_heads=heads,
        vocab=draw(st.integers(8, 50_000)),
        sequence=8 * draw(st.integers(1, 64)),
    )


@given(model=gpts(), b=st.integers(1, 8))
def test_flop_formulas(model: Transformer, b: int) -> None:
    """72 b s L h^2 (1 + s/6h + V/12Lh) of the model; of the hardware 96 b s L h^2 (1 + s/6h + V/16Lh) if all is run
    again (arXiv 2104.04473, eq. 3), and 4 b s^2 h per layer more than the model's if attention is."""
    s, h, L, V = (Fraction(x) for x in (model.sequence, model.hidden, model.num_layers, model.vocab))  # noqa: N806
    published = 72 * b * s * L * h**2 * (1 + s / (6 * h) + V / (12 * L * h))
    assert model_flops(model, sequences=b, attention="full") == published
    full = 96 * b * s * L * h**2 * (1 + s / (6 * h) + V / (16 * L * h))
    assert hardware_flops(model, execution(model, micro_batch=b, recompute="full")) == full
    core = 4 * b * s**2 * h * L
    assert hardware_flops(model, execution(model, micro_batch=b, recompute="selective")) == published + core
    assert model_flops(model, sequences=b, attention="causal") == published - core * 3 / 2
    flash = hardware_flops(model, execution(model, micro_batch=b, flash=True))
    assert flash == published + core / 2  # 2.5 times forward in backward where 2 are needed


@given(model=gpts(), t=st.sampled_from([1, 2, 4, 8]), b=st.integers(1, 4))
def test_tensor_parallel_ranks_share_the_work(model: Transformer, t: int, b: int) -> None:
    model = replace(model, vocab=model.vocab * t)
    whole, part = (execution(model, micro_batch=b, tp=n) for n in (1, t))
    assert t * hardware_flops(model, part) == hardware_flops(model, whole)


def per_layer(model: Transformer, run: Execution) -> Fraction:
    """Kept bytes of a layer over s b h."""
    size = activation_bytes(model, run, range(1), first=False, last=False)
    return Fraction(size, run.micro_batch * run.sequence * model.hidden)


@given(model=gpts(), t=st.sampled_from([1, 2, 4, 8]), b=st.integers(1, 4))
def test_activation_formulas(model: Transformer, t: int, b: int) -> None:
    """Table 2 of arXiv 2205.05198, bytes over s b h; with sequence parallelism all is divided by t."""
    a_s_h = Fraction(model.num_heads * model.sequence, model.hidden)
    tensor = execution(model, micro_batch=b, tp=t)
    sequence = replace(tensor, sequence_parallel=True)
    assert per_layer(model, tensor) == 10 + Fraction(24, t) + 5 * a_s_h / t
    assert per_layer(model, sequence) == (34 + 5 * a_s_h) / t
    assert per_layer(model, replace(tensor, recompute="selective")) == 10 + Fraction(24, t)
    assert per_layer(model, replace(sequence, recompute="selective")) == Fraction(34, t)
    assert per_layer(model, replace(tensor, recompute="full")) == 2
    assert per_layer(model, replace(sequence, keep_gathered=True)) == (34 + 5 * a_s_h) / t + 4 - Fraction(4, t)


@given(model=gpts(), t=st.sampled_from([1, 2, 4, 8]))
def test_activations_outside_the_layers(model: Transformer, t: int) -> None:
    """4 s b h / t (1 + V/h) on the last stage and s b h / t on the first (arXiv 2205.05198, section 4.3)."""
    model = replace(model, vocab=model.vocab * t)
    run = execution(model, tp=t, sequence_parallel=True)
    sbh, vocab = model.sequence * model.hidden, model.vocab
    assert activation_bytes(model, run, range(0), first=True, last=False) == sbh // t
    of_head = activation_bytes(model, run, range(0), first=False, last=True)
    assert of_head == 4 * model.sequence * (model.hidden + vocab) // t


@pytest.mark.parametrize(
    ("name", "b", "p", "v", "plain", "best"),
    [
        ("megatron-22b", 4, 1, 1, 59.25, 9.5625),
        ("megatron-175b", 1, 8, 3, 66.84375, 12.3515625),
        ("megatron-530b", 1, 35, 3, 114.0234375, 23.076171875),
        ("megatron-1t", 1, 64, 1, 131.25, 26.5625),
    ],
)
def test_published_activations(name: str, b: int, p: int, v: int, plain: float, best: float) -> None:
    """Figure 1 of arXiv 2205.05198, GiB on the first rank with tp 8, layers alone (calculon validation.py).

    ``plain`` is tensor parallelism alone, ``best`` adds sequence parallelism and selective recomputation. The paper
    multiplies L layers by 1 + (p - 1)/(p v); here the schedule's own peak gives it.
    """
    model = get_model(name)
    layers = split_layers(model, p * v)[0]
    schedule = build_pipeline("interleaved-1f1b" if v > 1 else "1f1b", p, 8 * p, v)
    chunks = peak_activations(schedule)[0]
    assert chunks * layers == model.num_layers * (1 + Fraction(p - 1, p * v) * (v > 1))
    for gib, more in ((plain, {}), (best, {"sequence_parallel": True, "recompute": "selective"})):
        run = execution(model, micro_batch=b, tp=8, **more)
        assert chunks * activation_bytes(model, run, range(layers), first=False, last=False) == gib * 2**30


def test_operators_of_a_llama_layer() -> None:
    """GQA, a gate, RMSNorm and no biases: LLaMA 3 8B with tp 4, a microbatch of 2."""
    model = get_model("llama3-8b")
    run = execution(model, micro_batch=2, tp=4, flash=True, attention="causal")
    layer = {op.name: op for op in layer_operators(model, run)}
    assert list(layer) == [
        "attention-norm", "qkv", "rotary", "attention-core", "projection", "attention-residual",
        "mlp-norm", "up", "activation", "down", "mlp-residual",
    ]  # fmt: skip
    tokens, h = 2 * 8192, 4096
    assert layer["qkv"].forward.matmul == Matmul(tokens, (32 + 2 * 8) * 128 // 4, h)
    assert layer["up"].forward.matmul == Matmul(tokens, 2 * 14336 // 4, h)
    assert layer["up"].input.matmul == Matmul(tokens, h, 2 * 14336 // 4)
    assert layer["up"].weight.matmul == Matmul(h, 2 * 14336 // 4, tokens)
    assert layer["down"].forward.matmul == Matmul(tokens, h, 14336 // 4)
    assert {op.parameters for op in (layer["attention-norm"], layer["mlp-norm"])} == {h}
    assert layer["attention-core"].forward.flops == 4 * tokens * 8192 * h // 4 // 2
    assert layer["attention-core"].saved_bytes == 2 * tokens * (32 + 2 * 8) * 128 // 4 + 4 * tokens * 32 // 4
    assert layer["activation"].saved_bytes == 2 * tokens * 2 * 14336 // 4
    assert layer["up"].forward.num_bytes == 2 * (tokens * h + h * 7168 + tokens * 7168)


def test_context_parallel_ranks_share_tokens_and_scores() -> None:
    model = get_model("llama2-7b")
    whole, part = (execution(model, flash=True, attention="causal", cp=n) for n in (1, 4))
    assert 4 * hardware_flops(model, part) == hardware_flops(model, whole)
    assert part.tokens == 1024


def test_experts() -> None:
    """Mixtral 8x7B, ep 4: 2 local experts over which 2 copies of each of the 4 ranks' tokens are spread evenly."""
    model = get_model("mixtral-8x7b")
    run = execution(model, sequence=4096, ep=4, flash=True)
    layer = {op.name: op for op in layer_operators(model, run)}
    assert layer["expert-up"].forward.matmul == Matmul(2 * 4096 // 2, 2 * 14336, 4096, 2)
    assert layer["expert-up"].forward.flops == 2 * (2 * 4096) * 4096 * 2 * 14336
    assert layer["expert-down"].parameters == 2 * 14336 * 4096
    assert {name for name, op in layer.items() if op.expert} == {"expert-up", "expert-down"}
    assert layer["router"].parameters == 8 * 4096
    one = replace(run, ep=1)
    assert hardware_flops(model, run) == hardware_flops(model, one)  # as many copies arrive as leave


def test_6_n_d() -> None:
    """Without attention and embedding a model is 6 FLOP per parameter and token; for MoE, per active parameter."""
    for name in ("llama-7b", "mixtral-8x7b"):
        model = get_model(name)
        table = model.vocab * model.hidden + model.hidden * (2 * model.num_layers + 1)  # lookup and norms: no products
        core = 12 * model.num_layers * model.sequence**2 * model.hidden
        products = 6 * (active_parameters(model) - table) * model.sequence
        assert model_flops(model, sequences=1, attention="full") == products + core


def test_what_is_recomputed() -> None:
    model = get_model("gpt2")
    for recompute, names in (
        ("none", set()),
        ("selective", {"scores", "softmax", "attention-dropout", "context"}),
        ("full", {op.name for op in layer_operators(model, execution(model))}),
    ):
        run = execution(model, recompute=recompute)
        operators = stage_operators(model, run, range(2), first=True, last=True)
        assert {op.name for op in operators if recomputed(op, run).num_bytes} == names


def test_stages_add_up() -> None:
    """Parameters of the stages are those of the model, and a tied table once more where it is needed twice."""
    for name, extra in (("gpt2", 50257 * 768), ("llama-7b", 0)):
        model = get_model(name)
        run = execution(model)
        layers = split_layers(model, 4)
        counts = [
            sum(op.parameters for op in stage_operators(model, run, range(n), first=i == 0, last=i == 3))
            for i, n in enumerate(layers)
        ]
        assert sum(counts) == num_parameters(model) + extra


def bad_llama(**changes: int) -> Transformer:
    sizes = {"num_layers": 2, "hidden": 64, "num_heads": 8, "num_kv_heads": 4, "ffn": 128, "vocab": 100, "sequence": 32}
    return llama("bad", "a test", **(sizes | changes))


SIX = bad_llama(num_heads=12, num_kv_heads=4, hidden=96, ffn=144)


def test_key_value_heads_fewer_than_tensor_ranks_are_copied() -> None:
    """LLaMA 3 8B at tp 16: 32 / 16 query heads and one of 8 key-value heads of 128 a rank, each on two ranks, which
    compute, keep and gather it like a head of their own and sum its gradients.
    """
    model, h, d = get_model("llama3-8b"), 4096, 128
    run = execution(model, tp=16, cp=2, flash=True)
    ops = {op.name: op for op in layer_operators(model, run)}
    t = model.sequence // 2
    assert ops["qkv"].parameters == h * (2 * d + 2 * d)
    assert ops["qkv"].forward.flops == 2 * t * h * 4 * d
    assert ops["attention-core"].kept_bytes == 2 * t * 4 * d
    context = [one for one in layer_traffic(model, run) if one.kind == "context"]
    assert {one.size_bytes for one in context} == {2 * 2 * model.sequence * d}
    sums = [
        one
        for one in data_traffic(
            model, run, range(32), get_precision("megatron-bf16"), first=True, last=True, bucket_bytes=2**20, zero=0
        )
        if one.kind == "tensor"
    ]
    assert {(one.group, one.collective, one.size_bytes) for one in sums} == {("tp/2", "all-reduce", 2 * h * d * 4)}
    assert [one.layer for one in sums] == list(reversed(range(32)))
    assert ParallelGroups(Degrees(tp=4, dp=2)).of("tp/2") == ((0, 1), (2, 3), (4, 5), (6, 7))


REFUSED = [
    (lambda: execution(get_model("gpt2-xl"), tp=2).check_model(get_model("gpt2-xl")),
     "model gpt2-xl: num_heads 25 is not divisible by tp 2; tp can be 1, 5, 25"),
    (lambda: execution(SIX, tp=6).check_model(SIX),
     "model bad: num_kv_heads 4 is not divisible by tp 6, nor can each be copied as often, for tp is no multiple "
     "of it; tp can be 1, 2, 4, 12"),
    (lambda: execution(get_model("llama3-8b"), tp=2, cp=8, context="all-to-all").check_model(get_model("llama3-8b")),
     "model llama3-8b: num_kv_heads 8 leaves 4 on a rank of tp 2, which cp 8 does not divide, as --context all-to-all "
     "needs; give --context gather or a smaller --cp"),
    (lambda: execution(get_model("gpt2"), context="ring"), "context = 'ring' is unknown; known: gather, all-to-all"),
    (lambda: execution(get_model("gpt2"), sequence=2048).check_model(get_model("gpt2")),
     "model gpt2: a sequence of 2048 is longer than its 1024 learned positions; give --sequence 1024 or less, or "
     "--positions 2048 for a model that has learned as many"),
    (lambda: layer_operators(bad_llama(ffn=130), execution(bad_llama(), tp=4)),
     "model bad: ffn 130 is not divisible by tp 4; tp can be 1, 2"),
    (lambda: layer_operators(get_model("mixtral-8x7b"), execution(get_model("mixtral-8x7b"), ep=3)),
     "model mixtral-8x7b: 8 experts are not divisible by ep 3"),
    (lambda: split_layers(get_model("llama3-405b"), 16),
     "model llama3-405b: 126 layers cannot be split evenly over 16 stages; give the layers of each stage (--layers)"),
    (lambda: split_layers(get_model("gpt2"), 2, (5, 6)),
     "model gpt2: layers per stage (5, 6) must be 2 numbers, none negative, that add up to 12"),
    (lambda: split_layers(get_model("gpt2"), 2, (13, -1)),
     "model gpt2: layers per stage (13, -1) must be 2 numbers, none negative, that add up to 12"),
    (lambda: get_model("gpt5"), f"model 'gpt5' is unknown; did you mean gpt2? known: {', '.join(MODELS)}"),
    (lambda: bad_llama(num_kv_heads=3), "model bad: num_kv_heads 3 must divide num_heads 8"),
    (lambda: bad_llama(num_heads=7), "model bad: hidden 64 is not divisible by num_heads 7; or give --head-size"),
    (lambda: bad_llama(num_layers=0), "model bad: num_layers = 0 must be at least 1"),
    (lambda: bad_llama(num_experts=4, experts_per_token=5),
     "model bad: experts_per_token 5 must be 1..4, the number of experts"),
    (lambda: execution(bad_llama(), recompute="some"),
     "recompute = 'some' is unknown; known: none, selective, per-op, full"),
    (lambda: execution(bad_llama(), attention="half"), "attention = 'half' is unknown; known: causal, full"),
    (lambda: execution(bad_llama(), micro_batch=0), "micro_batch = 0 must be at least 1"),
    (lambda: execution(bad_llama(), cp=5), "sequence 32 is not a multiple of cp 5; give --sequence 35 or another --cp"),
    (lambda: execution(bad_llama(), tp=3, cp=2, sequence_parallel=True),
     "sequence 32 / cp 2 is not a multiple of tp 3, as sequence parallelism needs; give --sequence 36, another --tp or "
     "no --sequence-parallel"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_refused(make, message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value) == message


def test_layers_given_by_hand() -> None:
    """LLaMA 3 405B on 16 stages: one layer less on the first and the last (arXiv 2407.21783, section 3.3.2)."""
    given_layers = (7, *[8] * 14, 7)
    assert split_layers(get_model("llama3-405b"), 16, given_layers) == given_layers
    assert split_layers(get_model("gpt2"), 4) == (3, 3, 3, 3)
