# SPDX-License-Identifier: Apache-2.0
"""The options of ``sim train``: from the command line and a file to a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from commbench.errors import InputError

if TYPE_CHECKING:
    from commbench.results.steps import SimulatedStep
    from commbench.topology.model import Topology
    from commbench.topology.tree import Tree
    from commbench.workload.compute import Device, Efficiency
    from commbench.workload.groups import Degrees
    from commbench.workload.pipeline.schedule import PipelineSchedule
    from commbench.workload.step_plan import StepPlan

T = TypeVar("T")

__all__ = ["StepOptions", "plan_of", "read_options", "simulate_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """As ``commbench sim train --help`` has them; None where nothing is given and nothing is assumed."""

    model: str | None = None
    topology: str | None = None
    ranks: int | None = None
    tp: int = 1
    cp: int = 1
    ep: int = 1
    dp: int = 1
    pp: int = 1
    rank_order: str = "tp-cp-ep-dp-pp"
    microbatch: int | None = None
    global_batch: int | None = None
    sequence: int | None = None
    schedule: str = "1f1b"
    stages_per_rank: int | None = None
    layers: str = ""
    device: str | None = None
    dtype: str = "bf16"
    matrix_efficiency: float | None = None
    gemm_table: str | None = None
    attention_efficiency: float | None = None
    memory_efficiency: float | None = None
    attention: str = "causal"
    flash: bool = True
    recompute: str = "none"
    sequence_parallel: bool = False
    zero: int = 0
    precision: str = "megatron-bf16"
    bucket: str = "25M"
    overlap_tensor: bool = False
    scatter_gather: bool = False
    ring: str = "ring"
    slowdown: float = 1.0
    routing: str | None = None
    placement: str = "linear"
    seed: int = 0
    engine: str = "compiled"
    scenario: str | None = None
    jitter: float = 0.0
    unfolded: bool = False


_HOW_TO_GIVE = {
    "model": "name a preset, for example --model gpt3-175b",
    "topology": "name one of `commbench topology list`, or a path",
    "microbatch": "sequences that a pipeline handles at a time",
    "global_batch": "sequences of a step over all ranks",
    "device": "what computes, for example --device h100-sxm5-80gb",
    "matrix_efficiency": "the share of the device's peak FLOP/s that products with weights reach, or --gemm-table FILE "
    "of measured products (`commbench run gemm`)",
    "attention_efficiency": "the share of the device's peak FLOP/s that attention cores reach",
    "memory_efficiency": "the share of the device's memory bandwidth that norms, sums and the optimizer reach",
}


def read_options(file: Path | None, given: Mapping[str, Any]) -> StepOptions:
    """Options from a file, if there is one, and those given beside it, which win.

    Raises:
        InputError: the file is no mapping, or has a key that is unknown or of another type.
    """
    known = {f.name: f.type for f in fields(StepOptions)}
    values: dict[str, Any] = {}
    for key, value in (_parse(file) if file is not None else {}).items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise InputError(f"{file}: key {key!r} is unknown; known: {', '.join(n.replace('_', '-') for n in known)}")
        values[name] = _typed(f"{file}: {key}", value, known[name])
    return StepOptions(**(values | {key: value for key, value in given.items() if value is not None}))


def _parse(file: Path) -> Mapping[Any, Any]:
    import yaml

    from commbench.topology.load import refuse_duplicates

    try:
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        refuse_duplicates(node, str(file))
        data = loader.construct_document(node) if node else None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{file}: must be a mapping of options, for example `model: gpt3-175b`")
    return data


_SEVERAL_STAGES = ("interleaved-1f1b", "looped-bfs")  # pointless with one stage per rank
_TYPES = {int: "a whole number", float: "a number", str: "text (in quotes)", bool: "true or false"}


def _typed(place: str, value: object, wanted: Any) -> object:
    types = [one for one in (get_args(wanted) or (wanted,)) if one is not type(None)]
    if str in types and isinstance(value, list):  # layers: [6, 6]
        return ",".join(map(str, value))
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) != (bool in types) or not isinstance(value, tuple(types)):
        raise InputError(f"{place}: {value!r} must be {_TYPES[types[0]]}")
    return value


def _check_given(options: StepOptions) -> None:
    """Raise for everything at once that must be given and is not."""
    missing = [name for name in _HOW_TO_GIVE if getattr(options, name) is None]
    if options.gemm_table is not None and "matrix_efficiency" in missing:
        missing.remove("matrix_efficiency")
    if missing:
        words = "; ".join(f"--{name.replace('_', '-')} is missing: {_HOW_TO_GIVE[name]}" for name in missing)
        raise InputError(f"{words}; there is no default")


def _given(value: T | None) -> T:
    """A value that :func:`_check_given` has seen."""
    assert value is not None
    return value


def simulate_options(options: StepOptions) -> "SimulatedStep":
    """Load, plan and simulate.

    Raises:
        InputError: whatever is missing or does not fit; names option, value and rule.
    """
    from commbench.results.run_id import new_run_id
    from commbench.sim.scenario import Scenario
    from commbench.topology.load import load_fabric
    from commbench.training.simulate import simulate_step

    _check_given(options)
    fabric = load_fabric(_given(options.topology))
    plan = plan_of(options, fabric)
    if not 0 <= options.jitter <= 1:
        raise InputError(f"--jitter {options.jitter:g}: must be from 0 to 1, a share of what compute lasts")
    scenario = None
    if options.scenario or options.jitter:
        base = Scenario() if options.scenario is None else Scenario.load(options.scenario)
        scenario = replace(base, jitter=options.jitter or base.jitter, seed=options.seed)
    return simulate_step(
        plan,
        fabric,
        routing=options.routing,
        placement=options.placement,
        seed=options.seed,
        engine=options.engine,
        slowdown=options.slowdown,
        scenario=scenario,
        unfolded=options.unfolded,
        run_id=new_run_id(),
    ).record


def plan_of(options: StepOptions, fabric: "Topology | Tree") -> "StepPlan":
    """The plan that the options ask for.

    Raises:
        InputError: see simulate_options.
    """
    from commbench.workload.groups import Degrees
    from commbench.workload.memory import get_precision
    from commbench.workload.presets import get_model
    from commbench.workload.step_plan import StepPlan
    from commbench.workload.transformer import Execution, split_layers

    model = get_model(_given(options.model))
    if options.sequence is not None:
        model = replace(model, sequence=options.sequence)
    degrees = Degrees(
        tp=options.tp, cp=options.cp, ep=options.ep, dp=options.dp, pp=options.pp, order=options.rank_order
    )
    _check_ranks(degrees, fabric, options.ranks)
    schedule = _schedule(options)
    device, efficiency = _compute(options)
    run = Execution(
        micro_batch=_given(options.microbatch),
        sequence=model.sequence,
        element_bytes=1 if options.dtype == "fp8" else 4 if options.dtype in ("fp32", "tf32") else 2,
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
        dtype=options.dtype,
        efficiency=efficiency,
        precision=get_precision(options.precision),
        zero=options.zero,
        bucket_bytes=_bucket(options.bucket),
        ranks_per_host=max(1, fabric.num_ranks // fabric.num_hosts),
        algorithms={
            **dict.fromkeys(("all-reduce", "reduce-scatter", "all-gather"), options.ring),
            "all-to-all": "direct",
        },
        overlap_tensor=options.overlap_tensor,
        scatter_gather=options.scatter_gather,
    )


def _check_ranks(degrees: "Degrees", fabric: "Topology | Tree", ranks: int | None) -> None:
    try:
        degrees.check_ranks(fabric.num_ranks if ranks is None else ranks)
    except InputError as error:
        whose = f"(all of topology {fabric.name}; --ranks takes fewer)" if ranks is None else "(--ranks)"
        raise InputError(f"{error} {whose}") from None


def _bucket(text: str) -> int:
    from commbench.units import parse_size

    try:
        return parse_size(text)
    except InputError as error:
        raise InputError(f"--bucket: {error}") from None


def _schedule(options: StepOptions) -> "PipelineSchedule":
    from commbench.workload.pipeline.registry import build_pipeline, get_pipeline
    from commbench.workload.pipeline.text import read_pipeline
    from commbench.workload.step_plan import num_microbatches

    batch, micro = _given(options.global_batch), _given(options.microbatch)
    count = num_microbatches(batch, micro, options.dp)
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


def _compute(options: StepOptions) -> "tuple[Device, Efficiency]":
    from commbench.workload.compute import Efficiency, get_device
    from commbench.workload.gemm_table import read_gemm_table

    device = get_device(_given(options.device))
    if options.gemm_table is not None and options.matrix_efficiency is not None:
        raise InputError("--matrix-efficiency and --gemm-table: give one of them, not both")
    matrix: Any = (
        _given(options.matrix_efficiency)
        if options.gemm_table is None
        else read_gemm_table(Path(options.gemm_table), device, options.dtype)
    )
    return device, Efficiency(
        matrix=matrix,
        attention=_given(options.attention_efficiency),
        memory=_given(options.memory_efficiency),
    )
