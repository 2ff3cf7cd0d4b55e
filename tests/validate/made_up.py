# SPDX-License-Identifier: Apache-2.0
"""Measured pipelines that nobody measured: spans from anywhere, and passes whose sums are easy."""

from commbench.results.pipeline_records import PipelineMeasured
from commbench.results.spans import RankSpans
from commbench.workload.pipeline.schedule import Action, Pass, PipelineSchedule
from commbench.workload.pipeline.text import to_csv

__all__ = ["measured", "unit_times"]

UNIT_PS = 10**10  # 10 ms
LASTS = {Pass.FORWARD: 1, Pass.INPUT: 1, Pass.WEIGHT: 1, Pass.BACKWARD: 2}


def unit_times(action: Action) -> int:
    """F = I = W = 10 ms."""
    return LASTS[action.kind] * UNIT_PS


def measured(schedule: PipelineSchedule, *iterations: RankSpans, transfer_s: float = 0.0) -> PipelineMeasured:
    ranks = schedule.num_ranks
    return PipelineMeasured(
        run="r", schedule=schedule.name, order=to_csv(schedule), executor="schedule", ranks=ranks,
        stages=schedule.num_stages, microbatches=schedule.num_microbatches, activation_bytes=4, backend="gloo",
        compute="delay", delays_s={"F": 0.01, "I": 0.01, "W": 0.01}, slow=(), spans=iterations, clock="shared",
        walls_s=((0.33,),) * ranks, double_walls_s=((0.57,),) * ranks,
        transfers_s=tuple((r, r + 1, transfer_s) for r in range(ranks - 1)), sleep_over_s=0.0, launcher="commbench",
        started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
