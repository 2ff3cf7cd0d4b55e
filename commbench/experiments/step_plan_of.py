# SPDX-License-Identifier: Apache-2.0
"""The plan of a step that the options of ``sim train`` ask for."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from commbench.errors import InputError
from commbench.experiments.step_given import MOST_PASSES, StepOptions
from commbench.experiments.step_offload import offload_of, offload_words

if TYPE_CHECKING:
    from commbench.topology.devices import Device
    from commbench.topology.fabric import Fabric
    from commbench.workload.compute import Efficiency
    from commbench.workload.expert_load import ExpertLoad
    from commbench.workload.formats import Formats
    from commbench.workload.groups import Degrees
    from commbench.workload.memory import Precision
    from commbench.workload.pipeline.schedule import PipelineSchedule
    from commbench.workload.stack_habits import Habits
    from commbench.workload.stack_memory import StackMemory
    from commbench.workload.step_costs import StackCosts, StepCosts
    from commbench.workload.step_plan import StepPlan
    from commbench.workload.transformer import Execution, Transformer

T = TypeVar("T")

__all__ = ["model_numbers", "plan_of", "size_of", "step_costs"]

ASSUMED = "megatron"  # the stack where efficiencies are the device's own and none is named


def step_costs(options: StepOptions) -> "StepCosts":
    """The constants that the options name, or those that are shipped."""
    from commbench.workload.step_costs import read_step_costs

    return read_step_costs(None if options.step_costs is None else Path(options.step_costs))


def _given(value: T | None) -> T:
    """A value that ``step_options`` has seen to be given."""
    assert value is not None
    return value


def plan_of(options: StepOptions, fabric: "Fabric") -> "StepPlan":
    """The plan that the options ask for.

    Raises:
        InputError: whatever does not fit; names option, value and rule.
    """
    from commbench.workload.formats import get_formats
    from commbench.workload.groups import Degrees
    from commbench.workload.memory import get_precision
    from commbench.workload.stack_habits import PLAIN, habits_of, software_run
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
    memory, words = _memory(options, stack)
    habits = PLAIN if stack is None else habits_of(options.stack or ASSUMED)
    formats, precision = get_formats(options.dtype), get_precision(options.precision)
    remarks = (*remarks, *_coarse_weights(precision, formats))
    run = Execution(
        micro_batch=_given(options.microbatch), sequence=model.sequence, formats=formats, attention=options.attention,
        flash=kernel != "unfused", recompute=options.recompute,
        expert_load=_expert_load(options),
        **{name: getattr(options, name) for name in ("tp", "cp", "ep", "context", "sequence_parallel")},
    )  # fmt: skip
    run = software_run(run, habits, precision)
    offload = offload_of(options, fabric, degrees.num_ranks)
    remarks = (*remarks, *_shape_words(options, model), *_far_products(model, run, efficiency))
    return StepPlan(
        model=model,
        run=run,
        degrees=degrees,
        schedule=schedule,
        layers=split_layers(model, schedule.num_stages, _layers(options.layers)),
        device=device, efficiency=efficiency, precision=precision, zero=options.zero,
        bucket_bytes=size_of("--bucket", options.bucket),
        overlap_tensor=options.overlap_tensor,
        scatter_gather=options.scatter_gather,
        overlap_gradients=_or(options.overlap_gradients, options.zero > 1 or habits.gradients),
        overlap_parameters=_overlaps_parameters(options, habits), habits=habits,
        gradient_ratio=options.gradient_ratio, stale_gradients=options.stale_gradients,
        zero_group=options.zero_group,
        stack=stack,
        offload=offload, launch_blocking=options.launch_blocking,
        stack_memory=memory,
        remarks=(*remarks, *offload_words(options, offload), *words, *_sent_words(options), *_expert_words(model, run)),
    )


def _or(given: bool | None, habit: bool) -> bool:
    """What is given, or else the software's habit."""
    return habit if given is None else given


def _overlaps_parameters(options: StepOptions, habits: "Habits") -> bool:
    if options.overlap_parameters and options.zero not in (1, 2):
        raise InputError("--overlap-parameters: goes with --zero 1 or 2, whose optimizer gathers them")
    return _or(options.overlap_parameters, habits.parameters and options.zero in (1, 2))


def _shape_words(options: StepOptions, model: "Transformer") -> tuple[str, ...]:
    """Where a model's numbers come from, and how it is built and executed, where others are not."""
    found = [f"model {model.name}: {model.source}"]
    if options.sequence is None and (options.model or "").endswith(".json"):
        found.append(f"sequence {model.sequence}, the longest that config.json has; --sequence gives the training's")
    if model.latent is not None:
        found.append("latent attention as in training: K and V of all heads are made from the latent, and kept")
    if model.shared_ffn:
        found.append("shared experts are computed behind the routed ones; nothing of them hides an all-to-all")
    return tuple(found)


def _sent_words(options: StepOptions) -> tuple[str, ...]:
    """What is to be said of what is sent otherwise than usually."""
    found = []
    if options.cp > 1 and options.context == "all-to-all":
        found.append("context ranks exchange tokens for heads around attention (all-to-all) and gather no keys")
    if options.gradient_ratio < 1:
        found.append(f"gradients are sent in {options.gradient_ratio:.1%} of their bytes, compressed on the device")
    if options.stale_gradients:
        found.append("the optimizer takes the gradients of the step before, which are sent beside this one")
    return tuple(found)


