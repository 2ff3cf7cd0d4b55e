# SPDX-License-Identifier: Apache-2.0
"""The pulls of receivers (SEMANTICS.md, "Trimmed packets"), for the reference engine."""

from collections.abc import Callable, Sequence

from commbench.network.packet.settings import Packets
from commbench.network.packet.under_way import PACE, PULL, PacketFlow, PacketLink, lasts_ps

__all__ = ["Pulls"]


class Pulls:
    """The pull queues of all links, those of messages in turn."""

    def __init__(self, links: Sequence[PacketLink], given: Packets, at: Callable[[int, int, int], None]) -> None:
        """``at(time_ps, kind, number)`` lets an event happen."""
        self.links, self.given, self.at = links, given, at

    def want(self, flow: PacketFlow, now_ps: int) -> None:
        """Something of a message has come: a pull waits, if its sender has a packet that nobody asked for."""
        if flow.asked == flow.packets + flow.headers:
            return
        flow.asked += 1
        flow.pulls += 1
        if flow.pulls > 1:
            return  # it stands in a turn
        number = next((link for link in reversed(flow.links) if not self.links[link].inside), flow.links[-1])
        pulls = self.links[number].pulls
        pulls.turn.append(flow)
        if not pulls.awake:
            pulls.awake = True
            self.at(max(now_ps, pulls.due_ps), PACE, number)

    def pace(self, number: int, now_ps: int) -> None:
        """A pull goes; the next one after the time of a full packet on link ``number``."""
        link, pulls = self.links[number], self.links[number].pulls
        flow = pulls.turn.popleft()
        flow.pulls -= 1
        if flow.pulls:
            pulls.turn.append(flow)
        self.at(now_ps + sum(self.links[each].latency_ps for each in flow.links), PULL, flow.task)
        pulls.due_ps = now_ps + lasts_ps(link, self.given.full_bytes)
        pulls.awake = bool(pulls.turn)
        if pulls.awake:
            self.at(pulls.due_ps, PACE, number)
