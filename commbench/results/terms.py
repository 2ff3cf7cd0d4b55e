# SPDX-License-Identifier: Apache-2.0
"""What a result's time is made of: terms in whole picoseconds, which add up to it exactly."""

from collections.abc import Mapping

from commbench.results.pipeline_records import PipelineCompared
from commbench.results.records import Record, Simulated
from commbench.results.steps import SimulatedStep
from commbench.results.tensor_parallel_records import TensorParallelMeasured
from commbench.units import PS_PER_S

__all__ = ["REST", "terms_ps"]

REST = "rest"
"""What the terms of a record leave open: contention too small for a library's model to tell."""


def terms_ps(record: Record) -> dict[str, int]:
    """Picoseconds by term; empty for a record that has no terms.

    Of a simulated collective its own; of a training step a rank's mean time by what it does, of a measured pipeline
    that of the mean rank by what it waits for, of a tensor-parallel block computing and collectives.
    """
    match record:
        case Simulated() if record.terms:
            return _whole(record.time_s, record.terms)
        case SimulatedStep():
            return _whole(record.iteration_s, record.time_s)
        case PipelineCompared():
            idle = {f"idle: {cause}": time_s for cause, time_s in record.idle_s.items()}
            return _whole(record.measured_s, {"busy": record.measured_s - sum(idle.values()), **idle})
        case TensorParallelMeasured():
            parts = {"computing": record.time_s - record.exposed_s, "collectives": record.exposed_s}
            return _whole(record.time_s, parts)
    return {}


def _whole(time_s: float, terms: Mapping[str, float]) -> dict[str, int]:
    found = {name: round(value * PS_PER_S) for name, value in terms.items()}
    rest = round(time_s * PS_PER_S) - sum(found.values())
    if abs(rest) <= len(found):  # what rounding to picoseconds has lost
        found[max(found, key=lambda name: found[name])] += rest
        return found
    return {**found, REST: rest}
