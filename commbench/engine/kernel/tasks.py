# SPDX-License-Identifier: Apache-2.0
"""What happens to tasks: they start, wait, are delivered and done (the words of SEMANTICS.md).

In a looped program every task has one instance per round; the next begins only after the last is done, so one record
per task is enough. ``model`` is engine.model.Model everywhere; times are ps.
"""

import numpy as np

from commbench.engine.kernel.counters import (
    CUT,
    ENDING,
    ERROR,
    ERROR_NUMBER,
    ERROR_TASK,
    FINISHED,
    FREE_SLOT,
    LATENCY,
    NOW,
    PENDING,
    READY,
    SLOTS,
    TOO_LONG,
)
from commbench.network.jit import jit
from commbench.network.queue import put
from commbench.program.flat import COMPUTE, TRANSFER


@jit
def _new_slot(task, model):
    """A record for a task that becomes active."""
    n, slots = model.n, model.slots
    slot = n[FREE_SLOT]
    if slot >= 0:
        n[FREE_SLOT] = slots[slot].next
    else:
        slot = n[SLOTS]
        n[SLOTS] += 1
    slots[slot].task, slots[slot].bucket = task, -1
    return slot


@jit
def wait(slot, state, time, model):
    """Let the slot's next event happen at ``time``; at this very instant it joins the pending list."""
    n = model.n
    model.slots[slot].state = state
    if time < n[NOW]:  # the sum has passed 2**63 and wrapped round
        n[ERROR] = TOO_LONG
    elif time == n[NOW]:
        model.pending[n[PENDING]] = slot
        n[PENDING] += 1
    else:
        put(slot, time, model.slots, model.queue)


@jit
def occupy(rank, model):
    """Take the processor that is free first in the rank's pool for one message; return when it is through."""
    own = model.free[model.pool_of[rank]]
    earliest = 0
    for i in range(1, own.size):
        if own[i] < own[earliest]:
            earliest = i
    through = max(model.n[NOW], own[earliest]) + _slowed(model.overhead_ps, model.slowness[rank])
    own[earliest] = through
    return through


@jit
def _slowed(duration, slowness):
    """How long work of this length takes a rank of this slowness."""
    return duration if slowness == 1.0 else np.int64(duration * slowness + 0.5)


@jit
def number(task, coming, tasks):
    """Place in the trace of the task's running instance, or with ``coming`` 1 of the next one."""
    return tasks[task].base + (tasks[task].round - 1 + coming) * np.int64(tasks[task].pitch)


@jit
def cut(task, model):
    """A transfer finds its route cut; of several in one phase the lowest number is told, as whoever comes first."""
    n, place = model.n, number(task, 0, model.tasks)
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
def finish(task, model):
    """The running instance of a task is done; tasks that waited for nothing else become ready."""
    n, tasks = model.n, model.tasks
    instance = tasks[task].round - 1
    if model.end.size > 0:
        model.end[tasks[task].base + instance * np.int64(tasks[task].pitch)] = n[NOW]
    n[FINISHED] += 1
    for i in range(tasks[task].first, tasks[task].last):
        if instance + model.lags[i] >= model.num_rounds:
            continue
        waiting = model.dependents[i]
        tasks[waiting].missing -= 1
        if tasks[waiting].missing == 0:
            model.ready[n[READY]] = waiting
            n[READY] += 1


@jit
def start(task, model):
    """A task that is ready begins."""
    n, tasks = model.n, model.tasks
    instance = tasks[task].round
    tasks[task].round = instance + 1
    tasks[task].missing = tasks[task].needs
    if model.start.size > 0:
        model.start[tasks[task].base + instance * np.int64(tasks[task].pitch)] = n[NOW]
    kind, rank = tasks[task].kind, tasks[task].rank
    block = np.int64(tasks[task].block)
    if instance > 0:
        block = (block + instance * np.int64(tasks[task].stride)) % model.num_blocks
    amount = block * model.num_pieces + tasks[task].piece
    if kind == COMPUTE:
        duration = _slowed(model.durations_ps[amount], model.slowness[rank]) if instance < model.num_working else 0
        if duration == 0:  # done at this instant: needs no record
            model.pending[n[PENDING]] = ~task
            n[PENDING] += 1
        else:
            wait(_new_slot(task, model), ENDING, n[NOW] + duration, model)
        return
    posted = n[NOW]
    if kind == TRANSFER and model.overhead_ps > 0:
        posted = occupy(rank, model)
    route = model.route_now[tasks[task].route]
    if route < 0:
        cut(task, model)
        return
    slot = _new_slot(task, model)
    model.slots[slot].left = model.num_bytes[amount]
    wait(slot, LATENCY, posted + model.latencies_ps[route], model)
