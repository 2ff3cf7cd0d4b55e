# SPDX-License-Identifier: Apache-2.0
"""A tree of plain hosts in closed form: the facts of its topology as arrays, without an object per node or link.

The full graph of 100,000 hosts takes many seconds and gigabytes to make, and its regularity makes it needless: which
link joins which switches is arithmetic. A :class:`Tree` numbers its links exactly as the
:class:`~commbench.topology.model.Topology` of the same file does, so results of the two can be exchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import prod
from operator import mul
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from commbench.errors import TopologyError
from commbench.topology.model import EndpointCosts, LinkKind, NodeKind, Quantity, Topology, read_only
from commbench.topology.parts import Wire
from commbench.topology.tiers import Tier

__all__ = ["Stage", "Tree"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stage:
    """All links between two neighbouring levels: ranks, NICs, leaves, spines, cores.

    Hosts that meet below the lower level are a subtree: one host, the hosts of a leaf, those of a pod. Lower node q of
    subtree g is node g x ``lower_per_subtree`` + q of its level, and has the links ``first_link`` + 2 ((g x
    lower_per_subtree + q) x ``above`` + c) to its c-th neighbour above; the next number is the same link downwards.

    Attributes:
        lower, upper: kinds of the nodes at the ends.
        subtree: hosts of one subtree.
        lower_per_subtree: lower nodes over one subtree; all of them join different upper nodes, except that the NICs
            of a host join one leaf.
        above: upper nodes that each lower node joins.
        num_lower: lower nodes in all.
        wire: one direction of one link.
        first_link: number of the first link.
    """

    lower: NodeKind
    upper: NodeKind
    subtree: int
    lower_per_subtree: int
    above: int
    num_lower: int
    wire: Wire
    first_link: int

    @property
    def kind(self) -> LinkKind:
        """What the links are made of."""
        return LinkKind.PCIE if self.upper is NodeKind.NIC else LinkKind.NETWORK

    @property
    def upper_per_subtree(self) -> int:
        """Upper nodes over one subtree."""
        return self.above * (1 if self.lower is NodeKind.NIC else self.lower_per_subtree)

    @property
    def num_links(self) -> int:
        """Directed links."""
        return 2 * self.num_lower * self.above

    def link_up(self, host: Rows, place: Rows, choice: Rows) -> Rows:
        """Number of the link from lower node ``place`` of each host's subtree to its neighbour number ``choice``."""
        node = host // self.subtree * self.lower_per_subtree + place
        return self.first_link + 2 * (node * self.above + choice)

    @property
    def bandwidth(self) -> float:
        """Bytes/s out of one subtree to the upper level, and as many into it."""
        return self.lower_per_subtree * self.above * self.wire.bandwidth


@dataclass(frozen=True)
class Tree:
    """Plain hosts, one rank each, under a tree of switches.

    Attributes:
        name, routing, costs, description, numbers, origin, device: as of :class:`~commbench.topology.model.Topology`.
        num_hosts: number of hosts; rank r runs on host r.
        nics: NICs of every host, all the rank's own; channels take them in turn.
        bus: one direction of one rank-NIC link.
        tiers: the switches, from the leaves up.
        build: makes the full topology.

    Raises:
        TopologyError: a bandwidth that follows from the given ones is not above zero.
    """

    name: str
    num_hosts: int
    nics: int
    bus: Wire
    tiers: tuple[Tier, ...]
    routing: str
    costs: EndpointCosts
    build: Callable[[], Topology] = field(repr=False, compare=False)
    description: str = ""
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    origin: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", MappingProxyType(dict(self.numbers)))
        assert prod(tier.below for tier in self.tiers) == self.num_hosts, "the tiers join other hosts"
        for stage in self.stages:
            if not stage.wire.bandwidth > 0:
                ends = f"{stage.lower.value} - {stage.upper.value}"
                raise TopologyError(
                    f"topology {self.name}: link {ends} needs bandwidth > 0, not {stage.wire.bandwidth} B/s"
                )

    @property
    def num_ranks(self) -> int:
        """World size when every host runs its rank."""
        return self.num_hosts

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The links from the ranks to the top, level by level."""
        stages = [Stage(NodeKind.CPU, NodeKind.NIC, 1, 1, self.nics, self.num_hosts, self.bus, 0)]
        subtrees = accumulate((tier.below for tier in self.tiers), mul, initial=1)
        for tier, subtree in zip(self.tiers, subtrees, strict=False):
            below = stages[-1]
            width, first = below.upper_per_subtree, below.first_link + below.num_links
            num_lower = self.num_hosts // subtree * width
            stages.append(Stage(below.upper, tier.kind, subtree, width, tier.above, num_lower, tier.wire, first))
        return tuple(stages)

    @cached_property
    def node_counts(self) -> Mapping[NodeKind, int]:
        """Number of nodes of each kind, from the ranks up."""
        top = self.stages[-1]
        return MappingProxyType({s.lower: s.num_lower for s in self.stages} | {top.upper: top.upper_per_subtree})

    @cached_property
    def num_links(self) -> int:
        """Directed links in all."""
        return sum(stage.num_links for stage in self.stages)

    @cached_property
    def bandwidths(self) -> NDArray[np.float64]:
        """Bandwidth of every link by its number, bytes/s; read-only."""
        rates = np.array([stage.wire.bandwidth for stage in self.stages], np.float64)
        return read_only(np.repeat(rates, self._counts))

    @cached_property
    def latencies_ps(self) -> NDArray[np.int64]:
        """Latency of every link by its number, picoseconds; read-only."""
        latencies = np.array([stage.wire.latency_ps for stage in self.stages], np.int64)
        return read_only(np.repeat(latencies, self._counts))

    @property
    def _counts(self) -> list[int]:
        return [stage.num_links for stage in self.stages]

    def link_ends(self, number: int) -> tuple[str, str]:
        """Names of the nodes that link ``number`` joins, as those of the full graph."""
        level = next(i for i, s in enumerate(self.stages) if number < s.first_link + s.num_links)
        stage = self.stages[level]
        pair, down = divmod(number - stage.first_link, 2)
        node, choice = divmod(pair, stage.above)
        subtree, place = divmod(node, stage.lower_per_subtree)
        # The NICs of a host join one leaf.
        above = choice if stage.lower is NodeKind.NIC else place * stage.above + choice
        host = subtree * stage.subtree
        if level + 1 < len(self.stages):
            upper = self.stages[level + 1]
            above += host // upper.subtree * upper.lower_per_subtree
        ends = self._node(stage.lower, node), self._node(stage.upper, above)
        return ends[::-1] if down else ends

    def _node(self, kind: NodeKind, number: int) -> str:
        if kind is NodeKind.CPU:
            return f"h{number}/cpu0"
        if kind is NodeKind.NIC:
            return f"h{number // self.nics}/nic{number % self.nics}"
        return f"{kind.value}{number}"

    def topology(self) -> Topology:
        """The same fabric as a full graph, with names and link objects; made anew at every call."""
        return self.build()
