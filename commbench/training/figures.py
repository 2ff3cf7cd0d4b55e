# SPDX-License-Identifier: Apache-2.0
"""What the spans of a training step add up to: where its time goes, exposed communication, bubble, critical path.

Definitions. A unit *computes* while one of its passes or its optimizer works; collectives inside a pass are not
computing, nor is the host that launches one. Communication of a kind is *exposed* on a unit while it is under way there
and the unit does not compute; a transfer between stages counts on the unit that waits for it. Means are over ranks.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from commbench.door import Result
from commbench.lowering.bind import Bound
from commbench.program.critical import critical_path
from commbench.program.flat import FlatProgram
from commbench.program.operations import NOTHING
from commbench.topology.fabric import NODE_KINDS, Fabric
from commbench.units import PS_PER_S, seconds
from commbench.workload.pipeline.bubble import Bubble
from commbench.workload.step import COMMUNICATION, COMPUTING, HOST, Step

__all__ = [
    "IDLE",
    "busiest_links",
    "communications_of",
    "critical_seconds",
    "pass_spans",
    "pipeline_bubble",
    "time_by_kind",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

IDLE = "idle"
_KINDS = (*COMPUTING, *COMMUNICATION, HOST)


def time_by_kind(step: Step, ran: Result) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a rank's step by what it does, and exposed seconds of every kind of communication.

    The first adds up to the step: computing by kind; exposed communication, where several kinds are exposed at once the
    first in the order of COMMUNICATION; "host", where only the host works; and "idle", where nothing is under way. In
    the second each kind stands for itself. Both are means over ranks; kinds that do not occur are left out.
    """
    spent, exposed = np.zeros(len(_KINDS) + 1), np.zeros(len(COMMUNICATION))
    total = 0
    for unit, operations in enumerate(_operations(step)):
        weight = len(step.units.ranks[unit])
        one_spent, one_exposed = _of_unit(step, ran, operations)
        spent += weight * one_spent
        exposed += weight * one_exposed
        total += weight
    by_kind = dict(zip((*_KINDS, IDLE), (spent / total / 1e12).tolist(), strict=True))
    there = set(step.program.purposes)
    alone = dict(zip(COMMUNICATION, (exposed / total / 1e12).tolist(), strict=True))
    return (
        {kind: time_s for kind, time_s in by_kind.items() if kind in there or kind == IDLE},
        {kind: time_s for kind, time_s in alone.items() if kind in there},
    )


def _operations(step: Step) -> list[IntArray]:
    """Per unit the operations that are its own: those on its streams, and of transfers those that it waits for."""
    program, pipeline = step.program, _purposes(step) == _KINDS.index("pipeline")
    first, units = program.standing
    number = np.repeat(np.arange(program.num_operations), np.diff(first))
    own = ~pipeline[number]
    waiting = np.repeat(np.arange(program.num_operations), np.diff(program.first))
    brought = pipeline[program.after] & ~pipeline[waiting]
    waiting, before = waiting[brought], program.after[brought]
    width = np.diff(first)[waiting]
    of_waiting = first[waiting].repeat(width) + np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width, width)
    unit = np.concatenate([units[own], units[of_waiting]])
    numbers = np.concatenate([number[own], np.repeat(before, width)])
    once = np.unique(unit * program.num_operations + numbers)
    bounds = np.searchsorted(once, np.arange(step.units.num_units + 1) * program.num_operations)
    return [once[a:b] % program.num_operations for a, b in pairwise(bounds.tolist())]


def _purposes(step: Step) -> IntArray:
    """Number in _KINDS of what every operation is for."""
    number = np.array([_KINDS.index(purpose) for purpose in step.program.purposes], dtype=np.int64)
    return number[step.program.purpose]


def _of_unit(step: Step, ran: Result, operations: IntArray) -> tuple[FloatArray, FloatArray]:
    """Picoseconds by kind and idle, and exposed by kind of communication."""
    begin, end = ran.trace.start_ps[operations], ran.trace.end_ps[operations]
    kind = _purposes(step)[operations]
    times, at = np.unique(np.concatenate([[0, ran.trace.finish_ps], begin, end]), return_inverse=True)
    size, first, last = len(times), at[2 : 2 + len(operations)], at[2 + len(operations) :]
    change = np.zeros((len(_KINDS), size), dtype=np.int64)
    np.add.at(change, (kind, first), 1)
    np.add.at(change, (kind, last), -1)
    under_way = np.cumsum(change, axis=1)[:, :-1] > 0
    lasts = np.diff(times)
    which = np.where(under_way.any(axis=0), under_way.argmax(axis=0), len(_KINDS))
    spent = np.bincount(which, weights=lasts, minlength=len(_KINDS) + 1).astype(np.float64)
    waits = ~under_way[: len(COMPUTING)].any(axis=0)
    exposed: FloatArray = (under_way[len(COMPUTING) : len(_KINDS) - 1] & waits).astype(np.float64) @ lasts
    return spent, exposed


