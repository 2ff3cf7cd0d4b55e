# SPDX-License-Identifier: Apache-2.0
"""The congestion window of one sender, in Python: Reno (RFC 5681) and CUBIC (RFC 9438). Windows are in segments."""

from dataclasses import dataclass

from commbench.network.packet.tcp.settings import CUBIC
from commbench.units import PS_PER_S

__all__ = [
    "BETA",
    "GAIN",
    "LEAST_WINDOW",
    "PACING_SHIFT",
    "RENO_BETA",
    "SKB_OVERHEAD",
    "SLOW_START_GAIN",
    "C",
    "Window",
]

RENO_BETA = 0.5
"""What a loss leaves of Reno's window (RFC 5681, equation 4)."""
BETA = 0.7
"""... and of CUBIC's (RFC 9438, section 4.6)."""
C = 0.4
"""Of CUBIC's curve, segments / s^3 (RFC 9438, section 5.1)."""
LEAST_WINDOW = 2.0
"""Segments (RFC 5681, equation 4)."""
SLOW_START_GAIN, GAIN = 2.0, 1.2
"""Of a sender's estimated rate, by whether its window may still double (Linux 6.18, net/ipv4/tcp_input.c,
tcp_update_pacing_rate; sysctl tcp_pacing_ss_ratio and tcp_pacing_ca_ratio)."""
PACING_SHIFT = 10
"""A sender puts 2^-10 s of that rate into its host's queue (Linux 6.18, include/net/sock.h, sk_pacing_shift)."""
SKB_OVERHEAD = 832
"""Bytes that a segment takes there beside its payload: sk_buff, head and shared info (Linux 6.18 on x86-64, as ss -m
tells them)."""


@dataclass(slots=True)
class Window:
    """Segments that may be under way.

    Attributes:
        congestion: RENO or CUBIC. size: the window. threshold: below it it doubles in a round trip.
        most: CUBIC's window at the last loss. epoch_ps: since when it grows; -1: not yet. inflection_s: K.
        reno: what Reno's window would be.
        smoothed_ps: round trip, a moving average; 0 as long as only the handshake was measured, on an idle network.
        most_out: most segments under way in the last round trip. until: segment with which it ends. limited: whether
            the window held the sender back then.
    """

    congestion: int
    size: float
    threshold: float = 2.0**30
    most: float = 0.0
    epoch_ps: int = -1
    inflection_s: float = 0.0
    reno: float = 0.0
    smoothed_ps: int = 0
    most_out: int = 0
    until: int = 0
    limited: bool = False

    @property
    def used(self) -> bool:
        """Whether the sender needs a larger one (Linux 6.18, include/net/tcp.h, tcp_is_cwnd_limited)."""
        return self.limited or (self.size < self.threshold and self.size < 2 * self.most_out)

    def note(self, first: int, following: int, full: bool) -> None:
        """Segments ``first`` to ``following`` - 1 are under way (net/ipv4/tcp_output.c, tcp_cwnd_validate)."""
        out = following - first
        if first >= self.until or full or (not self.limited and out > self.most_out):
            self.limited, self.most_out, self.until = full, out, following

    def measured(self, round_trip_ps: int) -> None:
        """Another round trip (RFC 6298)."""
        self.smoothed_ps += (round_trip_ps - self.smoothed_ps) // 8

    def in_port_bytes(self, mss_bytes: int, out: int) -> float:
        """Of segments, with their overhead, that may wait in the host's queue, by the estimated rate."""
        if self.smoothed_ps <= 0:
            return 2.0**62
        gain = SLOW_START_GAIN if self.size < self.threshold / 2.0 else GAIN
        rate = mss_bytes * gain * max(float(int(self.size)), float(out)) / self.smoothed_ps * PS_PER_S
        return rate / float(1 << PACING_SHIFT)

    def rest(self, idle_ps: int, timeout_ps: int, first_window: int) -> None:
        """Nothing was sent for so long: half the window for each time-out (tcp_output.c, tcp_cwnd_restart)."""
        if idle_ps <= timeout_ps:
            return
        self.threshold = max(self.threshold, 0.75 * self.size)
        least = min(float(first_window), self.size)
        while idle_ps > timeout_ps and self.size > least:
            self.size = float(int(self.size) // 2)
            idle_ps -= timeout_ps
        self.size = max(self.size, least)

    def cut(self, *, timeout: bool) -> None:
        """Something was lost."""
        beta = RENO_BETA
        if self.congestion == CUBIC:
            beta = BETA
            self.most = self.size * (1.0 + BETA) / 2.0 if self.size < self.most else self.size
            self.epoch_ps = -1
        self.threshold = max(self.size * beta, LEAST_WINDOW)
        self.size = 1.0 if timeout else self.threshold

    def grow(self, segments: int, now_ps: int) -> None:
        """So many segments were acknowledged while the window was used."""
        if self.size < self.threshold:
            self.size = min(self.size + segments, self.threshold)
        elif self.congestion != CUBIC:
            self.size += segments / self.size
        else:
            self._follow(segments, now_ps)

    def _follow(self, segments: int, now_ps: int) -> None:
        """CUBIC's curve (RFC 9438, sections 4.2 to 4.4)."""
        if self.epoch_ps < 0:
            self.epoch_ps, self.reno = now_ps, self.size
            self.most = max(self.most, self.size)
            self.inflection_s = ((self.most - self.size) / C) ** (1.0 / 3.0)
        late_s = (now_ps - self.epoch_ps + self.smoothed_ps) / PS_PER_S - self.inflection_s
        target = min(max(self.most + C * late_s * late_s * late_s, self.size), 1.5 * self.size)
        self.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) * segments / self.size
        self.size = max(self.size + segments * (target - self.size) / self.size, self.reno)
