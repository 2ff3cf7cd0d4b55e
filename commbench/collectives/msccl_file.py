# SPDX-License-Identifier: Apache-2.0
"""What an MSCCL XML file holds, checked: the form in which msccl-tools emits algorithms and MSCCL and RCCL run them.

An ``algo`` holds a ``gpu`` per rank, a gpu threadblocks (``tb``), a threadblock steps that run in order. A threadblock
sends to at most one peer and receives from at most one, on its channel; data between two gpus on a channel arrives in
the order in which it was sent. ``depid`` and ``deps`` make a step wait for a step of another threadblock of its gpu.
What a step does, as the interpreter of MSCCL does it (src and dst are places of its own gpu, in its input i, output o
or scratch s; places of the other gpu that msccl-tools writes beside them are not read):

=======  ===========================================================
``s``    send src
``r``    receive into dst
``rcs``  receive into dst, send it on
``rrs``  receive, add src, send the sum on, keep nothing
``rrc``  receive, add src, keep the sum in dst
``rrcs`` the same, and send the sum on
``cpy``  copy src to dst
``re``   add src to dst
``nop``  wait for its dependency
=======  ===========================================================

Source: microsoft/msccl-tools, msccl/language/ir.py (the form); Azure/msccl, the device interpreter (the meaning).
Protocol and ``nchannels`` have no meaning here. Three attributes of ``algo`` are commbench's own: ``root``, and for
collectives that MSCCL has no name for (``coll="custom"``) ``commbench_collective``.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from commbench.collectives.schedule import MOST_CHUNKS, MOST_STEPS
from commbench.collectives.spec import COLLECTIVES, MOST_CONTRIBUTIONS, contributions
from commbench.errors import ScheduleError

__all__ = ["COLL_NAMES", "TYPES", "Algo", "Place", "Threadblock", "ThreadblockStep", "parse"]

COLL_NAMES = {
    "allreduce": "all-reduce",
    "allgather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
    "broadcast": "broadcast",
    "reduce": "reduce",
}
_SYNONYMS = {"reducescatter": "reduce_scatter", "all_reduce": "allreduce", "all_gather": "allgather"}

# Type of a step -> (receives, sends, reads src, writes dst).
TYPES = {
    "nop": (False, False, False, False),
    "s": (False, True, True, False),
    "r": (True, False, False, True),
    "rcs": (True, True, False, True),
    "rrs": (True, True, True, False),
    "rrc": (True, False, True, True),
    "rrcs": (True, True, True, True),
    "cpy": (False, False, True, True),
    "re": (False, False, True, True),
}

Place = tuple[str, int]
"""Buffer (i, o or s) and offset in chunks."""


@dataclass(frozen=True, slots=True)
class ThreadblockStep:
    """One step of a threadblock; ``waits`` is the (threadblock, step) of the same gpu that must have ended before."""

    number: int
    type: str
    src: Place
    dst: Place
    count: int
    waits: tuple[int, int] | None
    releases: bool


@dataclass(frozen=True, slots=True)
class Threadblock:
    """One threadblock; send and recv are peers, or -1."""

    gpu: int
    id: int
    send: int
    recv: int
    channel: int
    steps: tuple[ThreadblockStep, ...]

    def where(self, step: ThreadblockStep) -> str:
        """The step's place in the file, for messages."""
        return f"gpu {self.gpu}, tb {self.id}, step {step.number}"


@dataclass(frozen=True, slots=True)
class Algo:
    """A checked XML file. ``num_chunks`` counts those of the full buffer."""

    place: str
    name: str
    collective: str
    num_ranks: int
    num_chunks: int
    in_place: bool
    root: int
    blocks: tuple[Threadblock, ...]


