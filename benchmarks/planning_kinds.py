# SPDX-License-Identifier: Apache-2.0
"""Kinds of strategies that a closed form is likely to miss, 16 to 256 GPUs on hosts of 8."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from commbench.planner.strategy import Strategy

__all__ = ["KINDS", "Kind"]

_HOST = 8  # GPUs


@dataclass(frozen=True, slots=True)
class Kind:
    """Strategies of a kind.

    Attributes:
        name: in words. cases: models, where, batches.
        pick: makes of a strategy that was drawn one of the kind; None where it is none.
    """

    name: str
    cases: tuple[Mapping[str, Any], ...]
    pick: Callable[[Strategy, Random], Strategy | None]


def _over_hosts(one: Strategy, draw: Random) -> Strategy | None:
    return one if one.zero == 3 and one.tp > _HOST else None


def _within_hosts(one: Strategy, draw: Random) -> Strategy | None:
    return one if one.zero == 3 and 1 < one.tp <= _HOST < one.tp * one.cp * one.dp else None


def _sharded(one: Strategy, draw: Random) -> Strategy | None:
    return one if one.zero == 3 else None


def _uneven(one: Strategy, draw: Random) -> Strategy | None:
    """Layers moved between stages; the head makes the last stage heavier anyway."""
    if one.schedule != "1f1b" or one.pp == 1 or one.zero == 3:
        return None
    layers = list(one.layers)
    for _ in range(draw.randint(1, 2)):
        fewer, more = draw.sample(range(one.pp), 2)
        if layers[fewer] > 1:
            layers[fewer] -= 1
            layers[more] += 1
    return replace(one, layers=tuple(layers))


_DENSE: tuple[Mapping[str, Any], ...] = (
    {"model": "gpt3-1.3b", "topology": "dgx-h100-x4", "global_batch": 128},
    {"model": "llama3-8b", "topology": "dgx-h100-x4", "global_batch": 128},
    {"model": "llama3-70b", "topology": "dgx-h100-x16", "global_batch": 128},
    {"model": "llama3-70b", "topology": "dgx-h100-x64", "ranks": 256, "global_batch": 256},
    {"model": "gpt3-175b", "topology": "dgx-h100-x64", "ranks": 256, "global_batch": 256},
)
_MIXTURES: tuple[Mapping[str, Any], ...] = (
    {"model": "mixtral-8x7b", "topology": "dgx-h100-x4", "sequence": 4096, "global_batch": 128},
    {"model": "mixtral-8x7b", "topology": "dgx-h100-x16", "sequence": 4096, "global_batch": 256},
    {"model": "mixtral-8x22b", "topology": "dgx-h100-x16", "sequence": 4096, "global_batch": 128},
    {"model": "mixtral-8x22b", "topology": "dgx-h100-x64", "ranks": 256, "sequence": 4096, "global_batch": 256},
    {"model": "qwen3-30b-a3b", "topology": "dgx-h100-x4", "sequence": 4096, "global_batch": 64},
    {"model": "deepseek-v2", "topology": "dgx-h100-x16", "sequence": 4096, "global_batch": 128},
)
_PIPELINES: tuple[Mapping[str, Any], ...] = (
    {"model": "gpt3-1.3b", "topology": "dgx-h100-x2", "global_batch": 64},
    {"model": "llama3-8b", "topology": "dgx-h100-x4", "global_batch": 128},
    {"model": "llama2-13b", "topology": "dgx-a100-x4", "device": "a100-sxm4-80gb", "global_batch": 128},
    {"model": "llama3-70b", "topology": "dgx-h100-x16", "global_batch": 128},
    {"model": "gpt3-175b", "topology": "dgx-h100-x64", "ranks": 256, "global_batch": 256},
    {"model": "mixtral-8x7b", "topology": "dgx-h100-x4", "sequence": 4096, "global_batch": 128},
)
KINDS = (
    Kind("ZeRO 3, tensor groups over hosts", _DENSE, _over_hosts),
    Kind("ZeRO 3, tensor groups within hosts, data groups over them", _DENSE, _within_hosts),
    Kind("ZeRO 3, mixtures of experts", _MIXTURES, _sharded),
    Kind("1F1B, uneven stages", _PIPELINES, _uneven),
)
