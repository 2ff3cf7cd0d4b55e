# SPDX-License-Identifier: Apache-2.0
"""The compiled engine against the reference engine, in one process, with bare SimPy as the floor of the latter.

The floor is what SimPy itself takes for as many timeouts as there are transfers, in which nothing is done: no engine
on SimPy can be faster.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import simpy

from benchmarks.records import Engines
from commbench.cluster import make_cluster
from commbench.engine.engines import Run
from commbench.libraries.ideal import Ideal
from commbench.results.records import Simulated
from commbench.sim.collective import simulate_collective
from commbench.topology.fabric import Fabric
from commbench.topology.load import load_fabric

__all__ = ["QUICK_RANKS", "RANKS", "engines"]

RANKS = (16, 64, 128, 256)
QUICK_RANKS = (16, 64)
SIZE_BYTES = 64 * 2**20


def engines(ranks: Sequence[int], repeats: int, tell: Callable[[str], None]) -> Iterator[Engines]:
    """Ring all-reduce of 64 MiB on ``fat-tree-<ranks>``, transfer detail; the first compiled run is not counted."""
    _simulated(load_fabric(f"fat-tree-{ranks[0]}"), "compiled")  # loads the machine code
    for n in ranks:
        tell(f"{n} ranks, both engines")
        yield _both(load_fabric(f"fat-tree-{n}"), repeats)


def _both(fabric: Fabric, repeats: int) -> Engines:
    walls: dict[str, list[float]] = {"reference": [], "compiled": [], "floor": []}
    records: dict[str, Simulated] = {}
    for _ in range(repeats):
        for engine in ("reference", "compiled"):
            began = time.perf_counter()
            records[engine] = _simulated(fabric, engine)
            walls[engine].append(time.perf_counter() - began)
        began = time.perf_counter()
        _bare_timeouts(records["reference"].transfers)
        walls["floor"].append(time.perf_counter() - began)
    return Engines(
        ranks=records["reference"].ranks,
        transfers=records["reference"].transfers,
        reference_s=tuple(walls["reference"]),
        compiled_s=tuple(walls["compiled"]),
        floor_s=tuple(walls["floor"]),
        reference_time_s=records["reference"].time_s,
        compiled_time_s=records["compiled"].time_s,
    )


def _simulated(fabric: Fabric, engine: str) -> Simulated:
    ring, how = Ideal(algorithms={"all-reduce": "ring"}), Run(engine=engine, keep_trace=False)
    return simulate_collective("all-reduce", SIZE_BYTES, make_cluster(fabric), ring, how).record


def _bare_timeouts(count: int) -> None:
    env = simpy.Environment()
    for delay in range(count):
        env.timeout(delay)
    env.run()
