# SPDX-License-Identifier: Apache-2.0
"""From a Program to the flat tasks that engines run: streams become dependencies, collectives become transfers.

A collective becomes, for each record pair of its schedule, one transfer, and for each step of each (rank, channel)
one compute task, the *step end*, which lasts as long as the step's reductions. The window rule of
:mod:`commbench.collectives.schedule` then reads: a transfer of step s waits for step end s - window on both its
ranks; step end s waits for the transfers of step s and for step end s - 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from commbench.arrays import IntArray
from commbench.cluster import Cluster
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.traffic import messages_of
from commbench.errors import InputError
from commbench.libraries.base import Timing
from commbench.lowering.aggregate import layouts_of
from commbench.lowering.choose import Choices
from commbench.lowering.pace import launch_ps, step_end_ps
from commbench.program.flat import COLUMNS, COMPUTE, TRANSFER, FlatProgram, compress
from commbench.program.loop import LoopProgram
from commbench.program.operations import NOTHING, Communication, Program, Transfer

__all__ = ["expand", "expand_rounds", "expand_schedule"]

_DEFAULTS = {name: 0 if name in ("num_bytes", "duration_ps") else -1 for name in COLUMNS}


class _Builder:
    """Collects tasks and dependencies: one by one (as Python numbers, which is quicker) or block by block."""

    def __init__(self) -> None:
        self.size = 0
        self._columns: dict[str, list[IntArray]] = {name: [] for name in COLUMNS}
        self._rows: list[tuple[int, ...]] = []  # tasks added one by one since the last block
        self._waiting: list[IntArray] = []
        self._needed: list[IntArray] = []
        self._pairs: list[tuple[int, int]] = []

    def add(self, count: int, **columns: IntArray | int) -> IntArray:
        """Append ``count`` tasks; scalars are spread, columns not given are -1 (amounts: 0). Returns their numbers."""
        self._close_rows()
        for name in COLUMNS:
            value = columns.get(name, _DEFAULTS[name])
            self._columns[name].append(np.broadcast_to(np.asarray(value, dtype=np.int64), (count,)))
        self.size += count
        return np.arange(self.size - count, self.size, dtype=np.int64)

    def add_one(self, needed: Iterable[int], **columns: int) -> int:
        """Append one task that waits for those; returns its number."""
        self._rows.append(tuple((_DEFAULTS | columns).values()))
        number, self.size = self.size, self.size + 1
        self._pairs.extend((number, before) for before in needed)
        return number

    def need(self, waiting: IntArray | int, needed: IntArray | int) -> None:
        """Task ``waiting[i]`` waits for ``needed[i]``; scalars are spread."""
        pair = np.broadcast_arrays(np.asarray(waiting, dtype=np.int64), np.asarray(needed, dtype=np.int64))
        self._waiting.append(pair[0].ravel())
        self._needed.append(pair[1].ravel())

    def build(self, num_ranks: int) -> FlatProgram:
        self._close_rows()
        columns = {name: np.concatenate([np.empty(0, np.int64), *parts]) for name, parts in self._columns.items()}
        pairs = np.array(self._pairs, dtype=np.int64).reshape(-1, 2)
        waiting = np.concatenate([pairs[:, 0], *self._waiting])
        needed = np.concatenate([pairs[:, 1], *self._needed])
        first, needs = compress(waiting, needed, self.size)
        return FlatProgram(num_ranks=num_ranks, first=first, needs=needs, **columns)

    def _close_rows(self) -> None:
        if self._rows:
            for name, column in zip(COLUMNS, np.array(self._rows, dtype=np.int64).T, strict=True):
                self._columns[name].append(column)
            self._rows.clear()


def expand(program: Program, cluster: Cluster, choices: Choices) -> FlatProgram:
    """The tasks of a program, every transfer of it.

    Args:
        program: what to run; each rank stands for itself.
        cluster: where its ranks sit. choices: how its collectives go.

    Raises:
        InputError: a rank that stands for others, a collective of several groups, or of switches that add; or the
            library cannot serve one.
    """
    if program.represented_by is not None:
        raise InputError("a folded program has no single transfers: give --detail collective, or do not fold it")
    build, reduction = _Builder(), cluster.fabric.costs.reduction_ps_per_byte
    calls = [_call_of(what, cluster, choices) for what in program.communications]
    last_on: dict[tuple[int, int], int] = {}  # (rank, stream) -> the task that ends its latest operation
    ends: list[set[int]] = []  # per operation: the tasks that end it on its ranks
    columns = (program.rank, program.duration_ps, program.communication, program.stream)
    for number, (rank, lasts, talks, stream) in enumerate(np.stack(columns, axis=1).tolist()):
        ranks = (rank,) if talks == NOTHING else program.ranks_of[talks]
        earlier = set[int]().union(*(ends[before] for before in program.waits_of(number)))
        waits = {rank: earlier | _present(last_on.get((rank, stream))) for rank in ranks}
        if talks == NOTHING:
            done = {rank: build.add_one(waits[rank], kind=COMPUTE, rank=rank, duration_ps=lasts, operation=number)}
        elif isinstance(calls[talks], Transfer):
            done = _add_transfers(build, calls[talks], number, waits)
        else:
            done = _add_collective(build, replace(calls[talks], number=number), waits, reduction)
        ends.append(set(done.values()))
        last_on.update({(rank, stream): task for rank, task in done.items()})
    return build.build(program.num_ranks)


def _call_of(what: Communication, cluster: Cluster, choices: Choices) -> "Transfer | _Call":
    """A communication as the library has it go."""
    if isinstance(what, Transfer):
        return what
    if len(what.groups) != 1:
        raise InputError(f"a collective of {len(what.groups)} groups at a time has no single transfers; one call each")
    layout = layouts_of(what.groups, cluster)[1][0]
    chosen = choices.of(what, layout)
    timing = chosen.choice.timing
    schedule = chosen.form.schedule() if isinstance(chosen.form, Rounds) else chosen.form
    if schedule.num_switches:
        name = chosen.choice.name
        raise InputError(f"algorithm {name} needs switches that add; it can be simulated alone, not in a program")
    return _Call(schedule, what.groups[0], what.num_elements, what.element_bytes, 0, timing)


def _add_transfers(build: "_Builder", what: Transfer, number: int, waits: dict[int, set[int]]) -> dict[int, int]:
    done: dict[int, int] = {}
    for src, dst in what.pairs.tolist():
        task = build.add_one(
            waits[src] | waits[dst],
            kind=TRANSFER,
            rank=src,
            peer=dst,
            num_bytes=what.num_bytes,
            channel=0,
            operation=number,
        )
        done.update({src: task, dst: task})
    return done


def expand_schedule(
    schedule: Schedule, *, num_elements: int, element_bytes: int, reduction_ps_per_byte: float
) -> FlatProgram:
    """The tasks of one schedule that starts at time 0 on all ranks."""
    build = _Builder()
    members = schedule.num_ranks + schedule.num_switches
    call = _Call(schedule, np.arange(members, dtype=np.int64), num_elements, element_bytes, 0)
    _add_schedule(build, call, reduction_ps_per_byte, entry=None)
    return build.build(members)


def expand_rounds(
    rounds: Rounds, *, num_elements: int, element_bytes: int, reduction_ps_per_byte: float
) -> LoopProgram | None:
    """The tasks of a schedule that repeats itself, as one round; unrolled, they are those of :func:`expand_schedule`.

    None where some chunk is empty: empty messages are left out, so that rounds differ.
    """
    sizes = rounds.chunk_bytes(num_elements, element_bytes)
    if rounds.num_rounds == 0 or not sizes.all():
        return None
    num_channels = int(rounds.channel.max()) + 1
    lanes, lane = np.unique(
        np.concatenate([rounds.sender, rounds.receiver]) * num_channels + np.tile(rounds.channel, 2),
        return_inverse=True,
    )
    sends, receives = np.split(lane, 2)
    messages, ends = np.arange(len(sends)), len(sends) + np.arange(len(lanes))
    received = np.empty(len(lanes), dtype=np.int64)  # per lane: the message that arrives there
    received[receives] = messages
    waiting = [ends[sends], ends[receives], ends, messages, messages]
    needed = [messages, messages, ends, ends[sends], ends[receives]]
    lags = np.repeat([0, 0, 1, 1, 1], [len(each) for each in waiting])
    order = np.lexsort((np.concatenate(needed), np.concatenate(waiting)))
    first, needs = compress(np.concatenate(waiting), np.concatenate(needed), len(sends) + len(lanes))

    def with_ends(of_message: IntArray) -> IntArray:
        """A step end has the amount that arrives in its step."""
        return np.concatenate([of_message, of_message[received]])

    none = np.full(len(lanes), -1, dtype=np.int64)
    return LoopProgram(
        num_ranks=rounds.num_ranks,
        kind=np.repeat([TRANSFER, COMPUTE], [len(sends), len(lanes)]),
        rank=np.concatenate([rounds.sender, lanes // num_channels]),
        peer=np.concatenate([rounds.receiver, none]),
        channel=np.concatenate([rounds.channel, none]),
        num_rounds=rounds.num_rounds,
        num_working=rounds.num_reduces,
        num_bytes=sizes,
        duration_ps=np.floor(sizes * reduction_ps_per_byte + 0.5).astype(np.int64),
        num_blocks=rounds.num_blocks,
        num_pieces=rounds.num_pieces,
        block=with_ends(rounds.block),
        stride=with_ends(rounds.stride),
        piece=with_ends(rounds.piece),
        # A transfer's number counts the sends of lower lanes and of earlier steps; step ends follow, lane by lane.
        base=np.concatenate([messages, ends]) * rounds.num_rounds,
        pitch=np.ones(len(sends) + len(lanes), dtype=np.int64),
        first=first,
        needs=needs,
        lag=lags[order],
    )


def _present(task: int | None) -> set[int]:
    return set() if task is None else {task}


@dataclass(frozen=True, slots=True)
class _Call:
    """A schedule applied: group rank g is rank ``group[g]``; ``number`` is the operation it came from; ``timing`` what
    a library's model says of it."""

    schedule: Schedule
    group: IntArray
    num_elements: int
    element_bytes: int
    number: int
    timing: Timing | None = None


