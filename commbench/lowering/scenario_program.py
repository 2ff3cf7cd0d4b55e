# SPDX-License-Identifier: Apache-2.0
"""What a scenario changes in a program: how many bytes its transfers carry, and other traffic beside it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from commbench.arrays import IntArray
from commbench.program.flat import COMPUTE, COUPLED, TRANSFER, FlatProgram
from commbench.program.loop import LoopProgram
from commbench.topology.faults import Background

__all__ = ["with_background", "with_jitter"]

AnyProgram = FlatProgram | LoopProgram

_AT_A_TIME = 2**15
"""Instances whose bytes are drawn together: few enough for their arrays to stay in a processor's cache."""


def with_jitter(program: AnyProgram, jitter: float, seed: int) -> AnyProgram:
    """The program, its transfers longer and shorter by up to a fraction of ``jitter``.

    The transfer of step s that rank r sends on channel c carries ``floor(bytes (1 + jitter (2 u - 1)) + 0.5)`` bytes
    in doubles, where ``u = (splitmix64(seed 2^40 + s 2^20 + r + c 2^60) >> 11) 2^-53``, all modulo 2^64. So a draw
    depends on no order, and messages that a rank sends in one step on one channel vary alike. What ranks compute stays.
    benchmarks/simgrid/ring.cpp has the same rule.

    Source of splitmix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014;
    constants of S. Vigna's version (public domain).
    """
    if jitter == 0:
        return program
    if isinstance(program, LoopProgram):
        return _loop_with_jitter(program, jitter, seed)
    sent = np.flatnonzero(program.kind == TRANSFER)
    num_bytes = program.num_bytes.copy()
    key = _key(seed, program.rank[sent], program.channel[sent]) + _of_step(program.step[sent])
    num_bytes[sent] = _drawn(num_bytes[sent], key, jitter)
    return replace(program, num_bytes=num_bytes)


def _loop_with_jitter(program: LoopProgram, jitter: float, seed: int) -> LoopProgram:
    """Every instance gets an amount of its own, numbered as its task in the flat program."""
    num_bytes = np.zeros(program.num_tasks, dtype=np.int64)
    duration_ps = np.zeros(program.num_tasks, dtype=np.int64)
    rounds = np.arange(program.num_rounds, dtype=np.int64)
    steps = _of_step(rounds)
    keys = _key(seed, program.rank, program.channel)
    for kind in (TRANSFER, COMPUTE) if program.duration_ps.any() else (TRANSFER,):
        tasks = np.flatnonzero(program.kind == kind)
        for rows in np.array_split(tasks, max(1, len(tasks) * len(rounds) // _AT_A_TIME)):
            block = program.block[rows, None] + rounds * program.stride[rows, None]
            block -= block // program.num_blocks * program.num_blocks  # the remainder; numpy divides by a constant fast
            amount = block * program.num_pieces + program.piece[rows, None]
            number = program.base[rows, None] + rounds * program.pitch[rows, None]
            if kind == TRANSFER:
                num_bytes[number] = _drawn(program.num_bytes.take(amount), keys[rows, None] + steps, jitter)
            else:
                duration_ps[number] = program.duration_ps.take(amount)
    return replace(
        program,
        num_bytes=num_bytes,
        duration_ps=duration_ps,
        num_blocks=program.num_tasks,
        num_pieces=1,
        block=program.base,
        stride=program.pitch,
        piece=np.zeros_like(program.base),
    )


def _key(seed: int, rank: IntArray, channel: IntArray) -> npt.NDArray[np.uint64]:
    fixed = np.array((seed << 40) % 2**64, dtype=np.uint64)
    return fixed + rank.astype(np.uint64) + (channel.astype(np.uint64) << np.uint64(60))


def _of_step(step: IntArray) -> npt.NDArray[np.uint64]:
    return step.astype(np.uint64) << np.uint64(20)


def _drawn(num_bytes: IntArray, x: npt.NDArray[np.uint64], jitter: float) -> IntArray:
    """Bytes of the transfers with these keys; works on the keys in place."""
    x += np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    x >>= np.uint64(11)
    factor = x.astype(np.float64)
    factor *= 2.0**-53
    factor *= 2.0
    factor -= 1.0
    factor *= jitter
    factor += 1.0
    factor *= num_bytes
    factor += 0.5
    return np.floor(factor, out=factor).astype(np.int64)


def with_background(program: FlatProgram, flows: Sequence[Background]) -> FlatProgram:
    """The program with two tasks more for each flow, behind its own: a wait until it begins, and the flow.

    Other people's traffic takes links and nothing else: it is an aggregate flow, so that it needs no processor, and it
    waits on a rank of its own, the last one, which nothing slows down.
    """
    size, count = program.num_tasks, len(flows)
    each = np.arange(count, dtype=np.int64)

    def pairs(of_wait: npt.ArrayLike, of_flow: npt.ArrayLike) -> IntArray:
        return np.stack(np.broadcast_arrays(of_wait, of_flow, each)[:2], axis=1).ravel().astype(np.int64)

    added = {
        "kind": pairs(COMPUTE, COUPLED),
        "rank": pairs(program.num_ranks, program.num_ranks),
        "num_bytes": pairs(0, [flow.num_bytes for flow in flows]),
        "duration_ps": pairs([flow.at_ps for flow in flows], 0),
        **dict.fromkeys(("peer", "channel", "step", "operation"), pairs(-1, -1)),
        "first": len(program.needs) + pairs(each, each + 1),
        "needs": size + 2 * each,
    }
    columns = {name: np.concatenate([getattr(program, name), rows]) for name, rows in added.items()}
    return replace(program, num_ranks=program.num_ranks + 1, **columns)
