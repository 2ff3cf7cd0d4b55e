# SPDX-License-Identifier: Apache-2.0
"""What data parallelism sends in a step: buckets of gradients, and under ZeRO the gathered parameters."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import ceil

from commbench.errors import InputError
from commbench.workload.memory import Precision
from commbench.workload.operators import embedding_operators, head_operators, layer_operators
from commbench.workload.traffic import Traffic
from commbench.workload.transformer import Execution, Transformer

__all__ = ["compressed", "data_traffic", "gradient_buckets", "unreduced_gradient_bytes"]


def gradient_buckets(sizes: Sequence[int], bucket_bytes: int) -> list[tuple[int, int]]:
    """Buckets of gradients as (bytes, index of the last layer in it), in the order in which backward fills them.

    Layers come from the last to the first; a bucket is full, and can be sent, with the layer that brings it to
    ``bucket_bytes`` or above; the rest goes with the first layer (torch DDP, at the grain of layers).

    Args:
        sizes: gradient bytes of every layer, first layer first; layers without any are skipped.
        bucket_bytes: least size of a bucket, 25 MiB in torch DDP.

    Raises:
        InputError: a bucket below 1 byte.
    """
    if bucket_bytes < 1:
        raise InputError(f"gradient buckets of {bucket_bytes} bytes cannot be filled; give at least 1 (--bucket)")
    buckets: list[tuple[int, int]] = []
    held = 0
    filled = [index for index, size in enumerate(sizes) if size]
    for index in reversed(filled):
        held += sizes[index]
        if held >= bucket_bytes or index == filled[0]:
            buckets.append((held, index))
            held = 0
    return buckets


def data_traffic(
    model: Transformer,
    run: Execution,
    layers: Sequence[int],
    precision: Precision,
    *,
    first: bool,
    last: bool,
    bucket_bytes: int,
    zero: int,
    zero_group: int = 0,
) -> tuple[Traffic, ...]:
    """Gradients and, under ZeRO, parameters of one pipeline stage, for a whole step.

    ZeRO 0 all-reduces gradients bucket by bucket; 1 and 2 reduce-scatter them and all-gather the new parameters behind
    the optimizer; 3 all-gathers every layer before forward and before backward (of each microbatch) and
    reduce-scatters its gradients. Gradients are sent after the backward of the layer they wait for: under ZeRO 0 and 1
    the last microbatch's, where they have added up; under 2 and 3 each microbatch's, since a rank keeps only its share
    of them (arXiv 1910.02054, section 5.2; DeepSpeed's stages 2 and 3, and FSDP unless it is told not to).
    With ``zero_group`` ranks to divide over, of more, each reduce-scatter is followed by the all-reduce of a rank's
    share over the groups that hold the same (hybrid sharding).
    Key-value heads of which neighbouring tensor ranks hold copies are summed over these first, each layer's by itself;
    so are products to the latents (MLA), of which each tensor rank has seen its own tokens where these are split.
    A tied embedding's gradients are all-reduced between the first and the last stage, where these differ. Groups of
    one rank send nothing; the sizes of groups are not known here, so leaving those calls out is the caller's.

    Args:
        model, run, layers: what the stage holds, these layers of the model; ``first`` and ``last`` add embedding and
            head.
        precision: bytes per gradient and parameter.
        bucket_bytes: see :func:`gradient_buckets`.
        zero: ZeRO stage, 0 to 3. zero_group: ranks that it divides over; 0: all.

    Raises:
        InputError: an unknown ZeRO stage, or a model that cannot be split so.
    """
    if zero not in range(4):
        raise InputError(f"zero = {zero} is unknown; ZeRO stages are 0, 1, 2 and 3")
    any_run = replace(run, micro_batch=1, recompute="none")  # on which no gradient's size depends
    sent = _data_traffic(model, any_run, tuple(layers), precision, first, last, bucket_bytes, zero)
    return sent if not zero_group else tuple(part for call in sent for part in _in_groups(call, zero_group))


@lru_cache(maxsize=4096)
def _data_traffic(
    model: Transformer, run: Execution, layers: tuple[int, ...], precision: Precision, first: bool, last: bool,
    bucket_bytes: int, zero: int,
) -> tuple[Traffic, ...]:  # fmt: skip
    """See data_traffic, of ZeRO over all ranks."""
    kinds, num_layers = [model.kind(number) for number in layers], len(layers)
    each = {kind: layer_operators(model, run, kind) for kind in dict.fromkeys(kinds)}
    embedding = embedding_operators(model, run) if first else ()
    head = head_operators(model, run, own_weights=not (model.tied and first)) if last else ()
    units = (embedding, *(each[kind] for kind in kinds), head)  # index i is layer i - 1
    calls = _sums_over_tensor_ranks(model, run, num_layers, precision)
    for expert, group in ((False, "dp-cp"), (True, "edp")):
        counts = [sum(op.parameters for op in unit if op.expert is expert) for unit in units]
        if zero == 3:
            calls += _layer_by_layer(counts, group, precision)
        else:
            calls += _bucketed(counts, group, precision, bucket_bytes, sharded=zero > 0)
    if model.tied and first != last:
        table = -(-model.vocab // run.tp) * model.hidden * precision.gradient_bytes
        where = -1 if first else num_layers
        calls.append(_call("data", "pp-ends", "all-reduce", table, "backward", where))
    return tuple(calls)


def unreduced_gradient_bytes(traffic: Sequence[Traffic]) -> int:
    """Gradients that wait whole to be reduced and divided, of a stage whose rank keeps its share alone (ZeRO 2 and 3).

    Two buckets, or under ZeRO 3 layers: the one that is being reduced, and the one that backward fills meanwhile
    (DeepSpeed's stages 2 and 3 with overlap_comm, FSDP's units). Assumed to be as large as what is sent at once.

    Args:
        traffic: of the stage, from :func:`data_traffic`.
    """
    sent = [t.size_bytes for t in traffic if (t.kind, t.collective) == ("zero", "reduce-scatter")]
    return max((sum(pair) for pair in pairwise([0, *sent])), default=0)


def compressed(traffic: tuple[Traffic, ...], ratio: float) -> tuple[Traffic, ...]:
    """The same with gradients over data ranks, and no parameters, in so many bytes of each byte."""
    if ratio == 1:
        return traffic
    return tuple(
        replace(one, size_bytes=ceil(one.size_bytes * ratio))
        if one.kind in ("data", "zero") and one.when == "backward" and one.group != "pp-ends" else one
        for one in traffic
    )  # fmt: skip


def _call(kind: str, group: str, collective: str, size_bytes: int, when: str, layer: int) -> Traffic:
    return Traffic(kind=kind, group=group, collective=collective, size_bytes=size_bytes, when=when, layer=layer)


def _in_groups(call: Traffic, ranks: int) -> list[Traffic]:
    """A call of ZeRO among so many neighbours, with the sum of each rank's share over the others that hold it."""
    if call.kind != "zero":
        return [call]
    inside = replace(call, group=f"{call.group}/{ranks}")
    if call.collective == "all-gather":
        return [inside]
    share = -(-call.size_bytes // ranks)
    return [inside, replace(call, group=f"{call.group}%{ranks}", collective="all-reduce", size_bytes=share)]


def _sums_over_tensor_ranks(
    model: Transformer, run: Execution, num_layers: int, precision: Precision
) -> list[Traffic]:
    copies, latent = run.kv_copies(model), model.latent
    if copies > 1:
        group, weights = f"tp/{copies}", 2 * (model.hidden + (1 if model.biases else 0)) * model.head_size
    elif latent is not None and run.sequence_parallel and run.tp > 1:
        group, weights = "tp", model.hidden * (latent.q_rank + latent.kv_rank + latent.rope_size)
    else:
        return []
    size = weights * precision.gradient_bytes
    return [_call("tensor", group, "all-reduce", size, "backward", i) for i in reversed(range(num_layers))]


def _bucketed(
    counts: Sequence[int], group: str, precision: Precision, bucket_bytes: int, *, sharded: bool
) -> list[Traffic]:
    buckets = gradient_buckets([precision.gradient_bytes * count for count in counts], bucket_bytes)
    if not sharded:
        return [_call("data", group, "all-reduce", size, "backward", i - 1) for size, i in buckets]
    calls = [_call("zero", group, "reduce-scatter", size, "backward", i - 1) for size, i in buckets]
    for size, i in reversed(buckets):  # forward needs the first layers first
        parameters = size // precision.gradient_bytes * precision.parameter_bytes
        calls.append(_call("zero", group, "all-gather", parameters, "step", i - 1))
    return calls


def _layer_by_layer(counts: Sequence[int], group: str, precision: Precision) -> list[Traffic]:
    there = [(count, i - 1) for i, count in enumerate(counts) if count]
    calls = [_call("zero", group, "all-gather", precision.parameter_bytes * count, "forward", i) for count, i in there]
    for count, i in reversed(there):
        calls.append(_call("zero", group, "all-gather", precision.parameter_bytes * count, "backward", i))
        calls.append(_call("zero", group, "reduce-scatter", precision.gradient_bytes * count, "backward", i))
    return calls
