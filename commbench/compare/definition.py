# SPDX-License-Identifier: Apache-2.0
"""What a point is (its definition) and on what it was measured (its setting): only like is compared with like.

Points of one definition are compared. A setting that differs makes the comparison another question than it seems to be,
so it is refused, unless the user says that this is the question (``--across``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from commbench.errors import InputError, unknown
from commbench.results.records import Measured, Record, Simulated
from commbench.results.reported import Reported

__all__ = ["SETTINGS", "Definition", "Point", "differences", "point_of", "require_settings"]

Point = Measured | Reported | Simulated
Definition = tuple[tuple[str, Any], ...]
"""(field, value) pairs that say what a point is."""

_FIELDS: Mapping[type[Record], Sequence[str]] = {
    Measured: (
        *("collective", "ranks", "size_bytes", "algorithm", "dtype", "op", "root", "in_place", "channels", "slices"),
        *("group", "timing", "weights", "cold_cache", "graphed"),
    ),
    Reported: ("collective", "ranks", "size_bytes", "dtype", "op", "root", "in_place"),
    Simulated: (
        *("collective", "ranks", "size_bytes", "algorithm", "element_bytes", "root", "channels", "slices", "group"),
        *("jitter", "scenario", "detail", "weights"),
    ),
}


def _members(record: Point) -> Any:
    """Which ranks of a fabric took part, where somebody chose them: a pair is another measurement than the next."""
    if not isinstance(record, Measured):
        return None
    members = record.environment.get("members")
    lab = record.environment.get("emulated", {})
    if members is None and "jobs" in lab:
        members = [*lab["jobs"][lab.get("job", 0) :], *lab["jobs"][: lab.get("job", 0)]]
    others = len(record.environment.get("beside", ()))
    return None if members is None else str(members) + f" beside {others}" * bool(others)


def _emulated(record: Measured, key: str) -> Any:
    return record.environment.get("emulated", {}).get(key)


def _version(record: Point) -> Any:
    """Of the library that carried it out."""
    if isinstance(record, Measured):
        backend = record.backend
        told = record.environment.get("nccl" if backend == "nccl" else "torch")
        return f"{backend} {told}" if told else backend
    if isinstance(record, Reported):
        return " ".join(filter(None, (record.library, record.version))) or None
    return " ".join(filter(None, (record.library, record.library_version)))


def _device(record: Point) -> Any:
    if isinstance(record, Measured):
        return record.environment.get("gpu") or record.environment.get("cpu_model")
    return record.device or None if isinstance(record, Reported) else None


def _topology(record: Point) -> Any:
    if isinstance(record, Measured):
        scale = _emulated(record, "scale")
        return _emulated(record, "topology") and f"{_emulated(record, 'topology')} at {scale:g} of its rates"
    return record.topology if isinstance(record, Simulated) else None


def _hosts(record: Point) -> Any:
    if isinstance(record, Measured):
        return len(set(record.environment["hosts"])) if "hosts" in record.environment else None
    return record.hosts if isinstance(record, Reported) else None


SETTINGS: Mapping[str, Callable[[Point], Any]] = {
    "library": _version,
    "device": _device,
    "topology": _topology,
    "hosts": _hosts,
    "launcher": lambda record: record.launcher if isinstance(record, Measured) else None,
    "network": lambda record: record.network if isinstance(record, Simulated) else None,
}
"""By name, what was measured on; None where a record does not tell."""


@dataclass(frozen=True, slots=True)
class PointOf:
    """A record as a comparison sees it."""

    record: Point
    definition: Definition
    settings: Mapping[str, Any]


def _short(value: Any) -> Any:
    """A field; sizes of an uneven all-to-all-v by their digest, for people read definitions."""
    if not isinstance(value, tuple):
        return value
    return f"uneven {sha256(repr(value).encode()).hexdigest()[:8]}" if value else ""


def point_of(record: Point) -> PointOf:
    """The record with what it is and what it was measured on."""
    definition = tuple((name, _short(getattr(record, name))) for name in _FIELDS[type(record)])
    definition = (("kind", record.kind), *definition, ("members", _members(record)))
    return PointOf(record, definition, {n: read(record) for n, read in SETTINGS.items()})


def require_settings(old: Sequence[PointOf], new: Sequence[PointOf], across: Sequence[str]) -> list[str]:
    """Refuse points that were measured on something else; what is allowed to differ is told.

    Raises:
        InputError: a setting that differs without being in ``across``, or a word that is no setting.
    """
    for word in across:
        if word not in SETTINGS:
            raise InputError(f"--across {word!r} {unknown(word, SETTINGS)}")
    notes = []
    for name in SETTINGS:
        before, after = (_values(points, name) for points in (old, new))
        if before == after or not before or not after:
            continue
        told = f"{name} differs: old {_listed(before)}, new {_listed(after)}"
        if name not in across:
            raise InputError(f"{told}; give --across {name} if that is the question")
        notes.append(told)
    return notes


def _values(points: Sequence[PointOf], name: str) -> list[str]:
    return sorted({str(point.settings[name]) for point in points if point.settings[name] is not None})


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def differences(old: Sequence[Definition], new: Sequence[Definition]) -> list[str]:
    """By which fields two sets of definitions, none of which is in both, differ; in words."""
    found = []
    names = dict.fromkeys(name for definition in (*old, *new) for name, _ in definition)
    for name in names:
        before, after = ({str(dict(d)[name]) for d in side if name in dict(d)} for side in (old, new))
        if before and after and not before & after:
            found.append(f"{name}: old {_listed(sorted(before))}, new {_listed(sorted(after))}")
    return found
