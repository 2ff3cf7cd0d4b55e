# SPDX-License-Identifier: Apache-2.0
"""Folding a training step as far as no time changes by it.

First all ranks of a pipeline position are one. Where the groups of a communication turn out not to be in symmetric
positions on the fabric (lowering.symmetry), the ranks that are not alike are told apart, and so on until all is even.
If that takes too many operations, what is left uneven is an estimate: its groups advance at the pace of the slowest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commbench.cluster import Cluster
from commbench.errors import InputError
from commbench.lowering.bind import Bound, bind
from commbench.lowering.choose import Choices
from commbench.lowering.perturb import Perturbation
from commbench.workload.step import MOST_OPERATIONS, Step, build_step
from commbench.workload.step_plan import StepPlan
from commbench.workload.step_units import Folding

__all__ = ["FoldedStep", "fold_step"]

IntArray = npt.NDArray[np.int64]

MOST_WORK = 500_000_000
"""Operations x simulated ranks of a program that is unfolded for want of symmetry, not by order: where nothing is
symmetric (random placement), every change of a rate concerns all flows under way, about as many as there are ranks."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldedStep:
    """A step, folded, and its communications on the fabric."""

    step: Step
    bound: Bound


def fold_step(
    plan: StepPlan, cluster: Cluster, choices: Choices, perturbed: Perturbation, *, unfolded: bool = False
) -> FoldedStep:
    """Build the step and fold it.

    Args:
        plan: of the step.
        cluster: where. choices: how collectives go.
        perturbed: ranks that are slow are told apart; with jitter every rank is its own.
        unfolded: whether every rank is to be simulated by itself.

    Raises:
        InputError: an unfolded program that is too large.
    """
    folding = Folding.apart(plan.degrees, perturbed.slow_ranks) if perturbed.slow_ranks else Folding.whole(plan.degrees)
    step = build_step(plan, folding)
    if unfolded or perturbed.jitter:
        _check_size(step, "--unfolded" if unfolded else "--jitter, by which every rank is its own")
        step = build_step(plan, Folding.none(plan.degrees))
    while True:
        found = FoldedStep(step, bind(step.program, cluster, choices, perturbed.links))
        finer = step.units.finer(_colours(found))
        size = _size(step, finer)
        if not found.bound.uneven or size > MOST_OPERATIONS or size * finer.per_position * plan.degrees.pp > MOST_WORK:
            return found
        assert finer != step.units.folding, "groups of different classes have ranks of different colours in a unit"
        step = build_step(plan, finer)


def _size(step: Step, folding: Folding) -> int:
    """Operations of the step under another folding, or nearly so."""
    return step.program.num_operations * folding.per_position // step.units.per_position


def _check_size(step: Step, why: str) -> None:
    ranks, size = step.plan.degrees.num_ranks, _size(step, Folding.none(step.plan.degrees))
    if size > MOST_OPERATIONS:
        raise InputError(
            f"{why}: {ranks:,} ranks would be {size:,} operations, more than {MOST_OPERATIONS:,}: "
            "give fewer microbatches or ranks"
        )


def _colours(found: FoldedStep) -> IntArray:
    """A number for every rank: ranks of a unit have different ones if they are in groups of different classes."""
    bound, ranks = found.bound, found.step.plan.degrees.num_ranks
    colour = np.zeros(ranks, dtype=np.int64)
    for number in bound.uneven:
        classes, groups = bound.positions[number], bound.program.communications[number].groups
        there = np.zeros(ranks, dtype=np.int64)
        there[groups] = 1 + classes[:, None]
        colour = np.unique(np.stack([colour, there]), axis=1, return_inverse=True)[1].ravel().astype(np.int64)
    return colour