def _add_collective(build: _Builder, call: _Call, waits: dict[int, set[int]], reduction: float) -> dict[int, int]:
    """Add the schedule between two joins per rank: one before it, one after it. Returns the joins after it."""
    group, launch = call.group, 0 if call.timing is None else launch_ps(call.timing)
    entry = build.add(len(group), kind=COMPUTE, rank=group, operation=call.number, duration_ps=launch)
    for join, rank in zip(entry.tolist(), group.tolist(), strict=True):
        build.need(join, np.array(sorted(waits[rank]), dtype=np.int64))
    lane_rank, lane_end = _add_schedule(build, call, reduction, entry)
    leave = build.add(len(group), kind=COMPUTE, rank=group, operation=call.number)
    build.need(leave, entry)
    build.need(leave[lane_rank], lane_end)
    return dict(zip(group.tolist(), leave.tolist(), strict=True))


def _add_schedule(build: _Builder, call: _Call, reduction: float, entry: IntArray | None) -> tuple[IntArray, IntArray]:
    """Add a schedule's transfers and step ends; see the module docstring for the dependencies.

    ``entry`` holds, per group rank, a task before which nothing starts. Returns, per lane that has steps, its group
    rank and its last step end.
    """
    schedule, timing = call.schedule, call.timing
    send, receive, num_bytes = messages_of(call.schedule, call.num_elements, call.element_bytes)
    if timing is not None:
        num_bytes = np.maximum(np.rint(num_bytes * timing.share), 1).astype(np.int64)
    transfers = build.add(
        len(send),
        kind=TRANSFER,
        rank=call.group[send[:, 1]],
        peer=call.group[receive[:, 1]],
        num_bytes=num_bytes,
        channel=send[:, 2],
        step=send[:, 0],
        operation=call.number,
    )
    lanes = _Lanes(schedule)
    send_end, receive_end = lanes.step_end(send), lanes.step_end(receive)
    # A switch adds at line rate, what it is made for; only ranks pay for additions.
    adds = (receive[:, 3] == Kind.REDUCE) & (receive[:, 1] < schedule.num_ranks)
    reduced = np.bincount(receive_end[adds], weights=num_bytes[adds], minlength=lanes.num_ends)
    working = np.floor(reduced * reduction + 0.5).astype(np.int64)
    ends = build.add(
        lanes.num_ends,
        kind=COMPUTE,
        rank=call.group[lanes.rank],
        duration_ps=working if timing is None else step_end_ps(timing, schedule.num_steps),
        step=lanes.step,
        operation=call.number,
    )
    build.need(ends[send_end], transfers)
    build.need(ends[receive_end], transfers)
    build.need(ends[lanes.step > 0], ends[lanes.step > 0] - 1)
    for side, end in ((send, send_end), (receive, receive_end)):
        waits = side[:, 0] >= schedule.window
        build.need(transfers[waits], ends[end[waits] - schedule.window])
        if entry is not None:
            build.need(transfers[~waits], entry[side[~waits, 1]])
    if entry is not None:
        build.need(ends[lanes.step == 0], entry[lanes.rank[lanes.step == 0]])
    return lanes.rank[lanes.last], ends[lanes.last]


class _Lanes:
    """The step ends of a schedule, numbered lane by lane; a lane is a (rank, channel) and has steps 0..its last.

    Attributes:
        rank, step: of every step end. last: indices of the step ends that close a lane. num_ends: how many there are.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._num_channels = schedule.num_channels
        members = schedule.num_ranks + schedule.num_switches
        steps = np.zeros(members * self._num_channels, dtype=np.int64)
        table = schedule.table.astype(np.int64)
        np.maximum.at(steps, self._lane(table), table[:, 0] + 1)
        self._first = np.concatenate([[0], np.cumsum(steps)])
        lane = np.repeat(np.arange(len(steps)), steps)
        self.num_ends = len(lane)
        self.rank: IntArray = lane // self._num_channels
        self.step: IntArray = np.arange(len(lane)) - self._first[lane]
        self.last: IntArray = self._first[1:][steps > 0] - 1

    def _lane(self, rows: IntArray) -> IntArray:
        return rows[:, 1] * self._num_channels + rows[:, 2]

    def step_end(self, rows: IntArray) -> IntArray:
        """Number of the step end that closes each record's step."""
        numbers: IntArray = self._first[self._lane(rows)] + rows[:, 0]
        return numbers
