# SPDX-License-Identifier: Apache-2.0
"""Does a schedule do what its collective promises? The one judge of every algorithm.

Checks, in order: every record is well formed; every send has a receive of the same size; no chunk is overwritten
while it is in use; nothing waits for ever; every rank ends with exactly the contributions that the postcondition
lists; what is sent fits where it lands. The first failure is raised with rank, step and chunk, and the step-by-rank
grid with a marker.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NoReturn

from commbench.collectives.grid import step_by_rank
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import GARBAGE, get_collective
from commbench.collectives.symbolic import Deadlock, execute, shape_of
from commbench.errors import ScheduleError

__all__ = ["verify"]

_ByPair = dict[tuple[int, int, int], list[Op]]


def verify(schedule: Schedule) -> None:
    """Return if the schedule is right.

    Raises:
        ScheduleError: it is not; the message names what, rank, step and chunk, and ``grid`` holds the picture.
        InputError: its collective is unknown.
    """
    get_collective(schedule.collective)
    ops = list(schedule)
    _check_records(schedule, ops)
    pairs = _pairs(ops)
    _check_pairs(schedule, *pairs)
    _check_overwrites(schedule, ops)
    _check_outcome(schedule)
    _check_sizes(schedule, *pairs)


def _refuse(schedule: Schedule, message: str, mark: Op | None = None) -> NoReturn:
    where = f"rank {mark.rank}, step {mark.step}, chunk {mark.chunk}: " if mark else ""
    raise ScheduleError(
        f"schedule {schedule.collective}/{schedule.algorithm} on {schedule.num_ranks} ranks: {where}{message}",
        grid=step_by_rank(schedule, mark),
    )


def _check_records(schedule: Schedule, ops: Sequence[Op]) -> None:
    n, chunks = schedule.num_ranks, schedule.num_chunks
    if get_collective(schedule.collective).blocked and chunks % n:
        _refuse(schedule, f"{chunks} chunks cannot be cut into a block for each of {n} ranks")
    members = n + schedule.num_switches
    for op in ops:
        if not (0 <= op.rank < members and 0 <= op.peer < members):
            _refuse(schedule, f"rank {op.rank} or peer {op.peer} is outside the group 0..{members - 1}", op)
        if op.step < 0 or op.channel < 0:
            _refuse(schedule, f"step {op.step} and channel {op.channel} must not be negative", op)
        if op.count < 1 or op.chunk < 0 or op.chunk + op.count > schedule.num_slots:
            last = op.chunk + op.count - 1
            _refuse(schedule, f"chunks {op.chunk}..{last} are outside the buffer 0..{schedule.num_slots - 1}", op)


def _pairs(ops: Iterable[Op]) -> tuple[_ByPair, _ByPair]:
    """Sends and receives by (sender, receiver, channel), each in the order in which they meet."""
    sends: _ByPair = defaultdict(list)
    receives: _ByPair = defaultdict(list)
    for op in ops:
        if op.kind is Kind.SEND:
            sends[op.rank, op.peer, op.channel].append(op)
        else:
            receives[op.peer, op.rank, op.channel].append(op)
    return sends, receives


def _check_pairs(schedule: Schedule, sends: _ByPair, receives: _ByPair) -> None:
    """The k-th send of a pair on a channel must meet a k-th receive, of as many chunks."""
    for pair in sends.keys() | receives.keys():
        here, there = sends[pair], receives[pair]
        if len(here) > len(there):
            op = here[len(there)]
            _refuse(schedule, f"the send to rank {op.peer} on channel {op.channel} has no matching receive", op)
        if len(there) > len(here):
            op = there[len(here)]
            _refuse(schedule, f"the receive from rank {op.peer} on channel {op.channel} has no matching send", op)
        for send, receive in zip(here, there, strict=True):
            if send.count != receive.count:
                wanted = f"where rank {receive.rank} expects {receive.count}"
                _refuse(schedule, f"sends {send.count} chunks {wanted}", send)


def _check_sizes(schedule: Schedule, sends: _ByPair, receives: _ByPair) -> None:
    """What is sent must fit where it lands, whatever the size of the buffer."""
    for pair, here in sends.items():
        for send, receive in zip(here, receives[pair], strict=True):
            if not _same_sizes(schedule, send, receive):
                place = f"chunk {receive.chunk} of rank {receive.rank}"
                _refuse(schedule, f"is received as {place}, which need not be of the same size", send)


def _same_sizes(schedule: Schedule, send: Op, receive: Op) -> bool:
    """Whether the chunks sent are as large as the places they land in, whatever the size of the buffer.

    Chunks of the same number in any buffer are. In blocked collectives, whose sizes are whole multiples of n elements,
    chunks at the same place inside their blocks are too.
    """
    here, there = send.chunk % schedule.num_chunks, receive.chunk % schedule.num_chunks
    if here == there:
        return True
    if schedule.weights:
        weight = [
            schedule.weights[(start + i) % schedule.num_chunks] for start in (here, there) for i in range(send.count)
        ]
        return weight[: send.count] == weight[send.count :]
    blocked = get_collective(schedule.collective).blocked
    period = schedule.num_chunks // (schedule.num_ranks if blocked else 1)
    return here % period == there % period


def _check_overwrites(schedule: Schedule, ops: Iterable[Op]) -> None:
    """No chunk of a rank may be written while another operation in flight uses it.

    Allowed together: sends; and, on one channel, additions, or a send and an addition of the same step (additions
    wait for the end of the step). In flight together are steps less than ``window`` apart on a channel, and all steps
    of different channels.
    """
    users: dict[tuple[int, int], list[Op]] = defaultdict(list)
    for op in ops:
        for chunk in range(op.chunk, op.chunk + op.count):
            users[op.rank, chunk].append(op)
    for (_, chunk), used in users.items():
        if all(op.kind is Kind.SEND for op in used):
            continue
        for i, first in enumerate(used):
            for second in used[i + 1 :]:
                if _clash(first, second, schedule.window):
                    use = f"{first} in step {first.step} on channel {first.channel}"
                    _refuse(schedule, f"{second} overwrites a live chunk: {use} uses chunk {chunk} too", second)


def _clash(first: Op, second: Op, window: int) -> bool:
    kinds = {first.kind, second.kind}
    if kinds == {Kind.SEND}:
        return False
    if first.channel != second.channel:
        return True
    if kinds == {Kind.REDUCE}:
        return False
    apart = abs(first.step - second.step)
    if kinds == {Kind.SEND, Kind.REDUCE}:
        send, addition = (first, second) if first.kind is Kind.SEND else (second, first)
        # A send posted before the addition's step ends, but in a later step, may carry either value.
        return 0 < send.step - addition.step < window
    return apart < window


def _check_outcome(schedule: Schedule) -> None:
    try:
        state = execute(schedule)
    except Deadlock as deadlock:
        op = min(deadlock.waiting, default=None)
        verb = "send to" if op and op.kind is Kind.SEND else "receive from"
        peer = f": the {verb} rank {op.peer} waits for ever" if op else ""
        _refuse(schedule, f"deadlock{peer}", op)
    collective = get_collective(schedule.collective)
    for (rank, place), contributions in collective.after(shape_of(schedule)).items():
        chunk = place + schedule.output * schedule.num_chunks
        found = state[rank, chunk]
        if found == contributions or (collective.covers and set(found) == set(contributions)):
            continue
        last = max(
            (op for op in schedule.ops_of(rank) if op.kind.receives and _covers(op, chunk)),
            default=None,
            key=lambda op: op.step,
        )
        missing = sorted((contributions - found).elements())
        surplus = sorted((found - contributions).elements())
        _refuse(
            schedule,
            f"rank {rank} ends chunk {chunk} without {_origins(missing)} and with {_origins(surplus)} too many"
            + ("" if last else ", which it never receives"),
            last,
        )


def _covers(op: Op, chunk: int) -> bool:
    return op.chunk <= chunk < op.chunk + op.count


def _origins(contributions: list[tuple[int, int]]) -> str:
    if not contributions:
        return "nothing"
    shown = ", ".join(
        "memory that nobody wrote" if origin == GARBAGE else f"rank {origin[0]}'s chunk {origin[1]}"
        for origin in contributions[:3]
    )
    return shown + (f" and {len(contributions) - 3} more" if len(contributions) > 3 else "")
