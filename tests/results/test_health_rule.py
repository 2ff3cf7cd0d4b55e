# SPDX-License-Identifier: Apache-2.0
"""When a machine is slow, by hand."""

from commbench.results.health_rule import PLATEAU, THREE, slowness

MIB = 2**20


def test_the_plateau_is_from_256_mib_on_and_from_64_where_no_size_is_larger() -> None:
    knee = [(MIB, 1.0), (64 * MIB, 1.5), (128 * MIB, 1.5)]
    alone = slowness(knee)
    assert (alone.plateau, alone.plateau_from, alone.slow) == (1.5, 64 * MIB, True)
    larger = slowness([*knee, (256 * MIB, 1.1), (512 * MIB, 1.2), (1024 * MIB, 1.3)])
    assert (larger.plateau, larger.plateau_from, larger.slow) == (1.2, 256 * MIB, False)


def test_two_of_three_neighbours_from_1_mib_on_make_a_machine_slow_and_one_does_not() -> None:
    rows = [(2**k, 1.0) for k in range(3, 26)]
    for slow in (1, 2):
        marked = [(size, 2 * THREE if 4 * MIB <= size < 4 * MIB << slow else ratio) for size, ratio in rows]
        assert slowness(marked).slow is (slow == 2)
    below = [(size, 2 * THREE if size < MIB else ratio) for size, ratio in rows]
    assert not slowness(below).slow


def test_bounds_themselves_are_not_slow_and_too_little_is_not_known() -> None:
    assert not slowness([(256 * MIB, PLATEAU)]).slow
    assert slowness([(256 * MIB, PLATEAU + 0.01)]).slow
    few = slowness([(8, 9.0), (MIB, 9.0), (2 * MIB, 9.0)])
    assert (few.known, few.slow) == (False, False)
