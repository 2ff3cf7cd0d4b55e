# SPDX-License-Identifier: Apache-2.0
"""Number formats of a step: what products compute in, and what everything else is kept and sent in.

These are different things. With FP8 only the products of the layers with weights take 8-bit operands, as in NVIDIA's
Transformer Engine and its users: attention cores, router, logits, norms, what is kept for backward, gradients and all
that is sent stay in 16 bits. Bytes per parameter are another matter (``memory.Precision``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from commbench.errors import InputError, unknown

__all__ = ["FORMATS", "Formats", "get_formats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Formats by what they serve; sizes in bytes per element.

    Attributes:
        name: as users type it.
        products: dtype of the layers' products with weights, whose peak they reach.
        others: dtype of all other products: attention cores, router and logits.
        operands: of what the layers' products read; their results are activations.
        activations: of all that stands between products, is kept for backward or is summed and gathered over tp and
            cp, and of its gradients.
        boundaries: of what goes from one pipeline stage to the next, either way.
        experts: of token copies on their way to experts and back.
    """

    name: str
    products: str
    others: str
    operands: int
    activations: int
    boundaries: int
    experts: int

    @property
    def cast_bytes(self) -> int:
        """Moved in memory per element that is turned into an operand: read as an activation, written as one twice, for
        each is also read the other way round (input and the output's gradient by the weight gradient, weights by the
        input gradient), which products in 8 bits cannot do from the same copy (Transformer Engine, "Performance
        considerations": handling transposes; block formats scale rows and columns apart).
        """
        return 0 if self.operands == self.activations else self.activations + 2 * self.operands


def _all_in(name: str, size: int) -> Formats:
    return Formats(
        name=name, products=name, others=name, operands=size, activations=size, boundaries=size, experts=size
    )


_ALL = (
    _all_in("bf16", 2),
    _all_in("fp16", 2),
    _all_in("fp32", 4),
    _all_in("tf32", 4),
    Formats(name="fp8", products="fp8", others="bf16", operands=1, activations=2, boundaries=2, experts=2),
    Formats(name="fp8-rowwise", products="fp8", others="bf16", operands=1, activations=2, boundaries=2, experts=2),
)
FORMATS: Mapping[str, Formats] = MappingProxyType({formats.name: formats for formats in _ALL})
_SPELLINGS = {"bfloat16": "bf16", "half": "fp16", "float16": "fp16", "float": "fp32", "float32": "fp32"}


def get_formats(name: str) -> Formats:
    """The formats of that name, in any case, or as torch and nccl-tests spell it ("bfloat16", "half").

    Raises:
        InputError: the name is unknown; lists the known ones.
    """
    known = _SPELLINGS.get(name.lower(), name.lower())
    if known not in FORMATS:
        raise InputError(f"--dtype {name!r} {unknown(name, FORMATS)}")
    return FORMATS[known]
