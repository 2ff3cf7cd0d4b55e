# SPDX-License-Identifier: Apache-2.0
"""The loop over simulated time: SEMANTICS.md's phases of an instant, one instant after the other."""

from commbench.engine.kernel import entry, jit
from commbench.engine.kernel.counters import (
    DUE,
    ENDING,
    ERROR,
    FINISHED,
    FLOWING,
    FREE_SLOT,
    LATENCY,
    NEXT_CHANGE,
    NOW,
    OVER,
    PASSED,
    PENDING,
    REACHED,
    READY,
    RUNNING,
    SHARES,
    SLOTS,
    STAMP,
    TOUCHED,
    WATCHED,
    WATCHED_ROUND,
    WORK,
)
from commbench.engine.kernel.queue import collect, next_time, take_out
from commbench.engine.kernel.shares import alone, attach, connected, detach, solve, touch
from commbench.engine.kernel.tasks import cut, end_of_flow, enter, finish, number, occupy, sort, start, wait
from commbench.program.flat import TRANSFER


@entry
def advance(model, until, limit):
    """Simulate until all ``until`` instances are done, nothing can happen any more, ``limit`` more are done, or the
    watched task begins its watched round.

    Returns RUNNING, OVER, REACHED, or what went wrong.
    """
    n, (buckets, heap, _), pending, slots = model.n, model.queue, model.pending, model.slots
    stop = n[WORK] + n[FINISHED] + limit
    _apply_changes(model)  # those of time 0, at the first call
    while True:
        _settle(model)
        if n[ERROR] != 0:
            return n[ERROR]
        if n[FINISHED] >= until:
            return OVER
        if n[WORK] + n[FINISHED] >= stop:
            return RUNNING
        if model.tasks[n[WATCHED]].round >= n[WATCHED_ROUND]:
            return REACHED
        now = next_time(buckets, heap, n)
        if now < 0:
            return OVER  # nothing is under way: what is left waits for itself
        if n[NEXT_CHANGE] < model.changes[0].size and model.changes[0][n[NEXT_CHANGE]] <= now:
            now = model.changes[0][n[NEXT_CHANGE]]
        n[NOW] = now
        _apply_changes(model)
        collect(now, slots, buckets, heap, pending, n)


@jit
def _settle(model):
    """Phases 1, 2 and 3 of the present instant, until nothing is left of it."""
    n = model.n
    while n[ERROR] == 0:
        if n[PENDING] > 0:
            _ends(model)
        elif n[PASSED] > 0:
            _deliveries(model)
        elif n[READY] > 0:
            _starts(model)
        elif n[DUE] > 0:
            _shares(model)
        else:
            return


@jit
def _ends(model):
    """Phase 1: whatever ends at this instant, in any order (see _deliveries for what needs one)."""
    n, slots, pending, passed = model.n, model.slots, model.pending, model.passed
    tasks, links, crowd, touched = model.tasks, model.links, model.crowd, model.touched
    while n[PENDING] > 0:
        n[PENDING] -= 1
        slot = pending[n[PENDING]]
        if slot < 0:
            finish(~slot, tasks, model.dependents, model.lags, model.num_rounds, model.end, model.ready, n)
        elif slots[slot].state == LATENCY:
            enter(slot, tasks, slots, links, crowd, model.routes, model.route_now, passed, touched, n)
        elif slots[slot].state == FLOWING:
            detach(slot, slots, links, crowd, model.routes, touched, n)
            n[DUE] = 1
            passed[n[PASSED]] = slot
            n[PASSED] += 1
        else:
            task = slots[slot].task
            slots[slot].next, n[FREE_SLOT] = n[FREE_SLOT], slot
            slots[slot].task = -1
            finish(task, tasks, model.dependents, model.lags, model.num_rounds, model.end, model.ready, n)


