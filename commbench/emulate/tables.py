# SPDX-License-Identifier: Apache-2.0
"""Which way every switch sends what is for a NIC: static routes as plain data, before any kernel is asked.

A switch of the testbed is a router that looks at the destination alone. So a routing policy can be laid out as a table
only where its choice at a switch does not depend on where the traffic comes from; :func:`single_path` finds out and
refuses the others.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from commbench.errors import InputError
from commbench.topology.fabric import Fabric
from commbench.topology.model import SWITCH_KINDS, Node, NodeKind

__all__ = ["PathFinder", "Tables", "attached_switches", "equal_cost", "rails_of", "single_path"]

Tables = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Switch -> NIC of destination -> next nodes: one, or several of equal cost between which a hash decides."""


class PathFinder(Protocol):
    """What is asked for paths; ``routing.router.Router`` is one."""

    def path(self, src: int, dst: int, channel: int = 0) -> Sequence[str]:
        """Node names from rank ``src`` to rank ``dst``."""


def attached_switches(topology: Fabric) -> dict[str, str]:
    """NIC -> the switch that it hangs on, in the topology's order.

    Raises:
        InputError: a NIC that hangs on none.
    """
    found = {}
    for nic in topology.of_kind(NodeKind.NIC):
        switches = [n for n in topology.graph.successors(nic.name) if topology.by_name[n].kind in SWITCH_KINDS]
        if len(switches) != 1:
            raise InputError(f"topology {topology.name}: NIC {nic.name} hangs on {len(switches)} switches, not on one")
        found[nic.name] = switches[0]
    return found


def rails_of(topology: Fabric) -> dict[int, dict[str, str]]:
    """Rail -> endpoint -> its host's NIC on that rail."""
    ranks = dict(zip(topology.host_of.tolist(), topology.ranks, strict=True))
    found: dict[int, dict[str, str]] = {}
    for nic in topology.of_kind(NodeKind.NIC):
        found.setdefault(_rail(nic), {})[ranks[nic.host or 0]] = nic.name
    return found


def _rail(nic: Node) -> int:
    assert nic.rail is not None  # every builder numbers its NICs
    return nic.rail


def equal_cost(topology: Fabric) -> Tables:
    """Every next hop on a shortest path: ECMP, where the kernel's hash of addresses and ports decides."""
    tables: dict[str, dict[str, tuple[str, ...]]] = {}
    for nic, last in attached_switches(topology).items():
        distance = _distances(topology, last)
        for switch, here in distance.items():
            nearer = tuple(n for n in topology.graph.successors(switch) if distance.get(n, here) < here)
            tables.setdefault(switch, {})[nic] = nearer or (nic,)
    return tables


def _distances(topology: Fabric, last: str) -> dict[str, int]:
    """Hops from every switch to ``last`` through switches alone."""
    distance, queue = {last: 0}, deque([last])
    while queue:
        node = queue.popleft()
        for before in topology.graph.predecessors(node):
            if before not in distance and topology.by_name[before].kind in SWITCH_KINDS:
                distance[before] = distance[node] + 1
                queue.append(before)
    return distance


def single_path(topology: Fabric, router: Callable[[Fabric], PathFinder]) -> Tables:
    """One next hop for each destination, as a routing policy chooses it.

    Args:
        topology: of plain hosts. Traffic for a NIC of rail r leaves its host by the NIC of rail r.
        router: makes the path finder of a topology; channel r goes by rail r.

    Raises:
        InputError: the policy's choice depends on more than the destination.
    """
    tables: dict[str, dict[str, tuple[str, ...]]] = {}
    finder = router(topology)
    for rail, nics in rails_of(topology).items():
        for src, dst in _pairs(len(topology.ranks)):
            nic = nics[topology.ranks[dst]]
            for here, after in pairwise(finder.path(src, dst, rail)):
                if topology.by_name[here].kind in SWITCH_KINDS:
                    known = tables.setdefault(here, {}).setdefault(nic, (after,))
                    if known != (after,):
                        raise InputError(
                            f"topology {topology.name}: traffic for {nic} leaves {here} by {known[0]} or by {after}, "
                            "depending on where it comes from: static routes cannot do that"
                        )
    return tables


def _pairs(count: int) -> Iterable[tuple[int, int]]:
    return ((a, b) for a in range(count) for b in range(count) if a != b)