def pass_spans(step: Step, ran: Result) -> list[tuple[int, int, str, int, float, float]]:
    """(unit, stage, letter of the pass, microbatch, begin and end in seconds) of every pass."""
    begin = (ran.trace.start_ps[[one.first for one in step.passes]] / PS_PER_S).tolist()
    end = (ran.trace.end_ps[[one.last for one in step.passes]] / PS_PER_S).tolist()
    return [
        (one.unit, one.action.stage, one.action.kind.value, one.action.microbatch, begin_s, end_s)
        for one, begin_s, end_s in zip(step.passes, begin, end, strict=True)
    ]


def pipeline_bubble(step: Step, ran: Result) -> Bubble:
    """Idle time of the pipeline, from the first start of a pass to the last end of one: outside the passes, and not for
    data parallelism, for which a stage would wait without a pipeline too. None where there is one stage.
    """
    units = np.array([one.unit for one in step.passes])
    first, last = (np.array([getattr(one, name) for one in step.passes]) for name in ("first", "last"))
    begin, end = ran.trace.start_ps[first], ran.trace.end_ps[last]
    ranks = np.array([len(step.units.ranks[one.unit]) for one in step.passes])
    length = float(end.max() - begin.min())
    if step.units.degrees.pp == 1:
        return Bubble(length, (length,), length)
    waited = np.array(_waits_for_data(step, ran))
    busy = float(((end - begin + waited) * ranks).sum()) / step.units.degrees.num_ranks
    spans = (end[units == unit].max() - begin[units == unit].min() for unit in np.unique(units))
    return Bubble(length, (busy,), float(max(spans)))


def _waits_for_data(step: Step, ran: Result) -> list[int]:
    """Picoseconds before every pass for which its unit waits for gradients or weights of data parallelism alone: from
    when all else that the pass needs is there.
    """
    program, start, end = step.program, ran.trace.start_ps, ran.trace.end_ps
    data = np.isin(_purposes(step), [_KINDS.index("data"), _KINDS.index("zero")])
    ended: dict[int, int] = {}  # when the last pass of a unit ended
    waits = [0] * len(step.passes)
    for number in sorted(range(len(step.passes)), key=lambda one: int(start[step.passes[one].first])):
        one = step.passes[number]
        begin, needed = int(start[one.first]), program.waits_of(one.first)
        others = [int(end[operation]) for operation in needed if not data[operation]]
        if len(others) < len(needed) and one.unit in ended:
            waits[number] = max(0, begin - max([ended[one.unit], *others]))
        ended[one.unit] = int(end[one.last])
    return waits


def critical_seconds(step: Step, ran: Result) -> dict[str, float]:
    """Seconds of the critical path by kind of operation; they add up to the step."""
    found: dict[str, float] = {}
    assert isinstance(ran.tasks, FlatProgram)
    path = critical_path(ran.tasks, ran.trace.end_ps)
    for task, number in zip(path, _purposes(step)[path].tolist(), strict=True):
        lasted = seconds(int(ran.trace.end_ps[task] - ran.trace.start_ps[task]))
        found[_KINDS[number]] = found.get(_KINDS[number], 0.0) + lasted
    return {kind: found[kind] for kind in _KINDS if found.get(kind)}


def busiest_links(bound: Bound, iteration_s: float) -> list[dict[str, object]]:
    """The busiest link of every kind (what it joins), busiest first.

    Returns:
        Per kind: joins (for example "nic -> leaf"), link (the busiest), bytes over it in the step, utilisation (mean
        over the step), links (that carry anything) and mean_utilisation of these.
    """
    fabric = bound.cluster.fabric
    loads = bound.link_bytes()
    share = loads / (fabric.bandwidths * iteration_s)
    used = np.flatnonzero(loads)
    ends = np.stack([fabric.node_kinds[fabric.src[used]], fabric.node_kinds[fabric.dst[used]]])
    _, first, kind = np.unique(ends, axis=1, return_index=True, return_inverse=True)
    found = []
    for number in np.argsort(first).tolist():
        links = used[kind.reshape(-1) == number]
        busiest = int(links[share[links].argmax()])
        found.append(
            {
                "joins": _joins(fabric, busiest),
                "link": fabric.link_name(busiest),
                "bytes": float(loads[busiest]),
                "utilisation": float(share[busiest]),
                "links": len(links),
                "mean_utilisation": float(share[links].mean()),
            }
        )
    return sorted(found, key=lambda one: -one["utilisation"])  # type: ignore[operator]


def _joins(fabric: Fabric, number: int) -> str:
    """Kinds of the nodes at the ends of a link."""
    return " -> ".join(NODE_KINDS[fabric.node_kinds[ends[number]]].value for ends in (fabric.src, fabric.dst))


def communications_of(step: Step, purposes: Sequence[str]) -> set[int]:
    """Numbers of the communications for these purposes."""
    program = step.program
    wanted = [number for number, purpose in enumerate(program.purposes) if purpose in purposes]
    moves = (program.communication != NOTHING) & np.isin(program.purpose, wanted)
    return set(program.communication[moves].tolist())
