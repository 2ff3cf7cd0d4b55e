# SPDX-License-Identifier: Apache-2.0
"""The patterns of a program as flows on a fabric: every group coupled (sim.coupled), and all of them as one.

Each group of a pattern is a coupled flow with a chain, bytes, a link of its own and weights on the links it loads.
Groups that advance together are one flow: the sum of their weights on every link, and the slowest of their chains and
own links. That is exact where the groups are in symmetric positions, which :func:`asymmetric` decides as sim.fold does,
by colour refinement; elsewhere it holds all groups at the pace of the slowest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from commbench.network.maxmin import WEIGHT_UNIT
from commbench.program.ir import Pattern
from commbench.routing.routes import Fabric, Routes, route_latencies_ps
from commbench.sim.setting import Processors

__all__ = ["Flow", "Groups", "asymmetric", "couple_groups", "together"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Colours = npt.NDArray[np.uint64]


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
    # Rounded down, so that a flow alone is held back by nothing but its own link.
    weights = np.maximum(np.floor(loads / carries / WEIGHT_UNIT), 1.0) * WEIGHT_UNIT
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


def asymmetric(flows: Sequence[Groups], bandwidths: FloatArray, marks: IntArray | None = None) -> list[int]:
    """Numbers of the patterns whose groups are not all in the same position, so that one flow is not exact for them.

    Colour refinement (sim.fold): flows of one colour must load links of the same colours with the same weights, links
    of one colour must be loaded so by flows of the same colours.

    Args:
        flows: the groups of every pattern.
        bandwidths: of all links, bytes/s.
        marks: a number for every link that tells it from others, where something happens to it; None for none.
    """
    sizes = [len(one.chain_ps) for one in flows]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    pattern = np.repeat(np.arange(len(flows)), sizes)
    flow = np.concatenate([one.group + at for one, at in zip(flows, start, strict=False)])
    link = np.concatenate([one.link for one in flows])
    weight = np.concatenate([one.weights for one in flows]).view(np.uint64)
    own = np.concatenate([one.own_bandwidth for one in flows]).view(np.uint64)
    chain = np.concatenate([one.chain_ps for one in flows]).view(np.uint64)
    of_flow = _mix(_mix(pattern.astype(np.uint64)) ^ _mix(own + _mix(chain)))
    of_link = _mix(np.ascontiguousarray(bandwidths).view(np.uint64))
    if marks is not None:
        of_link = _mix(of_link + _mix(marks.astype(np.uint64)))
    count = 0
    while (now := len(np.unique(of_flow)) + len(np.unique(of_link))) > count:
        count = now
        of_link, of_flow = (
            _mix(of_link + _gather(link, of_flow[flow], weight, len(of_link))),
            _mix(of_flow + _gather(flow, of_link[link], weight, len(of_flow))),
        )
    return [
        number
        for number, (first, last) in enumerate(pairwise(start.tolist()))
        if len(np.unique(of_flow[first:last])) > 1
    ]


def _gather(row: IntArray, colour: Colours, weight: Colours, size: int) -> Colours:
    """Per row the sum (modulo 2**64) of what stands beside it; the order of the entries does not matter."""
    total = np.zeros(size, dtype=np.uint64)
    np.add.at(total, row, _mix(colour ^ _mix(weight)))
    return total


def _mix(x: Colours) -> Colours:
    """The output function of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Colours = x ^ (x >> np.uint64(31))
    return mixed
