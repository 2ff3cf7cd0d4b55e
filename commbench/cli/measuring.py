# SPDX-License-Identifier: Apache-2.0
"""Options of all commands behind ``run`` that measure collectives: sizes, iterations, ranks, what ends a run."""

from dataclasses import dataclass
from typing import Any

from commbench.cli.options import (
    AnyIters,
    Budget,
    CheckValues,
    ColdCacheOption,
    Dtype,
    JoinTimeout,
    Jsonl,
    MaxBytes,
    MinBytes,
    Out,
    StepBytes,
    StepFactor,
    Timeout,
    WarmupPerSize,
    iterations,
)
from commbench.cli.running import Backend, Nproc

__all__ = ["Measuring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What was given, in the order in which ``--help`` lists it; commands have their own ``minbytes``."""

    nproc: Nproc = None
    minbytes: MinBytes
    maxbytes: MaxBytes = None
    stepfactor: StepFactor = None
    stepbytes: StepBytes = None
    iters: AnyIters = None
    budget: Budget = None
    warmup: WarmupPerSize = 5
    cold_cache: ColdCacheOption = False
    dtype: Dtype = "float32"
    backend: Backend = "auto"
    timeout: Timeout = 300.0
    join_timeout: JoinTimeout = 120.0
    out: Out = None
    json: Jsonl = False
    check: CheckValues = True

    @property
    def sizes(self) -> tuple[str, str | None, float | None, str | None]:
        """-b, -e, -f and -i."""
        return self.minbytes, self.maxbytes, self.stepfactor, self.stepbytes

    def of_job(self) -> dict[str, Any]:
        """What every job has of it.

        Raises:
            InputError: -n and --budget, or a budget that is no time above 0.
        """
        limits = {"timeout_s": self.timeout, "join_timeout_s": self.join_timeout}
        how = {"warmup": self.warmup, "backend": self.backend, "check": self.check, "cold_cache": self.cold_cache}
        return how | limits | iterations(self.iters, self.budget)
