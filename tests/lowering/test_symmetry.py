# SPDX-License-Identifier: Apache-2.0
"""Symmetric positions: links that never hold anything back do not count, and what is called even has equal rates."""

from collections.abc import Sequence

import numpy as np
import pytest

from commbench.lowering.aggregate import GroupFlows
from commbench.lowering.symmetry import kinds_of_links, positions
from commbench.network.maxmin import max_min_rates
from commbench.topology.load import load_fabric

Loads = Sequence[dict[int, float]]
"""Of one pattern: per group its links and its weight on each."""


def groups_of(loads: Loads, own: float = 8.0) -> GroupFlows:
    """Groups with these loads, alike in all else."""
    rows = [(group, link, weight) for group, links in enumerate(loads) for link, weight in sorted(links.items())]
    group, link, weight = (np.array(column) for column in zip(*rows, strict=True))
    return GroupFlows(
        chain_ps=np.zeros(len(loads), dtype=np.int64),
        num_bytes=np.ones(len(loads), dtype=np.int64),
        transfers=np.ones(len(loads), dtype=np.int64),
        own_bandwidth=np.full(len(loads), own),
        group=group,
        link=link,
        weights=weight.astype(float),
        loads=weight.astype(float),
    )


@pytest.mark.parametrize(
    ("bandwidth", "weight", "kind", "even"),
    [
        (1.0, 1.0, 1, True),  # as narrow as the four, with the same load: they speak for it
        (2.0, 1.0, 1, True),
        (0.5, 1.0, 1, False),  # narrower: it holds the first group back, and no other
        (1.0, 2.0, 1, False),  # more on it than on the others
        (4.0, 2.0, 1, False),  # never full, but by the sum of two, which no single link speaks for
        (1.0, 1.0, 0, False),  # of the same kind as the four: not told apart, so that it counts
    ],
)
def test_a_link_that_others_speak_for_breaks_no_symmetry(
    bandwidth: float, weight: float, kind: int, even: bool
) -> None:
    """Four groups on a link each, another pattern on all four, and a fifth link under the first group and the other."""
    four = [{link: 1.0} for link in range(4)]
    four[0][4] = weight
    other = [dict.fromkeys(range(5), 1.0)]
    bandwidths = np.array([1.0, 1.0, 1.0, 1.0, bandwidth])
    kinds = np.array([0, 0, 0, 0, kind])
    found = positions([groups_of(four), groups_of(other)], bandwidths, kinds=kinds)
    assert bool(found[0].max() == 0) is even
    assert found[1].tolist() == [0]


def test_a_link_that_will_change_is_spoken_for_by_none_and_speaks_for_none() -> None:
    four = [{link: 1.0} for link in range(4)]
    four[0][4] = 1.0
    flows = [groups_of(four), groups_of([dict.fromkeys(range(5), 1.0)])]
    kinds = np.array([0, 0, 0, 0, 1])
    marks = np.array([0, 0, 0, 0, 1])
    assert positions(flows, np.ones(5), kinds=kinds)[0].max() == 0
    assert positions(flows, np.ones(5), kinds=kinds, marks=marks)[0].max() > 0
    assert positions(flows, np.ones(5), kinds=kinds, marks=1 - marks)[0].max() > 0


def drawn(rng: np.random.Generator) -> tuple[list[Loads], list[float], list[int]]:
    """Patterns of 2 to 4 groups with a link of their own of each kind, and a few links under groups at random."""
    count, patterns, kinds = (int(rng.integers(2, 5)) for _ in range(3))
    bandwidths = [float(b) for kind in range(kinds) for b in [rng.choice([1, 2, 3])] * count]
    of_kind = [kind for kind in range(kinds) for _ in range(count)]
    loads: list[list[dict[int, float]]] = [[{} for _ in range(count)] for _ in range(patterns)]
    for pattern in loads:
        for kind in range(kinds):
            weight = float(rng.integers(0 if kind else 1, 3))
            for group, links in enumerate(pattern):
                if weight:
                    links[kind * count + group] = weight
    for extra in range(int(rng.integers(0, 4))):
        bandwidths.append(float(rng.choice([1, 2, 3, 6])))
        of_kind.append(kinds + extra)
        for pattern in loads:
            if rng.random() < 0.6:
                pattern[int(rng.integers(count))][len(bandwidths) - 1] = 1.0
    return loads, bandwidths, of_kind


def rates(flows: Sequence[tuple[int, dict[int, float]]], bandwidths: Sequence[float]) -> list[tuple[int, float]]:
    """(pattern, max-min rate) of every flow; each has a link of its own of bandwidth 8."""
    capacity = [*bandwidths, *(8.0 for _ in flows)]
    links = [[*load, len(bandwidths) + number] for number, (_, load) in enumerate(flows)]
    weights = [[*load.values(), 1.0] for _, load in flows]
    found = max_min_rates(capacity, links, weights)
    return [(pattern, rate) for (pattern, _), rate in zip(flows, found, strict=True)]


def test_even_groups_have_the_rate_of_the_one_flow_that_stands_for_them() -> None:
    """Bit by bit, for every set of patterns that is under way together; both answers occur often."""
    rng = np.random.default_rng(5)
    even = with_extra = 0
    for _ in range(400):
        loads, bandwidths, kinds = drawn(rng)
        found = positions([groups_of(one) for one in loads], np.array(bandwidths), kinds=np.array(kinds))
        if any(classes.max() for classes in found):
            continue
        even += 1
        with_extra += any(len({frozenset(links.values()) for links in one}) > 1 or _odd(one) for one in loads)
        for chosen in range(1, 2 ** len(loads)):
            active = [number for number in range(len(loads)) if chosen >> number & 1]
            apart = rates([(number, links) for number in active for links in loads[number]], bandwidths)
            joint = dict(rates([(number, _sum(loads[number])) for number in active], bandwidths))
            assert all(rate == joint[pattern] for pattern, rate in apart)
    assert 60 < even < 340
    assert with_extra > 20


def _odd(pattern: Loads) -> bool:
    return len({len(links) for links in pattern}) > 1


def _sum(pattern: Loads) -> dict[int, float]:
    total: dict[int, float] = {}
    for links in pattern:
        for link, weight in links.items():
            total[link] = total.get(link, 0.0) + weight
    return total


def test_links_between_the_same_kinds_of_nodes_are_of_one_kind() -> None:
    fabric = load_fabric("fat-tree-16")
    ends: dict[int, set[tuple[str, str]]] = {}
    for link, kind in zip(fabric.links, kinds_of_links(fabric).tolist(), strict=True):
        ends.setdefault(kind, set()).add((fabric.by_name[link.src].kind, fabric.by_name[link.dst].kind))
    assert len(ends) == 6
    assert all(len(pairs) == 1 for pairs in ends.values())
