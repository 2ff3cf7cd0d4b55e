# SPDX-License-Identifier: Apache-2.0
"""The patterns of a program as flows on a fabric: every group coupled (sim.coupled), and all of them as one.

Each group of a pattern is a coupled flow with a chain, bytes, a link of its own and weights on the links it loads.
Groups that advance together are one flow: the sum of their weights on every link, and the slowest of their chains and
own links. That is exact where the groups are in symmetric positions, which sim.symmetry decides; elsewhere it holds all
groups at the pace of the slowest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.program.ir import Pattern
from commbench.routing.routes import Routes, route_latencies_ps
from commbench.sim.coupled import weights_below
from commbench.sim.setting import Processors
from commbench.topology.fabric import Fabric

__all__ = ["Flow", "Groups", "couple_groups", "together"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """A pattern's groups as flows; the first arrays have one entry per group, the others one per (group, link).

    Attributes:
        chain_ps: delay before the flow.
        num_bytes: what a group's flow carries, at the rate of one transfer; the same for all.
        own_bandwidth: bytes/s that it cannot exceed.
        group, link: pairs, sorted. weights: of the group's flow on the link, multiples of WEIGHT_UNIT.
        loads: bytes over the link.
    """

    chain_ps: IntArray
    num_bytes: int
    own_bandwidth: FloatArray
    group: IntArray
    link: IntArray
    weights: FloatArray
    loads: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """All groups of a pattern as one flow; as :class:`Groups`, summed over groups."""

    chain_ps: int
    num_bytes: int
    own_bandwidth: float
    link: IntArray
    weights: FloatArray
    loads: FloatArray


def couple_groups(pattern: Pattern, router: Routes, placed: IntArray, processors: Processors) -> Groups:
    """The groups of a pattern whose rank r sits on endpoint ``placed[r]``; see sim.coupled for the estimate."""
    fabric, groups = router.fabric, pattern.groups
    count, num_links = len(groups), len(fabric.bandwidths)
    chain_ps, alone_s, carried = np.zeros(count), np.zeros(count), 0.0
    keys: list[IntArray] = [np.empty(0, np.int64)]
    sums: list[FloatArray] = [np.empty(0)]
    for step in pattern.steps:
        src, dst = groups[:, step.src], groups[:, step.dst]
        channel = np.broadcast_to(step.channel, src.shape)
        first, links = router.routes(placed[src.ravel()], placed[dst.ravel()], channel.ravel())
        of_group = np.repeat(np.arange(count), src.shape[1])
        num_bytes = np.tile(step.num_bytes, count)
        hops = np.diff(first)
        key, at = np.unique(np.repeat(of_group, hops) * num_links + links, return_inverse=True)
        load = _sums(at, np.repeat(num_bytes, hops), len(key))
        keys.append(key)
        sums.append(step.times * load)
        slowest = np.zeros(count)
        np.maximum.at(slowest, key // num_links, load / fabric.bandwidths[key % num_links])
        latency_ps = np.zeros(count)
        np.maximum.at(latency_ps, of_group, route_latencies_ps(fabric, first, links))
        adds = np.tile(np.where(step.adds, step.num_bytes, 0.0), count)
        busy_ps = _processing_ps(src, dst, adds, len(placed), fabric, processors)
        chain_ps += step.times * (latency_ps + busy_ps)
        alone_s += step.times * slowest
        carried += step.times * float(step.num_bytes.mean())
    key, at = np.unique(np.concatenate(keys), return_inverse=True)
    loads = _sums(at, np.concatenate(sums), len(key))
    carries = max(round(carried), 1)
    weights = weights_below(loads / carries)
    own = np.divide(carries, alone_s, out=np.full(count, np.inf), where=alone_s > 0)
    return Groups(
        np.floor(chain_ps + 0.5).astype(np.int64), carries, own, key // num_links, key % num_links, weights, loads
    )


def _processing_ps(
    src: IntArray, dst: IntArray, adds: FloatArray, num_ranks: int, fabric: Fabric, processors: Processors
) -> FloatArray:
    """Per group, the time of its busiest processor for the messages of a step, and of the rank that adds most."""
    count = len(src)
    pools = np.arange(num_ranks) if processors.pools is None else np.array(processors.pools)
    row = np.arange(count)[:, None]

    def most(of: IntArray, amounts: FloatArray | None) -> FloatArray:
        """Per group, the largest sum of amounts (or number) of one pool or rank."""
        key, at = np.unique((row * num_ranks + of).ravel(), return_inverse=True)
        found = np.zeros(count)
        np.maximum.at(found, key // num_ranks, np.bincount(at, weights=amounts).astype(float))
        return found

    handled = most(pools[src], None) + most(pools[dst], None)
    messages_ps = np.ceil(handled / processors.pool_size) * processors.overhead_ps
    busy: FloatArray = messages_ps + most(dst, adds) * fabric.costs.reduction_ps_per_byte
    return busy


def together(groups: Groups) -> Flow:
    """All groups of a pattern as one flow."""
    link, at = np.unique(groups.link, return_inverse=True)
    return Flow(
        int(groups.chain_ps.max()),
        groups.num_bytes,
        float(groups.own_bandwidth.min()),
        link,
        _sums(at, groups.weights, len(link)),
        _sums(at, groups.loads, len(link)),
    )


def _sums(of: IntArray, amounts: FloatArray, size: int) -> FloatArray:
    """Sum of the amounts of each."""
    return np.bincount(of, weights=amounts, minlength=size).astype(np.float64)
