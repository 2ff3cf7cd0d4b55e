# SPDX-License-Identifier: Apache-2.0
"""``commbench sim flows``: single flows on a fabric, by any network model: when each is through."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from commbench.arrays import FloatArray, IntArray
from commbench.cluster import Cluster, make_cluster
from commbench.door import Result, simulate
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.experiments.flow_file import Flow, read_flows
from commbench.libraries.ideal import Ideal
from commbench.network.models import FLUID
from commbench.program.operations import Program, ProgramBuilder
from commbench.results.flows import SimulatedFlows
from commbench.routing.routes import Links, Rows, route_latencies_ps
from commbench.sim.packets import counted_totals, deepest_queues
from commbench.topology.load import load_fabric
from commbench.units import GB, PS_PER_S, seconds

__all__ = ["PERCENTILES", "simulate_flows"]

PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
_SLOWEST = 10


def simulate_flows(
    source: str,
    topology: str,
    *,
    network: str = FLUID.name,
    routing: str | None = None,
    seed: int = 0,
    engine: str = "auto",
    table: Path | None = None,
    run: str = "",
) -> SimulatedFlows:
    """Simulate the flows of a file (:func:`commbench.experiments.flow_file.read_flows`).

    Args:
        source, topology: what and where. network, engine: see :mod:`commbench.engine.engines`.
        routing, seed: as :func:`commbench.cluster.make_cluster` has them.
        table: a CSV to write, one line per flow: src, dst, bytes, start_s, end_s, slowdown. run: of the record.

    Raises:
        InputError: a file or a rank that is not there.
    """
    flows, fabric = read_flows(source), load_fabric(topology)
    cluster = make_cluster(fabric, routing=routing, seed=seed)
    _require_ranks(source, flows, cluster.num_ranks)
    program = _program(flows, cluster)
    done = _simulated(program, cluster, network, engine)
    network = done.network  # that was taken, where it was left open
    begins_ps, ends_ps = _spans(done, len(flows))
    alone_s = _alone(flows, cluster, network, engine)
    completion_s = (ends_ps - begins_ps) / PS_PER_S
    slowdown = completion_s / alone_s
    total, last_s = sum(flow.num_bytes for flow in flows), seconds(int(ends_ps.max()))
    fluid_s: FloatArray | None = None
    fluid_last_s = None
    if network != FLUID.name:
        spans = _spans(_simulated(program, cluster, FLUID.name, engine), len(flows))
        fluid_s, fluid_last_s = (spans[1] - spans[0]) / PS_PER_S, seconds(int(spans[1].max()))
    if table is not None:
        _write(table, flows, begins_ps, ends_ps, slowdown)
    return SimulatedFlows(
        run=run,
        source=source,
        topology=fabric.name,
        routing=cluster.router.policy.name,
        network=network,
        network_why=done.why,
        engine=done.engine,
        seed=seed,
        ranks=cluster.num_ranks,
        flows=len(flows),
        bytes=total,
        time_s=last_s,
        goodput_GBps=total / last_s / GB if last_s else None,
        completion_s=_percentiles(completion_s),
        slowdown=_percentiles(slowdown),
        fluid_completion_s={} if fluid_s is None else _percentiles(fluid_s),
        fluid_time_s=fluid_last_s,
        slowest=_slowest(flows, completion_s, slowdown),
        counted=counted_totals(done.trace.counted),
        queues=deepest_queues(done.trace.counted, fabric),
        completions_s=tuple(completion_s.tolist()),
        slowdowns=tuple(slowdown.tolist()),
    )


def _slowest(flows: Sequence[Flow], completion_s: FloatArray, slowdown: FloatArray) -> tuple[Mapping[str, Any], ...]:
    """The flows with the largest slowdown, the largest first."""
    worst = np.lexsort((np.arange(len(flows)), -slowdown))[:_SLOWEST].tolist()
    return tuple(
        {
            "src": flows[i].src,
            "dst": flows[i].dst,
            "bytes": flows[i].num_bytes,
            "completion_s": float(completion_s[i]),
            "slowdown": float(slowdown[i]),
        }
        for i in worst
    )


def _require_ranks(source: str, flows: Sequence[Flow], count: int) -> None:
    for number, flow in enumerate(flows, start=1):
        for rank in (flow.src, flow.dst):
            if rank >= count:
                raise InputError(f"{source}: flow {number}: rank {rank} must be 0 to {count - 1}, as the topology has")
        if flow.src == flow.dst:
            raise InputError(f"{source}: flow {number}: rank {flow.src} sends to itself; it must be to another")


def _simulated(program: Program, cluster: Cluster, network: str, engine: str) -> Result:
    return simulate(program, cluster, Ideal(algorithms={}), Run(engine=engine, network=network))


def _program(flows: Sequence[Flow], cluster: Cluster) -> Program:
    """Per flow three operations: until it starts, the flow itself, until its sender knows."""
    back_ps = _latencies(flows, cluster)
    build = ProgramBuilder(cluster.num_ranks)
    for number, (flow, answer_ps) in enumerate(zip(flows, back_ps, strict=True)):
        after = [3 * before + 1 for before in flow.after_received] + [3 * before + 2 for before in flow.after_answered]
        waits = build.compute(flow.src, flow.start_ps, stream=f"start {number}", after=after)
        sent = build.transfer(flow.src, flow.dst, flow.num_bytes, stream=f"flow {number}", after=[waits])
        build.compute(flow.src, answer_ps, stream=f"answer {number}", after=[sent])
    return build.build()


def _routes(flows: Sequence[Flow], cluster: Cluster) -> tuple[Rows, Links]:
    src, dst = (cluster.placed[[getattr(flow, name) for flow in flows]] for name in ("src", "dst"))
    return cluster.router.routes(src, dst, np.zeros(len(flows), dtype=np.int64))


def _latencies(flows: Sequence[Flow], cluster: Cluster) -> list[int]:
    """Of the routes of the flows, ps."""
    first, links = _routes(flows, cluster)
    found: list[int] = route_latencies_ps(cluster.fabric, first, links).tolist()
    return found


def _spans(done: Result, count: int) -> tuple[IntArray, IntArray]:
    """When every flow began and ended, ps."""
    ends = done.ends_ps().reshape(count, 3)
    return ends[:, 0], ends[:, 1]


def _alone(flows: Sequence[Flow], cluster: Cluster, network: str, engine: str) -> FloatArray:
    """Seconds that every flow takes when no other is there: one after the other, those of unlike routes or sizes."""
    first, links = _routes(flows, cluster)
    fabric = cluster.fabric
    wires = np.stack([fabric.bandwidths, fabric.latencies_ps, fabric.inside_hosts], axis=1)
    kinds: dict[object, int] = {}
    chosen: list[Flow] = []
    kind_of = []
    for number, flow in enumerate(flows):
        kind = flow.num_bytes, wires[links[first[number] : first[number + 1]]].tobytes()
        if kind not in kinds:
            kinds[kind] = len(chosen)
            before = (len(chosen) - 1,) if chosen else ()
            chosen.append(Flow(flow.src, flow.dst, flow.num_bytes, after_received=before))
        kind_of.append(kinds[kind])
    begins, done = _spans(_simulated(_program(chosen, cluster), cluster, network, engine), len(chosen))
    lasts: FloatArray = (done - begins)[kind_of] / PS_PER_S
    return np.maximum(lasts, 1 / PS_PER_S)


def _percentiles(values: FloatArray) -> dict[str, float]:
    found = {name: float(np.percentile(values, share)) for name, share in PERCENTILES.items()}
    return {"mean": float(values.mean()), **found}


def _write(table: Path, flows: Iterable[Flow], begins_ps: IntArray, ends_ps: IntArray, slowdown: FloatArray) -> None:
    spans = zip(flows, (begins_ps / PS_PER_S).tolist(), (ends_ps / PS_PER_S).tolist(), slowdown.tolist(), strict=True)
    try:
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["src", "dst", "bytes", "start_s", "end_s", "slowdown"])
            writer.writerows([flow.src, flow.dst, flow.num_bytes, *span] for flow, *span in spans)
    except OSError as error:
        raise InputError(f"--out {table}: {error.strerror}") from None
