# SPDX-License-Identifier: Apache-2.0
"""A measurement held against what the machine should do: a verdict by size, and one on the machine."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from commbench.results.records import Record, bandwidth_GBps
from commbench.results.values import Bytes, Count, Factor, Lasting, Name, OneOf, Whole

__all__ = ["CORRUPT", "FAST", "OK", "SLOW", "UNKNOWN", "Health", "Judged"]

OK, SLOW, FAST, CORRUPT, UNKNOWN = "ok", "slow", "fast", "corrupt", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Record):
    """One size of a log beside its prediction.

    Attributes:
        run, collective, ranks, size_bytes, in_place, busbw_factor: of what was measured.
        topology: that it was predicted on. library: that predicted it; algorithm, protocol: what that would take.
        measured_s: seconds. predicted_s: likewise; None where the library does not know the class of machine.
        verdict: "ok", "slow", "fast", "corrupt" (wrong values, or a row that contradicts itself) or "unknown".
        note: why, or what explains a bandwidth above the line rate; "" if nothing is to be said.
    """

    kind: ClassVar[str] = "judged"

    run: Name
    collective: Name
    ranks: Count
    size_bytes: Bytes
    in_place: bool
    busbw_factor: Factor
    topology: Name
    library: Name
    measured_s: Lasting
    verdict: Annotated[str, OneOf((OK, SLOW, FAST, CORRUPT, UNKNOWN))]
    predicted_s: Lasting | None = None
    algorithm: str = ""
    protocol: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """measured / predicted; None where nothing was predicted."""
        return None if self.predicted_s is None else self.measured_s / self.predicted_s

    @property
    def time_s(self) -> float:
        """What was predicted; 0 where nothing was."""
        return self.predicted_s or 0.0

    @property
    def busbw_GBps(self) -> float | None:  # noqa: N802
        """Measured bus bandwidth in GB/s; None for one rank."""
        algbw = bandwidth_GBps(self.size_bytes, self.measured_s)
        return algbw * self.busbw_factor if algbw is not None and self.ranks > 1 else None

    def derived(self) -> dict[str, Any]:
        """Ratio and measured bus bandwidth."""
        return {"ratio": self.ratio, "busbw_GBps": self.busbw_GBps}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Record):
    """The verdict on a machine, from all sizes of a run.

    Attributes:
        run, collective, ranks, topology, library: as :class:`Judged` has them.
        verdict: "ok", "slow", "corrupt" or "unknown".
        points: sizes that were judged. plateau_ratio: median of measured / predicted from 256 MiB on; None without.
        worst_ratio: the largest median of three neighbouring sizes from 1 MiB on; None without.
        reason: in words.
    """

    kind: ClassVar[str] = "health"

    run: Name
    collective: Name
    ranks: Count
    topology: Name
    library: Name
    verdict: Annotated[str, OneOf((OK, SLOW, CORRUPT, UNKNOWN))]
    points: Whole
    reason: str
    plateau_ratio: Factor | None = None
    worst_ratio: Factor | None = None
