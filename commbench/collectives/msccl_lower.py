# SPDX-License-Identifier: Apache-2.0
"""From MSCCL's threadblocks to a schedule.

Every message, and every copy on one gpu, becomes a node of a graph. An edge says that a node comes in a later step
than another (or not in an earlier one): because a threadblock runs in order, because of a dependency, or because both
use one chunk. The step number of a node is the length of the longest path to it. Both ends of a message get the same
number, so that no rank waits for ever.

Channels whose threadblocks use a chunk in turn become one channel, because those of a schedule never wait for each
other.

Sends are buffered in MSCCL: a chunk may be overwritten before the peer has received what was sent of it. A schedule has
no such buffers, so where that happens the message is copied to memory of its own first, and sent from there.

Memory: i and o become buffers 0 and 1, or both buffer 0 where the file says in place. What stands in scratch goes to
further buffers, at the number of a chunk of the same size, whatever the size of the buffer.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import networkx as nx

from commbench.collectives.msccl_file import Algo, Threadblock
from commbench.collectives.msccl_order import Cell, Instruction, cells, run, uses
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.collectives.spec import COLLECTIVES, Shape
from commbench.errors import ScheduleError

__all__ = ["lower"]

Row = tuple[str, int]
Slot = tuple[Row, int]
"""A row of memory and a chunk number in it. Rows: (i, 0), (o, 0), (s, any number), (t, 0) for what rrs adds up, and
(b, instruction) for what a send must keep."""


@dataclass(slots=True, eq=False)
class _Node:
    """A message from src to dst, a copy on one gpu (src == dst), or a wait (without slots)."""

    channel: int
    src: int
    dst: int
    instruction: int
    sent: Sequence[Slot] = ()
    kept: Sequence[Slot] = ()
    kind: Kind = Kind.RECV
    step: int = 0


@dataclass(slots=True)
class _Tail:
    """The last nodes of a threadblock: the last that it waits for, and the last send."""

    blocking: int | None = None
    send: int | None = None


def lower(program: Algo) -> Schedule:
    """The schedule of a program.

    Raises:
        ScheduleError: it waits for ever, or two threadblocks use a chunk in no order.
    """
    lowering = _Lowering(program)
    while early := lowering.number_steps():
        lowering = _Lowering(program, lowering.kept | early)
    rows, num_buffers = lowering.buffers()
    return Schedule.from_ops(
        program.collective,
        program.name,
        program.num_ranks,
        program.num_chunks,
        lowering.operations(rows),
        root=program.root,
        num_buffers=num_buffers,
        output=0 if program.in_place else 1,
    )


@dataclass(slots=True)
class _Channels:
    """Channels of the file, merged into classes."""

    _parent: dict[int, int] = field(default_factory=dict)

    def find(self, channel: int) -> int:
        """The smallest channel of the class."""
        while channel in self._parent:
            channel = self._parent[channel]
        return channel

    def merge(self, one: int, other: int) -> None:
        """Make the classes of two channels one."""
        low, high = sorted((self.find(one), self.find(other)))
        if low != high:
            self._parent[high] = low


class _Lowering:
    """Builds the nodes and edges of a program, instruction by instruction."""

    def __init__(self, program: Algo, kept: frozenset[int] = frozenset()) -> None:
        """``kept``: instructions whose message is copied aside before it is sent."""
        self.program, self.kept = program, kept
        self.order = run(program)
        self.nodes: list[_Node] = []
        self._edges: dict[tuple[int, int], int] = {}  # (before, after) -> 1: in a later step, 0: not in an earlier one
        self._channels = _Channels()
        self._uses = uses(program, self.order)
        self._result = COLLECTIVES[program.collective].after(Shape(program.num_ranks, program.num_chunks, program.root))
        self._label: dict[tuple[int, int], int] = {}  # (gpu, offset in scratch) -> chunk that stands there
        self._users: dict[tuple[int, Slot], list[tuple[int, Kind, int]]] = defaultdict(list)
        self._sender: dict[int, int] = {}  # node of a message -> the instruction that sends it
        self._messages: dict[int, deque[int]] = defaultdict(deque)  # sending instruction -> its node
        self._tails: dict[Threadblock, _Tail] = defaultdict(_Tail)
        self._blocking: dict[int, int] = {}  # instruction -> its last node that is no send
        for number, instruction in enumerate(self.order):
            self._expand(number, instruction)

    def _expand(self, number: int, this: Instruction) -> None:
        """The nodes of one step, in order; see the table in commbench.collectives.msccl."""
        gpu, step = this.block.gpu, this.step
        src = cells(self.program, gpu, step.src, step.count)
        dst = cells(self.program, gpu, step.dst, step.count)
        match step.type:
            case "nop":
                self._chain(number, self._new(number, gpu, gpu))
            case "s":
                self._send(number, src)
            case "r":
                self._receive(number, dst, Kind.RECV)
            case "rcs":
                self._receive(number, dst, Kind.RECV)
                self._send(number, dst)
            case "rrc" | "rrcs":
                self._copy(number, src, dst, Kind.RECV)
                self._receive(number, dst, Kind.REDUCE)
                if step.type == "rrcs":
                    self._send(number, dst)
            case "rrs":
                kept = src if self._is_dead_after(number, gpu, src) else self._aside(gpu, src)
                self._copy(number, src, kept, Kind.RECV)
                self._receive(number, kept, Kind.REDUCE)
                self._send(number, kept)
            case "cpy":
                self._copy(number, src, dst, Kind.RECV)
            case "re":
                self._copy(number, src, dst, Kind.REDUCE)

    def _is_dead_after(self, number: int, gpu: int, places: Sequence[Cell]) -> bool:
        """Whether nobody wants to read these cells as they are now: the sum may then be made in them."""
        output = "i" if self.program.in_place else "o"
        for cell in places:
            later = next((use for use in self._uses[gpu, cell] if use[0] > number), None)
            wanted = cell[0] == output and (gpu, cell[1]) in self._result
            if (later is None and wanted) or (later is not None and not later[1]):
                return False
        return True

    def _aside(self, gpu: int, places: Sequence[Cell]) -> list[Cell]:
        """Cells of the row for sums that are sent on and not kept."""
        return [("t", chunk) for _, chunk in self._slots(gpu, places)]

    def _slots(self, gpu: int, places: Sequence[Cell]) -> list[Slot]:
        """Where cells stand now."""
        slots: list[Slot] = []
        for buffer, index in places:
            if buffer == "s":
                label = self._label.get((gpu, index), index % self.program.num_chunks)
                slots.append((("s", index - label), label))
            else:
                slots.append(((buffer, 0), index))
        return slots

    def _overwrite(self, gpu: int, places: Sequence[Cell], source: Sequence[Slot]) -> list[Slot]:
        """Where cells stand once they have been overwritten by these chunks.

        Scratch stays in its own order wherever chunks of that number have the same size.
        """
        blocked = COLLECTIVES[self.program.collective].blocked
        period = self.program.num_chunks // (self.program.num_ranks if blocked else 1)
        for (buffer, index), (_, chunk) in zip(places, source, strict=True):
            if buffer == "s":
                own = index % self.program.num_chunks
                self._label[gpu, index] = own if (own - chunk) % period == 0 else chunk
        return self._slots(gpu, places)

    def _new(self, number: int, src: int, dst: int) -> int:
        self.nodes.append(_Node(self.order[number].block.channel, src, dst, number))
        return len(self.nodes) - 1

    def _send(self, number: int, places: Sequence[Cell]) -> None:
        block = self.order[number].block
        if number in self.kept:
            aside = [(f"b{number}", chunk) for _, chunk in self._slots(block.gpu, places)]
            self._copy(number, places, aside, Kind.RECV)
            places = aside
        node = self._new(number, block.gpu, block.send)
        self.nodes[node].sent = self._slots(block.gpu, places)
        self._messages[number].append(node)
        self._sender[node] = number
        self._chain(number, node, send=True)
        self._use(number, block.gpu, node, self.nodes[node].sent, Kind.SEND)

    def _receive(self, number: int, places: Sequence[Cell], kind: Kind) -> None:
        this = self.order[number]
        assert this.sender is not None
        node = self._messages[this.sender].popleft()
        self._land(number, node, places, kind)

    def _copy(self, number: int, src: Sequence[Cell], dst: Sequence[Cell], kind: Kind) -> None:
        if src == dst and kind is Kind.RECV:
            return
        gpu = self.order[number].block.gpu
        node = self._new(number, gpu, gpu)
        self.nodes[node].sent = self._slots(gpu, src)
        self._use(number, gpu, node, self.nodes[node].sent, Kind.SEND)
        self._land(number, node, dst, kind)

    def _land(self, number: int, node: int, places: Sequence[Cell], kind: Kind) -> None:
        gpu, here = self.order[number].block.gpu, self.nodes[node]
        here.kept = self._overwrite(gpu, places, here.sent) if kind is Kind.RECV else self._slots(gpu, places)
        here.kind = kind
        here.instruction = number
        self._chain(number, node)
        self._use(number, gpu, node, here.kept, kind)

    # Edges

    def _chain(self, number: int, node: int, *, send: bool = False) -> None:
        """What a node must come after: the threadblock's earlier nodes, except sends, and what its step waits for.

        A send, or a wait, stands in a later step than the messages that had to arrive before it.
        """
        this = self.order[number]
        tail = self._tails[this.block]
        waited = None if this.waits is None else self._blocking.get(this.waits)
        for earlier in (tail.blocking, waited, tail.send if send else None):
            if earlier is not None and earlier != node:
                arrives = self._is_message(earlier) and earlier != tail.send
                self._edge(earlier, node, later=arrives and (send or not self.nodes[node].sent))
        if send:
            tail.send = node
        else:
            tail.blocking = self._blocking[number] = node

    def _is_message(self, node: int) -> bool:
        return self.nodes[node].src != self.nodes[node].dst

    def _edge(self, before: int, after: int, *, later: bool) -> None:
        self._edges[before, after] = max(int(later), self._edges.get((before, after), 0))

    def _use(self, number: int, gpu: int, node: int, slots: Sequence[Slot], kind: Kind) -> None:
        """Order a node behind the earlier users of its chunks.

        Raises:
            ScheduleError: one of them is in no order with it in the file.
        """
        for slot in slots:
            users = self._users[gpu, slot]
            for earlier, other, instruction in users:
                if earlier == node or (kind is Kind.SEND and other is Kind.SEND):
                    continue
                self._check_order(instruction, number)
                self._channels.merge(self.nodes[earlier].channel, self.nodes[node].channel)
                # Additions end with their step, so a send of the same step still carries the old value.
                self._edge(earlier, node, later=kind is not Kind.REDUCE or other is Kind.RECV)
            if kind is Kind.RECV:
                users.clear()
            users.append((node, kind, number))

    def _check_order(self, earlier: int, number: int) -> None:
        this = self.order[number]
        if earlier != number and not this.before >> earlier & 1:
            raise ScheduleError(
                f"{self.program.place}, {this.where}: uses a chunk that {self.order[earlier].where} uses too, and no "
                f"dependency says which comes first"
            )

    # The schedule

    def number_steps(self) -> frozenset[int]:
        """Give every node its step: the longest path to it, and no gaps.

        Returns:
            Sends whose chunk is overwritten too early, so that a node would have to come after itself; then no step
            was given.

        Raises:
            ScheduleError: a node would have to come after itself although all such messages are kept.
        """
        graph = nx.DiGraph()
        graph.add_nodes_from(range(len(self.nodes)))
        graph.add_edges_from(self._edges)
        whole = nx.condensation(graph)
        part = whole.graph["mapping"]
        longest = dict.fromkeys(whole, 0)
        into: dict[int, list[tuple[int, int]]] = defaultdict(list)
        late: set[int] = set()
        for (before, after), later in self._edges.items():
            if part[before] != part[after]:
                into[part[after]].append((part[before], later))
            elif later:
                late.add(after)
        if late:
            return self._early(part, late)
        for group in nx.topological_sort(whole):
            longest[group] = max((longest[before] + later for before, later in into[group]), default=0)
        used = sorted({longest[part[i]] for i, node in enumerate(self.nodes) if node.sent})
        dense = {step: k for k, step in enumerate(used)}
        for i, node in enumerate(self.nodes):
            node.step = dense.get(longest[part[i]], 0)
        return frozenset()

    def _early(self, part: dict[int, int], late: set[int]) -> frozenset[int]:
        """The instructions that send, from memory that others use, what stands on a cycle with one of these nodes."""
        cycles = {part[node] for node in late}
        early = {self._sender[node] for node in self._sender if part[node] in cycles} - self.kept
        if not early:
            where = self.order[self.nodes[min(late)].instruction].where
            raise ScheduleError(f"{self.program.place}, {where}: has to come after itself")
        return frozenset(early)

    def buffers(self) -> tuple[dict[tuple[int, Row], int], int]:
        """The buffer of every (gpu, row), and how many there are; rows that hold other chunks share a buffer."""
        first = 1 if self.program.in_place else 2
        chunks: dict[tuple[int, Row], set[int]] = defaultdict(set)
        for gpu, (row, chunk) in self._users:
            chunks[gpu, row].add(chunk)
        found: dict[tuple[int, Row], int] = {}
        filled: dict[int, list[set[int]]] = defaultdict(list)
        for (gpu, row), members in sorted(chunks.items()):
            if row[0] in ("i", "o"):
                found[gpu, row] = "io".index(row[0])
                continue
            taken = filled[gpu]
            fits = next((k for k, others in enumerate(taken) if not others & members), len(taken))
            if fits == len(taken):
                taken.append(set())
            taken[fits] |= members
            found[gpu, row] = first + fits
        return found, first + max(map(len, filled.values()), default=0)

    def operations(self, buffers: dict[tuple[int, Row], int]) -> Iterator[Op]:
        """The records; messages of one pair, channel and step stand in the same order on both ranks."""
        classes = sorted({self._channels.find(node.channel) for node in self.nodes if node.sent})
        for node in self.nodes:
            channel = classes.index(self._channels.find(node.channel)) if node.sent else 0
            places = [
                tuple(buffers[gpu, row] * self.program.num_chunks + chunk for gpu, (row, chunk) in ends)
                for ends in zip(
                    [(node.src, slot) for slot in node.sent], [(node.dst, slot) for slot in node.kept], strict=True
                )
            ]
            for here, there, count in _runs(places):
                yield Op(node.step, node.src, channel, Kind.SEND, node.dst, here, count)
                yield Op(node.step, node.dst, channel, node.kind, node.src, there, count)


def _runs(pairs: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, int, int]]:
    """Pairs of chunks, joined to (here, there, count) wherever both follow on."""
    start = 0
    for end in range(1, len(pairs) + 1):
        if end < len(pairs) and all(b == a + 1 for a, b in zip(pairs[end - 1], pairs[end], strict=True)):
            continue
        yield pairs[start][0], pairs[start][1], end - start
        start = end
