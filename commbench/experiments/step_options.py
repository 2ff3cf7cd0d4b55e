# SPDX-License-Identifier: Apache-2.0
"""From the options of ``sim train`` to a plan, and its simulation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from commbench.errors import InputError
from commbench.experiments.step_given import StepOptions

if TYPE_CHECKING:
    from commbench.cluster import Cluster
    from commbench.libraries.ideal import Ideal
    from commbench.results.steps import SimulatedStep
    from commbench.topology.devices import Device
    from commbench.topology.fabric import Fabric
    from commbench.workload.compute import Efficiency
    from commbench.workload.groups import Degrees
    from commbench.workload.pipeline.schedule import PipelineSchedule
    from commbench.workload.step_costs import StackCosts, StepCosts
    from commbench.workload.step_plan import StepPlan
    from commbench.workload.transformer import Execution, Transformer

T = TypeVar("T")

__all__ = ["StepSetting", "plan_of", "simulate_options", "step_setting"]


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


_SEVERAL_STAGES = ("interleaved-1f1b", "looped-bfs")  # pointless with one stage per rank


def _check_given(options: StepOptions, device: str) -> None:
    """Raise for everything at once that must be given and is not, with a command that works; ``device``: the hosts'."""
    there = {name for name in _HOW_TO_GIVE if getattr(options, name) is not None}
    if _shape(options):
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
    return bool(name) and _step_costs(options).device_key(name) is not None


def _step_costs(options: StepOptions) -> "StepCosts":
    from commbench.workload.step_costs import read_step_costs

    return read_step_costs(None if options.step_costs is None else Path(options.step_costs))


_EXAMPLE = (
    "commbench sim train --model gpt3-1.3b --topology dgx-h100 --tp 2 --dp 4 --microbatch 1 --global-batch 32 "
    "--device h100-sxm5-80gb --assume-efficiencies"
)
_MOST = {
    "ranks": 2**20, "tp": 2**12, "cp": 2**12, "ep": 2**16, "dp": 2**20, "pp": 2**12, "microbatch": 2**16,
    "num_layers": 2**12, "hidden": 2**20, "num_heads": 2**14, "num_kv_heads": 2**14, "head_size": 2**14,
    "ffn": 2**22, "vocab": 2**24, "global_batch": 2**24, "sequence": 2**24, "positions": 2**24,
    "stages_per_rank": 2**10,
}  # fmt: skip
_MOST_PASSES = 200_000


def _check_bounds(options: StepOptions) -> None:
    """Raise for a count outside its bounds, before anything is made of it."""
    for name, most in (*_MOST.items(), ("seed", 2**63 - 1)):
        value, least = getattr(options, name), 0 if name == "seed" else 1
        if value is not None and not least <= value <= most:
            shown = str(value) if abs(value) < 2**64 else f"(a number of {abs(value).bit_length()} bits)"
            raise InputError(f"--{name.replace('_', '-')} {shown}: must be {least} to {most}")


def _given(value: T | None) -> T:
    """A value that :func:`_check_given` has seen."""
    assert value is not None
    return value


@dataclass(frozen=True, slots=True, eq=False)
class StepSetting:
    """What options ask for, ready to be simulated: the step, where, by which library, memory that it cannot have."""

    plan: "StepPlan"
    cluster: "Cluster"
    library: "Ideal"
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
    from commbench.libraries.ideal import Ideal
    from commbench.topology.load import load_fabric

    if fabric is None and options.topology is not None:
        fabric = load_fabric(options.topology)
    _check_given(options, "" if fabric is None else fabric.device)
    assert fabric is not None
    if options.dp is None:
        options = replace(options, dp=_rest(options, fabric))
    _check_bounds(options)
    plan = plan_of(options, fabric)
    if options.memory_margin is not None:
        margin = _size("--memory-margin", options.memory_margin)
    else:
        margin = plan.device.other("memory_margin", "or give --memory-margin")
    where: dict[str, Any] = {"placement": options.placement, "routing": options.routing, "seed": options.seed}
    cluster = make_cluster(fabric, num_ranks=plan.degrees.num_ranks, **where)
    rings = dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), options.ring)
    return StepSetting(plan, cluster, Ideal(algorithms={**rings, "all-to-all": "direct"}, channels=None), margin)


