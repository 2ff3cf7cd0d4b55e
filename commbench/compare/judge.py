# SPDX-License-Identifier: Apache-2.0
"""Whether a new run is slower than old ones, by size and in total, and whether that is more than noise.

A change counts from max(5 %, 3 sigma) on. Sigma is the standard error of the ratio. Of the old side it is the larger of
what samples leave open (the standard error of a median) and of what the scatter of its runs leaves open; of the new
one, which is a single run, of the samples' and of the scatter itself. What a run as a whole is slower by is the same at
all sizes, so that the total has the scatter of the runs' totals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, log, sqrt
from statistics import median

from commbench.compare.definition import Definition, Point, PointOf, differences, point_of, require_settings
from commbench.errors import InputError
from commbench.results.changes import FASTER, SAME, SLOWER, Changed, ChangeSummary
from commbench.results.records import Measured
from commbench.results.reported import Reported
from commbench.results.statistics import deviation
from commbench.units import format_bytes

__all__ = ["FLOOR", "SIGMAS", "compare_runs"]

FLOOR, SIGMAS = 0.05, 3.0
_MAD = 1.4826  # median absolute deviation to standard deviation, of normal samples
_MEDIAN = sqrt(1.5708)  # standard error of a median, to that of a mean: sqrt(pi / 2)
_MOST_APART = 6
_TELLING = 4  # files of which three are old, so that they tell how far runs scatter


@dataclass(frozen=True, slots=True)
class _Side:
    """One definition in one or several runs.

    Attributes:
        time_s: median over the runs. samples: relative standard error by the samples, of a run in the middle.
        runs: how many. scatter: relative standard deviation between runs, 0 where fewer than three tell it.
    """

    time_s: float
    samples: float
    runs: int
    scatter: float

    @property
    def error(self) -> float:
        """Relative standard error of the median."""
        return max(self.samples, self.scatter * _MEDIAN / sqrt(self.runs))


def compare_runs(
    files: Mapping[str, Sequence[Point]], run: str, across: Sequence[str] = ()
) -> tuple[list[Changed], ChangeSummary]:
    """The last file against all before it.

    Args:
        files: name -> records, two files or more, in the order of time. run: identifies the comparison.
        across: settings that may differ.

    Raises:
        InputError: nothing in common, or settings differ that must not; names them.
    """
    *before, last = files
    points = {name: [point_of(record) for record in records] for name, records in files.items()}
    for name, found in points.items():
        if not found:
            raise InputError(f"{name}: nothing to compare: no measured, reported or simulated record in it")
    old = [point for name in before for point in points[name]]
    shared = _in_order({p.definition for p in old} & {p.definition for p in points[last]}, points[last])
    if not shared:
        told = differences([p.definition for p in old], [p.definition for p in points[last]])
        raise InputError(f"{' and '.join(before)} and {last} have no point in common; {'; '.join(told) or 'none'}")
    kept = set(shared)
    was, now = ([p for p in side if p.definition in kept] for side in (old, points[last]))
    notes = require_settings(was, now, across)
    changed = [_changed(definition, points, run) for definition in shared]
    return changed, _summary(changed, points, kept, notes, run)


def _in_order(definitions: set[Definition], points: Sequence[PointOf]) -> list[Definition]:
    """In the order of the new file."""
    return [d for d in dict.fromkeys(point.definition for point in points) if d in definitions]


def _changed(definition: Definition, points: Mapping[str, Sequence[PointOf]], run: str) -> Changed:
    *before, last = points
    by_file = {name: [p.record for p in found if p.definition == definition] for name, found in points.items()}
    history = {name: _side([records]) for name, records in by_file.items() if records}
    old, new = _side([by_file[name] for name in before if by_file[name]]), history[last]
    new_error = max(new.error, old.scatter)
    tolerance = max(FLOOR, SIGMAS * hypot(old.error, new_error))
    record = by_file[last][0]
    return Changed(
        run=run,
        what=_words(definition),
        members=dict(definition).get("members") or "",
        collective=record.collective,
        ranks=record.ranks,
        size_bytes=record.size_bytes,
        in_place=getattr(record, "in_place", None),
        busbw_factor=record.busbw_factor,
        old_s=old.time_s,
        new_s=new.time_s,
        old_error=old.error,
        new_error=new_error,
        history_s=tuple(history[name].time_s if name in history else None for name in points),
        tolerance=tolerance,
        verdict=_verdict(new.time_s / old.time_s, tolerance),
    )


def _side(files: Sequence[Sequence[Point]]) -> _Side:
    """Several files are runs of a history, and so are several records of one file."""
    times = [median(record.time_s for record in records) for records in files]
    if len(times) == 1:
        times = [record.time_s for record in files[0]]
    inside = median(_error(record) for records in files for record in records)
    return _Side(median(times), inside, len(times), _scatter([log(time_s) for time_s in times]))


def _scatter(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute one; 0 for fewer than three."""
    return _MAD * deviation(values) if len(values) > 2 else 0.0


