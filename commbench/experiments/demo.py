# SPDX-License-Identifier: Apache-2.0
"""What the demo shows beside this machine's own ranks: an emulated fabric, a cluster's NCCL, a step, a pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import commbench
from commbench.errors import RunError
from commbench.results.journal import read_records
from commbench.results.records import Measured
from commbench.results.reported import Reported

if TYPE_CHECKING:
    from commbench.experiments.pipeline import PipelineTwins
    from commbench.results.judged import Health, Judged
    from commbench.results.steps import SimulatedStep

__all__ = ["KEPT", "cluster_records", "fabric_records", "measure_pipelines", "simulated_step"]

_ROOT = Path(commbench.__file__).parent.parent
KEPT = _ROOT / "reports" / "emulated" / "runs.jsonl"
CLUSTER = _ROOT / "sims" / "published" / "nccl-h100-x2.jsonl"
"""All-reduce of NCCL 2.26.2 on two hosts of 8 H100, as NVIDIA/nccl-tests#309 has it: one of the curves that the model's
constants were fitted to."""


def fabric_records(out: Path, tell: Callable[[str], None]) -> list[Measured]:
    """Records of four hosts on an emulated star, measured now; else kept ones of fabrics, where there are."""
    from commbench.emulate.privilege import missing
    from commbench.validate.lab_runs import leg_of, measure_in_labs
    from commbench.validate.legs import DEMO, SMOKE

    why = missing()
    if not why:
        tell("measuring on an emulated star of real TCP, 4 hosts at 50 Mbit/s, and predicting it")
        try:
            return measure_in_labs(DEMO, out, tell=tell)
        except RunError as error:
            why = str(error)
    tell(f"no fabric can be emulated here: {why}")
    if not KEPT.exists():
        return []
    tell(f"judging again what was measured on emulated fabrics elsewhere: {KEPT}")
    wanted = {leg.name for leg in SMOKE}
    return [r for r in read_records(KEPT) if isinstance(r, Measured) and leg_of(r) in wanted]


def cluster_records() -> "tuple[list[Reported], list[Judged], list[Health]]":
    """What NCCL did on a real cluster, and what its model says; nothing where the package is without its data."""
    from commbench.experiments.log_verdict import judged_runs

    if not CLUSTER.exists():
        return [], [], []
    rows = [record for record in read_records(CLUSTER) if isinstance(record, Reported)]
    return rows, *judged_runs(rows, "dgx-h100-x2", None)


def simulated_step() -> "SimulatedStep":
    """A step of GPT-3 on 1,024 GPUs."""
    from commbench.experiments.step_given import StepOptions
    from commbench.experiments.step_options import simulate_options

    return simulate_options(
        StepOptions(
            model="gpt3-175b", topology="dgx-h100-x128", tp=8, pp=8, microbatch=1, global_batch=1536,
            sequence_parallel=True, recompute="selective",
        )
    )  # fmt: skip


def measure_pipelines(out: Path) -> "list[PipelineTwins]":
    """1F1B on 4 live ranks, and its simulated twin."""
    from commbench.experiments.pipeline import compare_all, make_job
    from commbench.live.measure import run_job

    job = make_job("1f1b", ranks=4, out=out, backend="gloo", iters=3, forward="30 ms", input_="30 ms", weight="30 ms")
    return compare_all(run_job(job), out)
