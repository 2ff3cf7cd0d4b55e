# SPDX-License-Identifier: Apache-2.0
"""What is sent: the tensor-parallel formula as calls and bytes, data-parallel buckets, ZeRO, experts, pipeline."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.collectives.spec import COLLECTIVES
from commbench.errors import InputError
from commbench.workload.cost import activation_bytes
from commbench.workload.formats import FORMATS
from commbench.workload.gradient_traffic import data_traffic, gradient_buckets
from commbench.workload.groups import GROUP_KINDS
from commbench.workload.memory import get_precision
from commbench.workload.operator import Matmul
from commbench.workload.operators import embedding_operators, head_operators, layer_operators
from commbench.workload.presets import get_model
from commbench.workload.traffic import (
    Traffic,
    boundary_bytes,
    embedding_traffic,
    head_traffic,
    layer_traffic,
)
from tests.workload.shapes import execution, moved_bytes, num_parameters

GPT = get_model("gpt3-1.3b")
BSHE = 4 * 2048 * 2048 * 2  # 4 sequences of 2048, width 2048, 2 bytes


@pytest.mark.parametrize("t", [2, 4, 8])
@pytest.mark.parametrize(
    ("changes", "times", "calls"),
    [
        ({}, 8, {"all-reduce": 4}),
        ({"sequence_parallel": True, "keep_gathered": True}, 8, {"all-gather": 4, "reduce-scatter": 4}),
        ({"sequence_parallel": True}, 10, {"all-gather": 6, "reduce-scatter": 4}),
        ({"recompute": "full"}, 12, {"all-reduce": 6}),
        ({"recompute": "selective"}, 8, {"all-reduce": 4}),
        ({"sequence_parallel": True, "recompute": "full"}, 14, {"all-gather": 8, "reduce-scatter": 6}),
    ],
)
def test_tensor_parallel_formula(t: int, changes: dict, times: int, calls: dict[str, int]) -> None:
    """times x b s h e (t - 1) / t bytes per layer and microbatch, every call over the full b s h e."""
    traffic = layer_traffic(GPT, execution(GPT, micro_batch=4, tp=t, **changes))
    assert Counter(one.collective for one in traffic) == calls
    assert {one.size_bytes for one in traffic} == {BSHE}
    assert moved_bytes(traffic, t) == times * BSHE * (t - 1) / t
    assert {(one.kind, one.group) for one in traffic} == {("tensor", "tp")}


def told(traffic: tuple[Traffic, ...]) -> list[str]:
    return [f"{one.when}: {one.collective} {one.side} {one.operator}" for one in traffic]


def test_order_of_a_layer() -> None:
    assert told(layer_traffic(GPT, execution(GPT, tp=2))) == [
        "forward: all-reduce after projection",
        "forward: all-reduce after down",
        "backward: all-reduce after up",
        "backward: all-reduce after qkv",
    ]
    assert told(layer_traffic(GPT, execution(GPT, tp=2, sequence_parallel=True))) == [
        "forward: all-gather before qkv",
        "forward: reduce-scatter after projection",
        "forward: all-gather before up",
        "forward: reduce-scatter after down",
        "backward: all-gather before down",
        "weight: all-gather before up",
        "backward: reduce-scatter after up",
        "backward: all-gather before projection",
        "weight: all-gather before qkv",
        "backward: reduce-scatter after qkv",
    ]


def test_context_parallel() -> None:
    """LLaMA 3 8B, cp 4, tp 2: K and V of 8192 tokens, 4 of 8 heads of 128, gathered twice; gradients summed once."""
    model = get_model("llama3-8b")
    traffic = [one for one in layer_traffic(model, execution(model, tp=2, cp=4, flash=True)) if one.kind == "context"]
    assert [(one.when, one.collective, one.side, one.operator) for one in traffic] == [
        ("forward", "all-gather", "before", "attention-core"),
        ("backward", "all-gather", "before", "attention-core"),
        ("backward", "reduce-scatter", "after", "attention-core"),
    ]
    assert {one.size_bytes for one in traffic} == {2 * 2 * 8192 * 4 * 128}
    again = layer_traffic(model, execution(model, cp=4, flash=True, recompute="selective"))
    assert [one.when for one in again] == ["forward", "recompute", "backward", "backward"]


@pytest.mark.parametrize("flash", [True, False])
def test_context_parallel_by_heads(flash: bool) -> None:
    """LLaMA 3 8B, cp 4, tp 2: 16 heads of Q and 4 each of K and V go there, of 2048 tokens, and 16 come back."""
    model = get_model("llama3-8b")
    run = execution(model, tp=2, cp=4, flash=flash, context="all-to-all")
    traffic = [one for one in layer_traffic(model, run) if one.kind == "context"]
    first, last = ("attention-core", "attention-core") if flash else ("scores", "context")
    inputs, output = 2 * 2048 * 24 * 128, 2 * 2048 * 16 * 128
    assert [(one.when, one.side, one.operator, one.size_bytes) for one in traffic] == [
        ("forward", "before", first, inputs), ("forward", "after", last, output),
        ("backward", "before", last, output), ("backward", "after", first, inputs),
    ]  # fmt: skip
    assert {(one.group, one.collective) for one in traffic} == {("cp", "all-to-all")}
    for recompute, again in (("full", 2), ("selective", 0), ("per-op", 0)):
        calls = layer_traffic(model, replace(run, recompute=recompute))
        assert sum(one.kind == "context" and one.when == "recompute" for one in calls) == again


def test_heads_or_queries_are_shared_for_as_many_flop() -> None:
    """A rank has all queries of a quarter of its heads, or a quarter of the queries of all: the core as one kernel
    works and keeps alike, as several it is other products of as many FLOP.
    """
    model = get_model("llama3-8b")
    for flash in (True, False):
        gather, exchange = (
            layer_operators(model, execution(model, tp=2, cp=4, flash=flash, context=context))
            for context in ("gather", "all-to-all")
        )
        for one, other in zip(gather, exchange, strict=True):
            assert replace(one.forward, matmul=None) == replace(other.forward, matmul=None)
            assert one.saved_bytes == other.saved_bytes
    scores = {op.name: op.forward.matmul for op in exchange}["scores"]
    assert scores == Matmul(8192, 8192, 128, 4)


def test_experts() -> None:
    """Mixtral, ep 4: 2 copies of each token of h numbers, there and back, forward and backward."""
    model = get_model("mixtral-8x7b")
    traffic = layer_traffic(model, execution(model, sequence=4096, ep=4))
    assert told(traffic) == [
        "forward: all-to-all after permute",
        "forward: all-to-all before unpermute",
        "backward: all-to-all after unpermute",
        "backward: all-to-all before permute",
    ]
    copies = 2 * 4096 * 4096 * 2
    assert {one.size_bytes for one in traffic} == {copies}
    assert moved_bytes(traffic, 4) == 4 * copies * 3 / 4


def test_experts_with_tensor_parallelism() -> None:
    model = get_model("mixtral-8x7b")
    copies = 2 * 4096 * 4096 * 2
    plain = layer_traffic(model, execution(model, sequence=4096, ep=4, tp=2))
    assert told(plain)[1:4] == [
        "forward: all-to-all after permute",
        "forward: all-to-all before unpermute",
        "forward: all-reduce after unpermute",
    ]
    split = layer_traffic(model, execution(model, sequence=4096, ep=4, tp=2, sequence_parallel=True))
    assert [(one.size_bytes, one.collective) for one in split[2:6]] == [
        (copies // 2, "all-to-all"),
        (copies, "all-gather"),
        (copies, "reduce-scatter"),
        (copies // 2, "all-to-all"),
    ]


def test_embedding_and_head() -> None:
    """Vocabulary split over tp: one all-reduce of the lookup, one of the head's input gradient, three for the loss."""
    run = execution(GPT, micro_batch=4, tp=8)
    assert told(embedding_traffic(GPT, run)) == ["forward: all-reduce after embedding"]
    assert [one.size_bytes for one in head_traffic(GPT, run)] == [4 * 4 * 2048] * 3 + [BSHE]
    split = execution(GPT, micro_batch=4, tp=8, sequence_parallel=True)
    assert told(head_traffic(GPT, split)) == [
        "forward: all-gather before logits",
        *["forward: all-reduce after loss"] * 3,
        "weight: all-gather before logits",
        "backward: reduce-scatter after logits",
    ]
    assert [one.collective for one in embedding_traffic(GPT, split)] == ["reduce-scatter", "all-gather"]


