# SPDX-License-Identifier: Apache-2.0
"""The library that decides how the collectives of a step go, and how long they take."""

from typing import TYPE_CHECKING

from commbench.cluster import Cluster
from commbench.errors import InputError
from commbench.experiments.library_choice import IDEAL, named_library
from commbench.experiments.simulated import CollectiveOptions
from commbench.experiments.step_given import StepOptions
from commbench.libraries.base import Library
from commbench.libraries.ideal import Ideal
from commbench.training.link_curve import LinkCurve, hosts_of, kinds_of
from commbench.training.nccl_in_step import NcclInStep

if TYPE_CHECKING:
    from commbench.workload.step_costs import StepCosts
    from commbench.workload.step_plan import StepPlan

__all__ = ["ideal_of_steps", "library_of_step"]

_LINE = "collectives: library ideal, rings at line rate"


def ideal_of_steps(ring: str = "ring") -> Ideal:
    """The ideal library as steps take it: rings, as many channels as a host has ranks, and everything at once."""
    rings = dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), ring)
    return Ideal(algorithms={**rings, "all-to-all": "direct"}, channels=None)


def library_of_step(
    options: StepOptions, plan: "StepPlan", cluster: Cluster, costs: "StepCosts"
) -> tuple[Library, str]:
    """The library, and in words who priced the collectives.

    Raises:
        InputError: an unknown library, one that does not go with the topology, or options of one beside another.
    """
    name = options.library or IDEAL
    asked = CollectiveOptions(
        collective="all-reduce", topology=cluster.fabric.name, library=name, nccl_version=options.nccl_version,
        dtype={"bf16": "bfloat16", "fp16": "float16"}.get(plan.dtype, "bfloat16"),
    )  # fmt: skip
    modelled = named_library(asked, cluster)
    kinds = [] if plan.stack is None else [kind for kind in kinds_of(cluster.fabric) if kind]
    if modelled is not None:
        if options.ring is not None:
            raise InputError(f"--ring goes with --library ideal: {name} chooses by itself")
        version = f" {modelled.version}" if name == "nccl" else ""
        line = f"collectives: library {name}{version}, by its model"
        if not kinds:
            return modelled, f"{line}, as if nothing else ran; transfers between stages at line rate"
        found = NcclInStep.of_plan(plan, hosts_of(cluster.fabric, costs), modelled)
        return found, f"{line} and what links lose in steps: {_words(costs, kinds, _LOST)}"
    ideal = ideal_of_steps(options.ring or "ring")
    if plan.stack is None:
        return ideal, _LINE
    words = _words(costs, kinds, _REACHED) or "no constants, so line rate"
    hosts, between = hosts_of(cluster.fabric, costs), kinds_of(cluster.fabric)[1]
    if hosts.shared_nics and between:
        words += f"; {between} where a host's GPUs are beside different NICs: {costs.words('links', between, _FAR)}"
    curve = LinkCurve.of_plan(plan, hosts, ideal)
    return curve, f"collectives: library ideal, at what links reach in steps: {words}"


_REACHED = ("share", "half_bytes", "latency_s", "transfer")
_FAR = ("far_nics",)
_LOST = ("nccl_share", "nccl_wait_s", "transfer")


def _words(costs: "StepCosts", kinds: list[str], which: tuple[str, ...]) -> str:
    return "; ".join(f"{kind} {costs.words('links', kind, which)}" for kind in kinds)
