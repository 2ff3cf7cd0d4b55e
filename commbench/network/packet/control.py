# SPDX-License-Identifier: Apache-2.0
"""Congestion control of one sender, in Python: DCQCN and a delay-based one like Swift. Constants serve both engines.

DCQCN: Zhu et al., "Congestion control for large-scale RDMA deployments", SIGCOMM 2015, section 3.2.
Swift: Kumar et al., "Swift: delay is simple and effective for congestion control in the datacenter", SIGCOMM 2020,
algorithm 1, without its flow scaling, and with one delay for fabric and host.
NDP (Handley et al., "Re-architecting datacenter networks and stacks for low latency and high performance", SIGCOMM
2017) has no state of the sender to be computed: credits are counted in the networks themselves.
"""

from dataclasses import dataclass

from commbench.units import PS_PER_S

__all__ = [
    "AI_PACKETS",
    "ALPHA_PS",
    "BETA",
    "BYTES",
    "CNP_PS",
    "FAST",
    "GAIN",
    "HEADERS",
    "HOP_PS",
    "LEAST_RATE",
    "LEAST_TARGET",
    "LEAST_WINDOW",
    "MAX_CUT",
    "RATE_AI",
    "RATE_HAI",
    "TARGET_PS",
    "TIMER_PS",
    "Dcqcn",
    "Swift",
]

CNP_PS = 50_000_000
"""A receiver tells a sender of marks at most once in this time: 50 us (Zhu et al. 2015, section 3.1)."""
GAIN = 1 / 256
"""g, of the running share of marks (Zhu et al. 2015, their testbed)."""
ALPHA_PS = 55_000_000
"""The share of marks decays once in this time without a notice: 55 us (Zhu et al. 2015, their testbed)."""
TIMER_PS = 55_000_000
"""The rate rises once in this time: 55 us (Zhu et al. 2015, their testbed)."""
BYTES = 10_000_000
"""... and once for so many bytes sent: 10 MB (Zhu et al. 2015, their testbed)."""
FAST = 5
"""F, rises of fast recovery before the target rises too (Zhu et al. 2015)."""
RATE_AI = 40e6 / 8
"""Additive increase, bytes/s: 40 Mbit/s (Zhu et al. 2015)."""
RATE_HAI = 100e6 / 8
"""Hyper increase, bytes/s: 100 Mbit/s, RATE_HAI of the ns-3 model that goes with HPCC (Li et al. 2019)."""
LEAST_RATE = 100e6 / 8
"""Lowest rate, bytes/s: 100 Mbit/s, MIN_RATE of the same ns-3 model."""

AI_PACKETS = 1.0
"""Packets by which the window grows in a round trip (csg-htsim, swift.cpp: "value is a guess")."""
BETA = 0.8
"""Multiplicative decrease by the excess delay (csg-htsim, swift.cpp)."""
MAX_CUT = 0.5
"""Largest decrease at a time (csg-htsim, swift.cpp)."""
TARGET_PS = 20_000_000
"""Target of the delay: 20 us, and ... (csg-htsim, swift.cpp, after figure 17 of Kumar et al. 2020)."""
HOP_PS = 3_053_435
"""... 20 us / 6.55 for every link (csg-htsim, swift.cpp)."""
LEAST_TARGET = 1.5
"""... and this many round trips of the empty path at least, so that a long path does not starve. Assumed."""
LEAST_WINDOW = 0.01
"""Packets. Below 1 a packet waits for 1 / window round trips. Assumed."""

HEADERS = 10
"""Headers that a port sends in a row while a whole packet waits (Handley et al. 2017, section 3.1: 10 to 1)."""


@dataclass(slots=True)
class Dcqcn:
    """The rate of one sender. Until the first notice it sends as fast as its link takes.

    Attributes:
        line: of its first link, bytes/s. rate, target: bytes/s. alpha: running share of marks.
        limited: whether a notice has come. alpha_due, timer_due: ps. bytes_left: to the next rise.
        by_time, by_bytes: rises since the last notice.
    """

    line: float
    rate: float
    target: float
    alpha: float = 1.0
    limited: bool = False
    alpha_due: int = 0
    timer_due: int = 0
    bytes_left: int = BYTES
    by_time: int = 0
    by_bytes: int = 0

    def notice(self, now_ps: int) -> None:
        """A congestion notice arrives: cut the rate (equation 1)."""
        if self.limited:
            self.catch_up(now_ps)
        self.target = self.rate
        self.rate = max(self.rate * (1.0 - self.alpha / 2.0), LEAST_RATE)
        self.alpha = (1.0 - GAIN) * self.alpha + GAIN
        self.limited = True
        self.alpha_due, self.timer_due = now_ps + ALPHA_PS, now_ps + TIMER_PS
        self.bytes_left, self.by_time, self.by_bytes = BYTES, 0, 0

    def catch_up(self, now_ps: int) -> None:
        """What the timers have done until now (equations 2 to 4)."""
        while self.alpha_due <= now_ps:
            self.alpha_due += ALPHA_PS
            self.alpha = (1.0 - GAIN) * self.alpha
        while self.timer_due <= now_ps:
            self.timer_due += TIMER_PS
            self.by_time += 1
            self._rise()

    def sent(self, size: int, now_ps: int) -> int:
        """A packet of ``size`` bytes leaves: the ps until the next may follow, 0 where the link alone decides."""
        if not self.limited:
            return 0
        self.catch_up(now_ps)
        self.bytes_left -= size
        if self.bytes_left <= 0:
            self.bytes_left += BYTES
            self.by_bytes += 1
            self._rise()
        return int(size / self.rate * PS_PER_S + 0.5) if self.rate < self.line else 0

    def _rise(self) -> None:
        most, least = max(self.by_time, self.by_bytes), min(self.by_time, self.by_bytes)
        if least > FAST:
            self.target += (least - FAST) * RATE_HAI
        elif most > FAST:
            self.target += RATE_AI
        self.target = min(self.target, self.line)
        self.rate = (self.target + self.rate) / 2.0


@dataclass(slots=True)
class Swift:
    """The window of one sender.

    Attributes:
        window: packets. most: that it may grow to. target_ps: of the delay. round_trip_ps: the latest.
        cut_ps: when it was last made smaller.
    """

    window: float
    most: float
    target_ps: int
    round_trip_ps: int
    cut_ps: int = 0

    def answered(self, delay_ps: int, now_ps: int) -> None:
        """An acknowledgement arrives, ``delay_ps`` after its packet was sent."""
        self.round_trip_ps = delay_ps
        if delay_ps < self.target_ps:
            self.window += AI_PACKETS / self.window if self.window >= 1.0 else AI_PACKETS
        elif now_ps - self.cut_ps >= delay_ps:
            self.window *= max(1.0 - BETA * (delay_ps - self.target_ps) / delay_ps, 1.0 - MAX_CUT)
            self.cut_ps = now_ps
        self.window = min(max(self.window, LEAST_WINDOW), self.most)

    def allows(self, in_flight: int) -> bool:
        """Whether another packet may follow."""
        return in_flight < max(int(self.window), 1)

    def sent(self) -> int:
        """A packet leaves: the time in ps until the next may follow."""
        return int(self.round_trip_ps / self.window + 0.5) if self.window < 1.0 else 0
