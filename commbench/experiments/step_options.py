# SPDX-License-Identifier: Apache-2.0
"""The options of ``sim train``: from the command line and a file to a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from commbench.errors import InputError
from commbench.experiments.reader import KeyPath, read_keys

if TYPE_CHECKING:
    from commbench.results.steps import SimulatedStep
    from commbench.topology.devices import Device
    from commbench.topology.fabric import Fabric
    from commbench.workload.compute import Efficiency
    from commbench.workload.groups import Degrees
    from commbench.workload.pipeline.schedule import PipelineSchedule
    from commbench.workload.step_plan import StepPlan
    from commbench.workload.transformer import Transformer

T = TypeVar("T")

__all__ = ["StepOptions", "plan_of", "read_options", "simulate_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """The options of ``sim train`` with their help; None where nothing is given and nothing is assumed."""

    model: Annotated[str | None, "A preset, for example gpt3-175b."] = None
    topology: Annotated[str | None, "A name from topologies/ or a path."] = None
    ranks: Annotated[int | None, "World size; all endpoints if left out."] = None
    tp: Annotated[int, "Tensor-parallel degree [1]."] = 1
    cp: Annotated[int, "Context-parallel degree [1]."] = 1
    ep: Annotated[int, "Expert-parallel degree, within cp x dp [1]."] = 1
    dp: Annotated[int, "Data-parallel degree [1]."] = 1
    pp: Annotated[int, "Pipeline-parallel degree [1]."] = 1
    rank_order: Annotated[str, "Axes, nearest ranks first [tp-cp-ep-dp-pp]."] = "tp-cp-ep-dp-pp"
    microbatch: Annotated[int | None, "Sequences of a microbatch."] = None
    global_batch: Annotated[int | None, "Sequences of a step."] = None
    sequence: Annotated[int | None, "Tokens of a sequence; the model's own if left out."] = None
    positions: Annotated[int | None, "Learned positions of a model that has them; its own if left out."] = None
    schedule: Annotated[str, "Pipeline schedule: a name, or a .csv file of torch's [1f1b]."] = "1f1b"
    stages_per_rank: Annotated[int | None, "Pipeline stages on every rank; the schedule's own if left out."] = None
    layers: Annotated[str, "Layers of every stage, by commas; evenly if left out."] = ""
    device: Annotated[str | None, "For example h100-sxm5-80gb, its beginning or a file; the hosts' own."] = None
    dtype: Annotated[str, "Of products: bf16, fp16, fp8 ... [bf16]."] = "bf16"
    matrix_efficiency: Annotated[float | None, "Share of peak FLOP/s that products with weights reach."] = None
    gemm_table: Annotated[str | None, "The same by shape, from measured products (commbench run gemm)."] = None
    attention_efficiency: Annotated[float | None, "Share of peak FLOP/s that attention cores reach."] = None
    memory_efficiency: Annotated[float | None, "Share of memory bandwidth that everything else reaches."] = None
    assume_efficiencies: Annotated[bool, "Usual ones of GPUs where none are given."] = False
    memory_margin: Annotated[str | None, "For context, buffers and fragments; the device's own if left out."] = None
    attention: Annotated[str, "causal or full [causal]."] = "causal"
    flash: Annotated[bool, "Attention as one kernel [flash]."] = True
    recompute: Annotated[str, "none, selective or full [none]."] = "none"
    sequence_parallel: Annotated[bool, "Norms and residuals split over tp too."] = False
    zero: Annotated[int, "ZeRO stage, 0 to 3 [0]."] = 0
    precision: Annotated[str, "Bytes per parameter [megatron-bf16]."] = "megatron-bf16"
    bucket: Annotated[str, "Least size of a bucket of gradients [25M, as torch]."] = "25M"
    overlap_tensor: Annotated[bool, "Tensor collectives run beside the gradients of their product."] = False
    scatter_gather: Annotated[bool, "Tensor ranks send shares of a stage's output and gather them."] = False
    ring: Annotated[str, "Algorithm of all-reduce, reduce-scatter and all-gather [ring]."] = "ring"
    slowdown: Annotated[float, "Compute beside a collective takes this many times as long [1: no slower]."] = 1.0
    routing: Annotated[str | None, "ecmp, d-mod-k or rail-aware; the topology's own."] = None
    placement: Annotated[str, "linear or random [linear]."] = "linear"
    seed: Annotated[int, "Of ECMP, random placement and jitter [0]."] = 0
    engine: Annotated[str, "compiled or reference [compiled]."] = "compiled"
    scenario: Annotated[str | None, "YAML file of slow ranks and slower links."] = None
    jitter: Annotated[float, "Compute varies by up to this share, by the seed [0]."] = 0.0
    unfolded: Annotated[bool, "Simulate every rank by itself."] = False


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


def read_options(file: Path | None, given: Mapping[str, Any]) -> StepOptions:
    """Options from a file, if there is one, and those given beside it, which win.

    Raises:
        InputError: the file cannot be read or is no mapping, or has a key that is unknown or of another type; all of
            them, with their lines.
    """
    from commbench.yaml_reader import problems_text, read_yaml

    values: dict[str, Any] = {}
    if file is not None:
        document = read_yaml(file, InputError, example="model: gpt3-175b", words=_MUST)
        problems: list[tuple[KeyPath, str]] = []
        values = read_keys(StepOptions, (((key,), value) for key, value in document.data.items()), problems, _MUST)
        if problems:
            raise InputError(problems_text(str(file), [(document.line(path), problem) for path, problem in problems]))
    return StepOptions(**(values | {key: value for key, value in given.items() if value is not None}))


_MUST = {
    "recompute": "none, selective or full",
    "attention": "causal or full",
    "zero": "0, 1, 2 or 3",
}
"""Of options with few values: what they may be, where something of another type stands."""
_SEVERAL_STAGES = ("interleaved-1f1b", "looped-bfs")  # pointless with one stage per rank


def _check_given(options: StepOptions, device: str) -> None:
    """Raise for everything at once that must be given and is not, with a command that works; ``device``: the hosts'."""
    there = {name for name in _HOW_TO_GIVE if getattr(options, name) is not None}
    if device:
        there.add("device")
    if options.gemm_table is not None:
        there.add("matrix_efficiency")
    if options.assume_efficiencies:
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


