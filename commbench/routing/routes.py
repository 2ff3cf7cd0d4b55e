# SPDX-License-Identifier: Apache-2.0
"""What every router offers, whatever its fabric is made of: routes of many flows at once, as numbers of links."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from commbench.errors import RoutingError
from commbench.routing.policies import Policy
from commbench.topology.model import EndpointCosts, Topology
from commbench.topology.tree import Tree

__all__ = [
    "Fabric",
    "Flows",
    "Links",
    "Routes",
    "Rows",
    "as_flows",
    "make_router",
    "once_each",
    "route_latencies_ps",
    "row_starts",
]

Rows = NDArray[np.int64]
Links = NDArray[np.int32]


def make_router(fabric: Topology | Tree, policy: str | None = None, seed: int = 0) -> "Routes":
    """The router for this fabric; ``policy`` None takes the fabric's own, ``seed`` is that of the hash of ECMP.

    Raises:
        RoutingError: the policy is unknown.
    """
    if isinstance(fabric, Tree):
        from commbench.routing.tree_router import TreeRouter

        return TreeRouter(fabric, policy, seed)
    from commbench.routing.router import Router

    return Router(fabric, policy, seed)


class Fabric(Protocol):
    """The facts that routes refer to; a Topology and a Tree have them both."""

    @property
    def name(self) -> str:
        """As users call it."""

    @property
    def num_ranks(self) -> int:
        """Endpoints."""

    @property
    def costs(self) -> EndpointCosts:
        """What a rank itself costs."""

    @property
    def bandwidths(self) -> NDArray[np.float64]:
        """Bytes/s of every link by its number."""

    @property
    def latencies_ps(self) -> NDArray[np.int64]:
        """Picoseconds of every link by its number."""


class Routes(Protocol):
    """A router: of a Topology (:class:`~commbench.routing.router.Router`) or of a Tree (TreeRouter)."""

    @property
    def policy(self) -> Policy:
        """How it chooses."""

    @property
    def seed(self) -> int:
        """Of the hash of ECMP."""

    @property
    def fabric(self) -> Fabric:
        """What the links belong to."""

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> tuple[Rows, Links]:
        """Routes of many flows.

        Args:
            src: rank numbers of the fabric, one per flow.
            dst: the same; a rank reaches itself over no link.
            channel: one per flow or one for all.

        Returns:
            ``first`` (flows + 1) and ``links``: flow i takes ``links[first[i]:first[i + 1]]``, in order.

        Raises:
            RoutingError: no route, or a rank that the fabric does not have.
        """


@dataclass(frozen=True, slots=True)
class Flows:
    """What routes are asked for: three columns of one length."""

    src: Rows
    dst: Rows
    channel: Rows

    def take(self, rows: Rows) -> "Flows":
        """Some of them."""
        return Flows(self.src[rows], self.dst[rows], self.channel[rows])

    def lists(self) -> tuple[list[int], list[int], list[int]]:
        """The columns as Python numbers."""
        return self.src.tolist(), self.dst.tolist(), self.channel.tolist()


def as_flows(fabric: Fabric, src: ArrayLike, dst: ArrayLike, channel: ArrayLike) -> Flows:
    """Three columns of one length; what is given once goes for all.

    Raises:
        RoutingError: a rank that the fabric does not have.
    """
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.int64)) for x in (src, dst, channel)))
    for ranks in columns[:2]:
        wrong = ranks[(ranks < 0) | (ranks >= fabric.num_ranks)]
        if len(wrong):
            raise RoutingError(f"topology {fabric.name}: rank {wrong[0]} is not one of 0 to {fabric.num_ranks - 1}")
    return Flows(*columns)


def row_starts(lengths: Rows) -> Rows:
    """Where each row begins in rows of these lengths laid end to end, and where the last one ends."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def once_each(flows: Flows, find: Callable[[Flows], tuple[Rows, Links]]) -> tuple[Rows, Links]:
    """What ``find`` gives for ``flows``, asked only once for flows that are alike."""
    num_ranks = 1 + max(flows.src.max(initial=0), flows.dst.max(initial=0))
    key = (flows.channel * num_ranks + flows.src) * num_ranks + flows.dst
    _, at, back = np.unique(key, return_index=True, return_inverse=True)
    first, links = find(flows.take(at))
    lengths = np.diff(first)[back]
    starts = row_starts(lengths)
    return starts, links[np.repeat(first[:-1][back] - starts[:-1], lengths) + np.arange(starts[-1])]


def route_latencies_ps(fabric: Fabric, first: Rows, links: Links) -> Rows:
    """Sum of the latencies along each route, picoseconds."""
    total = row_starts(fabric.latencies_ps[links])
    return total[first[1:]] - total[first[:-1]]
