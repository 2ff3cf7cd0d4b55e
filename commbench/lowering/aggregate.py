# SPDX-License-Identifier: Apache-2.0
"""Collective detail: a communication as one aggregate flow, made from the messages that its library chose.

All transfers of a collective advance together. In a step that sends B_l bytes over link l of bandwidth C_l, the last
byte has passed after D = max_l B_l / C_l at the earliest; before that come the latency of the longest route, the
messages that one processor must handle, and what is added up. Over all steps,

    chain = sum of (latency + messages + additions)        time without the network: the delay before the flow
    alone = sum of D                                       time of the flow if nothing else is on the fabric

The flow carries b = the sum over steps of the mean message, so its rate is that of one transfer, and on link l its
weight is (bytes over l in all steps) / b: the number of transfers that cross l at a time, on average. A link of its own
of bandwidth b / alone keeps it from being faster than its steps allow, since their bottlenecks need not coincide.

What this leaves out is what makes it an estimate: steps do not overlap, all flows of a step end together, and ranks
do not drift apart.

Each group of a communication is such a flow. Groups that advance together are one: the sum of their weights on every
link, and the slowest of their chains and own links. That is exact where the groups are in symmetric positions, which
:mod:`commbench.lowering.symmetry` decides; elsewhere it holds all groups at the pace of the slowest.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from commbench.arrays import FloatArray, IntArray
from commbench.cluster import Cluster
from commbench.collectives.traffic import Traffic
from commbench.engine.setting import Processors
from commbench.errors import InputError
from commbench.libraries.base import Layout, Timing
from commbench.lowering.choose import Choices
from commbench.network.maxmin import WEIGHT_UNIT
from commbench.program.operations import Communication, Transfer
from commbench.routing.routes import route_latencies_ps
from commbench.units import PS_PER_S

__all__ = ["AggregateFlow", "GroupFlows", "aggregate", "group_flows", "layouts_of", "together", "weights_below"]

_DENSE = 8
"""(Group, link) pairs for each that a step loads, up to which sums are kept for every pair: quicker than sorting."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupFlows:
    """The groups of a communication as flows; the first arrays have one entry per group, the others one per (group,
    link).

    Attributes:
        chain_ps: delay before the flow.
        num_bytes: what each group's flow carries, at the rate of one transfer.
        own_bandwidth: bytes/s that it cannot exceed.
        transfers: how many transfers it stands for.
        group, link: pairs, sorted. weights: of the group's flow on the link, multiples of WEIGHT_UNIT.
        loads: bytes over the link.
    """

    chain_ps: IntArray
    num_bytes: IntArray
    own_bandwidth: FloatArray
    transfers: IntArray
    group: IntArray
    link: IntArray
    weights: FloatArray
    loads: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class AggregateFlow:
    """All groups of a communication as one flow; as :class:`GroupFlows`, summed over groups."""

    chain_ps: int
    num_bytes: int
    own_bandwidth: float
    transfers: int
    link: IntArray
    weights: FloatArray
    loads: FloatArray


def aggregate(what: Communication, cluster: Cluster, choices: Choices, processors: Processors) -> GroupFlows:
    """The groups of a communication, as the library has them go on this cluster.

    Raises:
        InputError: the library has no such collective or cannot serve a group, or switches that add take part.
    """
    parts = []
    numbers, layouts = layouts_of(what.groups, cluster)
    for number, layout in enumerate(layouts):
        rows = np.flatnonzero(numbers == number)
        traffic, timing = _asked(what, layout, choices)
        flows = group_flows(what.groups[rows], traffic, cluster, processors)
        parts.append((rows, flows if timing is None else _timed(flows, timing, cluster)))
    return parts[0][1] if len(parts) == 1 else _merged(parts)


def _asked(what: Communication, layout: Layout, choices: Choices) -> tuple[tuple[Traffic, ...], Timing | None]:
    """The messages of a communication for ranks that sit so, and how long the library says they take."""
    if isinstance(what, Transfer):
        return (_one_message(what.num_bytes),), choices.transfer(what.num_bytes, layout)
    chosen = choices.of(what, layout)
    if chosen.num_switches:
        raise InputError(f"algorithm {chosen.choice.name}: switches that add need --detail transfer")
    return chosen.traffic, chosen.choice.timing