@jit
def _deliveries(model):
    """The end of phase 1: flows whose last byte has passed go to the receiver's processors, in order."""
    n, slots, tasks, passed = model.n, model.slots, model.tasks, model.passed
    overhead, slowness, pool_of, free = model.sides
    count = n[PASSED]
    n[PASSED] = 0
    if overhead > 0:
        for i in range(count):
            model.numbers[i] = number(slots[passed[i]].task, 0, tasks)
        sort(passed, model.numbers, count)
    for i in range(count):
        time, task = n[NOW], slots[passed[i]].task
        if overhead > 0 and tasks[task].kind == TRANSFER:
            time = occupy(tasks[task].peer, overhead, slowness, pool_of, free, n)
        wait(passed[i], ENDING, time, slots, model.queue, model.pending, n)


@jit
def _starts(model):
    """Phase 2: tasks that became ready begin, in order where the processors make it matter."""
    n, tasks, ready = model.n, model.tasks, model.ready
    count = n[READY]
    n[READY] = 0
    if model.sides[0] > 0:
        for i in range(count):
            model.numbers[i] = number(ready[i], 1, tasks)
        sort(ready, model.numbers, count)
    for i in range(count):
        start(
            ready[i],
            tasks,
            model.amounts,
            model.sides,
            model.latencies,
            model.route_now,
            model.slots,
            model.queue,
            model.pending,
            model.start,
            n,
        )


@jit
def _shares(model):
    """Phase 3: new fair shares wherever something has changed, one connected part after the other."""
    n, slots, links, crowd, touched = model.n, model.slots, model.links, model.crowd, model.touched
    next_rate, part = model.marks[1], model.part
    n[DUE] = 0
    n[SHARES] += 1
    n[STAMP] += 1
    for i in range(n[TOUCHED]):
        link = touched[i]
        links[link].touched = 0
        if links[link].mark == n[STAMP] or links[link].count == 0:
            continue
        if links[link].count == 1:  # most parts of a quiet fabric are one flow
            slot = crowd[0][links[link].first].slot
            rate = alone(slots[slot].route, links, model.routes, n[STAMP])
            if rate >= 0.0:
                _give(slot, rate, model)
                continue
        num_links, num_slots = connected(link, slots, links, crowd, model.routes, model.marks, part, n)
        solve(num_links, num_slots, slots, links, crowd, model.routes, next_rate, part)
        n[WORK] += num_slots
        for j in range(num_slots):
            _give(part[1][j], next_rate[part[1][j]], model)
    n[TOUCHED] = 0


@jit
def _give(slot, rate, model):
    """A flow's rate from now on; if it is another than before, its end is another too."""
    n, slots = model.n, model.slots
    if rate == slots[slot].rate:
        return
    if slots[slot].bucket >= 0:
        take_out(slot, slots, model.queue[0], model.queue[1], n)
    wait(slot, FLOWING, end_of_flow(slot, rate, slots, n), slots, model.queue, model.pending, n)


@jit
def _apply_changes(model):
    """Phase 0: what the scenario changes at this instant."""
    n, links = model.n, model.links
    times, whats, indices, values = model.changes
    while n[ERROR] == 0 and n[NEXT_CHANGE] < times.size and times[n[NEXT_CHANGE]] == n[NOW]:
        what, index, value = whats[n[NEXT_CHANGE]], indices[n[NEXT_CHANGE]], values[n[NEXT_CHANGE]]
        n[NEXT_CHANGE] += 1
        if what == 0:  # engine.setting.What
            links[index].bandwidth = value
            if links[index].count > 0:
                touch(index, links, model.touched, n)
                n[DUE] = 1
        elif what == 1:
            model.route_now[index] = int(value)
            _move_flows(index, model)
        else:
            model.sides[1][index] = value


@jit
def _move_flows(route, model):
    """Flows on the way by a route that has changed go on over the new one."""
    n, slots, tasks = model.n, model.slots, model.tasks
    for slot in range(n[SLOTS]):
        task = slots[slot].task
        if task < 0 or slots[slot].state != FLOWING or tasks[task].route != route:
            continue
        if model.route_now[route] < 0:
            cut(task, tasks, n)
            continue
        detach(slot, slots, model.links, model.crowd, model.routes, model.touched, n)
        attach(slot, model.route_now[route], slots, model.links, model.crowd, model.routes, model.touched, n)
        n[DUE] = 1
