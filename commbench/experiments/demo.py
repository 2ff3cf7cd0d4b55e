# SPDX-License-Identifier: Apache-2.0
"""What the demo measures beside this machine's own ranks: an emulated fabric, and a pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import commbench
from commbench.errors import RunError
from commbench.results.journal import read_records
from commbench.results.records import Measured

if TYPE_CHECKING:
    from commbench.experiments.pipeline import PipelineTwins

__all__ = ["KEPT", "fabric_records", "measure_pipelines"]

KEPT = Path(commbench.__file__).parent.parent / "reports" / "emulated" / "runs.jsonl"


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


def measure_pipelines(out: Path) -> "list[PipelineTwins]":
    """1F1B on 4 live ranks, and its simulated twin."""
    from commbench.experiments.pipeline import compare_all, make_job
    from commbench.live.measure import run_job

    job = make_job("1f1b", ranks=4, out=out, backend="gloo", iters=3, forward="30 ms", input_="30 ms", weight="30 ms")
    return compare_all(run_job(job), out)
