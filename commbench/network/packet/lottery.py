# SPDX-License-Identifier: Apache-2.0
"""What is left to chance, by a hash in place of dice, so that both engines draw the same.

Which packets a queue marks (RED's rule), and which path numbers packets have (SEMANTICS.md, "Ways").
"""

from commbench.network.packet.settings import Packets

__all__ = ["INCREMENT", "MIX", "MIX_AGAIN", "OF_MESSAGES", "flowlet_path", "lot", "marked_by_lot", "sprayed_path"]

# Steele et al., "Fast splittable pseudorandom number generators", 2014: SplitMix64.
INCREMENT, MIX, MIX_AGAIN = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
OF_MESSAGES = 2**31
"""What the numbers of messages have over those of links, so that they draw lots of their own."""

_ALL = 2**64 - 1


def lot(seed: int, whose: int, number: int) -> int:
    """64 bits: the ``number`` th lot that ``whose`` (32 bits) draws."""
    state = ((seed << 32 | whose) * MIX_AGAIN + number * INCREMENT) & _ALL
    state = ((state ^ (state >> 30)) * MIX) & _ALL
    state = ((state ^ (state >> 27)) * MIX_AGAIN) & _ALL
    return state ^ (state >> 31)


def marked_by_lot(held: int, link: int, joined: int, given: Packets) -> bool:
    """Whether the ``joined`` th packet of a link's queue is marked when ``held`` bytes are before it."""
    if held <= given.ecn_min_bytes:
        return False
    if held > given.ecn_max_bytes:
        return True
    share = given.ecn_share * (held - given.ecn_min_bytes) / (given.ecn_max_bytes - given.ecn_min_bytes)
    return (lot(given.seed, link, joined) >> 11) / 2**53 < share


def flowlet_path(task: int, number: int, paths: int, seed: int) -> int:
    """Of the flowlet of a message that packet ``number`` begins: any of ``paths``, all as likely."""
    return lot(seed, OF_MESSAGES | task, number) % paths


def sprayed_path(task: int, number: int, paths: int, seed: int) -> int:
    """Of packet ``number`` of a message: each of ``paths`` once in so many packets, each time in another order.

    The order is that of a keyed permutation of as many bits as ``paths`` needs, in which what is too large is sent
    through again (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002: cycle walking).
    """
    turn, place = divmod(number, paths)
    key, bits = lot(seed, OF_MESSAGES | task, turn), (paths - 1).bit_length()
    ones, half = (1 << bits) - 1, (bits + 1) // 2
    while True:
        place = ((place ^ (key & ones)) * ((key >> 32) | 1)) & ones
        place = ((place ^ (place >> half)) * ((key >> 16) | 1)) & ones
        if place < paths:
            return place
