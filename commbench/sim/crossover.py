# SPDX-License-Identifier: Apache-2.0
"""Which algorithm wins where: every algorithm of a collective simulated at every size and world size.

Each is given the channels and slices that suit it best among stated candidates: first the channels with its own
slices, then the slices with the best of these channels. So it is not every pair that is tried, but as many simulations
as there are candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import ClassVar

from commbench.cluster import Cluster, make_cluster
from commbench.collectives.registry import get_algorithm
from commbench.collectives.summary import algorithms_of
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.libraries.ideal import Ideal
from commbench.libraries.nccl.machine import switches_add
from commbench.results.records import Record, Simulated
from commbench.routing.router import Router
from commbench.sim.collective import simulate_collective
from commbench.topology.fabric import Fabric
from commbench.topology.model import NodeKind

__all__ = ["CHANNELS", "LEAST_PIECE", "SLICES", "Crossover", "crossover"]

CHANNELS = (1, 2, 4, 8)
"""Candidates, up to as many as a host has ranks or NICs."""
SLICES = (4, 16)
"""Candidates beside an algorithm's own."""
LEAST_PIECE = 2**12
"""Bytes: sizes are not cut into channels and slices smaller than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover(Record):
    """The race at one size and world size.

    Attributes:
        times_s: seconds of every algorithm that ran, the fastest first; of equal ones the first in the registry.
        settings: algorithm -> ``channels`` and ``slices`` that it took this time with.
        skipped: algorithm -> why it did not run.
        lower_bound_s: the smallest of their lower bounds (network.bounds); 0 if none ran.
        size_bytes: as asked for; a simulation rounds it down to whole elements.
    """

    kind: ClassVar[str] = "crossover"

    collective: str
    topology: str
    routing: str
    placement: str
    seed: int
    ranks: int
    size_bytes: int
    times_s: Mapping[str, float]
    skipped: Mapping[str, str]
    lower_bound_s: float
    settings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def label(self, name: str) -> str:
        """An algorithm with its channels and slices where it has more than one of them: "ring c8", "tree s16"."""
        setting = self.settings.get(name, {})
        counts = [f"{key[0]}{setting[key]}" for key in ("channels", "slices") if setting.get(key, 1) > 1]
        return " ".join([name, *counts])

    @property
    def winner(self) -> str | None:
        """The fastest algorithm; None if none could run."""
        return next(iter(self.times_s), None)

    @property
    def margin(self) -> float | None:
        """How much longer the second takes: its time / the winner's - 1; None if there is no second."""
        if len(self.times_s) < 2:
            return None
        first, second = list(self.times_s.values())[:2]
        return second / first - 1 if first > 0 else 0.0

    def derived(self) -> dict[str, object]:
        """Winner, its time, the second and the margin."""
        names = [*self.times_s, None, None]
        times = [*self.times_s.values(), None]
        return {"winner": names[0], "time_s": times[0], "runner_up": names[1], "margin": self.margin}


def crossover(
    topology: Fabric,
    collective: str,
    *,
    ranks: Sequence[int],
    sizes_bytes: Sequence[int],
    algorithms: Sequence[str] | None = None,
    channels: Sequence[int] | None = None,
    slices: Sequence[int] = SLICES,
    element_bytes: int = 4,
    routing: str | None = None,
    placement: str = "linear",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Crossover]:
    """Race algorithms against each other, each with the channels and slices that suit it best.

    Args:
        topology: where. collective: which.
        ranks, sizes_bytes: the map's axes; the records come size by size in the order of the axes.
        algorithms: names to take; None takes all of the collective.
        channels, slices: candidates; slices beside the algorithm's own. None takes CHANNELS.
        element_bytes, routing, placement, seed: as :func:`commbench.sim.collective.simulate_collective` has them.
        progress: called with (simulations done, all of them).

    Raises:
        InputError: an unknown name, a size or world size that fits nowhere, or no axis at all.
    """
    wanted = _wanted(collective, algorithms)
    if not (wanted and ranks and sizes_bytes):
        raise InputError(f"crossover of {collective}: no algorithms, no sizes or no world sizes to compare")
    router = Router(topology, routing, seed)  # one for all, for the sake of its routes
    clusters = {
        n: replace(make_cluster(topology, num_ranks=n, placement=placement, seed=seed), router=router) for n in ranks
    }
    tries = _channels(topology) if channels is None else channels
    records: list[Crossover] = []
    for number, (size, n) in enumerate(product(sizes_bytes, ranks)):
        found: dict[str, Simulated] = {}
        settings: dict[str, dict[str, int]] = {}
        skipped: dict[str, str] = {}
        for i, name in enumerate(wanted):
            run = partial(_simulated, clusters[n], collective, name, size, element_bytes)
            try:
                found[name], settings[name] = _fastest(run, size, tries, slices)
            except InputError as error:
                skipped[name] = str(error)
            if progress is not None:
                progress(number * len(wanted) + i + 1, len(sizes_bytes) * len(ranks) * len(wanted))
        times = {name: record.time_s for name, record in found.items()}
        records.append(
            Crossover(
                collective=collective,
                topology=topology.name,
                routing=router.policy.name,
                placement=placement,
                seed=seed,
                ranks=n,
                size_bytes=size,
                times_s=dict(sorted(times.items(), key=lambda item: item[1])),
                skipped=skipped,
                lower_bound_s=min((record.lower_bound_s for record in found.values()), default=0.0),
                settings=settings,
            )
        )
    return records


def _channels(topology: Fabric) -> list[int]:
    """The candidates that may find another way out of a host, or inside it."""
    nics = len(topology.of_kinds(NodeKind.NIC))
    most = max(topology.num_ranks, nics) // topology.num_hosts
    return [count for count in CHANNELS if count <= max(1, most)]


def _simulated(
    cluster: Cluster,
    collective: str,
    name: str,
    size: int,
    element_bytes: int,
    channels: int,
    slices: int | None,
) -> Simulated:
    if name == "nvls" and switches_add(cluster.fabric.device or "") is False:
        raise InputError(f"NVSwitches do not add for {cluster.fabric.device}: NVLS came with Hopper")
    library = Ideal(
        algorithms={collective: name}, slices=slices, channels=channels, ranks_per_host=cluster.ranks_per_host
    )
    how = Run(keep_trace=False)
    return simulate_collective(collective, size, cluster, library, how, element_bytes=element_bytes).record


def _fastest(
    run: Callable[[int, int | None], Simulated], size: int, channels: Sequence[int], slices: Sequence[int]
) -> tuple[Simulated, dict[str, int]]:
    """The fastest simulation of one algorithm, and its channels and slices. Of equal ones the one with fewer.

    Raises:
        InputError: it serves none; that of the first.
    """
    best = run(channels[0], None)
    setting = {"channels": channels[0], "slices": best.slices}
    more = [(count, None) for count in channels[1:]]
    for count, cut in (*more, *((None, each) for each in slices if each != best.slices)):
        tried = (count or setting["channels"], cut)
        if size < LEAST_PIECE * tried[0] * (cut or best.slices):
            continue
        try:
            record = run(*tried)
        except InputError:  # it has no channels, or no slices
            continue
        if record.time_s < best.time_s:
            best, setting = record, {"channels": tried[0], "slices": record.slices}
    return best, setting


def _wanted(collective: str, algorithms: Sequence[str] | None) -> list[str]:
    """Proper names of the algorithms to race, each once.

    Raises:
        InputError: an unknown name.
    """
    if algorithms is None:
        return [a.name for a in algorithms_of(collective)]
    return list(dict.fromkeys(get_algorithm(collective, name).name for name in algorithms))
