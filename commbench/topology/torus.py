# SPDX-License-Identifier: Apache-2.0
"""``kind: torus``: switches in a grid of any number of dimensions, each joined to its two neighbours in every one."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from commbench.errors import TopologyError
from commbench.topology.cabling import Cabling
from commbench.topology.fabric import Stage
from commbench.topology.kinds import FabricKind, register
from commbench.topology.model import NodeKind
from commbench.topology.sections import BundleSection, Hosts, LinkSection

__all__ = ["TorusFabric"]


@register
class TorusFabric(FabricKind):
    """A torus: switch (x, y, ..) joins (x + 1, y, ..) and so on, the last the first; two in a row have one link.

    ::

        leaf0 --- leaf1 --- leaf2 ---.     shape [3, 2]: leaf i is number x + 3 y; links = cables x (3 x 2 + 3)
          |         |         |      :     a switch has hosts_per_leaf hosts, all their NICs
        leaf3 --- leaf4 --- leaf5 ---:

    Source: W. J. Dally, C. L. Seitz, "The torus routing chip", Distributed Computing 1 (1986) 187-196.
    """

    kind: Literal["torus"]
    shape: Annotated[list[Annotated[int, Field(ge=2, le=1024)]], Field(min_length=1, max_length=6)]
    hosts_per_leaf: Hosts
    downlink: LinkSection
    grid_link: BundleSection

    @property
    def num_hosts(self) -> int:
        """Those of all switches."""
        return math.prod(self.shape) * self.hosts_per_leaf

    def join(self, net: Cabling) -> tuple[Stage, ...]:
        """A leaf for each place in the grid."""
        count, nics = math.prod(self.shape), self.hosts_per_leaf * net.nics_per_host
        if count > 2**16:
            raise TopologyError(f"fabric.shape: {count:,} switches must be at most 65,536")
        first = net.switches(NodeKind.LEAF, count)
        net.join(net.nics, first + np.arange(len(net.nics)) // nics, self.downlink.wire)
        place, stride = np.arange(count), 1
        cable = self.grid_link.wire.times(1 / self.grid_link.links)
        for length in self.shape:
            here = place // stride % length
            begins = place[here < length - 1] if length == 2 else place
            after = begins + (np.where(begins // stride % length == length - 1, 1 - length, 1)) * stride
            a, b = (np.repeat(first + ends, self.grid_link.links) for ends in (begins, after))
            net.join(a, b, cable)
            stride *= length
        return ()
