# SPDX-License-Identifier: Apache-2.0
"""A second judge of schedules that shares no code with ``commbench.collectives.verify`` or ``symbolic``.

It runs the operations on random numbers, by the meaning in the docstring of ``commbench.collectives.schedule``,
and looks whether every rank ends with what the collective promises. It is hostile where the definition leaves freedom:
a receive spoils its chunk as soon as it is posted, a transfer reads and writes at separate moments, a reduction loads
and stores at separate moments, and the moves come in several orders. A schedule is right if it is right in each.
"""

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from commbench.collectives.schedule import Kind, Op, Schedule

_SPOILED = 2**50 + 1  # inputs are below 2^40, so no sum of them looks like this, and none of it overflows

# The kinds of move, with the one that an order prefers standing first. Reading late lets every overwrite that is
# possible happen before; reading early, or holding back what arrives at one rank, misses every addition and
# every arrival that is not certain to have happened.
_LAZY = ("post", "load", "store", "write", "read")
_EAGER = ("read", "write", "load", "store", "post")
_HOLD_BACK = ("read", "post", "load", "store", "write")

Order = str | int | tuple[str, int]
"""'lazy', 'eager', ('slow', rank) where everything arrives at that rank as late as can be, or the seed of a draw."""


@dataclass
class _Lane:
    steps: list[list[Op]]
    open_ops: list[int] = field(default_factory=list)
    posted: int = 0
    ended: int = 0
    posting: bool = False
    ending: bool = False
    arrived: dict[int, list[tuple[Op, np.ndarray]]] = field(default_factory=lambda: defaultdict(list))


class _Run:
    """One execution in one order."""

    def __init__(self, schedule: Schedule, buffers: np.ndarray, order: Order) -> None:
        self.window, self.buffers = schedule.window, buffers
        self.lanes: dict[tuple[int, int], _Lane] = {}
        for op in schedule:
            lane = self.lanes.setdefault((op.rank, op.channel), _Lane([]))
            lane.steps.extend([] for _ in range(op.step + 1 - len(lane.steps)))
            lane.steps[op.step].append(op)
        self.waiting: dict[tuple[Kind, int, int, int], deque[Op]] = defaultdict(deque)
        self.moves: dict[str, list] = {kind: [] for kind in _LAZY}
        self.rng = random.Random(order) if isinstance(order, int) else None
        self.misfits = False  # whether something arrived that is not as large as its place
        self.slow = order[1] if isinstance(order, tuple) else -1
        self.preference = {"lazy": _LAZY, "eager": _EAGER}.get(order, _HOLD_BACK)

    def finish(self) -> bool:
        """Make moves until none is left; whether all fitted and every step of every lane has ended."""
        for lane in self.lanes.values():
            lane.open_ops = [len(step) for step in lane.steps]
            self.wake(lane)
        while (move := self.next_move()) is not None:
            kind, what = move
            getattr(self, kind)(what)
        return not self.misfits and all(lane.ended == len(lane.steps) for lane in self.lanes.values())

    def next_move(self):
        possible = [kind for kind in self.preference if self.moves[kind]]
        if not possible:
            return None
        if self.rng is None:
            moves = self.moves[possible[0]]
            quick = (i for i, move in enumerate(moves) if possible[0] != "write" or move[0].rank != self.slow)
            return possible[0], moves.pop(next(quick, 0))
        kind = self.rng.choice(possible)
        return kind, self.moves[kind].pop(self.rng.randrange(len(self.moves[kind])))

    def wake(self, lane: _Lane) -> None:
        """Note what this lane may do now."""
        if not lane.posting and lane.posted < len(lane.steps) and lane.posted - lane.ended < self.window:
            lane.posting = True
            self.moves["post"].append(lane)
        if not lane.ending and lane.ended < lane.posted and lane.open_ops[lane.ended] == 0:
            lane.ending = True
            self.moves["load"].append(lane)

    def post(self, lane: _Lane) -> None:
        lane.posting = False
        for op in lane.steps[lane.posted]:
            if op.kind is Kind.RECV:
                self.buffers[op.rank, op.chunk : op.chunk + op.count] = _SPOILED
            send = op.kind is Kind.SEND
            pair = (op.rank, op.peer, op.channel) if send else (op.peer, op.rank, op.channel)
            partners = self.waiting[(Kind.RECV if send else Kind.SEND, *pair)]
            if partners:
                partner = partners.popleft()
                self.moves["read"].append((op, partner) if send else (partner, op))
            else:
                self.waiting[(Kind.SEND if send else Kind.RECV, *pair)].append(op)
        lane.posted += 1
        self.wake(lane)

    def read(self, transfer: tuple[Op, Op]) -> None:
        send, receive = transfer
        data = self.buffers[send.rank, send.chunk : send.chunk + send.count].copy()
        self.moves["write"].append((receive, data))
        self.close(send)

    def write(self, arrival: tuple[Op, np.ndarray]) -> None:
        receive, data = arrival
        if len(data) != receive.count:
            self.misfits = True
        elif receive.kind is Kind.RECV:
            self.buffers[receive.rank, receive.chunk : receive.chunk + receive.count] = data
        else:
            self.lanes[receive.rank, receive.channel].arrived[receive.step].append((receive, data))
        self.close(receive)

    def close(self, op: Op) -> None:
        lane = self.lanes[op.rank, op.channel]
        lane.open_ops[op.step] -= 1
        self.wake(lane)

    def load(self, lane: _Lane) -> None:
        sums: dict[tuple[int, int], int] = {}
        for op, data in lane.arrived[lane.ended]:
            for i, value in enumerate(data):
                place = (op.rank, op.chunk + i)
                sums[place] = sums.get(place, int(self.buffers[place])) + int(value)
        self.moves["store"].append((lane, sums))

    def store(self, loaded: tuple[_Lane, dict[tuple[int, int], int]]) -> None:
        lane, sums = loaded
        for place, value in sums.items():
            self.buffers[place] = value
        lane.ended += 1
        lane.ending = False
        self.wake(lane)


