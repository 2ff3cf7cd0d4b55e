# SPDX-License-Identifier: Apache-2.0
"""Routes of many flows at once: what they are asked by, and rows of numbers laid end to end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from commbench.errors import RoutingError
from commbench.routing.policies import Policy
from commbench.topology.fabric import Fabric

__all__ = [
    "Flows",
    "Links",
    "Routes",
    "Rows",
    "as_flows",
    "once_each",
    "route_latencies_ps",
    "row_starts",
    "rows_at",
    "rows_in_turn",
]

Rows = NDArray[np.int64]
Links = NDArray[np.int32]
Ragged = tuple[Rows, Links]
"""``first`` and ``values``: row i is ``values[first[i]:first[i + 1]]``."""
N = TypeVar("N", bound=np.integer)


class Routes(Protocol):
    """What gives routes: :class:`~commbench.routing.router.Router`, or the paths that a lab saw."""

    @property
    def policy(self) -> Policy:
        """How it chooses."""

    @property
    def seed(self) -> int:
        """Of the hash of ECMP."""

    @property
    def fabric(self) -> Fabric:
        """What the links belong to."""

    def routes(self, src: ArrayLike, dst: ArrayLike, channel: ArrayLike = 0) -> Ragged:
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


def row_starts(lengths: NDArray[np.integer]) -> Rows:
    """Where each row begins in rows of these lengths laid end to end, and where the last one ends."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def rows_at(rows: tuple[Rows, NDArray[N]], at: Rows) -> tuple[Rows, NDArray[N]]:
    """The rows of these numbers, in this order."""
    first, values = rows
    lengths = np.diff(first)[at]
    starts = row_starts(lengths)
    return starts, values[np.repeat(first[at] - starts[:-1], lengths) + np.arange(starts[-1])]


def rows_in_turn(pieces: Sequence[Ragged]) -> Ragged:
    """Row i of the first piece, then row i of the second ... as one row, for all i."""
    lengths = [np.diff(first) for first, _ in pieces]
    starts = row_starts(np.sum(lengths, axis=0, dtype=np.int64))
    joined = np.empty(starts[-1], np.int32)
    at = starts[:-1].copy()
    for (first, values), length in zip(pieces, lengths, strict=True):
        joined[np.repeat(at - first[:-1], length) + np.arange(len(values))] = values
        at += length
    return starts, joined


def once_each(flows: Flows, find: Callable[[Flows], Ragged]) -> Ragged:
    """What ``find`` gives for ``flows``, asked only once for flows that are alike."""
    num_ranks = 1 + max(flows.src.max(initial=0), flows.dst.max(initial=0))
    key = (flows.channel * num_ranks + flows.src) * num_ranks + flows.dst
    _, at, back = np.unique(key, return_index=True, return_inverse=True)
    return rows_at(find(flows.take(at)), back)


def route_latencies_ps(fabric: Fabric, first: Rows, links: Links) -> Rows:
    """Sum of the latencies along each route, picoseconds."""
    total = row_starts(fabric.latencies_ps[links])
    return total[first[1:]] - total[first[:-1]]
