# SPDX-License-Identifier: Apache-2.0
"""Passes: pure functions from schedule to schedule. What comes out is verified like anything else."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from commbench.collectives.memory import require_table
from commbench.collectives.schedule import COLUMNS, Kind, Op, Schedule
from commbench.collectives.spec import Shape, get_collective
from commbench.errors import ScheduleError

__all__ = [
    "add_channels",
    "matches",
    "out_of_place",
    "pipeline",
    "reorder",
]

_STEP, _CHANNEL, _CHUNK, _COUNT = (COLUMNS.index(name) for name in ("step", "channel", "chunk", "count"))


def pipeline(schedule: Schedule, num_slices: int) -> Schedule:
    """Cut every chunk into slices that follow one another through the same schedule, ``window`` steps apart.

    Chunk c becomes chunks c * num_slices + j; slice j does in step s + j * window what the chunk did in step s. So a
    rank passes slice j on while slice j + 1 arrives. A schedule of T steps has T + (num_slices - 1) * window then.
    """
    return _sliced(schedule, num_slices, step_stride=schedule.window, channel_stride=0)


def add_channels(schedule: Schedule, num_channels: int) -> Schedule:
    """Cut every chunk into slices that run side by side, each on a channel of its own, not waiting for each other."""
    return _sliced(schedule, num_channels, step_stride=0, channel_stride=schedule.num_channels)


def reorder(schedule: Schedule, orders: npt.NDArray[np.int64]) -> Schedule:
    """Rank ``orders[k, p]`` in the role of rank p on the k-th part of the channels, and its block in that of block p.

    So every rank still ends with what its own number says, and channels leave hosts by different ranks (see
    :mod:`commbench.collectives.orders`). What rank r sends to rank r + 1 by its number (send-recv) stays as it is.

    Args:
        schedule: whose channels come in ``len(orders)`` equal parts, each of which does the whole collective.
        orders: shape (parts, ranks), every row a permutation; the root in its own role.
    """
    n, spec = schedule.num_ranks, get_collective(schedule.collective)
    if spec.neighbours or np.array_equal(orders, np.broadcast_to(np.arange(n), orders.shape)):
        return schedule
    table = _single_chunks(schedule.table) if spec.by_rank else schedule.table.copy()
    part = table[:, _CHANNEL] // max(1, schedule.num_channels // len(orders))
    switches = np.broadcast_to(np.arange(n, n + schedule.num_switches), (len(orders), schedule.num_switches))
    members = np.concatenate([orders, switches], axis=1)
    for name in ("rank", "peer"):
        column = COLUMNS.index(name)
        table[:, column] = members[part, table[:, column]]
    if spec.by_rank:
        size = schedule.num_chunks // n**spec.by_rank
        buffer, chunk = np.divmod(table[:, _CHUNK].astype(np.int64), schedule.num_chunks)
        row, block = np.divmod(chunk // size, n)  # rows only where the buffer has a piece for every pair of ranks
        row = orders[part, row] if spec.rows else row
        table[:, _CHUNK] = buffer * schedule.num_chunks + (row * n + orders[part, block]) * size + chunk % size
    return replace(schedule, table=table)


def matches(schedule: Schedule) -> Iterator[tuple[Op, Op]]:
    """(send, receive) of every message: the k-th send of a pair on a channel and the k-th receive.

    Raises:
        ScheduleError: a send or receive has no partner.
    """
    ends: dict[tuple[int, int, int], tuple[list[Op], list[Op]]] = defaultdict(lambda: ([], []))
    for op in schedule:
        sends = op.kind is Kind.SEND
        pair = (op.rank, op.peer) if sends else (op.peer, op.rank)
        ends[(*pair, op.channel)][0 if sends else 1].append(op)
    for (src, dst, channel), (sent, received) in ends.items():
        if len(sent) != len(received):
            raise ScheduleError(
                f"schedule {schedule.algorithm}: {len(sent)} sends and {len(received)} receives from rank {src} to "
                f"{dst} on channel {channel}"
            )
        yield from zip(sent, received, strict=True)


def out_of_place(schedule: Schedule) -> Schedule:
    """The same with the input left as it is: a first step copies it to a new buffer, and the schedule works there.

    A chunk that its rank only sends is sent from the input itself.

    Raises:
        ScheduleError: channels share a chunk that must be copied; only one of them could wait for the copy.
    """
    before = get_collective(schedule.collective).before(Shape(schedule.num_ranks, schedule.num_chunks, schedule.root))
    inputs = {place for place in before if place[1] < schedule.num_chunks}
    moved = _moved_chunks(schedule)
    shift = schedule.num_buffers * schedule.num_chunks
    ops = []
    for op in schedule:
        by = shift if (op.rank, op.chunk) in moved else 0
        ops.append(replace(op, step=op.step + schedule.window, chunk=op.chunk + by))
    copied = sorted(inputs if schedule.output == 0 else inputs & moved.keys())
    lane_of = [(rank, moved.get((rank, chunk), 0), chunk) for rank, chunk in copied]
    for (rank, channel, _), run in groupby(enumerate(lane_of), key=lambda at: (*at[1][:2], at[1][2] - at[0])):
        chunks = [chunk for _, (_, _, chunk) in run]
        ops.append(Op(0, rank, channel, Kind.SEND, rank, chunks[0], len(chunks)))
        ops.append(Op(0, rank, channel, Kind.RECV, rank, chunks[0] + shift, len(chunks)))
    output = schedule.num_buffers if schedule.output == 0 else schedule.output
    return replace(_with_ops(schedule, ops), num_buffers=schedule.num_buffers + 1, output=output)


def _moved_chunks(schedule: Schedule) -> dict[tuple[int, int], int]:
    """The (rank, chunk) of the input buffer that must not be used there, with the channel that uses them.

    They are those that are written, and those that stand in one message with such.
    """
    ops = [op for op in schedule if op.rank < schedule.num_ranks and op.chunk < schedule.num_chunks]
    moved = {(op.rank, c) for op in ops if op.kind.receives for c in range(op.chunk, op.chunk + op.count)}
    size = -1
    while size < len(moved):
        size = len(moved)
        for op in ops:
            places = {(op.rank, c) for c in range(op.chunk, op.chunk + op.count)}
            if places & moved:
                moved |= places
    channels: dict[tuple[int, int], int] = {}
    for op in ops:
        for place in ((op.rank, c) for c in range(op.chunk, op.chunk + op.count)):
            if place in moved and channels.setdefault(place, op.channel) != op.channel:
                raise ScheduleError(
                    f"schedule {schedule.algorithm}: rank {place[0]} uses chunk {place[1]} on channels "
                    f"{channels[place]} and {op.channel}; a copy of the input can come before one of them only"
                )
    return channels


def _with_ops(schedule: Schedule, ops: Sequence[Op]) -> Schedule:
    """The schedule with other records."""
    rows = [(op.step, op.rank, op.channel, int(op.kind), op.peer, op.chunk, op.count) for op in ops]
    return replace(schedule, table=np.array(rows, dtype=np.int32).reshape(-1, len(COLUMNS)))


def _sliced(schedule: Schedule, num_slices: int, *, step_stride: int, channel_stride: int) -> Schedule:
    if num_slices < 1:
        raise ScheduleError(f"schedule {schedule.algorithm}: slices must be at least 1, not {num_slices}")
    if num_slices == 1:
        return schedule
    if schedule.weights:
        raise ScheduleError(f"schedule {schedule.algorithm}: chunks of unequal size cannot be sliced")
    rows = int(schedule.column("count").sum()) * num_slices
    what = f"schedule {schedule.algorithm} in {num_slices} slices or channels"
    require_table(what, rows)
    single = _single_chunks(schedule.table)
    copies = []
    for j in range(num_slices):
        copy = single.copy()
        copy[:, _STEP] += j * step_stride
        copy[:, _CHANNEL] += j * channel_stride
        copy[:, _CHUNK] = copy[:, _CHUNK] * num_slices + j
        copies.append(copy)
    return replace(schedule, num_chunks=schedule.num_chunks * num_slices, table=np.concatenate(copies))


def _single_chunks(table: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Records on several chunks taken apart, chunk by chunk; sender and receiver come apart in the same order."""
    single = np.repeat(table, table[:, _COUNT], axis=0)
    first = np.repeat(np.cumsum(table[:, _COUNT]) - table[:, _COUNT], table[:, _COUNT])
    single[:, _CHUNK] += (np.arange(len(single)) - first).astype(np.int32)
    single[:, _COUNT] = 1
    return single
