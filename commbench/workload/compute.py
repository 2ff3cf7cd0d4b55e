# SPDX-License-Identifier: Apache-2.0
"""How long a device computes: a roofline with stated efficiencies.

The time of a pass of an operator is the longer of

* FLOP / (peak FLOP/s x matrix efficiency), and
* bytes / (memory bandwidth x memory efficiency).

The matrix efficiency is one number, or a table of measured products (``gemm_table``); attention cores, whose shapes no
table of plain products covers, have a number of their own, or one for each kernel (``step_costs``). Nothing has a
default here: a device, a dtype or an efficiency that is not given is an error. Casts of operands come before their
product and take their bytes' time more; they are one kernel each, whatever the software moves several times.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from commbench.errors import InputError
from commbench.topology.devices import Device
from commbench.workload.operator import Matmul, Work

__all__ = ["USUAL", "AttentionEfficiency", "Efficiency", "MatrixEfficiency", "work_seconds"]

USUAL: Mapping[str, float] = MappingProxyType({"matrix": 0.7, "attention": 0.4, "memory": 0.8})
"""Efficiencies that GPUs reach in published training steps, in round numbers: for who has none of his own."""


_LEAST = 1e-6  # of a promise: less would only make times that have no meaning


class AttentionEfficiency(Protocol):
    """Anything that knows the share of peak FLOP/s that a pass of an attention core reaches."""

    def __call__(self, work: Work) -> float:
        """Above 0."""
        ...


class MatrixEfficiency(Protocol):
    """Anything that knows the share of peak FLOP/s that a product reaches, such as a table of measured ones."""

    def __call__(self, matmul: Matmul) -> float:
        """Above 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Shares of a device's promises that are reached, each from 1e-6 to 1.

    Attributes:
        matrix: of peak FLOP/s, in products with weights; a number or a function of the shape.
        attention: of peak FLOP/s, in attention cores; a number or a function of their work.
        memory: of memory bandwidth. casts: of it, in casts of operands; None: as memory.

    Raises:
        InputError: a share outside 1e-6 to 1.
    """

    matrix: float | MatrixEfficiency
    attention: float | AttentionEfficiency
    memory: float
    casts: float | None = None

    def __post_init__(self) -> None:
        for key in ("matrix", "attention", "memory"):
            value = getattr(self, key)
            if not callable(value) and not _LEAST <= value <= 1:
                raise InputError(f"efficiency {key} = {value} must be from {_LEAST:g} to 1 (--{key}-efficiency)")

    def of(self, work: Work, *, core: bool) -> float:
        """Share of peak FLOP/s that a pass reaches."""
        if core or work.matmul is None:
            return self.attention(work) if callable(self.attention) else self.attention
        return self.matrix(work.matmul) if callable(self.matrix) else self.matrix


def work_seconds(work: Work, device: Device, dtype: str, efficiency: Efficiency, *, core: bool) -> float:
    """Seconds of one pass of an operator; ``core`` says whether it is an attention core.

    Raises:
        InputError: the device has no peak for the dtype, or the table does not cover the shape.
    """
    moving = work.num_bytes / (device.memory_bytes_per_s * efficiency.memory)
    if not work.flops:
        return moving
    casting = work.cast_bytes / (device.memory_bytes_per_s * (efficiency.casts or efficiency.memory))
    return casting + max(moving, work.flops / (device.peak(dtype) * efficiency.of(work, core=core)))
