# SPDX-License-Identifier: Apache-2.0
"""Simulated collectives: from the options of ``commbench sim`` to one simulation a size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commbench.cluster import Cluster, make_cluster
from commbench.collectives.algorithms.load import load_any
from commbench.collectives.registry import DEFAULTS
from commbench.collectives.sizes import dtype_bytes, dtype_name
from commbench.errors import InputError
from commbench.experiments.collective import Sizes, sizes_of
from commbench.experiments.own_points import read_own
from commbench.libraries.nccl.library import NcclLibrary, machine_of
from commbench.libraries.nccl.machine import VERSIONS, NcclMachine
from commbench.lowering.scenario import Scenario
from commbench.results.run_id import new_run_id
from commbench.sim.collective import Simulation, simulate_collective
from commbench.topology.fabric import Fabric
from commbench.topology.faults import SlowRank
from commbench.topology.jobs import deal
from commbench.topology.load import load_fabric
from commbench.topology.summary import network_rate
from commbench.units import rate_unit

__all__ = [
    "LIBRARIES",
    "CollectiveCase",
    "CollectiveOptions",
    "cluster_of",
    "library_for",
    "machine_for",
    "prepare",
    "scenario_of",
]

LIBRARIES = ("ideal", "nccl", "rccl")
"""That ``--library`` takes; all but the first have a model of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveOptions:
    """As ``commbench sim --help`` has them, but for the sizes; ``collective`` as it is spelt there.

    ``detail`` is "transfer" if left out, "collective" with a library that has a model.
    """

    collective: str
    topology: str
    algorithm: str | None = None
    ranks: int | None = None
    slices: int | None = None
    channels: int = 1
    root: int = 0
    group: int | None = None
    dtype: str = "float32"
    routing: str | None = None
    placement: str = "linear"
    ranks_per_host: int | None = None
    jobs: str | None = None
    seed: int = 0
    detail: str | None = None
    library: str = "ideal"
    nccl_version: str | None = None
    launch_mode: str | None = None
    nvls: str | None = None
    constants: str | None = None
    engine: str = "compiled"
    network: str = "fluid"
    scenario: str | None = None
    jitter: float = 0.0
    links: bool = False


_PASSED_ON = (
    *("slices", "channels", "root", "group", "routing", "placement", "ranks_per_host", "jobs", "seed"),
    *("engine", "network", "links"),
)


@dataclass(frozen=True, slots=True)
class CollectiveCase:
    """A collective that can be simulated at some sizes.

    Attributes:
        sizes_bytes: that were asked for and can be had.
        dtype: of the elements, as torch calls it. element_bytes: of one.
        unit: bytes/s and name of the unit in which the bandwidths of this fabric read well.
        members: host, number on it and device of every rank.
        run: simulates one size; takes ``hints`` and ``progress`` of
            :func:`commbench.sim.collective.simulate_collective`.
    """

    sizes_bytes: tuple[int, ...]
    dtype: str
    element_bytes: int
    unit: tuple[float, str]
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
    given: dict[str, Any] = {name: getattr(options, name) for name in _PASSED_ON}
    given |= {"num_ranks": options.ranks, "element_bytes": element_bytes, "keep_trace": False}
    given |= {"scenario": _scenario(options, fabric, tell), "run_id": run_id or new_run_id()}
    cluster = cluster_of(options, fabric)
    library = library_for(options, cluster)
    if library is not None and options.launch_mode == "graph":
        tell("note: no floor of --launch-mode graph is known; that of --launch-mode process is assumed")
    given |= {"library": library, "detail": options.detail or ("transfer" if library is None else "collective")}
    world = cluster.num_ranks if options.jobs is None else max(map(len, deal(options.jobs, cluster.num_ranks)))
    found = (size for each in sizes for size in sizes_of(options.collective, world, element_bytes, each, tell))
    algorithm = load_any(options.collective, options.algorithm or DEFAULTS[options.collective])

    def run(size_bytes: int, **how: Any) -> Simulation:
        return simulate_collective(
            fabric, options.collective, algorithm, size_bytes, cluster=cluster, **given, **how
        )

    sizes_bytes, unit = tuple(dict.fromkeys(found)), rate_unit(network_rate(fabric))
    return CollectiveCase(sizes_bytes, dtype_name(options.dtype), element_bytes, unit, lambda: _members(cluster), run)


