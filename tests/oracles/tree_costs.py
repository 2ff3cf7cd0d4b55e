# SPDX-License-Identifier: Apache-2.0
"""Closed forms of trees, where several children share their parent's port; costs.py says what is meant."""

from collections.abc import Callable
from fractions import Fraction

from tests.oracles.costs import Case, Cost, block, rounds, steps

__all__ = [
    "binomial",
    "binomial_blocks",
    "double_binary_tree",
    "has_even_leaves",
    "k_ary_all_reduce",
    "k_ary_broadcast",
    "k_ary_reduce",
    "levels",
]


def binomial(case: Case) -> Cost:
    """The root leads: one whole buffer in each of ceil(log2 n) steps, to or from the child 2^i places away."""
    return steps(rounds(case.n), rounds(case.n), case)


def binomial_blocks(case: Case) -> Cost:
    """The root leads: in ceil(log2 n) steps it gets, or hands out, all blocks but its own.

    The child 2^i places away has min(2^i, n - 2^i) of them, no pair of that step has more. In two messages where
    they wrap: they share the two ports, and take as long as one.
    """
    return steps(rounds(case.n), block(case.n, case.n - 1), case)


def levels(n: int, arity: int) -> tuple[int, int, int]:
    """(height, children of places above the last but one level, children of the first place of the last but one).

    A complete tree; if the root's children are the leaves, there is only the latter number, n - 1.
    """
    height, width, left = 0, 1, n - 1
    while left > 0:
        height, width = height + 1, width * arity
        last, left = left, left - width
    return height, arity, min(arity, last)


def has_even_leaves(n: int, arity: int) -> bool:
    """Whether all leaves are on one level."""
    height, _, _ = levels(n, arity)
    return height == 1 or n == sum(arity**level for level in range(height + 1))


def k_ary_broadcast(arity: int) -> Callable[[Case], Cost]:
    """K + height - 1 steps on the path of the places that come first on their level.

    The root sends K slices to its children one after the other, the last one then goes on level by level. Each of
    these steps carries arity x S/K out of one port. Only the last step, or all if the root is the only parent, has the
    children of the first place of the last but one level, which may be fewer.
    """

    def cost(case: Case) -> Cost:
        height, full, last = levels(case.n, arity)
        wide, narrow = (case.slices + height - 2, 1) if height > 1 else (0, case.slices)
        return Cost(case.slices + height - 1, Fraction(wide * full + narrow * last, case.slices))

    return cost


def k_ary_reduce(arity: int) -> Callable[[Case], Cost]:
    """Trees whose leaves are all on one level are even level by level: the broadcast backwards.

    Others: leaves higher up send at once while deeper ones are still on their way. Derived for two such worlds.
    """

    def cost(case: Case) -> Cost:
        even = has_even_leaves(case.n, arity)
        return k_ary_broadcast(arity)(case) if even else UNEVEN_REDUCE[arity, case.n, case.slices]

    return cost


UNEVEN_REDUCE = {
    # 1 and 2 hang from 0, 3 from 1. 3>1 and 2>0 begin at once, each alone: alpha + S. Then 1>0 alone: 2 alpha + 2 S.
    (2, 4, 1): Cost(2, 2),
    # With h = S/2. 3>1 and 2>0, first slices: alpha + h. Then 3>1 second and 1>0 first slice, alone: 2 alpha + 2h.
    # Rank 0 is now ready for second slices, from 1 and from 2, which share its port: 3 alpha + 4h.
    (2, 4, 2): Cost(3, Fraction(4, 2)),
    # 1 to 4 hang from 0, 5 to 7 from 1. The latter, and 2 to 4, send at once, three to a port: alpha + 3S. 1>0 alone:
    # 2 alpha + 4S.
    (4, 8, 1): Cost(2, 4),
    # With h = S/2. First slices of 5 to 7 into 1, of 2 to 4 into 0: alpha + 3h. First slice 1>0 alone: 2 alpha + 4h;
    # beside it second slices of 5 to 7 into 1: 2 alpha + 6h. Rank 0 is ready at 2 alpha + 4h for the second slices of
    # 2 to 4, on its port from 3 alpha + 4h on; that of 1, ready at 2 alpha + 6h, joins them at 3 alpha + 6h, when of
    # their 3h there is 1h left. The port stays full: all 4h have passed at 3 alpha + 8h.
    (4, 8, 2): Cost(3, Fraction(8, 2)),
}


