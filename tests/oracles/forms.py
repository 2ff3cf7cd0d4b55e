# SPDX-License-Identifier: Apache-2.0
"""The table: every algorithm, its closed form, and the cases that the form is asserted for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

from tests.oracles.costs import (
    Case,
    Cost,
    all_at_once,
    all_pairs_all_reduce,
    bruck_all_to_all,
    chain,
    dissemination,
    doubling_all_gather,
    doubling_all_reduce,
    gloo_broadcast,
    gloo_reduce,
    halving_doubling,
    halving_reduce_scatter,
    hierarchical,
    nvls,
    pat,
    rabenseifner_reduce,
    ring_all_reduce,
    ring_half,
    sharp,
    shift,
    torus,
    two_step,
)
from tests.oracles.tree_costs import (
    binomial,
    binomial_blocks,
    double_binary_tree,
    k_ary_all_reduce,
    k_ary_broadcast,
    k_ary_reduce,
)

__all__ = ["FORMS", "Form"]


@dataclass(frozen=True, slots=True)
class Form:
    """A closed form and the cases that it is asserted for."""

    cost: Callable[[Case], Cost]
    cases: tuple[Case, ...]


POWERS = (2, 4, 8, 16)
WORLDS = (2, 3, 4, 5, 6, 7, 8)
SLICES = (1, 2, 3)


def grid(worlds: Iterable[int] = WORLDS, slices: Iterable[int] = SLICES, *, rooted: bool = False) -> tuple[Case, ...]:
    """All combinations; of the roots the first, and one in the middle so that trees and blocks wrap."""
    pairs = product(worlds, slices)
    return tuple(Case(n, k, root) for n, k in pairs for root in ((0, n // 2) if rooted else (0,)))


HOSTS = tuple(Case(n, k, group=g) for n, g in ((4, 2), (6, 2), (6, 3), (6, 1), (6, 6), (8, 4), (9, 3)) for k in SLICES)
PLAIN, ROOTED, FOLDED = grid(), grid(rooted=True), grid(slices=(1, 2))
ONE_SLICE, ONE_SLICE_ROOTED = grid(slices=(1,)), grid(slices=(1,), rooted=True)
POWERS_OF_TWO = grid(POWERS)
BINARY_LEVELS = (*grid((2, 3, 7, 15), (1, 2), rooted=True), *grid((4,), (1, 2), rooted=True))
QUATERNARY_LEVELS = (*grid((2, 3, 4, 5, 21), (1, 2), rooted=True), *grid((8,), (1, 2), rooted=True))
IN_SWITCH = grid((2, 3, 4, 6), (1, 2, 3, 5))


def unrooted(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Those whose root is rank 0."""
    return tuple(case for case in cases if case.root == 0)


