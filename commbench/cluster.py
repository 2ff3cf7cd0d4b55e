# SPDX-License-Identifier: Apache-2.0
"""Where ranks sit: a fabric, the endpoint of every rank, and a router that remembers its routes.

A :class:`Cluster` is made once for a sweep, a crossover or a plan, and passed around as one thing.
"""

import random
from dataclasses import dataclass
from functools import cached_property
from os.path import exists
from pathlib import Path

import numpy as np

from commbench.arrays import IntArray
from commbench.errors import InputError, unknown
from commbench.routing.hostfile import read_host_file
from commbench.routing.router import Router
from commbench.routing.routes import Routes
from commbench.topology.fabric import Fabric
from commbench.topology.rings import direct_ways

__all__ = ["PLACEMENTS", "Cluster", "make_cluster", "place"]

PLACEMENTS = ("linear", "random", "round-robin")


@dataclass(frozen=True, eq=False, kw_only=True)
class Cluster:
    """Ranks on a fabric.

    Attributes:
        fabric: what is connected. router: of it; routes that were asked for are remembered.
        placed: endpoint of every rank, as a number among the fabric's own ranks.
        placement: how they were placed, in words.
        one_machine: processors that all ranks share, whatever the fabric says of its hosts (an emulated one is on one
            machine); None: as it says.
        whole_hosts: whether hosts are filled as far as there are ranks, so that all that are full have as many as the
            fabric's fullest.
    """

    fabric: Fabric
    router: Routes
    placed: IntArray
    placement: str = "linear"
    one_machine: int | None = None
    whole_hosts: bool = False

    @property
    def num_ranks(self) -> int:
        """World size."""
        return len(self.placed)

    @property
    def hosts(self) -> IntArray:
        """Host of every rank."""
        return self.fabric.host_of[self.placed].astype(np.int64)

    @cached_property
    def ranks_per_host(self) -> int:
        """Of the fullest host, where ranks fill hosts: hierarchical algorithms ask for whole hosts of this size. Else
        how many ranks in a row sit on each host, 1 where that differs from host to host.
        """
        if self.whole_hosts:
            return int(np.bincount(self.fabric.host_of).max())
        ends = np.flatnonzero(np.diff(self.hosts, append=-1))
        runs = np.diff(ends, prepend=-1)
        return int(runs[0]) if np.all(runs == runs[0]) and len(runs) == len(np.unique(self.hosts)) else 1

    @cached_property
    def has_direct_links(self) -> bool:
        """Whether some endpoints are linked to each other without a switch."""
        fabric = self.fabric
        ends = np.isin(fabric.src, fabric.endpoints) & np.isin(fabric.dst, fabric.endpoints)
        return bool(ends.any())

    def ways_of(self, ranks: IntArray) -> tuple[tuple[int, ...], ...]:
        """Orders of the ranks of every host that go along its direct links and share none."""
        return direct_ways(self.fabric, self.placed[ranks]) if self.has_direct_links else ()


def make_cluster(
    fabric: Fabric,
    *,
    num_ranks: int | None = None,
    placement: str = "linear",
    ranks_per_host: int | None = None,
    routing: str | None = None,
    seed: int = 0,
) -> Cluster:
    """Put ranks on a fabric.

    Args:
        fabric: where.
        num_ranks, placement, ranks_per_host, seed: as :func:`place` has them; the seed is that of ECMP's hash, too.
        routing: policy; None takes the fabric's own.

    Raises:
        InputError: as place.
        RoutingError: the policy is unknown.
    """
    placed = place(fabric, num_ranks, placement, seed, ranks_per_host)
    whole_hosts = placement in ("linear", "random") and ranks_per_host is None
    router = Router(fabric, routing, seed)
    words = placement if ranks_per_host is None else f"{placement}, {ranks_per_host} per host"
    return Cluster(fabric=fabric, router=router, placed=placed, placement=words, whole_hosts=whole_hosts)


def place(
    fabric: Fabric, num_ranks: int | None, placement: str, seed: int, ranks_per_host: int | None = None
) -> IntArray:
    """Endpoint number of every rank.

    Args:
        fabric: where.
        num_ranks: how many; None takes as many as there are places.
        placement: "linear" takes the first endpoints in order, "random" draws with the seed, "round-robin" takes one of
            each host in turn; or the path of a host file (:mod:`commbench.routing.hostfile`).
        seed: of "random".
        ranks_per_host: so many of the first endpoints of each host are there to be taken; None: all.

    Raises:
        InputError: more ranks than places, fewer endpoints on a host, or an unknown placement.
    """
    host, within = _places(fabric)
    if ranks_per_host is not None:
        least = int(np.bincount(host).min())
        if not 1 <= ranks_per_host <= least:
            raise InputError(f"--ranks-per-host {ranks_per_host} on topology {fabric.name}: give 1 to {least}")
    places = np.flatnonzero(within < (ranks_per_host or fabric.num_ranks))
    if placement == "round-robin":
        places = places[np.lexsort((host[places], within[places]))]
    elif placement not in PLACEMENTS:
        places = np.array(_listed(fabric, placement, ranks_per_host), dtype=np.int64)
    count = len(places) if num_ranks is None else num_ranks
    if not 1 <= count <= len(places):
        there = "it has" if len(places) == fabric.num_ranks else f"with --placement {placement} there are"
        raise InputError(
            f"{count} ranks on topology {fabric.name}: {there} {len(places)} endpoints, give 1 to that many"
        )
    if placement == "random":
        return places[random.Random(seed).sample(range(len(places)), count)]
    return places[:count]


def _listed(fabric: Fabric, placement: str, ranks_per_host: int | None) -> list[int]:
    path = Path(placement)
    if not (exists(path) or len(path.parts) > 1 or path.suffix):
        raise InputError(f"placement {placement!r} {unknown(placement, PLACEMENTS)}, or a host file's path")
    return read_host_file(path, fabric, ranks_per_host)


def _places(fabric: Fabric) -> tuple[IntArray, IntArray]:
    """Host of every endpoint, and its number among the endpoints there."""
    host = np.unique(fabric.host_of, return_inverse=True)[1]
    order = np.argsort(host, kind="stable")
    first = np.searchsorted(host[order], np.arange(host.max() + 1))
    within = np.empty_like(host)
    within[order] = np.arange(len(host)) - first[host[order]]
    return host, within
