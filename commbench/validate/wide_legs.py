# SPDX-License-Identifier: Apache-2.0
"""The wide part of the emulated campaign, as data: what the main part (:mod:`commbench.validate.legs`) has none of.

Odd numbers of ranks, 48 and 200 KiB, three tiers whose pods are unlike each other, other people's flows, degraded
links. Nothing here is fitted. Rates are low, so that processors stay idle.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from commbench.topology.faults import LinkFault
from commbench.validate.legs import NATIVE, STAR, EmulatedFabric, Leg

__all__ = ["WIDE", "WIDE_SIZES", "degraded_link"]

WIDE_SIZES = (48 * 1024, 200 * 1024)

_STAR = replace(STAR, rate_mbit=10)
_LEAN = EmulatedFabric("leaf-spine-16-4to1", "d-mod-k", 20)
_TREE = EmulatedFabric("fat-tree-k4", "d-mod-k", 10)
_UNEVEN = EmulatedFabric("three-tier-uneven-13", "d-mod-k", 10)
_RAILS = EmulatedFabric("two-rail-8", "rail-aware", 10)


def degraded_link(a: str, b: str, factor: float) -> tuple[LinkFault, ...]:
    """Both directions of a link at a part of their rate."""
    return LinkFault(0, a, b, factor), LinkFault(0, b, a, factor)


def _leg(fabric: EmulatedFabric, collective: str, algorithm: str, *jobs: Iterable[int], channels: int = 1) -> Leg:
    return Leg(fabric, collective, algorithm, tuple(map(tuple, jobs)), channels, sizes_bytes=WIDE_SIZES)


def _odd() -> Iterable[Leg]:
    yield _leg(_STAR, "all-reduce", NATIVE, (0, 3, 6))
    yield from (_leg(_STAR, "all-reduce", NATIVE, range(n)) for n in (5, 6, 7))
    yield _leg(_STAR, "all-reduce", "double-binary-tree", range(5))
    yield _leg(_STAR, "all-reduce", "halving-doubling", range(6))
    yield _leg(_STAR, "all-gather", NATIVE, range(7))
    yield _leg(_STAR, "all-to-all", NATIVE, range(7))
    yield _leg(_LEAN, "all-reduce", NATIVE, range(11))
    yield _leg(_LEAN, "all-reduce", "ring", range(9))
    yield _leg(_LEAN, "all-reduce", "double-binary-tree", range(13))
    yield _leg(_LEAN, "broadcast", NATIVE, range(13))
    yield _leg(_LEAN, "all-to-all", "pairwise", range(11))
    yield _leg(_TREE, "all-reduce", "ring", range(13))
    yield _leg(_TREE, "all-to-all", NATIVE, range(9))


def _uneven() -> Iterable[Leg]:
    yield from (_leg(_UNEVEN, kind, NATIVE, range(13)) for kind in ("all-reduce", "all-gather", "broadcast"))
    yield from (_leg(_UNEVEN, "all-reduce", name, range(13)) for name in ("ring", "double-binary-tree"))
    yield _leg(_UNEVEN, "all-reduce", "ring", (0, 6, 11, 1, 7, 12, 2, 9, 4))  # all steps but the last cross the core
    yield _leg(_UNEVEN, "all-to-all", "pairwise", range(13))
    yield _leg(_UNEVEN, "all-reduce", "ring", range(0, 12, 2), range(1, 12, 2))


def _background() -> Iterable[Leg]:
    """Flows that share the link of a rank's host, a trunk, or a way through the core with what is measured."""
    star = replace(_STAR, background=((0, 3),))
    yield _leg(star, "all-reduce", NATIVE, range(8))
    yield _leg(star, "all-reduce", "ring", range(1, 8))
    yield _leg(star, "all-to-all", "pairwise", range(8))
    yield _leg(star, "broadcast", NATIVE, range(5))
    lean = replace(_LEAN, background=((0, 4), (13, 9)))
    yield _leg(lean, "all-reduce", "ring", range(1, 16))
    yield _leg(lean, "all-reduce", "halving-doubling", range(16))
    yield _leg(lean, "all-gather", NATIVE, range(2, 13))
    uneven = replace(_UNEVEN, background=((0, 12), (6, 1)))
    yield _leg(uneven, "all-reduce", NATIVE, range(13))
    yield _leg(uneven, "all-reduce", "double-binary-tree", range(13))


def _degraded() -> Iterable[Leg]:
    star = replace(_STAR, degraded=degraded_link("h2/nic0", "leaf0", 0.5))
    yield _leg(star, "all-reduce", NATIVE, range(8))
    yield _leg(star, "all-reduce", "halving-doubling", range(8))
    yield _leg(star, "all-to-all", "pairwise", range(7))
    lean = replace(_LEAN, degraded=(*degraded_link("leaf1", "spine2", 0.5), LinkFault(0, "leaf0", "spine0", 0.4)))
    yield _leg(lean, "all-reduce", NATIVE, range(16))
    yield _leg(lean, "all-reduce", "halving-doubling", range(16))
    yield _leg(lean, "all-gather", "ring", range(0, 16, 3))
    uneven = replace(_UNEVEN, degraded=degraded_link("spine1", "core0", 0.4))
    yield _leg(uneven, "all-reduce", "ring", range(13))
    yield _leg(uneven, "broadcast", NATIVE, range(13))
    rails = replace(_RAILS, degraded=degraded_link("h3/nic1", "leaf1", 0.5))
    yield _leg(rails, "all-reduce", "ring", range(7), channels=2)
    yield _leg(rails, "all-reduce", "halving-doubling", range(8), channels=2)


def _both() -> Iterable[Leg]:
    lab = replace(_LEAN, degraded=degraded_link("leaf0", "spine0", 0.5), background=((1, 8),))
    yield _leg(lab, "all-reduce", NATIVE, range(13))
    yield _leg(lab, "all-to-all", "pairwise", range(9))


WIDE: tuple[Leg, ...] = tuple(chain(_odd(), _uneven(), _background(), _degraded(), _both()))
