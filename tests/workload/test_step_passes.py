# SPDX-License-Identifier: Apache-2.0
"""Passes as items: all work and all collectives of a stage are there, once, and in their order."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from commbench.errors import InputError
from commbench.workload.operator import Work as Cost
from commbench.workload.operators import embedding_operators, stage_operators
from commbench.workload.pipeline.schedule import Pass
from commbench.workload.presets import get_model, llama
from commbench.workload.step_passes import Begin, Call, End, Item, Join, Layer, Work, merged, pass_items, stage_layers
from commbench.workload.traffic import Traffic, embedding_traffic, head_traffic, layer_traffic
from commbench.workload.transformer import Execution, LatentAttention, Transformer
from tests.workload.shapes import execution

MIXTRAL = llama(
    "mixture", "made up", num_layers=2, hidden=64, num_heads=8, num_kv_heads=8, ffn=128, vocab=512, sequence=32,
    num_experts=4, experts_per_token=2,
)  # fmt: skip
LATENT = replace(
    MIXTRAL, name="latent", first_dense=1, dense_ffn=256, shared_ffn=64, head_size=12,
    latent=LatentAttention(q_rank=16, kv_rank=8, rope_size=4, value_size=8),
)
GPT = get_model("gpt2")
CASES: list[tuple[Transformer, dict[str, Any]]] = [
    (
        model,
        {"tp": tp, "cp": cp, "ep": ep, "sequence_parallel": parallel and tp > 1, "recompute": again, "flash": flash},
    )
    for model, ep in ((GPT, 1), (MIXTRAL, 2), (LATENT, 2))
    for tp, cp in ((1, 1), (2, 1), (4, 2))
    for parallel in (False, True)
    for again in ("none", "selective", "full")
    for flash in (False, True)
]


GRADIENTS = frozenset({"gradients"})


def flops_and_bytes(work: Cost, core: bool) -> int:
    """A duration that tells all passes apart."""
    return work.flops + 3 * work.num_bytes


def items(
    model: Transformer, run: Execution, *kinds: Pass, layers: int = 2, beside: frozenset[str] = frozenset()
) -> list[Item]:
    stage = stage_layers(model, run, range(layers), first=True, last=True)
    return [item for kind in kinds for item in pass_items(stage, run, kind, flops_and_bytes, beside=beside)]


@pytest.mark.parametrize(("model", "how"), CASES, ids=str)
def test_nothing_is_lost_and_nothing_is_there_twice(model: Transformer, how: dict[str, Any]) -> None:
    run = execution(model, **how)
    found = items(model, run, Pass.FORWARD, Pass.BACKWARD)
    ends = [*embedding_traffic(model, run), *head_traffic(model, run)]
    expected = Counter([*ends, *(one for layer in range(2) for one in layer_traffic(model, run, layer))])
    assert Counter(item.traffic for item in found if isinstance(item, Call)) == expected
    lasts = Counter[str]()
    for item in found:
        if isinstance(item, Work):
            lasts[item.kind] += item.duration_ps
    operators = stage_operators(model, run, range(2), first=True, last=True)
    assert lasts["forward"] == sum(flops_and_bytes(op.forward, op.core) for op in operators)
    backward = [(work, op.core) for op in operators for work in (op.input, op.weight)]
    assert lasts["backward"] == sum(flops_and_bytes(*one) for one in backward)
    again = [op for op in operators if run.recompute == "selective" and op.core]
    if run.recompute == "full":
        again = [op for op in operators if op.block in ("attention", "mlp")]
    assert lasts["recompute"] == sum(flops_and_bytes(op.forward, op.core) for op in again)


@pytest.mark.parametrize(("model", "how"), CASES[::3], ids=str)
def test_input_and_weight_gradients_are_a_whole_backward(model: Transformer, how: dict[str, Any]) -> None:
    run = execution(model, **how)

    def contents(*kinds: Pass) -> tuple[int, Counter[object]]:
        found = items(model, run, *kinds)
        total = sum(item.duration_ps for item in found if isinstance(item, Work))
        return total, Counter(item.traffic for item in found if isinstance(item, Call))

    assert contents(Pass.INPUT, Pass.WEIGHT) == contents(Pass.BACKWARD)


def test_collectives_stand_where_they_belong() -> None:
    """A tensor-parallel GPT layer, forward: an all-reduce behind the projection and one behind the MLP."""
    run = execution(GPT, tp=2)
    stage = stage_layers(GPT, run, range(1), first=False, last=False)
    forward = merged(pass_items(stage, run, Pass.FORWARD, flops_and_bytes), marks=False)
    assert [type(item).__name__ for item in forward] == ["Work", "Call", "Work", "Call", "Work"]
    assert [item.traffic.operator for item in forward if isinstance(item, Call)] == ["projection", "down"]
    backward = merged(pass_items(stage, run, Pass.BACKWARD, flops_and_bytes), marks=False)
    assert [item.traffic.operator for item in backward if isinstance(item, Call)] == ["up", "qkv"]


def test_layers_are_marked_in_the_order_of_the_pass() -> None:
    run = execution(GPT)
    for kind, order in ((Pass.FORWARD, [-1, 0, 1, 2]), (Pass.WEIGHT, [2, 1, 0, -1])):
        found = merged(items(GPT, run, kind), marks=True)
        assert [item.layer for item in found if isinstance(item, Begin)] == order
        assert [item.layer for item in found if isinstance(item, End)] == order


def test_merging_keeps_the_work_and_needs_no_more_items_than_collectives() -> None:
    run = execution(GPT, tp=2, recompute="full")
    found = items(GPT, run, Pass.BACKWARD, layers=3)
    short = merged(found, marks=False)
    for kind in ("recompute", "backward"):
        total = [sum(i.duration_ps for i in each if isinstance(i, Work) and i.kind == kind) for each in (found, short)]
        assert total[0] == total[1] > 0
    assert not any(isinstance(item, Begin | End) for item in short)


def test_overlap_puts_the_sum_of_input_gradients_beside_the_weight_gradient() -> None:
    """Without sequence parallelism: input gradient, [all-reduce beside] weight gradient, join."""
    run = execution(GPT, tp=2)
    stage = stage_layers(GPT, run, range(1), first=False, last=False)
    found = pass_items(stage, run, Pass.BACKWARD, flops_and_bytes, beside=GRADIENTS)
    at = next(i for i, item in enumerate(found) if isinstance(item, Call) and item.traffic.operator == "up")
    up = next(op for op in stage[0].operators if op.name == "up")
    assert isinstance(found[at], Call)
    assert found[at].beside
    assert found[at - 1] == Work("backward", flops_and_bytes(up.input, False))
    assert found[at + 1 : at + 3] == (Work("backward", flops_and_bytes(up.weight, False)), Join())


def test_overlap_gathers_inputs_beside_the_input_gradient() -> None:
    run = execution(GPT, tp=2, sequence_parallel=True)
    stage = stage_layers(GPT, run, range(1), first=False, last=False)
    found = pass_items(stage, run, Pass.BACKWARD, flops_and_bytes, beside=GRADIENTS)
    names = [(i.traffic.collective, i.beside) if isinstance(i, Call) else type(i).__name__ for i in found]
    at = names.index(("all-gather", True))
    assert names[at : at + 5] == [("all-gather", True), "Work", "Join", ("reduce-scatter", True), "Work"]
    plain = pass_items(stage, run, Pass.BACKWARD, flops_and_bytes)
    assert sorted(i.traffic.collective for i in found if isinstance(i, Call)) == sorted(
        i.traffic.collective for i in plain if isinstance(i, Call)
    )


@pytest.mark.parametrize("kind", [Pass.FORWARD, Pass.BACKWARD])
def test_collectives_beside_their_own_products_leave_none_exposed(kind: Pass) -> None:
    """Of products and cores; what stands at the embedding has none beside which to run. None is lost."""
    run = execution(GPT, tp=2, cp=2, sequence_parallel=True)
    plain, found = (items(GPT, run, kind, beside=each) for each in (frozenset(), frozenset({*GRADIENTS, *KINDS})))
    calls, exposed = (
        Counter(item.traffic for item in each if isinstance(item, Call)) for each in (plain, found)
    ), [item.traffic.operator for item in found if isinstance(item, Call) and not item.beside]
    assert len(set(map(str, calls))) == 1
    assert set(exposed) <= {"embedding", "loss"}
    lasts = [sum(item.duration_ps for item in each if isinstance(item, Work)) for each in (plain, found)]
    assert lasts[0] == lasts[1]
    at = next(i for i, item in enumerate(found) if isinstance(item, Call) and item.traffic.operator == "qkv")
    assert [type(item) for item in found[at + 1 :] if not isinstance(item, Call)][:2] == [Work, Join]


KINDS = ("tensor", "context")


@pytest.mark.parametrize(
    "wrong", [{"operator": "qvk"}, {"operator": ""}, {"side": "beside"}, {"when": "backwards"}, {"when": "weight"}]
)
def test_a_collective_that_no_pass_would_have_is_refused(wrong: dict[str, str]) -> None:
    """A letter changed in a name must not lose a collective."""
    one = Traffic(
        kind="tensor", group="tp", collective="all-reduce", size_bytes=8, when="forward", operator="embedding"
    )
    operators = embedding_operators(GPT, execution(GPT))
    Layer(-1, operators, (one,))
    with pytest.raises(InputError, match=r"stands nowhere in layer -1, whose operators are embedding"):
        Layer(-1, operators, (replace(one, **wrong),))
