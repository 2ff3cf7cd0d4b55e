# SPDX-License-Identifier: Apache-2.0
"""The congestion window of one sender, in Python: Reno (RFC 5681) and CUBIC (RFC 9438). Windows are in segments."""

from dataclasses import dataclass

from commbench.network.packet.tcp.settings import CUBIC
from commbench.units import PS_PER_S

__all__ = ["BETA", "LEAST_WINDOW", "RENO_BETA", "C", "Window"]

RENO_BETA = 0.5
"""What a loss leaves of Reno's window (RFC 5681, equation 4)."""
BETA = 0.7
"""... and of CUBIC's (RFC 9438, section 4.6)."""
C = 0.4
"""Of CUBIC's curve, segments / s^3 (RFC 9438, section 5.1)."""
LEAST_WINDOW = 2.0
"""Segments (RFC 5681, equation 4)."""


@dataclass(slots=True)
class Window:
    """Segments that may be under way.

    Attributes:
        congestion: RENO or CUBIC. size: the window. threshold: below it it doubles in a round trip.
        most: CUBIC's window at the last loss. epoch_ps: since when it grows; -1: not yet. inflection_s: K.
        reno: what Reno's window would be.
    """

    congestion: int
    size: float
    threshold: float = 2.0**30
    most: float = 0.0
    epoch_ps: int = -1
    inflection_s: float = 0.0
    reno: float = 0.0

    def cut(self, *, timeout: bool) -> None:
        """Something was lost."""
        beta = RENO_BETA
        if self.congestion == CUBIC:
            beta = BETA
            self.most = self.size * (1.0 + BETA) / 2.0 if self.size < self.most else self.size
            self.epoch_ps = -1
        self.threshold = max(self.size * beta, LEAST_WINDOW)
        self.size = 1.0 if timeout else self.threshold

    def grow(self, segments: int, round_trip_ps: int, now_ps: int) -> None:
        """So many segments were acknowledged while the window was full."""
        if self.size < self.threshold:
            self.size = min(self.size + segments, self.threshold)
        elif self.congestion != CUBIC:
            self.size += segments / self.size
        else:
            self._follow(segments, round_trip_ps, now_ps)

    def _follow(self, segments: int, round_trip_ps: int, now_ps: int) -> None:
        """CUBIC's curve (RFC 9438, sections 4.2 to 4.4)."""
        if self.epoch_ps < 0:
            self.epoch_ps, self.reno = now_ps, self.size
            self.most = max(self.most, self.size)
            self.inflection_s = ((self.most - self.size) / C) ** (1.0 / 3.0)
        late_s = (now_ps - self.epoch_ps + round_trip_ps) / PS_PER_S - self.inflection_s
        target = min(max(self.most + C * late_s * late_s * late_s, self.size), 1.5 * self.size)
        self.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) * segments / self.size
        self.size = max(self.size + segments * (target - self.size) / self.size, self.reno)
