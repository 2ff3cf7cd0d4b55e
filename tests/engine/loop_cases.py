# SPDX-License-Identifier: Apache-2.0
"""Ring algorithms as loops on small and on shipped fabrics, for what saves work on them."""

from functools import cache

from commbench.cluster import place
from commbench.collectives.algorithm import Request
from commbench.collectives.registry import get_algorithm
from commbench.engine.setting import Processors, Setting
from commbench.lowering.expand import expand_rounds
from commbench.lowering.placing import paths_of, processors_of, triples_of
from commbench.routing.router import Router
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric
from tests.engine.engine_cases import LoopCase


@cache
def fabric(name: str) -> Fabric:
    """A shipped topology that is a graph."""
    topology = load_fabric(name)
    assert isinstance(topology, Fabric)
    return topology


def ring(
    topology: Fabric,
    num_ranks: int,
    *,
    collective: str = "all-reduce",
    algorithm: str = "ring",
    channels: int = 1,
    group: int = 1,
    chunk_elements: int = 3000,
    extra_elements: int = 0,
    reduction_ps_per_byte: float = 0.0,
    overhead_ps: int | None = 0,
    routing: str | None = None,
    placement: str = "linear",
    seed: int = 0,
) -> LoopCase:
    """A ring with this many elements of 4 B in every chunk, and so many more in all that not all chunks are equal.

    ``overhead_ps`` None takes the fabric's processors.
    """
    entry = get_algorithm(collective, algorithm)
    assert entry.rounds is not None
    rounds = entry.rounds(Request(num_ranks=num_ranks, channels=channels, group=group))
    loop = expand_rounds(
        rounds,
        num_elements=rounds.num_chunks * chunk_elements + extra_elements,
        element_bytes=4,
        reduction_ps_per_byte=reduction_ps_per_byte,
    )
    assert loop is not None
    placed = place(topology, num_ranks, placement, seed)
    paths = paths_of(*triples_of(loop), Router(topology, routing, seed), placed)
    return loop, Setting(paths, processors_of(topology, placed) if overhead_ps is None else Processors(overhead_ps))


def busy_ring(name: str, routing: str, placement: str, channels: int) -> LoopCase:
    """A ring over all ranks of a shipped fabric that starts each channel on another rank of a host, and adds."""
    topology = fabric(name)
    return ring(
        topology,
        topology.num_ranks,
        channels=channels,
        group=topology.num_ranks // topology.num_hosts,
        routing=routing,
        placement=placement,
        reduction_ps_per_byte=0.3,
    )
