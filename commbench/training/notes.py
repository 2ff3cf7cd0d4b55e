# SPDX-License-Identifier: Apache-2.0
"""What a reader of a simulated step must know: who is in which group, what was folded, what is an estimate."""

from collections import Counter
from collections.abc import Iterable, Sequence

from commbench.program.critical import critical_path
from commbench.program.ir import CoupledCall
from commbench.sim.training import Fitted, Ran
from commbench.training.disturb import Disturbance
from commbench.training.folding import FoldedStep
from commbench.units import format_time, seconds
from commbench.workload.groups import Degrees, ParallelGroups
from commbench.workload.step import Step

__all__ = ["notes_of"]

_GROUPS = {"tp": "tensor", "cp": "context", "ep": "expert", "dp": "data", "edp": "data of experts", "pp": "pipeline"}


def notes_of(found: FoldedStep, ran: Ran, disturbed: Disturbance) -> list[str]:
    """The groups; which communications were folded, which were simulated whole and which are estimates."""
    step, fitted = found.step, found.fitted
    name, notes = fitted.router.fabric.name, _groups(step.plan.degrees)
    if disturbed.slow_ranks:
        notes.append(f"slow ranks are classes of their own: {', '.join(map(str, disturbed.slow_ranks))}")
    uneven, count = set(fitted.uneven), len(fitted.patterns)
    kind_of = _kinds(step, fitted)
    whole = {i for i, pattern in enumerate(fitted.patterns) if len(pattern.groups) == 1}
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
        spent = seconds(_critical_ps(step, fitted, ran, uneven))
        notes.append(
            f"an estimate: {_communications(uneven)} ({_count(kind_of[i] for i in uneven)}; first: "
            f"{fitted.patterns[min(uneven)].name}) have groups that are not in symmetric positions on {name}; all are "
            f"taken to be as slow as the slowest, so the step may be shorter, by {format_time(spent)} "
            f"({spent / seconds(ran.trace.finish_ps):.1%}) at most, which is their part of the critical path; telling "
            "all apart would take too long"
        )
    return notes


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


def _kinds(step: Step, fitted: Fitted) -> list[str]:
    """Kind of every pattern."""
    number = {pattern: i for i, pattern in enumerate(fitted.patterns)}
    kinds = [""] * len(number)
    for op, kind in zip(step.program.operations, step.kinds, strict=True):
        if isinstance(op, CoupledCall):
            kinds[number[op.pattern]] = kind
    return kinds


def _communications(numbers: set[int]) -> str:
    return f"{len(numbers)} communication{'' if len(numbers) == 1 else 's'}"


def _count(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items())


def _critical_ps(step: Step, fitted: Fitted, ran: Ran, patterns: set[int]) -> int:
    """Picoseconds of the critical path in these patterns."""
    wanted = {fitted.patterns[number] for number in patterns}
    operations = step.program.operations
    lasted = ran.trace.end_ps - ran.trace.start_ps
    on_path = critical_path(ran.flat, ran.trace.end_ps)
    return sum(int(lasted[task]) for task in on_path if getattr(operations[task], "pattern", None) in wanted)
