# SPDX-License-Identifier: Apache-2.0
"""Published training steps, or the user's own, as rows of a CSV: from a row to a plan, a software stack and a machine.

Columns are those of the collection of published steps in ``sims/published``. What the kind of a row implies (software
stack, attention kernel, pipeline schedule, bytes per parameter) may stand in columns of its own: ``stack``,
``attention``, ``schedule``, ``bytes``. A shape that the columns cannot say has its name in ``preset``.
A row that does not state what decides its time is left out, with the reason, never guessed.
"""

import csv
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from commbench.errors import InputError
from commbench.experiments.step_cells import (
    Row,
    between,
    fabric_of,
    nics_of,
    number_format,
    one_of,
    seconds_of,
    switch,
    whole,
    zero_of,
)
from commbench.experiments.step_given import MOST_PASSES
from commbench.topology.devices import Device, load_device
from commbench.training.closed_form import Estimate, closed_form
from commbench.training.stage_seconds import Shapes
from commbench.training.step_hosts import StepHosts, shared_nics
from commbench.workload.compute import Efficiency
from commbench.workload.formats import get_formats
from commbench.workload.groups import Degrees
from commbench.workload.memory import get_precision
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.pipeline.schedule import PipelineSchedule
from commbench.workload.presets import get_model, gpt, llama
from commbench.workload.stack_habits import habits_of, software_run
from commbench.workload.stack_memory import stack_memories
from commbench.workload.step_costs import ATTENTION, StepCosts, nvlink_kind, read_step_costs
from commbench.workload.step_efficiency import step_efficiency
from commbench.workload.step_plan import StepPlan
from commbench.workload.transformer import RECOMPUTE, Execution, Transformer, split_layers

__all__ = ["StepRow", "hosts_of", "predict", "read_rows", "with_costs"]

