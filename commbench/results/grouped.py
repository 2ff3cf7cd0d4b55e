# SPDX-License-Identifier: Apache-2.0
"""Measured records of groups that ran at once, or of pairs and incasts: which they are, and figures over several."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from commbench.results.records import Measured, Record
from commbench.results.statistics import median

__all__ = [
    "INCAST",
    "MULTI",
    "PAIRWISE",
    "GroupSlowdown",
    "PairsApart",
    "by_distance",
    "experiment_of",
    "group_text",
    "is_alone",
    "of_experiment",
    "ranks_of",
    "round_text",
    "sent_bytes",
    "slowdowns",
]

PAIRWISE, INCAST, MULTI = "pairwise", "incast", "multi"


def experiment_of(record: Record) -> str:
    """Of which experiment on groups of ranks a record is; "" of none."""
    return record.environment.get("round", {}).get("experiment", "") if isinstance(record, Measured) else ""


def of_experiment(records: Iterable[Record], experiment: str) -> list[Measured]:
    """The records of one, in their order."""
    return [r for r in records if isinstance(r, Measured) and experiment_of(r) == experiment]


def ranks_of(record: Measured) -> tuple[int, ...]:
    """Ranks of the world that were in the group."""
    return tuple(record.environment["round"]["ranks"])


def is_alone(record: Measured) -> bool:
    """Whether no other group ran beside it."""
    return bool(record.environment["round"].get("groups", 1) == 1)


def sent_bytes(record: Measured) -> int:
    """What each sender of an incast sends: its block of the gather."""
    return record.size_bytes // record.ranks


def group_text(record: Measured) -> str:
    """The group in few letters: "0-1" of a pair both ways, "0>1" of one way, "0<1-3" of an incast, "0-3,8"."""
    ranks = ranks_of(record)
    if experiment_of(record) == PAIRWISE:
        return f"{ranks[0]}{'>' if record.environment['round'].get('one_way') else '-'}{ranks[1]}"
    if experiment_of(record) == INCAST:
        return f"{ranks[0]}<{_rows(ranks[1:])}"
    return _rows(ranks)


def round_text(record: Measured) -> str:
    """The group and what ran beside it: "0-1, alone"."""
    others = record.environment["round"].get("groups", 1) - 1
    return f"{group_text(record)}, {f'beside {others}' if others else 'alone'}"


def _rows(ranks: Sequence[int]) -> str:
    """Ranks, those in a row as first and last."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][-1] + 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


@dataclass(frozen=True, slots=True)
class PairsApart:
    """Pairs of one distance at one size.

    Attributes:
        distance, alone, size_bytes: of all of them. pairs: how many. slowest, fastest: by bus bandwidth.
        median_GBps: of their bus bandwidths.
    """

    distance: str
    alone: bool
    size_bytes: int
    pairs: int
    median_GBps: float  # noqa: N815  the unit is spelled as in the records
    slowest: Measured
    fastest: Measured


def by_distance(records: Sequence[Measured]) -> list[PairsApart]:
    """Records of pairs by size, how they ran and distance, in order of first appearance; those without bytes or time
    are left out."""
    groups: dict[tuple[int, bool, str], list[Measured]] = {}
    for record in records:
        if record.busbw_GBps is not None:
            key = (record.size_bytes, is_alone(record), str(record.environment["round"].get("distance", "")))
            groups.setdefault(key, []).append(record)
    found = []
    for (size, alone, distance), members in groups.items():
        ordered = sorted(members, key=lambda r: r.busbw_GBps or 0.0)
        middle = median([r.busbw_GBps or 0.0 for r in ordered])
        found.append(PairsApart(distance, alone, size, len(ordered), middle, ordered[0], ordered[-1]))
    return found


@dataclass(frozen=True, slots=True)
class GroupSlowdown:
    """What groups cost each other at one size.

    Attributes:
        size_bytes: as asked, that of the largest group. factors: time at once over time alone, by group.
    """

    size_bytes: int
    factors: Mapping[str, float]


def slowdowns(records: Sequence[Measured]) -> list[GroupSlowdown]:
    """Of groups that were measured at once and alone, by size; nothing where either is missing."""
    times: dict[tuple[object, ...], dict[bool, float]] = {}
    for r in records:
        what = (r.size_bytes, group_text(r), r.collective, r.algorithm, r.dtype, r.op)
        times.setdefault(what, {})[is_alone(r)] = r.time_s
    found: dict[int, dict[str, float]] = {}
    for (size, name, *_), both in times.items():
        if len(both) == 2:
            assert isinstance(size, int)
            found.setdefault(size, {})[str(name)] = both[False] / both[True]
    return [GroupSlowdown(size, factors) for size, factors in found.items()]