def _error(record: Point) -> float:
    """Relative standard error of one record's median, 0 where it has no samples."""
    if not isinstance(record, Measured) or len(record.slowest_s) < 3:
        return 0.0
    return _MAD * record.spread_s / record.time_s * _MEDIAN / sqrt(len(record.slowest_s))


def _verdict(ratio: float, tolerance: float) -> str:
    """Slower by the tolerance, or faster by as much in logarithms."""
    return SLOWER if ratio > 1 + tolerance else FASTER if ratio < 1 / (1 + tolerance) else SAME


_SILENT = ("kind", "size_bytes", "collective", "ranks", "members")  # columns of their own
_USUAL = {"algorithm": "native", "dtype": "float32", "root": 0, "in_place": False, "channels": 1,
          "slices": 1, "group": 1, "timing": "isolated", "element_bytes": 4, "jitter": 0.0, "scenario": "",
          "detail": "transfer", "cold_cache": False, "graphed": 0}  # fmt: skip


def _words(definition: Definition) -> str:
    """The definition without what is as usual."""
    told = dict(definition)
    odd = [f"{name.replace('_', ' ')} {value}" for name, value in definition
           if name not in _SILENT and value not in (None, "", "none", "sum", _USUAL.get(name))]  # fmt: skip
    return ", ".join([f"{told['collective']}, {told['ranks']} ranks", *odd])


def _summary(
    changed: Sequence[Changed],
    points: Mapping[str, Sequence[PointOf]],
    shared: set[Definition],
    notes: list[str],
    run: str,
) -> ChangeSummary:
    ratio = exp(sum(log(one.new_s / one.old_s) for one in changed) / len(changed))
    tolerance = max(FLOOR, SIGMAS * _total_error(changed, points, shared))
    if not any(one.old_error and one.new_error for one in changed):
        notes = [*notes, f"no samples tell the noise of both sides: the tolerance is {FLOOR:.0%}"]
    elif len(points) < _TELLING:
        notes = [*notes, "with fewer than three old runs nobody knows how far runs scatter, only samples within a run"]
    *_, last = points.values()
    return ChangeSummary(
        run=run,
        files=tuple(points),
        points=len(changed),
        slower=sum(one.verdict == SLOWER for one in changed),
        faster=sum(one.verdict == FASTER for one in changed),
        ratio=ratio,
        tolerance=tolerance,
        verdict=_verdict(ratio, tolerance),
        wrong=sum(bool(p.record.wrong) for p in last if isinstance(p.record, Measured | Reported)),
        apart=tuple(_apart(points, shared)),
        notes=(*notes, *_wrong(points)),
    )


def _total_error(changed: Sequence[Changed], points: Mapping[str, Sequence[PointOf]], shared: set[Definition]) -> float:
    """Relative standard error of the geometric mean: of samples, each size by itself, and of whole runs."""
    errors = [_error(p.record) for own in points.values() for p in own if p.definition in shared]
    inside = sqrt(2 * sum(error**2 for error in errors) / len(errors) / len(changed))
    runs = len(points) - 1
    totals = [
        sum(log(t / one.old_s) for one in changed if (t := one.history_s[i])) / len(changed) for i in range(runs)
    ]
    return hypot(inside, _scatter(totals) * sqrt(1 + _MEDIAN**2 / runs))


def _apart(points: Mapping[str, Sequence[PointOf]], shared: set[Definition]) -> list[str]:
    """What is in the last file or in those before it alone."""
    *before, last = points
    sides = {"old": [p for name in before for p in points[name]], "new": points[last]}
    found = []
    for side, own in sides.items():
        sizes: dict[str, list[int]] = {}
        for point in own:
            if point.definition not in shared:
                sizes.setdefault(_words(point.definition), []).append(point.record.size_bytes)
        found += [f"only {side}: {what}: {_sizes(each)}" for what, each in sizes.items()]
    more = [f"and {len(found) - _MOST_APART} more"] if len(found) > _MOST_APART else []
    return found[:_MOST_APART] + more


def _sizes(sizes: Sequence[int]) -> str:
    ordered = sorted(set(sizes))
    ends = [format_bytes(ordered[0]), format_bytes(ordered[-1])]
    return ends[0] if len(ordered) == 1 else f"{len(ordered)} sizes from {ends[0]} to {ends[1]}"


def _wrong(points: Mapping[str, Sequence[PointOf]]) -> list[str]:
    """Files with wrong values, whose times mean nothing."""
    found = []
    for name, own in points.items():
        bad = sum(bool(p.record.wrong) for p in own if isinstance(p.record, Measured | Reported))
        found += [f"{name}: {bad} records have wrong values; what was timed there did not do its work"] if bad else []
    return found
