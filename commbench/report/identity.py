# SPDX-License-Identifier: Apache-2.0
"""What makes two results different things, kind by kind: series, tables and legends all go by this one definition.

A field of a record is either part of its identity or listed in :data:`OUTCOMES`; a test holds every kind to that.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from commbench.results.device_records import GemmMeasured, OverlapMeasured
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.records import Compared, Measured, Record, Simulated, Summary
from commbench.results.steps import SimulatedStep
from commbench.results.tensor_parallel_records import (
    TensorParallelCompared,
    TensorParallelMeasured,
    TensorParallelSimulated,
)
from commbench.units import format_bit_rate, format_bytes

__all__ = ["FIELDS", "LAB", "NOTHING", "OUTCOMES", "base_name", "identity", "labels", "word"]

LAB = ("fabric", "rates", "hash_seed", "transport", "faults", "background", "job")
"""What the environment of a record tells of the emulated fabric that it was measured on."""
_PASSES = ("schedule", "executor", "ranks", "stages", "microbatches", "activation_bytes", "order", "run")
_BLOCK = ("method", "sequence_parallel", "backend", "ranks")
_POINT = ("backend", "channels", "slices", "group", "dtype", "op", "root", "timing")
FIELDS: Mapping[type[Record], tuple[str, ...]] = {
    Measured: ("collective", "ranks", "algorithm", *_POINT, "launcher", *LAB, "run"),
    Simulated: (
        *("collective", "ranks", "algorithm", "library", "topology", "routing", "placement", "channels", "slices"),
        *("jobs", "group", "root", "element_bytes", "network", "scenario", "scenario_digest", "jitter"),
        *("engine", "detail", "seed", "run"),
    ),
    Compared: ("collective", "ranks", "algorithm", "topology", *_POINT, "run"),
    Summary: ("run",),
    SimulatedStep: (
        *("model", "topology", "device", "dtype", "ranks", "tp", "cp", "ep", "dp", "pp", "schedule"),
        *("stages_per_rank", "microbatches", "micro_batch", "global_batch", "sequence", "zero", "recompute"),
        *("sequence_parallel", "attention", "efficiency", "settings", "slowdown", "routing", "placement", "scenario"),
        *("scenario_digest", "jitter", "engine", "seed", "run"),
    ),
    PipelineMeasured: (*_PASSES, "backend", "compute", "delays_s", "slow", "clock", "launcher", *LAB),
    PipelineSimulated: (*_PASSES, "engine", "network"),
    PipelineCompared: (
        *("schedule", "executor", "compute", "fabric", "ranks", "stages", "microbatches", "activation_bytes", "run"),
    ),
    TensorParallelMeasured: (
        *(*_BLOCK, "hidden", "heads", "ffn", "sequence", "micro_batch", "dtype", "clock", "launcher", *LAB, "run"),
    ),
    TensorParallelSimulated: (*_BLOCK, "engine", "run"),
    TensorParallelCompared: (*_BLOCK, "run"),
    GemmMeasured: ("device", "dtype", "m", "n", "k", "run"),
    OverlapMeasured: ("backend", "ranks", "m", "n", "k", "dtype", "size_bytes", "launcher", *LAB, "run"),
}
"""Identity of each kind, in the order in which it is told."""
OUTCOMES: Mapping[type[Record], frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in {
        Measured: "size_bytes num_elements samples_s warmup_s phases_s busbw_factor started_at wrong schedule "
        "environment",
        Simulated: "size_bytes time_s busbw_factor lower_bound_s transfers shortcut links wall_s",
        Compared: "size_bytes measured_s spread_s simulated_s set region busbw_factor",
        Summary: "points median_abs_error p95_abs_error max_median_abs_error max_p95_abs_error ok groups",
        SimulatedStep: "iteration_s model_flops hardware_flops peak_flops bubble_of_ideal bubble_of_total time_s "
        "exposed_s critical_s memory_bytes memory_by_position capacity_bytes busiest_links bubble_of_span margin_bytes "
        "remedy folded notes operations "
        "wall_s positions spans",
        PipelineMeasured: "spans walls_s double_walls_s transfers_s sleep_over_s started_at wrong environment",
        PipelineSimulated: "pass_s transfers_s spans",
        PipelineCompared: "measured_s spread_s simulated_s measured_bubble simulated_bubble clock_free_bubble idle_s "
        "max_points max_error",
        TensorParallelMeasured: "samples_s spans counts formula_bytes_times_ranks starts_s largest_error tolerance "
        "started_at environment",
        TensorParallelSimulated: "samples_s spans machine",
        TensorParallelCompared: "measured_s spread_s simulated_s measured_step_s simulated_step_s calibration "
        "max_error",
        GemmMeasured: "samples_s peak_flops peak_source started_at environment",
        OverlapMeasured: "product_alone_s product_beside_s collective_alone_s collective_beside_s started_at "
        "environment",
    }.items()
}
"""What was found, follows from the rest, or is the axis that a series goes along; the environment is told by run."""
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
    "jitter": "jitter {}",
    "run": "run {}",
    "ranks": "{} ranks",
    "scenario_digest": "content {}",
    "order": "order {}",
    "slowdown": "slowdown {}",
}
NOTHING: Mapping[str, str] = {"scenario": "healthy", "faults": "no faults", "background": "no other flows"}
"""What an empty part says where others have something."""


def base_name(record: Measured | Simulated | Compared) -> str:
    """The algorithm; "native" alone says nothing, so the backend whose own collective it is goes with it."""
    backend = getattr(record, "backend", "")
    return f"{backend} native" if record.algorithm == "native" and backend else record.algorithm


def identity(record: Record) -> dict[str, str]:
    """Everything that tells a result from another of its kind: name -> value as text, "" for none.

    Two results of one identity are points of one series.
    """
    lab = _lab(getattr(record, "environment", {}).get("emulated") or {})
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


def _text(name: str, record: Record) -> str:
    value = getattr(record, name)
    if name == "order":
        return sha256(value.encode()).hexdigest()[:12]
    if name == "jobs":
        return _jobs([job["ranks"] for job in value])
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
