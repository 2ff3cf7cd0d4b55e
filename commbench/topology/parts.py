# SPDX-License-Identifier: Apache-2.0
"""The bricks that hosts and fabrics are built from, before their links are numbered.

A builder yields :class:`Parts`; :func:`join` lays parts side by side; :func:`assemble` numbers the links and
makes the :class:`~commbench.topology.model.Topology`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from commbench.topology.model import EndpointCosts, Link, LinkKind, Node, Quantity, Topology

__all__ = ["Cable", "Parts", "Wire", "assemble", "duplex", "join", "pairs"]


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
    """A piece of a topology: nodes, directed cables, rank names in order, nearest NICs of each rank."""

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


def assemble(
    parts: Parts,
    *,
    name: str,
    routing: str,
    costs: EndpointCosts,
    description: str = "",
    numbers: Mapping[str, Quantity] | None = None,
    origin: str = "",
    device: str = "",
) -> Topology:
    """Number the links of ``parts`` in their order and make the topology.

    Raises:
        TopologyError: the parts do not make a valid, connected topology.
    """
    links = tuple(
        Link(i, cable.src, cable.dst, cable.kind, cable.wire.bandwidth, cable.wire.latency_ps)
        for i, cable in enumerate(parts.cables)
    )
    return Topology(
        name=name,
        nodes=parts.nodes,
        links=links,
        ranks=parts.ranks,
        routing=routing,
        nics_of=parts.nics_of,
        costs=costs,
        description=description,
        numbers=numbers or {},
        origin=origin,
        device=device,
    )
