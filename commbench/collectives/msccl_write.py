# SPDX-License-Identifier: Apache-2.0
"""From a schedule to MSCCL XML.

A rank and channel gets one threadblock if it has one peer each way, else one per peer, and one more for copies on the
rank. Steps that use a chunk which another threadblock of the rank uses wait for it; the order of other steps is left
to MSCCL. A send stands before the receives of its step.
"""

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from commbench.collectives.msccl_file import COLL_NAMES
from commbench.collectives.passes import matches
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import ScheduleError

__all__ = ["to_msccl"]

Place = tuple[str, int]
_Key = tuple[int, int]
"""(peer that is sent to, peer that is received from), or -1."""


@dataclass(slots=True, eq=False)
class _XmlStep:
    """One step of a threadblock, and the steps of its gpu that it must come after."""

    type: str
    src: Place
    dst: Place
    count: int
    needs: list["_XmlStep"] = field(default_factory=list)


def to_msccl(schedule: Schedule) -> str:
    """The schedule as MSCCL XML, ending in a newline; ``schedule`` must be right.

    Raises:
        ScheduleError: it has chunks of unequal size, or switches that add; the format knows neither.
    """
    name = f"schedule {schedule.algorithm}"
    if schedule.weights:
        raise ScheduleError(f"{name}: MSCCL XML knows chunks of one size only")
    if schedule.num_switches:
        raise ScheduleError(f"{name}: MSCCL XML knows no switches that add")
    coll = next((short for short, long in COLL_NAMES.items() if long == schedule.collective), "custom")
    algo = ElementTree.Element(
        "algo",
        name=schedule.algorithm,
        proto="Simple",
        nchannels=str(schedule.num_channels),
        nchunksperloop=str(schedule.num_chunks),
        ngpus=str(schedule.num_ranks),
        coll=coll,
        inplace=str(int(schedule.output == 0)),
    )
    if coll == "custom":
        algo.set("commbench_collective", schedule.collective)
    if schedule.root:
        algo.set("root", str(schedule.root))
    messages = list(_messages(schedule))
    for rank in range(schedule.num_ranks):
        algo.append(_gpu(schedule, rank, messages))
    ElementTree.indent(algo)
    return ElementTree.tostring(algo, encoding="unicode") + "\n"


def _messages(schedule: Schedule) -> Iterator[tuple[Op, Op]]:
    """(send, receive) of every message in pieces that lie in one buffer of the file at both ends."""
    for send, receive in matches(schedule):
        if send.rank == send.peer and send.step != receive.step:
            raise ScheduleError(f"schedule {schedule.algorithm}: rank {send.rank} copies across steps; MSCCL cannot")
        yield from _pieces(schedule, send, receive)


def _pieces(schedule: Schedule, send: Op, receive: Op) -> Iterator[tuple[Op, Op]]:
    start = 0
    for end in range(1, send.count + 1):
        if end < send.count and all(
            _place(schedule, op.rank, op.chunk + end) == _after(_place(schedule, op.rank, op.chunk + end - 1))
            for op in (send, receive)
        ):
            continue
        yield tuple(  # type: ignore[misc]
            Op(op.step, op.rank, op.channel, op.kind, op.peer, op.chunk + start, end - start) for op in (send, receive)
        )
        start = end


def _after(place: Place) -> Place:
    return place[0], place[1] + 1


def _place(schedule: Schedule, rank: int, slot: int) -> Place:
    """Where a chunk stands in the file; see the conventions of msccl-tools, language/collectives.py.

    The input of an all-gather and the output of a reduce-scatter are one block; what lies outside of it in our
    buffers is scratch.
    """
    buffer, chunk = divmod(slot, schedule.num_chunks)
    block = schedule.num_chunks // schedule.num_ranks
    inside = chunk - rank * block
    if buffer == schedule.output and schedule.collective != "reduce-scatter":
        return ("o" if schedule.output or schedule.collective == "all-gather" else "i"), chunk
    if buffer == 0 and (schedule.output == 0 or schedule.collective != "all-gather"):
        return "i", chunk
    if buffer in (0, schedule.output) and 0 <= inside < block:
        return ("i" if buffer == 0 else "o"), inside
    return "s", slot


def _gpu(schedule: Schedule, rank: int, messages: list[tuple[Op, Op]]) -> ElementTree.Element:
    """The element of one rank."""
    blocks = _blocks(schedule, rank, messages)
    used: dict[str, int] = dict.fromkeys("ios", 0)
    for steps in blocks.values():
        for step in steps:
            reads, writes = step.type in ("s", "cpy", "re"), step.type != "s"
            for local, (buffer, offset) in ((reads, step.src), (writes, step.dst)):
                if local:
                    used[buffer] = max(used[buffer], offset + step.count)
    gpu = ElementTree.Element("gpu", id=str(rank))
    for buffer, size in used.items():
        gpu.set(f"{buffer}_chunks", str(size))
    columns = _elements(list(blocks.values()))
    for number, ((channel, send, recv), column) in enumerate(zip(blocks, columns, strict=True)):
        tb = ElementTree.SubElement(gpu, "tb", id=str(number), send=str(send), recv=str(recv), chan=str(channel))
        tb.extend(column)
    return gpu