def _expert_load(options: StepOptions) -> "ExpertLoad":
    """How tokens spread over experts."""
    from commbench.workload.expert_load import ExpertLoad

    if options.expert_capacity == 0:
        raise InputError("--expert-capacity 0: must be above 0, such as 1.25; leave it out to drop nothing")
    given = {"capacity": options.expert_capacity, "imbalance": options.expert_imbalance}
    return ExpertLoad(**{key: value for key, value in given.items() if value is not None})


def _expert_words(model: "Transformer", run: "Execution") -> tuple[str, ...]:
    """How tokens spread over experts, where there are any."""
    return (run.expert_load.words,) if model.num_experts > 1 else ()


def _memory(
    options: StepOptions, stack: "StackCosts | None"
) -> "tuple[StackMemory | None, tuple[str, ...]]":
    """What the software needs of memory beside, and in words; None where a margin is given, or nothing is known."""
    from commbench.workload.stack_memory import memory_words, stack_memories, stack_memory

    named = options.stack or ASSUMED
    if stack is None or options.memory_margin is not None or named not in stack_memories():
        return None, ()
    return stack_memory(named), (f"memory that {named} needs beside: {memory_words(named)}",)


def _coarse_weights(precision: "Precision", formats: "Formats") -> tuple[str, ...]:
    """What is to be said of weights that are kept in fewer bytes than products are made in."""
    if precision.parameter_bytes >= formats.activations:
        return ()
    kept = f"weights are kept in {precision.parameter_bytes} bytes ({precision.name})"
    return (f"{kept} beside {formats.name} products; --precision fp32-adam keeps 4",)


def _far_products(model: "Transformer", run: "Execution", efficiency: "Efficiency") -> tuple[str, ...]:
    """What is to be said of products whose shape is far from all measured ones."""
    from commbench.workload.operators import layer_operators

    is_far = getattr(efficiency.matrix, "far", lambda matmul: False)
    layers = [op for kind in model.kinds for op in layer_operators(model, run, kind)]
    shapes = {op.name: op.forward.matmul for op in layers if op.weight.layer_product}
    far = [f"{name} {one.m} x {one.n} x {one.k}" for name, one in shapes.items() if one is not None and is_far(one)]
    return (f"far from all measured products, and taken like the nearest: {', '.join(far)}",) if far else ()


def _model(options: StepOptions) -> "Transformer":
    from commbench.workload.model_files import model_from_shape, read_config
    from commbench.workload.presets import get_model

    name, shape = options.model, model_numbers(options)
    if name is None:
        model = model_from_shape(shape | {"sequence": options.sequence, "gated": options.gated}, None)
    else:
        model = read_config(Path(name), options.sequence) if name.endswith(".json") else get_model(name)
        if options.gated is not None:
            raise InputError("--gated: is for a model by its numbers; --model names one that is built as it is")
        model = model_from_shape(shape | {"sequence": options.sequence}, model)
    if options.positions is not None and not model.positions:
        raise InputError(f"--positions {options.positions}: model {model.name} has rotary positions, none are learned")
    if options.positions is not None:
        model = replace(model, positions=options.positions, name=f"{model.name} of {options.positions} positions")
    return model


def model_numbers(options: StepOptions) -> dict[str, int | bool | None]:
    """The model's numbers that are given."""
    return {key: getattr(options, key) for key in _SHAPE if getattr(options, key) is not None}


_SHAPE = ("num_layers", "hidden", "num_heads", "num_kv_heads", "head_size", "ffn", "vocab")


def _check_ranks(degrees: "Degrees", fabric: "Fabric", ranks: int | None) -> None:
    try:
        degrees.check_ranks(fabric.num_ranks if ranks is None else ranks)
    except InputError as error:
        whose = f"(all of topology {fabric.name}; --ranks takes fewer)" if ranks is None else "(--ranks)"
        raise InputError(f"{error} {whose}") from None


def size_of(option: str, text: str) -> int:
    """Bytes of an option's text; errors name the option."""
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
    if passes > MOST_PASSES:
        raise InputError(
            f"--global-batch {batch} / (--microbatch {micro} x --dp {options.dp}) = {count} microbatches are "
            f"{passes:,} passes of stages, more than {MOST_PASSES:,}; give a smaller --global-batch: a step's "
            "time grows evenly with it"
        )
    if not options.schedule.endswith(".csv"):
        pipeline = get_pipeline(options.schedule)
        name = pipeline.name
        if pipeline.least_stages > 1 and options.stages_per_rank is None and options.pp > 1:
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
    from commbench.workload.step_efficiency import step_efficiency

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
    costs = step_costs(options)
    known = None if options.assume_efficiencies else costs.device(device.name)
    named = options.stack or (ASSUMED if known is not None and left else "none")
    stack = None if named == "none" else costs.stack(named)
    if options.launch_blocking and stack is None:
        raise InputError("--launch-blocking: no host waits without a software stack; give --stack, such as megatron")
    remarks = []
    if stack is not None:
        how = f"{named}{'' if options.stack else ', assumed'}{', launches block' if options.launch_blocking else ''}"
        remarks.append(f"software stack {how}: {costs.words('stacks', named)}")
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
