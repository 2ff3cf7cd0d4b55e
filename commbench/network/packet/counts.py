# SPDX-License-Identifier: Apache-2.0
"""What happened on every link of a packet network."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from commbench.network.base import Counted

__all__ = ["PacketCounts"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PacketCounts:
    """All of shape (links,).

    Attributes:
        packets, num_bytes: that the link has sent, headers included. joined: packets that waited before it.
        marks: of these, told that the queue was long. drops: found no room there.
        pauses: how often the switch behind the link asked it to pause. paused_ps: for how long it did.
        repeated: packets that senders on this link took back to send again.
        deepest: bytes before the link at most. fullest: bytes that came over it and waited behind it, at most.
    """

    packets: IntArray
    num_bytes: IntArray
    joined: IntArray
    marks: IntArray
    drops: IntArray
    pauses: IntArray
    paused_ps: IntArray
    repeated: IntArray
    deepest: IntArray
    fullest: IntArray

    @classmethod
    def empty(cls, num_links: int) -> "PacketCounts":
        """Nothing yet."""
        return cls(*(np.zeros(num_links, dtype=np.int64) for _ in fields(cls)))

    def as_counted(self) -> Counted:
        """By name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
