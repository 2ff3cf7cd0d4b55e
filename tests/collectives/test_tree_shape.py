# SPDX-License-Identifier: Apache-2.0
"""The double binary tree has the shape of NCCL's: parents typed in from NCCL 2.30.7, src/graph/trees.cc."""

import pytest

from commbench.collectives.algorithms.tree import NO_PARENT, binary_tree, double_binary_tree

NONE = NO_PARENT
PARENTS = {
    1: ((NONE,), (NONE,)),
    2: ((NONE, 0), (1, NONE)),
    3: ((NONE, 2, 0), (1, NONE, 0)),
    4: ((NONE, 2, 0, 2), (1, 3, 1, NONE)),
    5: ((NONE, 2, 4, 2, 0), (1, NONE, 3, 0, 3)),
    6: ((NONE, 2, 4, 2, 0, 4), (1, 5, 3, 1, 3, NONE)),
    8: ((NONE, 2, 4, 2, 0, 6, 4, 6), (1, 3, 1, 7, 5, 3, 5, NONE)),
}


@pytest.mark.parametrize("num_ranks", PARENTS)
def test_parents(num_ranks: int) -> None:
    assert double_binary_tree(num_ranks) == PARENTS[num_ranks]


@pytest.mark.parametrize("num_ranks", range(1, 130))
def test_it_is_a_binary_tree(num_ranks: int) -> None:
    """One root, nobody with more than two children, and every rank reaches the root."""
    for parents in double_binary_tree(num_ranks):
        assert parents.count(NO_PARENT) == 1
        assert max(parents.count(rank) for rank in range(num_ranks)) <= 2
        for rank in range(num_ranks):
            hops = 0
            while parents[rank] != NO_PARENT:
                rank, hops = parents[rank], hops + 1
                assert hops <= num_ranks.bit_length()  # depth: at most ceil(log2 n) and one hop below the root


@pytest.mark.parametrize("num_ranks", range(2, 130))
def test_an_inner_rank_of_one_tree_is_a_leaf_of_the_other(num_ranks: int) -> None:
    """What makes two trees share the links fairly. A root counts as inner; with odd n one rank is inner in both."""
    first, second = (set(parents) - {NO_PARENT} for parents in double_binary_tree(num_ranks))
    assert len(first & second) <= (1 if num_ranks % 2 else 0)


def test_a_single_tree_roots_at_rank_0() -> None:
    assert binary_tree(8)[0] == NO_PARENT
    assert binary_tree(8).count(0) == 1  # NCCL's root has one child, the largest power of two below n
    assert binary_tree(8).index(0) == 4
