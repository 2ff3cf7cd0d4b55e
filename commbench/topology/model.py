# SPDX-License-Identifier: Apache-2.0
"""What is connected: an immutable directed graph of ranks, switches and NICs.

A :class:`Topology` is made once (by :mod:`commbench.topology.load` or a builder) and never changes. Links are
directed and numbered; everything downstream (routes, solver, engines, pictures) speaks of links by that number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from commbench.errors import TopologyError

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "ENDPOINT_KINDS",
    "SWITCH_KINDS",
    "EndpointCosts",
    "Link",
    "LinkKind",
    "Node",
    "NodeKind",
    "Provenance",
    "Quantity",
    "Topology",
    "read_only",
]

_Array = TypeVar("_Array", bound=NDArray[Any])


def read_only(array: _Array) -> _Array:
    """The array itself, from now on refusing writes: what is shared must not change."""
    array.setflags(write=False)
    return array


class Provenance(StrEnum):
    """Where a number came from (DESIGN section 2, idea 5)."""

    MEASURED = "measured"
    EMULATED = "emulated"
    SIMULATED = "simulated"
    FITTED = "fitted"
    VENDOR = "vendor"
    ASSUMED = "assumed"


class NodeKind(StrEnum):
    """What a vertex of the graph is."""

    GPU = "gpu"
    CPU = "cpu"  # a CPU rank (plain hosts) or a socket (GPU hosts)
    NVSWITCH = "nvswitch"
    PCIE_SWITCH = "pcie-switch"
    NIC = "nic"
    LEAF = "leaf"
    SPINE = "spine"
    CORE = "core"
    MEMORY = "memory"  # the shared memory system of one host, a resource that its ranks contend for


class LinkKind(StrEnum):
    """What a directed edge is made of; routing prefers the kinds in this order inside a host."""

    NVLINK = "nvlink"
    MEMORY = "memory"
    PCIE = "pcie"
    SOCKET = "socket"
    NETWORK = "network"


ENDPOINT_KINDS = frozenset({NodeKind.GPU, NodeKind.CPU})
SWITCH_KINDS = frozenset({NodeKind.LEAF, NodeKind.SPINE, NodeKind.CORE})  # those of the fabric, outside any host


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its origin: ``text`` as written ("100 Gbit/s"), ``provenance`` and ``source``."""

    text: str
    provenance: Provenance
    source: str


