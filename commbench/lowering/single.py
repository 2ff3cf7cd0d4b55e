# SPDX-License-Identifier: Apache-2.0
"""A program that is one collective of all ranks: what repeats itself stays one round, and switches may add."""

import numpy as np

from commbench.cluster import Cluster
from commbench.collectives.memory import require_rows
from commbench.collectives.rounds import Rounds
from commbench.errors import InputError
from commbench.lowering.bounded import ROW_BYTES
from commbench.lowering.choose import Chosen
from commbench.lowering.expand import expand_rounds, expand_schedule
from commbench.lowering.placing import shared_leaves
from commbench.program.flat import FlatProgram
from commbench.program.loop import LoopProgram
from commbench.program.operations import Collective, Program

__all__ = ["only_collective", "require_leaf", "tasks_of"]


def only_collective(program: Program) -> Collective | None:
    """The collective that is the whole program, of all its ranks in order; None if it is anything else."""
    what = program.communications[0] if program.num_operations == 1 and program.communications else None
    if isinstance(what, Collective) and np.array_equal(what.groups, np.arange(program.num_ranks)[None, :]):
        return what
    return None


def require_leaf(chosen: Chosen, cluster: Cluster) -> None:
    """Refuse ranks that do not hang on the one leaf which the algorithm adds in, or need none to reach each other.

    Raises:
        InputError: says what there is instead.
    """
    if not getattr(chosen.choice.algorithm, "one_leaf", False):
        return
    fabric, ranks = cluster.fabric, len(cluster.placed)
    what = f"algorithm {chosen.choice.name} adds in one InfiniBand leaf that joins the hosts"
    if len(np.unique(cluster.hosts)) == 1 and fabric.num_ranks > fabric.num_hosts:
        raise InputError(f"{what}; all {ranks} ranks are on one host of {fabric.name}: nvls adds in its NVSwitch")
    if not len(shared_leaves(cluster)):
        raise InputError(
            f"{what}; no leaf of {fabric.name} joins all {ranks} ranks, and trees of such leaves are not modelled"
        )


def tasks_of(chosen: Chosen, what: Collective, reduction_ps_per_byte: float) -> FlatProgram | LoopProgram:
    """What the engine runs: one round of the collective's rounds where that will do, else every task."""
    schedule = chosen.form
    if isinstance(schedule, Rounds):
        loop = expand_rounds(
            schedule,
            num_elements=what.num_elements,
            element_bytes=what.element_bytes,
            reduction_ps_per_byte=reduction_ps_per_byte,
        )
        if loop is not None:
            return loop
        rows = 2 * schedule.num_rounds * len(schedule.sender)
        words = f"{schedule.num_chunks:,} chunks of {what.num_elements:,} elements"
        require_rows(words, rows, ROW_BYTES["transfer"], "give a larger size, or --detail collective")
        schedule = schedule.schedule()
    return expand_schedule(
        schedule,
        num_elements=what.num_elements,
        element_bytes=what.element_bytes,
        reduction_ps_per_byte=reduction_ps_per_byte,
    )
