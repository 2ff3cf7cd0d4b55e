# SPDX-License-Identifier: Apache-2.0
"""Where ranks sit: a fabric, the endpoint of every rank, and the router between them. Made once, passed around."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.routing.routes import Routes
from commbench.topology.model import Topology
from commbench.topology.rings import direct_ways

__all__ = ["Cluster"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cluster:
    """Ranks on a fabric.

    Attributes:
        placed: endpoint of every rank. router: of the fabric. placement: how they were placed, for records.
        one_machine: processors that all ranks share, whatever the fabric says of its hosts (an emulated one is on one
            machine); None: as it says.
    """

    placed: IntArray
    router: Routes
    placement: str = "linear"
    one_machine: int | None = None

    @property
    def fabric(self) -> Any:
        """That the router is of: a Topology, a Tree, or wires."""
        return self.router.fabric

    @cached_property
    def hosts(self) -> IntArray:
        """Host of every rank."""
        fabric = self.fabric
        if not isinstance(fabric, Topology):
            return self.placed
        names = fabric.ranks
        return np.array([fabric.host_of(names[endpoint]) for endpoint in self.placed.tolist()], dtype=np.int64)

    @cached_property
    def has_direct_links(self) -> bool:
        """Whether some endpoints are linked to each other without a switch."""
        fabric = self.fabric
        if not isinstance(fabric, Topology):
            return False
        ranks = set(fabric.ranks)
        return any(link.src in ranks and link.dst in ranks for link in fabric.links)

    def ways_of(self, ranks: IntArray) -> tuple[tuple[int, ...], ...]:
        """Orders of these ranks along direct links (:func:`commbench.topology.rings.direct_ways`)."""
        fabric = self.fabric
        if not self.has_direct_links:
            return ()
        assert isinstance(fabric, Topology)
        return direct_ways(fabric, [fabric.ranks[endpoint] for endpoint in self.placed[ranks].tolist()])