def _rest(options: StepOptions, fabric: "Fabric") -> int:
    """The data-parallel degree that uses all ranks; 1 where none does, which the check of the degrees will tell."""
    ranks, rest = options.ranks or fabric.num_ranks, max(1, options.tp * options.cp * options.pp)
    return 1 if ranks % rest else max(1, ranks // rest)


def plan_of(options: StepOptions, fabric: "Fabric") -> "StepPlan":
    """The plan that the options ask for.

    Raises:
        InputError: see simulate_options.
    """
    from commbench.workload.formats import get_formats
    from commbench.workload.groups import Degrees
    from commbench.workload.memory import get_precision
    from commbench.workload.step_plan import StepPlan
    from commbench.workload.transformer import Execution, split_layers

    model = _model(options)
    kernel = _kernel(options)
    degrees = Degrees(
        tp=options.tp, cp=options.cp, ep=options.ep, dp=_given(options.dp), pp=options.pp, order=options.rank_order
    )
    _check_ranks(degrees, fabric, options.ranks)
    schedule = _schedule(options)
    device = _device(options.device, fabric)
    efficiency, stack, remarks = _compute(options, device, kernel)
    formats, precision = get_formats(options.dtype), get_precision(options.precision)
    if precision.parameter_bytes < formats.activations:
        kept = f"weights are kept in {precision.parameter_bytes} bytes ({precision.name})"
        remarks = (*remarks, f"{kept} beside {formats.name} products; --precision fp32-adam keeps 4")
    run = Execution(
        micro_batch=_given(options.microbatch),
        sequence=model.sequence,
        formats=formats,
        attention=options.attention,
        flash=kernel != "unfused",
        recompute=options.recompute,
        tp=options.tp,
        cp=options.cp,
        ep=options.ep,
        sequence_parallel=options.sequence_parallel,
    )
    remarks = (*remarks, *_far_products(model, run, efficiency))
    return StepPlan(
        model=model,
        run=run,
        degrees=degrees,
        schedule=schedule,
        layers=split_layers(model, schedule.num_stages, _layers(options.layers)),
        device=device,
        efficiency=efficiency,
        precision=precision,
        zero=options.zero,
        bucket_bytes=_size("--bucket", options.bucket),
        overlap_tensor=options.overlap_tensor,
        scatter_gather=options.scatter_gather,
        stack=stack,
        remarks=remarks,
    )


def _far_products(model: "Transformer", run: "Execution", efficiency: "Efficiency") -> tuple[str, ...]:
    """What is to be said of products whose shape is far from all measured ones."""
    from commbench.workload.operators import layer_operators

    is_far = getattr(efficiency.matrix, "far", lambda matmul: False)
    shapes = {op.name: op.forward.matmul for op in layer_operators(model, run) if op.weight.layer_product}
    far = [f"{name} {one.m} x {one.n} x {one.k}" for name, one in shapes.items() if one is not None and is_far(one)]
    return (f"far from all measured products, and taken like the nearest: {', '.join(far)}",) if far else ()


def _model(options: StepOptions) -> "Transformer":
    from commbench.workload.model_files import model_from_shape, read_config
    from commbench.workload.presets import get_model

    name, shape = options.model, _shape(options)
    if name is None:
        model = model_from_shape(shape | {"sequence": options.sequence, "gated": options.gated}, None)
    else:
        model = read_config(Path(name)) if name.endswith(".json") else get_model(name)
        if options.gated is not None:
            raise InputError("--gated: is for a model by its numbers; --model names one that is built as it is")
        model = model_from_shape(shape | {"sequence": options.sequence}, model)
    if options.positions is not None and not model.positions:
        raise InputError(f"--positions {options.positions}: model {model.name} has rotary positions, none are learned")
    if options.positions is not None:
        model = replace(model, positions=options.positions, name=f"{model.name} of {options.positions} positions")
    return model


def _shape(options: StepOptions) -> dict[str, int | bool | None]:
    """The model's numbers that are given."""
    return {key: getattr(options, key) for key in _SHAPE if getattr(options, key) is not None}


_SHAPE = ("num_layers", "hidden", "num_heads", "num_kv_heads", "head_size", "ffn", "vocab")


def _check_ranks(degrees: "Degrees", fabric: "Fabric", ranks: int | None) -> None:
    try:
        degrees.check_ranks(fabric.num_ranks if ranks is None else ranks)
    except InputError as error:
        whose = f"(all of topology {fabric.name}; --ranks takes fewer)" if ranks is None else "(--ranks)"
        raise InputError(f"{error} {whose}") from None


def _size(option: str, text: str) -> int:
    from commbench.units import parse_size

    try:
        return parse_size(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def _schedule(options: StepOptions) -> "PipelineSchedule":
    from commbench.workload.pipeline.registry import build_pipeline, get_pipeline
    from commbench.workload.pipeline.text import read_pipeline
    from commbench.workload.step_plan import num_microbatches

    batch, micro = _given(options.global_batch), _given(options.microbatch)
    count = num_microbatches(batch, micro, _given(options.dp))
    passes = 2 * count * options.pp * (options.stages_per_rank or 1)
    if passes > _MOST_PASSES:
        raise InputError(
            f"--global-batch {batch} / (--microbatch {micro} x --dp {options.dp}) = {count} microbatches are "
            f"{passes:,} passes of stages, more than {_MOST_PASSES:,}; give a smaller --global-batch: a step's "
            "time grows evenly with it"
        )
    if not options.schedule.endswith(".csv"):
        name = get_pipeline(options.schedule).name
        if name in _SEVERAL_STAGES and options.stages_per_rank is None and options.pp > 1:
            raise InputError(f"--schedule {name}: give --stages-per-rank; with 1 it would be no better than 1f1b")
        try:
            return build_pipeline(name, options.pp, count, options.stages_per_rank)
        except InputError as error:
            how = f"--global-batch {batch} / (--microbatch {micro} x --dp {options.dp}) = {count}, --pp {options.pp}"
            raise InputError(f"{error} ({how})") from None
    schedule = read_pipeline(Path(options.schedule))
    if (schedule.num_ranks, schedule.num_microbatches) != (options.pp, count):
        raise InputError(
            f"--schedule {options.schedule}: it is for {schedule.num_ranks} ranks and {schedule.num_microbatches} "
            f"microbatches, but --pp is {options.pp} and the batch gives {count} microbatches"
        )
    return schedule


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"--layers {text!r}: must be whole numbers by commas, one per stage") from None


def _device(asked: str | None, fabric: "Fabric") -> "Device":
    """The device of the fabric's hosts, or the one that is asked for where the fabric names none or several."""
    from commbench.topology.devices import load_device
    from commbench.topology.search import is_path, matching_devices

    own = matching_devices(fabric.device) if fabric.device else None
    device = load_device(asked) if asked is not None and is_path(asked) else None
    names = (device.name,) if device else matching_devices(fabric.device if asked is None else asked)
    fitting = names if own is None else [name for name in names if name in own]
    if not fitting:
        raise InputError(
            f"--device {asked}: the hosts of topology {fabric.name} have {fabric.device} ({fabric.origin}); type "
            f"--device {' or '.join(own or ())}, or, to plan other devices in such hosts, a copy of the topology whose "
            "host section names those, or none"
        )
    if len(fitting) > 1:
        what = f"topology {fabric.name} has device {fabric.device}" if asked is None else f"--device {asked}"
        raise InputError(f"{what}, which is one of {', '.join(fitting)}; say which, as in --device {fitting[0]}")
    return device or load_device(fitting[0])


def _kernel(options: StepOptions) -> str:
    """The attention kernel's generation; "unfused" where ``--no-flash`` says so."""
    from commbench.errors import unknown
    from commbench.workload.step_costs import ATTENTION

    if options.attention_kernel is None:
        return "flash-2" if options.flash else "unfused"
    if options.attention_kernel not in ATTENTION:
        named = options.attention_kernel
        raise InputError(f"--attention-kernel {named!r} {unknown(named, ATTENTION)}")
    if not options.flash and options.attention_kernel != "unfused":
        raise InputError(f"--attention-kernel {options.attention_kernel} is one kernel, --no-flash several: give one")
    return options.attention_kernel


def _compute(
    options: StepOptions, device: "Device", kernel: str
) -> "tuple[Efficiency, StackCosts | None, tuple[str, ...]]":
    """The device's efficiencies, what the software stack adds, and in words what of them was not given."""
    from commbench.workload.compute import USUAL, Efficiency
    from commbench.workload.formats import get_formats
    from commbench.workload.gemm_table import read_gemm_table
    from commbench.workload.step_costs import step_efficiency

    if options.gemm_table is not None and options.matrix_efficiency is not None:
        raise InputError("--matrix-efficiency and --gemm-table: give one of them, not both")
    shares: dict[str, Any] = {
        "matrix": options.matrix_efficiency,
        "attention": options.attention_efficiency,
        "memory": options.memory_efficiency,
    }
    if options.gemm_table is not None:
        shares["matrix"] = read_gemm_table(Path(options.gemm_table), device, get_formats(options.dtype).name)
    left = [name for name, share in shares.items() if share is None]
    costs = _step_costs(options)
    known = None if options.assume_efficiencies else costs.device(device.name)
    named = options.stack or ("megatron" if known is not None and left else "none")
    stack = None if named == "none" else costs.stack(named)
    remarks = []
    if stack is not None:
        remarks.append(f"software stack {named}{'' if options.stack else ', assumed'}: {costs.words('stacks', named)}")
    own: dict[str, Any] = dict(USUAL)
    if left and known is not None:
        formats = get_formats(options.dtype)
        found = step_efficiency(known, device.name, formats.name, kernel, stack)
        own = {name: getattr(found, name) for name in left}
        words = costs.device_words(device.name, kernel, left)
        remarks.append(f"efficiencies of {device.name}, none were given: {words}")
    elif left:
        words = ", ".join(f"{name} {own[name]:g}" for name in left)
        remarks.append(f"assumed, as usual on GPUs (--assume-efficiencies): {words}")
    return Efficiency(**(shares | {name: own[name] for name in left})), stack, tuple(remarks)
