# SPDX-License-Identifier: Apache-2.0
"""What communication takes, and what it and computing take beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["NO_TIME", "LinkTime", "slowed_s"]


@dataclass(frozen=True, slots=True)
class LinkTime:
    """Seconds that the links' rate decides, and those that it does not.

    Attributes:
        latency_s: in which ranks wait for each other, and whatever runs beside is not slowed.
        wire_s: in which bytes move, or kernels compute.
        loads: of every kind of links, how much of the fullest is taken in these, 0 to 1; () of computing.
    """

    latency_s: float
    wire_s: float
    loads: tuple[float, ...] = ()

    @property
    def total_s(self) -> float:
        """Both."""
        return self.latency_s + self.wire_s

    def __add__(self, other: "LinkTime") -> "LinkTime":
        if not other.wire_s or not self.wire_s:
            loads = self.loads if self.wire_s else other.loads
        else:
            loads = _mean(self, other)
        return LinkTime(self.latency_s + other.latency_s, self.wire_s + other.wire_s, loads)

    def times(self, count: int) -> "LinkTime":
        """Of so many, one after the other."""
        return LinkTime(self.latency_s * count, self.wire_s * count, self.loads)

    def slows(self, other: "LinkTime", share: float) -> float:
        """By how much of each second in which this and the other move or compute at once both are longer: by ``share``,
        or where they want more of a link than there is, by what they want too much.
        """
        most = max((one + more for one, more in zip(self.loads, other.loads, strict=False)), default=0.0)
        return max(share, most - 1)


NO_TIME = LinkTime(0.0, 0.0)


def _mean(one: LinkTime, other: LinkTime) -> tuple[float, ...]:
    """Loads of two after each other, in the mean of their seconds."""
    if not one.loads or not other.loads:
        return one.loads or other.loads
    part = one.wire_s / (one.wire_s + other.wire_s)
    return tuple(part * a + (1 - part) * b for a, b in zip(one.loads, other.loads, strict=True))


def slowed_s(own: Sequence[LinkTime], beside: Sequence[LinkTime], share: float) -> float:
    """Seconds by which two sequences that begin together are longer beside each other, both of them: each second in
    which both move or compute by what :meth:`LinkTime.slows` says, for that slows both alike.
    """
    found = end = 0.0
    for one in own:
        begin, end = end + one.latency_s, end + one.total_s
        other_end = 0.0
        for other in beside:
            other_begin, other_end = other_end + other.latency_s, other_end + other.total_s
            both = min(end, other_end) - max(begin, other_begin)
            if both > 0:
                found += both * one.slows(other, share)
    return found
