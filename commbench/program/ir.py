# SPDX-License-Identifier: Apache-2.0
"""A step is data: a :class:`Program` is a DAG of compute, transfer and collective operations on (rank, stream).

This is the form that people write and passes transform; :mod:`commbench.program.expand` turns it into the flat arrays
that engines run.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.collectives.traffic import Traffic
from commbench.errors import InputError

__all__ = ["CollectiveCall", "Compute", "CoupledCall", "Operation", "Pattern", "Program", "Transfer", "ranks_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """``duration_ps`` picoseconds of work on ``rank``. ``after``: numbers of earlier operations it waits for."""

    rank: int
    duration_ps: int
    stream: str = "compute"
    after: tuple[int, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """``num_bytes`` bytes from rank ``src`` to rank ``dst``; starts when both streams have come to it."""

    src: int
    dst: int
    num_bytes: int
    stream: str = "transfer"
    after: tuple[int, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveCall:
    """A collective of the ranks in ``group`` (group rank g is rank ``group[g]``) by a named algorithm.

    ``num_elements`` elements of ``element_bytes`` bytes are the full buffer, as nccl-tests counts the size.
    """

    collective: str
    algorithm: str
    group: tuple[int, ...]
    num_elements: int
    element_bytes: int
    slices: int | None = None
    stream: str = "collective"
    after: tuple[int, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """One communication that several groups of ranks have at the same time; known by its identity.

    Attributes:
        name: for people, for example "tensor all-reduce of stage 3".
        groups: shape (groups, members); the ranks of the fabric's world that take part, not those of the program.
        steps: the messages of one group, step by step, between members 0 and up.
    """

    name: str
    groups: npt.NDArray[np.int64]
    steps: tuple[Traffic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledCall:
    """A communication whose messages are not listed: simulated as one flow (collective detail, sim.coupled).

    ``ranks`` are those of the program on whose stream it stands. Where a rank of the program stands for many of the
    world, the pattern says which; all its groups advance together.
    """

    ranks: tuple[int, ...]
    pattern: Pattern
    stream: str = "collective"
    after: tuple[int, ...] = ()
    label: str = ""


Operation = Compute | Transfer | CollectiveCall | CoupledCall


@dataclass(frozen=True, slots=True)
class Program:
    """Operations in program order; on one (rank, stream) they run in this order, one at a time.

    Raises:
        InputError: a rank outside 0..num_ranks-1, a negative amount, or a dependency that does not point back; names
            the operation's number and the value.
    """

    num_ranks: int
    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        for number, op in enumerate(self.operations):
            for rank in ranks_of(op):
                if not 0 <= rank < self.num_ranks:
                    raise InputError(f"operation {number}: rank {rank} is outside the world 0..{self.num_ranks - 1}")
            for earlier in op.after:
                if not 0 <= earlier < number:
                    raise InputError(
                        f"operation {number}: 'after' names operation {earlier}, which does not stand before it"
                    )
            amount = _amount(op)
            if amount < 0:
                raise InputError(f"operation {number}: amount {amount} must not be negative")
            if isinstance(op, Transfer) and op.src == op.dst:
                raise InputError(f"operation {number}: rank {op.src} cannot send to itself")
            if isinstance(op, CollectiveCall) and len(set(op.group)) != len(op.group):
                raise InputError(f"operation {number}: group {op.group} names a rank twice")


def _amount(op: Operation) -> int:
    match op:
        case Compute():
            return op.duration_ps
        case Transfer():
            return op.num_bytes
        case CollectiveCall():
            return op.num_elements
        case CoupledCall():
            return 0


def ranks_of(op: Operation) -> tuple[int, ...]:
    """The ranks whose stream the operation stands on."""
    match op:
        case Compute():
            return (op.rank,)
        case Transfer():
            return (op.src, op.dst)
        case CollectiveCall():
            return op.group
        case CoupledCall():
            return op.ranks
