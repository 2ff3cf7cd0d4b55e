# SPDX-License-Identifier: Apache-2.0
"""What a trace of one rank holds, whoever wrote it, and the program that it makes for all ranks.

A trace is of one rank; every other is taken to do the same at the same time, in its own groups. What it does not hold
is said in its notes. Compute lasts as long as it was measured; a collective as long as it takes on the fabric that is
simulated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from commbench.errors import InputError
from commbench.program.operations import Collective, Program, ProgramBuilder

__all__ = ["RecordedCollective", "RecordedOperation", "RecordedTrace", "program_of", "world_groups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCollective:
    """A collective of a trace.

    Attributes:
        kind: as ``collectives.spec`` has it. num_elements, element_bytes: of the full buffer.
        group: ranks of the group that the recorded rank is in; empty: all ranks.
    """

    kind: str
    num_elements: int
    element_bytes: int
    group: tuple[int, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of the full buffer."""
        return self.num_elements * self.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOperation:
    """One operation, in an order in which everything stands behind what it waits for.

    Attributes:
        name: of its kernel or node. stream: on which it ran, one operation at a time, in this order.
        duration_ps: that was measured. delay_ps: from the end of what it waits for to its start.
        after: numbers of the operations that it waits for beside the one before it on its stream.
        collective: what it sends; None for what keeps its measured time.
    """

    name: str
    stream: str
    duration_ps: int
    delay_ps: int = 0
    after: tuple[int, ...] = ()
    collective: RecordedCollective | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrace:
    """A trace of one rank.

    Attributes:
        source: the file. kind: whose trace. rank: that was recorded.
        world: number of ranks; 0 where the trace does not say.
        length_ps: from the first start to the last end; 0 where no starts are recorded.
        steps: training steps that are marked in it; 0 where none are.
        notes: what it does not hold, and what was therefore assumed.
    """

    source: str
    kind: str
    rank: int
    world: int
    operations: tuple[RecordedOperation, ...]
    length_ps: int = 0
    steps: int = 0
    notes: tuple[str, ...] = field(default=())


def world_groups(group: Sequence[int], world: int, source: str) -> np.ndarray:
    """The groups of all ranks, from the one that was recorded: ranks a stride apart, so that its copies fill the world.

    Raises:
        InputError: ranks that are not a stride apart or whose copies do not fill the world; names them.
    """
    ranks = sorted(group) or list(range(world))
    size, stride = len(ranks), ranks[1] - ranks[0] if len(ranks) > 1 else 1
    even = all(b - a == stride for a, b in pairwise(ranks))
    block = size * stride
    if not even or stride < 1 or world % block or ranks[0] % block >= stride or ranks[-1] >= world or ranks[0] < 0:
        raise InputError(
            f"{source}: group {ranks} of {world} ranks: the groups of the others cannot be told from it, for its ranks "
            "are not a stride apart, or its copies do not fill the world"
        )
    every = np.arange(world).reshape(world // block, size, stride)
    return every.transpose(0, 2, 1).reshape(-1, size)


def program_of(trace: RecordedTrace, world: int) -> Program:
    """The program of ``world`` ranks that all do what was recorded; rank 0 of the program stands for them.

    Raises:
        InputError: a group whose copies do not fill the world.
    """
    builder = ProgramBuilder(1, np.zeros(world, dtype=np.int64))
    made: dict[RecordedCollective, Collective] = {}
    numbers: list[int] = []
    for one in trace.operations:
        after = [numbers[number] for number in one.after]
        if one.delay_ps:
            after = [builder.compute(0, one.delay_ps, stream=one.stream, after=after, label="delay", purpose="delay")]
        what = one.collective
        if what is None or len(what.group or range(world)) < 2:
            work = builder.compute(
                0, one.duration_ps, stream=one.stream, after=after, label=one.name, purpose="compute"
            )
        else:
            if what not in made:
                groups = world_groups(what.group, world, trace.source)
                made[what] = Collective(what.kind, groups, what.num_elements, what.element_bytes, name=what.kind)
            work = builder.communicate(made[what], stream=one.stream, after=after, purpose=what.kind)
        numbers.append(work)
    return builder.build()
