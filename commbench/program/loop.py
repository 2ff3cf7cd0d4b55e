# SPDX-License-Identifier: Apache-2.0
"""A flat program that repeats itself, kept as one round: what a ring of a thousand ranks needs to fit in a cache.

Every task of the round has one instance per round. Dependencies go to the same round or to the one before. All rounds
one behind the other are the flat program that :meth:`LoopProgram.unroll` lists, number by number; engines may run
either and must come to the same spans.
"""

from dataclasses import dataclass

import numpy as np

from commbench.arrays import IntArray
from commbench.program.flat import COMPUTE, TRANSFER, FlatProgram, compress

__all__ = ["LoopProgram"]


@dataclass(frozen=True, slots=True, eq=False)
class LoopProgram:
    """Tasks 0..T-1 of one round, and ``num_rounds`` rounds; arrays have shape (T,) unless said otherwise.

    An instance may start only after the one of the round before is done, and whatever waits for an instance must have
    begun before the next one of the same task is done: the dependencies see to both.

    Attributes:
        num_ranks, kind, rank, peer, channel: as in FlatProgram.
        num_rounds: how often the round is run.
        num_working: in the first so many rounds compute tasks last; afterwards they take no time.
        num_bytes: by amount, shape (amounts,); a transfer of round k has ``num_bytes[amount(k)]``, where amount(k) is
            ``(block + k * stride) mod num_blocks * num_pieces + piece`` of its task.
        duration_ps: likewise of compute tasks.
        num_blocks, num_pieces, block, stride, piece: see there.
        base, pitch: instance k of task t is task ``base[t] + k * pitch[t]`` of the flat program.
        first, needs: compressed rows: what task t waits for. lag: beside ``needs``; 0 for the same round, 1 for the
            round before.
    """

    num_ranks: int
    kind: IntArray
    rank: IntArray
    peer: IntArray
    channel: IntArray
    num_rounds: int
    num_working: int
    num_bytes: IntArray
    duration_ps: IntArray
    num_blocks: int
    num_pieces: int
    block: IntArray
    stride: IntArray
    piece: IntArray
    base: IntArray
    pitch: IntArray
    first: IntArray
    needs: IntArray
    lag: IntArray

    @property
    def num_tasks(self) -> int:
        """Task instances of all rounds."""
        return len(self.kind) * self.num_rounds

    @property
    def num_transfers(self) -> int:
        """Transfers of all rounds."""
        return int(np.count_nonzero(self.kind == TRANSFER)) * self.num_rounds

    def instances(self) -> IntArray:
        """Numbers in the flat program of all instances, shape (R, T)."""
        return self.base + np.arange(self.num_rounds)[:, None] * self.pitch

    def dependents(self) -> tuple[IntArray, IntArray, IntArray]:
        """The dependencies turned round: (first, tasks, lag), in which row t lists the tasks that wait for t."""
        waiting = np.repeat(np.arange(len(self.kind)), np.diff(self.first))
        first, tasks = compress(self.needs, waiting, len(self.kind))
        return first, tasks, self.lag[np.lexsort((waiting, self.needs))]

    def unroll(self) -> FlatProgram:
        """The flat program, in which every instance is a task."""
        number = self.instances()
        rounds, size = number.shape
        order = np.empty(rounds * size, dtype=np.int64)
        order[number.ravel()] = np.arange(rounds * size)

        def spread(column: IntArray) -> IntArray:
            return np.broadcast_to(column, (rounds, size)).ravel()[order]

        waiting = np.repeat(np.arange(size), np.diff(self.first))
        pairs = [
            (number[lag:, waiting[self.lag == lag]], number[: rounds - lag, self.needs[self.lag == lag]])
            for lag in (0, 1)
        ]
        first, needs = compress(
            np.concatenate([a.ravel() for a, _ in pairs]), np.concatenate([b.ravel() for _, b in pairs]), rounds * size
        )
        step = np.arange(rounds)[:, None]
        amount = (self.block + step * self.stride) % self.num_blocks * self.num_pieces + self.piece
        works = (self.kind == COMPUTE) & (step < self.num_working)
        return FlatProgram(
            num_ranks=self.num_ranks,
            kind=spread(self.kind),
            rank=spread(self.rank),
            peer=spread(self.peer),
            num_bytes=spread(np.where(self.kind == COMPUTE, 0, self.num_bytes[amount])),
            duration_ps=spread(np.where(works, self.duration_ps[amount], 0)),
            channel=spread(self.channel),
            step=spread(step),
            operation=np.zeros(rounds * size, dtype=np.int64),
            first=first,
            needs=needs,
        )
