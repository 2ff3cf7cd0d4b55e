# SPDX-License-Identifier: Apache-2.0
"""What happened on every link of a packet network."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from commbench.network.base import Counted

__all__ = ["NUM_COUNTS", "SLICES", "PacketCounts"]

IntArray = npt.NDArray[np.int64]

SLICES = 64
"""Of time, that queues are told by."""


@dataclass(frozen=True, slots=True, eq=False)
class PacketCounts:
    """All of shape (links,).

    Attributes:
        packets, num_bytes: that the link has sent, headers included. joined: packets that waited before it.
        marks: of these, told that the queue was long. drops: found no room there. trims: found none and went on as
            headers.
        pauses: how often the switch behind the link asked it to pause. paused_ps: for how long it did.
        repeated: packets that senders on this link took back to send again.
        reordered: that came last over the link, behind a later packet of their message.
        deepest: bytes before the link at most. fullest: bytes that came over it and waited behind it, at most.
    """

    packets: IntArray
    num_bytes: IntArray
    joined: IntArray
    marks: IntArray
    drops: IntArray
    trims: IntArray
    pauses: IntArray
    paused_ps: IntArray
    repeated: IntArray
    reordered: IntArray
    deepest: IntArray
    fullest: IntArray

    @classmethod
    def empty(cls, num_links: int) -> "PacketCounts":
        """Nothing yet."""
        return cls(*(np.zeros(num_links, dtype=np.int64) for _ in fields(cls)))

    def as_counted(self, depths: IntArray, shift: int) -> Counted:
        """By name, with ``depths`` of shape (links, slices of 2**shift ps), and ``slice_ps`` alone."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return found | {"depths": depths, "slice_ps": np.array([1 << shift])}


NUM_COUNTS = len(fields(PacketCounts))
