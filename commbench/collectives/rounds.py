# SPDX-License-Identifier: Apache-2.0
"""Schedules that send the same messages again and again, kept as one round.

A ring of n ranks takes 2(n-1) steps that differ only in which chunk is sent. Listed, that is O(n^2) records; here it
is O(n). :meth:`Rounds.schedule` lists them: both forms are one algorithm, and what is said of the chunks here is what
the verifier and the executor see there.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from commbench.arrays import IntArray
from commbench.collectives.memory import require_table
from commbench.collectives.schedule import Kind, Schedule, chunk_offsets
from commbench.collectives.spec import get_collective

__all__ = ["Rounds"]

_COLUMNS = ("sender", "receiver", "channel", "block", "piece", "stride")


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """One message per entry and round; arrays have shape (messages,), sorted by (sender, channel).

    The buffer is cut into ``num_blocks * num_pieces`` chunks. In round k (one step) message i carries the chunk
    ``(block[i] + k * stride[i]) mod num_blocks * num_pieces + piece[i]`` from ``sender[i]`` to the same place at
    ``receiver[i]``. No rank sends or receives twice in a round on one channel.

    Attributes:
        collective, algorithm, num_ranks: as in Schedule.
        num_rounds: how many there are.
        num_reduces: in the first so many, what arrives is added; afterwards it is kept.
        orders: shape (channels, num_blocks): the block that stands for block b on each channel; None: itself.
    """

    collective: str
    algorithm: str
    num_ranks: int
    num_rounds: int
    num_reduces: int
    num_blocks: int
    num_pieces: int
    sender: IntArray
    receiver: IntArray
    channel: IntArray
    block: IntArray
    piece: IntArray
    stride: IntArray
    orders: IntArray | None = None

    @property
    def num_chunks(self) -> int:
        """Pieces the buffer is cut into."""
        return self.num_blocks * self.num_pieces

    def chunk_bytes(self, num_elements: int, element_bytes: int) -> IntArray:
        """Bytes of every chunk, shape (num_chunks,)."""
        sizes: IntArray = np.diff(chunk_offsets(num_elements, self.num_chunks)) * element_bytes
        return sizes

    def chunk(self, number: IntArray | int) -> IntArray:
        """Chunk of every message in the rounds with these numbers; a column of numbers gives a row for each."""
        blocks = (self.block + number * self.stride) % self.num_blocks
        if self.orders is not None:
            blocks = self.orders[self.channel, blocks]
        chunks: IntArray = blocks * self.num_pieces + self.piece
        return chunks

    def schedule(self) -> Schedule:
        """The schedule that lists all rounds."""
        rows = 2 * self.num_rounds * len(self.sender)
        require_table(f"{self.collective} {self.algorithm}", rows)
        step = np.arange(self.num_rounds, dtype=np.int64)[:, None]
        chunk = self.chunk(step)
        kind = np.where(step < self.num_reduces, int(Kind.REDUCE), int(Kind.RECV))
        sends = (step, self.sender, self.channel, int(Kind.SEND), self.receiver, chunk, 1)
        receives = (step, self.receiver, self.channel, kind, self.sender, chunk, 1)
        table = np.concatenate(
            [np.stack([column.ravel() for column in np.broadcast_arrays(*rows)], axis=1) for rows in (sends, receives)]
        )
        return Schedule(self.collective, self.algorithm, self.num_ranks, self.num_chunks, table.astype(np.int32))

    def both_ways(self, algorithm: str) -> "Rounds":
        """Every chunk in halves, the second half the other way round: rank r does there what rank -r does here."""
        n = self.num_ranks
        mirror = replace(
            self,
            sender=-self.sender % n,
            receiver=-self.receiver % n,
            channel=self.channel + 1,
            block=-self.block % n,
            piece=self.piece * 2 + 1,
            stride=-self.stride,
        )
        halves = replace(self, algorithm=algorithm, num_pieces=self.num_pieces * 2, piece=self.piece * 2)
        return _beside(halves, mirror)

    def on_channels(self, orders: IntArray) -> "Rounds":
        """Every chunk cut for ``len(orders)`` channels that run side by side, their ranks in these orders.

        The same as passes.add_channels and passes.reorder do to a schedule.
        """
        count, lanes = len(orders), int(self.channel.max(initial=0)) + 1
        copies = [
            replace(
                self,
                num_pieces=self.num_pieces * count,
                sender=order[self.sender],
                receiver=order[self.receiver],
                channel=self.channel + j * lanes,
                piece=self.piece * count + j,
            )
            for j, order in enumerate(orders)
        ]
        blocked = get_collective(self.collective).blocked
        return replace(_beside(*copies), orders=np.repeat(orders, lanes, axis=0) if blocked else None)


def _beside(first: Rounds, *others: Rounds) -> Rounds:
    """The messages of all of them in one round."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in (first, *others)]) for name in _COLUMNS
    }
    return _sorted(replace(first, **joined))


def _sorted(rounds: Rounds) -> Rounds:
    order = np.lexsort((rounds.channel, rounds.sender))
    sorted_: dict[str, Any] = {name: getattr(rounds, name)[order] for name in _COLUMNS}
    return replace(rounds, **sorted_)
