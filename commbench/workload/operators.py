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
* Latent attention (MLA) makes Q, K and V of every head from its latents, as in training, by products that are split
  over tp; those that make the latents every tensor rank computes whole, of its own tokens. Keys are as wide as queries,
  and values as they are: the core is 2 T s (d + v) a / t FLOP forward. Its latents are kept, and Q, K and V.
* Experts are split over tp like a dense MLP (expert tp = tp), and tokens spread over them as ``ExpertLoad`` says,
  evenly unless it is given. Shared experts are a dense MLP that stands between them and the sum of their outputs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from commbench.workload.attention_operators import attention_operators
from commbench.workload.operator import NOTHING, Operator, Work, kept, linear, norm
from commbench.workload.transformer import Execution, Transformer

__all__ = ["embedding_operators", "head_operators", "layer_operators", "stage_operators"]


def layer_operators(model: Transformer, run: Execution, number: int = 0) -> tuple[Operator, ...]:
    """The operators of one layer of the model, 0 the first, in forward order.

    Raises:
        InputError: the model cannot be split as ``run`` says.
    """
    run.check_model(model)
    attention = (
        norm(model, run, "attention-norm", "attention", model.hidden),
        *attention_operators(model, run),
        _residual(model, run, "attention-residual", "attention"),
    )
    if model.is_sparse(number):
        mlp = _experts(model, run)
    else:
        mlp = _mlp(model, run, _MLP, model.dense_ffn or model.ffn, kept_tokens=run.kept_tokens)
    before, after = norm(model, run, "mlp-norm", "mlp", model.hidden), _residual(model, run, "mlp-residual", "mlp")
    return (*attention, before, *mlp, after)


def embedding_operators(model: Transformer, run: Execution) -> tuple[Operator, ...]:
    """The lookup of tokens and positions, on the first stage; the table is split over tp by rows, rounded up."""
    moved = 2 * run.element_bytes * run.tokens * model.hidden
    return (
        kept(
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
    logits = linear(run, "logits", "head", run.tokens, model.hidden, rows, kept_tokens=run.kept_tokens, own=False)
    loss_bytes = run.tokens * rows * (run.element_bytes + 4)  # the loss reads logits and keeps them in FP32
    loss = Operator(
        name="loss",
        block="head",
        forward=Work(num_bytes=loss_bytes),
        input=Work(num_bytes=loss_bytes),
        saved_bytes=4 * run.tokens * rows,
    )
    logits = logits if own_weights else replace(logits, parameters=0)
    return (norm(model, run, "final-norm", "head", model.hidden), logits, kept(loss))


def stage_operators(
    model: Transformer, run: Execution, layers: Sequence[int], *, first: bool, last: bool
) -> tuple[Operator, ...]:
    """The operators of a pipeline stage, which holds these ``layers`` of the model, in forward order."""
    kinds = [model.kind(number) for number in layers]
    each = {kind: layer_operators(model, run, kind) for kind in dict.fromkeys(kinds)}
    before = embedding_operators(model, run) if first else ()
    after = head_operators(model, run, own_weights=not (model.tied and first)) if last else ()
    return (*before, *(operator for kind in kinds for operator in each[kind]), *after)


def _vocab_rows(model: Transformer, run: Execution) -> int:
    return -(-model.vocab // run.tp)


def _residual(model: Transformer, run: Execution, name: str, block: str) -> Operator:
    """Dropout if there is any, then the sum with the residual; backward sums two gradients."""
    size, mask = run.element_bytes * run.local_tokens * model.hidden, 0
    if model.dropout:
        mask = run.local_tokens * model.hidden
    moved = Work(num_bytes=3 * size + mask)
    return kept(Operator(name=name, block=block, forward=moved, input=moved, saved_bytes=mask))


_MLP = ("up", "activation", "down")
_SHARED = ("shared-up", "shared-activation", "shared-down")


def _mlp(
    model: Transformer, run: Execution, names: tuple[str, str, str], width: int, *, kept_tokens: int
) -> Iterable[Operator]:
    """A dense MLP, so wide inside: product, which keeps its input of so many tokens, activation, product."""
    up, activation, down = names
    inner = width // run.tp
    columns = inner * (2 if model.gated else 1)
    yield linear(
        run, up, "mlp", run.tokens, model.hidden, columns,
        kept_tokens=kept_tokens, biases=columns if model.biases else 0,
    )  # fmt: skip
    yield _activation(run, activation, run.tokens, columns, inner)
    yield linear(
        run, down, "mlp", run.tokens, inner, model.hidden,
        kept_tokens=run.tokens, biases=model.hidden if model.biases else 0,
    )  # fmt: skip


def _activation(run: Execution, name: str, tokens: int, columns: int, inner: int) -> Operator:
    e = run.element_bytes
    return kept(
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
    yield linear(
        run, "router", "mlp", run.local_tokens, model.hidden, model.num_experts,
        kept_tokens=run.local_tokens, own=False,
    )  # fmt: skip
    copies = Work(num_bytes=2 * run.element_bytes * sent * model.hidden)
    yield kept(Operator(name="permute", block="mlp", forward=copies, input=copies))
    for name, k, n in (("expert-up", model.hidden, columns), ("expert-down", inner, model.hidden)):
        biases = local * n if model.biases else 0
        product = linear(run, name, "mlp", routed, k, n, kept_tokens=routed, biases=biases, count=local)
        yield replace(product, expert=True)
        if name == "expert-up":
            yield _activation(run, "expert-activation", routed, columns, inner)
    if model.shared_ffn:
        beside = 0 if run.kept_tokens == run.local_tokens else run.kept_tokens  # the router keeps the same input
        yield from _mlp(model, run, _SHARED, model.shared_ffn, kept_tokens=beside)
    outputs = run.element_bytes * sent * model.hidden  # the weights of the sum need the experts' outputs
    yield kept(Operator(name="unpermute", block="mlp", forward=copies, input=copies, saved_bytes=outputs))
