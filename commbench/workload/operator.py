# SPDX-License-Identifier: Apache-2.0
"""An operator on one rank, as data, and those that layers are put together from: products and norms."""

from dataclasses import dataclass, replace
from typing import Any

from commbench.workload.transformer import Execution, Transformer

__all__ = ["NOTHING", "Matmul", "Operator", "Work", "kept", "linear", "norm"]


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


def kept(operator: Operator) -> Operator:
    """An operator outside the attention core: selective recomputation leaves it alone."""
    return replace(operator, kept_bytes=operator.saved_bytes)


def norm(model: Transformer, run: Execution, name: str, block: str, width: int) -> Operator:
    """A norm over ``width`` numbers of each of a rank's own tokens."""
    size = run.element_bytes * run.local_tokens * width
    return kept(
        Operator(
            name=name,
            block=block,
            forward=Work(num_bytes=2 * size),
            input=Work(num_bytes=3 * size),  # its input and the gradient in, the gradient out
            parameters=(2 if model.biases else 1) * width,
            saved_bytes=size,
        )
    )


def linear(
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
    fresh = 0 if run.keeps_casts else count * k * n
    inputs, weights, outputs = tokens * k, count * k * n, tokens * n
    work: dict[str, Any] = {"flops": 2 * tokens * k * n, "layer_product": own}
    rows = -(-tokens // count)
    return kept(
        Operator(
            name=name,
            block=block,
            forward=Work(
                **work,
                num_bytes=o * (inputs + weights) + e * outputs,
                matmul=Matmul(rows, n, k, count),
                cast_bytes=cast * (inputs + fresh),
            ),
            input=Work(
                **work,
                num_bytes=o * (outputs + weights) + e * inputs,
                matmul=Matmul(rows, k, n, count),
                cast_bytes=cast * outputs,
            ),
            weight=Work(
                **work,
                num_bytes=o * (inputs + outputs) + (run.summed_bytes or e) * weights,
                matmul=Matmul(k, n, rows, count),
            ),
            parameters=count * k * n + biases,
            saved_bytes=run.element_bytes * kept_tokens * k,
        )
    )