@dataclass(frozen=True, slots=True)
class Node:
    """One vertex. ``host`` and ``index`` are None where they have no meaning (a spine belongs to no host).

    Attributes:
        name: unique in the topology, for example "h3/gpu5" or "leaf2".
        host: number of the host it stands in, or None for fabric switches.
        index: number among its kind, inside its host or (fabric switches) inside the fabric.
        rail: rail number of a NIC or rail leaf, else None.
    """

    name: str
    kind: NodeKind
    host: int | None = None
    index: int | None = None
    rail: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One directed link: ``bandwidth`` in bytes/s, ``latency_ps`` in picoseconds, numbered by ``index``."""

    index: int
    src: str
    dst: str
    kind: LinkKind
    bandwidth: float
    latency_ps: int


@dataclass(frozen=True, slots=True)
class EndpointCosts:
    """What a rank itself costs, beside the wires.

    Attributes:
        message_overhead_ps: processor time of one message, paid by the sender before and by the receiver after the
            wire (LogGP's o).
        reduction_ps_per_byte: time to add one received byte into the buffer; 0 means done at line rate.
        cores_per_host: processors that the ranks of one host share for their messages; None gives every rank one of
            its own.
    """

    message_overhead_ps: int = 0
    reduction_ps_per_byte: float = 0.0
    cores_per_host: int | None = None


@dataclass(frozen=True)
class Topology:
    """An immutable fabric.

    Attributes:
        name: as users call it, for example "fat-tree-16".
        nodes: every vertex, in a fixed order.
        links: every directed link; ``links[i].index == i``.
        ranks: names of the endpoints that run a rank, in rank order (rank r runs on ``ranks[r]``).
        nics_of: for an endpoint, the names of its NICs, those that are nearest to it and to no other; its channels take
            them in turn. Absent inside one-host machines.
        costs: per-rank costs, the same for all ranks.
        routing: name of the routing policy that this fabric uses unless the user asks for another.
        description: one line for people.
        numbers: every number that went in, by its key path, with origin; shown by ``topology show`` and the report.
        origin: file or builder call that made it.
        device: what computes in its hosts, as its file names it; "" where nobody says.

    Raises:
        TopologyError: a duplicate or unknown name, a self link, a rank that is no endpoint, or a graph in which
            some rank cannot reach another.
    """

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    ranks: tuple[str, ...]
    routing: str
    nics_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    costs: EndpointCosts = EndpointCosts()
    description: str = ""
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    origin: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nics_of", MappingProxyType(dict(self.nics_of)))
        object.__setattr__(self, "numbers", MappingProxyType(dict(self.numbers)))
        self._check_names()
        self._check_connected()

    def _check_names(self) -> None:
        if len(self.by_name) != len(self.nodes):
            names = [node.name for node in self.nodes]
            twice = next(name for name in names if names.count(name) > 1)
            raise TopologyError(f"topology {self.name}: node name {twice!r} is used twice")
        for i, link in enumerate(self.links):
            if link.index != i or link.src == link.dst or not {link.src, link.dst} <= self.by_name.keys():
                raise TopologyError(
                    f"topology {self.name}: link {i} {link.src!r} -> {link.dst!r} is not a link between two nodes"
                )
            if not link.bandwidth > 0 or link.latency_ps < 0:
                raise TopologyError(
                    f"topology {self.name}: link {link.src} -> {link.dst} needs bandwidth > 0 and latency >= 0, "
                    f"not {link.bandwidth} B/s and {link.latency_ps} ps"
                )
        for name in self.ranks:
            if name not in self.by_name or self.by_name[name].kind not in ENDPOINT_KINDS:
                raise TopologyError(f"topology {self.name}: rank on {name!r}, which is no GPU or CPU of it")

    def _check_connected(self) -> None:
        if not self.ranks:
            raise TopologyError(f"topology {self.name}: no rank, at least one is needed")
        import networkx as nx  # here, because it takes longer to load than most topologies that need no graph

        first = self.ranks[0]
        # Every rank reaches every other if the first one reaches all and all reach it.
        for reached, way in (
            (nx.descendants(self.graph, first), "{0} to {1}"),
            (nx.ancestors(self.graph, first), "{1} to {0}"),
        ):
            for name in self.ranks[1:]:
                if name not in reached:
                    path = way.format(first, name)
                    raise TopologyError(f"topology {self.name}: the graph is not connected: no path leads from {path}")

    @property
    def num_ranks(self) -> int:
        """World size when every endpoint runs one rank."""
        return len(self.ranks)

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Node by name."""
        return MappingProxyType({node.name: node for node in self.nodes})

    @cached_property
    def bandwidths(self) -> NDArray[np.float64]:
        """Bandwidth of every link by its number, bytes/s; read-only."""
        return read_only(np.array([link.bandwidth for link in self.links], np.float64))

    @cached_property
    def latencies_ps(self) -> NDArray[np.int64]:
        """Latency of every link by its number, picoseconds; read-only."""
        return read_only(np.array([link.latency_ps for link in self.links], np.int64))

    @cached_property
    def graph(self) -> "nx.DiGraph":
        """Frozen networkx graph; nodes carry ``node`` (Node), edges ``link`` (Link). Parallel links are refused."""
        import networkx as nx

        graph = nx.DiGraph(name=self.name)
        for node in self.nodes:
            graph.add_node(node.name, node=node)
        for link in self.links:
            if graph.has_edge(link.src, link.dst):
                raise TopologyError(
                    f"topology {self.name}: two links {link.src} -> {link.dst}; give one link with the summed bandwidth"
                )
            graph.add_edge(link.src, link.dst, link=link)
        return nx.freeze(graph)

    @cached_property
    def num_hosts(self) -> int:
        """Number of hosts that hold at least one node."""
        return len({node.host for node in self.nodes if node.host is not None})

    def host_of(self, name: str) -> int:
        """Host number of an endpoint or NIC.

        Raises:
            TopologyError: the node belongs to no host.
        """
        host = self.by_name[name].host
        if host is None:
            raise TopologyError(f"topology {self.name}: {name} belongs to no host")
        return host

    def of_kind(self, *kinds: NodeKind) -> Iterable[Node]:
        """The nodes of these kinds, in order."""
        return (node for node in self.nodes if node.kind in kinds)
