# SPDX-License-Identifier: Apache-2.0
"""Collective detail: a collective as one coupled flow, made from its schedule's own traffic (collectives.traffic).

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
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.cluster import Cluster
from commbench.collectives.traffic import Traffic
from commbench.network.maxmin import WEIGHT_UNIT
from commbench.program.flat import COMPUTE, COUPLED, FlatProgram
from commbench.routing.routes import route_latencies_ps
from commbench.sim.placing import processors_of
from commbench.sim.setting import Paths, Processors
from commbench.topology.fabric import Fabric

__all__ = ["Coupled", "couple", "coupled_program", "weights_below"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Coupled:
    """A collective as one flow.

    Attributes:
        chain_ps: delay before it.
        num_bytes: what the flow carries, at the rate of one transfer.
        own_bandwidth: bytes/s that it cannot exceed.
        links: links that it loads. weights: how many of its transfers are on each at a time, on average.
        transfers: how many transfers it stands for.
    """

    chain_ps: int
    num_bytes: int
    own_bandwidth: float
    links: IntArray
    weights: FloatArray
    transfers: int


def couple(steps: Iterable[Traffic], cluster: Cluster) -> Coupled:
    """Add up the steps of a collective of the cluster's ranks."""
    fabric, router, placed = cluster.fabric, cluster.router, cluster.placed
    processors = processors_of(fabric, placed)
    total = np.zeros(len(fabric.bandwidths))
    chain_ps = alone_s = carried = 0.0
    transfers = 0
    for step in steps:
        first, links = router.routes(placed[step.src], placed[step.dst], step.channel)
        load = np.bincount(links, weights=np.repeat(step.num_bytes, np.diff(first)), minlength=len(total))
        total += step.times * load
        latency_ps = int(route_latencies_ps(fabric, first, links).max())
        chain_ps += step.times * (latency_ps + _processing_ps(step, fabric, len(placed), processors))
        alone_s += step.times * float((load / fabric.bandwidths).max())
        carried += step.times * float(step.num_bytes.mean())
        transfers += step.times * len(step.src)
    num_bytes = max(round(carried), 1)
    loaded = np.flatnonzero(total)
    weights = weights_below(total[loaded] / num_bytes)
    own = num_bytes / alone_s if alone_s else np.inf
    return Coupled(round(chain_ps), num_bytes, own, loaded, weights, transfers)


def weights_below(shares: FloatArray) -> FloatArray:
    """Weights that the solver takes, rounded down, so that a flow alone is held back by nothing but its own link."""
    weights: FloatArray = np.maximum(np.floor(shares / WEIGHT_UNIT), 1.0) * WEIGHT_UNIT
    return weights


def _processing_ps(step: Traffic, fabric: Fabric, num_ranks: int, processors: Processors) -> float:
    """Time of the busiest processor for the messages of a step, and of the rank that adds most."""
    pools = np.arange(num_ranks) if processors.pools is None else np.array(processors.pools)
    handled = np.bincount(pools[step.src]).max() + np.bincount(pools[step.dst]).max()
    added = np.bincount(step.dst, weights=np.where(step.adds, step.num_bytes, 0.0)).max()
    messages_ps = -(-int(handled) // processors.pool_size) * processors.overhead_ps
    return float(messages_ps + added * fabric.costs.reduction_ps_per_byte)


def coupled_program(flow: Coupled, fabric: Fabric, num_ranks: int) -> tuple[FlatProgram, Paths]:
    """The two tasks, delay and flow, and the fabric's links with the flow's own behind them."""
    own = len(fabric.bandwidths)
    none = np.full(2, -1, dtype=np.int64)
    program = FlatProgram(
        num_ranks=num_ranks,
        kind=np.array([COMPUTE, COUPLED]),
        rank=np.zeros(2, dtype=np.int64),
        peer=none,
        num_bytes=np.array([0, flow.num_bytes]),
        duration_ps=np.array([flow.chain_ps, 0]),
        channel=none,
        step=none,
        operation=np.zeros(2, dtype=np.int64),
        first=np.array([0, 0, 1]),
        needs=np.array([0]),
    )
    paths = Paths(
        bandwidths=np.append(fabric.bandwidths, flow.own_bandwidth),
        first=np.array([0, len(flow.links) + 1]),
        links=np.append(flow.links, own),
        weights=np.append(flow.weights, 1.0),
        latency_ps=np.zeros(1, dtype=np.int64),
        route_of=np.array([-1, 0]),
    )
    return program, paths