def test_one_rank_sends_nothing() -> None:
    for model in (GPT, get_model("mixtral-8x7b")):
        run = execution(model)
        assert layer_traffic(model, run) == embedding_traffic(model, run) == head_traffic(model, run) == ()


def test_operators_exist() -> None:
    """Every call names a group, a collective and an operator that exist."""
    model = get_model("mixtral-8x7b")
    for one_model in (GPT, model):
        for changes in ({}, {"sequence_parallel": True}, {"flash": True, "recompute": "full"}):
            run = execution(one_model, sequence=2048, tp=2, cp=2, ep=2 if one_model is model else 1, **changes)
            names = {op.name for op in layer_operators(one_model, run)} | {"embedding", "logits", "loss"}
            calls = (
                *layer_traffic(one_model, run), *embedding_traffic(one_model, run), *head_traffic(one_model, run),
            )  # fmt: skip
            for one in calls:
                assert (one.operator in names, one.group in GROUP_KINDS, one.collective in COLLECTIVES) == (True,) * 3


def test_pipeline_boundary() -> None:
    """b s h e, a share of it with context or sequence parallelism."""
    assert boundary_bytes(GPT, execution(GPT, micro_batch=4)) == BSHE
    assert boundary_bytes(GPT, execution(GPT, micro_batch=4, tp=4)) == BSHE
    assert boundary_bytes(GPT, execution(GPT, micro_batch=4, tp=4, sequence_parallel=True)) == BSHE // 4
    assert boundary_bytes(GPT, execution(GPT, micro_batch=4, cp=2)) == BSHE // 2


