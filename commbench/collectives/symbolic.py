# SPDX-License-Identifier: Apache-2.0
"""Run a schedule on symbols: who ends with whose contribution, or where it stops for ever.

This is the meaning in :mod:`commbench.collectives.schedule`, executed: steps in order on each (rank, channel), the
operations of a step posted together, rendezvous, reductions at the end of the step.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import GARBAGE, Shape, State, get_collective

__all__ = ["Deadlock", "execute", "shape_of"]


@dataclass(frozen=True, slots=True)
class Deadlock(Exception):  # noqa: N818  a fact about the schedule; verify turns it into the user's ScheduleError
    """No operation can go on: ``waiting`` lists those posted and unmatched."""

    waiting: tuple[Op, ...]


@dataclass(slots=True)
class _Lane:
    """One (rank, channel): its steps, which of them are posted, and what is still open."""

    steps: list[list[Op]]
    posted: int = 0  # steps posted so far
    ended: int = 0  # steps ended so far
    open_ops: list[int] = field(default_factory=list)  # per step, operations not yet done
    arrived: list[list[tuple[Op, list[Counter[tuple[int, int]]]]]] = field(default_factory=list)


def execute(schedule: Schedule) -> State:
    """The state that the schedule leaves, from its collective's precondition.

    Raises:
        Deadlock: some operations never find their partner.
    """
    state = _memory(schedule)
    lanes = _lanes(schedule)
    sends: dict[tuple[int, int, int], deque[Op]] = {}
    receives: dict[tuple[int, int, int], deque[Op]] = {}
    todo = deque(lanes)
    while todo:
        key = todo.popleft()
        lane = lanes[key]
        while _end_steps(lane, state) or _post(lane, schedule.window, sends, receives, todo, lanes, state):
            pass
    waiting = tuple(op for queues in (sends, receives) for queue in queues.values() for op in queue)
    if waiting or any(lane.ended < len(lane.steps) for lane in lanes.values()):
        raise Deadlock(waiting)
    return state


def shape_of(schedule: Schedule) -> Shape:
    """The shape that the collective's conditions speak of."""
    return Shape(schedule.num_ranks, schedule.num_chunks, schedule.root)


def _memory(schedule: Schedule) -> State:
    """All memory before the first step: inputs in buffer 0, zero in switches, garbage elsewhere."""
    shape = shape_of(schedule)
    state: State = {(r, c): Counter({GARBAGE: 1}) for r in shape.ranks for c in range(schedule.num_slots)}
    for switch in range(schedule.num_switches):
        state |= {(schedule.num_ranks + switch, c): Counter() for c in range(schedule.num_slots)}
    return state | get_collective(schedule.collective).before(shape)


def _lanes(schedule: Schedule) -> dict[tuple[int, int], _Lane]:
    """Operations by (rank, channel) and, inside, by step."""
    by_step: dict[tuple[int, int], dict[int, list[Op]]] = {}
    for op in schedule:
        by_step.setdefault((op.rank, op.channel), {}).setdefault(op.step, []).append(op)
    # A step number without operations ends at once, so it still counts for the window: keep it as an empty step.
    lanes = {}
    for key, steps in by_step.items():
        rows = [steps.get(s, []) for s in range(max(steps) + 1)]
        lanes[key] = _Lane(rows, open_ops=[len(row) for row in rows], arrived=[[] for _ in rows])
    return lanes


def _end_steps(lane: _Lane, state: State) -> bool:
    """End the earliest posted step if all its operations are done; apply its reductions."""
    if lane.ended == lane.posted or lane.open_ops[lane.ended]:
        return False
    for op, values in lane.arrived[lane.ended]:
        for i, value in enumerate(values):
            place = (op.rank, op.chunk + i)
            state[place] = state[place] + value if op.kind is Kind.REDUCE else Counter(value)
    lane.ended += 1
    return True


def _post(
    lane: _Lane,
    window: int,
    sends: dict[tuple[int, int, int], deque[Op]],
    receives: dict[tuple[int, int, int], deque[Op]],
    todo: deque[tuple[int, int]],
    lanes: dict[tuple[int, int], _Lane],
    state: State,
) -> bool:
    """Post the next step if the window allows; transfer whatever has met its partner."""
    if lane.posted == len(lane.steps) or lane.posted - lane.ended >= window:
        return False
    for op in lane.steps[lane.posted]:
        mine, theirs = (sends, receives) if op.kind is Kind.SEND else (receives, sends)
        pair = (op.rank, op.peer, op.channel) if op.kind is Kind.SEND else (op.peer, op.rank, op.channel)
        partners = theirs.get(pair)
        if not partners:
            mine.setdefault(pair, deque()).append(op)
            continue
        partner = partners.popleft()
        send, receive = (op, partner) if op.kind is Kind.SEND else (partner, op)
        values = [state[send.rank, send.chunk + i] for i in range(send.count)]
        receiver = lanes[receive.rank, receive.channel]
        receiver.arrived[receive.step].append((receive, values))
        for end in (send, receive):
            lanes[end.rank, end.channel].open_ops[end.step] -= 1
            todo.append((end.rank, end.channel))
    lane.posted += 1
    return True
