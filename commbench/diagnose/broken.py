# SPDX-License-Identifier: Apache-2.0
"""Which rank broke a collective, from the flight recorders of all ranks.

In every group the recorders are laid beside each other by the number of the call. The first call at which ranks differ
is the one that broke: some did not come, or called something else, or with another size or type. What follows is its
consequence and is not looked at.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from commbench.diagnose.flight import FlightDump, FlightEntry
from commbench.errors import InputError
from commbench.results.diagnoses import Blamed, Finding

__all__ = ["broken_by"]

_UNEVEN = ("gather", "scatter", "all_to_all", "alltoall")  # whose sizes may differ by rank in the names of torch
_ORDER = ("no dump", "other collective", "other size", "other type", "missing", "behind", "started, not completed")
"""Findings, those that say most first."""

Calls = Mapping[int, Mapping[int, FlightEntry]]
"""Rank -> number of the call -> call."""


def broken_by(dumps: Sequence[FlightDump], run: str) -> Blamed:
    """The ranks at fault.

    Raises:
        InputError: fewer than two dumps, or two of one rank.
    """
    by_rank = {dump.rank: dump for dump in dumps}
    if len(by_rank) < len(dumps):
        twice = next(rank for rank, count in Counter(dump.rank for dump in dumps).items() if count > 1)
        names = ", ".join(dump.source for dump in dumps if dump.rank == twice)
        raise InputError(f"{names}: each is of rank {twice}; give one dump of each rank")
    if len(dumps) < 2:
        raise InputError(f"{dumps[0].source}: one dump alone cannot show who differs; give those of all ranks")
    findings, notes, looked_at = list[Finding](), list[str](), 0
    groups = dict.fromkeys(entry.group for dump in dumps for entry in dump.entries)
    for group in groups:
        members = _members_of(group, dumps)
        calls = {rank: {e.sequence: e for e in by_rank[rank].entries if e.group == group}
                 for rank in members if rank in by_rank}  # fmt: skip
        looked_at += len({number for row in calls.values() for number in row})
        found, note = _first_break(group, members, calls)
        findings += found
        notes += [note] if note else []
    pairwise = sum(dump.pairwise for dump in dumps)
    if pairwise:
        notes.append(f"{pairwise} sends and receives are not looked at: only collectives are")
    findings = _with_what_holds_them(findings, by_rank)
    findings.sort(key=lambda one: (_ORDER.index(one.what), one.rank))
    return Blamed(run=run, source="flight-recorder", ranks=len(dumps), collectives=looked_at,
                  findings=tuple(findings), notes=tuple(notes), late_s={})  # fmt: skip


def _members_of(group: str, dumps: Sequence[FlightDump]) -> list[int]:
    """Ranks of a group as any of them knows it, else those that called something in it."""
    told = {rank for dump in dumps for rank in dump.members.get(group, ())}
    called = {dump.rank for dump in dumps if any(entry.group == group for entry in dump.entries)}
    return sorted(told | called)


def _first_break(group: str, members: Sequence[int], calls: Calls) -> tuple[list[Finding], str]:
    """Findings at the first call at which ranks of a group differ, and a note where they hang together."""
    silent = [rank for rank in members if rank not in calls]
    findings = [
        Finding(rank=rank, group=group, sequence=None, what="no dump",
                detail=f"it is in group {group}, but there is no dump of it: it died, or its dump was not given")
        for rank in silent
    ]  # fmt: skip
    if len(calls) < 2:
        return findings, ""
    first = max((min(row) for row in calls.values() if row), default=0)  # of what every ring buffer still holds
    last = max((max(row) for row in calls.values() if row), default=-1)
    for number in range(first, last + 1):
        here = {rank: row.get(number) for rank, row in calls.items()}
        found = _differing(group, number, here)
        if found:
            return findings + found, ""
        stuck = [rank for rank, entry in here.items() if entry is not None and entry.state != "completed"]
        if stuck:
            return findings + _states(group, number, here), _stuck_note(group, number, here, stuck)
    return findings, ""


def _differing(group: str, number: int, here: Mapping[int, FlightEntry | None]) -> list[Finding]:
    """Ranks that did not come to a call, or came to another one than most."""
    there = {rank: entry for rank, entry in here.items() if entry is not None}
    absent = sorted(here.keys() - there.keys())
    if absent and not there:
        return []
    some = next(iter(there.values()))
    if absent:
        return [
            Finding(rank=rank, group=group, sequence=number, what="missing",
                    detail=f"it never called {some.name} number {number} of group {group}, which {_ranks(there)} did")
            for rank in absent
        ]  # fmt: skip
    for what, value in _LIKE:
        odd = _minority(there, value)
        if what != "other collective" and any(word in some.name.lower() for word in _UNEVEN):
            continue
        if odd:
            usual = next(value(entry) for rank, entry in sorted(there.items()) if rank not in odd)
            return [
                Finding(rank=rank, group=group, sequence=number, what=what,
                        detail=f"at number {number} of group {group} it called {there[rank].name} with "
                        f"{value(there[rank])}, where most have {usual}" if what != "other collective" else
                        f"at number {number} of group {group} it called {there[rank].name}, where most called {usual}")
                for rank in odd
            ]  # fmt: skip
    return []


_LIKE: Sequence[tuple[str, Callable[[FlightEntry], str]]] = (
    ("other collective", lambda entry: entry.name),
    ("other size", lambda entry: entry.sizes),
    ("other type", lambda entry: entry.dtypes),
)


def _minority(there: Mapping[int, FlightEntry], value: Callable[[FlightEntry], str]) -> list[int]:
    """The ranks whose value is not the most frequent one; where two are as frequent, not that of the lowest rank."""
    counts = Counter(value(there[rank]) for rank in sorted(there))
    usual = counts.most_common(1)[0][0]
    return [rank for rank in sorted(there) if value(there[rank]) != usual]


def _states(group: str, number: int, here: Mapping[int, FlightEntry | None]) -> list[Finding]:
    """Ranks that were given a call like the others but whose device has not got to it."""
    started = [rank for rank, entry in here.items() if entry is not None and entry.state != "scheduled"]
    late = [rank for rank, entry in here.items() if entry is not None and entry.state == "scheduled"]
    if not started or not late:
        return []
    name = next(entry.name for entry in here.values() if entry is not None)
    return [
        Finding(rank=rank, group=group, sequence=number, what="behind",
                detail=f"{name} number {number} of group {group} is scheduled, but its device has not started it, as "
                f"{_ranks(started)} did: something before it on the device does not end")
        for rank in late
    ]  # fmt: skip


def _stuck_note(group: str, number: int, here: Mapping[int, FlightEntry | None], stuck: Sequence[int]) -> str:
    name = next(entry.name for entry in here.values() if entry is not None)
    return (
        f"{name} number {number} of group {group} was called alike by all, and did not end on {_ranks(stuck)}: no call "
        "is at fault; look at their devices and links, for example by pairs"
    )


def _with_what_holds_them(findings: Sequence[Finding], dumps: Mapping[int, FlightDump]) -> list[Finding]:
    """Those that are missing because another group's call has not ended say so, and count for less."""
    found = []
    for one in findings:
        held = [entry for entry in dumps[one.rank].entries if entry.state != "completed" and entry.group != one.group] \
            if one.what == "missing" and one.rank in dumps else []  # fmt: skip
        if held:
            where = f"{held[0].name} number {held[0].sequence} of group {held[0].group}"
            detail = f"{one.detail}; it is still in {where}, which holds it up"
            one = Finding(rank=one.rank, group=one.group, sequence=one.sequence, what="behind", detail=detail)
        found.append(one)
    return found


def _ranks(ranks: Mapping[int, object] | Sequence[int]) -> str:
    """ "rank 3", "ranks 0, 1, 2" or "8 ranks (0, 1, 2, 3 ...)"."""
    listed = sorted(ranks)
    if len(listed) == 1:
        return f"rank {listed[0]}"
    shown = ", ".join(map(str, listed[:6]))
    return f"ranks {shown}" if len(listed) <= 6 else f"{len(listed)} ranks ({shown} ...)"
