# SPDX-License-Identifier: Apache-2.0
"""Made-up records that look like real ones, and real simulations of small fabrics."""

import dataclasses
import random
from collections.abc import Sequence

from commbench.results.records import Compared, Measured, Record, Simulated, Summary
from commbench.sim.collective import Simulation
from commbench.topology.load import load_fabric
from commbench.topology.model import Provenance, Quantity
from tests.cases import simulate_collective

KIB, MIB = 2**10, 2**20
SIZES = tuple(16 * KIB * 4**k for k in range(7))  # 16 KiB .. 64 MiB
ALGORITHMS = ("ring", "double-binary-tree")
ENVIRONMENT = {
    "hostname": "lab-03",
    "platform": "Linux x86_64",
    "kernel": "6.8.0-45-generic",
    "cpu_model": "AMD EPYC 7713P 64-Core Processor",
    "cores_usable": 8,
    "cpu_quota": None,
    "memory_bytes": 33_554_432_000,
    "load_1min": 0.42,
    "python": "3.11.7",
    "commbench": "0.1.0",
    "variables": {"GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"},
    "torch": "2.13.0+cpu",
    "torch_threads": 1,
    "hosts": ["lab-03"] * 4,
}
CALIBRATION = {
    "message_overhead": Quantity("11.2 us", Provenance.FITTED, "least squares on 6 fit points, ring, 4 ranks"),
    "reduction": Quantity("0.19 ns/B", Provenance.MEASURED, "float32 sum of 64 MiB on one core, median of 20"),
}
COMMAND = "commbench report runs/ring.jsonl runs/tree.jsonl --topology shared-memory-4 --out report.html"


def measured(
    algorithm: str = "ring", size: int = MIB, *, true_s: float = 1e-3, ranks: int = 4, seed: int = 0, **changes: object
) -> Measured:
    """20 iterations of ``ranks`` ranks with skewed noise around ``true_s``."""
    noise = random.Random(f"{algorithm} {size} {ranks} {seed}")

    def row(count: int) -> tuple[float, ...]:
        return tuple(true_s * (1 + abs(noise.gauss(0, 0.035)) + 0.3 * (noise.random() < 0.02)) for _ in range(count))

    fields: dict[str, object] = {
        "run": f"20260728-091500-{algorithm}",
        "collective": "all-reduce",
        "algorithm": algorithm,
        "backend": "gloo",
        "ranks": ranks,
        "size_bytes": size,
        "num_elements": size // 4,
        "dtype": "float32",
        "op": "sum",
        "samples_s": tuple(row(20) for _ in range(ranks)),
        "warmup_s": tuple(row(5) for _ in range(ranks)),
        "busbw_factor": 2 * (ranks - 1) / ranks,
        "timing": "isolated",
        "launcher": "commbench",
        "started_at": f"2026-07-28T09:{15 + SIZES.index(size) if size in SIZES else 15:02}:00+00:00",
        "wrong": 0,
        "environment": ENVIRONMENT,
    }
    return Measured(**(fields | changes))  # type: ignore[arg-type]


def simulation(
    topology: str = "shared-memory-4", algorithm: str = "ring", size: int = MIB, **options: object
) -> Simulation:
    """One real simulation."""
    return simulate_collective(load_fabric(topology), "all-reduce", algorithm, size, **options)  # type: ignore[arg-type]


def simulated_records(topology: str = "shared-memory-4", algorithms: Sequence[str] = ALGORITHMS) -> list[Simulated]:
    """A sweep; the engine's own run time is fixed, so that a page of it is the same every time."""
    records = [simulation(topology, algorithm, size).record for algorithm in algorithms for size in SIZES]
    return [dataclasses.replace(record, wall_s=0.0125) for record in records]


def measured_records() -> list[Measured]:
    """What a machine a little slower than the simulated one would have given."""
    wobble = random.Random(7)
    return [
        measured(
            record.algorithm,
            record.size_bytes,
            true_s=record.time_s * (0.94 + 0.1 * wobble.random()),
            slices=record.slices,
        )
        for record in simulated_records()
    ]


def compared_records(measurements: Sequence[Measured], simulations: Sequence[Simulated]) -> list[Compared]:
    """Each measurement beside its simulation; every third point was for the fit."""
    by_key = {(s.algorithm, s.size_bytes): s for s in simulations}
    points = []
    for i, m in enumerate(measurements):
        s = by_key[m.algorithm, m.size_bytes]
        points.append(
            Compared(
                collective=m.collective,
                algorithm=m.algorithm,
                backend=m.backend,
                ranks=m.ranks,
                size_bytes=m.size_bytes,
                slices=m.slices,
                measured_s=m.time_s,
                spread_s=m.spread_s,
                simulated_s=s.time_s,
                set="fit" if i % 3 == 0 else "test",
                region="latency" if m.size_bytes <= 64 * KIB else "knee",
                busbw_factor=m.busbw_factor,
                topology=s.topology,
            )
        )
    return points


def summary(ok: bool = True) -> Summary:
    """The end of a validation with three groupings."""

    def figures(points: int, median: float) -> dict[str, float]:
        return {
            "points": points,
            "median_abs_error": median,
            "median_error": -median / 2,
            "p95_abs_error": 2.4 * median,
        }

    return Summary(
        points=9,
        median_abs_error=0.041,
        p95_abs_error=0.112,
        max_median_abs_error=0.05 if ok else 0.03,
        max_p95_abs_error=0.15 if ok else 0.10,
        ok=ok,
        groups={
            "fabric": {"shared-memory-4": figures(9, 0.041)},
            "algorithm": {"ring": figures(4, 0.038), "double-binary-tree": figures(5, 0.047)},
            "region": {"latency": figures(3, 0.062), "knee": figures(6, 0.033)},
        },
    )


def everything(ok: bool = True) -> list[Record]:
    """A whole validation: measured, simulated, compared, summary."""
    m, s = measured_records(), simulated_records()
    return [*m, *s, *compared_records(m, s), summary(ok)]
