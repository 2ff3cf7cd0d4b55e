# SPDX-License-Identifier: Apache-2.0
"""Models that are no preset: a Hugging Face ``config.json``, or a shape by its numbers.

Of an architecture counts what decides FLOP, bytes and parameters: widths, heads, gates, biases, tied embeddings,
learned positions, experts. One whose layers are built otherwise (latent attention, shared experts, layers that differ)
is refused by its name: a wrong shape would give a number that looks right.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from commbench.errors import InputError, unknown
from commbench.workload.presets import gpt, llama
from commbench.workload.transformer import Transformer

__all__ = ["model_from_shape", "read_config"]

_LLAMA_LIKE = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma")
_GPT_LIKE = ("gpt2", "gpt_neox", "opt", "bloom", "falcon")
_OTHER = {
    "deepseek_v2": "latent attention (MLA) and shared experts",
    "deepseek_v3": "latent attention (MLA) and shared experts",
    "gemma2": "layers that differ in their attention",
    "gemma3": "layers that differ in their attention",
    "llama4": "layers that differ, and shared experts",
    "qwen2_moe": "shared experts",
    "qwen3_moe": "an MLP width of experts beside its own",
}
_OTHER_NAMES = {  # the key of llama and others, and what others call the same
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
    "max_position_embeddings": ("n_positions", "seq_length", "n_ctx"),
}


def read_config(path: Path) -> Transformer:
    """The model of a ``config.json`` of Hugging Face.

    Raises:
        InputError: it cannot be read, is of an architecture that is unknown or built otherwise, or lacks a number;
            names file, key and rule.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no config.json: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InputError(f'{path}: is no config.json of a model: model_type is missing; it says for example "llama"')
    kind = config["model_type"]
    if kind in _OTHER:
        raise InputError(f"{path}: model_type {kind!r} has {_OTHER[kind]}, which no shape here has; give one by its "
                         "numbers (--num-layers, --hidden ...) for an estimate")  # fmt: skip
    if kind not in _LLAMA_LIKE + _GPT_LIKE:
        raise InputError(f"{path}: model_type {kind!r} {unknown(kind, _LLAMA_LIKE + _GPT_LIKE)}")
    return _built(_Config(config, path), kind, path.parent.name or kind)


class _Config:
    """The numbers of a config, by their first name."""

    def __init__(self, data: Mapping[str, Any], path: Path) -> None:
        self._data, self._path = data, path

    def get(self, key: str, default: int | None = None) -> int:
        """A whole number; the default where it is not there, or null."""
        names = (key, *_OTHER_NAMES.get(key, ()))
        found = next(((name, self._data[name]) for name in names if self._data.get(name) is not None), None)
        if found is None:
            if default is None:
                raise InputError(f"{self._path}: {key} is missing")
            return default
        name, value = found
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise InputError(f"{self._path}: {name} = {value!r} must be a whole number above 0")
        return value

    def true(self, key: str, default: bool) -> bool:
        """A switch."""
        value = self._data.get(key)
        return default if value is None else bool(value)


def _built(config: _Config, kind: str, name: str) -> Transformer:
    layers, hidden, heads = (config.get(k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    vocab, source = config.get("vocab_size"), f"config.json, model_type {kind}"
    if kind in _GPT_LIKE:
        found = gpt(
            name, source, num_layers=layers, hidden=hidden, num_heads=heads, vocab=vocab,
            sequence=config.get("max_position_embeddings", 2048),
        )  # fmt: skip
        kv = heads
        if kind == "falcon":
            kv = config.get("num_kv_heads", 1 if config.true("multi_query", True) else heads)
        return replace(
            found, ffn=config.get("intermediate_size", 4 * hidden), num_kv_heads=kv,
            positions=found.positions if kind in ("gpt2", "opt") else 0,
            tied=config.true("tie_word_embeddings", kind != "gpt_neox"),
            biases=config.true("bias", kind != "falcon"), dropout=kind in ("gpt2", "opt", "bloom"),
        )  # fmt: skip
    found = llama(
        name, source, num_layers=layers, hidden=hidden, num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads", heads), ffn=config.get("intermediate_size"), vocab=vocab,
        sequence=config.get("max_position_embeddings", 4096), tied=config.true("tie_word_embeddings", kind == "gemma"),
        num_experts=config.get("num_local_experts", 1), experts_per_token=config.get("num_experts_per_tok", 1),
    )  # fmt: skip
    return replace(found, head_size=config.get("head_dim", found.head_size))


def model_from_shape(given: Mapping[str, int | bool | None], base: Transformer | None) -> Transformer:
    """A model by its numbers, or another one with some of them changed.

    Args:
        given: of num_layers, hidden, num_heads, num_kv_heads, head_size, ffn, vocab, sequence, num_experts,
            experts_per_token; gated, whether a new model is built like a LLaMA rather than a GPT.
        base: what is changed; None for a new model.

    Raises:
        InputError: a number that is missing or does not serve.
    """
    numbers: dict[str, Any] = {key: value for key, value in given.items() if value is not None and key != "gated"}
    if base is not None:
        if "num_heads" in numbers or "hidden" in numbers:
            heads, hidden = numbers.get("num_heads", base.num_heads), numbers.get("hidden", base.hidden)
            numbers.setdefault("head_size", _divided(hidden, heads))
            if base.num_heads == base.num_kv_heads:
                numbers.setdefault("num_kv_heads", heads)
            if base.ffn == 4 * base.hidden:
                numbers.setdefault("ffn", 4 * hidden)
        changed = ", ".join(f"{key} {value}" for key, value in numbers.items() if key != "sequence")
        return replace(base, **numbers, name=f"{base.name} with {changed}" if changed else base.name)
    needed = ("num_layers", "hidden", "num_heads", "vocab", "sequence")
    missing = [f"--{key.replace('_', '-')}" for key in needed if key not in numbers]
    if missing:
        raise InputError(f"a model by its numbers lacks {', '.join(missing)}; or name one with --model")
    heads, hidden = numbers["num_heads"], numbers["hidden"]
    own = {key: numbers[key] for key in needed}
    name, source = f"{numbers['num_layers']} layers of {hidden}", "given by its numbers"
    if given.get("gated"):
        found = llama(name, source, **own, num_kv_heads=heads, ffn=numbers.get("ffn", 4 * hidden))
    else:
        found = gpt(name, source, **own)
    return replace(found, **numbers)


def _divided(hidden: int, heads: int) -> int:
    if heads < 1 or hidden % heads:
        raise InputError(f"--hidden {hidden} is not divisible by --num-heads {heads}; or give --head-size")
    return hidden // heads
