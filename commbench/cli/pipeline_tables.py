# SPDX-License-Identifier: Apache-2.0
"""What is printed of measured pipelines and their simulated twins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commbench.cli.tables import heading

if TYPE_CHECKING:
    from commbench.results.pipeline_records import PipelineCompared, PipelineMeasured, PipelineSimulated

__all__ = ["Twins", "pipeline_table"]


@dataclass(frozen=True, slots=True)
class Twins:
    """A measured pipeline, its simulated twin, and both held together."""

    measured: "PipelineMeasured"
    simulated: "PipelineSimulated"
    compared: "PipelineCompared"

    @property
    def name(self) -> str:
        """For messages."""
        return f"pipeline {self.measured.schedule} by {self.measured.executor}"


def pipeline_table(twins: Sequence[Twins]) -> str:
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
    steps = [
        f"#{'':<9} {'step':>9} {'+-':>7} {'sim.':>9} {'error':>6} {'bubble':>6} {'sim.':>6} {'points':>6} {'free':>6} "
        f"{'#wrong':>6}",
        f"#{'executor':<9} {'(ms)':>9} {'(ms)':>7} {'(ms)':>9} {'(%)':>6} {'(%)':>6} {'(%)':>6} {'(%)':>6} {'(%)':>6}",
        *map(_row, twins),
    ]
    idle = [
        "# idle time of the mean rank by cause (ms); imbalance of stages and passes",
        f"#{'executor':<9} {'schedule':>9} {'imbalance':>9} {'transfers':>9} {'host':>9}",
        *map(_idle, twins),
    ]
    return "\n".join([told, *steps, *idle])


def _time(time_s: float) -> str:
    return f"{1e6 * time_s:.0f} us" if time_s < 1e-3 else f"{1e3 * time_s:.1f} ms"


def _fabric(both: Twins) -> list[str]:
    """The lab, and what was fitted there, of a pipeline that ran in one."""
    network = both.simulated.network
    if network["kind"] != "lab":
        return []
    fitted = f"latency {_time(network['latency_s'])}, processor time of a message {_time(network['overhead_s'])}"
    return [f"emulated: {both.measured.fabric}; fitted to all-reduces alone: {fitted}"]


def _row(both: Twins) -> str:
    c, wrong = both.compared, both.measured.wrong
    free = "n/a" if c.clock_free_bubble is None else f"{100 * c.clock_free_bubble:.1f}"
    return (
        f" {c.executor:<9} {1e3 * c.measured_s:>9.2f} {1e3 * c.spread_s:>7.2f} {1e3 * c.simulated_s:>9.2f} "
        f"{100 * c.error:>+6.1f} {100 * c.measured_bubble:>6.1f} {100 * c.simulated_bubble:>6.1f} {c.points:>+6.1f} "
        f"{free:>6} {'n/a' if wrong is None else wrong:>6}"
    )


def _idle(both: Twins) -> str:
    causes = ("schedule", "imbalance", "transfer", "host")
    figures = " ".join(f"{1e3 * both.compared.idle_s[cause]:>9.2f}" for cause in causes)
    return f" {both.compared.executor:<9} {figures}"
