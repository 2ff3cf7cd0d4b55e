# SPDX-License-Identifier: Apache-2.0
"""Simulate a training step on a fabric: plan -> program -> flows -> engine -> record."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from commbench.errors import InputError
from commbench.results.steps import SimulatedStep
from commbench.routing.routes import Routes, make_router
from commbench.sim.placing import place
from commbench.sim.scenario import Scenario
from commbench.sim.setting import Change
from commbench.sim.training import Fitted, Ran, fit, run_fitted
from commbench.topology.model import Topology
from commbench.topology.tree import Tree
from commbench.training.disturb import Disturbance, disturbance, jittered, rank_changes
from commbench.training.figures import (
    busiest_links,
    calls_of_kinds,
    critical_seconds,
    pass_spans,
    pipeline_bubble,
    time_by_kind,
)
from commbench.units import seconds
from commbench.workload.step import Step, build_step
from commbench.workload.step_plan import StepPlan
from commbench.workload.step_units import Folding

__all__ = ["MOST_OPERATIONS", "StepSimulation", "simulate_step"]

IntArray = npt.NDArray[np.int64]

MOST_OPERATIONS = 2_000_000
"""Of an unfolded program: a minute and 2 GiB or so. Above it, what is not symmetric is folded as an estimate."""
_SLOWING = ("tensor", "context", "expert", "data", "zero")  # what runs as kernels beside compute; copies do not


@dataclass(frozen=True, slots=True, eq=False)
class StepSimulation:
    """What came out: the record, and what it was made from."""

    record: SimulatedStep
    step: Step
    fitted: Fitted
    ran: Ran


def simulate_step(
    plan: StepPlan,
    fabric: Topology | Tree,
    *,
    routing: str | None = None,
    placement: str = "linear",
    seed: int = 0,
    engine: str = "compiled",
    slowdown: float = 1.0,
    scenario: Scenario | None = None,
    unfolded: bool = False,
) -> StepSimulation:
    """Simulate a step once.

    Args:
        plan: what is trained, and how.
        fabric: where; the plan's ranks sit on its endpoints.
        routing, placement, seed, engine: as for sim.collective.simulate.
        slowdown: how many times as long compute takes beside a collective at full speed.
        scenario: slow ranks, slower links; its jitter varies how long compute takes.
        unfolded: whether every rank is to be simulated by itself, symmetric or not.

    Raises:
        InputError: more ranks than endpoints, an unfolded program that is too large, or whatever does not fit.
    """
    began = time.perf_counter()
    placed = place(fabric, plan.degrees.num_ranks, placement, seed)
    router = make_router(fabric, routing, seed)
    disturbed = disturbance(scenario, fabric, placed) if scenario is not None else Disturbance()
    step, fitted, notes = _fitted(plan, router, placed, disturbed, unfolded)
    ran = run_fitted(
        fitted,
        engine=engine,
        slowdown=slowdown,
        slowing=calls_of_kinds(step, _SLOWING) if slowdown > 1 else (),
        durations_ps=jittered(step, disturbed.jitter, disturbed.seed) if disturbed.jitter else None,
        changes=rank_changes(disturbed, step),
    )
    where: dict[str, Any] = {"routing": router.policy.name, "placement": placement, "engine": engine, "seed": seed}
    record = _record(step, fitted, ran, notes, slowdown, disturbed.name, where, began)
    return StepSimulation(record, step, fitted, ran)


def _fitted(
    plan: StepPlan, router: Routes, placed: IntArray, disturbed: Disturbance, unfolded: bool
) -> tuple[Step, Fitted, list[str]]:
    """The program that is simulated, folded as far as no time changes by it, and what is to be said about it."""
    folding = Folding.apart(plan.degrees, disturbed.slow_ranks) if disturbed.slow_ranks else None
    links: Sequence[Change] = disturbed.links
    step = build_step(plan, folding)
    size = len(step.program.operations) * plan.degrees.num_ranks // step.units.num_units
    wanted = unfolded or bool(disturbed.jitter)
    if wanted and size > MOST_OPERATIONS:
        why = "--unfolded" if unfolded else "--jitter, by which every rank is its own"
        raise InputError(
            f"{why}: {plan.degrees.num_ranks:,} ranks would be {size:,} operations, more than {MOST_OPERATIONS:,}: "
            "give fewer microbatches or ranks"
        )
    fitted = fit(step.program, router, placed, links)
    notes = [f"ranks {', '.join(map(str, disturbed.slow_ranks))} are classes of their own"] if folding else []
    if not wanted and not fitted.uneven:
        return step, fitted, notes
    if not wanted and size > MOST_OPERATIONS:
        notes.append(
            f"an estimate: {len(fitted.uneven)} of {len(fitted.flows)} communications are not in symmetric positions "
            f"on {router.fabric.name} (first: {fitted.uneven[0]}); their groups advance at the pace of the slowest"
        )
        return step, fitted, notes
    if not wanted:
        notes.append(f"not folded: {fitted.uneven[0]} is not in symmetric positions on {router.fabric.name}")
    step = build_step(plan, Folding.none(plan.degrees))
    return step, fit(step.program, router, placed, links), notes


def _record(
    step: Step,
    fitted: Fitted,
    ran: Ran,
    notes: list[str],
    slowdown: float,
    scenario: str,
    where: dict[str, Any],
    began: float,
) -> SimulatedStep:
    iteration_s = seconds(ran.trace.finish_ps)
    bubble = pipeline_bubble(step, ran)
    time_s, exposed_s = time_by_kind(step, ran)
    memory = tuple(asdict(use) for use in step.plan.memory())
    return SimulatedStep(
        **_facts(step.plan),
        topology=fitted.router.fabric.name,
        slowdown=slowdown,
        iteration_s=iteration_s,
        bubble_of_ideal=bubble.of_ideal,
        bubble_of_total=bubble.of_total,
        time_s=time_s,
        exposed_s=exposed_s,
        critical_s=critical_seconds(step, ran),
        memory_bytes=max(memory, key=lambda one: sum(one.values())),
        memory_by_position=memory,
        busiest_links=tuple(busiest_links(fitted, iteration_s)),
        folded=step.units.words,
        notes=tuple(notes),
        scenario=scenario,
        operations=len(step.program.operations),
        positions=tuple(unit // step.units.per_position for unit in range(step.units.num_units)),
        spans=tuple(pass_spans(step, ran)),
        wall_s=time.perf_counter() - began,
        **where,
    )


def _facts(plan: StepPlan) -> dict[str, Any]:
    """What the record says of the plan."""
    matrix = plan.efficiency.matrix
    return {
        **{axis: getattr(plan.degrees, axis) for axis in ("tp", "cp", "ep", "dp", "pp")},
        "model": plan.model.name,
        "device": plan.device.name,
        "dtype": plan.dtype,
        "ranks": plan.degrees.num_ranks,
        "schedule": plan.schedule.name,
        "stages_per_rank": plan.schedule.num_stages // plan.degrees.pp,
        "microbatches": plan.schedule.num_microbatches,
        "micro_batch": plan.run.micro_batch,
        "global_batch": plan.global_batch,
        "sequence": plan.run.sequence,
        "zero": plan.zero,
        "recompute": plan.run.recompute,
        "sequence_parallel": plan.run.sequence_parallel,
        "attention": plan.run.attention,
        "efficiency": {
            "matrix": matrix if isinstance(matrix, float | int) else str(getattr(matrix, "place", "a table")),
            "attention": plan.efficiency.attention,
            "memory": plan.efficiency.memory,
        },
        "model_flops": plan.model_flops,
        "hardware_flops": plan.hardware_flops,
        "peak_flops": plan.device.peak(plan.dtype),
        "capacity_bytes": plan.device.memory_bytes,
    }
