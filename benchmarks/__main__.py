# SPDX-License-Identifier: Apache-2.0
"""``make bench``: the reference engine against bare SimPy, on a ring all-reduce of growing size.

The floor is SimPy itself: the same number of bare timeouts, which is the least that any engine on SimPy can take.
"""

import time
from collections.abc import Callable

import simpy

from commbench.sim.collective import simulate
from commbench.topology.load import load_topology

REPEATS = 3


def best_of(action: Callable[[], object]) -> float:
    """Least seconds of a few runs: noise only ever adds."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def bare_timeouts(count: int) -> None:
    """SimPy alone: ``count`` timeouts, nothing done when they end."""
    env = simpy.Environment()
    for delay in range(count):
        env.timeout(delay)
    env.run()


def main() -> None:
    """Print transfers per second and the ratio to SimPy's floor, per world size."""
    print(f"{'ranks':>5} {'transfers':>10} {'engine s':>9} {'transfers/s':>12} {'x bare timeouts':>16}")
    for ranks in (16, 64, 128):
        topology = load_topology(f"fat-tree-{ranks}")
        transfers = simulate(topology, "all-reduce", "ring", 64 * 2**20).record.transfers
        engine_s = best_of(lambda t=topology: simulate(t, "all-reduce", "ring", 64 * 2**20))  # type: ignore[misc]
        floor_s = best_of(lambda n=transfers: bare_timeouts(n))  # type: ignore[misc]
        print(f"{ranks:>5} {transfers:>10} {engine_s:>9.3f} {transfers / engine_s:>12.0f} {engine_s / floor_s:>16.1f}")


if __name__ == "__main__":
    main()
