# SPDX-License-Identifier: Apache-2.0
"""One collective of ranks that sit somewhere: its algorithm for them, its bound, and its tasks."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.cluster import Cluster
from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.registry import build, get_algorithm, rounds_of
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import get_collective
from commbench.collectives.work import require_rows
from commbench.errors import InputError
from commbench.network.bounds import lower_bound_s
from commbench.program.expand import expand_rounds, expand_schedule
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.sim.bounded import ROW_BYTES, require_bounded
from commbench.sim.engines import Run

__all__ = ["Job", "form_of", "lower_bound_of", "request_on", "tasks_of"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A collective of ranks that sit somewhere."""

    form: Rounds | Schedule
    slices: int
    num_elements: int
    element_bytes: int
    cluster: Cluster

    @property
    def size_bytes(self) -> int:
        """As the record states it: of all-to-all-v that of one rank's row."""
        rows = self.cluster.num_ranks if get_collective(self.form.collective).rows else 1
        return self.num_elements * self.element_bytes // rows

    @property
    def num_switches(self) -> int:
        """Switches that take part."""
        return self.form.num_switches if isinstance(self.form, Schedule) else 0


def form_of(
    cluster: Cluster,
    algorithm: str | Algorithm | Schedule,
    collective: str,
    request: Request,
    slices: int | None,
    how: Run,
) -> tuple[Rounds | Schedule, int]:
    """The algorithm for this request, as rounds if it has them, and its slices."""
    if isinstance(algorithm, Schedule):
        if algorithm.num_ranks != request.num_ranks:
            raise InputError(
                f"schedule {algorithm.algorithm} is for {algorithm.num_ranks} ranks, not {request.num_ranks}"
            )
        return algorithm, 1
    entry = get_algorithm(collective, algorithm) if isinstance(algorithm, str) else algorithm
    request = replace(request, slices=entry.default_slices if slices is None else slices)
    require_bounded(entry, request, how)
    form = rounds_of(entry, request) or build(entry, request)
    if entry.one_host and len(np.unique(cluster.hosts)) > 1:
        fabric = cluster.fabric.name
        raise InputError(f"algorithm {entry.name} needs all {request.num_ranks} ranks on one host of {fabric}")
    return form, request.slices


def request_on(cluster: Cluster, request: Request, group: int | None) -> Request:
    """The request with what it is told of places: ``group``, or where that is None what the cluster has."""
    if group is not None:
        return replace(request, group=group)
    several = cluster.fabric.num_ranks > cluster.fabric.num_hosts
    hosts = tuple(cluster.hosts.tolist()) if several else None
    return replace(request, group=cluster.ranks_per_host, hosts=hosts, ways=cluster.direct_ways)


def lower_bound_of(job: Job, root: int) -> float:
    """Seconds that no schedule of this collective can beat here; see network.bounds."""
    form, cluster, in_switch = _bounded_as(job.form), job.cluster, job.num_switches > 0
    return lower_bound_s(form, cluster.fabric, cluster.placed, job.size_bytes, root=root, in_switch=in_switch)


def _bounded_as(form: Rounds | Schedule) -> str:
    """All-to-all-v of equal pieces is bounded as all-to-all; with weights some pairs may have nothing to send."""
    equal = form.collective == "all-to-all-v" and not (isinstance(form, Schedule) and form.weights)
    return "all-to-all" if equal else form.collective


def tasks_of(job: Job) -> FlatProgram | LoopProgram:
    """What the engine runs: one round of the job's rounds where that will do, else every task."""
    reduction, schedule = job.cluster.fabric.costs.reduction_ps_per_byte, job.form
    if isinstance(schedule, Rounds):
        loop = expand_rounds(
            schedule,
            num_elements=job.num_elements,
            element_bytes=job.element_bytes,
            reduction_ps_per_byte=reduction,
        )
        if loop is not None:
            return loop
        rows = 2 * schedule.num_rounds * len(schedule.sender)
        what = f"{schedule.num_chunks:,} chunks of {job.num_elements:,} elements"
        require_rows(what, rows, ROW_BYTES["transfer"], "give a larger size, or --detail collective")
        schedule = schedule.schedule()
    return expand_schedule(
        schedule, num_elements=job.num_elements, element_bytes=job.element_bytes, reduction_ps_per_byte=reduction
    )
