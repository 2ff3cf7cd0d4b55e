# SPDX-License-Identifier: Apache-2.0
"""What is printed of measured pipelines and their simulated twins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from commbench.cli.tables import heading
from commbench.tables import Column, head_text, row_text

if TYPE_CHECKING:
    from commbench.experiments.pipeline import PipelineTwins

__all__ = ["pipeline_table"]


def pipeline_table(twins: "Sequence[PipelineTwins]") -> str:
    """Per executor: length of the step, the bubble by three methods, and where the idle time went."""
    first = twins[0].measured
    delays = ", ".join(f"{kind} {1e3 * s:g} ms" for kind, s in first.delays_s.items())
    made_of = f"delays ({delays}), most of them asleep" if first.compute == "delay" else "matrix products"
    slowest_s = max((transfer_s for *_, transfer_s in first.transfers_s), default=0.0)
    one_way = f", one way alone at most {_time(slowest_s)}" if slowest_s else ""
    told = heading(
        f"pipeline {first.schedule}: {first.ranks} ranks, {first.stages} stages, {first.microbatches} microbatches "
        f"on {first.backend}",
        f"compute: {made_of}; activations of {first.activation_bytes} B{one_way}",
        *_fabric(twins[0]),
        "bubble: idle / total; free: 2 - T(2m)/T(m), without clocks; points: measured less simulated bubble",
    )
    steps = [head_text(_STEPS), *(row_text(_STEPS, _row(both)) for both in twins)]
    idle = [
        "# idle time of the mean rank by cause (ms); imbalance of stages and passes",
        head_text(_IDLE),
        *(row_text(_IDLE, _idle(both)) for both in twins),
    ]
    return "\n".join([told, *steps, *idle])


def _time(time_s: float) -> str:
    return f"{1e6 * time_s:.0f} us" if time_s < 1e-3 else f"{1e3 * time_s:.1f} ms"


def _fabric(both: "PipelineTwins") -> list[str]:
    """The lab, and what was fitted there, of a pipeline that ran in one."""
    network = both.simulated.network
    if network["kind"] != "lab":
        return []
    fitted = f"latency {_time(network['latency_s'])}, processor time of a message {_time(network['overhead_s'])}"
    return [f"emulated: {both.measured.fabric}; fitted to all-reduces alone: {fitted}"]


_STEPS = (
    Column("", "executor", numeric=False, width=9),
    Column("step", "(ms)", width=9, form=".2f"),
    Column("+-", "(ms)", width=7, form=".2f"),
    Column("sim.", "(ms)", width=9, form=".2f"),
    Column("error", "(%)", width=6, form="+.1f"),
    Column("bubble", "(%)", width=6, form=".1f"),
    Column("sim.", "(%)", width=6, form=".1f"),
    Column("points", "(%)", width=6, form="+.1f"),
    Column("free", "(%)", width=6, form=".1f"),
    Column("#wrong", width=6),
)
_CAUSES = {"schedule": "schedule", "imbalance": "imbalance", "transfer": "transfers", "host": "host"}
_IDLE = (
    Column("executor", numeric=False, width=9),
    *(Column(word, width=9, form=".2f") for word in _CAUSES.values()),
)


def _row(both: "PipelineTwins") -> Sequence[str | float | None]:
    c = both.compared
    times = (1e3 * time_s for time_s in (c.measured_s, c.spread_s, c.simulated_s))
    free = None if c.clock_free_bubble is None else 100 * c.clock_free_bubble
    bubbles = (100 * c.measured_bubble, 100 * c.simulated_bubble)
    return (c.executor, *times, 100 * c.error, *bubbles, c.points, free, both.measured.wrong)


def _idle(both: "PipelineTwins") -> Sequence[str | float | None]:
    return (both.compared.executor, *(1e3 * both.compared.idle_s[cause] for cause in _CAUSES))
