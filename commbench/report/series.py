# SPDX-License-Identifier: Apache-2.0
"""Which records belong on one line of a chart, and what that line is called."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from commbench.results.records import Compared, Measured, Record, Simulated

__all__ = ["CurvePanel", "Point", "Series", "base_name", "curve_panels", "error_panels", "series_numbers"]

_R = TypeVar("_R")
_K = TypeVar("_K")

_PARTS: Mapping[type, tuple[str, ...]] = {
    Measured: ("backend", "slices", "timing", "dtype", "op"),
    Simulated: ("topology", "library", "routing", "placement", "slices"),
}
_LAST_RESORT: Mapping[type, tuple[str, ...]] = {Measured: ("run",), Simulated: ("engine", "seed")}


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
    """All lines of one collective and world size; ``bounds`` on time (hence on bandwidth) by name."""

    collective: str
    ranks: int
    series: tuple[Series, ...]
    bounds: Mapping[str, tuple[Point, ...]]


def base_name(record: Measured | Simulated | Compared) -> str:
    """The algorithm; "native" alone says nothing, so the backend whose own collective it is goes with it."""
    backend = getattr(record, "backend", "")
    return f"{backend} native" if record.algorithm == "native" and backend else record.algorithm


def curve_panels(records: Sequence[Record]) -> list[CurvePanel]:
    """Panels in order of first appearance; points of zero bytes or zero time have no place on these axes."""
    drawn = [r for r in records if isinstance(r, Measured | Simulated) and r.size_bytes > 0 and r.time_s > 0]
    panels = []
    for (collective, ranks), members in _grouped(drawn, lambda r: (r.collective, r.ranks)).items():
        measured = [r for r in members if isinstance(r, Measured)]
        simulated = [r for r in members if isinstance(r, Simulated)]
        series = (*_series(measured), *_series(simulated))
        panels.append(CurvePanel(collective, ranks, series, _bounds(simulated)))
    return panels


def error_panels(records: Sequence[Record]) -> dict[tuple[str, ...], list[Compared]]:
    """Compared points by (title, detail) of their panel, sizes ascending, in order of first appearance."""
    points = [r for r in records if isinstance(r, Compared)]

    def titles(point: Compared) -> tuple[str, ...]:
        slices = f", {point.slices} slices" if point.slices > 1 else ""
        title = f"{base_name(point)}{slices}, {point.ranks} ranks"
        return title, f"{point.collective} ({point.backend}) on {point.topology}", base_name(point)

    return {key: sorted(group, key=lambda r: r.size_bytes) for key, group in _grouped(points, titles).items()}


def series_numbers(records: Sequence[Record]) -> dict[str, int]:
    """Number of every series name, by first appearance, so that a name has one colour on the whole page."""
    names = [base_name(r) for r in records if isinstance(r, Compared)]
    names += [s.name for panel in curve_panels(records) for s in panel.series]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _series(records: Sequence[Measured | Simulated]) -> list[Series]:
    """The lines of one panel's measurements, or of its simulations."""
    lines = []
    for name, algorithm_records in _grouped(records, base_name).items():
        for label, members in _split(algorithm_records).items():
            points = sorted((_point(r) for r in members), key=lambda p: (p.size_bytes, p.time_s))
            lines.append(Series(", ".join((name, *label)), isinstance(members[0], Measured), tuple(points)))
    return lines


def _split(records: Sequence[Measured | Simulated]) -> dict[tuple[str, ...], list[Measured | Simulated]]:
    """Records of one algorithm by what tells them apart; runs and seeds only where a size would occur twice."""
    kind = type(records[0])
    varying = [part for part in _PARTS[kind] if len({getattr(r, part) for r in records}) > 1]
    groups = _grouped(records, lambda r: tuple(_word(part, getattr(r, part)) for part in varying))
    if all(len({r.size_bytes for r in group}) == len(group) for group in groups.values()):
        return groups
    varying += [part for part in _LAST_RESORT[kind] if len({getattr(r, part) for r in records}) > 1]
    return _grouped(records, lambda r: tuple(_word(part, getattr(r, part)) for part in varying))


def _word(part: str, value: object) -> str:
    return f"{part} {value}" if part in ("run", "seed") else f"{value} {part}" if part == "slices" else str(value)


def _point(record: Measured | Simulated) -> Point:
    ends = record.slowest_s if isinstance(record, Measured) else (record.time_s,)
    return Point(record.size_bytes, record.time_s, min(ends), max(ends), record.busbw_factor)


def _bounds(records: Sequence[Simulated]) -> dict[str, tuple[Point, ...]]:
    """Lower bounds by size, one line per topology and placement that they hold for."""
    bounded = [r for r in records if r.lower_bound_s > 0]
    varying = [part for part in ("topology", "placement") if len({getattr(r, part) for r in bounded}) > 1]
    lines = {}
    for label, members in _grouped(bounded, lambda r: tuple(getattr(r, part) for part in varying)).items():
        by_size = {r.size_bytes: r for r in members}
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
