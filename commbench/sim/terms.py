# SPDX-License-Identifier: Apache-2.0
"""Where the time of a simulated collective went: its critical path, split exactly."""

import numpy as np

from commbench.arrays import IntArray
from commbench.engine.setting import Paths
from commbench.engine.trace import Trace
from commbench.program.critical import critical_path
from commbench.program.flat import COMPUTE, FlatProgram
from commbench.units import PS_PER_S, seconds

__all__ = ["TERMS", "critical_terms"]

TERMS = ("message overhead", "latency", "wire", "contention", "reduction")
"""Processor time of messages on both sides; of the links; bytes over the narrowest link of their route alone; what
transfers took beyond that (links shared or slowed, processors busy); additions of what has arrived."""


def critical_terms(program: FlatProgram, trace: Trace, paths: Paths, overhead_ps: int) -> dict[str, float]:
    """Seconds by term, each of :data:`TERMS`; the picoseconds behind them add up to the end of the last task exactly.

    A task on the critical path is ready when the one before it is done, so that what each of them took adds up, and a
    transfer's own parts are those of engine/SEMANTICS.md: overhead, latency, its bytes, overhead.

    Args:
        program, trace, paths: what ran, as the engine was given it. overhead_ps: of a message, on either side.
    """
    path = np.array(critical_path(program, trace.end_ps), dtype=np.int64)
    lasted = (trace.end_ps - trace.start_ps)[path]
    moves = program.kind[path] != COMPUTE
    took, route = lasted[moves], paths.route_of[path[moves]]
    overhead = np.minimum(took, 2 * overhead_ps)
    latency = np.minimum(took - overhead, paths.latency_ps[route])
    wire = np.minimum(took - overhead - latency, _alone_ps(program.num_bytes[path[moves]], route, paths))
    parts = [overhead, latency, wire, took - overhead - latency - wire, lasted[~moves]]
    return {name: seconds(int(part.sum())) for name, part in zip(TERMS, parts, strict=True)}


def _alone_ps(num_bytes: IntArray, route: IntArray, paths: Paths) -> IntArray:
    """Picoseconds of these bytes on their routes, were nothing else there."""
    weights = paths.weights if len(paths.weights) else np.ones(len(paths.links))
    rates = paths.bandwidths[paths.links] / weights
    narrowest = np.full(len(paths.latency_ps), np.inf)
    np.minimum.at(narrowest, np.repeat(np.arange(len(paths.latency_ps)), np.diff(paths.first)), rates)
    alone: IntArray = np.floor(num_bytes / narrowest[route] * PS_PER_S + 0.5).astype(np.int64)
    return alone
