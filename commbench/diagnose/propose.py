# SPDX-License-Identifier: Apache-2.0
"""Which pair to measure next, so that the answer tells the candidates apart.

How much longer a send-recv takes under each candidate follows from the links between two endpoints (the model of
:mod:`commbench.diagnose.evidence`). The best pair is the one whose answers differ most, weighted by how likely the
candidates are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from commbench.diagnose.evidence import PartClass
from commbench.diagnose.expect import Simulator
from commbench.diagnose.measurement import Measurement
from commbench.diagnose.parts import FabricPart
from commbench.diagnose.solve import Solved
from commbench.results.diagnoses import Proposed
from commbench.units import seconds

__all__ = ["propose"]


_MOST_ENDS = 48  # endpoints whose pairs are looked at
_MOST_CANDIDATES = 8
_LEAST_SPREAD = 0.1  # of logarithms between two candidates, so that an answer tells them apart
_MOST_PROPOSED = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A part that may be at fault, the fraction of its bandwidth that it would have, and how likely that is."""

    part: FabricPart
    factor: float
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Two endpoints, the links between them both ways, and the time that a size takes over each, and in all."""

    ranks: tuple[int, int]
    links: frozenset[int]
    busy_s: dict[int, float]
    time_s: float

    def slowdown(self, one: _Candidate) -> float:
        """Measured / baseline if that one is at fault."""
        crossed = [self.busy_s[link] for link in one.part.links.tolist() if link in self.links]
        if not crossed:
            return 1.0
        return 1 + max(0.0, max(crossed) / one.factor - max(self.busy_s.values())) / self.time_s


def propose(
    simulator: Simulator, classes: Sequence[PartClass], solved: Solved, measurements: Sequence[Measurement]
) -> tuple[Proposed, ...]:
    """Up to three pairs, each the best for what the ones before leave open; none where no pair tells anything.

    A pair that was measured at this size already is not proposed.
    """
    open_sets = _open(classes, solved)
    if not open_sets:
        return ()
    size = max(each.record.size_bytes for each in measurements)
    done = {frozenset(each.ranks) for each in measurements if len(each.ranks) == 2 and len(each.groups) == 1}
    pairs = _pairs(simulator, size, open_sets, done)
    found = list[Proposed]()
    for candidates in open_sets:
        left = candidates
        while len(left) > 1 and len(found) < _MOST_PROPOSED and pairs:
            best = max(pairs, key=lambda pair: _spread(pair, left))
            values = [best.slowdown(one) for one in left]
            if np.log(max(values) / min(values)) < _LEAST_SPREAD:
                break
            found.append(_proposed(simulator, best, left, size))
            middle = (max(values) * min(values)) ** 0.5
            left = [one for one, value in zip(left, values, strict=True) if (value > middle) == (values[0] > middle)]
            pairs.remove(best)
    return tuple(found)


def _open(classes: Sequence[PartClass], solved: Solved) -> list[list[_Candidate]]:
    """What is to be told apart: rivals of one another, then the parts of each class that was found."""
    factors = dict[int, float]()
    for rival in solved.rivals[:50]:
        for number, factor in rival.members:
            factors.setdefault(number, factor)
    likely = sorted(factors, key=lambda number: -solved.confidence(number))[:_MOST_CANDIDATES]
    rivals = [_Candidate(classes[n].parts[0], factors[n], solved.confidence(n)) for n in likely]
    found = [[one for one in rivals if one.weight > 0.01]]
    for number, factor in solved.best.members or [(n, factors[n]) for n in likely[:1]]:
        parts = classes[number].parts
        found.append([_Candidate(part, factor, 1 / len(parts)) for part in parts[:_MOST_CANDIDATES]])
    return [one for one in found if len(one) > 1]


def _pairs(
    simulator: Simulator, size: int, open_sets: Sequence[Sequence[_Candidate]], done: set[frozenset[int]]
) -> list[_Pair]:
    """Pairs of endpoints that were not measured alone: those near the candidates first, others from all over."""
    fabric, router = simulator.fabric, simulator.router
    hosts = {one.part.host for candidates in open_sets for one in candidates} - {-1}
    near = [rank for rank in range(fabric.num_ranks) if int(fabric.host_of[rank]) in hosts][: _MOST_ENDS // 2]
    step = max(1, fabric.num_ranks // (_MOST_ENDS - len(near)))
    ends = sorted({*near, *range(0, fabric.num_ranks, step)})
    asked = [pair for pair in combinations(ends, 2) if frozenset(pair) not in done]
    src, dst = np.array([(*pair,) for pair in asked], np.int64).reshape(-1, 2).T
    ways = [router.routes(src, dst), router.routes(dst, src)]
    found = []
    for i, ranks in enumerate(asked):
        links = [int(link) for first, way in ways for link in way[first[i] : first[i + 1]]]
        latency_s = seconds(int(sum(fabric.latencies_ps[link] for link in links))) / 2
        busy_s = {link: size / float(fabric.bandwidths[link]) for link in links}
        found.append(_Pair(ranks, frozenset(links), busy_s, latency_s + max(busy_s.values())))
    return found


def _spread(pair: _Pair, candidates: Sequence[_Candidate]) -> float:
    """Weighted variance of the logarithms of what it would give."""
    values = np.log([pair.slowdown(one) for one in candidates])
    weights = np.array([one.weight for one in candidates])
    mean = np.average(values, weights=weights)
    return float(np.average((values - mean) ** 2, weights=weights))


def _proposed(simulator: Simulator, pair: _Pair, candidates: Sequence[_Candidate], size: int) -> Proposed:
    names = tuple(simulator.fabric.ranks[rank] for rank in pair.ranks)
    expected = {one.part.name: pair.slowdown(one) for one in candidates}
    return Proposed(ranks=pair.ranks, names=names, size_bytes=size, expected=expected)
