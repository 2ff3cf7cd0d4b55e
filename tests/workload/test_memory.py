# SPDX-License-Identifier: Apache-2.0
"""Memory per rank: published figures and the tables of ZeRO and Megatron."""

from dataclasses import fields, replace

import pytest

from commbench.errors import InputError
from commbench.workload.groups import Degrees
from commbench.workload.memory import PRECISIONS, MemoryUse, get_precision, memory_per_rank
from commbench.workload.operators import layer_operators
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.presets import get_model
from commbench.workload.stack_memory import StackMemory, stack_memories, stack_memory
from commbench.workload.step_costs import read_step_costs
from commbench.workload.transformer import split_layers
from tests.workload.shapes import execution, num_parameters


def use(name: str, precision: str, zero: int, *, m: int = 8, v: int = 1, schedule: str = "1f1b", **degrees: int):
    model = get_model(name)
    run = execution(model, **{key: degrees[key] for key in ("tp", "cp", "ep") if key in degrees})
    pipeline = build_pipeline(schedule, degrees.get("pp", 1), m, v)
    layers = split_layers(model, pipeline.num_stages)
    return memory_per_rank(model, run, pipeline, layers, Degrees(**degrees), get_precision(precision), zero=zero)


@pytest.mark.parametrize(
    ("precision", "zero", "fixed", "shared"),
    [
        ("mixed-adam", 0, 16, 0),  # arXiv 1910.02054, figure 1: 2 + 2 + K, K = 12
        ("mixed-adam", 1, 4, 12),
        ("mixed-adam", 2, 2, 14),
        ("mixed-adam", 3, 0, 16),
        ("megatron-bf16", 0, 18, 0),  # Megatron's table of its distributed optimizer
        ("megatron-bf16", 1, 6, 12),
        ("megatron-fp16", 0, 16, 0),  # 4 more in the optimizer's step, when the activations are gone
        ("megatron-fp16", 1, 4, 12),
        ("deepspeed-bf16", 0, 20, 0),  # gradients in bf16 beside those added up in fp32
        ("deepspeed-bf16", 1, 8, 12),
        ("fp32-adam", 0, 16, 0),
        ("fp32-adam", 1, 8, 8),
    ],
)
def test_bytes_per_parameter(precision: str, zero: int, fixed: int, shared: int) -> None:
    """fixed + shared / d bytes for each parameter of GPT-2 (124,439,808 = 64 x 1,944,372)."""
    (rank,) = use("gpt2", precision, zero, dp=64)
    states = rank.parameters + rank.gradients + rank.optimizer
    assert states == num_parameters(get_model("gpt2")) * fixed + num_parameters(get_model("gpt2")) * shared // 64


