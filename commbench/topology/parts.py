# SPDX-License-Identifier: Apache-2.0
"""The bricks that hosts are built from, before their links are numbered.

A builder yields :class:`Parts`, :func:`join` lays parts side by side; :mod:`commbench.topology.cabling` makes as many
hosts of them as there are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from commbench.topology.model import LinkKind, Node

__all__ = ["Cable", "Parts", "Wire", "duplex", "join", "pairs"]


@dataclass(frozen=True, slots=True)
class Wire:
    """What one direction of a link can do: ``bandwidth`` in bytes/s, ``latency_ps`` in picoseconds."""

    bandwidth: float
    latency_ps: int

    def times(self, factor: float) -> "Wire":
        """The same wire with its bandwidth multiplied; the latency stays (links side by side)."""
        return Wire(self.bandwidth * factor, self.latency_ps)


@dataclass(frozen=True, slots=True)
class Cable:
    """A directed link that has no number yet."""

    src: str
    dst: str
    kind: LinkKind
    wire: Wire


@dataclass(frozen=True, slots=True)
class Parts:
    """A piece of a host: nodes, directed cables, rank names in order, nearest NICs of each rank."""

    nodes: tuple[Node, ...]
    cables: tuple[Cable, ...]
    ranks: tuple[str, ...] = ()
    nics_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def duplex(a: str, b: str, kind: LinkKind, wire: Wire) -> tuple[Cable, Cable]:
    """Both directions of a full-duplex link between ``a`` and ``b``, each with the whole of ``wire``."""
    return Cable(a, b, kind, wire), Cable(b, a, kind, wire)


def pairs(ends: Iterable[tuple[str, str]], kind: LinkKind, wire: Wire) -> tuple[Cable, ...]:
    """Full-duplex links of one make between many (a, b), in that order."""
    return tuple(cable for a, b in ends for cable in duplex(a, b, kind, wire))


def join(*parts: Parts) -> Parts:
    """All parts as one; nodes, cables and ranks keep their order."""
    return Parts(
        tuple(node for part in parts for node in part.nodes),
        tuple(cable for part in parts for cable in part.cables),
        tuple(rank for part in parts for rank in part.ranks),
        {rank: nics for part in parts for rank, nics in part.nics_of.items()},
    )
