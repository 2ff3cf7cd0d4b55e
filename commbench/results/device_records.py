# SPDX-License-Identifier: Apache-2.0
"""How fast products are, and what they cost collectives that run beside them."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from commbench.results.records import Record, require_rows
from commbench.results.shapes import Environment
from commbench.results.statistics import median, slowest
from commbench.results.values import Bytes, Count, Instant, Lasting, Name, Positive, Samples, Within

__all__ = ["GemmMeasured", "OverlapMeasured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmMeasured(Record):
    """One shape of matrix product; ``workload.gemm_table`` reads these lines as they are.

    Attributes:
        m, n, k: (m x k) by (k x n). dtype: as data sheets spell it ("bf16", "fp32"). device: a name of
            ``topologies/devices/``, or what the user calls it.
        samples_s: seconds of one product, one per repetition. peak_flops: FLOP/s that are promised, None if no one has
            said. peak_source: who says so.
        environment: as for collectives. started_at: ISO 8601.
    """

    kind: ClassVar[str] = "gemm"

    run: Name
    m: Count
    n: Count
    k: Count
    dtype: Name
    device: Name
    samples_s: Annotated[tuple[Lasting, ...], Within(min_length=1)]
    peak_flops: Positive | None
    peak_source: str
    started_at: Instant
    environment: Environment = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Median."""
        return median(self.samples_s)

    @property
    def flops(self) -> float:
        """FLOP/s reached: 2 m n k / seconds."""
        return 2 * self.m * self.n * self.k / self.seconds

    @property
    def efficiency(self) -> float | None:
        """Share of the stated peak; None where none is stated."""
        return None if self.peak_flops is None else self.flops / self.peak_flops

    def derived(self) -> dict[str, Any]:
        """Median seconds, FLOP/s and share of peak."""
        return {"seconds": self.seconds, "flops": self.flops, "efficiency": self.efficiency}


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapMeasured(Record):
    """A product and an all-reduce, each alone and while the other runs without a pause.

    Attributes:
        run, backend, ranks: as for collectives. m, n, k, dtype: of the product. size_bytes: of the all-reduce.
        product_alone_s, product_beside_s, collective_alone_s, collective_beside_s: seconds, rank x repetition.
        launcher, started_at, environment: as for collectives.
    """

    kind: ClassVar[str] = "overlap"

    run: Name
    backend: Name
    ranks: Count
    m: Count
    n: Count
    k: Count
    dtype: Name
    size_bytes: Bytes
    product_alone_s: Samples
    product_beside_s: Samples
    collective_alone_s: Samples
    collective_beside_s: Samples
    launcher: str
    started_at: Instant
    environment: Environment = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("product_alone_s", "product_beside_s", "collective_alone_s", "collective_beside_s"):
            require_rows(name, getattr(self, name), self.ranks)

    @property
    def product_slowdown(self) -> float:
        """Time of the product beside the all-reduce over its time alone."""
        return median(slowest(self.product_beside_s)) / median(slowest(self.product_alone_s))

    @property
    def collective_slowdown(self) -> float:
        """Time of the all-reduce beside the product over its time alone."""
        return median(slowest(self.collective_beside_s)) / median(slowest(self.collective_alone_s))

    def derived(self) -> dict[str, Any]:
        """Times and both slowdowns."""
        names = ("product_alone_s", "product_beside_s", "collective_alone_s", "collective_beside_s")
        times = {name.replace("_s", "_time_s"): median(slowest(getattr(self, name))) for name in names}
        return times | {"product_slowdown": self.product_slowdown, "collective_slowdown": self.collective_slowdown}
