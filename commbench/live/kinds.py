# SPDX-License-Identifier: Apache-2.0
"""Every kind of job by its name, to make one again from the text that reached a rank."""

import json
from collections.abc import Mapping

from commbench.live.group_job import GroupJob
from commbench.live.job import LiveJob, OverlapJob, PipelineJob, TensorParallelJob
from commbench.live.plan import Plan
from commbench.live.suite import Suite

__all__ = ["KINDS", "job_of"]

KINDS: Mapping[str, type[LiveJob]] = {
    job.kind: job for job in (Plan, Suite, GroupJob, PipelineJob, TensorParallelJob, OverlapJob)
}


def job_of(text: str) -> LiveJob:
    """The job that :meth:`LiveJob.to_json` wrote."""
    return KINDS[json.loads(text)["kind"]].from_json(text)
