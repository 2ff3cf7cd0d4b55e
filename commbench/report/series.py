# SPDX-License-Identifier: Apache-2.0
"""Which records belong on one line of a chart, and what that line is called."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from commbench.report.identity import base_name, identity, labels
from commbench.results.judged import Judged
from commbench.results.records import Compared, Measured, Record, Simulated
from commbench.results.reported import Reported

__all__ = ["CurvePanel", "Point", "Series", "curve_panels", "error_panels", "series_numbers"]

_R = TypeVar("_R")
_K = TypeVar("_K")

@dataclass(frozen=True, slots=True)
class Point:
    """One size: seconds, and the fastest and slowest iteration (the same three for a simulation)."""

    size_bytes: int
    time_s: float
    low_s: float
    high_s: float
    busbw_factor: float


@dataclass(frozen=True, slots=True)
class Series:
    """One line: ``name`` is the algorithm and whatever tells it from its neighbours; points by ascending size."""

    name: str
    measured: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """All lines of one collective and world size.

    Attributes:
        collective, ranks, series: what they are.
        bounds: on time (hence on bandwidth) by name. rates: line rates by name, bytes/s.
    """

    collective: str
    ranks: int
    series: tuple[Series, ...]
    bounds: Mapping[str, tuple[Point, ...]]
    rates: Mapping[str, float] = field(default_factory=dict)


def curve_panels(records: Sequence[Record], rates: Mapping[str, float] | None = None) -> list[CurvePanel]:
    """Panels in order of first appearance; points of zero bytes or zero time have no place on these axes.

    ``rates`` are line rates (bytes/s) by topology; a panel has those of the topologies that it speaks of.
    """
    timed = [r for r in records if isinstance(r, Measured | Reported | Judged | Simulated)]
    drawn = [r for r in timed if r.size_bytes > 0 and r.time_s > 0]
    panels = []
    for (collective, ranks), members in _grouped(drawn, lambda r: (r.collective, r.ranks)).items():
        measured = [r for r in members if isinstance(r, Measured)]
        simulated = [r for r in members if isinstance(r, Simulated)]
        reported = [r for r in members if isinstance(r, Reported)]
        judged = [r for r in members if isinstance(r, Judged)]
        series = (*_series(measured), *_series(reported), *_series(judged), *_series(simulated))
        own = _rates([*(r.topology for r in simulated), *(r.topology for r in judged)], rates or {})
        panels.append(CurvePanel(collective, ranks, series, _bounds(simulated), own))
    return panels


def error_panels(records: Sequence[Record]) -> dict[tuple[str, ...], list[Compared]]:
    """Compared points by (title, detail) of their panel, sizes ascending, in order of first appearance."""
    points = [r for r in records if isinstance(r, Compared)]
    told = labels(points, known=("collective", "ranks", "algorithm", "backend", "topology", "slices"))
    words = {id(point): label for point, label in zip(points, told, strict=True)}
    panels: dict[tuple[str, ...], list[Compared]] = {}
    for members in _grouped(points, lambda r: tuple(identity(r).items())).values():
        point = members[0]
        slices = (f"{point.slices} slices",) if point.slices > 1 else ()
        title = ", ".join((base_name(point), *slices, *words[id(point)], f"{point.ranks} ranks"))
        detail = f"{point.collective} ({point.backend}) on {point.topology}"
        panels[title, detail, base_name(point)] = sorted(members, key=lambda r: r.size_bytes)
    return panels


def series_numbers(records: Sequence[Record]) -> dict[str, int]:
    """Number of every series name, by first appearance, so that a name has one colour on the whole page."""
    names = [base_name(r) for r in records if isinstance(r, Compared)]
    names += [s.name for panel in curve_panels(records) for s in panel.series]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _series(records: Sequence[Measured | Reported | Judged | Simulated]) -> list[Series]:
    """The lines of one panel's measurements, log rows, predictions or simulations: one for each identity.

    Where one identity has a size twice (records of before runs had names), the second starts a line of its own.
    """
    lines: dict[tuple[object, ...], tuple[str, list[Point]]] = {}
    for name, members in _grouped(records, base_name).items():
        words = labels(members, known=("collective", "ranks", "algorithm"))
        seen: Counter[tuple[object, ...]] = Counter()
        for record, label in zip(members, words, strict=True):
            same = tuple(identity(record).values())
            seen[same, record.size_bytes] += 1
            again = seen[same, record.size_bytes]
            title = ", ".join((name, *label, *([f"again ({again})"] if again > 1 else [])))
            lines.setdefault((name, same, again), (title, []))[1].append(_point(record))
    measured = isinstance(records[0], Measured | Reported) if records else False
    return [Series(title, measured, tuple(sorted(p, key=lambda p: p.size_bytes))) for title, p in lines.values()]


def _point(record: Measured | Reported | Judged | Simulated) -> Point:
    ends = record.slowest_s if isinstance(record, Measured) else (record.time_s,)
    return Point(record.size_bytes, record.time_s, min(ends), max(ends), record.busbw_factor)


def _rates(topologies: Sequence[str], rates: Mapping[str, float]) -> dict[str, float]:
    known = [name for name in dict.fromkeys(topologies) if name in rates]
    return {"line rate" if len(known) == 1 else f"line rate, {name}": rates[name] for name in known}


def _bounds(records: Sequence[Simulated]) -> dict[str, tuple[Point, ...]]:
    """Lower bounds by size, one line per topology and placement that they hold for; of several at a size the least."""
    bounded = [r for r in records if r.lower_bound_s > 0]
    varying = [part for part in ("topology", "placement") if len({getattr(r, part) for r in bounded}) > 1]
    lines = {}
    for label, members in _grouped(bounded, lambda r: tuple(getattr(r, part) for part in varying)).items():
        by_size = {r.size_bytes: r for r in sorted(members, key=lambda r: -r.lower_bound_s)}
        lines[", ".join(("bound", *label))] = tuple(
            Point(size, r.lower_bound_s, r.lower_bound_s, r.lower_bound_s, r.busbw_factor)
            for size, r in sorted(by_size.items())
        )
    return lines


def _grouped(records: Iterable[_R], key: Callable[[_R], _K]) -> dict[_K, list[_R]]:
    """Records by key, groups in order of first appearance."""
    groups: dict[_K, list[_R]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups
