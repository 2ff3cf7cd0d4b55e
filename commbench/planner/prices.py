# SPDX-License-Identifier: Apache-2.0
"""What communication takes on a fabric when nothing else is on it: the simulator's own aggregate flows, each alone.

A price is asked for once for each collective, group and bracket of sizes; between the ends of a bracket (a factor of
16) time grows evenly with bytes, which is exact where a library's choice does not change inside it.
"""

import numpy as np

from commbench.cluster import Cluster
from commbench.libraries.base import Library
from commbench.lowering.aggregate import aggregate, together
from commbench.lowering.choose import Choices
from commbench.lowering.placing import processors_of
from commbench.program.operations import Collective, Communication, Transfer
from commbench.units import PS_PER_S

__all__ = ["Free", "Prices", "StagePrices"]

_BRACKET = 4  # bits


class Prices:
    """Prices of a cluster whose ranks stand in the order tp-cp-ep-dp-pp.

    Args:
        cluster: where. library: who decides how collectives go.
    """

    def __init__(self, cluster: Cluster, library: Library) -> None:
        self._cluster, self._choices = cluster, Choices(library, cluster.fabric.name)
        self._processors = processors_of(cluster.fabric, cluster.placed)
        self._host = int((cluster.hosts == cluster.hosts[0]).sum())
        self._ends: dict[tuple[str, int, int, int, int], float] = {}

    def stage(self, width: int) -> "StagePrices":
        """Prices of a pipeline position of ``width`` ranks."""
        return StagePrices(self, width)

    def leaves_host(self, ranks: int, stride: int) -> bool:
        """Whether the first group of such ranks is on several hosts; its ranks may be more than there are."""
        hosts = self._cluster.hosts
        return ranks > 1 and bool(hosts[0] != hosts[min((ranks - 1) * stride, len(hosts) - 1)])

    def seconds(self, name: str, size_bytes: int, ranks: int, stride: int, width: int) -> float:
        """Of a collective or transfer of all groups of the first position's ranks."""
        if ranks * stride <= self._host and self._host % (ranks * stride) == 0:
            width = min(width, self._host)  # groups inside a host meet no others
        place = (max(size_bytes, 1).bit_length() - 1) // _BRACKET
        low, high = 1 << _BRACKET * place, 1 << _BRACKET * (place + 1)
        at_low, at_high = (self._end(name, end, ranks, stride, width) for end in (low, high))
        return at_low + (at_high - at_low) * (size_bytes - low) / (high - low)

    def _end(self, name: str, size_bytes: int, ranks: int, stride: int, width: int) -> float:
        key = (name, size_bytes, ranks, stride, width)
        if key not in self._ends:
            self._ends[key] = self._alone(_communication(name, size_bytes, ranks, stride, width))
        return self._ends[key]

    def _alone(self, what: Communication) -> float:
        """Seconds of a communication that has the fabric for itself."""
        flow = together(aggregate(what, self._cluster, self._choices, self._processors))
        rate = float((flow.weights / self._cluster.fabric.bandwidths[flow.link]).max(initial=0.0))
        wire_s = flow.num_bytes * max(1 / flow.own_bandwidth, rate)
        return flow.chain_ps / PS_PER_S + wire_s


def _communication(name: str, size_bytes: int, ranks: int, stride: int, width: int) -> Communication:
    """Of all groups of ``ranks`` ranks, ``stride`` apart, that a position of ``width`` ranks has."""
    block = np.arange(ranks)[None, :] * stride + np.arange(stride)[:, None]
    if name == "transfer" or stride >= width:  # groups that reach over positions
        groups = np.arange(ranks)[None, :] * stride + np.arange(width)[:, None]
    else:
        starts = np.arange(0, width, ranks * stride)
        groups = (starts[:, None, None] + block[None]).reshape(-1, ranks)
    return Transfer(groups, size_bytes) if name == "transfer" else Collective(name, groups, size_bytes, 1)


class StagePrices:
    """``training.closed_form.StepPrices`` for one width of a pipeline position."""

    def __init__(self, prices: Prices, width: int) -> None:
        self._prices, self._width = prices, width
        self._known: dict[tuple[str, int, int, int], float] = {}

    def collective_s(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> float:
        """Seconds of a collective; ``share`` is a fitted model's, and not the simulator's."""
        if ranks == 1 or size_bytes == 0:
            return 0.0
        key = (name, size_bytes, ranks, stride)
        if key not in self._known:
            self._known[key] = self._prices.seconds(name, size_bytes, ranks, stride, self._width)
        return self._known[key]

    def transfer_s(self, size_bytes: int, stride: int) -> float:
        """Seconds of a transfer to the next position."""
        return self.collective_s("transfer", size_bytes, 2, stride)


    def leaves_host(self, ranks: int, stride: int) -> bool:
        """Whether a group is on several hosts."""
        return self._prices.leaves_host(ranks, stride)


class Free:
    """Where communication takes no time."""

    def collective_s(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> float:
        """0."""
        return 0.0

    def transfer_s(self, size_bytes: int, stride: int) -> float:
        """0."""
        return 0.0

    def leaves_host(self, ranks: int, stride: int) -> bool:
        """It does not matter."""
        return False
