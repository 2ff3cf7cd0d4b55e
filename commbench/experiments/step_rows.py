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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from commbench.errors import InputError
from commbench.topology.devices import Device, load_device
from commbench.training.closed_form import Estimate, Shapes, closed_form
from commbench.training.step_hosts import StepHosts, shared_nics
from commbench.workload.compute import Efficiency
from commbench.workload.formats import get_formats
from commbench.workload.groups import Degrees
from commbench.workload.memory import get_precision
from commbench.workload.pipeline.registry import build_pipeline
from commbench.workload.presets import get_model, gpt, llama
from commbench.workload.stack_habits import habits_of, software_run
from commbench.workload.step_costs import StepCosts, nvlink_kind
from commbench.workload.step_efficiency import step_efficiency
from commbench.workload.step_plan import StepPlan, num_microbatches
from commbench.workload.transformer import Execution, Transformer, split_layers

__all__ = ["StepRow", "hosts_of", "predict", "read_rows", "with_costs"]

Row = Mapping[str, str]

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
        gpus, inside, between, fabric: see ``closed_form.StepHosts``; ``fabric`` names the links between hosts.
        nics: of a host; one for each GPU where the row does not say.
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
    shapes: Shapes = field(default_factory=dict, repr=False, compare=False)


def read_rows(path: Path, *, timed: bool = True) -> tuple[list[StepRow], list[tuple[str, str]]]:
    """The rows of a file, and (id, why) of those that do not say enough.

    Args:
        path: a CSV file. timed: whether a row must say how long its step takes; otherwise that is not a number.

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
    for number, row in enumerate(rows, start=2):
        try:
            found.append(_row({key: value or "" for key, value in row.items() if key}, timed=timed))
        except InputError as error:
            left.append((row["id"] or f"line {number}", str(error)))
    return found, left


_NEEDED = (
    "id", "layers", "hidden", "heads", "seq", "global_batch", "micro_batch", "precision", "gpu", "gpus", "tp", "pp",
    "dp", "recompute", "iter_time_s",
)  # fmt: skip


def _row(row: Row, *, timed: bool) -> StepRow:
    device, inside, gpus = _gpu(row)
    stack = row.get("stack") or _stack(row)
    attention = row.get("attention") or _attention(row, stack)
    degrees = Degrees(
        tp=_int(row, "tp"), cp=_int(row, "cp", 1), ep=_int(row, "ep", 1), dp=_int(row, "dp"), pp=_int(row, "pp")
    )
    degrees.check_ranks(_int(row, "gpus"))
    notes = row.get("overlap_notes", "")
    if "AsyncTP" in notes and degrees.pp > 1:
        raise InputError("the pipeline's microbatches are not stated")
    model = _model(row)
    run = Execution(
        micro_batch=_int(row, "micro_batch"), sequence=_int(row, "seq"), formats=get_formats(_format(row)),
        attention="full" if attention == "unfused" else "causal", flash=attention != "unfused",
        recompute=_recompute(row), tp=degrees.tp, cp=degrees.cp, ep=degrees.ep,
        sequence_parallel=_int(row, "sequence_parallel", 0) == 1,
    )  # fmt: skip
    habits, precision = habits_of(stack), get_precision(row.get("bytes") or _precision(row, stack))
    run = software_run(run, habits, precision)
    kind, per_rank = _schedule(row, model, degrees.pp)
    microbatches = num_microbatches(_int(row, "global_batch"), run.micro_batch, degrees.dp)
    schedule = _built(kind, degrees.pp, microbatches, per_rank)
    plan = StepPlan(
        model=model, run=run, degrees=degrees, schedule=schedule, layers=_layers(row, model, schedule.num_stages),
        device=device, efficiency=_NONE, precision=precision,
        zero=_zero(row), bucket_bytes=25 * 2**20, overlap_tensor=_overlaps_tensor(row) and degrees.tp > 1,
        scatter_gather=stack == "megatron" and min(degrees.tp, degrees.pp) > 1 and not run.sequence_parallel,
        overlap_gradients=_zero(row) > 1 or habits.gradients or "overlapped" in notes,
        overlap_parameters=habits.parameters and _zero(row) in (1, 2), habits=habits,
        zero_group=8 if "within 8" in row.get("zero", "") else 0,
        launch_blocking=_int(row, "launch_blocking", int(_source(row) == "bloom" and degrees.num_ranks >= 320)) == 1,
    )  # fmt: skip
    return StepRow(
        name=row["id"], source=_source(row), cell=_cell(row), tier=row.get("tier", ""),
        measured_s=_measured(row) if timed else math.nan, plan=plan, stack=stack, attention=attention,
        gpus=gpus, inside=inside, between=_between(row, gpus), nics=_nics(row, gpus), fabric=_fabric(row),
    )  # fmt: skip


_built = cache(build_pipeline)


def _int(row: Row, key: str, default: int | None = None) -> int:
    text = row.get(key, "").strip()
    if not text:
        if default is None:
            raise InputError(f"{key} is not stated")
        return default
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise InputError(f"{key} = {text!r} is no number") from None


def _gpu(row: Row) -> tuple[Device, float, int]:
    for begins, name, inside, gpus in _DEVICES:
        if row["gpu"].startswith(begins):
            return load_device(name), inside, gpus
    raise InputError(f"gpu {row['gpu']!r} has no constants of training steps")


def _source(row: Row) -> str:
    name = row["id"]
    found = next((begins for begins in _SOURCES if name.startswith(begins)), name.split("-")[0])
    return f"mpt-{'h100' if 'h100' in name else 'a100'}" if found == "mpt" else found


def _cell(row: Row) -> str:
    """vTrain's single-node series are exactly linear in microbatches: one cell for all batches of a configuration."""
    if _source(row) != "vtrain-single":
        return row["id"]
    return "-".join(str(_int(row, key)) for key in ("layers", "hidden", "tp", "pp", "dp", "micro_batch"))


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
    return "unfused"


