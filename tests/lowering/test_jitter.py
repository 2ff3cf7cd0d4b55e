# SPDX-License-Identifier: Apache-2.0
"""Jitter: the draws are those of the rule, whatever form the program is in."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from commbench.lowering.scenario_program import with_jitter
from commbench.program.flat import FlatProgram
from tests.cases import MIB
from tests.lowering.disturbed import ring


def test_jitter_draws_what_simgrid_draws() -> None:
    """131,072 B, 10 %: printed by the rule in benchmarks/simgrid/ring.cpp for (seed, step, rank)."""
    program = ring(512, 64 * MIB)
    places = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1021, 511), (20_261_121, 7, 3)]
    drawn = []
    for seed, step, rank in places:
        varied = with_jitter(program, 0.1, seed)
        drawn.append(int(varied.num_bytes[program.base[rank] + step * program.pitch[rank]]))
    assert drawn == [121_228, 129_167, 122_744, 134_281, 143_165]


def test_jitter_is_even() -> None:
    """All of 510 x 256 draws within 10 %; their mean within 5 of its own standard errors of the whole."""
    program = ring(256, 256 * 100_000).unroll()
    varied = with_jitter(program, 0.1, 3).num_bytes[program.num_bytes > 0]
    assert len(varied) == 510 * 256
    assert (varied.min(), varied.max()) == (90_000, 110_000)
    assert abs(varied.mean() - 100_000) < 5 * (10_000 / 3**0.5) / len(varied) ** 0.5


@settings(max_examples=40)
@given(
    num_ranks=st.integers(2, 9),
    elements=st.integers(40, 4000),
    channels=st.integers(1, 3),
    jitter=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    seed=st.integers(0, 2**70),
    by_round=st.booleans(),
)
def test_jitter_of_a_loop_is_that_of_its_tasks(
    num_ranks: int, elements: int, channels: int, jitter: float, seed: int, by_round: bool
) -> None:
    """Whether the instances of a task are numbered one behind the other or those of a round."""
    program = ring(num_ranks, 4 * elements, channels=channels, reduction_ps_per_byte=3.5)
    if by_round:
        size = len(program.kind)
        program = replace(program, base=np.arange(size), pitch=np.full(size, size))
    varied, flat = with_jitter(program, jitter, seed).unroll(), with_jitter(program.unroll(), jitter, seed)
    for column in FlatProgram.__dataclass_fields__:
        assert np.array_equal(getattr(varied, column), getattr(flat, column)), column
    assert (flat.num_bytes >= 0).all()
    assert np.array_equal(flat.duration_ps, program.unroll().duration_ps)


def test_channels_and_seeds_draw_apart() -> None:
    program = ring(4, 4 * MIB, channels=2).unroll()
    sent = program.num_bytes > 0
    a, b = (with_jitter(program, 0.5, seed).num_bytes[sent] for seed in (1, 2))
    assert len({*a.tolist(), *b.tolist()}) > 0.99 * 2 * len(a)
