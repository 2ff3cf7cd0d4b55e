# SPDX-License-Identifier: Apache-2.0
"""From all strategies to the best one: bounds, then estimates, then exact simulation until nothing better can be left.

1. Every strategy has a lower bound of its time in arrays: the busiest rank's passes, and the way of one microbatch
   through the pipeline. What is slower by that than :data:`WORTH` times the best estimate is not looked at further.
2. The others are held against memory, and estimated (:mod:`commbench.planner.estimate`), the most promising first.
3. The best by estimate are simulated, until no other has a lower bound below the best simulated time less the gap, or
   the time that simulating may take is over. What that proves is said (:attr:`Found.proven_gap`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError, UnknownTimeError
from commbench.planner.estimate import Estimated, Estimator
from commbench.planner.strategy import Strategy
from commbench.workload.pipeline.registry import get_pipeline

__all__ = ["WORTH", "Candidates", "Found", "Say", "Tried", "best_of", "candidates", "silent"]

WORTH = 1.25
"""Times the best estimate, up to which strategies are estimated."""
Say = Callable[[str], None]
"""Is told, as often as there is something to tell, how far a search is."""
Cost = Callable[[Strategy], float]
"""What a second of a step costs by the objective."""


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What bounds and memory left.

    Attributes:
        strategies: all that there are. slow: left out, for their lower bound is more than WORTH times the best
            estimate; slow_bound: the least of these bounds, infinite where there are none.
        large: left out, for they do not fit. estimated: the others, best first.
        nearest: of what does not fit, what needs least memory, and its bytes; None where something fits.
        bounds: of every strategy, times what it costs; infinite where its communication has no known time.
        untimed: left out for that. why: the first of them is.
    """

    strategies: int
    slow: int
    slow_bound: float
    large: int
    estimated: tuple[Estimated, ...]
    nearest: tuple[Strategy, int] | None
    bounds: npt.NDArray[np.float64] = field(repr=False)
    untimed: int = 0
    why: str = ""


def candidates(
    strategies: Sequence[Strategy],
    estimator: Estimator,
    capacity_bytes: int,
    cost: Cost,
    *,
    worth: float = WORTH,
    say: Say = silent,
) -> Candidates:
    """Bound all strategies, and estimate those that fit and may be within ``worth`` of the best.

    Raises:
        UnknownTimeError: the library knows no time of what any strategy sends.
    """
    unknown: list[UnknownTimeError] = []
    bounds = _bounds(strategies, estimator, say, unknown) * np.array([cost(one) for one in strategies])
    found, large, best = list[Estimated](), 0, float("inf")
    nearest: tuple[Strategy, int] | None = None
    order = np.argsort(bounds, kind="stable")[: len(strategies) - len(unknown)].tolist()
    looked, beyond = 0, float("inf")
    for number in order:
        if bounds[number] > worth * best:
            beyond = float(bounds[number])
            break
        looked += 1
        say(f"{looked:,} that may be near the best: {large:,} do not fit, {len(found):,} estimated")
        one = strategies[number]
        needs = estimator.memory(one)
        if needs > capacity_bytes:
            large += 1
            if nearest is None or needs < nearest[1]:
                nearest = one, needs
            continue
        try:
            estimated = estimator.estimate(one)
        except UnknownTimeError as error:
            unknown.append(error)
            continue
        best = min(best, estimated.time_s * cost(one))
        found.append(estimated)
    if len(unknown) == len(strategies):
        raise unknown[0]
    found.sort(key=lambda one: one.time_s * cost(one.strategy))
    return Candidates(
        strategies=len(strategies), slow=len(order) - looked, slow_bound=beyond, large=large, estimated=tuple(found),
        nearest=None if found else nearest, bounds=bounds, untimed=len(unknown), why=str(unknown[0]) if unknown else "",
    )  # fmt: skip


def _bounds(
    strategies: Sequence[Strategy], estimator: Estimator, say: Say, unknown: list[UnknownTimeError]
) -> npt.NDArray[np.float64]:
    """Seconds that each takes at least: the mean rank's passes, and a microbatch's way to the last rank and back;
    infinite, and why added to ``unknown``, where these have no known time.
    """
    splits = {name: get_pipeline(name).splits for name in {one.schedule for one in strategies}}
    rows, known = [], dict[tuple[int, bool], tuple[float, float]]()
    for number, one in enumerate(strategies):
        say(f"{number:,} of {len(strategies):,} strategies have a lower bound")
        passes, least = float("inf"), 0.0
        try:
            kinds, whole = estimator.layer_s(one), not splits[one.schedule]
            key = (id(kinds), whole)  # the estimator keeps them
            if key not in known:
                passes = sum(kind.count * (kind.forward + kind.backward) for kind in kinds)
                known[key] = passes, min(kind.forward + (kind.backward if whole else 0.0) for kind in kinds)
            passes, least = known[key]
        except UnknownTimeError as error:
            unknown.append(error)
        rows.append((one.microbatches, one.pp, one.stages_per_rank, sum(one.layers), passes, least))
    count, ranks, stages, layers, passes_s, least_s = np.array(rows, dtype=np.float64).T
    return np.asarray(count * passes_s / ranks + (ranks - 1) * layers / (ranks * stages) * least_s)


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate and its simulated seconds; None where it does not fit after all, or cannot be simulated (problem)."""

    estimated: Estimated
    time_s: float | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What was simulated.

    Attributes:
        simulated: in that order. proven_gap: by how much the best simulated time may be above that of any strategy that
            was not simulated, as a share: no lower bound of these is less. worst_error: largest share by which an
            estimate missed a simulation. open: candidates whose lower bound is still below the best simulated time.
    """

    simulated: tuple[Tried, ...]
    proven_gap: float
    worst_error: float
    open: int


def best_of(
    found: Candidates,
    simulate: Callable[[Strategy], float | None],
    cost: Cost,
    *,
    gap: float,
    seconds: float,
    say: Say = silent,
) -> Found:
    """Simulate candidates: those that may be better than the best so far by estimate, then by their lower bounds.

    Args:
        found: from :func:`candidates`. simulate: seconds of a strategy's step, None where it does not fit; an
            InputError says why it cannot be simulated.
        cost: see Cost. gap: to be proven, as a share. seconds: after which no other simulation begins.
    """
    began, done, best = time.perf_counter(), list[Tried](), float("inf")
    left, unknown = list(found.estimated), list[Estimated]()
    while left:
        over = time.perf_counter() - began > seconds and best < float("inf")
        if over or best <= (1 + gap) * _least(left, cost):
            break
        better = [one for one in left if one.time_s * cost(one.strategy) < best]
        one = better[0] if better else min(left, key=lambda one: one.bound_s * cost(one.strategy))
        left.remove(one)
        say(f"{len(done)} simulated; now {one.strategy.words}")
        try:
            time_s = simulate(one.strategy)
        except InputError as error:
            done.append(Tried(one, None, str(error)))
            unknown.append(one)
            continue
        done.append(Tried(one, time_s))
        best = best if time_s is None else min(best, time_s * cost(one.strategy))
    errors = [abs(one.estimated.time_s / one.time_s - 1) for one in done if one.time_s]
    others = [*left, *unknown]
    least = min(_least(others, cost), found.slow_bound)
    below = sum(one.bound_s * cost(one.strategy) < best for one in others)
    return Found(tuple(done), max(0.0, best / least - 1), max(errors, default=0.0), below)


def _least(of: Sequence[Estimated], cost: Cost) -> float:
    return min((one.bound_s * cost(one.strategy) for one in of), default=float("inf"))
