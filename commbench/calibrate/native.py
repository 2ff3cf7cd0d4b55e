# SPDX-License-Identifier: Apache-2.0
"""Fit a machine to gloo's own all-reduces, which tell no phases.

- *call*: what torch's functional all-reduce costs beside its copy and its messages: handing over to gloo's thread and
  being woken by it. Measured beside the runs, in a group of one rank, less the copy.
- *copy*: bytes/s of a copy, of which that call makes one (torch 2.13, Functional.cpp, all_reduce); measured likewise.
- *reduction*: assumed to be as fast as a copy: both are bound by the same memory.
- *message overhead*: assumed to be 0, for runs on one number of ranks cannot tell it from the latency.
- *latency* and *bandwidth*: fitted, as in :mod:`commbench.calibrate.fit`, with the simulator and gloo's own schedule.

What is fitted is the slowest rank's time in the call beyond the wait for the last rank to enter, for that is what a
simulated call adds to the wait. A collective between ranks that compute often takes one of two times: a thread had to
wait for the scheduler, or it had not. The median of one call is the one or the other; traffic is a sum of calls. So the
time of a point is the median over groups of calls of their mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from commbench.calibrate.fit import fit_links, predict_s
from commbench.calibrate.machine import Machine
from commbench.errors import CheckFailedError, InputError
from commbench.results.records import Measured

__all__ = ["NativeMachine", "calibrate_native", "grouped_s"]

_PHASES = frozenset({"wait", "call", "copy"})
_GROUP = 4  # calls; a transformer block has as many all-reduces
_START_LATENCY_S, _START_BANDWIDTH = 200e-6, 1e9  # where the search starts: a busy loopback's order of magnitude


@dataclass(frozen=True, slots=True)
class NativeMachine:
    """A machine, the seconds of a call that sends nothing, and the bytes/s at which a rank copies."""

    machine: Machine
    call_s: float
    copy: float

    def predict_s(self, point: Measured) -> float:
        """Simulated seconds of an all-reduce that copies its input first."""
        return self.call_s + point.size_bytes / self.copy + predict_s(self.machine, point)


def calibrate_native(points: Sequence[Measured], *, name: str, source: str) -> NativeMachine:
    """The machine that explains the points best.

    Args:
        points: gloo's own all-reduces on one machine and number of ranks, called as functions, at two sizes or more.
        name: of the machine. source: said of every number.

    Raises:
        InputError: too few sizes, or points of another kind. CheckFailedError: a point has wrong values.
    """
    if len({point.size_bytes for point in points}) < 2:
        raise InputError("calibration needs all-reduces at two sizes or more")
    for point in points:
        place = f"{point.collective} {point.algorithm} at {point.size_bytes} B on {point.backend}"
        if (point.collective, point.algorithm, point.backend) != ("all-reduce", "native", "gloo"):
            raise InputError(f"calibration needs gloo's own all-reduces, not {place}")
        if not point.phases_s.keys() >= _PHASES:
            raise InputError(f"calibration needs the phases {', '.join(sorted(_PHASES))}; {place} lacks some of them")
        if point.wrong:
            raise CheckFailedError(f"{place} has {point.wrong} wrong values; nothing is fitted to a wrong run")
    copy = median(point.size_bytes / _typical_s(point, "copy") for point in points)
    call_s = median(max(0.0, _typical_s(point, "call") - point.size_bytes / copy) for point in points)
    start = Machine(
        name=name,
        cores=int(points[0].environment["cores_usable"]),
        message_overhead_s=0.0,
        latency_s=_START_LATENCY_S,
        bandwidth=_START_BANDWIDTH,
        reduction=copy,
        source=source,
    )
    fitted = fit_links(
        start, points, lambda machine, point: NativeMachine(machine, call_s, copy).predict_s(point), grouped_s
    )
    return NativeMachine(fitted, call_s, copy)


def grouped_s(point: Measured) -> float:
    """Seconds of the slowest rank beyond the wait for the last: the median over groups of calls of their mean."""
    calls = zip(zip(*point.samples_s, strict=True), zip(*point.phases_s["wait"], strict=True), strict=True)
    beyond = [max(t + w for t, w in zip(times, waits, strict=True)) - max(waits) for times, waits in calls]
    groups = [beyond[i : i + _GROUP] for i in range(0, len(beyond), _GROUP)]
    whole = [group for group in groups if len(group) == _GROUP]
    return median(map(fmean, whole or groups))


def _typical_s(point: Measured, phase: str) -> float:
    """Seconds of a phase: median over ranks and iterations."""
    return median(sample for row in point.phases_s[phase] for sample in row)
