# SPDX-License-Identifier: Apache-2.0
"""The reference engine: SEMANTICS.md in SimPy, as short as can be. Read that page first; phases are its words.

SimPy keeps the clock and the queue, ordered by (time, priority, insertion). The three phases of an instant are three
priorities. Everything that happens at one instant collects in sorted heaps, so results do not depend on insertion.
"""

from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace

import numpy as np
import simpy
from simpy.events import Event, EventPriority

from commbench.engine.setting import CUT_OFF, CutOff, Setting, What
from commbench.engine.trace import Trace
from commbench.errors import InputError, RunError
from commbench.network.base import LAST_PS, NEVER, Counting, NetworkModel, too_long
from commbench.network.models import FLUID
from commbench.program.flat import COMPUTE, TRANSFER, FlatProgram

__all__ = ["ENGINE", "run"]

ENGINE = "reference"

_CHANGES, _ENDS, _DELIVER, _STARTS, _SHARES = range(5)  # priorities; _DELIVER closes phase 1: all flow ends are known


def run(program: FlatProgram, setting: Setting, *, network: NetworkModel = FLUID) -> Trace:
    """Simulate a program on a network model.

    Raises:
        InputError: some tasks wait for each other in a circle, or time passes the end of 64 bits.
        CutOff: a transfer's route has been cut.
    """
    return _Engine(program, setting, network).run()


class _Action(Event):
    """An event that has happened already and calls a method when its time comes (as SimPy's own Timeout does)."""

    def __init__(self, env: simpy.Environment, action: Callable[..., None], what: tuple[int | float, ...]) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        assert self.callbacks == []
        self.callbacks.append(lambda _: action(*what))


