# SPDX-License-Identifier: Apache-2.0
"""What is connected: hosts, links and switches of one machine or a whole cluster, as arrays.

Nodes and directed links are numbered; everything downstream (routes, solver, engines, pictures) speaks of them by
number. Names, objects and the networkx graph are made when they are asked for, for people and for small fabrics.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from commbench.errors import TopologyError
from commbench.topology.model import STEMS, EndpointCosts, Link, LinkKind, Node, NodeKind, Quantity, read_only

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["LINK_KINDS", "NODE_KINDS", "Fabric", "Graph", "Stage", "require_connected"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NODE_KINDS = tuple(NodeKind)
"""Kinds by the numbers that stand in ``node_kinds``."""
LINK_KINDS = tuple(LinkKind)

_FREE = EndpointCosts()


@dataclass(frozen=True, slots=True)
class Stage:
    """All links between two neighbouring levels of a tree of switches: NICs, leaves, spines, cores.

    The NICs stand in the order of :attr:`Graph.nic_numbers`; those that meet below the lower level are a subtree. Lower
    node q of subtree g is node n = g x ``lower_per_subtree`` + q of its level (a NIC: its place among all NICs). Its
    port p leads to its neighbour above number p % ``above`` by link ``first_link`` + 2 (n x ports + p); the next number
    is the same link downwards.

    Attributes:
        subtree: NICs below one lower subtree. subtree_above: below one upper one.
        lower_per_subtree: lower nodes over one subtree.
        above: upper nodes that each lower node joins. cables: links to each of them.
        lower, upper: number of the first node of either level.
        first_link: number of the first link.
    """

    subtree: int
    subtree_above: int
    lower_per_subtree: int
    above: int
    cables: int
    lower: int
    upper: int
    first_link: int

    @property
    def ports(self) -> int:
        """Links up from each lower node."""
        return self.above * self.cables


@dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """Nodes and directed links in columns; those of hosts come host by host.

    Attributes:
        node_kinds: number in NODE_KINDS. node_hosts: host, -1 for switches of the fabric.
        node_indices: number among its kind, inside its host or in the fabric. node_rails: of NICs and rail leaves, -1.
        src, dst: node numbers of every link. link_kinds: number in LINK_KINDS.
        bandwidths: bytes/s. latencies_ps: picoseconds.
        endpoints: node that runs each rank, in rank order.
        nics_first, nics: rank r's NICs, those that are nearest to it and to no other, are
            ``nics[nics_first[r]:nics_first[r + 1]]``; its channels take them in turn.
        wirings: a number for every host; hosts of one number are alike inside.
        labels: names of all nodes where they do not follow from the columns.
    """

    node_kinds: NDArray[np.int8]
    node_hosts: NDArray[np.int32]
    node_indices: NDArray[np.int32]
    node_rails: NDArray[np.int32]
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    link_kinds: NDArray[np.int8]
    bandwidths: Floats
    latencies_ps: Ints
    endpoints: NDArray[np.int32]
    nics_first: Ints
    nics: NDArray[np.int32]
    wirings: NDArray[np.int32]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                read_only(value)

    @property
    def num_nodes(self) -> int:
        """Hosts' nodes and switches."""
        return len(self.node_kinds)

    @property
    def num_links(self) -> int:
        """Directed links."""
        return len(self.src)

    @property
    def num_ranks(self) -> int:
        """World size when every endpoint runs one rank."""
        return len(self.endpoints)

    @property
    def num_hosts(self) -> int:
        """Number of hosts."""
        return len(self.wirings)

    @cached_property
    def host_of(self) -> NDArray[np.int32]:
        """Host of every rank."""
        return read_only(self.node_hosts[self.endpoints])

    def of_kinds(self, *kinds: NodeKind) -> Ints:
        """Numbers of the nodes of these kinds, in order."""
        return np.flatnonzero(np.isin(self.node_kinds, [NODE_KINDS.index(kind) for kind in kinds]))

    @cached_property
    def to_network(self) -> Ints:
        """Numbers of the links from NICs to switches of the fabric."""
        from_nic = self.node_kinds[self.src] == NODE_KINDS.index(NodeKind.NIC)
        return read_only(np.flatnonzero(from_nic & (self.node_hosts[self.dst] < 0)))

    @cached_property
    def inside_hosts(self) -> NDArray[np.bool_]:
        """Whether a link stays in one host, shape (links,)."""
        hosts = self.node_hosts[self.src]
        return read_only((hosts >= 0) & (hosts == self.node_hosts[self.dst]))

    @cached_property
    def nic_numbers(self) -> Ints:
        """Number of every NIC that has a switch, leaf by leaf and on a leaf in order; -1 for all other nodes.

        It is what d-mod-k counts destinations in.
        """
        numbers = np.full(self.num_nodes, -1, np.int64)
        nics, first = np.unique(self.src[self.to_network], return_index=True)
        leaf = self.dst[self.to_network[first]]
        numbers[nics[np.lexsort((nics, leaf))]] = np.arange(len(nics))
        return read_only(numbers)

    def name_of(self, node: int) -> str:
        """Name of a node, such as "h3/gpu5" or "leaf2"."""
        if self.labels:
            return self.labels[node]
        kind, host, index = NODE_KINDS[self.node_kinds[node]], self.node_hosts[node], self.node_indices[node]
        if kind is NodeKind.MEMORY:
            return f"h{host}/memory-{('in', 'out')[index]}"
        stem = STEMS.get(kind, kind.value)
        return f"{stem}{index}" if host < 0 else f"h{host}/{stem}{index}"

    def link_name(self, link: int) -> str:
        """The nodes that a link joins, such as "h0/nic0 -> leaf0"."""
        return f"{self.name_of(self.src[link])} -> {self.name_of(self.dst[link])}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of every node."""
        return self.labels or tuple(self.name_of(node) for node in range(self.num_nodes))

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """Name of every rank's endpoint."""
        return tuple(self.name_of(node) for node in self.endpoints.tolist())

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node as an object."""
        columns = (self.node_hosts.tolist(), self.node_indices.tolist(), self.node_rails.tolist())
        return tuple(
            Node(name, NODE_KINDS[kind], None if host < 0 else host, index, None if rail < 0 else rail)
            for name, kind, host, index, rail in zip(self.names, self.node_kinds.tolist(), *columns, strict=True)
        )

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Every link as an object; ``links[i].index == i``."""
        names, ends = self.names, (self.src.tolist(), self.dst.tolist())
        rest = (self.link_kinds.tolist(), self.bandwidths.tolist(), self.latencies_ps.tolist())
        return tuple(
            Link(i, names[a], names[b], LINK_KINDS[kind], rate, latency)
            for i, (a, b, kind, rate, latency) in enumerate(zip(*ends, *rest, strict=True))
        )

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Node by name."""
        return MappingProxyType({node.name: node for node in self.nodes})

    @cached_property
    def numbers_by_name(self) -> Mapping[str, int]:
        """Node number by name."""
        return MappingProxyType({name: i for i, name in enumerate(self.names)})

    def of_kind(self, *kinds: NodeKind) -> Iterable[Node]:
        """The nodes of these kinds as objects, in order."""
        return (self.nodes[i] for i in self.of_kinds(*kinds).tolist())

    def links_between(self, src: str, dst: str) -> Ints:
        """Numbers of the links from one node to another; several where they lie side by side."""
        ends = [self.numbers_by_name.get(name, -1) for name in (src, dst)]
        return np.flatnonzero((self.src == ends[0]) & (self.dst == ends[1]))

    @cached_property
    def graph(self) -> "nx.DiGraph":
        """Frozen networkx graph by name; nodes carry ``node`` (Node), edges ``link``, the first where several join."""
        import networkx as nx  # here, because it takes longer to load than most fabrics

        graph = nx.DiGraph()
        graph.add_nodes_from((node.name, {"node": node}) for node in self.nodes)
        graph.add_edges_from((link.src, link.dst, {"link": link}) for link in reversed(self.links))
        ordered = nx.DiGraph()  # neighbours in the order of links
        ordered.add_nodes_from(graph.nodes(data=True))
        ordered.add_edges_from((link.src, link.dst, graph.edges[link.src, link.dst]) for link in self.links)
        return nx.freeze(ordered)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fabric(Graph):
    """A graph with what users call it and what ranks cost.

    What others need of it: ``num_ranks``, ``host_of`` (array), ``bandwidths``, ``latencies_ps``, ``costs``, and names
    of a few (``name_of``, ``link_name``); routes are a :class:`~commbench.routing.router.Router`'s, counts are
    :mod:`commbench.topology.summary`'s. ``ranks``, ``nodes``, ``links`` and ``graph`` make an object for each: for
    small fabrics.

    Attributes:
        name: as users call it, for example "fat-tree-16".
        routing: name of the routing policy that this fabric uses unless the user asks for another.
        costs: per-rank costs, the same for all ranks.
        description: one line for people.
        numbers: every number that went in, by its key path, with origin; shown by ``topology show`` and the report.
        origin: file or builder call that made it.
        device: what computes in its hosts, as its file names it; "" where nobody says.
        cpu: their maker, network: what their NICs speak, in the words of ``schema``; "" likewise.
        stages: the links above the NICs, where they form a tree; routes then need no search.

    Raises:
        TopologyError: a link without bandwidth or with a negative latency, or no rank.
    """

    name: str
    routing: str
    costs: EndpointCosts = _FREE
    description: str = ""
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    origin: str = ""
    device: str = ""
    cpu: str = ""
    network: str = ""
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "numbers", MappingProxyType(dict(self.numbers)))
        wrong = np.flatnonzero(~(self.bandwidths > 0) | (self.latencies_ps < 0))
        if len(wrong):
            link = int(wrong[0])
            raise TopologyError(
                f"topology {self.name}: link {self.link_name(link)} needs bandwidth > 0 and latency >= 0, "
                f"not {self.bandwidths[link]} B/s and {self.latencies_ps[link]} ps"
            )
        if not self.num_ranks:
            raise TopologyError(f"topology {self.name}: no rank, at least one is needed")


def require_connected(fabric: Fabric) -> None:
    """Refuse a fabric in which some rank cannot reach another: all can if the first one reaches all and all reach it.

    Raises:
        TopologyError: it is one.
    """
    for near, far, way in ((fabric.src, fabric.dst, "{0} to {1}"), (fabric.dst, fabric.src, "{1} to {0}")):
        reached = np.zeros(fabric.num_nodes, np.bool_)
        reached[fabric.endpoints[0]], count = True, 0
        while (now := int(np.count_nonzero(reached))) > count:
            count = now
            reached[far[reached[near]]] = True
        for rank in np.flatnonzero(~reached[fabric.endpoints]).tolist():
            path = way.format(fabric.ranks[0], fabric.ranks[rank])
            raise TopologyError(f"topology {fabric.name}: the graph is not connected: no path leads from {path}")