def parse(text: str, place: str, collective: str | None = None) -> Algo:
    """The checked contents of an XML text; ``place`` (a file name) opens every error message.

    ``collective`` says what a "custom" one implements.

    Raises:
        ScheduleError: it breaks a rule of the format; names ``place``, gpu, threadblock and step.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ScheduleError(f"{place}: a document type or entities; MSCCL XML has none, and they can be harmful")
    try:
        algo = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ScheduleError(f"{place}: no well-formed XML: {error}") from None
    if algo.tag != "algo":
        raise ScheduleError(f"{place}: the outermost element is <{algo.tag}>, not <algo>")
    gpus = algo.findall("gpu")
    num_ranks = _number(algo, "ngpus", place)
    if num_ranks != len(gpus) or sorted(_number(gpu, "id", f"{place}, gpu") for gpu in gpus) != list(range(num_ranks)):
        raise ScheduleError(f"{place}: ngpus is {num_ranks}, so gpu ids must be 0..{num_ranks - 1}, each once")
    sizes = [_number(gpu, f"{b}_chunks", f"{place}, gpu {gpu.get('id')}") for gpu in gpus for b in "io"]
    num_chunks = (
        max(sizes, default=0) if "nchunksperloop" not in algo.attrib else _number(algo, "nchunksperloop", place)
    )
    name = _collective(algo, place, collective)
    if num_ranks < 1 or num_chunks < 1:
        raise ScheduleError(f"{place}: {num_ranks} gpus and {num_chunks} chunks; both must be at least 1")
    if num_chunks > MOST_CHUNKS:
        raise ScheduleError(f"{place}: {num_chunks} chunks (nchunksperloop, i_chunks, o_chunks); at most {MOST_CHUNKS}")
    if contributions(COLLECTIVES[name], num_ranks, num_chunks) > MOST_CONTRIBUTIONS:
        raise ScheduleError(
            f"{place}: {num_chunks} chunks (nchunksperloop) on {num_ranks} gpus are too many to verify: at most "
            f"{MOST_CONTRIBUTIONS} contributions to the results of all"
        )
    if COLLECTIVES[name].blocked and num_chunks % num_ranks:
        raise ScheduleError(f"{place}: {num_chunks} chunks are not a whole number for each of {num_ranks} gpus")
    root = _number(algo, "root", place, default=0)
    if not 0 <= root < num_ranks:
        raise ScheduleError(f"{place}: root {root} is outside the gpus 0..{num_ranks - 1}")
    blocks = tuple(block for gpu in gpus for block in _blocks(gpu, num_ranks, place))
    program = Algo(
        place=place,
        name=algo.get("name") or "msccl",
        collective=name,
        num_ranks=num_ranks,
        num_chunks=num_chunks,
        in_place=_number(algo, "inplace", place, default=0) == 1,
        root=root,
        blocks=blocks,
    )
    _check_places(program)
    _check_connections(program)
    _check_waits(program)
    return program


def _number(element: ElementTree.Element, key: str, where: str, default: int | None = None) -> int:
    value = element.get(key)
    if value is None and default is not None:
        return default
    try:
        return int(value or "")
    except ValueError:
        raise ScheduleError(f"{where}: {key} is {value!r}, a whole number is needed") from None


def _collective(algo: ElementTree.Element, place: str, wanted: str | None) -> str:
    coll = (algo.get("coll") or "").lower()
    coll = _SYNONYMS.get(coll, coll)
    name = algo.get("commbench_collective") or wanted if coll == "custom" else COLL_NAMES.get(coll)
    if coll == "custom" and name is None:
        raise ScheduleError(
            f'{place}: coll "custom" does not say which collective it is: add commbench_collective="NAME" to <algo>, '
            f"NAME one of {', '.join(COLLECTIVES)}"
        )
    if name is None or name not in COLLECTIVES:
        raise ScheduleError(f"{place}: coll {algo.get('coll')!r} is unknown; known: {', '.join(COLL_NAMES)}, custom")
    return name


def _blocks(gpu: ElementTree.Element, num_ranks: int, place: str) -> list[Threadblock]:
    number = _number(gpu, "id", place)
    blocks = []
    for tb in gpu.findall("tb"):
        where = f"{place}, gpu {number}, tb {tb.get('id')}"
        send, recv = _number(tb, "send", where), _number(tb, "recv", where)
        for word, peer in (("send", send), ("recv", recv)):
            if not -1 <= peer < num_ranks or peer == number:
                raise ScheduleError(f"{where}: {word} {peer} must be another gpu of 0..{num_ranks - 1}, or -1")
        channel = _number(tb, "chan", where)
        if channel < 0:
            raise ScheduleError(f"{where}: chan {channel} must not be negative")
        steps = tuple(_step(step, where, send, recv) for step in tb.findall("step"))
        if [step.number for step in steps] != list(range(len(steps))):
            raise ScheduleError(f"{where}: its steps must be numbered 0..{len(steps) - 1}, in order")
        if len(steps) > MOST_STEPS:
            raise ScheduleError(f"{where}: {len(steps)} steps; at most {MOST_STEPS}")
        blocks.append(Threadblock(number, _number(tb, "id", where), send, recv, channel, steps))
    ids = [block.id for block in blocks]
    if len(set(ids)) != len(ids):
        raise ScheduleError(f"{place}, gpu {number}: two threadblocks have the same id")
    return blocks


def _step(element: ElementTree.Element, where: str, send: int, recv: int) -> ThreadblockStep:
    number = _number(element, "s", where)
    where = f"{where}, step {number}"
    kind = element.get("type") or ""
    if kind not in TYPES:
        raise ScheduleError(f"{where}: type {kind!r} is unknown; known: {', '.join(TYPES)}")
    receives, sends, _, _ = TYPES[kind]
    if (receives and recv < 0) or (sends and send < 0):
        raise ScheduleError(f"{where}: type {kind} in a threadblock with send {send} and recv {recv}")
    src, dst = (
        (element.get(f"{end}buf") or "", _number(element, f"{end}off", where, default=-1)) for end in ("src", "dst")
    )
    count = _number(element, "cnt", where, default=1)
    if kind != "nop" and count < 1:
        raise ScheduleError(f"{where}: cnt {count} must be at least 1")
    block, step = (_number(element, key, where, default=-1) for key in ("depid", "deps"))
    waits = (block, step) if block >= 0 else None
    return ThreadblockStep(number, kind, src, dst, count, waits, _number(element, "hasdep", where, default=0) == 1)


def _check_places(program: Algo) -> None:
    """Every place that a step uses on its own gpu lies in that buffer."""
    block_size = program.num_chunks // program.num_ranks
    small = {"all-gather": "i", "reduce-scatter": "o"}.get(program.collective)
    moved = sum(step.count for block in program.blocks for step in block.steps)
    if moved > MOST_CONTRIBUTIONS:
        raise ScheduleError(f"{program.place}: its steps use {moved} chunks (cnt); at most {MOST_CONTRIBUTIONS} in all")
    for block in program.blocks:
        for step in block.steps:
            _, _, reads, writes = TYPES[step.type]
            for used, word, (buffer, offset) in ((reads, "src", step.src), (writes, "dst", step.dst)):
                if not used:
                    continue
                where = f"{program.place}, {block.where(step)}"
                if buffer not in ("i", "o", "s"):
                    raise ScheduleError(f"{where}: {word}buf {buffer!r} is unknown; known: i, o, s")
                size = block_size if buffer == small else program.num_chunks
                last = offset + step.count - 1
                if buffer == "s":
                    size = MOST_CHUNKS
                if offset < 0 or last >= size:
                    raise ScheduleError(
                        f"{where}: {word} {buffer}[{offset}..{last}] is outside {buffer}[0..{size - 1}]"
                    )


def _check_connections(program: Algo) -> None:
    """One threadblock at most serves each end of a connection."""
    seen: set[tuple[str, int, int, int]] = set()
    for block in program.blocks:
        for word, peer in (("send", block.send), ("recv", block.recv)):
            end = (word, block.gpu, peer, block.channel)
            if peer >= 0 and end in seen:
                where = f"{program.place}, gpu {block.gpu}, tb {block.id}"
                raise ScheduleError(f"{where}: another threadblock has {word} {peer} on channel {block.channel} too")
            seen.add(end)


def _check_waits(program: Algo) -> None:
    """Dependencies name steps that there are, and that tell when they have ended."""
    blocks = {(block.gpu, block.id): block for block in program.blocks}
    for block in program.blocks:
        for step in block.steps:
            if step.waits is None:
                continue
            other, number = step.waits
            where = f"{program.place}, {block.where(step)}: waits for tb {other}, step {number}"
            target = blocks.get((block.gpu, other))
            if target is None or not 0 <= number < len(target.steps):
                raise ScheduleError(f"{where}, which gpu {block.gpu} does not have")
            if not any(later.releases for later in target.steps[number:]):  # the flag of a later step releases too
                raise ScheduleError(f"{where}, but that one has hasdep 0 and would never tell")
