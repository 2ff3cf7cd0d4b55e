# SPDX-License-Identifier: Apache-2.0
"""The reference engine: SEMANTICS.md in SimPy, as short as can be. Read that page first; phases are its words.

SimPy keeps the clock and the queue, ordered by (time, priority, insertion). The three phases of an instant are three
priorities. Everything that happens at one instant collects in sorted heaps, so results do not depend on insertion.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush, heapreplace

import numpy as np
import simpy
from simpy.events import Event, EventPriority

from commbench.errors import InputError
from commbench.network.fluid import FluidNetwork
from commbench.program.flat import TRANSFER, FlatProgram
from commbench.sim.trace import Trace

__all__ = ["ENGINE", "run"]

ENGINE = "reference"

_LAST_PS = 2**63 - 1
_ENDS, _DELIVER, _STARTS, _SHARES = range(4)  # priorities; _DELIVER closes phase 1, when all flow ends are known


def run(
    program: FlatProgram,
    *,
    bandwidths: Sequence[float],
    routes: Sequence[Sequence[int]],
    latencies_ps: Sequence[int],
    overhead_ps: int = 0,
    pools: Sequence[int] | None = None,
    pool_size: int = 1,
) -> Trace:
    """Simulate a program.

    Args:
        program: the tasks.
        bandwidths: bytes/s of every link.
        routes: for every task its link numbers; empty for compute tasks.
        latencies_ps: for every task the latency of its route; 0 for compute tasks.
        overhead_ps: processor time per message, on either side.
        pools: for every rank the number of its pool of processors; None gives each rank its own.
        pool_size: processors in every pool.

    Raises:
        InputError: some tasks wait for each other in a circle.
    """
    pools = range(program.num_ranks) if pools is None else pools
    return _Engine(program, bandwidths, routes, latencies_ps, overhead_ps, pools, pool_size).run()


class _Action(Event):
    """An event that has happened already and calls a method when its time comes (as SimPy's own Timeout does)."""

    def __init__(self, env: simpy.Environment, action: Callable[..., None], task: tuple[int, ...]) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        assert self.callbacks == []
        self.callbacks.append(lambda _: action(*task))


class _Engine:
    """State over simulated time."""

    def __init__(
        self,
        program: FlatProgram,
        bandwidths: Sequence[float],
        routes: Sequence[Sequence[int]],
        latencies_ps: Sequence[int],
        overhead_ps: int,
        pools: Sequence[int],
        pool_size: int,
    ) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.network = FluidNetwork(bandwidths)
        self.is_transfer = (program.kind == TRANSFER).tolist()
        self.rank, self.peer = program.rank.tolist(), program.peer.tolist()
        self.num_bytes, self.duration_ps = program.num_bytes.tolist(), program.duration_ps.tolist()
        self.routes, self.latencies_ps, self.overhead_ps = routes, latencies_ps, overhead_ps
        self.missing = np.diff(program.first).tolist()  # per task: dependencies not yet done
        self.first, self.dependents = (array.tolist() for array in program.dependents())
        self.pools = pools
        self.free = {pool: [0] * pool_size for pool in set(pools)}  # per pool: heap of when its processors are free
        self.start = [-1] * program.num_tasks
        self.end = [-1] * program.num_tasks
        self.flow_end: dict[int, int] = {}  # per flow in the network: its end as of the last sharing
        self.ready: list[int] = []  # heap of tasks to start at this instant
        self.passed: list[int] = []  # heap of flows whose last byte passed at this instant
        self.sharing = False  # whether a sharing is already due at this instant
        self.num_shares = 0

    def run(self) -> Trace:
        for task, count in enumerate(self.missing):
            if count == 0:
                self.make_ready(task)
        self.env.run()
        if -1 in self.end:
            raise InputError(f"task {self.end.index(-1)} can never start: it waits for itself in a circle")
        return Trace(np.array(self.start, dtype=np.int64), np.array(self.end, dtype=np.int64), self.num_shares)

    @property
    def now(self) -> int:
        """Simulated time in ps."""
        return int(self.env.now)

    def at(self, time_ps: int, priority: int, action: Callable[..., None], *task: int) -> None:
        """Do ``action(*task)`` at ``time_ps`` in the phase of ``priority``."""
        if time_ps > _LAST_PS:
            raise InputError(f"simulated time passes {_LAST_PS} ps (106 days), the end of 64 bits: give smaller sizes")
        self.env.schedule(_Action(self.env, action, task), EventPriority(priority), time_ps - self.now)

    # Phase 1: ends ---------------------------------------------------------------------------------------------

    def done(self, task: int) -> None:
        self.end[task] = self.now
        for waiting in self.dependents[self.first[task] : self.first[task + 1]]:
            self.missing[waiting] -= 1
            if self.missing[waiting] == 0:
                self.make_ready(waiting)

    def enter(self, task: int) -> None:
        self.network.start(task, self.routes[task], self.num_bytes[task], self.now)
        self.flow_end[task] = -1
        self.share_soon()

    def leave(self, task: int) -> None:
        if self.flow_end.get(task) != self.now:
            return  # the rate has changed since this end was foreseen
        del self.flow_end[task]
        self.network.finish(task)
        self.share_soon()
        if not self.passed:
            self.at(self.now, _DELIVER, self.deliver_all)
        heappush(self.passed, task)

    def deliver_all(self) -> None:
        while self.passed:
            task = heappop(self.passed)
            self.at(self.occupy(self.peer[task]), _ENDS, self.done, task)

    # Phase 2: starts -------------------------------------------------------------------------------------------

    def make_ready(self, task: int) -> None:
        if not self.ready:
            self.at(self.now, _STARTS, self.start_all)
        heappush(self.ready, task)

    def start_all(self) -> None:
        while self.ready:
            task = heappop(self.ready)
            self.start[task] = self.now
            if self.is_transfer[task]:
                entry = self.occupy(self.rank[task]) + self.latencies_ps[task]
                self.at(entry, _ENDS, self.enter, task)
            else:
                self.at(self.now + self.duration_ps[task], _ENDS, self.done, task)

    def occupy(self, rank: int) -> int:
        """Take the processor that is free first in the rank's pool for one message; return when it is through."""
        free = self.free[self.pools[rank]]
        through = max(self.now, free[0]) + self.overhead_ps
        heapreplace(free, through)
        return through

    # Phase 3: shares -------------------------------------------------------------------------------------------

    def share_soon(self) -> None:
        if not self.sharing:
            self.sharing = True
            self.at(self.now, _SHARES, self.share)

    def share(self) -> None:
        self.sharing = False
        self.num_shares += 1
        for task, end_ps in self.network.share(self.now):
            self.flow_end[task] = end_ps
            self.at(end_ps, _ENDS, self.leave, task)
