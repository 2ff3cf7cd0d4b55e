# SPDX-License-Identifier: Apache-2.0
"""One collective of ranks that sit somewhere: its algorithm for them, its bound, and its tasks."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commbench.collectives.algorithm import Algorithm, Request
from commbench.collectives.memory import require_rows
from commbench.collectives.registry import build, get_algorithm, rounds_of
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Schedule
from commbench.collectives.spec import get_collective
from commbench.errors import InputError
from commbench.network.bounds import lower_bound_s
from commbench.program.expand import expand_rounds, expand_schedule
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.routing.routes import Routes, make_router
from commbench.sim.bounded import ROW_BYTES, require_bounded
from commbench.sim.engines import Run
from commbench.sim.placing import ranks_per_host_of, shared_leaves
from commbench.topology.model import Topology
from commbench.topology.rings import direct_ways
from commbench.topology.tree import Tree

__all__ = ["Job", "form_of", "group_of", "job_of", "lower_bound_of", "seats_of", "tasks_of"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A collective of ranks that sit somewhere."""

    form: Rounds | Schedule
    slices: int
    num_elements: int
    element_bytes: int
    fabric: Topology | Tree
    placed: IntArray
    router: Routes

    @property
    def size_bytes(self) -> int:
        """As the record states it: of all-to-all-v that of one rank's row."""
        rows = len(self.placed) if get_collective(self.form.collective).rows else 1
        return self.num_elements * self.element_bytes // rows

    @property
    def num_switches(self) -> int:
        """Switches that take part."""
        return self.form.num_switches if isinstance(self.form, Schedule) else 0


def form_of(
    fabric: Topology | Tree,
    placed: IntArray,
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
    if entry.one_host and isinstance(fabric, Topology) and _hosts(fabric, placed) > 1:
        raise InputError(f"algorithm {entry.name} needs all {request.num_ranks} ranks on one host of {fabric.name}")
    if entry.one_leaf:
        _require_one_leaf(entry.name, fabric, placed)
    return form, request.slices


def job_of(router: Routes, placed: IntArray, form: Rounds | Schedule, slices: int, request: Request) -> Job:
    """The form of an algorithm on its endpoints; on a graph where switches add, for only it has them by name."""
    fabric = router.fabric
    assert request.num_elements is not None
    assert isinstance(fabric, Topology | Tree)
    if isinstance(fabric, Tree) and isinstance(form, Schedule) and form.num_switches:
        fabric = fabric.topology()  # only a graph has its switches by name
        router = make_router(fabric, router.policy.name, router.seed)
    return Job(
        form=form,
        slices=slices,
        num_elements=request.num_elements,
        element_bytes=request.element_bytes,
        fabric=fabric,
        placed=placed,
        router=router,
    )


def seats_of(fabric: Topology | Tree, placed: IntArray) -> tuple[tuple[int, ...] | None, tuple[tuple[int, ...], ...]]:
    """Host of every rank, and the ways along direct links, as Request has them."""
    if isinstance(fabric, Tree):
        return None, ()
    names = [fabric.ranks[i] for i in placed]
    return tuple(fabric.host_of(name) for name in names), direct_ways(fabric, names)


def _hosts(topology: Topology, placed: IntArray) -> int:
    return len({topology.host_of(topology.ranks[i]) for i in placed})


def _require_one_leaf(name: str, fabric: Topology | Tree, placed: IntArray) -> None:
    """Refuse ranks that do not hang on one leaf, or that need none to reach each other."""
    what = f"algorithm {name} adds in one InfiniBand leaf that joins the hosts"
    if isinstance(fabric, Topology) and _hosts(fabric, placed) == 1:
        raise InputError(f"{what}; all {len(placed)} ranks are on one host of {fabric.name}: nvls adds in its NVSwitch")
    if isinstance(fabric, Tree):
        one = len(np.unique(placed // fabric.tiers[0].below)) == 1
    else:
        one = bool(shared_leaves(fabric, [fabric.ranks[i] for i in placed]))
    if not one:
        raise InputError(
            f"{what}; no leaf of {fabric.name} joins all {len(placed)} ranks, and trees of such leaves are not modelled"
        )


def group_of(fabric: Topology | Tree, placed: IntArray, whole_hosts: bool) -> int:
    """Of the fullest host: where they differ, hierarchical algorithms ask for whole hosts of this size."""
    if not whole_hosts:
        return ranks_per_host_of(fabric, placed)
    if isinstance(fabric, Tree):
        return 1
    return max(Counter(fabric.by_name[name].host for name in fabric.ranks).values())


def lower_bound_of(job: Job, root: int) -> float:
    """Seconds that no schedule of this collective can beat here; see network.bounds."""
    return lower_bound_s(
        _bounded_as(job.form), job.fabric, job.placed, job.size_bytes, root=root, in_switch=job.num_switches > 0
    )


def _bounded_as(form: Rounds | Schedule) -> str:
    """All-to-all-v of equal pieces is bounded as all-to-all; with weights some pairs may have nothing to send."""
    equal = form.collective == "all-to-all-v" and not (isinstance(form, Schedule) and form.weights)
    return "all-to-all" if equal else form.collective


def tasks_of(job: Job) -> FlatProgram | LoopProgram:
    """What the engine runs: one round of the job's rounds where that will do, else every task."""
    reduction, schedule = job.fabric.costs.reduction_ps_per_byte, job.form
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
