# SPDX-License-Identifier: Apache-2.0
"""From programs and schedules to flat tasks: how many, who waits for whom, and what bad input says."""

from dataclasses import replace

import numpy as np
import pytest

from commbench.collectives.registry import build_schedule
from commbench.collectives.schedule import Kind, Op, Schedule
from commbench.errors import InputError
from commbench.lowering.expand import expand_schedule
from commbench.program.flat import COMPUTE, TRANSFER, FlatProgram, compress
from commbench.program.operations import ProgramBuilder, Transfer
from tests.programs import RING, all_reduce, tasks_of


def flat(schedule: Schedule, num_elements: int = 840, reduction: float = 0.0) -> FlatProgram:
    return expand_schedule(schedule, num_elements=num_elements, element_bytes=4, reduction_ps_per_byte=reduction)


def needs(program: FlatProgram, task: int) -> list[int]:
    return program.needs[program.first[task] : program.first[task + 1]].tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 16])
def test_ring_counts(n: int) -> None:
    """Each of 2(n-1) steps has n transfers, and a step end on each of n ranks.

    Dependencies: a step end waits for its rank's two transfers, and from step 1 on for the step end before; a transfer
    waits, from step 1 on, for the step ends before it of its two ranks. With T = 2(n-1): 2nT + n(T-1) + 2n(T-1).
    """
    program = flat(build_schedule("all-reduce", "ring", n))
    steps = 2 * (n - 1)
    assert program.num_transfers == n * steps
    assert program.num_tasks == 2 * n * steps
    assert len(program.needs) == (2 * n * steps + 3 * n * (steps - 1) if n > 1 else 0)
    program.check_acyclic()


def test_ring_of_two_task_by_task() -> None:
    """Transfers first, sorted by (rank, step): 0, 1 leave rank 0 and 2, 3 rank 1. Then step ends: 4, 5 and 6, 7."""
    program = flat(build_schedule("all-reduce", "ring", 2), num_elements=10, reduction=2.0)
    assert program.kind.tolist() == [TRANSFER] * 4 + [COMPUTE] * 4
    assert program.rank.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert program.peer.tolist() == [1, 1, 0, 0, -1, -1, -1, -1]
    assert program.step.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert program.num_bytes.tolist() == [20, 20, 20, 20, 0, 0, 0, 0]  # 10 elements of 4 B in 2 chunks
    assert program.duration_ps.tolist() == [0, 0, 0, 0, 40, 0, 40, 0]  # 20 B added at 2 ps/B in step 0 only
    assert [needs(program, task) for task in range(8)] == [
        [],
        [4, 6],  # rank 0's second send waits for both step ends 0
        [],
        [4, 6],
        [0, 2],  # step end 0 of rank 0: its send and its receive
        [1, 3, 4],
        [0, 2],
        [1, 3, 6],
    ]


def test_window() -> None:
    """With two steps in flight a transfer of step s waits for step end s - 2; step ends stay in order."""
    ops = [op for step in range(4) for op in (Op(step, 0, 0, Kind.SEND, 1, step), Op(step, 1, 0, Kind.RECV, 0, step))]
    program = flat(Schedule.from_ops("all-reduce", "x", 2, 4, ops, window=2))
    first_end = 4  # tasks 4..7 are the step ends of rank 0, 8..11 those of rank 1
    assert [needs(program, step) for step in range(4)] == [[], [], [4, 8], [5, 9]]
    assert [needs(program, first_end + step) for step in range(4)] == [[0], [1, 4], [2, 5], [3, 6]]


def test_an_idle_step_counts_for_the_window() -> None:
    ops = [op for step in (0, 2) for op in (Op(step, 0, 0, Kind.SEND, 1, 0), Op(step, 1, 0, Kind.RECV, 0, 0))]
    program = flat(Schedule.from_ops("all-reduce", "x", 2, 1, ops))
    assert program.num_tasks == 2 + 2 * 3
    assert [needs(program, task) for task in range(2)] == [[], [3, 6]]  # step ends 1 of ranks 0 and 1
    assert needs(program, 3) == [2]  # which wait for step ends 0 alone


def test_channels_do_not_wait_for_each_other() -> None:
    program = flat(build_schedule("all-reduce", "tree", 4, 2))
    channel_of_end = {}
    for task in np.flatnonzero(program.kind == TRANSFER).tolist():
        for waiting in np.flatnonzero([task in needs(program, t) for t in range(program.num_tasks)]).tolist():
            channel_of_end.setdefault(waiting, set()).add(int(program.channel[task]))
    assert all(len(channels) == 1 for channels in channel_of_end.values())


def test_empty_pieces_are_left_out() -> None:
    """3 elements in 4 chunks: chunk 0 is empty (offsets 0, 0, 1, 2, 3), so 3 of 4 transfers of a step remain."""
    program = flat(build_schedule("all-reduce", "ring", 4), num_elements=3)
    assert program.num_transfers == 3 * 6
    assert sorted(set(program.num_bytes[program.kind == TRANSFER].tolist())) == [4]
    assert program.num_tasks - program.num_transfers == 4 * 6  # the step ends stay
    program.check_acyclic()


def test_nothing_to_send() -> None:
    program = flat(build_schedule("all-reduce", "ring", 4), num_elements=0)
    assert program.num_transfers == 0


def test_bytes_are_conserved() -> None:
    """Every chunk goes round the ring twice but for one hop each time: 2(n-1) buffers in all."""
    program = flat(build_schedule("all-reduce", "ring", 5, 3), num_elements=1001)
    assert program.num_bytes.sum() == 2 * 4 * 1001 * 4