_EXAMPLE = (
    "commbench sim train --model gpt3-1.3b --topology dgx-h100 --tp 2 --dp 4 --microbatch 1 --global-batch 32 "
    "--device h100-sxm5-80gb --assume-efficiencies"
)
_MOST = {
    "ranks": 2**20, "tp": 2**12, "cp": 2**12, "ep": 2**16, "dp": 2**20, "pp": 2**12, "microbatch": 2**16,
    "global_batch": 2**24, "sequence": 2**24, "positions": 2**24, "stages_per_rank": 2**10,
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


def simulate_options(options: StepOptions) -> "SimulatedStep":
    """Load, plan and simulate.

    Raises:
        InputError: whatever is missing or does not fit; names option, value and rule.
    """
    from commbench.cluster import make_cluster
    from commbench.experiments.simulated import scenario_of
    from commbench.libraries.ideal import Ideal
    from commbench.results.run_id import new_run_id
    from commbench.topology.load import load_fabric
    from commbench.training.simulate import simulate_step

    fabric = None if options.topology is None else load_fabric(options.topology)
    _check_given(options, "" if fabric is None else fabric.device)
    _check_bounds(options)
    assert fabric is not None
    plan = plan_of(options, fabric)
    if options.memory_margin is not None:
        margin = _size("--memory-margin", options.memory_margin)
    else:
        margin = plan.device.other("memory_margin", "or give --memory-margin")
    if not 0 <= options.jitter <= 1:
        raise InputError(f"--jitter {options.jitter:g}: must be from 0 to 1, a share of what compute lasts")
    rings = dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), options.ring)
    return simulate_step(
        plan,
        make_cluster(
            fabric,
            num_ranks=plan.degrees.num_ranks,
            placement=options.placement,
            routing=options.routing,
            seed=options.seed,
        ),
        Ideal(algorithms={**rings, "all-to-all": "direct"}, channels=None),
        engine=options.engine,
        slowdown=options.slowdown,
        scenario=scenario_of(options.scenario, options.jitter, options.seed),
        unfolded=options.unfolded,
        margin_bytes=margin,
        run_id=new_run_id(),
    ).record


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
    degrees = Degrees(
        tp=options.tp, cp=options.cp, ep=options.ep, dp=options.dp, pp=options.pp, order=options.rank_order
    )
    _check_ranks(degrees, fabric, options.ranks)
    schedule = _schedule(options)
    device = _device(options.device, fabric)
    efficiency, remarks = _compute(options, device)
    formats, precision = get_formats(options.dtype), get_precision(options.precision)
    if precision.parameter_bytes < formats.activations:
        kept = f"weights are kept in {precision.parameter_bytes} bytes ({precision.name})"
        remarks = (*remarks, f"{kept} beside {formats.name} products; --precision fp32-adam keeps 4")
    run = Execution(
        micro_batch=_given(options.microbatch),
        sequence=model.sequence,
        formats=formats,
        attention=options.attention,
        flash=options.flash,
        recompute=options.recompute,
        tp=options.tp,
        cp=options.cp,
        ep=options.ep,
        sequence_parallel=options.sequence_parallel,
    )
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
        remarks=remarks,
    )


def _model(options: StepOptions) -> "Transformer":
    from commbench.workload.presets import get_model

    model = get_model(_given(options.model))
    if options.sequence is not None:
        model = replace(model, sequence=options.sequence)
    if options.positions is not None and not model.positions:
        raise InputError(f"--positions {options.positions}: model {model.name} has rotary positions, none are learned")
    if options.positions is not None:
        model = replace(model, positions=options.positions, name=f"{model.name} of {options.positions} positions")
    return model


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
    count = num_microbatches(batch, micro, options.dp)
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


def _compute(options: StepOptions, device: "Device") -> "tuple[Efficiency, tuple[str, ...]]":
    """The device's efficiencies, and which of them are assumed, in words."""
    from commbench.workload.compute import USUAL, Efficiency
    from commbench.workload.formats import get_formats
    from commbench.workload.gemm_table import read_gemm_table

    if options.gemm_table is not None and options.matrix_efficiency is not None:
        raise InputError("--matrix-efficiency and --gemm-table: give one of them, not both")
    shares: dict[str, Any] = {
        "matrix": options.matrix_efficiency,
        "attention": options.attention_efficiency,
        "memory": options.memory_efficiency,
    }
    if options.gemm_table is not None:
        shares["matrix"] = read_gemm_table(Path(options.gemm_table), device, get_formats(options.dtype).name)
    assumed = {name: USUAL[name] for name, share in shares.items() if share is None}
    words = ", ".join(f"{name} {share:g}" for name, share in assumed.items())
    remarks = (f"assumed, as usual on GPUs (--assume-efficiencies): {words}",) if assumed else ()
    return Efficiency(**(shares | assumed)), remarks
