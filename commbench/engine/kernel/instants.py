# SPDX-License-Identifier: Apache-2.0
"""The loop over simulated time: SEMANTICS.md's phases of an instant, one instant after the other.

What asks the network is made for one network model (network.base.NetworkKernel), whose functions are compiled into it.
``model`` is engine.model.Model everywhere.
"""

from functools import cache
from typing import Any

from commbench.engine.kernel import entry
from commbench.engine.kernel.counters import (
    BANDWIDTH,
    DUE,
    ENDING,
    ERROR,
    FINISHED,
    FLOWING,
    FREE_SLOT,
    LATENCY,
    NETWORK,
    NEXT_CHANGE,
    NOW,
    OVER,
    PASSED,
    PENDING,
    REACHED,
    READY,
    ROUTE,
    RUNNING,
    SHARES,
    SLOTS,
    TOO_LONG,
    WATCHED,
    WATCHED_ROUND,
    WORK,
)
from commbench.engine.kernel.tasks import cut, finish, number, occupy, sort, start, wait
from commbench.network.base import PAST_THE_END, NetworkKernel
from commbench.network.jit import jit
from commbench.network.queue import collect, next_time
from commbench.program.flat import TRANSFER

__all__ = ["loop_over"]


def loop_over(network: NetworkKernel) -> Any:
    """The loop on a network model: ``advance(model, until, limit)``."""
    functions: Any = network
    return _loop_over(functions._replace(build=None, counted=None, stuck=None, grown=None))


@cache
def _loop_over(network: Any) -> Any:
    """One for all models that have the same functions, however they are set up."""
    apply_changes, settle = _changes(network), _phases(network)
    network_passes = network.advance

    def advance(model, until, limit):
        """Simulate until all ``until`` instances are done, nothing can happen any more, ``limit`` more are done, or
        the watched task begins its watched round.

        Returns RUNNING, OVER, REACHED, or what went wrong.
        """
        n, changes, work = model.n, model.changes, model.network.n
        stop = work[WORK] + n[FINISHED] + limit
        apply_changes(model)  # those of time 0, at the first call
        while True:
            settle(model)
            if n[ERROR] != 0:
                return n[ERROR]
            if n[FINISHED] >= until:
                return OVER
            if work[WORK] + n[FINISHED] >= stop:
                return RUNNING
            if model.tasks[n[WATCHED]].round >= n[WATCHED_ROUND]:
                return REACHED
            now = next_time(model.queue)
            if n[NETWORK] >= 0 and (now < 0 or n[NETWORK] < now):
                now = n[NETWORK]
            if now < 0:
                return OVER  # nothing is under way: what is left waits for itself
            if n[NEXT_CHANGE] < changes.size and changes[n[NEXT_CHANGE]].time_ps <= now:
                now = changes[n[NEXT_CHANGE]].time_ps
            n[NOW] = now
            apply_changes(model)
            n[PENDING] = collect(now, model.slots, model.queue, model.pending, n[PENDING])
            if n[NETWORK] == now:
                n[PENDING] = network_passes(now, model.slots, model.network, model.pending, n[PENDING])
                n[DUE] = 1

    return entry(advance, *network.compiled, sources=network.sources)


def _phases(network: NetworkKernel) -> Any:
    """Phases 1, 2 and 3 of the present instant, until nothing is left of it."""
    ends = _ends(network)
    network_next, network_passes = network.next_event, network.advance

    @jit
    def shares(model):
        """Phase 3: when something happens next in the network, now that it is known what has come and gone."""
        n = model.n
        n[DUE] = 0
        n[SHARES] += 1
        n[NETWORK] = network_next(n[NOW], model.slots, model.network)
        if n[NETWORK] == PAST_THE_END:
            n[ERROR] = TOO_LONG
        elif n[NETWORK] == n[NOW]:
            n[PENDING] = network_passes(n[NOW], model.slots, model.network, model.pending, n[PENDING])
            n[DUE] = 1

    @jit
    def settle(model):
        n = model.n
        while n[ERROR] == 0:
            if n[PENDING] > 0:
                ends(model)
            elif n[PASSED] > 0:
                _deliveries(model)
            elif n[READY] > 0:
                _starts(model)
            elif n[DUE] > 0:
                shares(model)
            else:
                return

    return settle


