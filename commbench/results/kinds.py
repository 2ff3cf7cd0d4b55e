# SPDX-License-Identifier: Apache-2.0
"""Every kind of record by its name, and a record from its line. A new kind is a line here, and one in report.kinds."""

from collections.abc import Mapping

from commbench.errors import ResultsError
from commbench.results.changes import Changed, ChangeSummary
from commbench.results.device_records import GemmMeasured, OverlapMeasured
from commbench.results.diagnoses import Blamed, Diagnosed
from commbench.results.failures import FailedRun
from commbench.results.flows import SimulatedFlows
from commbench.results.judged import Health, Judged
from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated
from commbench.results.plans import Planned
from commbench.results.records import SCHEMA, Compared, Measured, Record, Simulated, Summary
from commbench.results.reported import Reported
from commbench.results.steps import SimulatedStep
from commbench.results.strict import built, decoded, finite_figures
from commbench.results.tensor_parallel_records import (
    TensorParallelCompared,
    TensorParallelMeasured,
    TensorParallelSimulated,
)

__all__ = ["KINDS", "record_from_json"]

KINDS: Mapping[str, type[Record]] = {
    cls.kind: cls
    for cls in (
        *(Measured, Simulated, Reported, Compared, Summary, SimulatedFlows, SimulatedStep),
        *(PipelineMeasured, PipelineSimulated, PipelineCompared),
        *(TensorParallelMeasured, TensorParallelSimulated, TensorParallelCompared),
        *(GemmMeasured, OverlapMeasured, FailedRun),
        *(Judged, Health, Planned),
        *(Diagnosed, Blamed, Changed, ChangeSummary),
    )
}


def record_from_json(line: str, place: str) -> Record:
    """The record on one JSON line; ``place`` (file and line number) opens every error message.

    Raises:
        ResultsError: not whole JSON, an unknown kind or schema, or a field that is missing or breaks a rule.
    """
    data = decoded(line, place)
    kind, schema = data.get("kind"), data.get("schema")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ResultsError(f"{place}: kind {kind!r} is unknown; known: {', '.join(KINDS)}")
    if type(schema) is not int or schema != SCHEMA:  # True is 1 in Python
        raise ResultsError(f"{place}: schema {schema!r}; this commbench reads schema {SCHEMA}")
    record: Record = built(KINDS[kind], line, place)
    try:
        sound = finite_figures(record.derived())
    except (ArithmeticError, ValueError):
        sound = False
    if not sound:
        raise ResultsError(f"{place}: the fields of this {kind} record give figures that are no numbers")
    return record
