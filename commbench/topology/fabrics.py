# SPDX-License-Identifier: Apache-2.0
"""How hosts are joined: pure functions from host parts to the parts of a whole fabric.

Every fabric keeps two promises that routing relies on. Host h hangs on leaf ``h // hosts_per_leaf`` (or, with
rails, on the leaves of unit ``h // hosts_per_leaf``), and every switch lists its upward neighbours in index
order, so "neighbour number d % n" means the same switch each time. Bandwidth above the leaves is never typed
in: it follows from the links below and the oversubscription, which is (bandwidth down) / (bandwidth up) of a
switch.
"""

import math
from collections.abc import Sequence

from commbench.errors import TopologyError
from commbench.topology.model import LinkKind, Node, NodeKind
from commbench.topology.parts import Cable, Parts, Wire, join, pairs
from commbench.topology.tiers import Tier

__all__ = ["clos", "num_nics", "rail_only", "single"]


def single(hosts: Sequence[Parts]) -> Parts:
    """One host and no network. No endpoint has a NIC to reach others by, so ``nics_of`` is empty.

    Raises:
        TopologyError: not exactly one host.
    """
    if len(hosts) != 1:
        raise TopologyError(f"fabric.kind: 'none' joins nothing, so it takes one host, not {len(hosts)}")
    return Parts(hosts[0].nodes, hosts[0].cables, hosts[0].ranks)


def clos(hosts: Sequence[Parts], tiers: Sequence[Tier], *, rails: bool = False) -> Parts:
    """Hosts under a tree of switches: a star, a leaf-spine fabric or a fat tree, as ``tiers`` say.

    Switch number i of a tier that has p switches over each of its subtrees is switch i % p of subtree i // p; it joins
    its own ``above`` switches of the next tier, so that "neighbour number d % n" means the same switch to every flow.
    With rails, NIC r of every host joins the leaf of rail r, and each leaf is a subtree of its own to the next tier.
    Cables come tier by tier, in the order of their lower ends and then of their upper ends.

    Args:
        hosts: the hosts; all have the same number of NICs.
        tiers: the shape, from the leaves up (:mod:`commbench.topology.tiers`).
        rails: whether a host's NICs join a leaf each instead of all the same.

    Raises:
        TopologyError: no host, hosts without or with different numbers of NICs, or not as many as the tiers join.
    """
    nics = _nics(hosts)
    if len(hosts) * (len(nics[0]) if rails else 1) != math.prod(tier.below for tier in tiers):
        raise TopologyError(f"fabric.hosts: {len(hosts)} are not the hosts that the tiers join")
    below, switches, cables = nics, list[Node](), list[Cable]()
    for tier in tiers:
        planes = 1 if below is nics and not rails else len(below[0])  # 1: all NICs of a host join the same leaf
        width, groups = planes * tier.above, len(below) // tier.below
        made = _rail_leaves(groups, width) if rails and below is nics else _switches(tier.kind, groups * width)
        over = [[node.name for node in made[i : i + width]] for i in range(0, len(made), width)]
        ends = (
            (name, top)
            for g, group in enumerate(below)
            for q, name in enumerate(group)
            for top in over[g // tier.below][q % planes * tier.above :][: tier.above]
        )
        cables += pairs(ends, LinkKind.NETWORK, tier.wire)
        switches += made
        below = [[node.name] for node in made] if rails and below is nics else over
    return join(*hosts, Parts(tuple(switches), tuple(cables)))


def rail_only(hosts: Sequence[Parts], *, downlink: Wire) -> Parts:
    """NIC r of every host goes to leaf r, and nothing joins the leaves: rails meet only inside a host.

    ::

        leaf0 (rail 0)   leaf1 (rail 1)    leaves = nics
          |  \\            |  \\             directed links, hosts apart: 2 x hosts x nics
        h0    h1         h0    h1          traffic between rails crosses NVLink first (PXN)

    Args:
        hosts: the hosts; all have the same number of NICs.
        downlink: one direction of one NIC-leaf link.

    Raises:
        TopologyError: no host, or hosts that differ in their number of NICs.

    Source: W. Wang et al., "Rail-only: A Low-Cost High-Performance Network for Training LLMs with Trillion
    Parameters", HotI 2024.
    """
    nics = _nics(hosts)
    leaves = _rail_leaves(1, len(nics[0]))
    down = ((nic, leaves[r].name) for ports in nics for r, nic in enumerate(ports))
    return join(*hosts, Parts(leaves, pairs(down, LinkKind.NETWORK, downlink)))


def _switches(kind: NodeKind, count: int) -> tuple[Node, ...]:
    return tuple(Node(f"{kind.value}{i}", kind, None, i) for i in range(count))


def _rail_leaves(units: int, rails: int) -> tuple[Node, ...]:
    return tuple(Node(f"leaf{i}", NodeKind.LEAF, None, i, i % rails) for i in range(units * rails))


def num_nics(hosts: Sequence[Parts]) -> int:
    """NICs of every host.

    Raises:
        TopologyError: no host, hosts without NICs, or hosts that differ in their number.
    """
    return len(_nics(hosts)[0])


def _nics(hosts: Sequence[Parts]) -> list[list[str]]:
    """NIC names of each host; all hosts have the same number, one or more."""
    nics = [[node.name for node in host.nodes if node.kind is NodeKind.NIC] for host in hosts]
    counts = {len(ports) for ports in nics}
    if not nics or counts == {0}:
        raise TopologyError("host.nics: 0 in every host; a fabric joins hosts by their NICs, so 1 or more")
    if len(counts) > 1:
        raise TopologyError(f"host.nics: {sorted(counts)} differ; a fabric needs as many NICs in every host")
    return nics
