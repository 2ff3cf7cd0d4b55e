# SPDX-License-Identifier: Apache-2.0
"""What a step sends, as data: kind, group, collective, bytes and when. The step program is built from these lists.

Sizes follow nccl-tests: the full buffer. A rank moves size x busbw factor, so that with all-reduces a layer moves
8 b s h e (t-1)/t bytes per microbatch over tp (arXiv 2104.04473, section 3.2: four all-reduces of b s h e).

Sequence parallelism turns each all-reduce into an all-gather and a reduce-scatter of the same sum. Where the gathered
input of a product is not kept, two more all-gathers bring it back for the weight gradient (arXiv 2205.05198, section
4.2.2), and the sum becomes 10 b s h e (t-1)/t. Full recomputation repeats the forward ones.

Context parallelism gathers K and V (arXiv 2407.21783, section 3.3.2); a ring (arXiv 2310.01889) moves as many bytes. Or
it exchanges sequence for heads in front of attention and back behind it (arXiv 2309.14509).
Experts: a token copy goes to its expert and back (arXiv 2006.16668, section 3.2).
"""

from dataclasses import dataclass, replace

from commbench.workload.transformer import Execution, Transformer

__all__ = [
    "Traffic",
    "boundary_bytes",
    "embedding_traffic",
    "head_traffic",
    "layer_traffic",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One collective call of one group.

    Attributes:
        kind: "tensor", "context", "expert", "data" or "zero".
        group: kind of group, see ``groups.ParallelGroups.of``.
        collective: a key of ``collectives.spec.COLLECTIVES``.
        size_bytes: of the full buffer.
        when: "forward", "recompute", "backward" (with the input gradient), "weight" (before the weight gradient) or
            "step" (after the optimizer).
        operator: the operator beside which it stands. side: "before" or "after" it, in the order of that pass.
        layer: for "data" and "zero", the layer of the stage: -1 the embedding, number of layers the head.
    """

    kind: str
    group: str
    collective: str
    size_bytes: int
    when: str
    operator: str = ""
    side: str = "after"
    layer: int | None = None


def boundary_bytes(model: Transformer, run: Execution) -> int:
    """Bytes between pipeline stages for one microbatch, each direction: b s h e / cp, and / tp if sequence-parallel."""
    return run.formats.boundaries * run.local_tokens * model.hidden


def layer_traffic(model: Transformer, run: Execution, number: int = 0) -> tuple[Traffic, ...]:
    """The collectives of one layer of the model, 0 the first, for a microbatch: forward, then backward, in order.

    Raises:
        InputError: the model cannot be split as ``run`` says.
    """
    run.check_model(model)
    mlp = _experts if model.is_sparse(number) else _mlp
    forward = [*_attention(model, run, "forward"), *mlp(model, run, "forward")]
    keys = [] if run.context == "all-to-all" else _keys(model, run, "forward")  # what was exchanged is kept
    repeated = {"full": forward, "selective": keys, "none": [], "per-op": []}[run.recompute]
    again = [replace(one, when="recompute") for one in repeated]
    return (*forward, *again, *mlp(model, run, "backward"), *_attention(model, run, "backward"))


def _tensor(collective: str, size_bytes: int, operator: str, side: str, when: str) -> Traffic:
    return Traffic(
        kind="tensor", group="tp", collective=collective, size_bytes=size_bytes, when=when, operator=operator, side=side
    )


def _hidden_bytes(model: Transformer, run: Execution) -> int:
    """b s h e / cp: the residual stream of one microbatch."""
    return run.element_bytes * run.tokens * model.hidden


def _attention(model: Transformer, run: Execution, when: str) -> list[Traffic]:
    size, latent = _hidden_bytes(model, run), model.latent
    columns = {"qkv": size}
    if latent is not None:  # what is split over heads begins behind the latents, and the key that all heads share
        each = run.element_bytes * run.tokens
        queries = {"q-up": each * latent.q_rank} if latent.q_rank else {"q": size}
        columns = {**queries, "kv-up": each * (latent.kv_rank + latent.rope_size)}
    return _block(run, columns, ("projection", size), when, _keys(model, run, when))


def _mlp(model: Transformer, run: Execution, when: str) -> list[Traffic]:
    size = _hidden_bytes(model, run)
    return _block(run, {"up": size}, ("down", size), when, [])


def _block(
    run: Execution, columns: dict[str, int], row: tuple[str, int], when: str, core: list[Traffic]
) -> list[Traffic]:
    """Column-parallel products (name: bytes of its input), ``core``, and a row-parallel one (and bytes of its output);
    backward runs through them the other way.
    """
    if run.tp == 1:
        return core
    first, last = (columns, dict([row])) if when == "forward" else (dict([row]), dict(reversed(columns.items())))
    if not run.sequence_parallel:
        return [*core, *(_tensor("all-reduce", size, name, "after", when) for name, size in last.items())]
    again = columns if when == "backward" and not run.keep_gathered else {}
    return [
        *(_tensor("all-gather", size, name, "before", when) for name, size in first.items()),
        *core,
        *(_tensor("all-gather", size, name, "before", "weight") for name, size in again.items()),
        *(_tensor("reduce-scatter", size, name, "after", when) for name, size in last.items()),
    ]


def _keys(model: Transformer, run: Execution, when: str) -> list[Traffic]:
    """Keys and values of the whole sequence, gathered over cp; backward again, and their gradients summed."""
    if run.cp == 1:
        return []
    if run.context == "all-to-all":
        return _exchanged(model, run, when)
    width = run.kv_heads(model) * (model.head_size + model.value_size)
    size = run.element_bytes * run.micro_batch * run.sequence * width
    core = "attention-core" if run.flash else "scores"
    gather = Traffic(
        kind="context", group="cp", collective="all-gather", size_bytes=size, when=when, operator=core, side="before"
    )
    return [gather] if when == "forward" else [gather, replace(gather, collective="reduce-scatter", side="after")]


def _exchanged(model: Transformer, run: Execution, when: str) -> list[Traffic]:
    """Q, K and V of all heads and a share of the tokens for a share of the heads and all tokens, the output back; as
    many bytes of gradients the other way.
    """
    heads, kv = model.num_heads // run.tp, run.kv_heads(model)
    first, last = ("attention-core", "attention-core") if run.flash else ("scores", "context")
    keys, values = (heads + kv) * model.head_size, model.value_size
    inputs, output = (run.element_bytes * run.tokens * each for each in (keys + kv * values, heads * values))
    ways = [(first, "before", inputs), (last, "after", output)]
    if when == "backward":
        ways = [(last, "before", output), (first, "after", inputs)]
    return [
        Traffic(
            kind="context", group="cp", collective="all-to-all", size_bytes=size, when=when, operator=name, side=side
        )
        for name, side, size in ways
    ]


def _experts(model: Transformer, run: Execution, when: str) -> list[Traffic]:
    """Token copies to their experts and back; over tp they are gathered for the experts and the results summed. Shared
    experts are a dense MLP, whose sum is that of the layer's outputs where each tensor rank has all tokens.
    """
    first, last, up, down = ("permute", "unpermute", "expert-up", "expert-down")
    if when == "backward":
        first, last, up, down = last, first, down, up
    local, whole = (
        run.expert_load.received(model.experts_per_token * tokens, run.ep) * model.hidden
        for tokens in (run.local_tokens, run.tokens)
    )
    out, back = (
        Traffic(
            kind="expert", group="ep", collective="all-to-all", when=when, operator=operator, side=side,
            size_bytes=run.formats.experts * local,
        )
        for operator, side in ((first, "after"), (last, "before"))
    )  # fmt: skip
    inner: list[Traffic] = []
    summed: list[Traffic] = []
    if run.tp > 1 and run.sequence_parallel:
        inner = [
            _tensor("all-gather", run.element_bytes * whole, up, "before", when),
            _tensor("reduce-scatter", run.element_bytes * whole, down, "after", when),
        ]
        if model.shared_ffn:
            size = _hidden_bytes(model, run)
            inner += _block(run, {"shared-up": size}, ("shared-down", size), when, [])
    elif run.tp > 1:  # sums commute with putting the copies back, so h is summed per token and not per copy
        summed = [_tensor("all-reduce", _hidden_bytes(model, run), last, "after", when)]
    return [*([out] if run.ep > 1 else []), *inner, *([back] if run.ep > 1 else []), *summed]


def embedding_traffic(model: Transformer, run: Execution) -> tuple[Traffic, ...]:
    """Tensor-parallel collectives of the embedding for one microbatch: each rank looks up the rows it holds."""
    if run.tp == 1:
        return ()
    size = _hidden_bytes(model, run)
    if not run.sequence_parallel:
        return (_tensor("all-reduce", size, "embedding", "after", "forward"),)
    return (
        _tensor("reduce-scatter", size, "embedding", "after", "forward"),
        _tensor("all-gather", size, "embedding", "before", "backward"),
    )


def head_traffic(model: Transformer, run: Execution) -> tuple[Traffic, ...]:
    """Tensor-parallel collectives of output and loss for one microbatch.

    The loss over a split vocabulary is three all-reduces of one FP32 number per token: the largest logit, the target's
    logit and the sum of exponentials (Megatron-LM core 0.12, tensor_parallel/cross_entropy.py).
    """
    if run.tp == 1:
        return ()
    size = _hidden_bytes(model, run)
    loss = (_tensor("all-reduce", 4 * run.tokens, "loss", "after", "forward"),) * 3
    if not run.sequence_parallel:
        return (*loss, _tensor("all-reduce", size, "logits", "after", "backward"))
    again = () if run.keep_gathered else (_tensor("all-gather", size, "logits", "before", "weight"),)
    return (
        _tensor("all-gather", size, "logits", "before", "forward"),
        *loss,
        *again,
        _tensor("reduce-scatter", size, "logits", "after", "backward"),
    )
