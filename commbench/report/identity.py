# SPDX-License-Identifier: Apache-2.0
"""What makes two results different things: series, tables and legends all go by this one definition.

Which fields of a record do is told kind by kind in :mod:`commbench.report.kinds`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from commbench.report.kinds import FIELDS, LAB
from commbench.results.grouped import experiment_of, round_text
from commbench.results.judged import Judged
from commbench.results.records import Compared, Measured, Record, Simulated
from commbench.results.reported import Reported
from commbench.units import format_bit_rate, format_bytes

__all__ = ["NOTHING", "base_name", "identity", "labels", "word"]

_TIES = ("scenario_digest", "order", "hash_seed", "seed", "clock", "launcher", "engine", "run")
"""Told only where nothing else tells two results apart."""
_JOBS_LENGTH = 60  # letters of the ranks of all jobs
_RUN_TIME = re.compile(r"(?:^|(?<= ))\d{8}T\d{6}Z-(?=[0-9a-f]{8})")
_AS: Mapping[str, str] = {
    "channels": "{} channels",
    "slices": "{} slices",
    "jobs": "jobs {}",
    "group": "groups of {}",
    "root": "root {}",
    "seed": "seed {}",
    "hash_seed": "hash seed {}",
    "hosts": "{} hosts",
    "gpus_per_process": "{} GPUs a process",
    "jitter": "jitter {}",
    "run": "run {}",
    "ranks": "{} ranks",
    "scenario_digest": "content {}",
    "order": "order {}",
    "slowdown": "slowdown {}",
}
NOTHING: Mapping[str, str] = {
    "scenario": "healthy",
    "weights": "even",
    "cold_cache": "warm caches",
    "graphed": "one by one",
    "faults": "no faults",
    "background": "no other flows",
}
"""What an empty part says where others have something."""


def base_name(record: Measured | Simulated | Reported | Judged | Compared) -> str:
    """The algorithm; "native" alone says nothing, so the backend whose own collective it is goes with it.

    Logs of others seldom know the algorithm: there it is the library, or "reported". A library with a model chooses
    one for each size: there it is the library too.
    """
    if _chooses(record):
        return f"{record.library} {record.library_version}"  # type: ignore[union-attr]
    if isinstance(record, Judged):
        return f"predicted by {record.library}"
    if isinstance(record, Reported):
        return " ".join(filter(None, (record.library or "reported", record.algorithm)))
    backend = getattr(record, "backend", "")
    return f"{backend} native" if record.algorithm == "native" and backend else record.algorithm


def identity(record: Record) -> dict[str, str]:
    """Everything that tells a result from another of its kind: name -> value as text, "" for none.

    Two results of one identity are points of one series.
    """
    lab = _lab(getattr(record, "environment", {}).get("emulated") or {})
    if experiment_of(record):
        lab["round"] = f"ranks {round_text(record)}"  # type: ignore[arg-type]
    return {
        name: lab.get(name, "") if name in LAB and not hasattr(type(record), name) else _text(name, record)
        for name in FIELDS[type(record)]
    }


def word(name: str, value: str) -> str:
    """A part of an identity as a legend has it: "4 channels"; of a run's id the end, which no other run shares."""
    value = _RUN_TIME.sub("", value) if name == "run" else value
    text = _AS.get(name, "{}").format(value) if value else NOTHING.get(name, "")
    return text.removesuffix("s") if value == "1" else text


def labels(records: Sequence[Record], known: Collection[str] = (), *, brief: bool = False) -> list[tuple[str, ...]]:
    """For each record the words that tell it from the others; records of one identity have the same.

    Args:
        records: of one kind. known: parts that a reader sees elsewhere, for example in a title.
        brief: whether every part is told only where nothing before it tells the results apart.
    """
    found = [identity(record) for record in records]
    varying = [name for name in (found[0] if found else ()) if len({one[name] for one in found}) > 1]
    shown = [name for name in varying if not brief and name not in known and name not in _TIES]
    seen = [name for name in varying if name in known]

    def kinds(*more: str) -> int:
        return len({tuple(one[name] for name in (*seen, *shown, *more)) for one in found})

    for tie in sorted((name for name in varying if name not in (*seen, *shown)), key=_rank):
        if kinds(tie) > kinds():
            shown.append(tie)
    return [tuple(text for name in shown if (text := word(name, one[name]))) for one in found]


def _rank(name: str) -> int:
    return _TIES.index(name) if name in _TIES else -1


def _chooses(record: Record) -> bool:
    """Whether algorithm and channels are what a library found best at this size: an outcome, not what was asked for."""
    return isinstance(record, Simulated) and bool(record.library_version)


def _text(name: str, record: Record) -> str:
    value = getattr(record, name)
    if value is None or (name in ("algorithm", "channels") and _chooses(record)):
        return ""
    if name == "in_place":
        return "in place" if value else "out of place"
    if name == "order":
        return sha256(value.encode()).hexdigest()[:12]
    if name == "jobs":
        return _jobs([job["ranks"] for job in value])
    if name == "cold_cache":
        return "cold caches" if value else ""
    if name == "graphed":
        return f"graphs of {value}" if value else ""
    if name == "weights":
        return f"uneven, content {sha256(repr(value).encode()).hexdigest()[:12]}" if value else ""
    if name == "jitter":
        return f"{value:g}" if value else ""
    return format_bytes(value) if name.endswith("_bytes") else _plain(value)


def _jobs(jobs: Sequence[Sequence[int]]) -> str:
    """Who is in which job, "0 2 .. 14; 1 3 .. 15"; where that is long, their sizes and a digest."""
    text = "; ".join(map(_steps, jobs))
    if len(text) <= _JOBS_LENGTH:
        return text
    sizes = " and ".join(dict.fromkeys(str(len(job)) for job in jobs))
    digest = sha256(repr([list(job) for job in jobs]).encode()).hexdigest()
    return f"{len(jobs)} of {sizes} ranks, content {digest[:12]}"


def _steps(ranks: Sequence[int]) -> str:
    """Ranks in words; more than four in equal steps are told by the first two and the last."""
    parts, rest = [], list(ranks)
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 0
        count = next((i for i in range(1, len(rest)) if rest[i] - rest[i - 1] != step), len(rest))
        taken = count if count > 4 else 1
        parts.append(f"{rest[0]} {rest[1]} .. {rest[count - 1]}" if taken > 1 else str(rest[0]))
        del rest[:taken]
    return " ".join(parts)


def _plain(value: Any) -> str:
    """Any value of JSON in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key.removesuffix('_s')} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lab(lab: Mapping[str, Any]) -> dict[str, str]:
    """An emulated fabric in words; empty for none."""
    if not lab:
        return {}
    jobs, rates = lab.get("jobs", ()), lab.get("link_rates_bytes_per_s") or ()
    shaping = lab.get("shaping", {})
    return {
        "fabric": f"{lab.get('topology')} {lab.get('routing')}",
        "rates": " and ".join(format_bit_rate(rate) for rate in rates),
        "hash_seed": str(lab.get("hash_seed", "")),
        "transport": _plain({"TCP": shaping.get("congestion", ""), "mtu": lab.get("mtu", "")} | _without(shaping)),
        "faults": "; ".join(map(_plain, lab.get("faults", ()))),
        "background": ", ".join(":".join(map(str, flow)) for flow in lab.get("background", ())),
        "job": f"job {lab.get('job', 0)} of {_jobs(jobs)}" if len(jobs) > 1 else "",
    }


def _without(shaping: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("_", " "): value for key, value in shaping.items() if key != "congestion"}
