# SPDX-License-Identifier: Apache-2.0
"""Coupled calls in programs, and the critical path."""

import numpy as np
import pytest
from commbench.program.ir import CollectiveCall, Compute, CoupledCall, Pattern, Program, Transfer, ranks_of

from commbench.errors import InputError
from commbench.lowering.expand import expand
from commbench.program.critical import critical_path
from commbench.program.flat import COMPUTE, COUPLED

PATTERN = Pattern("nothing", np.array([[0, 1]]), ())


def call(*ranks: int, stream: str = "compute", after: tuple[int, ...] = ()) -> CoupledCall:
    return CoupledCall(ranks=ranks, pattern=PATTERN, stream=stream, after=after)


def test_a_coupled_call_is_one_task_that_all_its_ranks_wait_for() -> None:
    operations = (
        Compute(rank=0, duration_ps=5),
        Compute(rank=1, duration_ps=7),
        call(0, 1),
        Compute(rank=1, duration_ps=1),
        call(0, 2, stream="data", after=(0,)),
    )
    flat = expand(Program(3, operations), reduction_ps_per_byte=0)
    assert flat.kind.tolist() == [COMPUTE, COMPUTE, COUPLED, COMPUTE, COUPLED]
    rows = [flat.needs[a:b].tolist() for a, b in zip(flat.first[:-1], flat.first[1:], strict=True)]
    assert rows == [[], [], [0, 1], [2], [0]]
    assert flat.operation.tolist() == [0, 1, 2, 3, 4]
    assert ranks_of(operations[2]) == (0, 1)


def test_tasks_added_one_by_one_and_in_blocks_keep_their_numbers() -> None:
    operations = (
        Compute(rank=0, duration_ps=5),
        CollectiveCall(collective="all-reduce", algorithm="ring", group=(0, 1), num_elements=2, element_bytes=4),
        Transfer(src=0, dst=1, num_bytes=9, after=(1,)),
    )
    flat = expand(Program(2, operations), reduction_ps_per_byte=0)
    assert flat.operation[0] == 0
    assert flat.operation[-1] == 2
    assert set(flat.operation[1:-1].tolist()) == {1}
    assert flat.num_bytes[-1] == 9
    flat.check_acyclic()


def test_a_call_of_a_rank_outside_the_world_is_refused() -> None:
    with pytest.raises(InputError, match=r"operation 0: rank 2 is outside the world 0..1"):
        Program(2, (call(0, 2),))


def test_the_critical_path_goes_back_along_the_latest_ends() -> None:
    operations = (
        Compute(rank=0, duration_ps=5),
        Compute(rank=1, duration_ps=7),
        Compute(rank=0, duration_ps=1, after=(0, 1)),
        Compute(rank=1, duration_ps=1),
    )
    flat = expand(Program(2, operations), reduction_ps_per_byte=0)
    assert critical_path(flat, np.array([5, 7, 8, 8])) == [1, 2]
    assert critical_path(flat, np.array([5, 7, 8, 9])) == [1, 3]
    assert critical_path(expand(Program(1, ()), reduction_ps_per_byte=0), np.empty(0, dtype=np.int64)) == []