def _format(row: Row) -> str:
    text = row["precision"].lower()
    if "fp8" in text:
        return "fp8-rowwise" if "rowwise" in text else "fp8"
    return "bf16" if "bf16" in text else "fp16"


def _recompute(row: Row) -> str:
    text = row["recompute"]
    if "not stated" in text or "none/" in text or not text.startswith(("full", "selective", "per-op", "none")):
        raise InputError("recompute is not stated")
    if text.startswith("selective"):
        return "per-op" if _source(row) == "titan" else "selective"
    return text.split()[0]


def _model(row: Row) -> Transformer:
    if name := row.get("preset"):
        return _preset(row, get_model(name))
    hidden, heads, sequence = _int(row, "hidden"), _int(row, "heads"), _int(row, "seq")
    mosaic = row["id"].startswith("mpt")
    shape: dict[str, Any] = {
        "num_layers": _int(row, "layers"), "hidden": hidden, "num_heads": heads, "sequence": sequence,
        "vocab": _int(row, "vocab", 50368 if mosaic else 51200),
    }  # fmt: skip
    name, source = row.get("model", ""), row.get("source", "")
    kv, ffn = _int(row, "kv_heads", heads), _int(row, "ffn", 4 * hidden)
    if kv != heads or ffn != 4 * hidden:
        return llama(name, source, **shape, num_kv_heads=kv, ffn=ffn)
    model = gpt(name, source, **shape)
    return replace(model, biases=False, dropout=False) if mosaic else model


def _preset(row: Row, model: Transformer) -> Transformer:
    """A preset, at the row's sequence, if the row's numbers are its own."""
    for key, own in (("layers", model.num_layers), ("hidden", model.hidden), ("heads", model.num_heads)):
        if _int(row, key) != own:
            raise InputError(f"{key} = {row[key]} is not that of preset {model.name}; give {own}, or no preset")
    sequence = _int(row, "seq")
    return replace(model, sequence=sequence, positions=sequence if model.positions else 0)