def orders_for(num_ranks: int) -> list[Order]:
    """Every order worth trying on a world of this size, the ones that show most first."""
    return ["lazy", "eager", *(("slow", rank) for rank in range(num_ranks)), 1, 2]


def faults(schedule: Schedule, orders: Iterable[Order]) -> Iterator[str]:
    """What goes wrong when a schedule runs on random numbers, a line per order; nothing if it is right."""
    rng = np.random.default_rng(20240531)
    n, chunks = schedule.num_ranks, schedule.num_chunks
    inputs = rng.integers(1, 2**40, size=(n, chunks))
    given, wanted = _problem(schedule, inputs)
    start = rng.integers(2**41, 2**42, size=(n + schedule.num_switches, schedule.num_slots))  # nobody's data
    start[n:] = 0  # switches add from zero
    for rank, chunk in given:
        start[rank, chunk] = inputs[rank, chunk]
    outside = [op for op in schedule if not 0 <= op.chunk <= op.chunk + op.count <= schedule.num_slots]
    if outside:
        yield f"{outside[0]!r} reaches outside the memory"
        return
    for order in orders:
        buffers = start.copy()
        if not _Run(schedule, buffers, order).finish():
            yield f"{order}: hangs, or sizes do not fit"
            continue
        found = buffers[:n, schedule.output * chunks : (schedule.output + 1) * chunks]
        enough = schedule.collective == "barrier"
        for (rank, chunk), value in wanted.items():
            if found[rank, chunk] != value and not (enough and _heard(found[rank, chunk], inputs[:, chunk])):
                yield f"{order}: rank {rank}, chunk {chunk} is not what {schedule.collective} promises"
                break


def _problem(schedule: Schedule, inputs: np.ndarray) -> tuple[list[tuple[int, int]], dict[tuple[int, int], int]]:
    """Which (rank, chunk) hold input, and what each (rank, chunk) of the result must be.

    Written down from the definitions in the MPI standard, chapter 6, and nccl-tests; not from commbench's own spec.
    """
    n, chunks, root = schedule.num_ranks, schedule.num_chunks, schedule.root
    size = chunks // n  # of a rank's block, where there are blocks
    ranks, everything = range(n), [(r, c) for r in range(n) for c in range(chunks)]
    own = [(r, c) for r, c in everything if size and c // size == r]
    match schedule.collective:
        case "all-reduce" | "barrier":
            return everything, {(r, c): inputs[:, c].sum() for r, c in everything}
        case "reduce-scatter":
            return everything, {(r, c): inputs[:, c].sum() for r, c in own}
        case "reduce":
            return everything, {(root, c): inputs[:, c].sum() for c in range(chunks)}
        case "all-gather":
            return own, {(r, c): inputs[c // size, c] for r, c in everything}
        case "gather":
            return own, {(root, c): inputs[c // size, c] for c in range(chunks)}
        case "broadcast":
            return [(root, c) for c in range(chunks)], {(r, c): inputs[root, c] for r, c in everything}
        case "scatter":
            return [(root, c) for c in range(chunks)], {(r, c): inputs[root, c] for r, c in own}
        case "all-to-all":
            triples = [(r, s, j) for r in ranks for s in ranks for j in range(size)]
            return everything, {(r, s * size + j): inputs[s, r * size + j] for r, s, j in triples}
        case "all-to-all-v":
            size = chunks // n**2
            rows = [(s, (s * n + d) * size + j) for s in ranks for d in ranks for j in range(size)]
            return rows, {(c // size % n, c): inputs[s, c] for s, c in rows}
        case "send-recv":
            return everything, {(r, c): inputs[(r - 1) % n, c] for r, c in everything}
    raise AssertionError(f"teach the judge what {schedule.collective} must give")


def _heard(found: int, inputs: np.ndarray) -> bool:
    """Of a barrier: whether the token is a sum in which every rank's part stands at least once (few ranks only)."""
    parts = [int(part) for part in inputs]
    rest = int(found) - sum(parts)
    reachable = {0}
    for part in parts:
        reachable |= {r + k * part for r in reachable for k in range(1, len(parts) + 1) if r + k * part <= rest}
    return rest in reachable
