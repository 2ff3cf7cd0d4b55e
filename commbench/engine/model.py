# SPDX-License-Identifier: Apache-2.0
"""What the kernel works on: a program and its setting as records and flat arrays.

Memory grows linearly: per task of the program 64 bytes of records, 4 per dependency and, where the trace is kept, 16
per instance; what is under way at a time takes 104 bytes per task and 12 per link of its route. A looped program holds
one round only.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.engine.kernel import counters as c
from commbench.engine.kernel import records
from commbench.engine.setting import CUT_OFF, Setting, What
from commbench.network.base import NEVER, NetworkKernel
from commbench.network.models import FLUID
from commbench.network.queue import SLOT, Queue, empty_queue
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram

__all__ = ["Model", "build_model"]

Array = npt.NDArray[Any]


class Model(NamedTuple):
    """Everything that the kernel works on; see kernel.records and kernel.counters.

    Attributes:
        n: counters.
        tasks: records TASK of a round. dependents, lags: tasks that wait, and for which round's instance.
        num_rounds: of the loop; 1 for a flat program.
        num_bytes, durations_ps: amounts, shape (num_blocks * num_pieces,).
        num_blocks, num_pieces: see kernel.records.TASK. num_working: rounds in which compute tasks take time.
        first: shape (routes + 1,), equal neighbours for a route over no link. latencies_ps: of every route.
        route_now: per route the one that is taken instead, or CUT_OFF.
        overhead_ps: of a message on either side. slowness: of every rank. pool_of: its pool of processors.
        free: when every processor is free, ps, shape (pools, processors).
        changes: records CHANGE.
        slots: records network.queue.SLOT of what is active.
        queue: of all that is under way outside the network.
        network: state of the network model.
        pending: slots whose event is at this instant, or ~task for compute tasks of no time. ready: tasks.
        passed: slots of flows whose last byte has passed. numbers: room for sorting.
        start, end: the trace in ps, or empty.
    """

    n: Array
    tasks: Array
    dependents: Array
    lags: Array
    num_rounds: int
    num_bytes: Array
    durations_ps: Array
    num_blocks: int
    num_pieces: int
    num_working: int
    first: Array
    latencies_ps: Array
    route_now: Array
    overhead_ps: int
    slowness: Array
    pool_of: Array
    free: Array
    changes: Array
    slots: Array
    queue: Queue
    network: Any
    pending: Array
    ready: Array
    passed: Array
    numbers: Array
    start: Array
    end: Array


def build_model(
    program: FlatProgram | LoopProgram, setting: Setting, *, keep_trace: bool, network: NetworkKernel | None = None
) -> Model:
    """The state before anything has happened: tasks that wait for nothing are ready. ``network``: None is fluid."""
    size, paths, pools = len(program.kind), setting.paths, setting.processors
    spans = program.num_tasks if keep_trace else 0
    tasks, dependents, lags = _tasks(program, setting)
    n, room = _counters(tasks)
    pool_of = np.arange(program.num_ranks) if pools.pools is None else np.array(pools.pools)
    rounds, blocks, pieces, working = 1, max(program.num_tasks, 1), 1, 1
    if isinstance(program, LoopProgram):
        rounds, working = program.num_rounds, program.num_working
        blocks, pieces = program.num_blocks, program.num_pieces
    changes = [(one.time_ps, one.value, one.index, one.what) for one in setting.changes]
    moves = [(one.index, int(one.value)) for one in setting.changes if one.what is What.ROUTE and one.value != CUT_OFF]
    return Model(
        n=n,
        tasks=tasks,
        dependents=dependents,
        lags=lags,
        num_rounds=rounds,
        num_bytes=_amounts(program.num_bytes),
        durations_ps=_amounts(program.duration_ps),
        num_blocks=blocks,
        num_pieces=pieces,
        num_working=working,
        first=_own(paths.first, np.int64),
        latencies_ps=_own(paths.latency_ps, np.int64),
        route_now=np.arange(len(paths.latency_ps), dtype=np.int64),
        overhead_ps=pools.overhead_ps,
        slowness=np.ones(program.num_ranks),
        pool_of=pool_of.astype(np.int64),
        free=np.zeros((int(pool_of.max(initial=0)) + 1, pools.pool_size), dtype=np.int64),
        changes=np.array(changes, dtype=records.CHANGE),
        slots=np.empty(size, dtype=SLOT),
        queue=empty_queue(size),
        network=(network or FLUID.kernel()).build(paths.wiring, paths.route_of, moves),
        pending=np.empty(size, dtype=np.int32),
        ready=room,
        passed=np.empty(size, dtype=np.uint32),
        numbers=np.empty(size if pools.overhead_ps else 0, dtype=np.int64),
        start=np.full(spans, -1, dtype=np.int64),
        end=np.full(spans, -1, dtype=np.int64),
    )


def _counters(tasks: Array) -> tuple[Array, Array]:
    """Counters at time 0, and the list of ready tasks in a room for all."""
    n = np.zeros(c.NUM_COUNTERS, dtype=np.int64)
    n[c.FREE_SLOT], n[c.NETWORK] = -1, NEVER
    n[c.WATCHED_ROUND] = np.iinfo(np.int64).max
    ready = np.flatnonzero(tasks["missing"] == 0)
    n[c.READY] = len(ready)
    room = np.empty(len(tasks), dtype=np.uint32)
    room[: len(ready)] = ready
    return n, room


def _tasks(program: FlatProgram | LoopProgram, setting: Setting) -> tuple[Array, Array, Array]:
    """Task records, dependents and their lags."""
    size = len(program.kind)
    tasks = np.empty(size, dtype=records.TASK)
    for name in ("kind", "rank", "peer"):
        tasks[name] = getattr(program, name)
    tasks["route"], tasks["round"] = setting.paths.route_of, 0
    tasks["needs"] = np.diff(program.first)
    if isinstance(program, LoopProgram):
        first, dependents, lags = program.dependents()
        before = np.bincount(np.repeat(np.arange(size), np.diff(program.first)), weights=program.lag, minlength=size)
        tasks["missing"] = tasks["needs"] - before.astype(np.int64)  # the first round has none before it
        for name in ("base", "pitch", "block", "stride", "piece"):
            tasks[name] = getattr(program, name)
    else:
        first, dependents = program.dependents()
        lags = np.zeros(len(dependents), dtype=np.int8)
        tasks["missing"] = tasks["needs"]
        tasks["base"] = tasks["block"] = np.arange(size)
        tasks["pitch"] = tasks["stride"] = tasks["piece"] = 0
    tasks["first"], tasks["last"] = first[:-1], first[1:]
    return tasks, dependents.astype(np.uint32), lags.astype(np.int8)


def _amounts(array: Array) -> Array:
    """As :func:`_own`, but no copy where there is no need: kernels only read them, and they are the largest arrays."""
    return np.require(array, np.int64, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])


def _own(array: Array, dtype: type[np.generic]) -> Array:
    """A writable copy: a kernel compiled for one kind of array serves all programs."""
    return np.array(array, dtype=dtype, order="C")
