# SPDX-License-Identifier: Apache-2.0
"""What communication takes, and what it and computing take beside each other."""

from dataclasses import dataclass

__all__ = ["NO_TIME", "LinkTime"]


@dataclass(frozen=True, slots=True)
class LinkTime:
    """Seconds that the links' rate decides, and those that it does not."""

    latency_s: float
    wire_s: float

    @property
    def total_s(self) -> float:
        """Both."""
        return self.latency_s + self.wire_s

    def __add__(self, other: "LinkTime") -> "LinkTime":
        return LinkTime(self.latency_s + other.latency_s, self.wire_s + other.wire_s)

    def times(self, count: float) -> "LinkTime":
        """Of so many, one after the other."""
        return LinkTime(self.latency_s * count, self.wire_s * count)

    def beside(self, compute_s: float, share: float) -> float:
        """Seconds until this and so much computing beside it are both over. While bytes move, each takes 1 + ``share``
        times as long; while ranks wait for each other, compute does not notice.
        """
        hidden = min(self.wire_s, max(0.0, compute_s - self.latency_s))
        return max(compute_s, self.total_s) + share * hidden

    def followed(self, other: "LinkTime", compute_s: float) -> "LinkTime":
        """This and ``other``, of a series of both, each pair beside so much computing.

        ``other`` follows this, and what of it is left when the computing is over goes beside the next of this: so they
        go in turn while computing lasts.
        """
        longer, both = max(self, other, key=lambda one: one.total_s), self + other
        if longer.total_s >= compute_s:
            return longer
        return both if both.total_s <= compute_s else both.times(compute_s / both.total_s)

    def delays(self, compute_s: float, share: float) -> float:
        """Seconds by which the computing ends later, where there are many such calls, one after the other."""
        return share * self.wire_s * min(1.0, compute_s / self.total_s) if self.total_s else 0.0


NO_TIME = LinkTime(0.0, 0.0)
