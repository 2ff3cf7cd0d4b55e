# SPDX-License-Identifier: Apache-2.0
"""The pipeline bubble as a figure, in three conventions; the same for simulated and for measured times."""

from collections.abc import Sequence
from dataclasses import dataclass

from commbench.errors import InputError

__all__ = ["Bubble", "bubble_of"]


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


def bubble_of(spans: Sequence[Sequence[tuple[float, float]]]) -> Bubble:
    """The bubble of a step from the (begin, end) of every pass on every rank.

    Raises:
        InputError: no rank, a rank without a pass, or passes that last no time at all.
    """
    if not spans or not all(spans):
        raise InputError("a bubble needs at least one rank, and at least one pass on every rank")
    total = max(end for rank in spans for _, end in rank) - min(begin for rank in spans for begin, _ in rank)
    busy = tuple(sum(end - begin for begin, end in rank) for rank in spans)
    if not sum(busy) > 0:
        raise InputError("a bubble needs passes that last some time; all of them last 0")
    longest = max(max(end for _, end in rank) - min(begin for begin, _ in rank) for rank in spans)
    return Bubble(total, busy, longest)
