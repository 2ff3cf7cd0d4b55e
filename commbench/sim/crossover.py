# SPDX-License-Identifier: Apache-2.0
"""Which algorithm wins where: every algorithm of a collective simulated at every size and world size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from commbench.collectives.registry import get_algorithm
from commbench.collectives.summary import algorithms_of
from commbench.errors import InputError
from commbench.results.records import Record
from commbench.routing.policies import get_policy
from commbench.sim.collective import simulate
from commbench.sim.placing import place
from commbench.topology.model import Topology

__all__ = ["Crossover", "crossover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover(Record):
    """The race at one size and world size.

    Attributes:
        times_s: seconds of every algorithm that ran, the fastest first; of equal ones the first in the registry.
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
    topology: Topology,
    collective: str,
    *,
    ranks: Sequence[int],
    sizes_bytes: Sequence[int],
    algorithms: Sequence[str] | None = None,
    element_bytes: int = 4,
    routing: str | None = None,
    placement: str = "linear",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Crossover]:
    """Race algorithms against each other, each with its own default of slices.

    Args:
        topology: where. collective: which.
        ranks, sizes_bytes: the map's axes; the records come size by size in the order of the axes.
        algorithms: names to take; None takes all of the collective.
        element_bytes, routing, placement, seed: as :func:`commbench.sim.collective.simulate` has them.
        progress: called with (simulations done, all of them).

    Raises:
        InputError: an unknown name, a size or world size that fits nowhere, or no axis at all.
    """
    wanted = _wanted(collective, algorithms)
    if not (wanted and ranks and sizes_bytes):
        raise InputError(f"crossover of {collective}: no algorithms, no sizes or no world sizes to compare")
    for n in ranks:
        place(topology, n, placement, seed)
    policy = get_policy(routing or topology.routing).name
    records: list[Crossover] = []
    for number, (size, n) in enumerate(product(sizes_bytes, ranks)):
        times: dict[str, float] = {}
        skipped: dict[str, str] = {}
        bounds: list[float] = []
        for i, name in enumerate(wanted):
            try:
                done = simulate(
                    topology,
                    collective,
                    name,
                    size,
                    num_ranks=n,
                    element_bytes=element_bytes,
                    routing=routing,
                    placement=placement,
                    seed=seed,
                    keep_trace=False,
                ).record
                times[name] = done.time_s
                bounds.append(done.lower_bound_s)
            except InputError as error:
                skipped[name] = str(error)
            if progress is not None:
                progress(number * len(wanted) + i + 1, len(sizes_bytes) * len(ranks) * len(wanted))
        records.append(
            Crossover(
                collective=collective,
                topology=topology.name,
                routing=policy,
                placement=placement,
                seed=seed,
                ranks=n,
                size_bytes=size,
                times_s=dict(sorted(times.items(), key=lambda item: item[1])),
                skipped=skipped,
                lower_bound_s=min(bounds, default=0.0),
            )
        )
    return records


def _wanted(collective: str, algorithms: Sequence[str] | None) -> list[str]:
    """Proper names of the algorithms to race, each once.

    Raises:
        InputError: an unknown name.
    """
    if algorithms is None:
        return [a.name for a in algorithms_of(collective)]
    return list(dict.fromkeys(get_algorithm(collective, name).name for name in algorithms))
