# SPDX-License-Identifier: Apache-2.0
"""From the options of ``sim train`` to a plan, and its simulation."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from commbench.errors import InputError
from commbench.experiments.step_given import MOST, StepOptions
from commbench.experiments.step_plan_of import model_numbers, plan_of, size_of, step_costs

if TYPE_CHECKING:
    from commbench.cluster import Cluster
    from commbench.libraries.base import Library
    from commbench.results.steps import SimulatedStep
    from commbench.topology.fabric import Fabric
    from commbench.workload.step_plan import StepPlan

__all__ = ["StepSetting", "check_bounds", "simulate_options", "step_setting"]

_HOW_TO_GIVE = {
    "model": "name a preset, for example --model gpt3-175b",
    "topology": "name one of `commbench topology list`, or a path",
    "microbatch": "sequences that a pipeline handles at a time",
    "global_batch": "sequences of a step over all ranks",
    "device": "what computes, where the topology does not name it, for example --device h100-sxm5-80gb",
    "matrix_efficiency": "the share of the device's peak FLOP/s that products with weights reach, or --gemm-table FILE "
    "of measured products (`commbench run gemm`)",
    "attention_efficiency": "the share of the device's peak FLOP/s that attention cores reach",
    "memory_efficiency": "the share of the device's memory bandwidth that norms, sums and the optimizer reach",
}


def _check_given(options: StepOptions, device: str) -> None:
    """Raise for everything at once that must be given and is not, with a command that works; ``device``: the hosts'."""
    there = {name for name in _HOW_TO_GIVE if getattr(options, name) is not None}
    if model_numbers(options):
        there.add("model")
    if device:
        there.add("device")
    if options.gemm_table is not None:
        there.add("matrix_efficiency")
    if options.assume_efficiencies or _has_costs(options, device):
        there.update(name for name in _HOW_TO_GIVE if name.endswith("_efficiency"))
    missing = [name for name in _HOW_TO_GIVE if name not in there]
    if not missing:
        return
    words = "; ".join(f"--{name.replace('_', '-')} is missing: {_HOW_TO_GIVE[name]}" for name in missing)
    if len(missing) > 2:
        words = f"{', '.join('--' + name.replace('_', '-') for name in missing)} are missing"
    usual = ""
    if any(name.endswith("_efficiency") for name in missing):
        usual = "; --assume-efficiencies takes usual ones, marked as assumed"
    raise InputError(f"{words}{usual}. A command that works: {_EXAMPLE}")


def _has_costs(options: StepOptions, device: str) -> bool:
    """Whether constants of training steps are known of the device that computes."""
    name = options.device or device
    return bool(name) and step_costs(options).device_key(name) is not None


_EXAMPLE = (
    "commbench sim train --model gpt3-1.3b --topology dgx-h100 --tp 2 --dp 4 --microbatch 1 --global-batch 32 "
    "--device h100-sxm5-80gb --assume-efficiencies"
)


def check_bounds(options: StepOptions) -> None:
    """Raise for a count outside its bounds, before anything is made of it."""
    for name, most in (*MOST.items(), ("seed", 2**63 - 1)):
        value, least = getattr(options, name), 0 if name == "seed" else 1
        if value is not None and not least <= value <= most:
            shown = str(value) if abs(value) < 2**64 else f"(a number of {abs(value).bit_length()} bits)"
            raise InputError(f"--{name.replace('_', '-')} {shown}: must be {least} to {most}")


@dataclass(frozen=True, slots=True, eq=False)
class StepSetting:
    """What options ask for, ready to be simulated: the step, where, by which library, memory that it cannot have."""

    plan: "StepPlan"
    cluster: "Cluster"
    library: "Library"
    margin_bytes: int


def simulate_options(options: StepOptions, fabric: "Fabric | None" = None) -> "SimulatedStep":
    """Load (but for a fabric that is there already), plan and simulate.

    Raises:
        InputError: whatever is missing or does not fit; names option, value and rule.
    """
    from commbench.experiments.simulated import scenario_of
    from commbench.results.run_id import new_run_id
    from commbench.training.simulate import simulate_step

    setting = step_setting(options, fabric)
    if not 0 <= options.jitter <= 1:
        raise InputError(f"--jitter {options.jitter:g}: must be from 0 to 1, a share of what compute lasts")
    return simulate_step(
        setting.plan,
        setting.cluster,
        setting.library,
        engine=options.engine,
        slowdown=options.slowdown,
        scenario=scenario_of(options.scenario, options.jitter, options.seed),
        unfolded=options.unfolded,
        margin_bytes=setting.margin_bytes,
        run_id=new_run_id(),
    ).record


def step_setting(options: StepOptions, fabric: "Fabric | None" = None) -> StepSetting:
    """What the options ask for, ready to be simulated.

    Raises:
        InputError: see simulate_options.
    """
    from commbench.cluster import make_cluster
    from commbench.experiments.step_library import library_of_step
    from commbench.topology.load import load_fabric

    if fabric is None and options.topology is not None:
        fabric = load_fabric(options.topology)
    _check_given(options, "" if fabric is None else fabric.device)
    assert fabric is not None
    if options.dp is None:
        options = replace(options, dp=_rest(options, fabric))
    check_bounds(options)
    plan = plan_of(options, fabric)
    if options.memory_margin is not None:
        margin = size_of("--memory-margin", options.memory_margin)
    else:
        margin = plan.memory_margin()
    where: dict[str, Any] = {"placement": options.placement, "routing": options.routing, "seed": options.seed}
    cluster = make_cluster(fabric, num_ranks=plan.degrees.num_ranks, **where)
    library, words = library_of_step(options, plan, cluster, step_costs(options))
    return StepSetting(replace(plan, remarks=(*plan.remarks, words)), cluster, library, margin)


def _rest(options: StepOptions, fabric: "Fabric") -> int:
    """The data-parallel degree that uses all ranks; 1 where none does, which the check of the degrees will tell."""
    ranks, rest = options.ranks or fabric.num_ranks, max(1, options.tp * options.cp * options.pp)
    return 1 if ranks % rest else max(1, ranks // rest)
