# SPDX-License-Identifier: Apache-2.0
"""The options of ``sim train``, from the command line and a file."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from commbench.errors import InputError
from commbench.experiments.reader import KeyPath, read_keys

__all__ = ["MOST", "MOST_PASSES", "StepOptions", "read_given", "read_options", "words_of"]

MOST = {
    "ranks": 2**20, "tp": 2**12, "cp": 2**12, "ep": 2**16, "dp": 2**20, "pp": 2**12, "microbatch": 2**16,
    "num_layers": 2**12, "hidden": 2**20, "num_heads": 2**14, "num_kv_heads": 2**14, "head_size": 2**14,
    "ffn": 2**22, "vocab": 2**24, "global_batch": 2**24, "sequence": 2**24, "positions": 2**24,
    "stages_per_rank": 2**10,
}  # fmt: skip
"""Of counts, what is taken at most: more is a slip of the keys, or would take too long to look at."""
MOST_PASSES = 200_000
"""Of stages, in a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """The options of ``sim train`` with their help, and flags that are not their names; None where nothing is given
    and nothing is assumed."""

    model: Annotated[str | None, "A preset, for example gpt3-175b, or a config.json of Hugging Face."] = None
    topology: Annotated[str | None, "A name from topologies/ or a path.", "-t"] = None
    ranks: Annotated[int | None, "World size; all endpoints if left out."] = None
    tp: Annotated[int, "Tensor-parallel degree [1]."] = 1
    cp: Annotated[int, "Context-parallel degree [1]."] = 1
    context: Annotated[str, "gather of keys, or all-to-all of heads (Ulysses), over cp [gather]."] = "gather"
    ep: Annotated[int, "Expert-parallel degree, within cp x dp [1]."] = 1
    expert_capacity: Annotated[float | None, "Places of an expert, to its even share; tokens beyond drop."] = None
    expert_imbalance: Annotated[float | None, "Tokens of the busiest expert rank, to its even share [1]."] = None
    dp: Annotated[int | None, "Data-parallel degree; what the ranks leave if left out."] = None
    pp: Annotated[int, "Pipeline-parallel degree [1]."] = 1
    rank_order: Annotated[str, "Axes, nearest ranks first [tp-cp-ep-dp-pp]."] = "tp-cp-ep-dp-pp"
    microbatch: Annotated[int | None, "Sequences of a microbatch."] = None
    global_batch: Annotated[int | None, "Sequences of a step."] = None
    stack: Annotated[str | None, "Software that trains: megatron, fsdp ... or none; its host time and passes."] = None
    launch_blocking: Annotated[bool, "Its host waits for every kernel (CUDA_LAUNCH_BLOCKING=1)."] = False
    step_costs: Annotated[str | None, "YAML file of constants of your own (commbench calibrate --steps)."] = None
    num_layers: Annotated[int | None, "Of a model by its numbers, or instead of the named one's."] = None
    hidden: Annotated[int | None, "Width of the residual stream; the same."] = None
    num_heads: Annotated[int | None, "Attention heads; the same."] = None
    num_kv_heads: Annotated[int | None, "Heads of keys and values; the same [num_heads]."] = None
    head_size: Annotated[int | None, "Width of a head; the same [hidden / num_heads, or the model's own]."] = None
    ffn: Annotated[int | None, "Width inside the MLP; the same [4 hidden]."] = None
    vocab: Annotated[int | None, "Rows of the embedding; the same."] = None
    gated: Annotated[bool | None, "A model by its numbers is built like a LLaMA, not like a GPT."] = None
    sequence: Annotated[int | None, "Tokens of a sequence; the model's own if left out."] = None
    positions: Annotated[int | None, "Learned positions of a model that has them; its own if left out."] = None
    schedule: Annotated[str, "Pipeline schedule: a name, or a .csv file of torch's [1f1b]."] = "1f1b"
    stages_per_rank: Annotated[int | None, "Pipeline stages on every rank; the schedule's own if left out."] = None
    layers: Annotated[str, "Layers of every stage, by commas; evenly if left out."] = ""
    device: Annotated[str | None, "For example h100-sxm5-80gb, its beginning or a file; the hosts' own."] = None
    dtype: Annotated[str, "Of products: bf16, fp16, fp8 ... [bf16].", "-d"] = "bf16"
    matrix_efficiency: Annotated[float | None, "Share of peak FLOP/s that products with weights reach."] = None
    gemm_table: Annotated[str | None, "The same by shape, from measured products (commbench run gemm)."] = None
    attention_efficiency: Annotated[float | None, "Share of peak FLOP/s that attention cores reach."] = None
    memory_efficiency: Annotated[float | None, "Share of memory bandwidth that everything else reaches."] = None
    assume_efficiencies: Annotated[bool, "Usual ones of GPUs where none are given."] = False
    memory_margin: Annotated[str | None, "For context, buffers, fragments, instead of the stack's."] = None
    attention: Annotated[str, "causal or full [causal]."] = "causal"
    flash: Annotated[bool, "Attention as one kernel [flash].", "--flash/--no-flash"] = True
    attention_kernel: Annotated[str | None, "unfused, flash-1, flash-2 or flash-3 [flash-2]."] = None
    recompute: Annotated[str, "none, selective, per-op or full [none]."] = "none"
    sequence_parallel: Annotated[bool, "Norms and residuals split over tp too."] = False
    zero: Annotated[int, "ZeRO stage, 0 to 3 [0]."] = 0
    zero_group: Annotated[int, "Data ranks that ZeRO divides over; whole groups hold the same [0: all]."] = 0
    precision: Annotated[str, "Bytes per parameter [megatron-bf16]."] = "megatron-bf16"
    bucket: Annotated[str, "Least size of a bucket of gradients [25M, as torch]."] = "25M"
    overlap_tensor: Annotated[
        bool, "Tensor collectives run beside gradients of their product, or as the stack does it."
    ] = False
    scatter_gather: Annotated[bool, "Tensor ranks send shares of a stage's output and gather them."] = False
    overlap_gradients: Annotated[
        bool | None,
        "Gradients are sent beside the last backward pass [the stack's habit; so without one].",
        "--overlap-gradients/--no-overlap-gradients",
    ] = None
    overlap_parameters: Annotated[
        bool | None,
        "Those that ZeRO 1 and 2 gather arrive beside the first forward passes [the stack's habit].",
        "--overlap-parameters/--no-overlap-parameters",
    ] = None
    gradient_ratio: Annotated[float, "Bytes of gradients sent, to those there are: compressed below 1 [1]."] = 1.0
    stale_gradients: Annotated[bool, "The optimizer takes the gradients of the step before, sent meanwhile."] = False
    offload: Annotated[str | None, "optimizer, activations or both: lie in host memory."] = None
    offload_bandwidth: Annotated[str | None, "Of a GPU to it, each way; its share of the hosts' PCIe."] = None
    host_adam: Annotated[float | None, "Parameters/s that a host's CPUs update [3.9e9, DeepSpeed's on a DGX-2]."] = None
    library: Annotated[str | None, "ideal, nccl or rccl: how collectives go, and how long they take [ideal]."] = None
    nccl_version: Annotated[str | None, "Of --library nccl, such as 2.21.5 [the newest known]."] = None
    ring: Annotated[str | None, "Algorithm of all-reduce, reduce-scatter and all-gather [ring]; library ideal."] = None
    slowdown: Annotated[float | None, "Compute beside a collective takes so many times as long [the stack's]."] = None
    routing: Annotated[str | None, "ecmp, d-mod-k or rail-aware; the topology's own."] = None
    placement: Annotated[str, "linear or random [linear]."] = "linear"
    seed: Annotated[int, "Of ECMP, random placement and jitter [0]."] = 0
    engine: Annotated[str, "compiled or reference [compiled]."] = "compiled"
    scenario: Annotated[str | None, "YAML file of slow ranks and slower links."] = None
    jitter: Annotated[float, "Compute varies by up to this share, by the seed [0]."] = 0.0
    unfolded: Annotated[bool, "Simulate every rank by itself."] = False


