# SPDX-License-Identifier: Apache-2.0
"""How long a device computes: a roofline with stated efficiencies.

The time of a pass of an operator is the longer of

* FLOP / (peak FLOP/s x matrix efficiency), and
* bytes / (memory bandwidth x memory efficiency).

The matrix efficiency is one number, or a table of measured products (``gemm_table``); attention cores, whose shapes no
table of plain products covers, have a number of their own. Nothing has a default: a device, a dtype or an efficiency
that is not given is an error. Casts of operands come before their product and take their bytes' time more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from commbench.errors import InputError, unknown
from commbench.workload.operators import Matmul, Work

__all__ = ["DEVICES", "USUAL", "Device", "Efficiency", "MatrixEfficiency", "get_device", "work_seconds"]

USUAL: Mapping[str, float] = MappingProxyType({"matrix": 0.7, "attention": 0.4, "memory": 0.8})
"""Efficiencies that GPUs reach in published training steps, in round numbers: for who has none of his own."""


_LEAST = 1e-6  # of a promise: less would only make times that have no meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a vendor promises.

    Attributes:
        name: as users type it. source: the data sheet.
        peak_flops: FLOP/s of dense products (no 2:4 sparsity) by dtype.
        memory_bytes_per_s: bandwidth of its memory. memory_bytes: its size.
    """

    name: str
    source: str
    peak_flops: Mapping[str, float]
    memory_bytes_per_s: float
    memory_bytes: int

    def peak(self, dtype: str) -> float:
        """FLOP/s of dense products.

        Raises:
            InputError: the device has no figure for the dtype; names those it has.
        """
        if dtype not in self.peak_flops:
            raise InputError(f"device {self.name} has no peak for dtype {dtype!r}; known: {', '.join(self.peak_flops)}")
        return self.peak_flops[dtype]


_GB = 10**9  # data sheets count memory in decimal GB


def _gpu(name: str, source: str, tflops_16: float, tbytes_per_s: float, gbytes: int, **others: float) -> Device:
    """A GPU whose BF16 and FP16 peaks are equal; ``others``: further dtypes, all in TFLOP/s."""
    peaks = {"bf16": tflops_16, "fp16": tflops_16} | others
    return Device(
        name=name,
        source=source,
        peak_flops=MappingProxyType({dtype: value * 1e12 for dtype, value in peaks.items()}),
        memory_bytes_per_s=tbytes_per_s * 1e12,
        memory_bytes=gbytes * _GB,
    )


_A100 = "NVIDIA A100 data sheet (nvidia-a100-datasheet-us-nvidia-1758950-r4)"
_H100 = "NVIDIA H100 data sheet (SXM5), sparse figures halved"
_DEVICES = (
    Device(
        name="v100-sxm2-32gb",
        source="NVIDIA V100 data sheet (v100-datasheet-nvidia-us-1165301-r5)",
        peak_flops=MappingProxyType({"fp16": 125e12, "fp32": 15.7e12}),
        memory_bytes_per_s=0.9e12,
        memory_bytes=32 * _GB,
    ),
    _gpu("a100-sxm4-40gb", _A100, 312, 1.555, 40, tf32=156, fp32=19.5),
    _gpu("a100-sxm4-80gb", _A100, 312, 2.039, 80, tf32=156, fp32=19.5),
    _gpu("h100-sxm5-80gb", _H100, 989.5, 3.35, 80, fp8=1979, tf32=494.5, fp32=67),
    _gpu("h200-sxm-141gb", "NVIDIA H200 data sheet, sparse figures halved", 989.5, 4.8, 141, fp8=1979, fp32=67),
    _gpu("b200-sxm-180gb", "NVIDIA DGX B200 data sheet, per GPU, sparse halved", 2250, 8.0, 180, fp8=4500),
    _gpu("mi300x-192gb", "AMD Instinct MI300X data sheet, dense", 1307.4, 5.3, 192, fp8=2614.9, fp32=163.4),
)
DEVICES: Mapping[str, Device] = MappingProxyType({device.name: device for device in _DEVICES})


def get_device(name: str) -> Device:
    """The device of that name in any case, or the only one whose name begins so ("h100").

    Raises:
        InputError: the name is unknown; lists the known ones.
    """
    near = [known for known in DEVICES if known.startswith(name.lower())]
    if name.lower() not in DEVICES and len(near) == 1:
        return DEVICES[near[0]]
    if name.lower() not in DEVICES:
        raise InputError(f"device {name!r} {unknown(name, DEVICES)}")
    return DEVICES[name.lower()]


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
        attention: of peak FLOP/s, in attention cores.
        memory: of memory bandwidth.

    Raises:
        InputError: a share outside 1e-6 to 1.
    """

    matrix: float | MatrixEfficiency
    attention: float
    memory: float

    def __post_init__(self) -> None:
        for key in ("matrix", "attention", "memory"):
            value = getattr(self, key)
            if not callable(value) and not _LEAST <= value <= 1:
                raise InputError(f"efficiency {key} = {value} must be from {_LEAST:g} to 1")

    def of(self, work: Work, *, core: bool) -> float:
        """Share of peak FLOP/s that a pass reaches."""
        if core or work.matmul is None:
            return self.attention
        return self.matrix(work.matmul) if callable(self.matrix) else self.matrix


def work_seconds(work: Work, device: Device, dtype: str, efficiency: Efficiency, *, core: bool) -> float:
    """Seconds of one pass of an operator; ``core`` says whether it is an attention core.

    Raises:
        InputError: the device has no peak for the dtype, or the table does not cover the shape.
    """
    moving = work.num_bytes / (device.memory_bytes_per_s * efficiency.memory)
    if not work.flops:
        return moving
    casting = work.cast_bytes / (device.memory_bytes_per_s * efficiency.memory)
    return casting + max(moving, work.flops / (device.peak(dtype) * efficiency.of(work, core=core)))
