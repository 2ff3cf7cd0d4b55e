# SPDX-License-Identifier: Apache-2.0
"""Tensor-parallel blocks and all-reduces alone that nobody measured: as a known machine would have given them."""

from collections.abc import Sequence
from dataclasses import replace

from commbench.calibrate.machine import Machine
from commbench.calibrate.native import NativeMachine
from commbench.results.records import Measured
from commbench.results.spans import IterationSpans
from commbench.results.tensor_parallel_records import CollectiveCount, TensorParallelMeasured
from commbench.validate.tensor_parallel import Place, simulate_iteration

__all__ = ["MEBI", "TRUTH", "alone", "as_the_machine_has_it", "block", "spans_of"]

MEBI = 2**20
TRUTH = NativeMachine(
    machine=Machine(
        name="truth", cores=2, message_overhead_s=0.0, latency_s=1e-3, bandwidth=4e9, reduction=10e9, source="made up"
    ),
    call_s=5e-4,
    copy=10e9,
)


def alone(size_bytes: int, ranks: int = 2, machine: NativeMachine = TRUTH, waits_s: Sequence[float] = ()) -> Measured:
    """All-reduces alone as the machine says, four calls; rank 0 waits for the others as long as ``waits_s`` says."""
    waits = tuple(waits_s) or (0.0,) * 4
    never, each = (0.0,) * len(waits), lambda seconds: ((seconds,) * len(waits),) * ranks
    blank = Measured(
        run="r", collective="all-reduce", algorithm="native", backend="gloo", ranks=ranks, size_bytes=size_bytes,
        num_elements=size_bytes // 4, dtype="float32", op="sum", samples_s=each(1.0),
        busbw_factor=2 * (ranks - 1) / ranks, timing="isolated", launcher="commbench", wrong=0,
        started_at="2026-01-01T00:00:00+00:00",
        phases_s={
            "wait": (waits, *(never for _ in range(ranks - 1))),
            "call": each(machine.call_s + size_bytes / machine.copy), "copy": each(size_bytes / machine.copy),
        },
        environment={"hostname": "truth", "cores_usable": 2},
    )  # fmt: skip
    return replace(blank, samples_s=each(machine.predict_s(blank)))


def spans_of(
    calls: Sequence[tuple[str, int]], gaps_s: Sequence[float], *, overlap_s: float = 0.0
) -> tuple[tuple[str, int, float, float, float, float], ...]:
    """Calls of one rank: before each it computes as long as ``gaps_s`` says, and ``overlap_s`` while it is under way;
    that they take 1 ms each is what a twin must not look at."""
    at, found = 0.0, []
    for (collective, size_bytes), gap_s in zip(calls, gaps_s, strict=True):
        begin = at + gap_s
        wait = begin + 5e-4 + overlap_s
        found.append((collective, size_bytes, begin, begin + 5e-4, wait, wait + 5e-4))
        at = wait + 5e-4
    return tuple(found)


def block(
    iterations: Sequence[IterationSpans], *, starts_s: Sequence[float] = (), tail_s: float = 0.0
) -> TensorParallelMeasured:
    """A measured block with these spans; each rank computes for ``tail_s`` behind its last call."""
    ranks, spans = len(iterations[0]), iterations[0][0]
    starts = tuple(starts_s) or (0.0,) * ranks
    return TensorParallelMeasured(
        run="r", method="hand", sequence_parallel=False, backend="gloo", ranks=ranks, hidden=8, heads=4, ffn=32,
        sequence=4, micro_batch=1, dtype="float32",
        counts=(CollectiveCount(collective="all-reduce", calls=len(spans), size_bytes=512, busbw_factor=1.0),),
        formula_bytes_times_ranks=512 * ranks, clock="shared", spans=tuple(iterations),
        samples_s=tuple(tuple(each[rank][-1][5] + tail_s for each in iterations) for rank in range(ranks)),
        starts_s=tuple((start,) * len(iterations) for start in starts),
        largest_error=1e-15, tolerance=1e-12, launcher="commbench", started_at="2026-01-01T00:00:00+00:00",
        environment={"hostname": "truth", "cores_usable": 2},
    )  # fmt: skip


def as_the_machine_has_it(measured: TensorParallelMeasured, machine: NativeMachine = TRUTH) -> TensorParallelMeasured:
    """The same block with spans that the machine would have given."""
    done = [
        simulate_iteration(
            spans, starts_s=[row[i] for row in measured.starts_s], ends_s=[row[i] for row in measured.samples_s],
            place=Place.of(machine, measured.ranks), element_bytes=4,
        )
        for i, spans in enumerate(measured.spans)
    ]  # fmt: skip
    return replace(
        measured,
        spans=tuple(spans for spans, _ in done),
        samples_s=tuple(zip(*(ends for _, ends in done), strict=True)),
    )
