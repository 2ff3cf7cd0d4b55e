# SPDX-License-Identifier: Apache-2.0
"""Every registered algorithm, every world size up to 17, whole and in slices: it does what its collective promises.

Two judges: ``verify``, and the one in judge.py that runs the operations on random numbers and knows nothing of
it. A new algorithm in the registry is judged here without a new line.
"""

import numpy as np
import pytest

from commbench.collectives.registry import ALGORITHMS, Algorithm, build_schedule
from commbench.collectives.schedule import Kind
from commbench.collectives.statistics import per_rank_share
from commbench.collectives.verify import verify
from tests.cases import ALL_SLICES, ALL_WORLD_SIZES
from tests.contracts.judge import faults

ALGORITHM_LIST = sorted({a.collective + "/" + a.name: a for a in ALGORITHMS.values()}.items())
CASES = [
    pytest.param(algorithm, n, slices, id=f"{name}-{n} ranks-{slices} slices")
    for name, algorithm in ALGORITHM_LIST
    for n in ALL_WORLD_SIZES
    for slices in ALL_SLICES
    if n >= algorithm.min_ranks
]


@pytest.mark.parametrize(("algorithm", "num_ranks", "slices"), CASES)
def test_does_what_its_collective_promises(algorithm: Algorithm, num_ranks: int, slices: int) -> None:
    schedule = build_schedule(algorithm.collective, algorithm.name, num_ranks, slices)
    assert (schedule.collective, schedule.algorithm) == (algorithm.collective, algorithm.name)
    assert schedule.num_ranks == num_ranks
    verify(schedule)


@pytest.mark.parametrize(("algorithm", "num_ranks", "slices"), CASES)
def test_gives_the_sum_on_numbers(algorithm: Algorithm, num_ranks: int, slices: int) -> None:
    assert algorithm.collective == "all-reduce", "teach judge.py what this collective must give"
    schedule = build_schedule(algorithm.collective, algorithm.name, num_ranks, slices)
    found = list(faults(schedule, ["lazy", ("slow", num_ranks // 2)]))
    assert not found, f"{algorithm.name} on {num_ranks} ranks in {slices} slices: {found}"


def test_the_number_of_cases() -> None:
    """2 algorithms x 17 world sizes x 5 slice counts, and more with every algorithm that is added."""
    assert len(ALGORITHM_LIST) >= 2
    assert len([case for case in CASES if case.values[0].name in ("ring", "double-binary-tree")]) == 170


def test_an_alias_builds_the_same_schedule() -> None:
    assert build_schedule("all-reduce", "tree", 6) == build_schedule("all-reduce", "double-binary-tree", 6)


@pytest.mark.parametrize("n", ALL_WORLD_SIZES)
def test_ring_counts(n: int) -> None:
    """2(n-1) steps; in each, every rank sends and receives one chunk of n: 2(n-1)/n of the buffer sent."""
    ring = build_schedule("all-reduce", "ring", n)
    assert ring.num_steps == 2 * (n - 1)
    assert len(ring) == 2 * n * 2 * (n - 1)
    assert per_rank_share(ring) == pytest.approx(2 * (n - 1) / n, rel=1e-15)
    kinds = np.bincount(ring.column("kind"), minlength=3).tolist()
    assert kinds == [2 * n * (n - 1), n * (n - 1), n * (n - 1)]
    assert set(ring.column("step")[ring.column("kind") == Kind.REDUCE].tolist()) == set(range(n - 1))


@pytest.mark.parametrize("n", ALL_WORLD_SIZES)
def test_double_binary_tree_counts(n: int) -> None:
    """Each tree has n - 1 edges; each edge carries its half up and down: 2 trees x 2 ways x 2 records.

    In one tree a rank may be an inner node: it sends its half up once and down to two children. In the other it is
    a leaf and sends up once: (1 + 2 + 1) / 2 buffers. For odd n one root is inner in the other tree too, but a root
    has one child and sends nothing up: (1 + 1 + 2) / 2.
    """
    tree = build_schedule("all-reduce", "double-binary-tree", n, 1)
    assert len(tree) == 2 * 2 * 2 * (n - 1)
    assert per_rank_share(tree) <= 2.0
