# SPDX-License-Identifier: Apache-2.0
"""Programs in columns: what stands where, what is refused, blocks that repeat; and the critical path."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.errors import InputError
from commbench.program.critical import critical_path
from commbench.program.operations import NOTHING, Block, Collective, Program, ProgramBuilder, Transfer
from tests.programs import all_reduce, tasks_of


def rows_of(program: Program) -> list[tuple[object, ...]]:
    """Every operation in words: rank, duration, communication, stream, label, purpose, what it waits for."""
    return [
        (
            int(program.rank[i]),
            int(program.duration_ps[i]),
            None if program.communication[i] == NOTHING else program.communications[program.communication[i]],
            program.streams[program.stream[i]],
            program.label_of(i),
            program.purposes[program.purpose[i]],
            program.waits_of(i),
        )
        for i in range(program.num_operations)
    ]


def test_a_communication_stands_on_the_streams_of_all_its_ranks() -> None:
    build = ProgramBuilder(3)
    build.compute(1, 7, purpose="forward")
    build.communicate(all_reduce((2, 0), num_elements=1))
    build.transfer(1, 2, 9, after=(0,), label="there")
    program = build.build()
    assert program.ranks_of == ((2, 0), (1, 2))
    first, ranks = program.standing
    assert [ranks[a:b].tolist() for a, b in pairwise(first.tolist())] == [[1], [2, 0], [1, 2]]
    assert [row[3:] for row in rows_of(program)] == [
        ("compute", "", "forward", []),
        ("collective", "", "", []),
        ("transfer", "there", "transfer", [0]),
    ]


def test_in_a_folded_program_it_stands_on_those_of_the_representatives() -> None:
    """Ranks 0 and 1 of the world are rank 0 of the program, 2 and 3 its rank 1."""
    build = ProgramBuilder(2, np.array([0, 0, 1, 1]))
    build.communicate(all_reduce((0, 1), num_elements=1))
    build.communicate(all_reduce((3, 1), (2, 0), num_elements=1))
    assert build.build().ranks_of == ((0,), (0, 1))


def test_a_communication_that_stands_at_many_places_is_one() -> None:
    build, what = ProgramBuilder(2), all_reduce((0, 1), num_elements=1)
    for _ in range(3):
        build.communicate(what)
    build.communicate(all_reduce((0, 1), num_elements=1))
    program = build.build()
    assert program.communication.tolist() == [0, 0, 0, 1]
    assert program.communications[0] is what


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda build: build.compute(2, 1), "operation 1: rank 2 is outside the world 0..1"),
        (lambda build: build.compute(-1, 1), "operation 1: rank -1 is outside the world 0..1"),
        (lambda build: build.transfer(0, 5, 1), "operation 1: rank 5 is outside the world 0..1"),
        (lambda build: build.compute(0, -1), "operation 1: amount -1 must not be negative"),
        (lambda build: build.transfer(0, 1, -8), "operation 1: amount -8 must not be negative"),
        (lambda build: build.transfer(1, 1, 8), "operation 1: rank 1 cannot send to itself"),
        (
            lambda build: build.compute(0, 1, after=(1,)),
            "operation 1: 'after' names operation 1, which does not stand before it",
        ),
        (
            lambda build: build.compute(0, 1, after=(-1,)),
            "operation 1: 'after' names operation -1, which does not stand before it",
        ),
        (
            lambda build: build.communicate(all_reduce((0, 0), num_elements=1)),
            "operation 1: group (0, 0) names a rank twice",
        ),
        (
            lambda build: build.communicate(all_reduce((), num_elements=1)),
            "operation 1: a communication needs a group, and a group a rank",
        ),
        (
            lambda build: build.communicate(all_reduce((0, 2), num_elements=1)),
            "operation 1: rank 2 is outside the world 0..1",
        ),
    ],
)
def test_bad_operations(operation: object, message: str) -> None:
    build = ProgramBuilder(2)
    build.compute(0, 1)
    with pytest.raises(InputError) as error:
        operation(build)  # type: ignore[operator]
    assert str(error.value) == message


def test_a_folded_program_names_ranks_of_the_world() -> None:
    build = ProgramBuilder(1, np.zeros(4, dtype=np.int64))
    build.communicate(all_reduce((0, 3), num_elements=1))
    with pytest.raises(InputError, match=r"operation 1: rank 4 is outside the world 0..3"):
        build.communicate(all_reduce((0, 4), num_elements=1))


row = st.tuples(st.integers(0, 2), st.integers(0, 9), st.sampled_from("ab"), st.sampled_from([*range(-2, 0), *"xyz"]))


@given(
    blocks=st.lists(
        st.tuples(st.lists(row, min_size=1, max_size=4), st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)))),
        min_size=1,
        max_size=3,
    ),
    places=st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 20), max_size=3)), max_size=6),
)
def test_a_block_that_repeats_is_its_operations_one_by_one(blocks: list, places: list) -> None:
    """With other operations between the places; labels below 0 are filled in, and waits come from in and outside."""
    plain, quick, made = ProgramBuilder(3), ProgramBuilder(3), {}
    for number, (which, earlier) in enumerate(places):
        which %= len(blocks)
        rows, waits = blocks[which]
        inner = sorted((a, b) for a, b in waits if b < a < len(rows))
        outer = sorted({(min(e, len(rows) - 1), e) for e in earlier if e < len(plain)})
        names = [f"first {number}", f"second {number}"]
        base = len(plain)
        for i, (rank, lasts, stream, label) in enumerate(rows):
            after = [base + b for a, b in inner if a == i] + [e for a, e in outer if a == i]
            word = label if isinstance(label, str) else names[-1 - label]
            plain.compute(rank, lasts, stream=stream, label=word, purpose="p", after=after)
        if which not in made:
            columns = [
                (
                    *(rank, lasts, NOTHING, quick.streams[stream]),
                    *(label if isinstance(label, int) else quick.labels[label], quick.purposes["p"]),
                )
                for rank, lasts, stream, label in rows
            ]
            pairs = np.array(inner, dtype=np.int64).reshape(-1, 2)
            made[which] = Block(np.array(columns, dtype=np.int64), pairs[:, 0], pairs[:, 1])
        assert quick.repeat(made[which], [quick.labels[name] for name in names], outer) == base
        for build in (plain, quick):
            build.compute(2, number, label="between")
    assert len(quick) == len(plain)
    assert rows_of(quick.build()) == rows_of(plain.build())


def test_communications_of_a_block_keep_their_numbers() -> None:
    build, what = ProgramBuilder(2), Transfer(np.array([[0, 1]]), 5)
    rows = [(NOTHING, 0, build.number_of(what), build.streams["s"], build.labels["l"], build.purposes["p"])]
    block = Block(np.array(rows), np.empty(0, np.int64), np.empty(0, np.int64))
    for _ in range(2):
        build.repeat(block, [], [])
        build.communicate(Collective("all-reduce", np.array([[0, 1]]), 1, 4))
    program = build.build()
    assert [program.communications[i] is what for i in program.communication] == [True, False, True, False]


def test_the_critical_path_goes_back_along_the_latest_ends() -> None:
    build = ProgramBuilder(2)
    build.compute(0, 5)
    build.compute(1, 7)
    build.compute(0, 1, after=(0, 1))
    build.compute(1, 1)
    flat = tasks_of(build)
    assert critical_path(flat, np.array([5, 7, 8, 8])) == [1, 2]
    assert critical_path(flat, np.array([5, 7, 8, 9])) == [1, 3]
    assert critical_path(tasks_of(ProgramBuilder(1)), np.empty(0, dtype=np.int64)) == []
