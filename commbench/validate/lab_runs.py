# SPDX-License-Identifier: Apache-2.0
"""Measure legs in labs, point by point, into a journal that can be gone on with.

Small sizes are measured more often than large ones; a size that would take too long on its fabric is left out, and so
are all above it. A point that keeps the processors busy is measured once more at half the rate, and so on.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commbench.collectives.algorithm import Request
from commbench.collectives.registry import build, get_algorithm
from commbench.collectives.schedule import Schedule
from commbench.collectives.sizes import buffer_elements
from commbench.collectives.spec import get_collective
from commbench.emulate.plan import TestbedPlan, degraded, plan_testbed, scaled
from commbench.emulate.tables import equal_cost, single_path
from commbench.results.journal import Journal, read_records
from commbench.results.records import Measured
from commbench.results.run_id import new_run_id
from commbench.routing.policies import get_policy
from commbench.routing.router import Router
from commbench.topology.load import load_fabric
from commbench.units import parse_bandwidth
from commbench.validate.legs import NATIVE, EmulatedFabric, Leg, by_fabric, told_of

if TYPE_CHECKING:
    from commbench.emulate.testbed import LinkCounters, Testbed
    from commbench.emulate.worker_pool import WorkerPool
    from commbench.live.plan import Plan

__all__ = [
    "LEAST_IDLE",
    "LONGEST_S",
    "idle_of",
    "is_busy",
    "lab_plan_of",
    "leg_of",
    "measure_in_labs",
    "routes_seen",
    "schedule_of",
]

LONGEST_S = 4.5
"""Of one iteration; what would take longer is left out."""

LEAST_IDLE = 0.5
"""Part of the processors' time that must be left for a point to be of use: else it tells of them, not of links."""

_SLOWEST_MBIT = 5.0  # that a rate is lowered to
_ELEMENT_BYTES = 4  # float32
_FIRST_GUESS_S = 0.05
_SPARE_S = 60.0
_ROUNDS = 3
"""Sets of connections that a point is measured on where ports have one queue for all: which of several connections gets
more of a queue is decided when they are new, and stands as long as they do."""


def lab_plan_of(fabric: EmulatedFabric) -> TestbedPlan:
    """The lab of a fabric, at its rates, those of degraded links among them."""
    topology = load_fabric(fabric.topology)
    ecmp = get_policy(fabric.routing).hashed
    tables = equal_cost(topology) if ecmp else single_path(topology, partial(Router, policy=fabric.routing))
    plan = plan_testbed(topology, tables, routing=fabric.routing, num_background=len(fabric.background))
    return degraded(scaled(plan, parse_bandwidth(f"{fabric.rate_mbit:g} Mbit/s")), fabric.degraded)


