# SPDX-License-Identifier: Apache-2.0
"""The operators of attention on one rank: products, rotation, core; of latent attention (MLA) the latents' too."""

from collections.abc import Iterable
from dataclasses import dataclass

from commbench.workload.operator import Matmul, Operator, Work, kept, linear, norm
from commbench.workload.transformer import Execution, LatentAttention, Transformer

__all__ = ["attention_operators"]


def attention_operators(model: Transformer, run: Execution) -> Iterable[Operator]:
    """From behind the norm to before the sum with the residual, in forward order."""
    return _attention(model, run) if model.latent is None else _latent_attention(model, model.latent, run)


def _attention(model: Transformer, run: Execution) -> Iterable[Operator]:
    """QKV product, then rotation, core and output product."""
    width, kv_width = model.num_heads // run.tp * model.head_size, run.kv_heads(model) * model.head_size
    columns = width + 2 * kv_width
    yield linear(
        run, "qkv", "attention", run.tokens, model.hidden, columns,
        kept_tokens=run.kept_tokens, biases=columns if model.biases else 0,
    )  # fmt: skip
    yield from _core(model, run)


def _latent_attention(model: Transformer, latent: LatentAttention, run: Execution) -> Iterable[Operator]:
    """Products to the latents, norms over these, products to all heads; then as other attention.

    The first product that reads the layer's input keeps it, the other reads what that one kept.
    """
    heads, h, local = model.num_heads // run.tp, model.hidden, run.local_tokens
    queries = heads * model.head_size
    if latent.q_rank:
        yield linear(run, "q-down", "attention", local, h, latent.q_rank, kept_tokens=local)
        yield norm(model, run, "q-norm", "attention", latent.q_rank)
        yield linear(run, "q-up", "attention", run.tokens, latent.q_rank, queries, kept_tokens=run.kept_tokens)
    else:
        yield linear(run, "q", "attention", run.tokens, h, queries, kept_tokens=run.kept_tokens)
    yield linear(run, "kv-down", "attention", local, h, latent.kv_rank + latent.rope_size, kept_tokens=0)
    yield norm(model, run, "kv-norm", "attention", latent.kv_rank)
    columns = heads * (model.head_size - latent.rope_size + latent.value_size)
    yield linear(run, "kv-up", "attention", run.tokens, latent.kv_rank, columns, kept_tokens=run.kept_tokens)
    yield from _core(model, run)


def _core(model: Transformer, run: Execution) -> Iterable[Operator]:
    """Rotation, which moves Q and K, the core, and the product of its output."""
    heads, kv = model.num_heads // run.tp, run.kv_heads(model)
    widths = _Widths(heads * model.head_size, kv * model.head_size, kv * model.value_size, heads * model.value_size)
    if not model.positions:
        moved = Work(num_bytes=2 * run.element_bytes * run.tokens * (widths.queries + widths.keys))
        yield kept(Operator(name="rotary", block="attention", forward=moved, input=moved))
    yield from _flash(model, run, widths) if run.flash else _plain_core(model, run, widths)
    yield linear(
        run, "projection", "attention", run.tokens, widths.outputs, model.hidden,
        kept_tokens=run.tokens, biases=model.hidden if model.biases else 0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Widths:
    """Of a token's queries, keys, values and outputs of attention on a rank, all heads together."""

    queries: int
    keys: int
    values: int
    outputs: int


def _scores(model: Transformer, run: Execution) -> int:
    """Scores that a rank computes: its heads, its queries, all keys; half of them if causal."""
    scores = model.num_heads // run.tp * run.tokens * run.sequence
    return scores // 2 if run.attention == "causal" else scores


def _core_matmul(model: Transformer, run: Execution, *, context: bool) -> Matmul:
    """Shape of Q K^T, or of scores times V, per head and sequence."""
    queries, keys = run.sequence * run.head_ranks // run.cp, run.sequence
    count = run.micro_batch * model.num_heads // (run.tp * run.head_ranks)
    return Matmul(queries, model.value_size, keys, count) if context else Matmul(queries, keys, model.head_size, count)


def _flash(model: Transformer, run: Execution, widths: _Widths) -> Iterable[Operator]:
    """The core as one kernel; it keeps Q, K, V and one FP32 number per query and head (its output: the product's).

    Forward is Q K^T and the scores times V; of the five products of backward three are as wide as a head of queries.
    """
    of_scores, of_values = (2 * _scores(model, run) * size for size in (model.head_size, model.value_size))
    inputs = run.element_bytes * run.tokens * (widths.queries + widths.keys + widths.values)
    output = run.element_bytes * run.tokens * widths.outputs
    shape = _core_matmul(model, run, context=False)
    yield Operator(
        name="attention-core",
        block="attention",
        forward=Work(flops=of_scores + of_values, num_bytes=inputs + output, matmul=shape, kernel="flash"),
        input=Work(
            flops=3 * of_scores + 2 * of_values,
            num_bytes=2 * (inputs + output),
            matmul=shape,
            kernel="flash-backward",
        ),
        saved_bytes=inputs + 4 * run.tokens * model.num_heads // run.tp,
        core=True,
        kept_bytes=inputs,
    )


def _plain_core(model: Transformer, run: Execution, widths: _Widths) -> Iterable[Operator]:
    """The core as four kernels, with the scores in memory between them (all of them, causal or not)."""
    e, scores = run.element_bytes, 2 * _scores(model, run)
    square = model.num_heads // run.tp * run.tokens * run.sequence
    for name, context in (("scores", False), ("context", True)):
        shape = _core_matmul(model, run, context=context)
        flops = scores * (model.value_size if context else model.head_size)
        moved = widths.outputs + widths.values if context else widths.queries + widths.keys
        inputs = e * run.tokens * (widths.values if context else moved)
        moved = e * (run.tokens * moved + square)
        yield Operator(
            name=name,
            block="attention",
            forward=Work(flops=flops, num_bytes=moved, matmul=shape, kernel="batched"),
            input=Work(flops=2 * flops, num_bytes=2 * moved, matmul=shape, kernel="batched"),
            saved_bytes=inputs + (e * square if context and model.dropout else 0),
            core=True,
            kept_bytes=inputs,
        )
        if context:
            return
        yield Operator(
            name="softmax",
            block="attention",
            forward=Work(num_bytes=2 * e * square),
            input=Work(num_bytes=3 * e * square),
            saved_bytes=e * square,
            core=True,
        )
        if model.dropout:
            moved = (2 * e + 1) * square
            yield Operator(
                name="attention-dropout",
                block="attention",
                forward=Work(num_bytes=moved),
                input=Work(num_bytes=moved),
                saved_bytes=square,
                core=True,
            )