# Data parallelism -----------------------------------------------------------------------------------------------


def test_buckets_fill_from_the_last_layer() -> None:
    assert gradient_buckets([5, 10, 10, 10], 15) == [(20, 2), (15, 0)]
    assert gradient_buckets([5, 10, 10, 10], 25) == [(30, 1), (5, 0)]
    assert gradient_buckets([0, 10, 10, 0], 15) == [(20, 1)]
    assert gradient_buckets([0, 10, 0, 10], 100) == [(20, 1)]  # layer 0 has nothing to wait for
    assert gradient_buckets([], 1) == []
    with pytest.raises(InputError, match=r"of 0 bytes cannot be filled; give at least 1 \(--bucket\)$"):
        gradient_buckets([1], 0)


@given(sizes=st.lists(st.integers(0, 100), max_size=20), bucket=st.integers(1, 300))
def test_buckets_hold_everything_once(sizes: list[int], bucket: int) -> None:
    buckets = gradient_buckets(sizes, bucket)
    assert sum(size for size, _ in buckets) == sum(sizes)
    borders = [index for _, index in buckets]
    assert borders == sorted(set(borders), reverse=True)
    assert all(size >= bucket for size, _ in buckets[:-1])
    ends = [len(sizes), *borders]
    assert [sum(sizes[low:high]) for high, low in zip(ends, borders, strict=False)] == [size for size, _ in buckets]


def whole(name: str, zero: int, *, num_layers: int, first: bool = True, last: bool = True, bucket: int = 2**20, **run):
    model = get_model(name)
    return data_traffic(
        model, execution(model, **run), range(num_layers), get_precision("mixed-adam"), first=first, last=last,
        bucket_bytes=bucket, zero=zero,
    )  # fmt: skip


def test_gradients_of_a_step() -> None:
    """Every gradient is reduced once, whatever the ZeRO stage; parameters come back once, or twice under ZeRO 3."""
    count = num_parameters(get_model("gpt2"))
    for zero, gathers in ((0, 0), (1, 1), (2, 1), (3, 2)):
        calls = whole("gpt2", zero, num_layers=12, bucket=25 * 2**20)
        by: Counter[str] = Counter()
        for one in calls:
            by[one.collective] += one.size_bytes
        assert by["all-reduce"] + by["reduce-scatter"] == 2 * count
        assert by["all-gather"] == gathers * 2 * count
        assert {one.group for one in calls} == {"dp-cp"}


