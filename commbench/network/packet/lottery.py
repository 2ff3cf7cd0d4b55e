# SPDX-License-Identifier: Apache-2.0
"""Which packets a queue marks: RED's rule with a hash in place of dice, so that both engines mark the same ones."""

from commbench.network.packet.settings import Packets

__all__ = ["INCREMENT", "MIX", "MIX_AGAIN", "marked_by_lot"]

# Steele et al., "Fast splittable pseudorandom number generators", 2014: SplitMix64.
INCREMENT, MIX, MIX_AGAIN = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL = 2**64 - 1


def marked_by_lot(held: int, link: int, joined: int, given: Packets) -> bool:
    """Whether the ``joined`` th packet of a link's queue is marked when ``held`` bytes are before it."""
    if held <= given.ecn_min_bytes:
        return False
    if held > given.ecn_max_bytes:
        return True
    share = given.ecn_share * (held - given.ecn_min_bytes) / (given.ecn_max_bytes - given.ecn_min_bytes)
    state = ((given.seed << 32 | link) * MIX_AGAIN + joined * INCREMENT) & _ALL
    state = ((state ^ (state >> 30)) * MIX) & _ALL
    state = ((state ^ (state >> 27)) * MIX_AGAIN) & _ALL
    return ((state ^ (state >> 31)) >> 11) / 2**53 < share
