# SPDX-License-Identifier: Apache-2.0
"""Simulate a training step on a fabric: plan -> program -> flows -> engine -> record."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from commbench.cluster import Cluster
from commbench.door import Result, simulate
from commbench.engine.engines import Run
from commbench.libraries.base import Library
from commbench.lowering.bind import Slowing
from commbench.lowering.choose import Choices
from commbench.lowering.perturb import Perturbation, perturbation
from commbench.lowering.scenario import Scenario
from commbench.results.steps import SimulatedStep
from commbench.training.figures import (
    busiest_links,
    communications_of,
    critical_seconds,
    pass_spans,
    pipeline_bubble,
    time_by_kind,
)
from commbench.training.fitting import remedy
from commbench.training.folding import fold_step
from commbench.training.notes import full_notes, host_notes, notes_of
from commbench.units import seconds
from commbench.workload.step import Step
from commbench.workload.step_plan import StepPlan

__all__ = ["StepSimulation", "simulate_step"]

_SLOWING = ("tensor", "context", "expert", "data", "zero")  # what runs as kernels beside compute; copies do not


def _beside(plan: StepPlan, slowdown: float | None) -> dict[str, Slowing]:
    """By purpose, how far compute and communication slow each other: the one number given, or the stack's.

    A stack's share h of hidden communication that comes on top means that both take 1 + h times as long.
    """
    if slowdown is not None or plan.stack is None:
        return dict.fromkeys(_SLOWING, Slowing(slowdown or 1.0))
    stack = plan.stack
    shares = {
        "tensor": stack.hidden_tensor,
        "context": stack.hidden_tensor,
        "expert": stack.hidden_tensor,
        "data": stack.hidden_data,
        "zero": stack.hidden_sharded if plan.zero == 3 else stack.hidden_data,
    }
    return {purpose: Slowing(1 + share, 1 + share) for purpose, share in shares.items()}


@dataclass(frozen=True, slots=True, eq=False)
class StepSimulation:
    """What came out: the record, and what it was made from."""

    record: SimulatedStep
    step: Step
    ran: Result


def simulate_step(
    plan: StepPlan,
    cluster: Cluster,
    library: Library,
    *,
    engine: str = "compiled",
    slowdown: float | None = None,
    scenario: Scenario | None = None,
    unfolded: bool = False,
    margin_bytes: int = 0,
    run_id: str = "",
) -> StepSimulation:
    """Simulate a step once.

    Args:
        plan: what is trained, and how.
        cluster: where; the plan's ranks are its ranks. library: who decides how collectives go.
        engine: "compiled" or "reference".
        slowdown: how many times as long compute takes beside a collective at full speed; None: as long as the stack
            says, and collectives beside compute too.
        scenario: slow ranks, slower links; its jitter varies how long compute takes.
        unfolded: whether every rank is to be simulated by itself, symmetric or not.
        margin_bytes: of a device's memory, that the step cannot have.
        run_id: identifies the invocation in the record.

    Raises:
        InputError: more ranks than endpoints, an unfolded program that is too large, or whatever does not fit.
    """
    began = time.perf_counter()
    perturbed = perturbation(scenario, cluster, step=True) if scenario is not None else Perturbation()
    choices = Choices(library, cluster.fabric.name)
    folded = fold_step(plan, cluster, choices, perturbed, unfolded=unfolded)
    step, beside = folded.step, _beside(plan, slowdown)
    ran = simulate(
        folded.bound,
        cluster,
        library,
        Run(engine=engine, detail="collective"),
        scenario=perturbed,
        slowing={number: how for purpose, how in beside.items() for number in communications_of(step, (purpose,))},
    )
    where: dict[str, Any] = {
        "run": run_id,
        "routing": cluster.router.policy.name,
        "placement": cluster.placement,
        "engine": engine,
        "seed": cluster.router.seed,
        "scenario": perturbed.name,
        "scenario_digest": perturbed.digest,
        "jitter": perturbed.jitter,
        "library": library.name,
        "settings": _settings(plan, choices),
        "slowdown": max(how.compute for how in beside.values()),
        "margin_bytes": margin_bytes,
        "remedy": remedy(plan, margin_bytes),
    }
    notes = [*plan.remarks, *host_notes(plan), *full_notes(plan, margin_bytes), *notes_of(folded, ran, perturbed)]
    record = _record(step, ran, notes, where, began)
    return StepSimulation(record, step, ran)


def _record(
    step: Step,
    ran: Result,
    notes: list[str],
    where: dict[str, Any],
    began: float,
) -> SimulatedStep:
    assert ran.bound is not None
    iteration_s, bound = seconds(ran.trace.finish_ps), ran.bound
    bubble = pipeline_bubble(step, ran)
    time_s, exposed_s = time_by_kind(step, ran)
    memory = tuple(asdict(use) for use in step.plan.memory())
    return SimulatedStep(
        **_facts(step.plan),
        topology=ran.cluster.fabric.name,
        iteration_s=iteration_s,
        bubble_of_ideal=bubble.of_ideal,
        bubble_of_total=bubble.of_total,
        bubble_of_span=bubble.of_span,
        time_s=time_s,
        exposed_s=exposed_s,
        critical_s=critical_seconds(step, ran),
        memory_bytes=max(memory, key=lambda one: sum(one.values())),
        memory_by_position=memory,
        busiest_links=tuple(busiest_links(bound, iteration_s)),
        folded=step.units.words,
        notes=tuple(notes),
        operations=step.program.num_operations,
        positions=tuple(unit // step.units.per_position for unit in range(step.units.num_units)),
        spans=tuple(pass_spans(step, ran)),
        wall_s=time.perf_counter() - began,
        **where,
    )


def _settings(plan: StepPlan, choices: Choices) -> dict[str, Any]:
    """What else was chosen, by whom ever."""
    version, load = getattr(choices.library, "version", ""), plan.run.expert_load
    return {
        "layers": list(plan.layers),
        "flash": plan.run.flash,
        "precision": plan.precision.name,
        "bucket": plan.bucket_bytes,
        "overlap_tensor": plan.overlap_tensor,
        "scatter_gather": plan.scatter_gather,
        "overlap_gradients": plan.overlap_gradients,
        **({"overlap_parameters": True} if plan.overlap_parameters else {}),
        "zero_group": plan.zero_group,
        "algorithms": choices.names,
        **({"gradient_ratio": plan.gradient_ratio} if plan.gradient_ratio < 1 else {}),
        **({"stale_gradients": True} if plan.stale_gradients else {}),
        **({"context": plan.run.context} if plan.run.cp > 1 else {}),
        **({"expert_capacity": load.capacity} if load.capacity else {}),
        **({"expert_imbalance": load.imbalance} if load.imbalance > 1 else {}),
        **_offloaded(plan),
        **({"launch_blocking": True} if plan.launch_blocking else {}),
        **({"version": version} if version else {}),
    }


def _offloaded(plan: StepPlan) -> dict[str, Any]:
    """What lies in host memory, its bytes on the rank that has most there, and what that goes over."""
    if plan.offload is None:
        return {}
    found = plan.host_memory()
    return {
        "offload": " and ".join(found),
        "offload_bandwidth": plan.offload.link_bytes_per_s,
        "host_bytes": sum(found.values()),
        **({"host_adam": plan.offload.adam_per_s * plan.offload.host_ranks} if plan.offload.optimizer else {}),
    }


def _facts(plan: StepPlan) -> dict[str, Any]:
    """What the record says of the plan."""
    matrix, attention = plan.efficiency.matrix, plan.efficiency.attention
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
            "matrix": _share(matrix, "place"),
            "attention": _share(attention, "generation"),
            "memory": plan.efficiency.memory,
        },
        "model_flops": plan.model_flops,
        "hardware_flops": plan.hardware_flops,
        "peak_flops": plan.device.peak(plan.dtype),
        "capacity_bytes": plan.device.memory_bytes,
    }


def _share(efficiency: Any, name: str) -> float | str:
    """An efficiency for the record: the number, or what the table or kernel calls itself."""
    return efficiency if isinstance(efficiency, float | int) else str(getattr(efficiency, name, "a table"))
