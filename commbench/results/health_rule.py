# SPDX-License-Identifier: Apache-2.0
"""When a machine is slow: a fixed rule over measured / predicted by size, for logs and for our own score.

A machine is slow when the median of measured / predicted over its plateau is above :data:`PLATEAU`, or that of three
neighbouring sizes from 1 MiB on above :data:`THREE`. The plateau is what is measured from 256 MiB on, else from 64 MiB:
healthy public curves are within 12 % of their left-out prediction there already (docs/nccl-accuracy.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["FROM_BYTES", "NEIGHBOURS", "PLATEAU", "THREE", "Slowness", "slowness"]

PLATEAU, THREE = 1.35, 2.0
NEIGHBOURS, FROM_BYTES = 3, 2**20
_PLATEAU_BYTES, _SHOULDER_BYTES = 2**28, 2**26


@dataclass(frozen=True, slots=True)
class Slowness:
    """How slow a machine is.

    Attributes:
        plateau: median ratio over it; None where no size is that large. plateau_from: smallest size of it, in bytes.
        worst: the largest median of three neighbours from 1 MiB on with the sizes at their ends; None for fewer.
    """

    plateau: float | None
    plateau_from: int
    worst: tuple[float, int, int] | None

    @property
    def slow(self) -> bool:
        """What the rule says."""
        return bool((self.plateau or 0) > PLATEAU or (self.worst and self.worst[0] > THREE))

    @property
    def known(self) -> bool:
        """Whether there was enough to say anything."""
        return self.plateau is not None or self.worst is not None


def slowness(rows: Sequence[tuple[int, float]]) -> Slowness:
    """The rule over (bytes, measured / predicted), by rising size."""
    large = next((p for least in (_PLATEAU_BYTES, _SHOULDER_BYTES) if (p := [r for r in rows if r[0] >= least])), [])
    rest = [row for row in rows if row[0] >= FROM_BYTES]
    parts = [rest[i : i + NEIGHBOURS] for i in range(len(rest) - NEIGHBOURS + 1)]
    threes = [(median(ratio for _, ratio in part), part[0][0], part[-1][0]) for part in parts]
    plateau = median(ratio for _, ratio in large) if large else None
    return Slowness(plateau, large[0][0] if large else _PLATEAU_BYTES, max(threes, default=None))
