# SPDX-License-Identifier: Apache-2.0
"""Which ranks and groups of a step are one, and the messages of its patterns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.errors import InputError
from commbench.workload.groups import Degrees, ParallelGroups
from commbench.workload.step_units import Folding, Patterns, Units

RINGS = dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), "ring")


def patterns(degrees: Degrees, folding: Folding | None = None, ranks_per_host: int = 8) -> Patterns:
    return Patterns(Units(degrees, folding or Folding.whole(degrees)), ranks_per_host, RINGS)


small = st.sampled_from([1, 2, 3, 4])


@given(tp=small, cp=st.sampled_from([1, 2]), dp=small, pp=small, data=st.data())
def test_units_share_out_the_ranks_and_classes_the_groups(
    tp: int, cp: int, dp: int, pp: int, data: st.DataObject
) -> None:
    degrees = Degrees(tp=tp, cp=cp, dp=dp, pp=pp)
    ranks = data.draw(st.lists(st.integers(0, degrees.num_ranks - 1), max_size=2))
    folding = data.draw(st.sampled_from([Folding.whole(degrees), Folding.none(degrees), Folding.apart(degrees, ranks)]))
    units, made = Units(degrees, folding), patterns(degrees, folding)
    assert sorted(rank for unit in units.ranks for rank in unit) == list(range(degrees.num_ranks))
    assert all(units.of_rank[rank] == unit for unit, members in enumerate(units.ranks) for rank in members)
    groups = ParallelGroups(degrees)
    for kind in ("tp", "dp-cp", "cp"):
        found = [row for at in range(pp) for of in made.classes(kind, at) for row in map(tuple, of.groups.tolist())]
        wanted = [group for group in groups.of(kind) if len(group) > 1]
        assert sorted(found) == sorted(wanted)
    for of in made.classes("tp", 0):
        assert set(units.of_rank[of.groups].ravel().tolist()) == set(of.units)


def test_a_rank_apart_is_alone_in_its_unit() -> None:
    degrees = Degrees(tp=4, dp=4, pp=2)
    units = Units(degrees, Folding.apart(degrees, [5]))
    assert (5,) in units.ranks
    assert units.num_units == 8
    assert sorted(map(len, units.ranks)) == [1, 1, 3, 3, 3, 3, 9, 9]
    assert units.words == (
        "32 ranks folded to 8: the 16 ranks of each of 2 pipeline positions are 4 classes, and those of a class do the "
        "same at the same time, so one is simulated for all"
    )


def test_finer_units_keep_colours_apart_and_what_was_apart() -> None:
    """Colours of data coordinates 0, 1 and 2, 3 differ: two classes of them; where tensor coordinate 0 was alone
    before, it stays so. A colour of one rank alone takes a class of each coordinate.
    """
    degrees = Degrees(tp=4, dp=4, pp=2)
    colour = np.arange(32) // 8 % 2  # ranks count tensor coordinates first, then data, then position
    whole = Units(degrees, Folding.whole(degrees))
    assert whole.finer(colour) == Folding((0, 0, 0, 0), (0, 0, 1, 1))
    assert whole.finer(np.zeros(32, dtype=np.int64)) == Folding.whole(degrees)
    apart = Units(degrees, Folding((0, 1, 1, 1), (0, 0, 0, 0)))
    assert apart.finer(colour) == Folding((0, 1, 1, 1), (0, 0, 1, 1))
    assert apart.finer(colour).per_position == 4
    one = whole.finer((np.arange(32) == 5).astype(np.int64))  # tensor coordinate 1, data coordinate 1
    assert (one.tensor, one.data) == ((0, 1, 0, 0), (0, 1, 0, 0))


def test_units_of_a_position_are_neighbours() -> None:
    degrees = Degrees(tp=2, dp=2, pp=3)
    units = Units(degrees, Folding.none(degrees))
    for position in range(3):
        ranks = {rank for unit in units.at(position) for rank in units.ranks[unit]}
        assert ranks == set(range(4 * position, 4 * position + 4))


def test_pairs_join_equal_places_of_neighbouring_positions() -> None:
    found = patterns(Degrees(tp=2, dp=2, pp=4)).pairs(2, 3)
    assert [of.units for of in found] == [(2, 3)]
    assert found[0].groups.tolist() == [[8, 12], [9, 13], [10, 14], [11, 15]]


def test_a_pattern_is_made_once() -> None:
    made = patterns(Degrees(tp=4))
    (of,) = made.classes("tp", 0)
    assert made.collective("a", of, "all-reduce", 64) is made.collective("a", of, "all-reduce", 64)
    assert made.collective("a", of, "all-reduce", 64) is not made.collective("a", of, "all-reduce", 128)
    assert made.transfer("a", of, 64) is made.transfer("a", of, 64)


@pytest.mark.parametrize("collective", ["reduce-scatter", "all-gather", "all-reduce"])
def test_rings_of_several_hosts_have_a_channel_per_rank_on_a_host(collective: str) -> None:
    """On 2 hosts of 4 ranks each channel leaves a host by another rank; bytes are those of the formula."""
    made = patterns(Degrees(dp=8), ranks_per_host=4)
    (of,) = made.classes("dp-cp", 0)
    pattern = made.collective("x", of, collective, 8000)
    leaving, total = set(), 0.0
    for step in pattern.steps:
        crosses = step.src // 4 != step.dst // 4
        leaving |= set(zip(step.channel[crosses].tolist(), step.src[crosses].tolist(), strict=True))
        total += step.times * step.num_bytes.sum()
    assert len(leaving) == 8
    assert {rank for _, rank in leaving} == set(range(8))
    assert total == 8 * 8000 * 7 / 8 * (2 if collective == "all-reduce" else 1)
    (one_host,) = patterns(Degrees(dp=8), ranks_per_host=8).classes("dp-cp", 0)
    steps = patterns(Degrees(dp=8), ranks_per_host=8).collective("x", one_host, collective, 8000).steps
    assert {int(channel) for step in steps for channel in step.channel} == {0}


def test_the_halves_of_an_all_reduce_add_only_in_the_first() -> None:
    made = patterns(Degrees(dp=8), ranks_per_host=4)
    (of,) = made.classes("dp-cp", 0)
    assert all(step.adds.all() for step in made.collective("x", of, "reduce-scatter", 64).steps)
    assert not any(step.adds.any() for step in made.collective("x", of, "all-gather", 64).steps)


def test_groups_of_one_rank_have_no_classes_and_a_missing_algorithm_is_refused() -> None:
    made = patterns(Degrees(tp=2))
    assert made.classes("dp-cp", 0) == ()
    with pytest.raises(InputError, match="no algorithm is given for all-to-all"):
        made.collective("x", made.classes("tp", 0)[0], "all-to-all", 64)


def test_a_transfer_goes_from_first_to_second() -> None:
    made = patterns(Degrees(pp=2))
    (of,) = made.pairs(1, 0)
    (step,) = made.transfer("x", of, 77).steps
    assert of.groups.tolist() == [[1, 0]]
    assert (step.src.tolist(), step.dst.tolist(), step.num_bytes.tolist()) == ([0], [1], [77.0])
    assert np.array_equal(step.adds, [False])