FORMS: dict[tuple[str, str], Form] = {
    ("all-reduce", "ring"): Form(ring_all_reduce, PLAIN),
    ("reduce-scatter", "ring"): Form(ring_half, PLAIN),
    ("all-gather", "ring"): Form(ring_half, PLAIN),
    ("all-reduce", "ring-bidirectional"): Form(ring_all_reduce, PLAIN),
    ("reduce-scatter", "ring-bidirectional"): Form(ring_half, PLAIN),
    ("all-gather", "ring-bidirectional"): Form(ring_half, PLAIN),
    ("broadcast", "ring"): Form(chain, ROOTED),
    ("reduce", "ring"): Form(chain, ROOTED),
    ("all-reduce", "double-binary-tree"): Form(
        double_binary_tree, (*grid((2, 3, 4, 8, 16), (1,)), *grid((2, 3, 4), (2,)))
    ),
    ("broadcast", "binomial"): Form(binomial, ROOTED),
    ("reduce", "binomial"): Form(binomial, ROOTED),
    ("gather", "binomial"): Form(binomial_blocks, ROOTED),
    ("scatter", "binomial"): Form(binomial_blocks, ROOTED),
    ("gather", "direct"): Form(all_at_once, ROOTED),
    ("scatter", "direct"): Form(all_at_once, ROOTED),
    ("broadcast", "k-ary-tree"): Form(k_ary_broadcast(2), (*ROOTED, *grid((16,)))),
    ("reduce", "k-ary-tree"): Form(k_ary_reduce(2), BINARY_LEVELS),
    ("all-reduce", "k-ary-tree"): Form(k_ary_all_reduce(2), unrooted(BINARY_LEVELS)),
    ("broadcast", "4-ary-tree"): Form(k_ary_broadcast(4), (*ROOTED, *grid((16, 22)))),
    ("reduce", "4-ary-tree"): Form(k_ary_reduce(4), QUATERNARY_LEVELS),
    ("all-reduce", "4-ary-tree"): Form(k_ary_all_reduce(4), unrooted(QUATERNARY_LEVELS)),
    ("all-gather", "recursive-doubling"): Form(doubling_all_gather, POWERS_OF_TWO),
    ("all-reduce", "recursive-doubling"): Form(doubling_all_reduce, FOLDED),
    ("all-reduce", "halving-doubling"): Form(halving_doubling, FOLDED),
    ("reduce-scatter", "recursive-halving"): Form(halving_reduce_scatter, FOLDED),
    ("reduce", "rabenseifner"): Form(rabenseifner_reduce, ROOTED),
    ("send-recv", "direct"): Form(shift, PLAIN),
    ("barrier", "dissemination"): Form(dissemination, PLAIN),
    ("all-to-all", "direct"): Form(all_at_once, PLAIN),
    ("all-reduce", "all-pairs"): Form(all_pairs_all_reduce, PLAIN),
    ("reduce-scatter", "all-pairs"): Form(all_at_once, PLAIN),
    ("all-gather", "all-pairs"): Form(all_at_once, PLAIN),
    ("all-to-all", "pairwise"): Form(ring_half, PLAIN),
    ("all-to-all", "two-step"): Form(two_step, HOSTS),
    ("all-to-all", "bruck"): Form(bruck_all_to_all, PLAIN),
    ("all-to-all-v", "direct"): Form(all_at_once, PLAIN),
    ("all-to-all-v", "pairwise"): Form(ring_half, PLAIN),
    ("all-gather", "bruck"): Form(doubling_all_gather, PLAIN),
    ("all-gather", "pat"): Form(pat, PLAIN),
    ("reduce-scatter", "pat"): Form(pat, PLAIN),
    ("all-reduce", "hierarchical"): Form(hierarchical, HOSTS),
    ("all-reduce", "torus-2d"): Form(torus, grid((4, 6, 8, 9, 12))),
    # On a square both ways are alike: half the buffer each, in steps of the same sizes. Not square: see the test.
    ("all-reduce", "torus-2d-two-way"): Form(torus, grid((4, 9, 16))),
    ("all-reduce", "nvls"): Form(nvls, IN_SWITCH),
    ("all-reduce", "sharp"): Form(sharp, IN_SWITCH),
    ("all-reduce", "gloo"): Form(ring_all_reduce, ONE_SLICE),
    ("reduce-scatter", "gloo"): Form(ring_all_reduce, ONE_SLICE),  # of the whole input, with copies around it
    ("all-gather", "gloo"): Form(ring_half, ONE_SLICE),
    ("reduce", "gloo"): Form(gloo_reduce, ONE_SLICE_ROOTED),
    ("broadcast", "gloo"): Form(gloo_broadcast, ONE_SLICE_ROOTED),
    ("all-to-all", "gloo"): Form(all_at_once, ONE_SLICE),
    ("all-to-all-v", "gloo"): Form(all_at_once, ONE_SLICE),
    ("gather", "gloo"): Form(all_at_once, ONE_SLICE_ROOTED),
    ("scatter", "gloo"): Form(all_at_once, ONE_SLICE_ROOTED),
    ("send-recv", "gloo"): Form(shift, ONE_SLICE),
    ("barrier", "gloo"): Form(dissemination, ONE_SLICE),
}