def _timed(flows: GroupFlows, timing: Timing, cluster: Cluster) -> GroupFlows:
    """Flows as long as a library's model says; they load links as their messages do.

    The model knows hosts and their NICs: in health these never hold it back, whatever the messages would load them
    with, and a link that has lost half its bandwidth makes a flow that filled it twice as long.
    """
    fabric, carries = cluster.fabric, float(flows.num_bytes[0])
    wire_s = max(timing.wire_s, 1 / PS_PER_S)
    loads = flows.loads * timing.share
    known = (fabric.node_hosts[fabric.src] >= 0) | (fabric.node_hosts[fabric.dst] >= 0)
    held = np.where(known[flows.link], np.minimum(loads, fabric.bandwidths[flows.link] * wire_s), loads)
    return replace(
        flows,
        chain_ps=np.full_like(flows.chain_ps, round(timing.delay_s * PS_PER_S)),
        own_bandwidth=np.full_like(flows.own_bandwidth, carries / wire_s),
        weights=weights_below(held / carries),
        loads=loads,
    )


def _one_message(num_bytes: int) -> Traffic:
    """From the first member of each group to the second."""
    zero, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    return Traffic(1, zero, one, zero, np.array([float(num_bytes)]), np.array([False]))


def layouts_of(groups: IntArray, cluster: Cluster) -> tuple[IntArray, list[Layout]]:
    """How groups of ranks sit: the number of every group's layout, and the layouts, each once."""
    hosts = cluster.hosts[groups]
    order = np.argsort(hosts, axis=1, kind="stable")
    ascending = np.take_along_axis(hosts, order, axis=1)
    begins = np.diff(ascending, axis=1, prepend=-1) != 0
    number_by_size = np.cumsum(begins, axis=1) - 1  # of the host, hosts in ascending order
    first_rank = np.where(begins, order, len(hosts[0]))  # the sort is stable: a run begins with its first rank
    rank_of_host = np.full((len(hosts), int(begins.sum(axis=1).max())), hosts.shape[1], dtype=np.int64)
    np.minimum.at(rank_of_host, (np.arange(len(hosts))[:, None], number_by_size), first_rank)
    by_first_rank = np.argsort(np.argsort(rank_of_host, axis=1), axis=1)
    shape = np.empty_like(hosts)
    np.put_along_axis(shape, order, np.take_along_axis(by_first_rank, number_by_size, axis=1), axis=1)
    if cluster.has_direct_links:
        own = [Layout(tuple(row), cluster.ways_of(ranks)) for row, ranks in zip(shape.tolist(), groups, strict=True)]
        each = list(dict.fromkeys(own))
        return np.array([each.index(layout) for layout in own], dtype=np.int64), each
    if len(groups) == 1:  # to sort one row of a large world takes seconds
        return np.zeros(1, dtype=np.int64), [Layout(tuple(shape[0].tolist()))]
    found, numbers = np.unique(shape, axis=0, return_inverse=True)
    return numbers.ravel().astype(np.int64), [Layout(tuple(row)) for row in found.tolist()]


def _merged(parts: list[tuple[IntArray, GroupFlows]]) -> GroupFlows:
    """Groups of several layouts, in the order of the groups."""
    rows = np.concatenate([rows for rows, _ in parts])
    place = np.argsort(rows)
    joined = {one.name: np.concatenate([getattr(flows, one.name) for _, flows in parts]) for one in fields(GroupFlows)}
    for name in ("chain_ps", "num_bytes", "own_bandwidth", "transfers"):
        joined[name] = joined[name][place]
    joined["group"] = np.concatenate([own[flows.group] for own, flows in parts])
    order = np.lexsort((joined["link"], joined["group"]))
    for name in ("group", "link", "weights", "loads"):
        joined[name] = joined[name][order]
    return GroupFlows(**joined)