def _ends(network: NetworkKernel) -> Any:
    network_start, network_finish = network.start, network.finish

    @jit
    def enter(slot, model):
        """A transfer's latency is over: its flow enters the network, or is through at once if no link is in the way."""
        n, task = model.n, model.slots[slot].task
        route = model.route_now[model.tasks[task].route]
        if route < 0:
            cut(task, model)
        elif model.first[route] == model.first[route + 1]:
            model.passed[n[PASSED]] = slot
            n[PASSED] += 1
        else:
            model.slots[slot].state = FLOWING
            network_start(slot, route, n[NOW], model.slots, model.network)
            n[DUE] = 1

    @jit
    def ends(model):
        """Phase 1: whatever ends at this instant, in any order (see _deliveries for what needs one)."""
        n, slots, pending, passed = model.n, model.slots, model.pending, model.passed
        while n[PENDING] > 0:
            n[PENDING] -= 1
            slot = pending[n[PENDING]]
            if slot < 0:
                finish(~slot, model)
            elif slots[slot].state == LATENCY:
                enter(slot, model)
            else:
                if slots[slot].state == FLOWING:
                    network_finish(slot, slots, model.network)
                    n[DUE] = 1
                    if model.overhead_ps > 0:
                        passed[n[PASSED]] = slot
                        n[PASSED] += 1
                        continue
                task = slots[slot].task
                slots[slot].next, n[FREE_SLOT] = n[FREE_SLOT], slot
                slots[slot].task = -1
                finish(task, model)

    return ends


@jit
def _deliveries(model):
    """The end of phase 1: flows whose last byte has passed go to the receiver's processors, in order."""
    n, slots, tasks, passed = model.n, model.slots, model.tasks, model.passed
    count = n[PASSED]
    n[PASSED] = 0
    if model.overhead_ps > 0:
        for i in range(count):
            model.numbers[i] = number(slots[passed[i]].task, 0, tasks)
        sort(passed, model.numbers, count)
    for i in range(count):
        time, task = n[NOW], slots[passed[i]].task
        if model.overhead_ps > 0 and tasks[task].kind == TRANSFER:
            time = occupy(tasks[task].peer, model)
        wait(passed[i], ENDING, time, model)


@jit
def _starts(model):
    """Phase 2: tasks that became ready begin, in order where the processors make it matter."""
    n, tasks, ready = model.n, model.tasks, model.ready
    count = n[READY]
    n[READY] = 0
    if model.overhead_ps > 0:
        for i in range(count):
            model.numbers[i] = number(ready[i], 1, tasks)
        sort(ready, model.numbers, count)
    for i in range(count):
        start(ready[i], model)


def _changes(network: NetworkKernel) -> Any:
    network_bandwidth, network_move = network.set_bandwidth, network.move

    @jit
    def move_flows(route, model):
        """Flows on the way by a route that has changed go on over the new one, in ascending number."""
        n, slots, tasks = model.n, model.slots, model.tasks
        last = -1
        while True:
            least = -1
            for slot in range(n[SLOTS]):
                task = slots[slot].task
                if task <= last or slots[slot].state != FLOWING or tasks[task].route != route:
                    continue
                if least < 0 or task < slots[least].task:
                    least = slot
            if least < 0:
                return
            last = slots[least].task
            if model.route_now[route] < 0:
                cut(last, model)
                continue
            network_move(least, model.route_now[route], n[NOW], slots, model.network)
            n[DUE] = 1

    @jit
    def apply_changes(model):
        """Phase 0: what the scenario changes at this instant."""
        n, changes = model.n, model.changes
        while n[ERROR] == 0 and n[NEXT_CHANGE] < changes.size and changes[n[NEXT_CHANGE]].time_ps == n[NOW]:
            change = changes[n[NEXT_CHANGE]]
            n[NEXT_CHANGE] += 1
            if change.what == BANDWIDTH:
                if network_bandwidth(change.index, change.value, model.network):
                    n[DUE] = 1
            elif change.what == ROUTE:
                model.route_now[change.index] = int(change.value)
                move_flows(change.index, model)
            else:
                model.slowness[change.index] = change.value

    return apply_changes
