# SPDX-License-Identifier: Apache-2.0
"""What communication takes on a fabric when nothing else is on it: the simulator's own aggregate flows, each alone.

A price is asked for once for each collective, group and size. (Between sizes it does not grow evenly: a library chooses
anew, and what is in between would be no lower bound.)
"""

import numpy as np

from commbench.cluster import Cluster
from commbench.libraries.base import Library
from commbench.lowering.aggregate import aggregate, together
from commbench.lowering.choose import Choices
from commbench.lowering.placing import processors_of
from commbench.lowering.symmetry import kinds_of_links
from commbench.program.operations import Collective, Communication, Transfer
from commbench.training.link_time import NO_TIME, LinkTime
from commbench.units import PS_PER_S

__all__ = ["Free", "Prices", "StagePrices"]


class Prices:
    """Prices of a cluster whose ranks stand in the order tp-cp-ep-dp-pp.

    Args:
        cluster: where. library: who decides how collectives go.
    """

    def __init__(self, cluster: Cluster, library: Library) -> None:
        self._cluster, self._choices = cluster, Choices(library, cluster.fabric.name)
        self._processors = processors_of(cluster.fabric, cluster.placed)
        self._host = int((cluster.hosts == cluster.hosts[0]).sum())
        self._kinds = np.unique(kinds_of_links(cluster.fabric), return_inverse=True)[1].ravel()
        self._known: dict[tuple[str, int, int, int, int, int], LinkTime] = {}

    def stage(self, width: int) -> "StagePrices":
        """Prices of a pipeline position of ``width`` ranks."""
        return StagePrices(self, width)

    def of(self, name: str, size_bytes: int, ranks: int, stride: int, width: int, first: int = 0) -> LinkTime:
        """Of a collective or transfer of all groups of the position that begins with rank ``first``."""
        if ranks * stride <= self._host and self._host % (ranks * stride) == 0:
            width = min(width, self._host)  # groups inside a host meet no others
        key = (name, size_bytes, ranks, stride, width, first)
        if key not in self._known:
            self._known[key] = self._alone(_communication(*key))
        return self._known[key]

    def first_of_boundary(self, src: int, dst: int, width: int) -> int:
        """First rank of a position whose boundary to the next is like that of two, inside a host or not."""
        begins = self._cluster.hosts[::width]
        alike = np.flatnonzero((begins[:-1] == begins[1:]) == (begins[src] == begins[dst]))
        return width * int(alike[0]) if len(alike) else 0

    def _alone(self, what: Communication) -> LinkTime:
        """Of a communication that has the fabric for itself."""
        flow = together(aggregate(what, self._cluster, self._choices, self._processors))
        each = flow.weights / self._cluster.fabric.bandwidths[flow.link]  # seconds for a byte
        slowest = max(1 / flow.own_bandwidth, float(each.max(initial=0.0)))
        loads = np.zeros(int(self._kinds.max(initial=0)) + 1)
        np.maximum.at(loads, self._kinds[flow.link], each / slowest)
        return LinkTime(flow.chain_ps / PS_PER_S, flow.num_bytes * slowest, tuple(loads.tolist()))


def _communication(name: str, size_bytes: int, ranks: int, stride: int, width: int, first: int) -> Communication:
    """Of all groups of ``ranks`` ranks, ``stride`` apart, that a position of ``width`` ranks has."""
    block = np.arange(ranks)[None, :] * stride + np.arange(stride)[:, None]
    if name == "transfer" or stride >= width:  # groups that reach over positions
        groups = np.arange(ranks)[None, :] * stride + np.arange(width)[:, None]
    else:
        starts = np.arange(0, width, ranks * stride)
        groups = (starts[:, None, None] + block[None]).reshape(-1, ranks)
    groups = groups + first
    return Transfer(groups, size_bytes) if name == "transfer" else Collective(name, groups, size_bytes, 1)


class StagePrices:
    """``training.step_hosts.StepPrices`` for one width of a pipeline position."""

    def __init__(self, prices: Prices, width: int) -> None:
        self._prices, self._width = prices, width
        self._known: dict[tuple[str, int, int, int], LinkTime] = {}
        self._firsts: dict[tuple[int, int], int] = {}

    def of_group(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> LinkTime:
        """See the protocol; ``share`` is the library's to know."""
        if ranks == 1 or size_bytes == 0:
            return NO_TIME
        key = (name, size_bytes, ranks, stride)
        if key not in self._known:
            self._known[key] = self._prices.of(*key, self._width)
        return self._known[key]

    def of_boundary(self, size_bytes: int, src: int, dst: int, width: int) -> LinkTime:
        """See the protocol."""
        if (src, dst) not in self._firsts:
            self._firsts[src, dst] = self._prices.first_of_boundary(src, dst, width)
        return self._prices.of("transfer", size_bytes, 2, width, width, self._firsts[src, dst])


class Free:
    """Where communication takes no time."""

    def of_group(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> LinkTime:
        """None."""
        return NO_TIME

    def of_boundary(self, size_bytes: int, src: int, dst: int, width: int) -> LinkTime:
        """None."""
        return NO_TIME
