# SPDX-License-Identifier: Apache-2.0
"""``kind: dragonfly+``: groups of leaves and spines, and global links between the spines of every two groups."""

from itertools import combinations
from typing import Literal

import numpy as np

from commbench.errors import TopologyError
from commbench.topology.cabling import Cabling
from commbench.topology.fabric import Stage
from commbench.topology.kinds import FabricKind, register
from commbench.topology.model import NodeKind
from commbench.topology.sections import BundleSection, Hosts, LinkSection, Switches

__all__ = ["DragonflyFabric"]


@register
class DragonflyFabric(FabricKind):
    """Dragonfly+: inside a group every leaf joins every spine; every two groups have ``global_link.links`` links.

    ::

        group 0                 group 1        global links leave a group from its spines in turn: the k-th link to the
        spine0 spine1 ========= spine2 spine3  j-th other group from spine (j x links + k) % spines_per_group
          |  X  |                 |  X  |
        leaf0 leaf1             leaf2 leaf3    hosts = groups x leaves_per_group x hosts_per_leaf

    Flows take the shortest way, so at most one global link.

    Source: A. Shpiner, Z. Haramaty, S. Eliad, V. Zdornov, B. Gafni, E. Zahavi, "Dragonfly+: Low Cost Topology for
    Scaling Datacenters", HiPINEB 2017.
    """

    kind: Literal["dragonfly+"]
    groups: Switches
    hosts_per_leaf: Hosts
    leaves_per_group: Switches
    spines_per_group: Switches
    downlink: LinkSection
    group_link: LinkSection
    global_link: BundleSection

    @property
    def num_hosts(self) -> int:
        """Those of all groups."""
        return self.groups * self.leaves_per_group * self.hosts_per_leaf

    def check(self) -> None:
        """Two groups or more, and no more pairs of them than can be listed."""
        if not 2 <= self.groups <= 1024:
            raise TopologyError(f"fabric.groups: {self.groups} must be from 2 to 1,024")

    def join(self, net: Cabling) -> tuple[Stage, ...]:
        """Leaves, spines, then the global links pair by pair of groups."""
        nics = self.hosts_per_leaf * net.nics_per_host
        leaves, spines = self.groups * self.leaves_per_group, self.groups * self.spines_per_group
        pairs = self.groups * (self.groups - 1) // 2
        net.require_room(2 * (leaves * self.spines_per_group + pairs * self.global_link.links))
        leaf, spine = net.switches(NodeKind.LEAF, leaves), net.switches(NodeKind.SPINE, spines)
        net.join(net.nics, leaf + np.arange(len(net.nics)) // nics, self.downlink.wire)
        lower = np.repeat(np.arange(leaves), self.spines_per_group)
        upper = lower // self.leaves_per_group * self.spines_per_group
        upper += np.tile(np.arange(self.spines_per_group), leaves)
        net.join(leaf + lower, spine + upper, self.group_link.wire)
        links = np.arange(self.global_link.links)
        ends = np.array(list(combinations(range(self.groups), 2)))
        near, far = (
            (own * self.spines_per_group)[:, None]
            + ((other - (other > own)) [:, None] * len(links) + links) % self.spines_per_group
            for own, other in (ends.T, ends.T[::-1])
        )
        cable = self.global_link.wire.times(1 / self.global_link.links)
        net.join(spine + near.ravel(), spine + far.ravel(), cable)
        return ()
