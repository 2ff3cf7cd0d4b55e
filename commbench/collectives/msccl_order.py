# SPDX-License-Identifier: Apache-2.0
"""Run MSCCL's threadblocks once: in which order may their steps happen, and which have certainly happened before?

Sends are buffered, as in MSCCL: a step that sends ends without waiting for its peer.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from commbench.collectives.msccl_file import TYPES, Algo, Threadblock, ThreadblockStep
from commbench.errors import ScheduleError

__all__ = ["Cell", "Instruction", "cells", "run", "uses"]

Cell = tuple[str, int]
"""Buffer and chunk of one gpu: i and o by the chunk's number in the full buffer, s by its offset."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A step in its turn.

    Attributes:
        block, step: which.
        before: bit k is set if instruction k certainly ended before this one began.
        sender: number of the instruction whose message it receives. waits: of the one that it waits for.
    """

    block: Threadblock
    step: ThreadblockStep
    before: int
    sender: int | None
    waits: int | None

    @property
    def where(self) -> str:
        """Gpu, threadblock and step, for messages."""
        return self.block.where(self.step)


def run(program: Algo) -> list[Instruction]:
    """All steps, in an order in which MSCCL could run them.

    Raises:
        ScheduleError: a step is never reached, a message never received, or its two ends differ in size.
    """
    order: list[Instruction] = []
    ended: dict[tuple[int, int, int], int] = {}  # (gpu, tb, step) -> number of its instruction
    sent: dict[tuple[int, int, int], deque[int]] = defaultdict(deque)
    done = dict.fromkeys(program.blocks, 0)
    size = -1
    while size < len(order):
        size = len(order)
        for block in program.blocks:
            while done[block] < len(block.steps):
                step = block.steps[done[block]]
                receives, sends, _, _ = TYPES[step.type]
                arriving = sent[block.recv, block.gpu, block.channel]
                if (receives and not arriving) or (step.waits and (block.gpu, *step.waits) not in ended):
                    break
                sender = arriving.popleft() if receives else None
                waits = ended[block.gpu, *step.waits] if step.waits else None
                earlier = ended[block.gpu, block.id, step.number - 1] if step.number else None
                before = 0
                for number in (sender, waits, earlier):
                    before |= 0 if number is None else order[number].before | 1 << number
                if sends:
                    sent[block.gpu, block.send, block.channel].append(len(order))
                ended[block.gpu, block.id, step.number] = len(order)
                order.append(Instruction(block, step, before, sender, waits))
                _check_size(program, order, sender)
                done[block] += 1
    _check_end(program, done, order, sent)
    return order


def _check_size(program: Algo, order: list[Instruction], sender: int | None) -> None:
    here = order[-1]
    if sender is not None and order[sender].step.count != here.step.count:
        raise ScheduleError(
            f"{program.place}, {here.where}: receives {here.step.count} chunks where "
            f"{order[sender].where} sends {order[sender].step.count}"
        )


def _check_end(
    program: Algo,
    done: Mapping[Threadblock, int],
    order: list[Instruction],
    sent: Mapping[tuple[int, int, int], deque[int]],
) -> None:
    for block, number in done.items():
        if number < len(block.steps):
            step = block.steps[number]
            what = f"tb {step.waits[0]}, step {step.waits[1]}" if step.waits else f"a message from gpu {block.recv}"
            raise ScheduleError(f"{program.place}, {block.where(step)}: deadlock: it waits for {what} for ever")
    for (src, dst, channel), left in sent.items():
        if left:
            where = f"{program.place}, {order[left[0]].where}"
            raise ScheduleError(f"{where}: gpu {dst} never receives it from gpu {src} on channel {channel}")


def cells(program: Algo, gpu: int, place: tuple[str, int], count: int) -> list[Cell]:
    """The cells of a place; what the file calls in place shares the cells of i."""
    buffer, offset = place
    if buffer == "s":
        return [("s", offset + k) for k in range(count)]
    small = {"all-gather": "i", "reduce-scatter": "o"}.get(program.collective)
    start = gpu * (program.num_chunks // program.num_ranks) if buffer == small else 0
    buffer = "i" if program.in_place else buffer
    return [(buffer, start + offset + k) for k in range(count)]


def uses(program: Algo, order: list[Instruction]) -> dict[tuple[int, Cell], list[tuple[int, bool]]]:
    """Of every (gpu, cell): the instructions that use it, in order, and whether each overwrites it unread."""
    found: dict[tuple[int, Cell], list[tuple[int, bool]]] = defaultdict(list)
    for number, instruction in enumerate(order):
        block, step = instruction.block, instruction.step
        _, _, reads, writes = TYPES[step.type]
        src = cells(program, block.gpu, step.src, step.count) if reads else []
        dst = cells(program, block.gpu, step.dst, step.count) if writes else []
        for cell in {*src, *dst}:
            overwrites = cell not in src and step.type != "re"
            found[block.gpu, cell].append((number, overwrites))
    return found