@pytest.mark.parametrize(("name", "pp", "gib"), [
    ("megatron-22b", 1, 45.5625), ("megatron-175b", 8, 45.5625), ("megatron-530b", 35, 31.640625),
    ("megatron-1t", 64, 32.958984375),
])  # fmt: skip
def test_published_weights_and_optimizer(name: str, pp: int, gib: float) -> None:
    """Figure 1 of arXiv 2205.05198, GiB per GPU at tp 8: 18 bytes for each of 12 h^2 L / (t p) weights.

    That leaves out biases, norms and embeddings; on a middle stage (the only one, for 22B) they are under 0.2 % (3 %).
    """
    model = get_model(name)
    published = 18 * 12 * model.hidden**2 * model.num_layers / (8 * pp) / 2**30
    assert published == gib
    rank = use(name, "megatron-bf16", 0, m=pp, tp=8, pp=pp)[pp // 2]
    states = (rank.parameters + rank.gradients + rank.optimizer) / 2**30
    assert states == pytest.approx(gib, rel=0.03 if pp == 1 else 0.002)
    assert states > gib


def test_activations_of_pipeline_ranks() -> None:
    """1F1B holds p - r microbatches on rank r; GPT-2 XL in 4 stages of 12 layers, 34 + 5 a s / h bytes over s b h."""
    ranks = use("gpt2-xl", "mixed-adam", 0, pp=4)
    s, h, a = 1024, 1600, 25
    layer = 34 * s * h + 5 * a * s * s
    assert ranks[1].activations == 3 * 12 * layer
    assert ranks[2].activations == 2 * 12 * layer
    assert ranks[0].activations == 4 * (12 * layer + s * h)  # and the embedding's dropout mask
    assert (ranks[3].activations, ranks[3].logits) == (12 * layer + 4 * s * h, 4 * s * 50257)
    assert {rank.workspace for rank in ranks} == {0}


def test_workspace() -> None:
    """What exists for a moment: a recomputed layer, and under ZeRO 3 the weights of two layers."""
    model = get_model("gpt2")
    s, h, a = 1024, 768, 12
    weights = sum(op.parameters for op in layer_operators(model, execution(model)))
    pipeline = build_pipeline("gpipe", 1, 1)
    for recompute, zero, expected in (
        ("none", 0, 0),
        ("selective", 0, 5 * a * s * s),
        ("full", 0, 32 * s * h + 5 * a * s * s),
        ("none", 3, 2 * 2 * weights),
    ):
        run = execution(model, recompute=recompute)
        (rank,) = memory_per_rank(model, run, pipeline, (12,), Degrees(dp=2), get_precision("mixed-adam"), zero=zero)
        assert rank.workspace == expected


def test_the_optimizer_step_may_be_the_worst_moment() -> None:
    """Megatron's table: 20 bytes with FP16, an FP32 copy of the gradients among them, which lives in the step alone."""
    (rank,) = use("llama-7b", "megatron-fp16", 0, m=1)
    assert (rank.activations, rank.logits, rank.workspace) == (0, 0, 0)
    assert rank.total == 20 * num_parameters(get_model("llama-7b"))


def stacked(name: str, stack: StackMemory | None, *, zero: int = 0, m: int = 1, pp: int = 1, **degrees: int):
    model = get_model(name)
    pipeline = build_pipeline("1f1b" if pp > 1 else "gpipe", pp, m)
    layers = split_layers(model, pp)
    run = execution(model, recompute="full")
    given = Degrees(pp=pp, **degrees)
    return memory_per_rank(model, run, pipeline, layers, given, get_precision("mixed-adam"), zero=zero, stack=stack)


NOTHING = {f.name: 0 for f in fields(StackMemory)}


def test_a_stack_adds_context_communicators_and_fragments() -> None:
    stack = StackMemory(**NOTHING | {"context": 1000, "communicator": 100, "buckets": 7, "fragments": 0.5})
    (alone,), (bare,), (many,) = stacked("gpt2", stack), stacked("gpt2", None), stacked("gpt2", stack, dp=2)
    assert (alone.runtime, alone.buffers, many.buffers) == (1000, 0, 107)
    assert alone.allocated == bare.total
    assert alone.fragments == bare.total // 2
    assert alone.reserved == alone.total - 1000
    assert (bare.runtime, bare.buffers, bare.fragments) == (0, 0, 0)


def test_the_loss_is_a_moment_of_the_last_stage_and_recomputation_one_of_the_others() -> None:
    """GPT-2 with 14 bytes a logit: 703 MiB, far more than a recomputed layer; the stage before has the layer."""
    stack = StackMemory(**NOTHING | {"loss": 14})
    first, last = stacked("gpt2", stack, pp=2)
    logits = 1024 * 50257
    assert (first.logits, last.logits) == (0, 14 * logits)
    assert (first.workspace, last.workspace) == (32 * 1024 * 768 + 5 * 12 * 1024**2, 0)


def test_kept_outputs_and_gathered_ends_are_the_stacks() -> None:
    model = get_model("gpt2")
    kept = StackMemory(**NOTHING | {"outputs": 1})
    first, last = stacked("gpt2", kept, pp=2, m=4)
    plain = stacked("gpt2", None, pp=2, m=4)
    assert first.activations - plain[0].activations == 2 * 2 * 1024 * model.hidden
    assert last.activations == plain[1].activations
    root = StackMemory(**NOTHING | {"root": 1})
    (gathered,), (released,) = stacked("gpt2", root, zero=3, dp=2), stacked("gpt2", None, zero=3, dp=2)
    ends = (50257 + 1024) * 768 + 2 * 768
    assert gathered.workspace - released.workspace == 2 * ends


def test_every_stack_says_where_its_memory_comes_from() -> None:
    assert set(read_step_costs().constants["stacks"]) <= set(stack_memories())
    for own in stack_memories().values():
        for one in own.values():
            assert one.provenance in ("measured", "fitted", "vendor", "assumed")
            assert one.source
    with pytest.raises(InputError, match="memory of stack 'megatorn' is unknown; did you mean megatron"):
        stack_memory("megatorn")


def test_kept_per_operator_are_the_outputs_of_every_second_product() -> None:
    """torchtitan's policy on Llama 3 8B: the layer's input, the core's output with its FP32 sums, Q, V, gate, down."""
    model = replace(get_model("llama3-8b"), sequence=8192)
    run = replace(execution(model, recompute="per-op"), flash=True)
    (rank,) = memory_per_rank(
        model, run, build_pipeline("gpipe", 1, 1), (32,), Degrees(), get_precision("mixed-adam"), zero=0
    )
    widths = 4096 + 4096 + 4096 + 1024 + 14336 + 4096
    outside = 4 * 4096  # inputs of the last norm and of the logits' product
    assert rank.activations == 8192 * (32 * (2 * widths + 4 * 32) + outside)


def test_experts_are_sharded_over_their_own_ranks() -> None:
    """Mixtral 8x7B, dp 8, ep 4: a rank holds 2 of 8 experts, and ZeRO shares their state with 1 other rank."""
    expert = 32 * 3 * 4096 * 14336
    dense = num_parameters(get_model("mixtral-8x7b")) - 8 * expert
    (none,) = use("mixtral-8x7b", "mixed-adam", 0, dp=8, ep=4)
    (three,) = use("mixtral-8x7b", "mixed-adam", 3, dp=8, ep=4)
    assert none.parameters == 2 * (dense + 2 * expert)
    assert three.parameters == 2 * (dense // 8 + 2 * expert // 2)
    assert three.optimizer == 12 * (dense // 8 + expert)


def test_fits() -> None:
    one = MemoryUse(parameters=1, gradients=2, optimizer=3, activations=4, workspace=5)
    assert one.total == 15
    assert one.fits(15)
    assert not one.fits(14)


def test_llama_7b_does_not_fit_without_zero() -> None:
    """7B at 16 bytes is 100 GiB on one 80 GB GPU; ZeRO 3 over 8 makes it 12.6 GiB and a layer's weights."""
    (plain,) = use("llama-7b", "mixed-adam", 0, dp=8)
    (shared,) = use("llama-7b", "mixed-adam", 3, dp=8)
    assert not replace(plain, activations=0).fits(80 * 10**9)
    assert replace(shared, activations=0).fits(16 * 2**30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zero": 4}, "zero = 4 is unknown; ZeRO stages are 0, 1, 2 and 3"),
        ({"degrees": Degrees(pp=2)}, "pipeline schedule gpipe has 1 stages on 1 ranks; given are layers of 1 stages "
         "and pp 2"),
        ({"degrees": Degrees(tp=2)}, "the execution's tp, cp, ep 1, 1, 1 are not those of the degrees 2, 1, 1"),
        ({"layers": (6, 6)}, "pipeline schedule gpipe has 1 stages on 1 ranks; given are layers of 2 stages and pp 1"),
    ],
)  # fmt: skip
def test_refused(arguments: dict, message: str) -> None:
    model = get_model("gpt2")
    given = {"layers": (12,), "degrees": Degrees(), "zero": 0} | arguments
    with pytest.raises(InputError) as error:
        memory_per_rank(
            model, execution(model), build_pipeline("gpipe", 1, 1), given["layers"], given["degrees"],
            get_precision("mixed-adam"), zero=given["zero"],
        )  # fmt: skip
    assert str(error.value) == message


def test_unknown_precision() -> None:
    with pytest.raises(InputError) as error:
        get_precision("fp4")
    assert str(error.value) == f"precision 'fp4' is unknown; known: {', '.join(PRECISIONS)}"