def schedule_of(
    collective: str, algorithm: str, num_ranks: int, size_bytes: int, *, channels: int = 1, group: int = 1
) -> tuple[Schedule, int]:
    """What is sent, and in how many slices; "native" is what gloo itself sends (docs/gloo.md)."""
    chosen = get_algorithm(collective, "gloo" if algorithm == NATIVE else algorithm)
    request = Request(
        num_ranks=num_ranks,
        slices=chosen.default_slices,
        channels=channels,
        group=group,
        num_elements=buffer_elements(get_collective(collective), num_ranks, size_bytes // _ELEMENT_BYTES),
        element_bytes=_ELEMENT_BYTES,
    )
    return build(chosen, request), chosen.default_slices


@cache
def _invocation() -> str:
    """What all runs of this campaign have in their identifier."""
    return new_run_id()


def leg_of(record: Measured) -> str:
    """Name of the leg that a record was measured for, "" if for none."""
    return str(record.environment.get("emulated", {}).get("leg", ""))


def idle_of(record: Measured) -> float | None:
    """Part of the processors' time that was left; None in records from before it was told."""
    idle: float | None = record.environment["emulated"].get("idle")
    return idle


def is_busy(record: Measured) -> bool:
    """Whether less than :data:`LEAST_IDLE` was left."""
    idle = idle_of(record)
    return idle is not None and idle < LEAST_IDLE


def measure_in_labs(legs: Iterable[Leg], out: Path, *, tell: Callable[[str], None]) -> list[Measured]:
    """Measure what ``out`` does not hold yet; each point is there as soon as it is done. Returns all that it holds.

    Points of busy processors are measured at lower rates too.

    Raises:
        RunError: the kernel refused a lab, a rank failed, or a background flow ended.
    """
    legs, done = list(legs), _done(out)
    for fabric, here in by_fabric(legs).items():
        todo = [leg for leg in here if not _complete(leg, done)]
        if not todo:
            continue
        began = time.monotonic()
        _measure_fabric(fabric, todo, done, out, tell)
        tell(f"{fabric.label} at {fabric.rate_mbit:g} Mbit/s: {time.monotonic() - began:.0f} s")
    found = [r for r in read_records(out) if isinstance(r, Measured) and leg_of(r)]
    slower = _slower(legs, found)
    return measure_in_labs(slower, out, tell=tell) if slower else found


def _slower(legs: Iterable[Leg], found: Iterable[Measured]) -> list[Leg]:
    """The legs at half their rates, with those sizes that kept the processors busy."""
    busy = {(leg_of(r), r.environment["emulated"]["size_asked"]) for r in found if is_busy(r)}
    slower = []
    for leg in legs:
        sizes = tuple(size for size in leg.sizes_bytes if (leg.name, size) in busy)
        if sizes and leg.fabric.rate_mbit / 2 >= _SLOWEST_MBIT:
            fabric = replace(leg.fabric, rate_mbit=leg.fabric.rate_mbit / 2)
            slower.append(replace(leg, fabric=fabric, sizes_bytes=sizes))
    return slower


def _done(out: Path) -> dict[tuple[str, int], float]:
    """(leg, nominal size) -> seconds of one iteration."""
    if not out.exists():
        return {}
    records = (r for r in read_records(out) if isinstance(r, Measured))
    return {(leg_of(r), r.environment["emulated"]["size_asked"]): r.time_s for r in records}


def _complete(leg: Leg, done: dict[tuple[str, int], float]) -> bool:
    return _next_size(leg, done) is None


def _next_size(leg: Leg, done: dict[tuple[str, int], float]) -> tuple[int, float] | None:
    """The first size that is left to measure, and about how long it will take."""
    guess = _FIRST_GUESS_S
    for i, size in enumerate(leg.sizes_bytes):
        if i:
            guess = done[leg.name, leg.sizes_bytes[i - 1]] * size / leg.sizes_bytes[i - 1]
        if guess > LONGEST_S:
            return None
        if (leg.name, size) not in done:
            return size, guess
    return None


def _measure_fabric(
    fabric: EmulatedFabric,
    legs: Sequence[Leg],
    done: dict[tuple[str, int], float],
    out: Path,
    tell: Callable[[str], None],
) -> None:
    from commbench.emulate.kernel import PortShaping
    from commbench.emulate.testbed import Testbed
    from commbench.emulate.worker_pool import WorkerPool

    shaping = PortShaping(fair=fabric.fair)
    ranks = sorted({rank for leg in legs for job in leg.jobs for rank in job})
    with Testbed(lab_plan_of(fabric), shaping=shaping) as lab, WorkerPool(lab, ranks) as crew:
        for plane, ends in enumerate(fabric.background, 1):
            lab.start_flow(*ends, num_bytes=0, plane=plane)
        for leg in legs:
            while (wanted := _next_size(leg, done)) is not None:
                size, guess = wanted
                records = _measure(leg, size, guess, lab, crew)
                lab.require_flows()
                for record in records:
                    Journal(out).append(record)
                    done[leg.name, size] = record.time_s
                tell(f"{leg.name}, {size} B: {' and '.join(f'{r.time_s:.4g} s' for r in records)}")
        for (src, dst), count in lab.dropped().items():
            tell(f"warning: {count} packets were lost on {src} -> {dst} for want of room")


def _measure(leg: Leg, size: int, guess: float, lab: "Testbed", crew: "WorkerPool") -> list[Measured]:
    """One point: a record for each job."""
    from commbench.emulate.worker_pool import Task

    before = lab.link_counters() if get_policy(leg.fabric.routing).hashed else []
    tasks = [Task(_plan(leg, number, size, guess, lab), job) for number, job in enumerate(leg.jobs)]
    rounds = 1 if leg.fabric.fair else _ROUNDS
    found = [crew.run(tasks, _SPARE_S + 20 * guess) for _ in range(rounds)]
    records = [_joined(parts) for job in zip(*found, strict=True) for parts in zip(*job, strict=True)]
    if not get_policy(leg.fabric.routing).hashed:
        return records
    routes = routes_seen(before, lab.link_counters())
    return [_with_facts(record, routes=routes) for record in records]


def _plan(leg: Leg, number: int, size: int, guess: float, lab: "Testbed") -> "Plan":
    from commbench.live.plan import Plan, rounded_sizes

    ranks = len(leg.jobs[number])
    [rounded] = rounded_sizes(get_collective(leg.collective), ranks, (size,), _ELEMENT_BYTES)
    schedule, slices = None, 1
    if leg.algorithm != NATIVE:
        schedule, slices = schedule_of(
            leg.collective, leg.algorithm, ranks, rounded, channels=leg.channels, group=leg.group
        )
    facts = {
        "leg": leg.name,
        "topology": leg.fabric.topology,  # as it can be loaded again: a name or a path
        "jobs": [list(job) for job in leg.jobs],
        "job": number,
        "hosts": list(leg.jobs[number]),
        "channels": leg.channels,
        "group": leg.group,
        "size_asked": size,
        "rate_mbit": leg.fabric.rate_mbit,
    } | told_of(leg.fabric)
    return Plan(
        collective=leg.collective,
        ranks=ranks,
        sizes_bytes=(rounded,),
        out=Path("records.jsonl"),  # the worker pool puts another one in its place
        run=f"{_invocation()} {leg.name}" + (f", job {number}" if len(leg.jobs) > 1 else ""),
        schedule=schedule,
        slices=slices,
        backend="gloo",
        iters=_iterations(guess, leg.fabric.fair),
        warmup=1 if guess < 1.5 or not leg.fabric.fair else 0,
        check=guess < 0.3,
        facts={"emulated": lab.describe() | facts},
    )


def _iterations(guess: float, fair: bool) -> int:
    """Of a point that may take so many seconds each, on each set of connections."""
    if fair:
        return 7 if guess < 0.3 else 3
    return 3 if guess < 0.3 else 1


def _joined(parts: Sequence[Measured]) -> Measured:
    """One record of the same point on several sets of connections."""
    last = parts[-1]
    samples, warmup = (
        tuple(tuple(chain.from_iterable(getattr(part, name)[rank] for part in parts)) for rank in range(last.ranks))
        for name in ("samples_s", "warmup_s")
    )
    wrong = None if last.wrong is None else sum(part.wrong or 0 for part in parts)
    return replace(last, samples_s=samples, warmup_s=warmup, wrong=wrong)


def _with_facts(record: Measured, **facts: Any) -> Measured:
    emulated = record.environment["emulated"] | facts
    return replace(record, environment={**record.environment, "emulated": emulated})


def routes_seen(before: "Iterable[LinkCounters]", after: "Iterable[LinkCounters]") -> dict[str, str]:
    """ "NIC NIC" -> the switches that most of their traffic went by in between, in order: what the hash chose."""
    earlier = {(c.src, c.dst, c.pair): c.num_bytes for c in before}
    hops: dict[tuple[str, str], dict[str, tuple[int, str]]] = {}
    for c in after:
        grown = c.num_bytes - earlier.get((c.src, c.dst, c.pair), 0)
        if grown > hops.setdefault(c.pair, {}).get(c.src, (0, ""))[0]:
            hops[c.pair][c.src] = grown, c.dst
    found = {}
    for (src, dst), ways in hops.items():
        path, node = [], src
        while node != dst and node in ways:
            node = ways[node][1]
            path.append(node)
        if node == dst:
            found[f"{src} {dst}"] = " ".join(path[:-1])
    return found
