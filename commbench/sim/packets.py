# SPDX-License-Identifier: Apache-2.0
"""What a packet network counted while a collective ran, as its record states it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from commbench.network.base import Counted
from commbench.topology.fabric import Fabric
from commbench.units import seconds

__all__ = ["counted_totals", "deepest_queues"]

_MOST_LINKS = 10
_SUMS = ("packets", "marks", "drops", "trims", "repeated", "reordered", "pauses")


def counted_totals(counted: Counted) -> Mapping[str, float]:
    """Over all links: packets that they sent, marks, drops, trims, packets sent again, packets out of order, pauses and
    the seconds of these; and the bytes of the deepest queue. Empty where the network counts nothing.
    """
    if not counted:
        return {}
    sums: dict[str, float] = {name: int(counted[name].sum()) for name in _SUMS}
    deepest = int(counted["deepest"].max(initial=0))
    return sums | {"paused_s": seconds(int(counted["paused_ps"].sum())), "deepest_queue_bytes": deepest}


def deepest_queues(counted: Counted, fabric: Fabric) -> tuple[Mapping[str, Any], ...]:
    """The ten links before which most bytes waited at a time, or that were paused for longest where nothing waited.

    Each with ``link`` (the nodes that it joins), ``deepest_queue_bytes``, ``marks``, ``drops``, ``trims``, ``pauses``
    of the link itself, and ``paused_s``; and ``by_time_bytes``, the deepest in each ``slice_s`` of the run.
    """
    if not counted:
        return ()
    deepest, paused = counted["deepest"], counted["paused_ps"]
    order = np.lexsort((np.arange(len(deepest)), -paused, -deepest))[:_MOST_LINKS]
    depths = counted["depths"][order]
    last = int(np.flatnonzero(depths.any(axis=0)).max(initial=-1)) + 1
    return tuple(
        {
            "link": fabric.link_name(link),
            "deepest_queue_bytes": int(deepest[link]),
            "marks": int(counted["marks"][link]),
            "drops": int(counted["drops"][link]),
            "trims": int(counted["trims"][link]),
            "pauses": int(counted["pauses"][link]),
            "paused_s": seconds(int(paused[link])),
            "slice_s": seconds(int(counted["slice_ps"][0])),
            "by_time_bytes": row[:last],
        }
        for link, row in zip(order.tolist(), depths.tolist(), strict=True)
        if deepest[link] or paused[link]
    )
