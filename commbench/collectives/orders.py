# SPDX-License-Identifier: Apache-2.0
"""Which rank plays which role on each channel, so that channels leave a host by different ranks and use other links.

A ring in rank order enters every host at its first rank and leaves it at the last: channels alike would all use one
NIC of each host. So the ranks of every host take turns: on channel c each is moved on by c places (NCCL's rings on
rails, 2.30.7 src/graph/search.cc). Hosts of unequal size turn each by their own number. Where the ranks of a host are
linked directly, they stand on channel c in the order of the c-th of :attr:`Request.ways` instead.
"""

from collections import defaultdict

import numpy as np

from commbench.arrays import IntArray
from commbench.collectives.algorithm import Request

__all__ = ["around_root", "orders_of", "with_root"]


def orders_of(request: Request, lanes: int = 1, *, ring: bool = False) -> IntArray:
    """Shape (channels, ranks): the rank that has the role of rank p on each channel of the request.

    Every row is a permutation that keeps each host's roles on that host, unless rings go by host; the first one,
    without ways, is the ranks themselves. Ranks on one host without ways stay as they are: behind a switch all orders
    are alike.

    Args:
        request: what is asked for.
        lanes: channels that the algorithm itself has; the turn is by as many places, because those of one order may
            leave the host by neighbours (the two directions of a ring do).
        ring: whether data go round a ring. Every other host then takes its ways backwards, so that a channel enters
            it at the rank of the same rail as it left the one before.
    """
    n, channels = request.num_ranks, np.arange(request.channels)[:, None]
    host = np.arange(n) // request.group if request.hosts is None else np.array(request.hosts)
    by_host = np.argsort(host, kind="stable")
    _, first, size = np.unique(host[by_host], return_index=True, return_counts=True)
    orders = np.tile(np.arange(n, dtype=np.int64), (request.channels, 1))
    if len(size) > 1:
        start, length = np.repeat(first, size), np.repeat(size, size)
        orders[:, by_host] = by_host[start + (np.arange(n) - start + channels * lanes) % length]
    ways: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for way in request.ways:
        ways[int(host[way[0]])].append(way)
    for turn, (number, found) in enumerate(ways.items()):
        places = np.flatnonzero(host == number)
        for channel in range(request.channels):
            way = found[channel % len(found)]
            orders[channel, places] = way[::-1] if ring and turn % 2 else way
    return orders[:, by_host] if ring and request.by_host else orders


def with_root(orders: IntArray, request: Request) -> IntArray:
    """The same orders with the root in its own role; the others of its host close up around it."""
    root = request.root
    host = np.arange(request.num_ranks) // request.group if request.hosts is None else np.array(request.hosts)
    places = np.flatnonzero((host == host[root]) & (np.arange(request.num_ranks) != root))
    fixed = orders.copy()
    for row in fixed:
        members = row[host == host[root]]
        row[places], row[root] = members[members != root], root
    return fixed


def around_root(orders: IntArray, root: int) -> IntArray:
    """The same rings, told from the root on: what follows it in the ring follows it in the order."""
    n = orders.shape[1]
    shift = (np.argmax(orders == root, axis=1)[:, None] + np.arange(n) - root) % n
    return np.take_along_axis(orders, shift, axis=1)
