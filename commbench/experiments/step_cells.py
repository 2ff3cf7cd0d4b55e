# SPDX-License-Identifier: Apache-2.0
"""Cells of a row of measured steps: from text to numbers and words, each by its column's rule."""

import math
import re
from collections.abc import Collection, Mapping

from commbench.errors import InputError, unknown
from commbench.experiments.step_given import MOST

__all__ = [
    "Row",
    "between",
    "fabric_of",
    "nics_of",
    "number_format",
    "one_of",
    "seconds_of",
    "switch",
    "whole",
    "zero_of",
]

Row = Mapping[str, str]
"""Text by column; what is not there is empty."""

_MOST = {
    "layers": "num_layers", "heads": "num_heads", "kv_heads": "num_kv_heads", "seq": "sequence",
    "micro_batch": "microbatch", "gpus": "ranks", "vp": "stages_per_rank", "gpus_per_host": "ranks",
}  # fmt: skip
"""Columns, and what ``sim train`` calls them where it is another word."""


def whole(row: Row, key: str, default: int | None = None) -> int:
    """A count of 1 or more; ``default`` where it is not stated."""
    text = row.get(key, "").strip()
    if not text:
        if default is None:
            raise InputError(f"{key} is not stated")
        return default
    most = MOST[_MOST.get(key, key)]
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{key} = {text!r} is no number") from None
    if not 1 <= value <= most or value != int(value):
        raise InputError(f"{key} = {text!r} must be a whole number, 1 to {most}")
    return int(value)


def switch(row: Row, key: str, default: bool = False) -> bool:
    """Yes or no; ``default`` where it is not stated."""
    text = row.get(key, "").strip()
    if text not in ("", "0", "1"):
        raise InputError(f"{key} = {text!r} must be 1 or 0")
    return text == "1" if text else default


def one_of(row: Row, key: str, known: Collection[str]) -> str:
    """A word of those that are known; empty where it is not stated."""
    text = row.get(key, "").strip()
    if text and text not in known:
        raise InputError(f"{key} = {text!r} {unknown(text, known)}")
    return text


def seconds_of(row: Row) -> float:
    """Seconds of the step; where only FLOP/s are published, by the formula of arXiv 2104.04473, equation 3."""
    text = row["iter_time_s"].strip()
    if text:
        return _positive("iter_time_s", text, "seconds")
    text = row.get("tflops_per_gpu", "").strip()
    if not text:
        raise InputError("no iteration time in seconds (iter_time_s), nor FLOP/s per GPU (tflops_per_gpu)")
    rate = _positive("tflops_per_gpu", text, "TFLOP/s") * 1e12 * whole(row, "gpus")
    layers, hidden, seq, vocab = (whole(row, key) for key in ("layers", "hidden", "seq", "vocab"))
    per_token = 96 * layers * hidden**2 * (1 + seq / (6 * hidden) + vocab / (16 * layers * hidden))
    return whole(row, "global_batch") * seq * per_token / rate


def _positive(key: str, text: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{key} = {text!r} is no number of {unit}") from None
    if not 0 < value < math.inf:
        raise InputError(f"{key} = {text!r} must be {unit}, above 0 and finite")
    return value


def number_format(row: Row) -> str:
    """What products are made in."""
    text = row["precision"].lower()
    if "fp8" in text:
        return "fp8-rowwise" if "rowwise" in text else "fp8"
    found = next((word for word in ("bf16", "fp16") if word in text), None)
    if found is None:
        raise InputError(f"precision = {row['precision']!r} must name bf16, fp16, fp8 or fp8-rowwise")
    return found


def zero_of(row: Row) -> tuple[int, int]:
    """ZeRO's stage, and ranks that it divides over; 0: all."""
    text = row.get("zero", "").strip()
    match = re.match(r"([0-3])(?![\w.])", text)
    if text and not match and not text.startswith("FSDP"):
        raise InputError(f"zero = {text!r} must begin with 0, 1, 2 or 3, or be FSDP, which is 3")
    within = re.search(r"within (\d+)", text)
    return (int(match[1]) if match else 3 if text else 0), int(within[1]) if within else 0


def between(row: Row, gpus: int) -> float | None:
    """Bytes/s that a host of so many GPUs sends, from the words about its NICs; None where they do not say."""
    text = row.get("interconnect", "")
    if match := _counted_nics(text):
        return int(match[1]) * int(match[2]) * 1e9 / 8
    if match := re.search(r"(\d{2,4}) ?Gb/s[^,;]* per GPU", text):
        return int(match[1]) * gpus * 1e9 / 8
    if match := re.search(r"(\d{3,4}) ?Gb/s", text):
        return int(match[1]) * 1e9 / 8
    return None


def nics_of(row: Row, gpus: int) -> int:
    """NICs of a host; one for each GPU where they are not counted."""
    match = _counted_nics(row.get("interconnect", ""))
    return int(match[1]) if match else gpus


def _counted_nics(text: str) -> re.Match[str] | None:
    """How many NICs of how many Gbit/s."""
    return re.search(r"(\d+)x (?:HDR|NDR|Omni-Path|CX)?[- ]?(\d{2,3})(?!\d)", text)


def fabric_of(row: Row) -> str:
    """Links between hosts."""
    text = row.get("interconnect", "").lower()
    return "omni-path" if "omni-path" in text else "roce" if "roce" in text else "infiniband"
