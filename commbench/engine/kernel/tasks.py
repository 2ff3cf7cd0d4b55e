# SPDX-License-Identifier: Apache-2.0
"""What happens to tasks: they start, enter the network, leave it, are delivered and done (the words of SEMANTICS.md).

In a looped program every task has one instance per round; the next begins only after the last is done, so one record
per task is enough.
"""

import numpy as np

from commbench.engine.kernel import jit
from commbench.engine.kernel.counters import (
    CUT,
    DUE,
    ENDING,
    ERROR,
    ERROR_NUMBER,
    ERROR_TASK,
    FINISHED,
    FLOWING,
    FREE_SLOT,
    LATENCY,
    NOW,
    PASSED,
    PENDING,
    READY,
    SLOTS,
    TOO_LONG,
)
from commbench.engine.kernel.queue import put
from commbench.engine.kernel.shares import attach
from commbench.program.flat import COMPUTE, TRANSFER

_TOO_LONG = 2.0**63  # ps: past the end of simulated time


@jit
def new_slot(task, slots, n):
    """A record for a task that becomes active."""
    slot = n[FREE_SLOT]
    if slot >= 0:
        n[FREE_SLOT] = slots[slot].next
    else:
        slot = n[SLOTS]
        n[SLOTS] += 1
    slots[slot].task, slots[slot].bucket = task, -1
    return slot


@jit
def wait(slot, state, time, slots, queue, pending, n):
    """Let the slot's next event happen at ``time``; at this very instant it joins the pending list."""
    slots[slot].state = state
    if time < n[NOW]:  # the sum has passed 2**63 and wrapped round
        n[ERROR], n[ERROR_TASK] = TOO_LONG, slots[slot].task
    elif time == n[NOW]:
        pending[n[PENDING]] = slot
        n[PENDING] += 1
    else:
        buckets, heap, table = queue
        put(slot, time, slots, buckets, heap, table, n)


@jit
def occupy(rank, overhead, slowness, pool_of, free, n):
    """Take the processor that is free first in the rank's pool for one message; return when it is through."""
    own = free[pool_of[rank]]
    earliest = 0
    for i in range(1, own.size):
        if own[i] < own[earliest]:
            earliest = i
    through = max(n[NOW], own[earliest]) + slowed(overhead, slowness[rank])
    own[earliest] = through
    return through


@jit
def slowed(duration, slowness):
    """How long work of this length takes a rank of this slowness."""
    return duration if slowness == 1.0 else np.int64(duration * slowness + 0.5)


@jit
def number(task, coming, tasks):
    """Place in the trace of the task's running instance, or with ``coming`` 1 of the next one."""
    return tasks[task].base + (tasks[task].round - 1 + coming) * np.int64(tasks[task].pitch)


@jit
def cut(task, tasks, n):
    """A transfer finds its route cut; of several in one phase the lowest number is told, as whoever comes first."""
    place = number(task, 0, tasks)
    if n[ERROR] == 0 or place < n[ERROR_NUMBER]:
        n[ERROR], n[ERROR_TASK], n[ERROR_NUMBER] = CUT, task, place


@jit
def sort(some, numbers, count):
    """Sort the first ``count`` entries in place by their numbers (Shell: the lists are short and mostly sorted)."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, count):
            entry, key, place = some[i], numbers[i], i
            while place >= gap and numbers[place - gap] > key:
                some[place], numbers[place] = some[place - gap], numbers[place - gap]
                place -= gap
            some[place], numbers[place] = entry, key
        gap //= 3


@jit
def finish(task, tasks, dependents, lags, num_rounds, end, ready, n):
    """The running instance of a task is done; tasks that waited for nothing else become ready."""
    instance = tasks[task].round - 1
    if end.size > 0:
        end[tasks[task].base + instance * np.int64(tasks[task].pitch)] = n[NOW]
    n[FINISHED] += 1
    for i in range(tasks[task].first, tasks[task].last):
        if instance + lags[i] >= num_rounds:
            continue
        waiting = dependents[i]
        tasks[waiting].missing -= 1
        if tasks[waiting].missing == 0:
            ready[n[READY]] = waiting
            n[READY] += 1


@jit
def enter(slot, tasks, slots, links, crowd, routes, route_now, passed, touched, n):
    """A transfer's latency is over: its flow enters the network, or is through at once if no link is in the way."""
    task = slots[slot].task
    route = route_now[tasks[task].route]
    if route < 0:
        cut(task, tasks, n)
    elif routes[0][route] == routes[0][route + 1]:
        passed[n[PASSED]] = slot
        n[PASSED] += 1
    else:
        slots[slot].state, slots[slot].since, slots[slot].rate = FLOWING, n[NOW], 0.0
        slots[slot].hops = tasks[task].hops
        attach(slot, route, slots, links, crowd, routes, touched, n)
        n[DUE] = 1


@jit
def start(task, tasks, amounts, sides, latencies, route_now, slots, queue, pending, trace, n):
    """A task that is ready begins."""
    num_bytes, durations, num_blocks, num_pieces, num_working = amounts
    overhead, slowness, pool_of, free = sides
    instance = tasks[task].round
    tasks[task].round = instance + 1
    tasks[task].missing = tasks[task].needs
    if trace.size > 0:
        trace[tasks[task].base + instance * np.int64(tasks[task].pitch)] = n[NOW]
    kind, rank = tasks[task].kind, tasks[task].rank
    block = np.int64(tasks[task].block)
    if instance > 0:
        block = (block + instance * np.int64(tasks[task].stride)) % num_blocks
    amount = block * num_pieces + tasks[task].piece
    if kind == COMPUTE:
        duration = slowed(durations[amount], slowness[rank]) if instance < num_working else 0
        if duration == 0:  # done at this instant: needs no record
            pending[n[PENDING]] = ~task
            n[PENDING] += 1
        else:
            wait(new_slot(task, slots, n), ENDING, n[NOW] + duration, slots, queue, pending, n)
        return
    posted = n[NOW]
    if kind == TRANSFER and overhead > 0:
        posted = occupy(rank, overhead, slowness, pool_of, free, n)
    route = route_now[tasks[task].route]
    if route < 0:
        cut(task, tasks, n)
        return
    slot = new_slot(task, slots, n)
    slots[slot].left = num_bytes[amount]
    wait(slot, LATENCY, posted + latencies[route], slots, queue, pending, n)


@jit
def end_of_flow(slot, rate, slots, n):
    """Give a flow a new rate; returns when its last byte will have passed."""
    now = n[NOW]
    passed = slots[slot].rate * (now - slots[slot].since) / 1e12
    slots[slot].left = max(slots[slot].left - passed, 0.0)
    slots[slot].since, slots[slot].rate = now, rate
    lasts = slots[slot].left / rate * 1e12 + 0.5
    if lasts >= _TOO_LONG:
        n[ERROR], n[ERROR_TASK] = TOO_LONG, slots[slot].task
        return now
    return now + np.int64(lasts)
