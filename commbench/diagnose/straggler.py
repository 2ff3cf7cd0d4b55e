# SPDX-License-Identifier: Apache-2.0
"""Which rank keeps the others waiting, from a trace of every rank.

A collective begins on each rank when that rank comes to it and ends on all of them at about the same time. So the rank
on which it took longest was the first to come, and the one on which it was shortest came last: the straggler, which
the others waited for. No clocks are compared.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from commbench.errors import InputError
from commbench.results.diagnoses import Blamed, Finding
from commbench.units import PS_PER_S, format_time
from commbench.workload.traces.recorded import RecordedTrace

__all__ = ["stragglers"]

_LEAST_CALLS = 3  # in which a straggler was last; fewer may be chance
_LEAST_SHARE = 0.5  # of the calls of its groups in which it was last
_LEAST_WAIT = 0.05  # of the time of these calls that others waited for it alone

_Call = tuple[str, tuple[int, ...], int]
"""Kind, group, and how many of the kind the group has had."""


def stragglers(traces: Sequence[RecordedTrace], run: str) -> Blamed:
    """The ranks that came last again and again.

    Args:
        traces: one of each rank, of the same steps. run: identifies the diagnosis.

    Raises:
        InputError: fewer than two traces, two of one rank, or no collective that two of them have in common.
    """
    ranks = Counter(trace.rank for trace in traces)
    twice = [rank for rank, count in ranks.items() if count > 1]
    if twice:
        names = ", ".join(trace.source for trace in traces if trace.rank == twice[0])
        raise InputError(f"{names}: each is of rank {twice[0]}; give one trace of each rank")
    calls = _shared(traces)
    if not calls:
        raise InputError(
            f"{traces[0].source}: no collective with a kind and a group is in two of the {len(traces)} traces; give "
            "those of several ranks, of the same steps"
        )
    late, alone, last, joined = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    lasted = Counter[int]()
    for durations in calls.values():
        order = sorted(durations, key=lambda rank: (durations[rank], rank))
        longest = durations[order[-1]]
        last[order[0]] += 1
        alone[order[0]] += durations[order[1]] - durations[order[0]]
        for rank, duration in durations.items():
            late[rank] += longest - duration
            joined[rank] += 1
            lasted[rank] += longest
    findings = [
        _finding(rank, last[rank], joined[rank], alone[rank])
        for rank in sorted(last, key=lambda rank: -alone[rank])
        if last[rank] >= _LEAST_CALLS
        and last[rank] > _LEAST_SHARE * joined[rank]
        and alone[rank] > _LEAST_WAIT * lasted[rank]
    ]
    return Blamed(
        run=run,
        source="trace",
        ranks=len(traces),
        collectives=len(calls),
        findings=tuple(findings),
        notes=("a collective is longest on the rank that came first, and shortest on the one that came last",),
        late_s={str(rank): late[rank] / PS_PER_S for rank in sorted(joined)},
    )


def _shared(traces: Sequence[RecordedTrace]) -> dict[_Call, dict[int, int]]:
    """Picoseconds of each collective by rank, where several ranks recorded it."""
    found: dict[_Call, dict[int, int]] = defaultdict(dict)
    for trace in traces:
        seen = Counter[tuple[str, tuple[int, ...]]]()
        for operation in trace.operations:
            what = operation.collective
            if what is None:
                continue
            key = (what.kind, what.group)
            found[*key, seen[key]][trace.rank] = operation.duration_ps
            seen[key] += 1
    return {call: durations for call, durations in found.items() if len(durations) > 1}


def _finding(rank: int, last: int, joined: int, alone_ps: int) -> Finding:
    detail = (
        f"it came last to {last} of its {joined} collectives; the others waited {format_time(alone_ps / PS_PER_S)} for "
        "it alone"
    )
    return Finding(rank=rank, group="", sequence=None, what="straggler", detail=detail)