def words_of(options: StepOptions, *, without: Collection[str] = ()) -> str:
    """Options that are not as they are by default, as a command line has them; ``without``: names of those left out."""
    words = []
    for one in fields(StepOptions):
        value, flag = getattr(options, one.name), f"--{one.name.replace('_', '-')}"
        if one.name in without or value == one.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words.append(f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)


def read_options(file: Path | None, given: Mapping[str, Any]) -> StepOptions:
    """Options from a file, if there is one, and those given beside it, which win.

    Raises:
        InputError: the file cannot be read or is no mapping, or has a key that is unknown or of another type; all of
            them, with their lines.
    """
    return StepOptions(**next(iter(read_given(file, given))))


def read_given(file: Path | None, given: Mapping[str, Any], *, lists: bool = False) -> list[dict[str, Any]]:
    """The options that a file, if there is one, and a command line give, which wins, by name.

    Args:
        file, given: as :func:`read_options` has them.
        lists: whether a key of the file may have a list of values; then one set of options for each of their
            combinations, the last list's value changing first.

    Raises:
        InputError: as :func:`read_options`.
    """
    from commbench.yaml_reader import problems_text, read_yaml

    own = {key: value for key, value in given.items() if value is not None}
    if file is None:
        return [own]
    document = read_yaml(file, InputError, example="model: gpt3-175b", words=_MUST)
    each = {key: value if lists and isinstance(value, list) else [value] for key, value in document.data.items()}
    problems: list[tuple[KeyPath, str]] = []
    found = [
        read_keys(StepOptions, (((key,), value) for key, value in zip(each, one, strict=True)), problems, _MUST)
        for one in product(*each.values())
    ]
    if problems:
        told = dict.fromkeys((document.line(path), problem) for path, problem in problems)
        raise InputError(problems_text(str(file), list(told)))
    if not found:
        raise InputError(f"{file}: a list without values: nothing to do")
    return list({repr(one): one for one in (one | own for one in found)}.values())


_MUST = {
    "recompute": "none, selective, per-op or full",
    "attention": "causal or full",
    "zero": "0, 1, 2 or 3",
}
"""Of options with few values: what they may be, where something of another type stands."""