def _blocks(schedule: Schedule, rank: int, messages: list[tuple[Op, Op]]) -> dict[tuple[int, int, int], list[_XmlStep]]:
    """The threadblocks of a rank: (channel, send, recv) -> its steps, with what they must come after."""
    mine = []
    for number, (send, receive) in enumerate(messages):
        if send.rank == receive.rank == rank:
            mine.append(((send.step, 1, number), send, receive, receive.kind, True))
        elif send.rank == rank:
            mine.append(((send.step, 0, number), send, receive, Kind.SEND, False))
        elif receive.rank == rank:
            mine.append(((receive.step, 2, number), send, receive, receive.kind, False))
    keys = _keys(rank, messages)
    blocks: dict[tuple[int, int, int], list[_XmlStep]] = {}
    users: dict[int, list[tuple[_XmlStep, Kind]]] = defaultdict(list)
    for _, send, receive, kind, local in sorted(mine, key=lambda entry: entry[0]):
        peer = -1 if local else receive.rank if kind is Kind.SEND else send.rank
        word = {Kind.SEND: "s", Kind.RECV: "cpy" if local else "r", Kind.REDUCE: "re" if local else "rrc"}[kind]
        src, dst = (_place(schedule, op.rank, op.chunk) for op in (send, receive))
        step = _XmlStep(word, dst if word == "rrc" else src, dst, send.count)
        if local or kind is Kind.SEND:
            _use(users, step, send, Kind.SEND)
        if local or kind is not Kind.SEND:
            _use(users, step, receive, kind)
        key = (send.channel, *keys[send.channel, peer, kind is Kind.SEND])
        blocks.setdefault(key, []).append(step)
    return blocks


def _keys(rank: int, messages: list[tuple[Op, Op]]) -> dict[tuple[int, int, bool], _Key]:
    """(channel, peer, whether it is sent to) -> the peers of its threadblock."""
    there = {(s.channel, r.rank) for s, r in messages if s.rank == rank != r.rank}
    here = {(s.channel, s.rank) for s, r in messages if r.rank == rank != s.rank}
    keys: dict[tuple[int, int, bool], _Key] = {}
    for channel in {channel for channel, _ in there | here}:
        to, back = ({peer for c, peer in ends if c == channel} for ends in (there, here))
        if len(to) == len(back) == 1:
            both = (*to, *back)
            keys |= {(channel, both[0], True): both, (channel, both[1], False): both}  # type: ignore[dict-item]
            continue
        for peer in to | back:
            both = (peer if peer in to else -1, peer if peer in back else -1)
            keys |= {(channel, peer, True): both, (channel, peer, False): both}
    local = {s.channel for s, r in messages if s.rank == r.rank == rank}
    return keys | {(channel, -1, sent): (-1, -1) for channel in local for sent in (True, False)}


def _use(users: dict[int, list[tuple[_XmlStep, Kind]]], step: _XmlStep, op: Op, kind: Kind) -> None:
    """Note that a step uses chunks, and which earlier steps it must come after because of that."""
    for chunk in range(op.chunk, op.chunk + op.count):
        earlier = users[chunk]
        step.needs += [other for other, use in earlier if other is not step and {use, kind} != {Kind.SEND}]
        if kind is Kind.RECV:
            earlier.clear()
        earlier.append((step, kind))


def _waits(blocks: list[list[_XmlStep]]) -> dict[int, list[tuple[int, int]]]:
    """Of every step, by id: the (threadblock, index) it must wait for, as few as will do."""
    index = {id(step): (b, k) for b, steps in enumerate(blocks) for k, step in enumerate(steps)}
    waits: dict[int, list[tuple[int, int]]] = {}
    for number, steps in enumerate(blocks):
        waited: dict[int, int] = {}
        for step in steps:
            last: dict[int, int] = {}
            for other, k in (index[id(need)] for need in step.needs):
                if other != number and k > waited.get(other, -1):
                    last[other] = max(k, last.get(other, -1))
            waited |= last
            waits[id(step)] = sorted(last.items())
    return waits


def _elements(blocks: list[list[_XmlStep]]) -> list[list[ElementTree.Element]]:
    """The step elements of every threadblock; a nop carries each dependency but the last."""
    waits = _waits(blocks)
    final: dict[tuple[int, int], int] = {}  # (threadblock, index) -> number among its steps, nops counted
    for number, steps in enumerate(blocks):
        nops = 0
        for k, step in enumerate(steps):
            nops += max(0, len(waits[id(step)]) - 1)
            final[number, k] = k + nops
    waited = {(b, final[b, k]) for pairs in waits.values() for b, k in pairs}
    columns = []
    for number, steps in enumerate(blocks):
        column: list[ElementTree.Element] = []
        for step in steps:
            *first, last = [(b, final[b, k]) for b, k in waits[id(step)]] or [(-1, -1)]
            for wait in first:
                column.append(_element(len(column), _XmlStep("nop", ("i", -1), ("o", -1), 0), wait, False))
            column.append(_element(len(column), step, last, (number, len(column)) in waited))
        columns.append(column)
    return columns


def _element(number: int, step: _XmlStep, wait: tuple[int, int], releases: bool) -> ElementTree.Element:
    return ElementTree.Element(
        "step",
        s=str(number),
        type=step.type,
        srcbuf=step.src[0],
        srcoff=str(step.src[1]),
        dstbuf=step.dst[0],
        dstoff=str(step.dst[1]),
        cnt=str(step.count),
        depid=str(wait[0]),
        deps=str(wait[1]),
        hasdep=str(int(releases)),
    )
