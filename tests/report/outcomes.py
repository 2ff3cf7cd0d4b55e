# SPDX-License-Identifier: Apache-2.0
"""Fields of records that are no part of their identity: every kind of record states them, or a test fails."""

from collections.abc import Mapping

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

OUTCOMES: Mapping[type[Record], frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in {
        Measured: "size_bytes num_elements samples_s warmup_s phases_s busbw_factor started_at wrong schedule "
        "environment",
        Simulated: "size_bytes protocol terms time_s busbw_factor lower_bound_s transfers shortcut links wall_s "
        "fluid_time_s counted queues network_why",
        Reported: "size_bytes num_elements time_s busbw_factor wrong failed problem source line",
        Judged: "size_bytes in_place busbw_factor measured_s predicted_s verdict algorithm protocol note",
        Health: "verdict points plateau_ratio worst_ratio reason",
        Changed: "size_bytes busbw_factor old_s new_s old_error new_error history_s tolerance verdict",
        ChangeSummary: "points slower faster ratio tolerance verdict wrong apart notes",
        Diagnosed: "verdict noise suspects others held proposed notes",
        Blamed: "collectives findings notes late_s",
        Compared: "size_bytes measured_s spread_s simulated_s packets_s set region busbw_factor",
        Summary: "points median_abs_error p95_abs_error max_median_abs_error max_p95_abs_error ok groups",
        SimulatedStep: "iteration_s model_flops hardware_flops peak_flops bubble_of_ideal bubble_of_total time_s "
        "exposed_s critical_s memory_bytes memory_by_position capacity_bytes busiest_links bubble_of_span margin_bytes "
        "remedy folded notes operations "
        "wall_s positions spans",
        SimulatedFlows: "ranks flows bytes time_s goodput_GBps completion_s slowdown fluid_completion_s fluid_time_s "
        "slowest counted queues network_why completions_s slowdowns",
        Planned: "asked strategies slow large estimated simulated proven_gap open worst_error capacity_bytes "
        "margin_bytes best pareto sensitivity nearest lacks_bytes remedy notes search_s wall_s task",
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
        FailedRun: "message guilty places stacks failed_at",
    }.items()
}
"""What was found, follows from the rest, or is the axis that a series goes along; the environment is told by run."""
