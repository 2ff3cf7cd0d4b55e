# SPDX-License-Identifier: Apache-2.0
"""All-reduce schedules written out by hand, right ones and broken ones; no algorithm of the package in them."""

from collections.abc import Callable
from dataclasses import replace

from commbench.collectives.schedule import Kind, Op, Schedule


def _ring_ops(n: int, *, first: int = 0, channel: int = 0, turn: int = 1, every: int = 1, phase: int = 0) -> list[Op]:
    """Reduce-scatter then all-gather around a ring on chunks first..first+n-1, one step in ``every``."""
    ops = []
    for rank in range(n):
        place = rank * turn % n  # position along the ring
        to, fro = (rank + turn) % n, (rank - turn) % n
        for k in range(2 * (n - 1)):
            step, kind = k * every + phase, Kind.REDUCE if k < n - 1 else Kind.RECV
            ops.append(Op(step, rank, channel, Kind.SEND, to, first + (place - k) % n))
            ops.append(Op(step, rank, channel, kind, fro, first + (place - k - 1) % n))
    return ops


def ring(n: int) -> Schedule:
    return Schedule.from_ops("all-reduce", "ring", n, n, _ring_ops(n))


def two_channels(n: int) -> Schedule:
    """Half of the buffer around the ring one way, half the other way."""
    ops = _ring_ops(n) + _ring_ops(n, first=n, channel=1, turn=-1)
    return Schedule.from_ops("all-reduce", "two-channels", n, 2 * n, ops)


def window_two(n: int) -> Schedule:
    """Two rings on one channel in alternate steps: step s needs what step s - 2 did, and nothing of s - 1."""
    ops = _ring_ops(n, every=2) + _ring_ops(n, first=n, every=2, phase=1)
    return Schedule.from_ops("all-reduce", "window-two", n, 2 * n, ops, window=2)


def crossed_channels() -> Schedule:
    """Two channels whose sends leave in one order and whose receives stand in the other; fine with tags."""
    ops = []
    for rank in range(2):
        for channel in range(2):  # its chunk has the same number; both are sent before anything is added
            ops.append(Op(channel, rank, channel, Kind.SEND, 1 - rank, channel))
            ops.append(Op(3 - channel, rank, channel, Kind.REDUCE, 1 - rank, channel))
    return Schedule.from_ops("all-reduce", "crossed", 2, 2, ops, window=4)


def _mutated(n: int, name: str, change: Callable[[Op], Op]) -> Schedule:
    return Schedule.from_ops("all-reduce", name, n, n, [change(op) for op in _ring_ops(n)])


def overwrites(n: int) -> Schedule:
    """Rank 1 forgets to add in its first step."""
    return _mutated(
        n,
        "overwrites",
        lambda op: replace(op, kind=Kind.RECV) if (op.rank, op.step, op.kind) == (1, 0, 2) else op,
    )


def adds_twice(n: int) -> Schedule:
    """Rank 0 adds the finished sum to its own in the last step."""
    last = 2 * (n - 1) - 1
    return _mutated(
        n,
        "adds-twice",
        lambda op: replace(op, kind=Kind.REDUCE) if (op.rank, op.step, op.kind) == (0, last, 1) else op,
    )


def misplaces(n: int) -> Schedule:
    """Rank 0 receives its last chunk into another chunk's place."""
    last = 2 * (n - 1) - 1
    return _mutated(
        n,
        "misplaces",
        lambda op: replace(op, chunk=(op.chunk + 1) % n) if (op.rank, op.step, op.kind) == (0, last, 1) else op,
    )