def group_flows(groups: IntArray, steps: Iterable[Traffic], cluster: Cluster, processors: Processors) -> GroupFlows:
    """Groups of ranks that all send the same messages, step by step, between members 0 and up."""
    fabric, count, num_links = cluster.fabric, len(groups), len(cluster.fabric.bandwidths)
    placed, sums = cluster.placed, _Sums(count, num_links)
    chain_ps, alone_s, carried, transfers = np.zeros(count), np.zeros(count), 0.0, 0
    for step in steps:
        src, dst = groups[:, step.src], groups[:, step.dst]
        channel = np.broadcast_to(step.channel, src.shape)
        first, links = cluster.router.routes(placed[src.ravel()], placed[dst.ravel()], channel.ravel())
        of_group = np.repeat(np.arange(count), src.shape[1])
        hops = np.diff(first)
        num_bytes = np.repeat(np.tile(step.num_bytes, count), hops)
        key, load = sums.add(np.repeat(of_group, hops), links, num_bytes, step.times)
        slowest = np.zeros(count)
        np.maximum.at(slowest, key // num_links, load / fabric.bandwidths[key % num_links])
        latency_ps = np.zeros(count)
        np.maximum.at(latency_ps, of_group, route_latencies_ps(fabric, first, links))
        adds = np.tile(np.where(step.adds, step.num_bytes, 0.0), count)
        busy_ps = _processing_ps(src, dst, adds, cluster, processors)
        chain_ps += step.times * (latency_ps + busy_ps)
        alone_s += step.times * slowest
        carried += step.times * float(step.num_bytes.mean())
        transfers += step.times * len(step.src)
    key, loads = sums.total()
    carries = max(round(carried), 1)
    own = np.divide(carries, alone_s, out=np.full(count, np.inf), where=alone_s > 0)
    return GroupFlows(
        chain_ps=np.floor(chain_ps + 0.5).astype(np.int64),
        num_bytes=np.full(count, carries, dtype=np.int64),
        own_bandwidth=own,
        transfers=np.full(count, transfers, dtype=np.int64),
        group=key // num_links,
        link=key % num_links,
        weights=weights_below(loads / carries),
        loads=loads,
    )


class _Sums:
    """Bytes by (group, link), a pair's key being group x links + link; step by step, and in all."""

    def __init__(self, count: int, num_links: int) -> None:
        self._size, self._num_links = count * num_links, num_links
        self._dense: FloatArray | None = None
        self._keys: list[IntArray] = [np.empty(0, np.int64)]
        self._loads: list[FloatArray] = [np.empty(0)]

    def add(
        self, group: IntArray, link: npt.NDArray[np.int32], num_bytes: FloatArray, times: int
    ) -> tuple[IntArray, FloatArray]:
        """A step that happens so many times; returns its own keys and their bytes."""
        keys = group * self._num_links + link
        if self._dense is None and len(self._keys) == 1 and self._size <= _DENSE * len(keys):
            self._dense = np.zeros(self._size)
        if self._dense is not None:
            whole = _sums(keys, num_bytes, self._size)
            self._dense += times * whole
            key: IntArray = np.flatnonzero(whole)
            return key, whole[key]
        key, at = np.unique(keys, return_inverse=True)
        load = _sums(at, num_bytes, len(key))
        self._keys.append(key)
        self._loads.append(times * load)
        return key, load

    def total(self) -> tuple[IntArray, FloatArray]:
        """Keys, ascending, and the bytes of all steps."""
        if self._dense is not None:
            key = np.flatnonzero(self._dense)
            return key, self._dense[key]
        key, at = np.unique(np.concatenate(self._keys), return_inverse=True)
        return key, _sums(at, np.concatenate(self._loads), len(key))


def weights_below(shares: FloatArray) -> FloatArray:
    """Weights that the solver takes, rounded down, so that a flow alone is held back by nothing but its own link."""
    weights: FloatArray = np.maximum(np.floor(shares / WEIGHT_UNIT), 1.0) * WEIGHT_UNIT
    return weights


def _processing_ps(
    src: IntArray, dst: IntArray, adds: FloatArray, cluster: Cluster, processors: Processors
) -> FloatArray:
    """Per group, the time of its busiest processor for the messages of a step, and of the rank that adds most."""
    count, num_ranks, fabric = len(src), len(cluster.placed), cluster.fabric
    row = np.arange(count)[:, None]

    def most(of: IntArray, amounts: FloatArray | None) -> FloatArray:
        """Per group, the largest sum of amounts (or number) of one pool or rank."""
        key, at = np.unique((row * num_ranks + of).ravel(), return_inverse=True)
        found = np.zeros(count)
        np.maximum.at(found, key // num_ranks, np.bincount(at, weights=amounts).astype(float))
        return found

    busy = np.zeros(count)
    if processors.overhead_ps:
        pools = np.arange(num_ranks) if processors.pools is None else np.array(processors.pools)
        handled = most(pools[src], None) + most(pools[dst], None)
        busy += np.ceil(handled / processors.pool_size) * processors.overhead_ps
    if fabric.costs.reduction_ps_per_byte:
        busy += most(dst, adds) * fabric.costs.reduction_ps_per_byte
    return busy


def together(groups: GroupFlows) -> AggregateFlow:
    """All groups of a communication as one flow, which carries as much as the first of them."""
    link, at = np.unique(groups.link, return_inverse=True)
    carries = int(groups.num_bytes[0])
    scale = groups.num_bytes / carries  # of a group's rate to the flow's
    return AggregateFlow(
        chain_ps=int(groups.chain_ps.max()),
        num_bytes=carries,
        own_bandwidth=float((groups.own_bandwidth / scale).min()),
        transfers=int(groups.transfers.sum()),
        link=link,
        weights=_sums(at, weights_below(groups.weights * scale[groups.group]), len(link)),
        loads=_sums(at, groups.loads, len(link)),
    )


def _sums(of: IntArray, amounts: FloatArray, size: int) -> FloatArray:
    """Sum of the amounts of each."""
    return np.bincount(of, weights=amounts, minlength=size).astype(np.float64, copy=False)
