# SPDX-License-Identifier: Apache-2.0
"""What communication of a step takes when nothing else is on the links: who can say so, and what hosts say of it, as
the constants of their links have it (``workload.step_costs``).
"""

from dataclasses import dataclass, replace
from typing import Protocol

from commbench.collectives.spec import get_collective
from commbench.training.link_time import NO_TIME, LinkTime
from commbench.workload.step_costs import LinkCosts, nvlink_kind

__all__ = ["StepHosts", "StepPrices", "shared_nics"]


class StepPrices(Protocol):
    """What communication takes, of groups that stand alike."""

    def of_group(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> LinkTime:
        """Of a collective over ``ranks`` ranks that stand ``stride`` apart; ``share``: that it reaches of what others
        do.
        """
        ...

    def of_boundary(self, size_bytes: int, src: int, dst: int, width: int) -> LinkTime:
        """Of a transfer from each rank of a pipeline position to that of another, of ``width`` ranks each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHosts:
    """Hosts, as far as collectives of a step see them.

    Attributes:
        gpus: of a host. inside: bytes/s that a GPU sends to the others of its host. between: bytes/s that a host sends,
            all its NICs together. links_inside, links_between: what collectives reach of these.
        shared_nics: NICs of a host, where several GPUs share each (:func:`shared_nics`); 0: where they do not.
    """

    gpus: int
    inside: float
    between: float
    links_inside: LinkCosts
    links_between: LinkCosts
    shared_nics: int = 0

    def here(self, ranks: int, stride: int) -> int:
        """Of ranks that stand ``stride`` apart, those on a host."""
        return min(ranks, max(1, self.gpus // stride))

    def of_group(self, name: str, size_bytes: int, ranks: int, stride: int, share: float = 1.0) -> LinkTime:
        """See :class:`StepPrices`."""
        return self.collective(name, size_bytes, ranks, self.here(ranks, stride), share)

    def of_boundary(self, size_bytes: int, src: int, dst: int, width: int) -> LinkTime:
        """See :class:`StepPrices`."""
        return self.transfer(size_bytes, near=src * width // self.gpus == dst * width // self.gpus)

    def collective(self, name: str, size_bytes: int, ranks: int, here: int, share: float = 1.0) -> LinkTime:
        """Of a collective over ``ranks`` ranks, ``here`` of them on a host, each GPU of which is in one; ``share``:
        that it reaches of what others do. A ring leaves a host once, by all that its ranks there can send; in an
        all-to-all each rank sends by itself what is for other hosts.
        """
        found = NO_TIME
        near = far = size_bytes * get_collective(name).busbw_factor(ranks)
        inside, between = self.inside, self.between * here / self.gpus
        if name == "all-to-all":
            near, far = (size_bytes * others / ranks for others in (here - 1, ranks - here))
            between /= here
        if here > 1:
            found = _link_time(self.links_inside, near, inside * share, here)
        if ranks > here:
            found = max(found, _link_time(self._leaving(here), far, between * share, -(-ranks // here)), key=_total)
        if not found.wire_s:
            return found
        alone = (near / inside if here > 1 else 0.0, far / between if ranks > here else 0.0)
        return replace(found, loads=tuple(one / found.wire_s for one in alone))

    def _leaving(self, here: int) -> LinkCosts:
        """Links between hosts for groups of so many ranks on each."""
        links = self.links_between
        apart = 1 < here <= self.shared_nics  # no two ranks beside one NIC
        return replace(links, share=links.far_nics) if apart and links.far_nics < links.share else links

    def transfer(self, size_bytes: int, *, near: bool) -> LinkTime:
        """Of a transfer to a rank of the same host, or not, each GPU of the host sending one."""
        links = self.links_inside if near else self.links_between
        rate = self.inside if near else self.between / self.gpus
        loads = (links.transfer, 0.0) if near else (0.0, links.transfer)
        return LinkTime(links.latency_s, size_bytes / (rate * links.transfer), loads)


def shared_nics(nics: int, gpus: int, inside: float) -> int:
    """What :class:`StepHosts` has of a host with so many NICs and GPUs, each of which sends ``inside`` bytes/s there.

    A ring leaves a host by the NIC by which it came. Up to Ampere NCCL's search lets the last GPU reach that over PCIe
    and sockets, and tries NICs in order: where all GPUs of a group are beside different ones, the host's groups meet at
    one, as vTrain's steps with 4 NICs for 8 GPUs have it (docs/training-accuracy.md). Steps on hosts with a NIC for
    each GPU lose nothing; from Hopper on the search may not go that way.
    """
    return nics if nics < gpus and nvlink_kind(inside) == "nvlink" else 0


def _link_time(links: LinkCosts, moved_bytes: float, rate: float, parties: int) -> LinkTime:
    whole = links.seconds(moved_bytes, rate, (parties - 1).bit_length())
    wire = moved_bytes / (links.share * rate)
    return LinkTime(whole - wire, wire)


def _total(one: LinkTime) -> float:
    return one.total_s
