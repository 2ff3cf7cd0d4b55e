# SPDX-License-Identifier: Apache-2.0
"""What the kernel works on: a program and its setting as records and flat arrays.

Memory grows linearly: per task of the program 72 bytes of records, 4 per dependency and, where the trace is kept, 16
per instance; what is under way at a time takes 56 bytes per task and 12 per link of its route. A looped program holds
one round only.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from commbench.engine.kernel import counters as c
from commbench.engine.kernel import records
from commbench.engine.kernel.queue import TABLE_SIZE
from commbench.engine.setting import Setting, What
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram

__all__ = ["Model", "build_model"]

Array = npt.NDArray[Any]


class Model(NamedTuple):
    """Everything that the kernel works on; see kernel.records and kernel.counters."""

    n: Array  # counters
    tasks: Array
    dependents: Array
    lags: Array
    num_rounds: int
    amounts: tuple[Array, Array, int, int, int]  # bytes, durations, num_blocks, num_pieces, num_working
    routes: tuple[Array, Array, Array]  # first, links, weights
    latencies: Array
    route_now: Array
    sides: tuple[int, Array, Array, Array]  # overhead, slowness of ranks, pool of ranks, when processors are free
    changes: tuple[Array, Array, Array, Array]
    slots: Array
    crowd: tuple[Array, Array]  # flows on links, and where each stands there
    marks: tuple[Array, Array]  # by slot: number of the latest search that met it, rate of the sharing in progress
    links: Array
    queue: tuple[Array, Array, Array]  # buckets, heap, table
    pending: Array  # slots, or ~task for compute tasks of no time
    ready: Array  # tasks
    passed: Array  # slots of flows whose last byte has passed
    numbers: Array  # room for sorting
    touched: Array  # links
    part: tuple[Array, Array, Array]  # for a sharing: links and slots of the part, links that lose
    start: Array  # trace, or empty
    end: Array


def build_model(program: FlatProgram | LoopProgram, setting: Setting, *, keep_trace: bool) -> Model:
    """The state before anything has happened: tasks that wait for nothing are ready."""
    size, paths, pools = len(program.kind), setting.paths, setting.processors
    spans = program.num_tasks if keep_trace else 0
    tasks, dependents, lags = _tasks(program, setting)
    links, crowd = _links(tasks, setting)
    n, room = _counters(tasks)
    pool_of = np.arange(program.num_ranks) if pools.pools is None else np.array(pools.pools)
    free = np.zeros((int(pool_of.max(initial=0)) + 1, pools.pool_size), dtype=np.int64)
    queue = (
        np.empty(2 * size + 256, dtype=records.BUCKET),
        np.empty(2 * size + 256, dtype=records.ENTRY),
        np.full(TABLE_SIZE, -1, dtype=np.int32),
    )
    rows = [[getattr(change, name) for change in setting.changes] for name in ("time_ps", "what", "index", "value")]
    kinds = (np.int64, np.int32, np.int64, np.float64)
    return Model(
        n=n,
        tasks=tasks,
        dependents=dependents,
        lags=lags,
        num_rounds=program.num_rounds if isinstance(program, LoopProgram) else 1,
        amounts=_amounts(program),
        routes=(_own(paths.first, np.int64), _own(paths.links, np.uint32), _own(paths.weights, np.float64)),
        latencies=_own(paths.latency_ps, np.int64),
        route_now=np.arange(len(paths.latency_ps), dtype=np.int64),
        sides=(pools.overhead_ps, np.ones(program.num_ranks), pool_of.astype(np.int64), free),
        changes=tuple(np.array(row, dtype=kind) for row, kind in zip(rows, kinds, strict=True)),  # type: ignore[arg-type]
        slots=np.empty(size, dtype=records.SLOT),
        links=links,
        crowd=crowd,
        marks=(np.zeros(size, dtype=np.int32), np.empty(size, dtype=np.float64)),
        queue=queue,
        pending=np.empty(size, dtype=np.int32),
        ready=room,
        passed=np.empty(size, dtype=np.uint32),
        numbers=np.empty(size if pools.overhead_ps else 0, dtype=np.int64),
        touched=np.empty(len(links), dtype=np.uint32),
        part=(np.empty(len(links), np.uint32), np.empty(size, np.uint32), np.empty(len(links), np.uint32)),
        start=np.full(spans, -1, dtype=np.int64),
        end=np.full(spans, -1, dtype=np.int64),
    )


def _counters(tasks: Array) -> tuple[Array, Array]:
    """Counters at time 0, and the list of ready tasks in a room for all."""
    n = np.zeros(c.NUM_COUNTERS, dtype=np.int64)
    n[[c.FREE_BUCKET, c.FREE_SLOT]] = -1
    n[c.WATCHED_ROUND] = np.iinfo(np.int64).max
    ready = np.flatnonzero(tasks["missing"] == 0)
    n[c.READY] = len(ready)
    room = np.empty(len(tasks), dtype=np.uint32)
    room[: len(ready)] = ready
    return n, room


def _links(tasks: Array, setting: Setting) -> tuple[Array, tuple[Array, Array]]:
    """Link records, and room on every link for all flows that may ever be on it at a time, one per task.

    Also tells every task where the places of its flow begin.
    """
    paths = setting.paths
    length = np.diff(paths.first)
    users = np.bincount(paths.route_of[paths.route_of >= 0], minlength=len(length))  # tasks by route
    longest = length.copy()
    room = np.bincount(paths.links, weights=np.repeat(users, length), minlength=len(paths.bandwidths))
    for change in setting.changes:
        if change.what == What.ROUTE and change.value >= 0:
            other = int(change.value)
            longest[change.index] = max(longest[change.index], length[other])
            np.add.at(room, paths.links[paths.first[other] : paths.first[other + 1]], users[change.index])
    links = np.zeros(len(paths.bandwidths), dtype=records.LINK)
    links["bandwidth"] = paths.bandwidths
    links["first"][1:] = np.cumsum(room)[:-1]
    hops = np.where(paths.route_of >= 0, longest[paths.route_of] if len(longest) else 0, 0)
    tasks["hops"] = np.cumsum(hops) - hops
    return links, (np.empty(int(room.sum()), dtype=records.ON_LINK), np.empty(int(hops.sum()), dtype=np.int32))


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


def _amounts(program: FlatProgram | LoopProgram) -> tuple[Array, Array, int, int, int]:
    if isinstance(program, LoopProgram):
        blocks, pieces, working = program.num_blocks, program.num_pieces, program.num_working
    else:
        blocks, pieces, working = max(program.num_tasks, 1), 1, 1
    return _own(program.num_bytes, np.int64), _own(program.duration_ps, np.int64), blocks, pieces, working


def _own(array: Array, dtype: type[np.generic]) -> Array:
    """A writable copy: a kernel compiled for one kind of array serves all programs."""
    return np.array(array, dtype=dtype, order="C")
