# SPDX-License-Identifier: Apache-2.0
"""A measured tensor-parallel block and its simulated twin: compute as it was measured, collectives simulated.

Every iteration has a twin of its own. Each rank computes between its calls as long as it did in that iteration; each
call becomes the copies that torch makes and the messages that gloo sends, on a machine calibrated on all-reduces alone.
Time in collectives is counted as it was measured: handing over and waiting, for the slowest rank too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from commbench.calibrate.native import NativeMachine, calibrate_native, grouped_s
from commbench.cluster import Cluster, make_cluster
from commbench.collectives.sizes import dtype_bytes
from commbench.door import simulate
from commbench.engine.engines import Run
from commbench.errors import InputError
from commbench.libraries.gloo import GlooLibrary
from commbench.program.operations import Collective, ProgramBuilder
from commbench.results.records import Measured
from commbench.results.spans import IterationSpans
from commbench.results.tensor_parallel_records import (
    TensorParallelCompared,
    TensorParallelMeasured,
    TensorParallelSimulated,
)
from commbench.units import PS_PER_S, seconds

__all__ = ["MAX_ERROR", "Place", "calibrated", "compare_tensor_parallel", "simulate_iteration", "twin"]

MAX_ERROR = 0.15
"""Largest |error| of the simulated time in collectives."""

_ENGINE = "compiled"
_COMPUTE, _COLLECTIVE = "compute", "collective"  # streams


@dataclass(frozen=True, slots=True)
class _Copies:
    """Copies around one collective, as multiples of the full buffer and of a rank's block.

    Attributes:
        call: (buffers, blocks) that the caller copies before it goes on. first, last: before and behind the messages.
    """

    call: tuple[int, int] = (0, 0)
    first: tuple[int, int] = (0, 0)
    last: tuple[int, int] = (0, 0)


_COPIES: Mapping[str, _Copies] = {
    # torch 2.13: Functional.cpp, all_reduce: the input is cloned
    "all-reduce": _Copies(call=(1, 0)),
    # ProcessGroupGloo.cpp, reduce_scatter_tensor_coalesced: clone of the input, own block copied out by the waiter
    "reduce-scatter": _Copies(call=(1, 0), last=(0, 1)),
    # gloo allgather.cc: own block into the result; ProcessGroupGloo.cpp, AsyncAllgatherCoalescedWork: result copied out
    "all-gather": _Copies(first=(0, 1), last=(1, 0)),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A calibrated machine with ranks on it."""

    machine: NativeMachine
    cluster: Cluster

    @classmethod
    def of(cls, machine: NativeMachine, num_ranks: int) -> "Place":
        """The machine with so many ranks."""
        return cls(machine, make_cluster(machine.machine.topology(num_ranks)))


def calibrated(points: Sequence[Measured], measured: TensorParallelMeasured) -> NativeMachine:
    """The machine on which the all-reduces alone were measured."""
    sizes = f"{len(points)} sizes of all-reduces alone on {measured.ranks} ranks, run {measured.run}"
    return calibrate_native(points, name=str(measured.environment.get("hostname")), source=f"fitted to {sizes}")


def twin(measured: TensorParallelMeasured, machine: NativeMachine) -> TensorParallelSimulated:
    """Every iteration simulated.

    Raises:
        InputError: ranks whose calls differ, or a collective that blocks do not have.
    """
    where = Place.of(machine, measured.ranks)
    done = [
        simulate_iteration(
            spans,
            starts_s=[row[number] for row in measured.starts_s],
            ends_s=[row[number] for row in measured.samples_s],
            place=where,
            element_bytes=dtype_bytes(measured.dtype),
        )
        for number, spans in enumerate(measured.spans)
    ]
    return TensorParallelSimulated(
        run=measured.run,
        method=measured.method,
        sequence_parallel=measured.sequence_parallel,
        backend=measured.backend,
        ranks=measured.ranks,
        samples_s=tuple(zip(*(ends_s for _, ends_s in done), strict=True)),
        spans=tuple(spans for spans, _ in done),
        machine={**machine.machine.figures(), "call_s": machine.call_s, "copy": machine.copy},
        engine=_ENGINE,
    )


def compare_tensor_parallel(
    measured: TensorParallelMeasured,
    simulated: TensorParallelSimulated,
    machine: NativeMachine,
    points: Sequence[Measured],
    *,
    max_error: float = MAX_ERROR,
) -> TensorParallelCompared:
    """Medians over iterations side by side, and what the calibration leaves of its own points."""
    return TensorParallelCompared(
        run=measured.run,
        method=measured.method,
        sequence_parallel=measured.sequence_parallel,
        backend=measured.backend,
        ranks=measured.ranks,
        measured_s=measured.exposed_s,
        spread_s=measured.spread_s,
        simulated_s=simulated.exposed_s,
        measured_step_s=measured.time_s,
        simulated_step_s=simulated.time_s,
        calibration=tuple((p.size_bytes, grouped_s(p), p.spread_s, machine.predict_s(p)) for p in points),
        max_error=max_error,
    )