def test_the_kth_send_meets_the_kth_receive() -> None:
    """Two messages of different size in one step, received the other way round in the buffer."""
    ops = [
        Op(0, 0, 0, Kind.SEND, 1, 2),
        Op(0, 0, 0, Kind.SEND, 1, 0, 2),
        Op(0, 1, 0, Kind.RECV, 0, 2),
        Op(0, 1, 0, Kind.RECV, 0, 0, 2),
    ]
    program = flat(Schedule.from_ops("all-reduce", "x", 2, 3, ops), num_elements=9)
    assert program.num_bytes[:2].tolist() == [12, 24]


# Programs -------------------------------------------------------------------------------------------------------


def test_a_collective_between_computes() -> None:
    """Tasks: 0, 1 compute; 2, 3 joins before; 4..7 transfers; 8..11 step ends; 12, 13 joins after; 14 compute."""
    build = ProgramBuilder(3)
    build.compute(0, 5)
    build.compute(1, 7)
    build.communicate(all_reduce((2, 0), num_elements=8), after=(0, 1))
    build.compute(0, 9, after=(2,))
    program = tasks_of(build)
    assert program.num_tasks == 15
    assert program.operation.tolist() == [0, 1, *[2] * 12, 3]
    assert program.rank[2:4].tolist() == [2, 0]  # group rank 0 is rank 2
    assert program.rank[4:8].tolist() == [2, 2, 0, 0]
    assert program.peer[4:8].tolist() == [0, 0, 2, 2]
    assert needs(program, 2) == [0, 1]
    assert needs(program, 3) == [0, 1]
    assert needs(program, 4) == [2, 3]  # the first transfer waits for both joins
    assert needs(program, 8) == [2, 4, 6]
    assert needs(program, 12) == [2, 9]  # join after: the join before and the last step end of the rank
    assert needs(program, 13) == [3, 11]
    assert needs(program, 14) == [0, 12, 13]  # its own stream, and the whole collective
    program.check_acyclic()


def test_tasks_added_one_by_one_and_in_blocks_keep_their_numbers() -> None:
    build = ProgramBuilder(2)
    build.compute(0, 5)
    build.communicate(all_reduce((0, 1), num_elements=2))
    build.transfer(0, 1, 9, after=(1,))
    program = tasks_of(build)
    assert program.operation[0] == 0
    assert program.operation[-1] == 2
    assert set(program.operation[1:-1].tolist()) == {1}
    assert program.num_bytes[-1] == 9
    program.check_acyclic()


def test_streams_are_in_order_and_apart() -> None:
    build = ProgramBuilder(2)
    build.compute(0, 1)
    build.compute(0, 2)
    build.compute(0, 3, stream="side")
    build.compute(1, 4)
    build.transfer(0, 1, 100, stream="compute")
    build.compute(1, 5)
    program = tasks_of(build)
    assert [needs(program, task) for task in range(6)] == [[], [0], [], [], [1, 3], [4]]


def test_a_collective_of_one_rank_is_two_joins() -> None:
    build = ProgramBuilder(2)
    build.communicate(all_reduce((1,), num_elements=8))
    program = tasks_of(build)
    assert [needs(program, task) for task in range(program.num_tasks)] == [[], [0]]


def test_pairs_that_send_at_the_same_time_are_a_task_each() -> None:
    """The second transfer of a rank waits for its first alone; what comes behind the operation waits for all of it."""
    build = ProgramBuilder(4)
    what = Transfer(np.array([[0, 1], [2, 3]]), 8)
    build.communicate(what)
    build.communicate(what)
    build.compute(0, 1, after=(1,))
    program = tasks_of(build)
    assert program.rank.tolist() == [0, 2, 0, 2, 0]
    assert [needs(program, task) for task in range(5)] == [[], [], [0], [1], [2, 3]]


def test_a_collective_that_cannot_be() -> None:
    build = ProgramBuilder(2)
    build.communicate(all_reduce((0, 1), num_elements=1))
    with pytest.raises(InputError, match="slices"):
        tasks_of(build, replace(RING, slices=0))


def test_what_has_no_single_transfers_is_refused() -> None:
    several = ProgramBuilder(4)
    several.communicate(all_reduce((0, 1), (2, 3), num_elements=1))
    with pytest.raises(InputError, match="a collective of 2 groups at a time has no single transfers"):
        tasks_of(several)
    folded = ProgramBuilder(1, np.zeros(2, dtype=np.int64))
    folded.communicate(all_reduce((0, 1), num_elements=1))
    with pytest.raises(InputError, match="a folded program has no single transfers: give --detail collective"):
        tasks_of(folded)


def circle(*edges: tuple[int, int], num_tasks: int) -> FlatProgram:
    """Compute tasks of 1 ps on rank 0; (a, b) says that a waits for b."""
    first, tasks = compress(np.array([a for a, _ in edges]), np.array([b for _, b in edges]), num_tasks)
    zeros = np.zeros(num_tasks, dtype=np.int64)
    return FlatProgram(
        num_ranks=1, kind=zeros + COMPUTE, rank=zeros, peer=zeros - 1, num_bytes=zeros, duration_ps=zeros + 1,
        channel=zeros - 1, step=zeros - 1, operation=np.arange(num_tasks), first=first, needs=tasks,
    )  # fmt: skip


def test_a_circle_is_found() -> None:
    with pytest.raises(InputError, match=r"task 1 \(operation 1\) waits for itself in a circle"):
        circle((1, 2), (2, 3), (3, 1), (3, 0), num_tasks=4).check_acyclic()


def test_no_circle() -> None:
    program = circle((1, 0), (2, 0), (3, 1), (3, 2), num_tasks=4)
    program.check_acyclic()
    first, tasks = program.dependents()
    assert [tasks[first[t] : first[t + 1]].tolist() for t in range(4)] == [[1, 2], [3], [3], []]
