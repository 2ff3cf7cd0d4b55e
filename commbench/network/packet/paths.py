# SPDX-License-Identifier: Apache-2.0
"""Path numbers of packets (SEMANTICS.md, "Ways"), for the reference engine."""

from commbench.network.packet.lottery import flowlet_path, sprayed_path
from commbench.network.packet.settings import FLOW, FLOWLET, Packets
from commbench.network.packet.under_way import PacketFlow

__all__ = ["path_number"]


def path_number(flow: PacketFlow, paths: int, given: Packets, now_ps: int) -> int:
    """Of the flow's next packet, one of ``paths``."""
    number = flow.next + flow.again
    if given.number_of_balance == FLOW:
        return 0
    if given.number_of_balance != FLOWLET:
        return sprayed_path(flow.task, number, paths, given.seed)
    if not number or now_ps - flow.left_ps > given.flowlet_us * 1_000_000:
        flow.path = flowlet_path(flow.task, number, paths, given.seed)
    flow.left_ps = now_ps
    return flow.path