def simulate_iteration(
    spans: IterationSpans,
    *,
    starts_s: Sequence[float],
    ends_s: Sequence[float],
    place: Place,
    element_bytes: int,
) -> tuple[IterationSpans, tuple[float, ...]]:
    """Spans of one iteration as simulated, and seconds that each rank took, each from its own start.

    Args:
        spans: as measured, in seconds since the rank's start. starts_s: of the ranks. ends_s: since their starts.
        place: where. element_bytes: of what is sent.
    """
    num_ranks = len(spans)
    build = _Builder(place, num_ranks, element_bytes)
    build.compute_each(starts_s)
    at = [0.0] * num_ranks  # until when each rank's own time is told
    for number, waits in _order(spans):
        first, last = (4, 5) if waits else (2, 3)
        calls = [rank[number] for rank in spans]
        build.compute_each([float(call[first]) - since for call, since in zip(calls, at, strict=True)])
        at = [float(call[last]) for call in calls]
        build.wait(number) if waits else build.call(number, calls[0][0], calls[0][1])
    build.compute_each([end - since for end, since in zip(ends_s, at, strict=True)])
    return build.run(spans, starts_s)


def _order(spans: IterationSpans) -> list[tuple[int, bool]]:
    """(number of the call, whether it is its wait) in the order in which every rank came to them.

    Raises:
        InputError: ranks differ.
    """
    orders = [
        [(number, waits) for _, number, waits in sorted(
            (span[4 if waits else 2], number, waits) for number, span in enumerate(rank) for waits in (False, True)
        )]
        for rank in spans
    ]  # fmt: skip
    kinds = [[(span[0], span[1]) for span in rank] for rank in spans]
    for rank, (order, kind) in enumerate(zip(orders, kinds, strict=True)):
        if order != orders[0] or kind != kinds[0]:
            raise InputError(f"rank {rank} called other collectives than rank 0, or in another order")
    return orders[0]


@dataclass(slots=True)
class _Builder:
    """Collects the program of one iteration, and which operations stand at the borders of its spans.

    Attributes:
        borders: per rank, numbers of the compute operations whose ends are the borders of its spans, call by call:
            begin, called, wait, end. finished: per call and rank, the operation that ends it.
    """

    place: Place
    num_ranks: int
    element_bytes: int
    program: ProgramBuilder = field(init=False)
    latest: list[int] = field(default_factory=list)
    borders: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    finished: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = ProgramBuilder(self.num_ranks)

    def compute(self, rank: int, duration_s: float, stream: str = _COMPUTE, after: tuple[int, ...] = ()) -> int:
        duration_ps = round(max(0.0, duration_s) * PS_PER_S)
        return self.program.compute(rank, duration_ps, stream=stream, after=after)

    def compute_each(self, durations_s: Sequence[float]) -> None:
        """Every rank computes."""
        self.latest = [self.compute(rank, duration_s) for rank, duration_s in enumerate(durations_s)]

    def call(self, number: int, collective: str, size_bytes: int) -> None:
        """Every rank hands over a collective, which goes on by itself."""
        if collective not in _COPIES:
            raise InputError(f"no twin of {collective}: blocks have {', '.join(_COPIES)}")
        copies = _COPIES[collective]

        def seconds_of(copied: tuple[int, int]) -> float:
            return (copied[0] + copied[1] / self.num_ranks) * size_bytes / self.place.machine.copy

        for rank, begin in enumerate(self.latest):
            called = self.compute(rank, self.place.machine.call_s + seconds_of(copies.call))
            self.borders[rank, number] = [begin, called]
            self.compute(rank, seconds_of(copies.first), _COLLECTIVE, (called,))
        group, elements = np.arange(self.num_ranks)[None, :], size_bytes // self.element_bytes
        self.program.communicate(Collective(collective, group, elements, self.element_bytes), stream=_COLLECTIVE)
        for rank in range(self.num_ranks):
            self.finished[number, rank] = self.compute(rank, seconds_of(copies.last), _COLLECTIVE)

    def wait(self, number: int) -> None:
        """Every rank waits for it."""
        for rank, begin in enumerate(self.latest):
            end = self.compute(rank, 0.0, _COMPUTE, (self.finished[number, rank],))
            self.borders[rank, number] += [begin, end]

    def run(self, spans: IterationSpans, starts_s: Sequence[float]) -> tuple[IterationSpans, tuple[float, ...]]:
        """Simulate; the last operation of each rank is its end."""
        done = simulate(self.program.build(), self.place.cluster, GlooLibrary(), Run(engine=_ENGINE))
        end_ps = done.ends_ps()

        def since_start(rank: int, number: int) -> float:
            return seconds(int(end_ps[number])) - starts_s[rank]

        found = tuple(
            tuple(
                (span[0], span[1], *(since_start(rank, border) for border in self.borders[rank, number]))
                for number, span in enumerate(row)
            )
            for rank, row in enumerate(spans)
        )
        return found, tuple(since_start(rank, last) for rank, last in enumerate(self.latest))  # type: ignore[return-value]