def test_when_buckets_go() -> None:
    """GPT-2, a layer is 13.5 MiB of gradients: buckets of two layers, the table of 75 MiB alone with the first layer.

    Head: the final norm alone, 3 KiB, goes with layers 11 and 10.
    """
    calls = whole("gpt2", 0, num_layers=12, bucket=25 * 2**20)
    assert [one.layer for one in calls] == [10, 8, 6, 4, 2, 0, -1]
    sharded = whole("gpt2", 1, num_layers=12, bucket=25 * 2**20)
    assert [(one.when, one.layer) for one in sharded[:8]] == [
        *[("backward", layer) for layer in (10, 8, 6, 4, 2, 0, -1)],
        ("step", -1),
    ]


def test_middle_stage_waits_for_its_own_first_layer() -> None:
    calls = whole("gpt2", 0, num_layers=3, first=False, last=False, bucket=2**30)
    assert [one.layer for one in calls] == [0]


def test_zero_3_gathers_layer_by_layer() -> None:
    calls = whole("gpt2", 3, num_layers=2, first=False, last=False)
    assert [(one.when, one.collective, one.layer) for one in calls] == [
        ("forward", "all-gather", 0),
        ("forward", "all-gather", 1),
        ("backward", "all-gather", 1),
        ("backward", "reduce-scatter", 1),
        ("backward", "all-gather", 0),
        ("backward", "reduce-scatter", 0),
    ]
    assert len({one.size_bytes for one in calls}) == 1


def test_tied_embedding_between_stages() -> None:
    """Both ends of the pipeline hold the table, and sum its gradients; in one stage, or untied, nobody does."""
    table = 50257 * 768 * 2
    for first in (True, False):
        calls = [one for one in whole("gpt2", 0, num_layers=3, first=first, last=not first) if one.group == "pp-ends"]
        assert [(one.collective, one.size_bytes, one.layer) for one in calls] == [
            ("all-reduce", table, -1 if first else 3)
        ]
    for name, ends in (("gpt2", True), ("gpt2", False), ("llama-7b", True)):
        calls = whole(name, 0, num_layers=3, first=ends, last=ends)
        assert "pp-ends" not in {one.group for one in calls}
    assert "pp-ends" not in {one.group for one in whole("llama-7b", 0, num_layers=3, last=False)}


def test_gradients_of_experts() -> None:
    """Experts are summed among the ranks that hold the same ones; the rest among all."""
    model = get_model("mixtral-8x7b")
    run = execution(model, ep=4)
    by: Counter[str] = Counter()
    for one in whole("mixtral-8x7b", 0, num_layers=2, ep=4, bucket=2**30):
        by[one.group] += one.size_bytes
    operators = (
        *embedding_operators(model, run), *layer_operators(model, run) * 2,
        *head_operators(model, run, own_weights=True),
    )  # fmt: skip
    assert by["edp"] == 2 * sum(op.parameters for op in operators if op.expert)
    assert by["dp-cp"] == 2 * sum(op.parameters for op in operators if not op.expert)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt3-1.3b", {"tp": 4}),
        ("llama3-8b", {"tp": 2, "cp": 4, "sequence_parallel": True, "recompute": "full"}),
        ("mixtral-8x7b", {"tp": 2, "ep": 4, "flash": True, "recompute": "selective"}),
    ],
)
def test_fp8_sends_and_keeps_what_bf16_does(name: str, changes: dict) -> None:
    """Activations, their gradients, token copies and boundaries are 2 bytes an element; operands of products 1."""
    model = get_model(name)
    wide, narrow = (execution(model, formats=FORMATS[dtype], **changes) for dtype in ("bf16", "fp8"))
    assert (narrow.element_bytes, narrow.formats.operands) == (2, 1)
    for calls in (layer_traffic, embedding_traffic, head_traffic, boundary_bytes):
        assert calls(model, narrow) == calls(model, wide)
    assert sum(one.size_bytes for one in layer_traffic(model, narrow)) > 0
    for recompute in ("none", "selective", "full"):
        kept = [
            activation_bytes(model, replace(run, recompute=recompute), range(2), first=True, last=True)
            for run in (wide, narrow)
        ]
        assert kept[0] == kept[1] > 0


def test_unknown_zero() -> None:
    with pytest.raises(InputError, match="zero = 5 is unknown; ZeRO stages are 0, 1, 2 and 3"):
        whole("gpt2", 5, num_layers=1)