class _Engine:
    """State over simulated time."""

    def __init__(self, program: FlatProgram, setting: Setting, network: NetworkModel) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.kind, self.rank, self.peer = program.kind.tolist(), program.rank.tolist(), program.peer.tolist()
        self.num_bytes, self.duration_ps = program.num_bytes.tolist(), program.duration_ps.tolist()
        self.missing = np.diff(program.first).tolist()  # per task: dependencies not yet done
        self.first, self.dependents = (array.tolist() for array in program.dependents())
        paths, processors = setting.paths, setting.processors
        self.network = network.make(paths.wiring)
        self.route_of = paths.route_of.tolist()
        self.routes = [links.tolist() for links in np.split(paths.links, paths.first[1:-1])]
        self.weights = [loads.tolist() for loads in np.split(paths.weights, paths.first[1:-1])]
        self.latency_ps: list[int] = paths.latency_ps.tolist()
        self.route_now = list(range(len(self.latency_ps)))  # per route: the one that is taken instead, or CUT_OFF
        self.overhead_ps = processors.overhead_ps
        self.pools = processors.pools or range(program.num_ranks)
        self.free: dict[int, list[int]] = defaultdict(lambda: [0] * processors.pool_size)  # heap of when each is free
        self.slowness = [1.0] * program.num_ranks
        self.changes = setting.changes
        self.start = [-1] * program.num_tasks
        self.end = [-1] * program.num_tasks
        self.flowing: set[int] = set()  # flows in the network
        self.network_ps = NEVER  # when something happens next in it, as of the last sharing
        self.ready: list[int] = []  # heap of tasks to start at this instant
        self.passed: list[int] = []  # heap of flows whose last byte passed at this instant
        self.cut: list[int] = []  # heap of transfers that found their route cut when they entered
        self.sharing = False  # whether a sharing is already due at this instant
        self.num_shares = 0
        self.left = program.num_tasks  # not yet done
        self.over_ps = LAST_PS  # when the last task was

    def run(self) -> Trace:
        for change in self.changes:
            self.at(change.time_ps, _CHANGES, self.change, change.what, change.index, change.value)
        for task, count in enumerate(self.missing):
            if count == 0:
                self.make_ready(task)
        self.env.run()
        if -1 in self.end:
            why = self.network.stuck() if isinstance(self.network, Counting) else ""
            if why:
                raise RunError(why)
            raise InputError(f"task {self.end.index(-1)} can never start: it waits for itself in a circle")
        start, end = (np.array(times, dtype=np.int64) for times in (self.start, self.end))
        counted = self.network.counted() if isinstance(self.network, Counting) else {}
        return Trace(start, end, self.num_shares, int(end.max(initial=0)), counted)

    @property
    def now(self) -> int:
        """Simulated time in ps."""
        return int(self.env.now)

    def at(self, time_ps: int, priority: int, action: Callable[..., None], *what: int | float) -> None:
        """Do ``action(*what)`` at ``time_ps`` in the phase of ``priority``."""
        if time_ps > LAST_PS:
            raise too_long()
        self.env.schedule(_Action(self.env, action, what), EventPriority(priority), time_ps - self.now)

    # Phase 0: changes ------------------------------------------------------------------------------------------

    def change(self, what: What, index: int, value: float) -> None:
        if what == What.SLOWDOWN:
            self.slowness[index] = value
        elif what == What.BANDWIDTH:
            if self.network.set_bandwidth(index, value):
                self.share_soon()
        else:
            self.route_now[index] = int(value)
            for task in sorted(t for t in self.flowing if self.route_of[t] == index):
                self.network.move(task, *self.path(task))
                self.share_soon()

    def path(self, task: int) -> tuple[list[int], list[float] | None]:
        """Links that the task's flow takes at present, and its weights on them."""
        route = self.route_now[self.route_of[task]]
        if route == CUT_OFF:
            raise CutOff(task, self.now)
        return self.routes[route], self.weights[route] or None

    # Phase 1: ends ---------------------------------------------------------------------------------------------

    def done(self, task: int) -> None:
        self.end[task] = self.now
        self.left -= 1
        if self.left == 0:
            self.over_ps = self.now
        for waiting in self.dependents[self.first[task] : self.first[task + 1]]:
            self.missing[waiting] -= 1
            if self.missing[waiting] == 0:
                self.make_ready(waiting)

    def enter(self, task: int) -> None:
        try:
            links, weights = self.path(task)
        except CutOff:
            heappush(self.cut, task)
            self.at(self.now, _DELIVER, self.tell_cut)
            return
        if not links:
            self.passed_by(task)  # no link is in the way
            return
        self.network.start(task, links, self.num_bytes[task], self.now, weights)
        self.flowing.add(task)
        self.share_soon()

    def tell_cut(self) -> None:
        raise CutOff(self.cut[0], self.now)

    def advance(self) -> None:
        if self.network_ps != self.now or self.now > self.over_ps:
            return  # something has changed since this was foreseen, or nobody waits for the network any more
        self.network_ps = NEVER
        for task in self.network.advance(self.now):
            self.flowing.remove(task)
            self.network.finish(task)
            self.passed_by(task)
        self.share_soon()

    def passed_by(self, task: int) -> None:
        if not self.passed:
            self.at(self.now, _DELIVER, self.deliver_all)
        heappush(self.passed, task)

    def deliver_all(self) -> None:
        while self.passed:
            task = heappop(self.passed)
            through = self.occupy(self.peer[task]) if self.kind[task] == TRANSFER else self.now
            self.at(through, _ENDS, self.done, task)

    # Phase 2: starts -------------------------------------------------------------------------------------------

    def make_ready(self, task: int) -> None:
        if not self.ready:
            self.at(self.now, _STARTS, self.start_all)
        heappush(self.ready, task)

    def start_all(self) -> None:
        while self.ready:
            task = heappop(self.ready)
            self.start[task] = self.now
            if self.kind[task] == COMPUTE:
                through = self.now + self.slowed(self.duration_ps[task], self.rank[task])
                self.at(through, _ENDS, self.done, task)
            else:
                posted = self.occupy(self.rank[task]) if self.kind[task] == TRANSFER else self.now
                self.at(posted + self.latency_of(task), _ENDS, self.enter, task)

    def latency_of(self, task: int) -> int:
        """Latency of the route that the task's flow would take at present."""
        route: int = self.route_now[self.route_of[task]]
        if route == CUT_OFF:
            raise CutOff(task, self.now)
        return self.latency_ps[route]

    def occupy(self, rank: int) -> int:
        """Take the processor that is free first in the rank's pool for one message; return when it is through."""
        free = self.free[self.pools[rank]]
        through = max(self.now, free[0]) + self.slowed(self.overhead_ps, rank)
        heapreplace(free, through)
        return through

    def slowed(self, duration_ps: int, rank: int) -> int:
        """How long work of this length takes the rank at present."""
        slowness: float = self.slowness[rank]
        return duration_ps if slowness == 1.0 else int(duration_ps * slowness + 0.5)

    # Phase 3: shares -------------------------------------------------------------------------------------------

    def share_soon(self) -> None:
        if not self.sharing:
            self.sharing = True
            self.at(self.now, _SHARES, self.share)

    def share(self) -> None:
        self.sharing = False
        self.num_shares += 1
        before, self.network_ps = self.network_ps, self.network.next_event(self.now)
        if self.network_ps not in (NEVER, before):
            self.at(self.network_ps, _ENDS, self.advance)
