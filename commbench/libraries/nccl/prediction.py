# SPDX-License-Identifier: Apache-2.0
"""What NCCL would do and how long it would take: the answer's form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Candidate", "Prediction"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An algorithm with a protocol that NCCL weighs.

    Attributes:
        algorithm, protocol: in NCCL's spelling.
        formula_s: by NCCL's own formula, which decides. time_s: what it would take.
    """

    algorithm: str
    protocol: str
    formula_s: float
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One collective of one size.

    Attributes:
        time_s: seconds; the sum of ``terms``. nan where ``status`` is unknown.
        algorithm, protocol: in NCCL's spelling, ``SendRecv`` for all-to-all. channels, threads: of the kernel.
        terms: seconds by what they go to: ``launch``, ``latency``, ``fill``, ``wire``, ``copy``.
        status: "known", or "unknown" with ``reason``, which says what to measure.
        candidates: all that were weighed, the chosen one first and others by NCCL's formula.
    """

    time_s: float
    algorithm: str
    protocol: str
    channels: int
    threads: int
    terms: Mapping[str, float] = field(default_factory=dict)
    status: str = "known"
    reason: str = ""
    candidates: tuple[Candidate, ...] = ()
