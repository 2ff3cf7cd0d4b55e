# SPDX-License-Identifier: Apache-2.0
"""Who sends how much to whom: the messages of a schedule, and its traffic added up step by step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.arrays import FloatArray, IntArray
from commbench.collectives.rounds import Rounds
from commbench.collectives.schedule import Kind, Schedule

__all__ = ["Traffic", "messages_of", "traffic_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What is sent in one step, or in each of ``times`` steps that follow one another; arrays have one entry per
    message.

    Attributes:
        times: how many steps are like this.
        src, dst, channel: rank that sends, rank that receives, and on which channel.
        num_bytes: bytes of the message; their mean, where chunks of these steps differ.
        adds: whether they are added at the receiver.
    """

    times: int
    src: IntArray
    dst: IntArray
    channel: IntArray
    num_bytes: FloatArray
    adds: npt.NDArray[np.bool_]


def traffic_of(algorithm: Rounds | Schedule, num_elements: int, element_bytes: int) -> Iterator[Traffic]:
    """The traffic of every step, in order; rounds that repeat come as one entry, without being listed.

    Args:
        algorithm: in the form that is at hand; both give the same traffic.
        num_elements: of the full buffer. element_bytes: of one element.
    """
    if isinstance(algorithm, Rounds):
        yield from _of_rounds(algorithm, num_elements * element_bytes)
        return
    sends, receives, num_bytes = messages_of(algorithm, num_elements, element_bytes)
    order = np.argsort(sends[:, 0], kind="stable")
    step = sends[order, 0]
    adds = (receives[:, 3] == Kind.REDUCE) & (receives[:, 1] < algorithm.num_ranks)  # switches add at line rate
    for part in np.split(order, np.flatnonzero(np.diff(step)) + 1) if len(order) else ():
        yield Traffic(
            1, sends[part, 1], receives[part, 1], sends[part, 2], num_bytes[part].astype(np.float64), adds[part]
        )


def _of_rounds(rounds: Rounds, total_bytes: int) -> Iterator[Traffic]:
    mean = np.full(len(rounds.sender), total_bytes / rounds.num_chunks)
    for times, adds in ((rounds.num_reduces, True), (rounds.num_rounds - rounds.num_reduces, False)):
        if times:
            flags = np.full(len(mean), adds)
            yield Traffic(times, rounds.sender, rounds.receiver, rounds.channel, mean, flags)


def messages_of(
    schedule: Schedule, num_elements: int, element_bytes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], IntArray]:
    """Rows of the sends, of the receives that they meet, and the bytes between them, aligned.

    Empty pieces (fewer elements than chunks) are left out: the live executor does not send them either. So is what a
    rank copies to itself, which costs nothing (engine/SEMANTICS.md).
    """
    table = schedule.table.astype(np.int64)
    sends, receives = table[table[:, 3] == Kind.SEND], table[table[:, 3] != Kind.SEND]
    # The table is sorted by (rank, channel, step, posting order) and lexsort is stable: the k-th stays the k-th.
    by_pair = np.lexsort((sends[:, 4], sends[:, 2], sends[:, 1]))
    receives_by_pair = np.lexsort((receives[:, 1], receives[:, 2], receives[:, 4]))
    matched = np.empty_like(sends)
    matched[by_pair] = receives[receives_by_pair]
    offsets = schedule.offsets(num_elements) * element_bytes
    num_bytes = offsets[sends[:, 5] + sends[:, 6]] - offsets[sends[:, 5]]
    kept = (num_bytes > 0) & (sends[:, 1] != sends[:, 4])
    return sends[kept], matched[kept], num_bytes[kept]