def k_ary_all_reduce(arity: int) -> Callable[[Case], Cost]:
    """Up, then down, if all leaves are on one level: 2 height steps with all children of one level in each.

    With 2 slices one step more; no port has messages of both ways in a step: rank at depth d sends up in steps
    height - d and one later, and down in height + d and one later. The same for what it receives.
    """

    def cost(case: Case) -> Cost:
        if not has_even_leaves(case.n, arity):
            return UNEVEN_ALL_REDUCE[arity, case.n, case.slices]
        height, full, _ = levels(case.n, arity)
        number = 2 * height + case.slices - 1
        return Cost(number, Fraction(number * min(full, case.n - 1), case.slices))

    return cost


UNEVEN_ALL_REDUCE = {
    # Up 2 alpha + 2S, as above. Down: 0 to 1 and 2, alpha + 2S; 1>3, alpha + S.
    (2, 4, 1): Cost(4, 5),
    # h = S/2. At 2 alpha + 2h as above; from there second slices 1>0 and 2>0, and first slices 0>1 and 0>2, two through
    # a port: 3 alpha + 4h. Second slices 0>1 and 0>2: 4 alpha + 6h, beside them the first 1>3. Second slice 1>3:
    # 5 alpha + 7h.
    (2, 4, 2): Cost(5, Fraction(7, 2)),
    # Up 2 alpha + 4S. Down: 0 to 1, 2, 3, 4: alpha + 4S; 1 to 5, 6, 7: alpha + 3S.
    (4, 8, 1): Cost(4, 11),
    # h = S/2. Up 3 alpha + 8h; first slices down to 1 to 4 go beside the second ones up, port by port at the same
    # times. Second slices to 1 to 4: 4 alpha + 12h, longer than first slices to 5 to 7. Second slices there: 3h more.
    (4, 8, 2): Cost(5, Fraction(15, 2)),
}


def double_binary_tree(case: Case) -> Cost:
    """In powers of two, with h = S/2 on each tree: the root has one child, all others that are no leaves have two.

    log2 n steps up and as many down; two children share their parent's port except in the root's two steps, which
    makes 2 (2 (log2 n - 1) + 1) h. An inner rank of one tree is a leaf of the other, and other ranks are inner at
    each height, so that the trees do not meet.
    """
    if (case.n, case.slices) in DOUBLE_TREES:
        return DOUBLE_TREES[case.n, case.slices]
    height = rounds(case.n)
    return Cost(2 * height, Fraction(4 * height - 2, 2))


DOUBLE_TREES = {
    # Trees 1>2>0 and 2>0>1 (first steps up, then back down). One slice: the trees never meet in a port, 4 (alpha + h).
    (3, 1): Cost(4, Fraction(4, 2)),
    # From here on two slices, q = S/4, and a step may have two slices on their way in each tree.
    # 1>0 and in the other tree 0>1: q. Then one slice up in each tree and one down: 2q. Then the last ones down: q.
    (2, 2): Cost(3, Fraction(1 + 2 + 1, 4)),
    # Step 0: 1>2 | 2>0: q. Step 1: 1>2, 2>0 | 2>0, 0>1, of which both 2>0 share: 2q. Step 2: 2>0, 0>2 | 0>1, 1>0: out
    # of 0 go 0>2 and 0>1, into it 2>0 and 1>0: 2q. Step 3: 0>2, 2>1 | 1>0, 0>2, of which both 0>2 share: 2q. Step 4:
    # 2>1 | 0>2: q. Every rank that goes on in a step has taken part in the slowest messages of the one before.
    (3, 2): Cost(5, Fraction(1 + 2 + 2 + 2 + 1, 4)),
    # Trees 1, 3 > 2 > 0 and 0, 2 > 1 > 3. Step 0: into 2 two, into 1 two: 2q. Step 1: these again, and 2>0, 1>3: out
    # of 2 go 2>0 and 2>1, out of 1 go 1>3 and 1>2, all at half rate: 2q. Step 2: 2>0, 0>2 | 1>3, 3>1, alone: q. Step 3:
    # 0>2, 2>1, 2>3 | 3>1, 1>2, 1>0: out of 2 two, into 2 two (0>2, 1>2), the same at 1, all at half rate: 2q. Step 4:
    # 2>1, 2>3 | 1>2, 1>0: 2q.
    (4, 2): Cost(5, Fraction(2 + 2 + 1 + 2 + 2, 4)),
}
