# SPDX-License-Identifier: Apache-2.0
"""The pipeline bubble as a figure, in three conventions; the same for simulated and for measured times."""

from dataclasses import dataclass

__all__ = ["Bubble"]


@dataclass(frozen=True, slots=True)
class Bubble:
    """Idle time of a step.

    Attributes:
        total: length of the step, from the first start on any rank to the last end, in any unit of time.
        busy: per rank the time it computed, in the same unit.
        longest: from the first start to the last end on the rank where that is longest.
    """

    total: float
    busy: tuple[float, ...]
    longest: float

    @property
    def ideal(self) -> float:
        """Mean busy time of the ranks: the step without any idle time."""
        return sum(self.busy) / len(self.busy)

    @property
    def of_ideal(self) -> float:
        """Idle time over ideal time, Megatron's convention (arXiv 2104.04473, section 2.2): (p-1)/m for 1F1B."""
        return self.total / self.ideal - 1

    @property
    def of_total(self) -> float:
        """Idle time over total time, GPipe's convention (arXiv 1811.06965): (p-1)/(m+p-1) for 1F1B."""
        return 1 - self.ideal / self.total

    @property
    def of_span(self) -> float:
        """Idle share of the longest span of a rank, the convention of the zero-bubble papers (arXiv 2401.10241, section
        4.2): stages that begin later also end later, and the next step begins there, so the skew is no idle time.
        """
        return 1 - self.ideal / self.longest

    def of_rank(self, rank: int) -> float:
        """Idle share of one rank's step."""
        return 1 - self.busy[rank] / self.total
