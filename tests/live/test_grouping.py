# SPDX-License-Identifier: Apache-2.0
"""Who is measured beside whom: every pair once, nobody twice in a round, groups as they are named."""

from collections import Counter
from itertools import combinations

import pytest

from commbench.errors import InputError
from commbench.live.grouping import ALONE, AT_ONCE, BOTH, groups_of, incast_rounds, pair_rounds

TWO_HOSTS = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


@pytest.mark.parametrize("ranks", range(2, 18))
def test_a_round_robin_meets_every_pair_once_in_the_fewest_rounds(ranks: int) -> None:
    rounds = pair_rounds(ranks, AT_ONCE)
    assert sorted(pair for one in rounds for pair in one.groups) == list(combinations(range(ranks), 2))
    assert len(rounds) == ranks - 1 + ranks % 2
    for one in rounds:
        assert len(one.groups) == ranks // 2
        assert max(Counter(rank for pair in one.groups for rank in pair).values()) == 1


def test_one_way_each_pair_goes_in_both_directions_apart() -> None:
    rounds = pair_rounds(5, AT_ONCE, one_way=True)
    every = Counter(pair for one in rounds for pair in one.groups)
    assert set(every) == {(a, b) for a in range(5) for b in range(5) if a != b}
    assert set(every.values()) == {1}
    assert not any((b, a) in one.groups for one in rounds for a, b in one.groups)


def test_alone_is_one_pair_a_round_and_both_has_no_pair_alone_twice() -> None:
    assert [len(one.groups) for one in pair_rounds(4, ALONE)] == [1] * 6
    assert Counter(len(one.groups) for one in pair_rounds(4, BOTH)) == {2: 3, 1: 6}
    assert Counter(len(one.groups) for one in pair_rounds(3, BOTH)) == {1: 3}  # a round of 3 ranks has one pair


def test_senders_stand_behind_their_receiver() -> None:
    assert [one.groups for one in incast_rounds(4, 2)] == [((2, 3),), ((2, 3, 0),), ((2, 3, 0, 1),)]
    assert [one.groups for one in incast_rounds(4, 0, (3,))] == [((0, 1, 2, 3),)]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("node", ((0, 2), (1, 3))),
        ("rail", ((0, 1), (2, 3))),
        ("mod 2", ((0, 2), (1, 3))),
        ("div 2", ((0, 1), (2, 3))),
        ("2", ((0, 2), (1, 3))),
        ("0-1/2,3", ((0, 1), (2, 3))),
        ("3,0", ((3, 0),)),
    ],
)
def test_groups_are_those_that_are_named(text: str, groups: tuple[tuple[int, ...], ...]) -> None:
    assert [one.groups for one in groups_of(text, TWO_HOSTS, AT_ONCE)] == [groups]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mod 3", "--groups mod 3: rank 1 would be alone; a group needs two ranks or more"),
        ("mod", "give a number from 1 on behind mod"),
        ("div 0", "give a number from 1 on behind div"),
        ("0-4", "--groups 0-4: rank 4 is outside 0..3"),
        ("0-1/1-2", "rank 1 is given twice"),
        ("rack", "--groups 'rack': give a number of jobs, or ranks"),
        ("node 2", "--groups 'node 2'"),
    ],
)
def test_what_is_no_group_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        groups_of(text, TWO_HOSTS, AT_ONCE)


def test_a_receiver_and_senders_are_there() -> None:
    with pytest.raises(InputError, match=r"--receiver 4 is outside the ranks 0\.\.3"):
        incast_rounds(4, 4)
    with pytest.raises(InputError, match="--senders 4: 4 ranks have 1 to 3 senders"):
        incast_rounds(4, 0, (4,))
