# SPDX-License-Identifier: Apache-2.0
"""Every registered algorithm on every world size up to 17 that it serves: it does what its collective promises.

Two judges: ``verify``, and the one in judge.py that runs the operations on random numbers and knows nothing of it.
A new algorithm in the registry is judged here without a new line.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from commbench.collectives.algorithm import Algorithm
from commbench.collectives.registry import build, build_schedule
from commbench.collectives.schedule import Kind, Schedule
from commbench.collectives.summary import busiest_share
from commbench.collectives.verify import verify
from tests.cases import ALL_WORLD_SIZES
from tests.contracts.judge import faults
from tests.contracts.worlds import ALGORITHM_LIST, name_of, requests

FEW_WORLDS = (1, 2, 3, 4, 6, 7, 8)  # for the second judge, which is slow
MOST_OPERATIONS = 600  # of a schedule that the second judge runs
BOTH_UP_TO = 9  # ranks: slices and channels at once are tried up to there; on more each by itself, with FULL both
FULL = bool(os.environ.get("COMMBENCH_FULL"))


def _distinct(
    algorithm: Algorithm, worlds: Iterable[int], slices: tuple[int, ...], channels: tuple[int, ...]
) -> Iterator[tuple[str, Schedule]]:
    """(name, schedule) for each request, schedules that come out the same only once."""
    seen: list[Schedule] = []
    for request in requests(algorithm, worlds, slices, channels):
        if request.slices > 1 and request.channels > 1 and request.num_ranks > BOTH_UP_TO and not FULL:
            continue
        schedule = build(algorithm, request)
        if request.num_ranks != (seen[-1].num_ranks if seen else 0):
            seen = []
        if schedule not in seen:
            seen.append(schedule)
            yield name_of(algorithm, request), schedule


@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
def test_does_what_its_collective_promises(algorithm: Algorithm, count_cases: Counter[str]) -> None:
    for name, schedule in _distinct(algorithm, ALL_WORLD_SIZES, (1, 3), (1, 2)):
        assert (schedule.collective, schedule.algorithm) == (algorithm.collective, algorithm.name), name
        verify(schedule)
        count_cases["verify"] += 1
    count_cases["algorithms"] += 1


@pytest.mark.parametrize("algorithm", ALGORITHM_LIST, ids=lambda a: f"{a.collective}/{a.name}")
def test_gives_the_right_numbers(algorithm: Algorithm, count_cases: Counter[str]) -> None:
    for name, schedule in _distinct(algorithm, FEW_WORLDS, (1, 2), (1, 2)):
        if len(schedule) > MOST_OPERATIONS:
            continue
        found = list(faults(schedule, ["lazy", ("slow", schedule.num_ranks // 2)]))
        assert not found, f"{name}: {found}"
        count_cases["judge"] += 1
    count_cases["algorithms"] += 1


def test_the_number_of_cases(count_cases: Counter[str]) -> None:
    """The grid cannot quietly shrink: more algorithms may only add to these counts."""
    if count_cases["algorithms"] < 2 * len(ALGORITHM_LIST):
        pytest.skip("only some of the contract tests were run in this session")
    assert len(ALGORITHM_LIST) >= 53
    assert count_cases["verify"] >= 5001
    assert count_cases["judge"] >= 1870


def test_an_alias_builds_the_same_schedule() -> None:
    assert build_schedule("all-reduce", "tree", 6) == build_schedule("all-reduce", "double-binary-tree", 6)


@pytest.mark.parametrize("n", ALL_WORLD_SIZES)
def test_ring_counts(n: int) -> None:
    """2(n-1) steps; in each, every rank sends and receives one chunk of n: 2(n-1)/n of the buffer sent."""
    ring = build_schedule("all-reduce", "ring", n)
    assert ring.num_steps == 2 * (n - 1)
    assert len(ring) == 2 * n * 2 * (n - 1)
    assert busiest_share(ring) == pytest.approx(2 * (n - 1) / n, rel=1e-15)
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
    assert busiest_share(tree) <= 2.0
