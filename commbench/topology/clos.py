# SPDX-License-Identifier: Apache-2.0
"""Hosts under a tree of switches: a star, leaves and spines, fat trees, with or without rails, in one or more planes.

Routes rely on two promises. Every switch lists its upward neighbours in index order, and all cables to the first before
a second one to any, so that "port number d % n" means the same to every flow. And the NICs of a leaf, numbered leaf by
leaf, are those of one subtree (:class:`~commbench.topology.fabric.Stage`).
"""

import math
from collections.abc import Sequence

import numpy as np

from commbench.errors import TopologyError
from commbench.topology.cabling import Cabling
from commbench.topology.fabric import Stage
from commbench.topology.model import NodeKind
from commbench.topology.tiers import Tier

__all__ = ["clos"]


def clos(net: Cabling, tiers: Sequence[Tier], *, rails: bool = False) -> tuple[Stage, ...]:
    """Add the switches that ``tiers`` say, and the links to them, tier by tier.

    Switch number i of a tier that has p switches over each of its subtrees is switch i % p of subtree i // p; it joins
    its own ``above`` switches of the next tier. With several leaves above a NIC (planes), all that follows stands over
    each of them, and no cable joins two planes.

    Args:
        net: the hosts. tiers: the shape, from the leaves up (:mod:`commbench.topology.tiers`).
        rails: whether NIC r of a host joins the leaf of rail r, instead of all NICs the same; each leaf is then a
            subtree of its own to the next tier.

    Raises:
        TopologyError: hosts without or with different numbers of NICs, or not as many as the tiers join.
    """
    nics, count = net.nics_per_host, len(net.nics)
    below = [tier.below for tier in tiers]
    below[0] *= 1 if rails else nics
    islands = nics if rails and len(tiers) == 1 else 1
    if count != math.prod(below) * islands:
        raise TopologyError(f"fabric.hosts: {net.num_hosts} are not the hosts that the tiers join")
    host, rail = np.divmod(np.arange(count), nics)
    group = host // below[0] * nics + rail if rails else np.arange(count) // below[0]  # of a NIC: its leaf
    stages: list[Stage] = []
    subtree, width, nodes = 1, 1, net.nics
    for tier, joined in zip(tiers, below, strict=True):
        ports, above = tier.above * tier.cables, width * tier.above
        num_upper = count // (subtree * joined) * above
        net.require_room(2 * len(nodes) * ports)
        of_rail = np.arange(num_upper) // above % nics if rails and tier.kind is NodeKind.LEAF else None
        upper = net.switches(tier.kind, num_upper, of_rail)
        if stages:
            group = np.arange(len(nodes)) // (width * joined)
        first_above = upper + group * above + np.arange(len(nodes)) % width * tier.above
        ends = first_above[:, None] + np.arange(ports) % tier.above
        first = net.join(np.repeat(nodes, ports), ends.ravel(), tier.wire)
        lower = int(nodes[0])
        stages.append(Stage(subtree, subtree * joined, width, tier.above, tier.cables, lower, upper, first))
        subtree, width, nodes = subtree * joined, above, upper + np.arange(num_upper)
    return tuple(stages)
