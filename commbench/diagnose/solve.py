# SPDX-License-Identifier: Apache-2.0
"""The fewest slow parts that explain slow measurements: every one and every two of them, then one more at a time.

The cost of an explanation is minus the logarithm of its likelihood, with residuals of Student's t (four degrees of
freedom), so that a single measurement gone astray decides nothing, plus a penalty for each part. Classes of parts that
carry the same traffic count as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from commbench.arrays import FloatArray
from commbench.diagnose.evidence import Evidence, PartClass
from commbench.diagnose.parts import LINK, ONE_WAY

__all__ = ["FaultSet", "Solved", "solve"]

FACTORS = np.geomspace(0.02, 0.97, 60)
"""Fractions of its bandwidth that a slow part may have, as they are tried."""
_FINE = np.geomspace(0.02, 0.97, 1200)  # as they are told
MOST_PARTS = 6
MOST_OF_TWO = 400
"""Classes of which all pairs are tried; more, and it is the best of them."""
_FREEDOM = 4.0  # degrees of
_EVIDENCE = 5.0  # exp(5) to one beyond the number of classes that may be at fault by chance
_ONE_WAY = 2.0  # of cost
_LEAST_EFFECT = np.log(1.05)  # less is not called slow
_REFINED = 12  # best pairs, whose factors are then found together
_BELIEVED = 2.0  # of cost: the factors within are what measurements leave open, 95 % of it for normal residuals


@dataclass(frozen=True, slots=True, eq=False)
class FaultSet:
    """Some classes of parts and the fraction of its bandwidth that each has.

    Attributes:
        members: (number of the class, fraction). cost: without penalties.
    """

    members: tuple[tuple[int, float], ...]
    cost: float

    @property
    def classes(self) -> frozenset[int]:
        """Numbers of the classes."""
        return frozenset(number for number, _ in self.members)


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """What was found.

    Attributes:
        best: the explanation; of no part where nothing is slow enough.
        rivals: those of as many parts (of one where there is none), the best first, itself among them.
        evidence: with the baselines that it leaves.
        kin: of every class those that are of the same cable: all of it, or one way; itself among them.
    """

    best: FaultSet
    rivals: tuple[FaultSet, ...]
    evidence: Evidence
    kin: tuple[frozenset[int], ...]

    def model(self, classes: Sequence[PartClass]) -> FloatArray:
        """Logarithm of the slowdown of every measurement by the best explanation."""
        return _joint(self.evidence, classes, self.best.members)

    def confidence(self, number: int) -> float:
        """Weight of the rivals that name a class, or one of its kin: it is the same cable that is to be looked at."""
        costs = np.array([one.cost for one in self.rivals])
        weights = np.exp(costs.min() - costs)
        named = np.array([bool(self.kin[number] & one.classes) for one in self.rivals])
        return float(weights[named].sum() / weights.sum())

    def believed(self, classes: Sequence[PartClass], number: int) -> tuple[float, float]:
        """The lowest and the highest fraction of a class that the measurements leave open, the others as found."""
        others = tuple(member for member in self.best.members if member[0] != number)
        costs = _costs(self.evidence, classes[number], _joint(self.evidence, classes, others), _FINE)
        within = _FINE[costs <= costs.min() + _BELIEVED]
        return float(within[0]), float(within[-1])


def solve(starts: Sequence[Evidence], classes: Sequence[PartClass]) -> Solved:
    """The explanation that makes all measurements likeliest, of those that each start leads to.

    Baselines are found anew by what an explanation leaves, until it stays.
    """
    found = [_settled(evidence, classes) for evidence in starts]
    return min(found, key=lambda one: _unlikely(one, classes))


def _settled(evidence: Evidence, classes: Sequence[PartClass]) -> Solved:
    found = _search(evidence, classes)
    for _ in range(3):
        rebased = evidence.rebased(_joint(evidence, classes, found.best.members))
        again = _search(rebased, classes)
        if again.best.classes == found.best.classes:
            return again
        evidence, found = rebased, again
    return found


def _unlikely(one: Solved, classes: Sequence[PartClass]) -> float:
    """Minus the logarithm of the likelihood with its scatter, and the price of its parts."""
    widths = float(np.log(one.evidence.sigma).sum())
    return one.best.cost + widths + _penalty(classes) * len(one.best.members)


def _penalty(classes: Sequence[PartClass]) -> float:
    return _EVIDENCE + float(np.log(max(1, len(classes))))


def _search(evidence: Evidence, classes: Sequence[PartClass]) -> Solved:
    nothing = FaultSet((), _total(evidence, np.zeros(len(evidence.time_s))))
    penalty = _penalty(classes)
    ones = _singles(evidence, classes, nothing)
    twos = _pairs(evidence, classes, ones) if len(ones) > 1 else []

    def whole_cost(one: FaultSet) -> float:
        return one.cost + penalty * len(one.members)

    best = min([nothing, *ones[:1], *twos[:1]], key=whole_cost)
    if len(best.members) == 2:
        best = min([best, *_greedy(evidence, classes, best)], key=whole_cost)
    known = {0: ones, 1: ones, 2: twos}
    rivals = known[len(best.members)] if len(best.members) in known else _replaced(evidence, classes, best)
    told = _refined(evidence, classes, best.members, _FINE) if best.members else best
    return Solved(told, tuple(rivals) or (nothing,), evidence, _kin(classes))


def _kin(classes: Sequence[PartClass]) -> tuple[frozenset[int], ...]:
    of_cable: dict[int, set[int]] = {}  # by link
    for number, one in enumerate(classes):
        if one.parts[0].kind in (LINK, ONE_WAY):
            for link in one.parts[0].links.tolist():
                of_cable.setdefault(link, set()).add(number)
    return tuple(
        frozenset({n}.union(*(of_cable.get(link, ()) for link in one.parts[0].links.tolist())))
        if one.parts[0].kind in (LINK, ONE_WAY) else frozenset({n})
        for n, one in enumerate(classes)
    )  # fmt: skip


def _prior(one: PartClass) -> float:
    """A cable that trains down does so both ways; one way alone takes more evidence."""
    return _ONE_WAY if one.parts[0].kind == ONE_WAY else 0.0


def _loss(residual: FloatArray, sigma: FloatArray) -> FloatArray:
    """Minus the logarithm of the likelihood, but for a constant."""
    loss: FloatArray = (_FREEDOM + 1) / 2 * np.log1p((residual / sigma) ** 2 / _FREEDOM)
    return loss


def _total(evidence: Evidence, model: FloatArray) -> float:
    return float(_loss(evidence.deviation - model, evidence.sigma).sum())


def _joint(evidence: Evidence, classes: Sequence[PartClass], members: Sequence[tuple[int, float]]) -> FloatArray:
    """The slowest of several parts counts."""
    models = [evidence.model(classes[number].busy_s, factor) for number, factor in members]
    return np.max(models, axis=0) if models else np.zeros(len(evidence.time_s))


def _costs(evidence: Evidence, one: PartClass, beside: FloatArray, factors: FloatArray = FACTORS) -> FloatArray:
    """Cost with one class more at each of ``factors``; ``beside``: the model of what is at fault already."""
    mine = np.flatnonzero(one.busy_s)
    sigma, deviation = evidence.sigma, evidence.deviation
    whole = _total(evidence, beside) - float(_loss(deviation[mine] - beside[mine], sigma[mine]).sum())
    shape = one.busy_s[mine] / factors[:, None]
    longer = np.log1p(np.maximum(0.0, shape - evidence.busiest_s[mine]) / evidence.time_s[mine])
    model = np.maximum(longer, beside[mine])
    costs: FloatArray = whole + _loss(deviation[mine] - model, sigma[mine]).sum(axis=1)
    costs[longer.max(axis=1) < _LEAST_EFFECT] = np.inf
    return costs


def _with_one(
    evidence: Evidence,
    classes: Sequence[PartClass],
    number: int,
    beside: Sequence[tuple[int, float]],
    factors: FloatArray = FACTORS,
) -> FaultSet:
    """The best with a class more."""
    costs = _costs(evidence, classes[number], _joint(evidence, classes, beside), factors)
    at, members = int(costs.argmin()), (*beside, (number, 0.0))
    prior = sum(_prior(classes[n]) for n, _ in members)
    return FaultSet((*beside, (number, float(factors[at]))), float(costs[at]) + prior)


def _singles(evidence: Evidence, classes: Sequence[PartClass], nothing: FaultSet) -> list[FaultSet]:
    """Every class alone that could explain anything, the best first."""
    found = [_with_one(evidence, classes, number, ()) for number in range(len(classes))]
    return sorted((one for one in found if one.cost < nothing.cost), key=lambda one: one.cost)


def _pairs(
    evidence: Evidence, classes: Sequence[PartClass], ones: Sequence[FaultSet]
) -> list[FaultSet]:
    """Every two of the classes that improve anything alone, the best first; of the best the factors found together."""
    used = ones[:MOST_OF_TWO]
    members = [one.members[0] for one in used]
    models = np.array([evidence.model(classes[number].busy_s, factor) for number, factor in members])
    priors = np.array([_prior(classes[number]) for number, _ in members])
    rows = []
    for i in range(len(used) - 1):
        both = np.maximum(models[i], models[i + 1 :])
        costs = _loss(evidence.deviation - both, evidence.sigma).sum(axis=1) + priors[i] + priors[i + 1 :]
        rows += [(float(cost), i, i + 1 + j) for j, cost in enumerate(costs)]
    rows.sort()
    refined = [_refined(evidence, classes, (members[i], members[j])) for _, i, j in rows[:_REFINED]]
    rest = [FaultSet((members[i], members[j]), cost) for cost, i, j in rows[_REFINED : 10 * _REFINED]]
    return sorted([*refined, *rest], key=lambda one: one.cost)


def _refined(
    evidence: Evidence,
    classes: Sequence[PartClass],
    members: tuple[tuple[int, float], ...],
    factors: FloatArray = FACTORS,
) -> FaultSet:
    """The same classes with the factors that fit best together, found in turn."""
    found = FaultSet(members, np.inf)
    for _ in range(3 * len(members)):
        first, *others = found.members
        found = _with_one(evidence, classes, first[0], others, factors)
    return found


def _greedy(evidence: Evidence, classes: Sequence[PartClass], start: FaultSet) -> list[FaultSet]:
    """One part more at a time, each time the one that improves most."""
    found, last = list[FaultSet](), start
    while len(last.members) < MOST_PARTS:
        rest = [number for number in range(len(classes)) if number not in last.classes]
        if not rest:
            break
        tried = min((_with_one(evidence, classes, n, last.members) for n in rest), key=lambda one: one.cost)
        if not tried.cost < last.cost - _EVIDENCE:
            break
        last = _refined(evidence, classes, tried.members)
        found.append(last)
    return found


def _replaced(evidence: Evidence, classes: Sequence[PartClass], best: FaultSet) -> list[FaultSet]:
    """The explanation, and all in which one of its parts is another."""
    found = [best]
    for others in combinations(best.members, len(best.members) - 1):
        rest = [number for number in range(len(classes)) if number not in best.classes]
        found += [_with_one(evidence, classes, number, others) for number in rest]
    return sorted((one for one in found if np.isfinite(one.cost)), key=lambda one: one.cost)
