# SPDX-License-Identifier: Apache-2.0
"""What a reader of a simulated step must know: who is in which group, what was folded, what is an estimate."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from commbench.door import Result
from commbench.lowering.perturb import Perturbation
from commbench.program.critical import critical_path
from commbench.program.flat import FlatProgram
from commbench.program.operations import NOTHING
from commbench.training.folding import FoldedStep
from commbench.units import format_bytes, format_time, seconds
from commbench.workload.groups import Degrees, ParallelGroups
from commbench.workload.step import Step
from commbench.workload.step_plan import StepPlan

__all__ = ["full_notes", "host_notes", "notes_of"]

_GROUPS = {"tp": "tensor", "cp": "context", "ep": "expert", "dp": "data", "edp": "data of experts", "pp": "pipeline"}


def notes_of(found: FoldedStep, ran: Result, perturbed: Perturbation) -> list[str]:
    """The groups; which communications were folded, which were simulated whole and which are estimates."""
    step, bound = found.step, found.bound
    name, notes = bound.cluster.fabric.name, _groups(step.plan.degrees)
    if perturbed.slow_ranks:
        notes.append(f"slow ranks are classes of their own: {', '.join(map(str, perturbed.slow_ranks))}")
    uneven, count = set(bound.uneven), len(bound.flows)
    kind_of = _kinds(step)
    communications = step.program.communications
    whole = {i for i, one in enumerate(communications) if len(one.groups) == 1}
    even = set(range(count)) - whole - uneven
    if even:
        notes.append(
            f"folded: {_communications(even)} ({_count(kind_of[i] for i in even)}), each a collective or transfer "
            f"of one size at one pipeline position; the groups of each are in symmetric positions on {name}, so that "
            "one flow gives the exact time of all"
        )
    if whole:
        notes.append(f"simulated whole: {_communications(whole)} ({_count(kind_of[i] for i in whole)}) of one group")
    if uneven:
        spent = seconds(_critical_ps(step, ran, uneven))
        notes.append(
            f"an estimate: {_communications(uneven)} ({_count(kind_of[i] for i in uneven)}; first: "
            f"{communications[min(uneven)].name}) have groups that are not in symmetric positions on {name}; all are "
            f"taken to be as slow as the slowest, so the step may be shorter, by {format_time(spent)} "
            f"({spent / seconds(ran.trace.finish_ps):.1%}) at most, which is their part of the critical path; telling "
            "all apart would take too long"
        )
    return notes


_FULL = 0.05
"""Of a device's memory: with less left, published steps took up to a third longer than others of their series."""


def full_notes(plan: StepPlan, margin_bytes: int) -> list[str]:
    """What is to be said of a step that fits, but just so."""
    left = plan.device.memory_bytes - margin_bytes - max(use.total for use in plan.memory())
    if not 0 <= left < _FULL * plan.device.memory_bytes:
        return []
    return [
        f"memory is nearly full, {format_bytes(left)} left: PyTorch's allocator may free and allocate again and "
        "again; published steps as full took up to a third longer, which is not predicted (docs/training-accuracy.md)"
    ]


def host_notes(plan: StepPlan) -> list[str]:
    """What lies in host memory."""
    found, offload = plan.host_memory(), plan.offload
    if offload is None:
        return []
    kinds = ", ".join(f"{format_bytes(size)} of {kind}" for kind, size in found.items())
    whole = sum(found.values()) * offload.host_ranks
    return [f"in host memory: {kinds} a rank at most, so up to {format_bytes(whole)} a host, which must be there"]


def _groups(degrees: Degrees) -> list[str]:
    """The rank order, and the group of rank 0 in every kind of groups."""
    groups = ParallelGroups(degrees)
    sizes = {kind: getattr(degrees, kind) for kind in _GROUPS}
    first = [
        f"{_GROUPS[kind]} ({kind}) {_short(groups.of_rank(kind, 0))}"
        for kind, size in sizes.items()
        if size > 1 and (kind != "edp" or degrees.ep > 1)
    ]
    return [f"rank order {degrees.order}, nearest ranks first; groups of rank 0: {'; '.join(first)}"] if first else []


def _short(ranks: Sequence[int]) -> str:
    """The ranks of a group, by its first two and its last where they are many."""
    return " ".join(map(str, ranks)) if len(ranks) <= 4 else f"{ranks[0]} {ranks[1]} .. {ranks[-1]}"


def _kinds(step: Step) -> list[str]:
    """Kind of every communication."""
    program = step.program
    kinds = [""] * len(program.communications)
    moves = program.communication != NOTHING
    pairs = np.unique(np.stack([program.communication[moves], program.purpose[moves]]), axis=1)
    for number, purpose in pairs.T.tolist():
        kinds[number] = program.purposes[purpose]
    return kinds


def _communications(numbers: set[int]) -> str:
    return f"{len(numbers)} communication{'' if len(numbers) == 1 else 's'}"


def _count(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items())


def _critical_ps(step: Step, ran: Result, numbers: set[int]) -> int:
    """Picoseconds of the critical path in these communications."""
    assert isinstance(ran.tasks, FlatProgram)
    lasted = ran.trace.end_ps - ran.trace.start_ps
    communication = step.program.communication
    path = critical_path(ran.tasks, ran.trace.end_ps)
    return sum(int(lasted[task]) for task in path if int(communication[task]) in numbers)
