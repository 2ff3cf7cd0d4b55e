# SPDX-License-Identifier: Apache-2.0
"""Sums over operators: parameters, model FLOP and hardware FLOP, activation memory with and without recomputation."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from commbench.workload.formats import FORMATS
from commbench.workload.operator import Operator, Work
from commbench.workload.operators import layer_operators, stage_operators
from commbench.workload.transformer import Execution, Transformer

__all__ = [
    "activation_bytes",
    "hardware_flops",
    "layer_activation_bytes",
    "model_flops",
    "recomputed",
]


def _whole(model: Transformer, attention: str, recompute: str, flash: bool) -> Execution:
    """One sequence on one rank."""
    return Execution(
        micro_batch=1, sequence=model.sequence, formats=FORMATS["bf16"], attention=attention, flash=flash,
        recompute=recompute,
    )


def model_flops(model: Transformer, *, sequences: int, attention: str) -> int:
    """FLOP that a step of ``sequences`` sequences needs, forward and backward, without recomputation.

    For a GPT with full attention this is 72 b s L h^2 (1 + s / 6h + V / 12 L h) (arXiv 2104.04473, section 5.1, less
    its recomputation; arXiv 2205.05198, appendix A).

    Args:
        model: the model; its ``sequence`` is s.
        sequences: b, sequences of the global batch.
        attention: "causal" counts half of the scores (Megatron-LM since 2024), "full" all (the papers above).
    """
    return sequences * hardware_flops(model, _whole(model, attention, "none", False))


def hardware_flops(model: Transformer, run: Execution) -> int:
    """FLOP that a rank executes for one microbatch of the whole model: recomputation and flash included.

    Selective recomputation is one attention core more, 4 b s^2 h per layer. The published HFU over MFU of
    arXiv 2205.05198 (43.7 / 41.5 % for 22B) counts that core three times.
    """
    operators = stage_operators(model, run, range(model.num_layers), first=True, last=True)
    passes = (work for op in operators for work in (op.forward, op.input, op.weight, recomputed(op, run)))
    return sum(work.flops for work in passes)


def recomputed(operator: Operator, run: Execution) -> Work:
    """What of an operator's forward pass is run again in backward."""
    in_layer = operator.block in ("attention", "mlp")
    if run.recompute == "per-op" and in_layer and not operator.core:
        work, parts = operator.forward, 2 if operator.forward.flops else 1  # of two products, one
        return replace(work, flops=work.flops // parts, num_bytes=work.num_bytes // parts)
    again = (run.recompute == "full" and in_layer) or (run.recompute == "selective" and operator.core)
    return operator.forward if again else Work()


def layer_activation_bytes(model: Transformer, run: Execution, layer: Iterable[Operator]) -> int:
    """What one layer keeps for the backward pass of one microbatch; all of it, part of it, or its input alone."""
    if run.recompute == "full":
        return run.element_bytes * run.local_tokens * model.hidden
    if run.recompute == "per-op":
        operators = tuple(layer)
        core = sum(op.saved_bytes - op.kept_bytes for op in operators if op.core)
        output = sum(op.saved_bytes for op in operators if op.name == "projection")  # which reads the core's output
        products = sum(_outputs(model, run, operators)[::2])
        return run.element_bytes * run.local_tokens * model.hidden + core + output + products
    return sum(op.kept_bytes if run.recompute == "selective" else op.saved_bytes for op in layer)


def _outputs(model: Transformer, run: Execution, layer: Iterable[Operator]) -> list[int]:
    """Bytes of the outputs of a layer's products with weights, one for each weight: Q, K and V apart, and the gate."""
    heads, kv = model.num_heads // run.tp, run.kv_heads(model)
    found: list[int] = []
    for op in layer:
        one = op.forward.matmul
        if op.core or one is None:
            continue
        parts: tuple[int, ...] = (heads, kv, kv) if op.name == "qkv" else (1,)
        if model.gated and op.block == "mlp" and op.name.endswith("up"):
            parts = (1, 1)
        size = run.element_bytes * one.m * one.n * one.count
        found += [size * part // sum(parts) for part in parts]
    return found


def activation_bytes(model: Transformer, run: Execution, layers: Sequence[int], *, first: bool, last: bool) -> int:
    """What a pipeline stage, which holds these layers of the model, keeps for the backward pass of one microbatch.

    Raises:
        InputError: a model that cannot be split so.
    """
    held = Counter(model.kind(number) for number in layers)
    inside = sum(
        count * layer_activation_bytes(model, run, layer_operators(model, run, kind)) for kind, count in held.items()
    )
    return inside + sum(op.saved_bytes for op in stage_operators(model, run, (), first=first, last=last))
