# SPDX-License-Identifier: Apache-2.0
"""Time an operation, iteration by iteration, and keep every sample.

Two questions, two modes. *Isolated*: a barrier before each iteration, so a sample is the latency of one
operation that all ranks enter together (within the skew with which ranks leave a barrier). *Pipelined*: one
barrier, then back to back, so a rank may run ahead; samples are the differences of successive ends and add up
to the whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any, Protocol

import torch

__all__ = ["Clock", "Operation", "Timed", "clock_of", "time_operation"]


class Operation(Protocol):
    """What can be timed: a schedule's executor or a backend's own collective."""

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of the last run by phase."""

    def run(self) -> None:
        """Do it once."""

    def run_to_check(self) -> None:
        """Do it once, untimed, and leave the result where the collective's postcondition looks for it."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Marks in time on one device.

    Attributes:
        mark: a mark now (on GPUs: when the work enqueued so far is done).
        elapsed_s: seconds between two marks; valid after ``settle``.
        settle: returns when the device has done its work.
        reach: returns when the device has come to a mark.
    """

    mark: Callable[[], Any]
    elapsed_s: Callable[[Any, Any], float]
    settle: Callable[[], None]
    reach: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Timed:
    """Samples of one rank.

    Attributes:
        samples_s: seconds of each iteration.
        phases_s: by phase, seconds of each iteration; empty where the operation has no phases.
    """

    samples_s: tuple[float, ...]
    phases_s: Mapping[str, tuple[float, ...]]


def clock_of(device: torch.device) -> Clock:
    """The host's monotonic clock for CPU tensors; events on the current stream for GPU tensors."""
    if device.type == "cuda":
        return Clock(
            mark=_cuda_mark,
            elapsed_s=lambda start, end: start.elapsed_time(end) / 1e3,
            settle=torch.cuda.synchronize,
            reach=torch.cuda.Event.synchronize,
        )
    return Clock(perf_counter, lambda start, end: end - start, lambda: None, lambda mark: None)


def _cuda_mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def time_operation(
    operation: Operation,
    iterations: int,
    *,
    timing: str,
    clock: Clock,
    barrier: Callable[[], None],
    tick: Callable[[int], None],
) -> Timed:
    """Run an operation ``iterations`` times.

    Args:
        operation: to time.
        iterations: how often.
        timing: "isolated" or "pipelined".
        clock: of the device that the operation works on.
        barrier: returns when all ranks have called it.
        tick: called with the number of each iteration before it starts; never inside an isolated sample.
    """
    time_all = _isolated if timing == "isolated" else _pipelined
    samples, phases = time_all(operation, iterations, clock, barrier, tick)
    names = phases[0] if phases else ()
    return Timed(tuple(samples), {name: tuple(p[name] for p in phases) for name in names})


_Samples = tuple[list[float], list[Mapping[str, float]]]


def _isolated(
    operation: Operation,
    iterations: int,
    clock: Clock,
    barrier: Callable[[], None],
    tick: Callable[[int], None],
) -> _Samples:
    samples, phases = [], []
    for iteration in range(iterations):
        tick(iteration)
        barrier()
        start = clock.mark()
        operation.run()
        end = clock.mark()
        clock.settle()
        samples.append(clock.elapsed_s(start, end))
        phases.append(operation.phases)
    return samples, phases


def _pipelined(
    operation: Operation,
    iterations: int,
    clock: Clock,
    barrier: Callable[[], None],
    tick: Callable[[int], None],
) -> _Samples:
    phases = []
    barrier()
    marks = [clock.mark()]
    for iteration in range(iterations):
        tick(iteration)
        operation.run()
        marks.append(clock.mark())
        phases.append(operation.phases)
    clock.settle()
    return [clock.elapsed_s(start, end) for start, end in pairwise(marks)], phases
