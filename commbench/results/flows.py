# SPDX-License-Identifier: Apache-2.0
"""Single flows on a fabric: when each was through, and how much slower than alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from commbench.results.records import SCHEMA, Record
from commbench.results.values import Bytes, Count, Factor, Name, Positive, Seconds, Whole

__all__ = ["SimulatedFlows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFlows(Record):
    """Flows on a fabric.

    Attributes:
        source: the file. topology, routing, network, engine, seed: on what, and how. network_why: as of a simulated
            collective.
        ranks: endpoints. flows: their number. bytes: of all.
        time_s: until the last is through. goodput_GBps: bytes / time.
        completion_s: from start to end of a flow: mean, and percentiles. slowdown: the same of completion / time of
            such a flow alone.
        fluid_completion_s, fluid_time_s: the same by the fluid model, where another was asked for; else empty and None.
        slowest: ten flows with the largest slowdown. counted, queues: as of a simulated collective (results.records).
        completions_s, slowdowns: of every flow, in the order of the file; what the percentiles are of.
    """

    kind: ClassVar[str] = "simulated-flows"

    source: Name
    topology: Name
    routing: Name
    network: Name
    network_why: str = ""
    engine: Name
    seed: Whole = 0
    ranks: Count
    flows: Count
    bytes: Bytes
    time_s: Seconds
    goodput_GBps: Positive | None  # noqa: N815  the unit is spelled as in the output
    completion_s: Mapping[str, Seconds]
    slowdown: Mapping[str, Factor]
    fluid_completion_s: Mapping[str, Seconds] = field(default_factory=dict)
    fluid_time_s: Seconds | None = None
    slowest: tuple[Mapping[str, Any], ...] = ()
    counted: Mapping[str, float] = field(default_factory=dict)
    queues: tuple[Mapping[str, Any], ...] = ()
    completions_s: tuple[Seconds, ...] = ()
    slowdowns: tuple[Factor, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For a line on stdout: all but what is told of every flow, which is for the results file."""
        told = {"kind": self.kind, "schema": SCHEMA, **asdict(self)}
        return {name: value for name, value in told.items() if name not in ("completions_s", "slowdowns")}
