# SPDX-License-Identifier: Apache-2.0
"""Pipelines in a lab: the machine is calibrated there first, then the pipeline runs, then its twin on the lab's links.

Two numbers of the transport are fitted, to gloo's own all-reduce alone on the same hosts. Nothing is fitted to a
pipeline. Every activation and gradient is then simulated with its bytes, headers and acknowledgements on the lab's
links, where transfers share as they do there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from commbench.calibrate.transport import fit_transport
from commbench.cluster import Cluster
from commbench.libraries.gloo import GLOO_TCP, GlooLibrary
from commbench.network.transport import Transport
from commbench.results.pipeline_records import PipelineMeasured
from commbench.results.records import Measured
from commbench.routing.policies import get_policy
from commbench.topology.fabric import Fabric
from commbench.units import seconds
from commbench.validate.lab_predict import lab_network, predict
from commbench.validate.lab_runs import routes_seen

if TYPE_CHECKING:
    from commbench.emulate.testbed import Testbed
    from commbench.live.job import PipelineJob
    from commbench.live.observe import Observer

__all__ = [
    "FIT_SIZES",
    "MAX_ERROR",
    "PipelineNetwork",
    "calibrate_lab",
    "facts_of",
    "measure_in_lab",
    "pipeline_network",
]

MAX_ERROR = 0.05
"""Part of the measured length of a step by which its twin's may differ."""

T = TypeVar("T")

FIT_SIZES = (2**12, 2**15, 2**18)
"""Of the all-reduces that the fit sees: bytes. The smallest is all latency; those of larger ones hide."""

_COLLECTIVE = "all-reduce"
_ITERS, _WARMUP = 5, 1
_HEADERS = 52  # IPv4 20 (RFC 791) and TCP 32 with timestamps (RFC 9293, RFC 7323), which an MTU holds too


@dataclass(frozen=True, slots=True, eq=False)
class PipelineNetwork:
    """The network of a pipeline in a lab; see ``validate.pipeline.CounterpartNetwork``.

    Attributes:
        lab: its links, and the ranks on it. library: what messages go over.
        seen: the ways that the kernel's hash chose, {} where tables say it all.
    """

    lab: Cluster
    library: GlooLibrary
    seen: Mapping[str, str]

    def cluster(self, num_ranks: int) -> Cluster:
        """See ``validate.pipeline.CounterpartNetwork``."""
        return self.lab

    def describe(self) -> Mapping[str, Any]:
        """What the transport was fitted to be."""
        assert self.library.connections is not None
        transport = self.library.connections.transport
        return {
            "kind": "lab",
            "transport": transport.name,
            "segment_bytes": transport.segment_bytes,
            "latency_s": seconds(transport.latency_ps),
            "overhead_s": seconds(transport.overhead_ps),
            "routes": dict(self.seen),
        }


def facts_of(lab: "Testbed", hosts: Sequence[int], capacity_bytes_per_s: int | None) -> dict[str, Any]:
    """What the records of a lab say of it, with one job on the hosts of these ranks; see ``Testbed.describe``."""
    return lab.describe() | {
        "jobs": [list(hosts)],
        "job": 0,
        "hosts": list(hosts),
        "background": [],
        "faults": [],
        "channels": 1,
        "group": 1,
        "rate_mbit": lab.plan.host_rate * 8e-6,
        "urgent_ranks": lab.realtime,
        "capacity_bytes_per_s": capacity_bytes_per_s,
    }


def calibrate_lab(lab: "Testbed", hosts: Sequence[int], *, out: Path, run: str, facts: Mapping[str, Any]) -> Transport:
    """Measure gloo's own all-reduce alone on the hosts of these ranks, and fit the transport to it.

    Args:
        lab: that is made. hosts: ranks of the topology.
        out: journal that the records are appended to. run: their identifier.
        facts: as those of the lab's other jobs.

    Raises:
        RunError: a rank died, hung or failed. CheckFailedError: a value was wrong.
    """
    from commbench.collectives.spec import get_collective
    from commbench.emulate.jobs import EmulatedJob, run_jobs
    from commbench.live.observe import Observer
    from commbench.live.plan import Plan, rounded_sizes

    plan = Plan(
        collective=_COLLECTIVE,
        ranks=len(hosts),
        sizes_bytes=rounded_sizes(get_collective(_COLLECTIVE), len(hosts), FIT_SIZES, 4),
        out=out,
        run=run,
        backend="gloo",
        iters=_ITERS,
        warmup=_WARMUP,
        facts=facts,
    )
    (records,), seen = _watched(lab, lambda: run_jobs(lab, [EmulatedJob(plan, tuple(hosts), Observer())]))
    points = [record for record in records if isinstance(record, Measured)]
    known = replace(GLOO_TCP, segment_bytes=lab.plan.mtu - _HEADERS)
    topology = lab.plan.topology

    def predict_s(point: Measured, tried: Transport) -> float:
        return predict(_with_routes(point, seen), tried, topology).time_s

    return fit_transport(known, points, predict_s)


def measure_in_lab(
    lab: "Testbed", job: "PipelineJob", hosts: Sequence[int], observer: "Observer"
) -> tuple[list[PipelineMeasured], Mapping[str, str]]:
    """Run a pipeline with its ranks on the hosts of these ranks of the topology.

    Returns:
        The records, and the ways that the kernel's hash chose ({} where tables say it all).

    Raises:
        RunError: a rank died, hung or failed; names the rank and the pass.
    """
    from commbench.emulate.jobs import EmulatedJob, run_jobs

    (records,), seen = _watched(lab, lambda: run_jobs(lab, [EmulatedJob(job, tuple(hosts), observer)]))
    return [record for record in records if isinstance(record, PipelineMeasured)], seen


def pipeline_network(
    measured: PipelineMeasured,
    transport: Transport,
    topology: Fabric | None = None,
    seen: Mapping[str, str] | None = None,
) -> PipelineNetwork:
    """The network of a pipeline that was measured in a lab.

    Args:
        measured: in a lab. transport: as fitted there.
        topology: of the lab, with its rates; None takes the named one at the rate that the record tells.
        seen: the ways that the kernel's hash chose.
    """
    lab = measured.environment["emulated"] | {"routes": seen or {}}
    environment = {**measured.environment, "emulated": lab}
    cluster, connections = lab_network(environment, lab["hosts"], transport, topology)
    return PipelineNetwork(cluster, GlooLibrary(connections=connections), seen or {})


def _watched(lab: "Testbed", work: Callable[[], T]) -> tuple[T, Mapping[str, str]]:
    """What some work in a lab gives, and the ways that the kernel's hash chose for it."""
    hashed = get_policy(lab.plan.routing).hashed
    before = lab.link_counters() if hashed else []
    found = work()
    return found, routes_seen(before, lab.link_counters()) if hashed else {}


def _with_routes(record: Measured, seen: Mapping[str, str]) -> Measured:
    emulated = record.environment["emulated"] | {"routes": seen}
    return replace(record, environment={**record.environment, "emulated": emulated})
