# SPDX-License-Identifier: Apache-2.0
"""Which ranks and groups of a step are one, and its communications."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from commbench.program.operations import Collective, Transfer
from commbench.workload.groups import Degrees, ParallelGroups
from commbench.workload.step_units import Communications, Folding, Units


def communications(degrees: Degrees, folding: Folding | None = None) -> Communications:
    return Communications(Units(degrees, folding or Folding.whole(degrees)))


small = st.sampled_from([1, 2, 3, 4])


@given(tp=small, cp=st.sampled_from([1, 2]), dp=small, pp=small, data=st.data())
def test_units_share_out_the_ranks_and_classes_the_groups(
    tp: int, cp: int, dp: int, pp: int, data: st.DataObject
) -> None:
    degrees = Degrees(tp=tp, cp=cp, dp=dp, pp=pp)
    ranks = data.draw(st.lists(st.integers(0, degrees.num_ranks - 1), max_size=2))
    folding = data.draw(st.sampled_from([Folding.whole(degrees), Folding.none(degrees), Folding.apart(degrees, ranks)]))
    units, made = Units(degrees, folding), communications(degrees, folding)
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
    found = communications(Degrees(tp=2, dp=2, pp=4)).pairs(2, 3)
    assert [of.units for of in found] == [(2, 3)]
    assert found[0].groups.tolist() == [[8, 12], [9, 13], [10, 14], [11, 15]]


def test_a_communication_is_made_once() -> None:
    made = communications(Degrees(tp=4))
    (of,) = made.classes("tp", 0)
    assert made.collective("a", of, "all-reduce", 64) is made.collective("a", of, "all-reduce", 64)
    assert made.collective("a", of, "all-reduce", 64) is not made.collective("a", of, "all-reduce", 128)
    assert made.collective("a", of, "all-reduce", 64) is not made.collective("a", of, "all-gather", 64)
    assert made.transfer("a", of, 64) is made.transfer("a", of, 64)


def test_a_collective_says_what_is_wanted_and_no_more() -> None:
    made = communications(Degrees(dp=8))
    (of,) = made.classes("dp-cp", 0)
    what = made.collective("x", of, "reduce-scatter", 8000)
    assert isinstance(what, Collective)
    assert (what.kind, what.num_bytes, what.name) == ("reduce-scatter", 8000, "x")
    assert what.groups.tolist() == [list(range(8))]


def test_groups_of_one_rank_have_no_classes() -> None:
    assert communications(Degrees(tp=2)).classes("dp-cp", 0) == ()


def test_a_transfer_goes_from_first_to_second() -> None:
    made = communications(Degrees(pp=2))
    (of,) = made.pairs(1, 0)
    what = made.transfer("x", of, 77)
    assert isinstance(what, Transfer)
    assert (what.pairs.tolist(), what.num_bytes) == ([[1, 0]], 77)
