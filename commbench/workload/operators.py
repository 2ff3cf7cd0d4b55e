# SPDX-License-Identifier: Apache-2.0
"""What every operator of a transformer costs one rank: parameters, FLOP, bytes and what it keeps for backward.

One microbatch on one rank. With T tokens on the rank, h hidden, a heads of size d, s sequence, t = tp, e bytes of an
activation:

* A product of (m x k) by (k x n) is 2 m n k FLOP in each of its three passes: forward, input gradient, weight
  gradient. It reads and writes its three matrices once. Where its operands are narrower than activations (FP8) it reads
  them so, and each is turned into one first: input and weights in forward, the output's gradient in backward.
* The attention core is 4 T s (a d / t) FLOP forward and twice that backward, half of it if causal. As one kernel
  (flash) it computes the scores again in backward: 2.5 times forward (FlashAttention-2, arXiv 2307.08691, section 4.1).
  It has no weights: all of its backward is input gradient.
* Everything else is counted as memory traffic alone, with 0 FLOP, as the published FLOP formulas do.
* What is kept follows arXiv 2205.05198, section 4: per layer 34 + 5 a s / h bytes per token and hidden unit for a GPT
  at e = 2, of which 10 are not divided by t without sequence parallelism. Tests derive each of its formulas.
* Where tp is more than the key-value heads, each rank holds one of them, and computes it like the others that do.
* Experts are split over tp like a dense MLP (expert tp = tp), and tokens spread over them as
  ``ExpertLoad`` says, evenly unless it is given.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from commbench.workload.transformer import Execution, Transformer

__all__ = ["Matmul", "Operator", "Work", "embedding_operators", "head_operators", "layer_operators", "stage_operators"]


@dataclass(frozen=True, slots=True)
class Matmul:
    """``count`` products of (m x k) by (k x n)."""

    m: int
    n: int
    k: int
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One pass of an operator on one rank.

    Attributes:
        flops: floating-point operations of products. num_bytes: read and written in memory.
        matmul: shape of the products, for a table of measured ones; None where there are none.
        layer_product: whether they are those of a layer with its weights, ``Formats.products``, or ``others``.
        cast_bytes: moved in memory before the products to bring their operands into their format.
        kernel: of an attention core: "flash", "flash-backward", or "batched" for products that keep the scores.
    """

    flops: int = 0
    num_bytes: int = 0
    matmul: Matmul | None = None
    layer_product: bool = False
    cast_bytes: int = 0
    kernel: str = ""


