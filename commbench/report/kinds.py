# SPDX-License-Identifier: Apache-2.0
"""What the page must know of a kind of record: which section shows it, and which of its fields tell it from others.

A field of a record is either part of its identity or an outcome; a test holds every kind to that.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

from commbench.errors import InputError
from commbench.results.changes import Changed, ChangeSummary
from commbench.results.device_records import GemmMeasured, OverlapMeasured
from commbench.results.diagnoses import Blamed, Diagnosed
from commbench.results.failures import FailedRun
from commbench.results.flows import SimulatedFlows
from commbench.results.judged import Health, Judged
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.plans import Planned
from commbench.results.records import Compared, Measured, Record, Simulated, Summary
from commbench.results.reported import Reported
from commbench.results.steps import SimulatedStep
from commbench.results.tensor_parallel_records import (
    TensorParallelCompared,
    TensorParallelMeasured,
    TensorParallelSimulated,
)

__all__ = ["FIELDS", "LAB", "SECTIONS", "PageSection", "by_section", "page_title"]


class PageSection(Enum):
    """The sections of the page that are made of records."""

    COLLECTIVES = "collectives"
    DIAGNOSES = "who is to blame"
    CHANGES = "what changed"
    PLANS = "plans"
    TRAINING = "training steps"
    FLOWS = "single flows"
    LIVE = "pipelines, blocks and products on live ranks"


SECTIONS: Mapping[str, PageSection] = {
    **dict.fromkeys(("measured", "simulated", "compared", "summary"), PageSection.COLLECTIVES),
    **dict.fromkeys(("reported", "judged", "health"), PageSection.COLLECTIVES),
    **dict.fromkeys(("diagnosis", "blamed"), PageSection.DIAGNOSES),
    **dict.fromkeys(("changed", "change-summary"), PageSection.CHANGES),
    "plan": PageSection.PLANS,
    "simulated-step": PageSection.TRAINING,
    "simulated-flows": PageSection.FLOWS,
    **dict.fromkeys(("pipeline-measured", "pipeline-simulated", "pipeline-compared"), PageSection.LIVE),
    **dict.fromkeys(("tensor-parallel", "tensor-parallel-simulated", "tensor-parallel-compared"), PageSection.LIVE),
    **dict.fromkeys(("gemm", "overlap", "failed"), PageSection.LIVE),
}
"""By kind, for every kind of ``results.kinds``."""

LAB = ("fabric", "rates", "hash_seed", "transport", "faults", "background", "job", "round")
"""What the environment of a record tells of the emulated fabric that it was measured on, and of groups at once."""
_PASSES = ("schedule", "executor", "ranks", "stages", "microbatches", "activation_bytes", "order", "run")
_BLOCK = ("method", "sequence_parallel", "backend", "ranks")
_POINT = (
    *("backend", "channels", "slices", "group", "dtype", "op", "root", "weights", "timing", "cold_cache", "graphed"),
    "in_place",
)
FIELDS: Mapping[type[Record], tuple[str, ...]] = {
    Measured: ("collective", "ranks", "algorithm", *_POINT, "launcher", *LAB, "run"),
    Simulated: (
        *("collective", "ranks", "algorithm", "library", "library_version", "topology", "routing", "placement"),
        *("channels", "slices", "jobs", "group", "root", "weights", "element_bytes", "network", "scenario"),
        *("scenario_digest", "jitter", "engine", "detail", "seed", "run"),
    ),
    Reported: (
        *("collective", "ranks", "library", "version", "algorithm", "protocol", "channels", "dtype", "op", "root"),
        *("in_place", "device", "hosts", "gpus_per_process", "run"),
    ),
    Compared: ("collective", "ranks", "algorithm", "topology", *_POINT, "round", "run"),
    Summary: ("run",),
    Judged: ("collective", "ranks", "topology", "library", "run"),
    Health: ("collective", "ranks", "topology", "library", "run"),
    Changed: ("what", "members", "collective", "ranks", "in_place", "run"),
    ChangeSummary: ("files", "run"),
    Diagnosed: ("topology", "library", "run"),
    Blamed: ("source", "ranks", "run"),
    SimulatedStep: (
        *("model", "topology", "device", "dtype", "ranks", "tp", "cp", "ep", "dp", "pp", "schedule"),
        *("stages_per_rank", "microbatches", "micro_batch", "global_batch", "sequence", "zero", "recompute"),
        *("sequence_parallel", "attention", "efficiency", "settings", "slowdown", "library", "routing", "placement"),
        *("scenario", "scenario_digest", "jitter", "engine", "seed", "run"),
    ),
    SimulatedFlows: ("source", "topology", "routing", "network", "engine", "seed", "run"),
    Planned: (
        *("model", "topology", "device", "dtype", "ranks", "global_batch", "sequence", "objective", "price", "fixed"),
        *("settings", "gap", "run"),
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
    FailedRun: ("job", "backend", "ranks", "launcher", "run"),
}
"""Identity of each kind, in the order in which it is told."""


def by_section(records: Sequence[Record]) -> dict[PageSection, list[Record]]:
    """The records of each section, in their order.

    Raises:
        InputError: a kind that no section shows; names it and the known ones.
    """
    found: dict[PageSection, list[Record]] = {section: [] for section in PageSection}
    for record in records:
        if record.kind not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise InputError(f"no section of the page shows records of kind {record.kind}; known: {known}")
        found[SECTIONS[record.kind]].append(record)
    return found


def page_title(records: Sequence[Record]) -> str:
    """A heading for a page of these records, where nobody gave one; a live step's own collectives go with it.

    Raises:
        InputError: a kind that no section shows.
    """
    found = by_section(records)
    if found[PageSection.LIVE]:
        return "On live ranks"
    if found[PageSection.DIAGNOSES]:
        return "Who is to blame"
    if found[PageSection.CHANGES] and not found[PageSection.COLLECTIVES]:
        return "What changed"
    if found[PageSection.PLANS] and not found[PageSection.COLLECTIVES]:
        return "Which strategy to train with"
    if found[PageSection.FLOWS] and not found[PageSection.COLLECTIVES]:
        return "Flows on a fabric"
    return "Collective communication" if found[PageSection.COLLECTIVES] else "Training steps"