def _schedule(row: Row, model: Transformer, ranks: int) -> tuple[str, int]:
    """Name of the pipeline schedule, and its stages per rank."""
    named = re.search(r"schedule=([\w*-]+)", row.get("overlap_notes", ""))
    kind = row.get("schedule") or (_SCHEDULES.get(named[1], named[1]) if named else "1f1b")
    chunks = row.get("vp", "").strip()
    per_rank = (model.num_layers + 2) // ranks if chunks.startswith("max") else _int({"vp": chunks}, "vp", 1)
    if kind == "zbv":
        return kind, 2
    return ("interleaved-1f1b" if kind == "1f1b" and per_rank > 1 else kind), per_rank


def _layers(row: Row, model: Transformer, stages: int) -> tuple[int, ...]:
    each, more = divmod(model.num_layers, stages)
    if more and (model.num_layers + 2) % stages == 0:  # embedding and head count as a layer each
        return (each, *(each + 1,) * (stages - 2), each)
    if more and "uneven" in row.get("overlap_notes", ""):
        return tuple(each + (stage < more) for stage in range(stages))
    return split_layers(model, stages)


def _zero(row: Row) -> int:
    text = row.get("zero", "").strip()
    return 3 if text == "FSDP" else int(text[0]) if text[:1].isdigit() else 0


def _precision(row: Row, stack: str) -> str:
    if stack in ("internevo", "deepspeed-zero3") or stack.startswith("torchtitan"):
        return "mixed-adam"
    if "MP mode PURE" in row.get("overlap_notes", ""):
        return "mixed-adam"
    if _format(row) == "fp16":
        return "megatron-fp16"
    return "deepspeed-bf16" if stack == "megatron-deepspeed" else "megatron-bf16"


def _overlaps_tensor(row: Row) -> bool:
    return "async" in row.get("overlap_notes", "").lower() or _source(row) == "kor22"


def _measured(row: Row) -> float:
    """Seconds of the step; where only FLOP/s are published, by the formula of arXiv 2104.04473, equation 3."""
    text = row["iter_time_s"].strip()
    try:
        if text:
            return float(text)
        rate = float(row.get("tflops_per_gpu", "")) * 1e12 * _int(row, "gpus")
    except ValueError:
        raise InputError("no iteration time in seconds, nor FLOP/s per GPU") from None
    layers, hidden, seq, vocab = (_int(row, key) for key in ("layers", "hidden", "seq", "vocab"))
    per_token = 96 * layers * hidden**2 * (1 + seq / (6 * hidden) + vocab / (16 * layers * hidden))
    return _int(row, "global_batch") * seq * per_token / rate


def _between(row: Row, gpus: int = 8) -> float:
    """Bytes/s that a host sends, from the words about its NICs; where there are none, what such hosts usually have."""
    text = row.get("interconnect", "")
    if match := _counted_nics(text):
        return int(match[1]) * int(match[2]) * 1e9 / 8
    if match := re.search(r"(\d{2,4}) ?Gb/s[^,;]* per GPU", text):
        return int(match[1]) * 1e9 / 8 * gpus
    if match := re.search(r"(\d{3,4}) ?Gb/s", text):
        return int(match[1]) * 1e9 / 8
    return 400e9 if row["gpu"].startswith("H") else 200e9


def _nics(row: Row, gpus: int) -> int:
    match = _counted_nics(row.get("interconnect", ""))
    return int(match[1]) if match else gpus


def _counted_nics(text: str) -> re.Match[str] | None:
    """How many NICs of how many Gbit/s."""
    return re.search(r"(\d+)x (?:HDR|NDR|Omni-Path|CX)?[- ]?(\d{2,3})(?!\d)", text)


def _fabric(row: Row) -> str:
    text = row.get("interconnect", "").lower()
    return "omni-path" if "omni-path" in text else "roce" if "roce" in text else "infiniband"


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