NOTHING = Work()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator on one rank.

    Attributes:
        name: for example "qkv". block: "embedding", "attention", "mlp" or "head".
        forward, input, weight: the passes F, I and W.
        parameters: weights on this rank. expert: whether they are split over ep, not copied to the dp ranks.
        saved_bytes: kept from F to the end of backward. core: whether selective recomputation runs it again.
        kept_bytes: what of it stays under selective recomputation; the same outside the core.
    """

    name: str
    block: str
    forward: Work
    input: Work
    weight: Work = NOTHING
    parameters: int = 0
    expert: bool = False
    saved_bytes: int = 0
    core: bool = False
    kept_bytes: int = 0


def layer_operators(model: Transformer, run: Execution) -> tuple[Operator, ...]:
    """The operators of one layer in forward order.

    Raises:
        InputError: the model cannot be split as ``run`` says.
    """
    run.check_model(model)
    attention = (
        _norm(model, run, "attention-norm", "attention"),
        *_attention(model, run),
        _residual(model, run, "attention-residual", "attention"),
    )
    mlp = _experts(model, run) if model.num_experts > 1 else _mlp(model, run)
    return (*attention, _norm(model, run, "mlp-norm", "mlp"), *mlp, _residual(model, run, "mlp-residual", "mlp"))


def embedding_operators(model: Transformer, run: Execution) -> tuple[Operator, ...]:
    """The lookup of tokens and positions, on the first stage; the table is split over tp by rows, rounded up."""
    moved = 2 * run.element_bytes * run.tokens * model.hidden
    return (
        _kept(
            Operator(
                name="embedding",
                block="embedding",
                forward=Work(num_bytes=moved),
                input=NOTHING,
                weight=Work(num_bytes=moved),
                parameters=(_vocab_rows(model, run) + model.positions) * model.hidden,
                saved_bytes=run.local_tokens * model.hidden if model.dropout else 0,  # the mask, 1 byte each
            )
        ),
    )


def head_operators(model: Transformer, run: Execution, *, own_weights: bool) -> tuple[Operator, ...]:
    """Final norm, output product and loss, on the last stage.

    Args:
        model: the model.
        run: how it is executed.
        own_weights: whether this rank holds output weights of its own: untied, or tied with an embedding elsewhere.
    """
    rows = _vocab_rows(model, run)
    logits = _linear(run, "logits", "head", run.tokens, model.hidden, rows, kept_tokens=run.kept_tokens, own=False)
    loss_bytes = run.tokens * rows * (run.element_bytes + 4)  # the loss reads logits and keeps them in FP32
    loss = Operator(
        name="loss",
        block="head",
        forward=Work(num_bytes=loss_bytes),
        input=Work(num_bytes=loss_bytes),
        saved_bytes=4 * run.tokens * rows,
    )
    logits = logits if own_weights else replace(logits, parameters=0)
    return (_norm(model, run, "final-norm", "head"), logits, _kept(loss))


def stage_operators(
    model: Transformer, run: Execution, num_layers: int, *, first: bool, last: bool
) -> tuple[Operator, ...]:
    """The operators of a pipeline stage in forward order."""
    before = embedding_operators(model, run) if first else ()
    after = head_operators(model, run, own_weights=not (model.tied and first)) if last else ()
    return (*before, *layer_operators(model, run) * num_layers, *after)


def _vocab_rows(model: Transformer, run: Execution) -> int:
    return -(-model.vocab // run.tp)


def _kept(operator: Operator) -> Operator:
    """An operator outside the attention core: selective recomputation leaves it alone."""
    return replace(operator, kept_bytes=operator.saved_bytes)


def _norm(model: Transformer, run: Execution, name: str, block: str) -> Operator:
    size = run.element_bytes * run.local_tokens * model.hidden
    return _kept(
        Operator(
            name=name,
            block=block,
            forward=Work(num_bytes=2 * size),
            input=Work(num_bytes=3 * size),  # its input and the gradient in, the gradient out
            parameters=(2 if model.biases else 1) * model.hidden,
            saved_bytes=size,
        )
    )


def _residual(model: Transformer, run: Execution, name: str, block: str) -> Operator:
    """Dropout if there is any, then the sum with the residual; backward sums two gradients."""
    size, mask = run.element_bytes * run.local_tokens * model.hidden, 0
    if model.dropout:
        mask = run.local_tokens * model.hidden
    moved = Work(num_bytes=3 * size + mask)
    return _kept(Operator(name=name, block=block, forward=moved, input=moved, saved_bytes=mask))


def _linear(
    run: Execution,
    name: str,
    block: str,
    tokens: int,
    k: int,
    n: int,
    *,
    kept_tokens: int,
    biases: int = 0,
    count: int = 1,
    own: bool = True,
) -> Operator:
    """``count`` weight matrices (k x n), over which ``tokens`` rows are spread evenly; ``own``: in layers' format."""
    formats = run.formats
    e, cast = formats.activations, formats.cast_bytes if own else 0
    o = formats.operands if own else e
    inputs, weights, outputs = tokens * k, count * k * n, tokens * n
    work: dict[str, Any] = {"flops": 2 * tokens * k * n, "layer_product": own}
    rows = -(-tokens // count)
    return _kept(
        Operator(
            name=name,
            block=block,
            forward=Work(
                **work,
                num_bytes=o * (inputs + weights) + e * outputs,
                matmul=Matmul(rows, n, k, count),
                cast_bytes=cast * (inputs + weights),
            ),
            input=Work(
                **work,
                num_bytes=o * (outputs + weights) + e * inputs,
                matmul=Matmul(rows, k, n, count),
                cast_bytes=cast * outputs,
            ),
            weight=Work(**work, num_bytes=o * (inputs + outputs) + e * weights, matmul=Matmul(k, n, rows, count)),
            parameters=count * k * n + biases,
            saved_bytes=run.element_bytes * kept_tokens * k,
        )
    )


def _attention(model: Transformer, run: Execution) -> Iterable[Operator]:
    """QKV product, rotation, core, output product."""
    width, kv_width = model.num_heads // run.tp * model.head_size, run.kv_heads(model) * model.head_size
    columns = width + 2 * kv_width
    yield _linear(
        run, "qkv", "attention", run.tokens, model.hidden, columns,
        kept_tokens=run.kept_tokens, biases=columns if model.biases else 0,
    )  # fmt: skip
    if not model.positions:
        moved = Work(num_bytes=2 * run.element_bytes * run.tokens * (width + kv_width))
        yield _kept(Operator(name="rotary", block="attention", forward=moved, input=moved))
    yield from _flash(model, run, width, kv_width) if run.flash else _plain_core(model, run, width, kv_width)
    yield _linear(
        run, "projection", "attention", run.tokens, width, model.hidden,
        kept_tokens=run.tokens, biases=model.hidden if model.biases else 0,
    )  # fmt: skip


def _scores(model: Transformer, run: Execution) -> int:
    """Scores that a rank computes: its heads, its queries, all keys; half of them if causal."""
    scores = model.num_heads // run.tp * run.tokens * run.sequence
    return scores // 2 if run.attention == "causal" else scores


def _core_matmul(model: Transformer, run: Execution, *, context: bool) -> Matmul:
    """Shape of Q K^T, or of scores times V, per head and sequence."""
    queries, keys, size = run.sequence * run.head_ranks // run.cp, run.sequence, model.head_size
    count = run.micro_batch * model.num_heads // (run.tp * run.head_ranks)
    return Matmul(queries, size, keys, count) if context else Matmul(queries, keys, size, count)


def _flash(model: Transformer, run: Execution, width: int, kv_width: int) -> Iterable[Operator]:
    """The core as one kernel; it keeps Q, K, V and one FP32 number per query and head (its output: the product's)."""
    flops = 4 * _scores(model, run) * model.head_size
    inputs = run.element_bytes * run.tokens * (width + 2 * kv_width)
    output = run.element_bytes * run.tokens * width
    shape = _core_matmul(model, run, context=False)
    yield Operator(
        name="attention-core",
        block="attention",
        forward=Work(flops=flops, num_bytes=inputs + output, matmul=shape, kernel="flash"),
        input=Work(
            flops=flops * 5 // 2, num_bytes=2 * (inputs + output), matmul=shape, kernel="flash-backward"
        ),
        saved_bytes=inputs + 4 * run.tokens * model.num_heads // run.tp,
        core=True,
        kept_bytes=inputs,
    )


def _plain_core(model: Transformer, run: Execution, width: int, kv_width: int) -> Iterable[Operator]:
    """The core as four kernels, with the scores in memory between them (all of them, causal or not)."""
    flops, e = 2 * _scores(model, run) * model.head_size, run.element_bytes
    square = model.num_heads // run.tp * run.tokens * run.sequence
    q, kv = e * run.tokens * width, e * run.tokens * kv_width
    for name, context in (("scores", False), ("context", True)):
        shape = _core_matmul(model, run, context=context)
        moved = q + kv + e * square
        kept = kv if context else q + kv
        yield Operator(
            name=name,
            block="attention",
            forward=Work(flops=flops, num_bytes=moved, matmul=shape, kernel="batched"),
            input=Work(flops=2 * flops, num_bytes=2 * moved, matmul=shape, kernel="batched"),
            saved_bytes=kept + (e * square if context and model.dropout else 0),
            core=True,
            kept_bytes=kept,
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


def _mlp(model: Transformer, run: Execution) -> Iterable[Operator]:
    inner = model.ffn // run.tp
    columns = inner * (2 if model.gated else 1)
    yield _linear(
        run, "up", "mlp", run.tokens, model.hidden, columns,
        kept_tokens=run.kept_tokens, biases=columns if model.biases else 0,
    )  # fmt: skip
    yield _activation(run, "activation", run.tokens, columns, inner)
    yield _linear(
        run, "down", "mlp", run.tokens, inner, model.hidden,
        kept_tokens=run.tokens, biases=model.hidden if model.biases else 0,
    )  # fmt: skip


def _activation(run: Execution, name: str, tokens: int, columns: int, inner: int) -> Operator:
    e = run.element_bytes
    return _kept(
        Operator(
            name=name,
            block="mlp",
            forward=Work(num_bytes=e * tokens * (columns + inner)),
            input=Work(num_bytes=e * tokens * (2 * columns + inner)),
            saved_bytes=e * tokens * columns,
        )
    )


def _experts(model: Transformer, run: Execution) -> Iterable[Operator]:
    """Router, experts and the copies between them: ``sent`` token copies of a rank, ``routed`` that arrive there."""
    sent = run.expert_load.sent(run.tokens * model.experts_per_token)
    routed = run.expert_load.received(run.tokens * model.experts_per_token, run.ep)
    inner = model.ffn // run.tp
    columns = inner * (2 if model.gated else 1)
    local = model.num_experts // run.ep
    yield _linear(
        run, "router", "mlp", run.local_tokens, model.hidden, model.num_experts,
        kept_tokens=run.local_tokens, own=False,
    )  # fmt: skip
    copies = Work(num_bytes=2 * run.element_bytes * sent * model.hidden)
    yield _kept(Operator(name="permute", block="mlp", forward=copies, input=copies))
    for name, k, n in (("expert-up", model.hidden, columns), ("expert-down", inner, model.hidden)):
        biases = local * n if model.biases else 0
        linear = _linear(run, name, "mlp", routed, k, n, kept_tokens=routed, biases=biases, count=local)
        yield replace(linear, expert=True)
        if name == "expert-up":
            yield _activation(run, "expert-activation", routed, columns, inner)
    kept = run.element_bytes * sent * model.hidden  # the weights of the sum need the experts' outputs
    yield _kept(Operator(name="unpermute", block="mlp", forward=copies, input=copies, saved_bytes=kept))
