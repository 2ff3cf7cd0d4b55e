# SPDX-License-Identifier: Apache-2.0
"""What would make a step fit into its device's memory: the options that take least from its speed, tried in turn."""

from collections.abc import Iterator
from dataclasses import replace

from commbench.errors import InputError
from commbench.workload.step_plan import StepPlan

__all__ = ["remedy"]


def remedy(plan: StepPlan, margin_bytes: int) -> str:
    """Options with which the step fits, for people; "" if it fits as it is."""
    if _fits(plan, margin_bytes):
        return ""
    for options, other in _others(plan):
        if _fits(other, margin_bytes):
            return f"{options} makes it fit"
    return "neither ZeRO nor recomputation makes it fit: split it over more GPUs (--tp, --pp), or take larger ones"


def _fits(plan: StepPlan, margin_bytes: int) -> bool:
    return all(use.total + margin_bytes <= plan.device.memory_bytes for use in plan.memory())


def _others(plan: StepPlan) -> Iterator[tuple[str, StepPlan]]:
    """(options, the plan with them), what is cheapest first."""
    for zero in sorted({plan.zero, *(1, 3)} if plan.degrees.dp * plan.degrees.cp > 1 else {plan.zero}):
        for parallel in (False, True):
            for recompute in ("", "selective", "full"):
                if zero < plan.zero or (parallel and (plan.run.tp == 1 or plan.run.sequence_parallel)):
                    continue
                words = [f"--zero {zero}"] if zero != plan.zero else []
                words += ["--sequence-parallel"] if parallel else []
                words += [f"--recompute {recompute}"] if recompute not in ("", plan.run.recompute) else []
                if words:
                    try:
                        run = replace(
                            plan.run,
                            recompute=recompute or plan.run.recompute,
                            sequence_parallel=parallel or plan.run.sequence_parallel,
                        )
                        yield " ".join(words), replace(plan, run=run, zero=zero)
                    except InputError:  # such as a sequence that tp does not divide
                        continue
