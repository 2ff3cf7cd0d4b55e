# SPDX-License-Identifier: Apache-2.0
"""Simulated collectives: from the options of ``commbench sim`` to one simulation a size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from commbench.cluster import Cluster, make_cluster
from commbench.collectives.algorithm import Request
from commbench.collectives.algorithms.load import load_any
from commbench.collectives.registry import DEFAULTS, build
from commbench.collectives.sizes import dtype_bytes, dtype_name
from commbench.collectives.spec import get_collective
from commbench.collectives.uneven import UnevenSizes
from commbench.engine.engines import Run
from commbench.experiments.collective import Sizes, sizes_of, with_weights
from commbench.experiments.collective_options import CollectiveOptions
from commbench.experiments.library_choice import library_for
from commbench.libraries.base import Library
from commbench.libraries.ideal import Ideal
from commbench.results.run_id import new_run_id
from commbench.sim.collective import Extras, Simulation, simulate_collective
from commbench.topology.fabric import Fabric
from commbench.topology.jobs import deal
from commbench.topology.load import load_fabric
from commbench.topology.summary import network_rate
from commbench.units import rate_unit

if TYPE_CHECKING:
    from commbench.lowering.scenario import Scenario

__all__ = ["CollectiveCase", "CollectiveOptions", "cluster_of", "prepare", "scenario_of"]


@dataclass(frozen=True, slots=True)
class CollectiveCase:
    """A collective that can be simulated at some sizes.

    Attributes:
        sizes_bytes: that were asked for and can be had.
        dtype: of the elements, as torch calls it. element_bytes: of one.
        unit: bytes/s and name of the unit in which the bandwidths of this fabric read well.
        modelled: whether a library with a model decides.
        fabric: where.
        members: host, number on it and device of every rank.
        run: simulates one size; takes those of ``extras`` by name, and ``progress`` and ``keep_trace`` of
            :class:`commbench.engine.engines.Run`.
    """

    sizes_bytes: tuple[int, ...]
    dtype: str
    element_bytes: int
    unit: tuple[float, str]
    modelled: bool
    fabric: Fabric
    members: Callable[[], list[tuple[str, int, str]]]
    run: Callable[..., Simulation]


def prepare(
    options: CollectiveOptions, sizes: Sequence[Sizes], tell: Callable[[str], None], run_id: str = ""
) -> CollectiveCase:
    """Load what the options name; ``tell`` hears notes. Left out, ``run_id`` is new.

    Raises:
        InputError: whatever does not fit; names option, value and rule.
    """
    fabric, element_bytes = load_fabric(options.topology), dtype_bytes(options.dtype)
    scenario = scenario_of(options.scenario, options.jitter, options.seed)
    run_id = run_id or new_run_id()
    cluster = cluster_of(options, fabric)
    world = cluster.num_ranks if options.jobs is None else max(map(len, deal(options.jobs, cluster.num_ranks)))
    found = (size for each in sizes for size in sizes_of(options.collective, world, element_bytes, each, tell))
    sizes_bytes, unit = tuple(dict.fromkeys(found)), rate_unit(network_rate(fabric))
    library = library_for(options, cluster, sizes_bytes, tell)
    if library is None:
        _tell_idle_faults(scenario, fabric, tell)
    detail = options.detail or _detail(library, scenario)
    how = Run(engine=options.engine, network=options.network, detail=detail, keep_trace=False)
    named = load_any(options.collective, options.algorithm or DEFAULTS[options.collective])
    uneven = UnevenSizes(None if options.matrix is None else Path(options.matrix), options.zipf)
    weights = uneven.weights(get_collective(options.collective).name, world)
    algorithm = with_weights(build(named, Request(num_ranks=world)), weights) if weights else named

    ideal = Ideal(
        algorithms={get_collective(options.collective).name: algorithm}, slices=options.slices,
        channels=options.channels, group=options.group, ranks_per_host=cluster.ranks_per_host,
    )  # fmt: skip

    def run(
        size_bytes: int, *, progress: Callable[[float], None] | None = None, keep_trace: bool = False, **extras: bool
    ) -> Simulation:
        return simulate_collective(
            options.collective, size_bytes, cluster, library or ideal,
            replace(how, progress=progress, keep_trace=keep_trace), element_bytes=element_bytes, root=options.root,
            jobs=options.jobs, scenario=scenario, extras=Extras(**({"links": options.links} | extras)), run_id=run_id,
        )  # fmt: skip

    modelled, dtype = library is not None, dtype_name(options.dtype)
    return CollectiveCase(sizes_bytes, dtype, element_bytes, unit, modelled, fabric, lambda: _members(cluster), run)


def cluster_of(options: CollectiveOptions, fabric: Fabric) -> Cluster:
    """Where the options place their ranks."""
    cluster = make_cluster(
        fabric,
        num_ranks=options.ranks,
        placement=options.placement,
        ranks_per_host=options.ranks_per_host,
        routing=options.routing,
        seed=options.seed,
    )
    return cluster if options.jobs is None else replace(cluster, whole_hosts=False)


def _members(cluster: Cluster) -> list[tuple[str, int, str]]:
    """Of every rank its host, the number that its endpoint has there, and the device."""
    names = (cluster.fabric.ranks[place] for place in cluster.placed.tolist())
    parts = (name.split("/") for name in names)
    return [(host, int("".join(filter(str.isdigit, end))), cluster.fabric.device or "CPU") for host, end in parts]


def _detail(library: Library | None, scenario: "Scenario | None") -> str:
    """Where none was given: a model's collectives are flows, but where single transfers meet what goes wrong."""
    flows = library is not None and (scenario is None or scenario.slower_links_alone)
    return "collective" if flows else "transfer"


def _tell_idle_faults(scenario: "Scenario | None", fabric: Fabric, tell: Callable[[str], None]) -> None:
    """That a rank is slow at what costs nothing on this fabric."""
    costs = fabric.costs
    free = not (costs.message_overhead_ps or costs.reduction_ps_per_byte)
    if scenario is not None and free and scenario.slows_ranks:
        tell(
            f"note: {scenario.origin}: slow-rank changes nothing on {fabric.name}, whose messages and additions cost "
            "nothing: give it costs"
        )


def scenario_of(file: str | None, jitter: float, seed: int) -> "Scenario | None":
    """A file of faults, jitter, or both; None if there is neither."""
    if file is None and not jitter:
        return None
    from commbench.lowering.scenario import Scenario

    if file is None:
        return Scenario(jitter=jitter, seed=seed)
    return Scenario.load(file, jitter=jitter, seed=seed)