_DEVICES = (  # beginning of what a row calls its GPU, the device, bytes/s that it sends inside a host, GPUs of a host
    ("GB200", "gb200-186gb", 900e9, 64),  # of a rack's 72, as jobs of powers of two take them
    ("B200", "b200-sxm-180gb", 900e9, 8),
    ("A100-40GB", "a100-sxm4-40gb", 300e9, 8),
    ("A100", "a100-sxm4-80gb", 300e9, 8),
    ("V100", "v100-sxm2-32gb", 150e9, 16),
    ("H100-96GB 500W", "grand-teton-h100-96gb", 450e9, 8),
    ("H100", "h100-sxm5-80gb", 450e9, 8),
    ("H200", "h200-sxm-141gb", 450e9, 8),
)
_SCHEDULES = {
    "1F1B": "1f1b", "1F1B-I": "interleaved-1f1b", "ZB-1p": "zb-h1", "ZB-2p": "zb-h2", "ZB-2p*": "zb-h2", "ZB-V": "zbv",
}  # fmt: skip
_SOURCES = (
    "bloom", "intern", "kor22", "mlm", "mpt", "sc21", "titan", "vtrain-multi", "vtrain-single", "zb6", "zb",
)  # fmt: skip
_MEGATRON = ("sc21", "kor22", "mlm", "zb", "zb6")
_NONE = Efficiency(matrix=1.0, attention=1.0, memory=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One measured step.

    Attributes:
        name: its id. source: who published it. cell: what it is a repetition of.
        tier: A best. measured_s: of a step.
        plan: with efficiencies of no meaning; :func:`predict` puts those of the constants in.
        stack, attention: software stack and attention kernel.
        gpus, inside, between, fabric: see ``step_hosts.StepHosts``; ``fabric`` names the links between hosts.
        nics: of a host; one for each GPU where the row does not say.
        assumed: what the row does not say, and what was taken for it; nothing of published rows, whose kind implies it.
        shapes: of the plan's stages, once made.
    """

    name: str
    source: str
    cell: str
    tier: str
    measured_s: float
    plan: StepPlan
    stack: str
    attention: str
    gpus: int
    inside: float
    between: float
    nics: int
    fabric: str
    assumed: tuple[str, ...]
    shapes: Shapes = field(default_factory=dict, repr=False, compare=False)


def read_rows(
    path: Path, *, timed: bool = True, costs: StepCosts | None = None
) -> tuple[list[StepRow], list[tuple[str, str]]]:
    """The rows of a file, and (id, why) of those that do not say enough.

    Args:
        path: a CSV file. timed: whether a row must say how long its step takes; otherwise that is not a number.
        costs: constants, whose software stacks rows may name; those that are shipped if left out. Rows without a time
            may name those whose memory is known, too.

    Raises:
        InputError: the file cannot be read, or has no column that every row needs; names file and column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            needed = _NEEDED if timed else _NEEDED[:-1]
            missing = [key for key in needed if key not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}, line 1: column {missing[0]} is missing; rows have {', '.join(needed)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    found, left = list[StepRow](), list[tuple[str, str]]()
    stacks = [*(costs or read_step_costs()).constants["stacks"], *(() if timed else stack_memories())]
    for number, cells in enumerate(rows, start=2):
        row = {key: value or "" for key, value in cells.items() if key}
        row["id"] = row["id"] or f"line {number}"
        try:
            found.append(_row(row, stacks, timed=timed))
        except InputError as error:
            left.append((row["id"], str(error)))
    return found, left


_NEEDED = (
    "id", "layers", "hidden", "heads", "seq", "global_batch", "micro_batch", "precision", "gpu", "gpus", "tp", "pp",
    "dp", "recompute", "iter_time_s",
)  # fmt: skip


def _row(row: Row, stacks: Collection[str], *, timed: bool) -> StepRow:
    device, inside, gpus = _gpu(row)
    stack = one_of(row, "stack", stacks) or _stack(row)
    attention = one_of(row, "attention", ATTENTION) or _attention(row, stack)
    degrees = _degrees(row)
    notes = row.get("overlap_notes", "")
    if "AsyncTP" in notes and degrees.pp > 1:
        raise InputError("the pipeline's microbatches are not stated")
    model, (zero, zero_group) = _model(row), zero_of(row)
    run = Execution(
        micro_batch=whole(row, "micro_batch"), sequence=whole(row, "seq"), formats=get_formats(number_format(row)),
        attention="full" if attention == "unfused" else "causal", flash=attention != "unfused",
        recompute=_recompute(row), tp=degrees.tp, cp=degrees.cp, ep=degrees.ep,
        sequence_parallel=switch(row, "sequence_parallel"),
    )  # fmt: skip
    habits, precision = habits_of(stack), get_precision(row.get("bytes") or _precision(row, stack))
    run = software_run(run, habits, precision)
    schedule = _schedule(row, model, degrees)
    plan = StepPlan(
        model=model, run=run, degrees=degrees, schedule=schedule, layers=_layers(row, model, schedule.num_stages),
        device=device, efficiency=_NONE, precision=precision, zero=zero,
        bucket_bytes=25 * 2**20, overlap_tensor=_overlaps_tensor(row) and degrees.tp > 1,
        scatter_gather=stack == "megatron" and min(degrees.tp, degrees.pp) > 1 and not run.sequence_parallel,
        overlap_gradients=zero > 1 or habits.gradients or "overlapped" in notes,
        overlap_parameters=habits.parameters and zero in (1, 2), habits=habits,
        zero_group=zero_group,
        launch_blocking=switch(row, "launch_blocking", _source(row) == "bloom" and degrees.num_ranks >= 320),
    )  # fmt: skip
    sent, usual = between(row, gpus), 400e9 if device.name.startswith(("h", "grand")) else 200e9
    return StepRow(
        name=row["id"], source=_source(row), cell=_cell(row), tier=row.get("tier", ""),
        measured_s=seconds_of(row) if timed else math.nan, plan=plan, stack=stack, attention=attention,
        gpus=gpus, inside=inside, between=sent or usual, nics=nics_of(row, gpus), fabric=fabric_of(row),
        assumed=() if _published(row) else _assumed(row, plan, gpus, sent, usual),
    )  # fmt: skip


_built = cache(build_pipeline)


def _assumed(row: Row, plan: StepPlan, gpus: int, sent: float | None, usual: float) -> tuple[str, ...]:
    """What is taken for what a row of the user's own does not say.

    Raises:
        InputError: words about NICs that say nothing of them.
    """
    found = [] if row.get("vocab", "").strip() else [f"vocab {plan.model.vocab}"]
    if not row.get("gpus_per_host", "").strip():
        found.append(f"gpus_per_host {gpus}")
    if sent is None and plan.degrees.num_ranks > gpus:
        if words := row.get("interconnect", "").strip():
            raise InputError(f"interconnect = {words!r} must say what NICs there are, such as '8x NDR-400 IB'")
        found.append(f"interconnect {8 * usual / 1e9:g} Gb/s")
    return tuple(found)


def _degrees(row: Row) -> Degrees:
    if whole(row, "ep", 1) > 1 and not row.get("preset"):
        raise InputError(f"ep = {row['ep']}: a row is of a dense model unless its column preset names one with experts")
    degrees = Degrees(
        tp=whole(row, "tp"), cp=whole(row, "cp", 1), ep=whole(row, "ep", 1), dp=whole(row, "dp"), pp=whole(row, "pp")
    )
    if degrees.num_ranks != whole(row, "gpus"):
        raise InputError(
            f"gpus = {row['gpus']} must be tp {degrees.tp} x cp {degrees.cp} x dp {degrees.dp} x pp {degrees.pp} = "
            f"{degrees.num_ranks}: the degrees must multiply to the ranks"
        )
    return degrees


def _gpu(row: Row) -> tuple[Device, float, int]:
    """The device, bytes/s that it sends inside a host, and how many a host has."""
    for begins, name, inside, gpus in _DEVICES:
        if row["gpu"].upper().startswith(begins.upper()):
            return load_device(name), inside, whole(row, "gpus_per_host", gpus)
    known = ", ".join(begins for begins, *_ in _DEVICES)
    raise InputError(f"gpu {row['gpu']!r} has no constants of training steps; it may begin with {known}")


def _published(row: Row) -> bool:
    """Whether it is one of those that ship, or named like them."""
    return row["id"].startswith(_SOURCES)


def _source(row: Row) -> str:
    name = row["id"]
    found = next((begins for begins in _SOURCES if name.startswith(begins)), name.split("-")[0])
    return f"mpt-{'h100' if 'h100' in name else 'a100'}" if found == "mpt" else found


def _cell(row: Row) -> str:
    """vTrain's single-node series are exactly linear in microbatches: one cell for all batches of a configuration."""
    if _source(row) != "vtrain-single":
        return row["id"]
    return "-".join(str(whole(row, key)) for key in ("layers", "hidden", "tp", "pp", "dp", "micro_batch"))


def _stack(row: Row) -> str:
    notes = row.get("overlap_notes", "")
    for words, stack in (
        ("Megatron-DeepSpeed", "megatron-deepspeed"), ("DeepSpeed ZeRO-3", "deepspeed-zero3"),
        ("Composer FSDP", "fsdp"), ("micro_num", "internevo"),
    ):  # fmt: skip
        if words in notes:
            return stack
    if _source(row) == "titan":
        return "torchtitan" if "eager" in notes else "torchtitan-compiled"
    if _source(row) in _MEGATRON:
        return "megatron"
    raise InputError("the software stack is not known; add a column stack")


def _attention(row: Row, stack: str) -> str:
    if stack.startswith("torchtitan"):
        return "flash-2"
    if stack in ("fsdp", "internevo"):
        return "flash-2" if "H100" in row["gpu"] else "flash-1"
    if not _published(row):
        raise InputError(f"the attention kernel is not known; add a column attention ({', '.join(ATTENTION)})")
    return "unfused"


def _recompute(row: Row) -> str:
    text = row["recompute"]
    if not text or "not stated" in text or "none/" in text:
        raise InputError("recompute is not stated")
    if not text.startswith(RECOMPUTE):
        raise InputError(f"recompute = {text!r} must begin with {', '.join(RECOMPUTE)}")
    if text.startswith("selective"):
        return "per-op" if _source(row) == "titan" else "selective"
    return text.split()[0]


def _model(row: Row) -> Transformer:
    if name := row.get("preset"):
        return _preset(row, get_model(name))
    hidden, heads, sequence = whole(row, "hidden"), whole(row, "heads"), whole(row, "seq")
    if hidden % heads:
        raise InputError(f"hidden = {hidden} is not divisible by heads = {heads}")
    mosaic = row["id"].startswith("mpt")
    shape: dict[str, Any] = {
        "num_layers": whole(row, "layers"), "hidden": hidden, "num_heads": heads, "sequence": sequence,
        "vocab": whole(row, "vocab", 50368 if mosaic else 51200),
    }  # fmt: skip
    name, source = row.get("model") or f"{shape['num_layers']} layers of {hidden}", row.get("source", "")
    kv, ffn = whole(row, "kv_heads", heads), whole(row, "ffn", 4 * hidden)
    if kv != heads or ffn != 4 * hidden:
        return llama(name, source, **shape, num_kv_heads=kv, ffn=ffn)
    model = gpt(name, source, **shape)
    return replace(model, biases=False, dropout=False) if mosaic else model


def _preset(row: Row, model: Transformer) -> Transformer:
    """A preset, at the row's sequence, if the row's numbers are its own."""
    for key, own in (("layers", model.num_layers), ("hidden", model.hidden), ("heads", model.num_heads)):
        if whole(row, key) != own:
            raise InputError(f"{key} = {row[key]} is not that of preset {model.name}; give {own}, or no preset")
    sequence = whole(row, "seq")
    return replace(model, sequence=sequence, positions=sequence if model.positions else 0)


def _schedule(row: Row, model: Transformer, degrees: Degrees) -> PipelineSchedule:
    """The pipeline schedule: what the row says, or words about it."""
    named = re.search(r"schedule=([\w*-]+)", row.get("overlap_notes", ""))
    kind = row.get("schedule") or (named[1] if named else "1f1b")
    kind, ranks, chunks = _SCHEDULES.get(kind, kind), degrees.pp, row.get("vp", "").strip()
    per_rank = (model.num_layers + 2) // ranks if chunks.startswith("max") else whole({"vp": chunks}, "vp", 1)
    if kind == "zbv":
        per_rank = 2
    elif kind == "1f1b" and per_rank > 1:
        kind = "interleaved-1f1b"
    batch, each = whole(row, "global_batch"), whole(row, "micro_batch") * degrees.dp
    if batch % each:
        raise InputError(f"global_batch = {batch} must be a multiple of micro_batch x dp = {each}")
    if 2 * batch // each * ranks * per_rank > MOST_PASSES:
        raise InputError(f"global_batch = {batch}: {batch // each:,} microbatches are more than {MOST_PASSES:,} passes")
    return _built(kind, ranks, batch // each, per_rank)


def _layers(row: Row, model: Transformer, stages: int) -> tuple[int, ...]:
    each, more = divmod(model.num_layers, stages)
    if more and (model.num_layers + 2) % stages == 0:  # embedding and head count as a layer each
        return (each, *(each + 1,) * (stages - 2), each)
    if more and "uneven" in row.get("overlap_notes", ""):
        return tuple(each + (stage < more) for stage in range(stages))
    if more:
        raise InputError(f"layers = {model.num_layers} cannot be split evenly over pp x vp = {stages} stages")
    return split_layers(model, stages)


def _precision(row: Row, stack: str) -> str:
    if stack in ("internevo", "deepspeed-zero3") or stack.startswith("torchtitan"):
        return "mixed-adam"
    if "MP mode PURE" in row.get("overlap_notes", ""):
        return "mixed-adam"
    if number_format(row) == "fp16":
        return "megatron-fp16"
    return "deepspeed-bf16" if stack == "megatron-deepspeed" else "megatron-bf16"


def _overlaps_tensor(row: Row) -> bool:
    return "async" in row.get("overlap_notes", "").lower() or _source(row) == "kor22"


def predict(row: StepRow, costs: StepCosts) -> Estimate:
    """The step by the closed form, with these constants.

    Raises:
        InputError: no constants of the device, stack or links.
    """
    return closed_form(with_costs(row, costs), costs.stack(row.stack), hosts_of(row, costs), shapes=row.shapes)


def with_costs(row: StepRow, costs: StepCosts) -> StepPlan:
    """The row's plan, with efficiencies and a software stack from these constants.

    Raises:
        InputError: no constants of the device or stack.
    """
    device, stack = costs.device(row.plan.device.name), costs.stack(row.stack)
    if device is None:
        raise InputError(f"device {row.plan.device.name} has no constants of training steps")
    efficiency = step_efficiency(device, row.plan.device.name, row.plan.run.formats.name, row.attention, stack)
    return replace(row.plan, efficiency=efficiency, stack=stack)


def hosts_of(row: StepRow, costs: StepCosts) -> StepHosts:
    """The row's hosts, with constants of their links.

    Raises:
        InputError: none of the links.
    """
    return StepHosts(
        gpus=row.gpus, inside=row.inside, between=row.between, links_inside=costs.links(nvlink_kind(row.inside)),
        links_between=costs.links(row.fabric), shared_nics=shared_nics(row.nics, row.gpus, row.inside),
    )  # fmt: skip