def cluster_of(options: CollectiveOptions, fabric: Fabric) -> Cluster:
    """Where the options place their ranks."""
    return make_cluster(
        fabric,
        num_ranks=options.ranks,
        placement=options.placement,
        ranks_per_host=options.ranks_per_host,
        routing=options.routing,
        seed=options.seed,
    )


def _members(cluster: Cluster) -> list[tuple[str, int, str]]:
    """Of every rank its host, the number that its endpoint has there, and the device."""
    names = (cluster.fabric.ranks[place] for place in cluster.placed.tolist())
    parts = (name.split("/") for name in names)
    return [(host, int("".join(filter(str.isdigit, end))), cluster.fabric.device or "CPU") for host, end in parts]


def library_for(options: CollectiveOptions, cluster: Cluster) -> NcclLibrary | None:
    """That was asked for; None: ideal, which does what the other options say.

    Raises:
        InputError: an unknown library, or options of one beside another.
    """
    modelled = {"nccl_version": "--nccl-version", "launch_mode": "--launch-mode", "nvls": "--nvls"}
    modelled |= {"constants": "--constants"}
    chosen = {"algorithm": "-a", "slices": "--slices", "group": "--group"}
    if options.library == LIBRARIES[0]:
        for name, flag in modelled.items():
            if getattr(options, name) is not None:
                raise InputError(f"{flag} goes with --library nccl, not with {options.library}")
        return None
    if options.library not in LIBRARIES:
        raise InputError(f"--library {options.library!r} is unknown; known: {', '.join(LIBRARIES)}")
    for name, flag in chosen.items():
        if getattr(options, name) is not None:
            raise InputError(f"{flag} goes with --library ideal: {options.library} chooses by itself")
    if options.channels != 1:
        raise InputError(f"--channels goes with --library ideal: {options.library} chooses by itself")
    machine = machine_for(options, cluster)
    own = None if options.constants is None else read_own(Path(options.constants), machine.library)
    return NcclLibrary(machine=machine, dtype=options.dtype, own=own)


def machine_for(options: CollectiveOptions, cluster: Cluster) -> NcclMachine:
    """The cluster as the model of its library sees it.

    Raises:
        InputError: another library's, or a machine that the model does not know.
    """
    if options.nvls not in (None, "on", "off"):
        raise InputError(f"--nvls {options.nvls!r}: give on or off")
    machine = machine_of(
        cluster,
        version=options.nccl_version or VERSIONS[-1],
        launch=options.launch_mode or "process",
        nvls=None if options.nvls is None else options.nvls == "on",
    )
    if machine.library != options.library:
        place = cluster.fabric.name
        raise InputError(f"--library {options.library} on topology {place}: its GPUs take {machine.library}")
    return machine


def _scenario(options: CollectiveOptions, fabric: Fabric, tell: Callable[[str], None]) -> Scenario | None:
    """What disturbs the run. Told: a rank is slow at what costs nothing on this fabric."""
    scenario = scenario_of(options.scenario, options.jitter, options.seed)
    costs = fabric.costs
    free = not (costs.message_overhead_ps or costs.reduction_ps_per_byte)
    if scenario is not None and free and any(isinstance(fault, SlowRank) for fault in scenario.faults):
        tell(
            f"note: {scenario.origin}: slow-rank changes nothing on {fabric.name}, whose messages and additions cost "
            "nothing: give it costs"
        )
    return scenario


def scenario_of(file: str | None, jitter: float, seed: int) -> Scenario | None:
    """A file of faults, jitter, or both; None if there is neither."""
    if file is None:
        return Scenario(jitter=jitter, seed=seed) if jitter else None
    return Scenario.load(file, jitter=jitter, seed=seed)
