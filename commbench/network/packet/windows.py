# SPDX-License-Identifier: Apache-2.0
"""Windows that senders begin with, for the reference engine: what an empty path holds."""

from collections.abc import Sequence

from commbench.network.packet.control import HOP_PS, LEAST_TARGET, TARGET_PS, Swift
from commbench.network.packet.settings import Packets
from commbench.network.packet.under_way import PacketLink, lasts_ps
from commbench.units import PS_PER_S

__all__ = ["first_window", "new_swift"]


def new_swift(links: Sequence[PacketLink], given: Packets) -> Swift:
    """The window of a message that begins on a path."""
    line, round_trip_ps = links[0].bandwidth, _round_trip_ps(links, given)
    target_ps = max(TARGET_PS + HOP_PS * len(links), int(LEAST_TARGET * round_trip_ps))
    window, most = (_window(line, time_ps, given) for time_ps in (round_trip_ps, round_trip_ps + target_ps))
    return Swift(window, most, target_ps, round_trip_ps)


def first_window(links: Sequence[PacketLink], given: Packets) -> int:
    """Packets that a sender of NDP sends unasked."""
    slowest = min(link.bandwidth for link in links)
    return given.first_window or int(_window(slowest, _round_trip_ps(links, given), given))


def _round_trip_ps(links: Sequence[PacketLink], given: Packets) -> int:
    """Of a full packet and its answer where nothing waits."""
    return sum(lasts_ps(link, given.full_bytes) + 2 * link.latency_ps for link in links)


def _window(bandwidth: float, time_ps: int, given: Packets) -> float:
    """Packets that a link sends in a time, and one."""
    return bandwidth * time_ps / PS_PER_S / given.full_bytes + 1.0
