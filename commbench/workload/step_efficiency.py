# SPDX-License-Identifier: Apache-2.0
"""What a device's kernels reach in a step: measured products by shape, attention by its kernel, and the rest.

Products are slower in a step than in a loop of one kernel on a cool device, by the device's own share
(``step_costs.DeviceCosts``). What was measured stands in ``tables/products.csv``: efficiencies of products in a loop;
in 16 bits the median over several frameworks, in 8 bits the fastest, for others cast their inputs in the same time,
which a step's operators count by themselves (ai-dynamo/aiconfigurator, systems/data, Apache-2.0).
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from commbench.workload.compute import Efficiency
from commbench.workload.gemm_table import GemmTable
from commbench.workload.operator import Matmul, Work
from commbench.workload.step_costs import DeviceCosts, StackCosts

__all__ = ["step_efficiency"]

_TABLE = Path(__file__).with_name("tables") / "products.csv"
_MEASURED = {"h200": "h100", "h800": "h100"}  # the same chip with other memory or links
_GPUS = ("a100", "a800", "h100", "h200", "h800", "b200", "l40s")


@dataclass(frozen=True)
class _MeasuredProducts:
    """Efficiency of products by shape: the shipped table's, times a share; a shape outside it is taken at its edge."""

    gpu: str
    dtype: str
    share: float

    @property
    def place(self) -> str:
        """For records."""
        return f"measured {self.dtype} products of {self.gpu} x {self.share:g}"

    def far(self, matmul: Matmul) -> bool:
        """Whether a side of a shape is more than twice or less than half of all that were measured."""
        _, ends = _products(self.gpu, self.dtype)
        sizes = (matmul.m, matmul.n, matmul.k)
        return any(not low / 2 <= size <= high * 2 for size, (low, high) in zip(sizes, ends, strict=True))

    def __call__(self, matmul: Matmul) -> float:
        return min(1.0, self.share * _measured(self.gpu, self.dtype, matmul))


@cache
def _tables() -> dict[tuple[str, str], dict[tuple[int, int, int], float]]:
    """Efficiencies by shape, of each GPU and dtype that were measured."""
    found: dict[tuple[str, str], dict[tuple[int, int, int], float]] = {}
    with _TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            shape = (int(row["m"]), int(row["n"]), int(row["k"]))
            found.setdefault((row["gpu"], row["dtype"]), {})[shape] = float(row["efficiency"])
    return found


@cache
def _products(gpu: str, dtype: str) -> tuple[GemmTable, tuple[tuple[int, int], ...]]:
    """What was measured of a GPU and dtype, and the ends of its m, n and k."""
    shapes = _tables()[gpu, dtype]
    return GemmTable(f"products of {gpu}", shapes), tuple((min(one), max(one)) for one in zip(*shapes, strict=True))


@cache
def _measured(gpu: str, dtype: str, matmul: Matmul) -> float:
    table, ends = _products(gpu, dtype)
    sizes = (matmul.m, matmul.n, matmul.k)
    return table(Matmul(*(min(max(size, low), high) for size, (low, high) in zip(sizes, ends, strict=True))))


@dataclass(frozen=True)
class _Cores:
    """Efficiency of attention cores by kernel; ``generation`` is one of ATTENTION."""

    costs: DeviceCosts
    generation: str

    def __call__(self, work: Work) -> float:
        if work.kernel == "batched":
            assert work.matmul is not None
            odd = any(size % 8 for size in (work.matmul.n, work.matmul.k))
            return self.costs.batched / (self.costs.odd_heads if odd else 1)
        name = self.generation.replace("-", "_") + ("_backward" if work.kernel == "flash-backward" else "")
        return float(getattr(self.costs, name))


def step_efficiency(
    costs: DeviceCosts, device: str, dtype: str, generation: str, stack: StackCosts | None = None
) -> Efficiency:
    """Efficiencies of a device's kernels in a step.

    Args:
        costs: of its type. device: its name. dtype: the name of the formats.
        generation: of the attention kernel, one of ATTENTION.
        stack: which moves some bytes several times; casts it moves once.
    """
    eight = dtype.startswith("fp8")
    share = (costs.products_fp8 / (costs.rowwise if dtype == "fp8-rowwise" else 1.0)) if eight else costs.products
    gpu = next((gpu for gpu in _GPUS if gpu in device), "")
    gpu, bits = _MEASURED.get(gpu, gpu), "fp8" if eight else "bf16"
    known = (gpu, bits) in _tables()
    memory = round(min(1.0, costs.memory / (stack.memory_passes if stack else 1.0)), 4)
    return Efficiency(
        matrix=_MeasuredProducts(gpu, bits, share) if known else min(1.0, share),
        attention=_Cores(costs, generation),
        memory=memory,
        casts=min(1.0, costs.memory),
    )
