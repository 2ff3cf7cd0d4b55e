# SPDX-License-Identifier: Apache-2.0
"""Models that are no preset: a Hugging Face ``config.json``, or a shape by its numbers.

Of an architecture counts what decides FLOP, bytes and parameters: widths, heads, gates, biases, tied embeddings,
learned positions, experts routed and shared, layers without, latent attention (MLA). One whose layers are built
otherwise is refused by its name: a wrong shape would give a number that looks right.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from commbench.errors import InputError, unknown
from commbench.workload.presets import divided, gpt, llama
from commbench.workload.transformer import LatentAttention, Transformer

__all__ = ["model_from_shape", "read_config"]

_LLAMA_LIKE = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma")
_GPT_LIKE = ("gpt2", "gpt_neox", "opt", "bloom", "falcon")
_LEARNED = ("gpt2", "opt")  # positions, as many as the longest sequence has
_MIXTURES = ("deepseek_v2", "deepseek_v3", "qwen3_moe", "llama4", "llama4_text")
_OTHER = {
    "gemma2": "layers that differ in their attention",
    "gemma3": "layers that differ in their attention",
    "qwen2_moe": "a gate of its shared experts",
}
_OTHER_NAMES = {  # the key of llama and others, and what others call the same
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
    "max_position_embeddings": ("n_positions", "seq_length", "n_ctx"),
}


def read_config(path: Path, sequence: int | None = None) -> Transformer:
    """The model of a ``config.json`` of Hugging Face.

    Args:
        path: the file. sequence: tokens of a training sequence, for a file that does not say how long they may be.

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
    known = _LLAMA_LIKE + _GPT_LIKE + _MIXTURES
    if kind not in known:
        raise InputError(f"{path}: model_type {kind!r} {unknown(kind, known)}")
    if isinstance(config.get("text_config"), dict):  # beside other inputs; the whole says whether tables are tied
        config = {"tie_word_embeddings": config.get("tie_word_embeddings")} | config["text_config"]
    read = _Config(config, path)
    try:
        return _built(read, kind, path.resolve().parent.name or kind, sequence)
    except InputError as error:  # of numbers that do not belong together
        raise InputError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


class _Config:
    """The numbers of a config, by their first name."""

    def __init__(self, data: Mapping[str, Any], path: Path) -> None:
        self._data, self._path = data, path

    def get(self, key: str, default: int | None = None, *, least: int = 1, rule: str = "") -> int:
        """A whole number; the default where it is not there, or null. ``rule``: what serves where it is missing."""
        names = (key, *_OTHER_NAMES.get(key, ()))
        found = next(((name, self._data[name]) for name in names if self._data.get(name) is not None), None)
        if found is None:
            if default is None:
                raise InputError(f"{self._path}: {key} is missing{rule}")
            return default
        name, value = found
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
            raise InputError(f"{self._path}: {name} = {value!r} must be a whole number above {least - 1}")
        return value

    def head_size(self, hidden: int, heads: int) -> int:
        """Width of a head of queries: what the file says, or the heads' share of the width."""
        if self._data.get("head_dim") is None and hidden % heads:
            raise InputError(
                f"{self._path}: num_attention_heads = {heads} must divide hidden_size {hidden}, or head_dim be given"
            )
        return self.get("head_dim", hidden // heads)

    def true(self, key: str, default: bool) -> bool:
        """A switch."""
        value = self._data.get(key)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{self._path}: {key} = {value!r} must be true or false")
        return default if value is None else value

    def window_words(self, kind: str) -> str:
        """Of attention to so many last tokens alone, where a model has it."""
        used = self.true("use_sliding_window", kind in ("mistral", "mixtral"))
        window = self.get("sliding_window", 0, least=0) if used else 0
        return f"; its sliding window of {window} tokens is not modelled" if window else ""

    def only(self, key: str, *values: object) -> None:
        """Raise where a key says something that no shape here has."""
        value = self._data.get(key)
        if value is not None and value not in values:
            raise InputError(f"{self._path}: {key} = {value!r} is not modelled; only {values[0]!r} is")


def _built(config: _Config, kind: str, name: str, sequence: int | None) -> Transformer:
    layers, hidden, heads = (config.get(k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    vocab, source = config.get("vocab_size"), f"config.json, model_type {kind}{config.window_words(kind)}"
    longest = config.get("max_position_embeddings", None if kind in _LEARNED else sequence, rule="; or give --sequence")
    size = config.head_size(hidden, heads)
    if kind in _GPT_LIKE:
        found = gpt(
            name, source, num_layers=layers, hidden=hidden, num_heads=heads, head_size=size, vocab=vocab,
            sequence=longest,
        )  # fmt: skip
        kv = heads
        if kind == "falcon":  # as modeling_falcon.py reads it: without its new form, one head for all or one for each
            several = config.true("new_decoder_architecture", False) or not config.true("multi_query", True)
            kv = config.get("num_kv_heads", heads) if several else 1
        return replace(
            found, ffn=config.get("intermediate_size", 4 * hidden), num_kv_heads=kv,
            positions=found.positions if kind in _LEARNED else 0,
            tied=config.true("tie_word_embeddings", kind != "gpt_neox"),
            biases=config.true("bias", kind != "falcon"), dropout=kind in ("gpt2", "opt", "bloom"),
        )  # fmt: skip
    own = kind in ("deepseek_v2", "deepseek_v3", "qwen3_moe")  # have names of their own for what experts are
    found = llama(
        name, source, num_layers=layers, hidden=hidden, num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads", heads), ffn=config.get("intermediate_size"), vocab=vocab,
        sequence=longest, tied=config.true("tie_word_embeddings", kind == "gemma"),
        head_size=size,
        num_experts=1 if own else config.get("num_local_experts", 1),
        experts_per_token=1 if own else config.get("num_experts_per_tok", 1),
    )  # fmt: skip
    return _mixture(config, kind, found) if kind in _MIXTURES else found


def _mixture(config: _Config, kind: str, found: Transformer) -> Transformer:
    """The same with experts, and what else an architecture has that has them beside a dense MLP."""
    dense = found.ffn
    if kind.startswith("llama4"):
        step, chunk = config.get("interleave_moe_layer_step", 1), config.get("attention_chunk_size", 8192)
        config.only("moe_layers", list(range(step - 1, found.num_layers, step)))
        return replace(
            found, shared_ffn=dense, sparse_step=step, sequence=min(found.sequence, chunk),
            dense_ffn=config.get("intermediate_size_mlp") if step > 1 else 0,
        )  # fmt: skip
    width = config.get("moe_intermediate_size")
    found = replace(found, ffn=width)
    if kind == "qwen3_moe":
        config.only("mlp_only_layers", [])
        step = config.get("decoder_sparse_step", 1)
        return replace(
            found, num_experts=config.get("num_experts"), experts_per_token=config.get("num_experts_per_tok"),
            sparse_step=step, dense_ffn=dense if step > 1 else 0,
        )  # fmt: skip
    config.only("moe_layer_freq", 1)
    first, rope = config.get("first_k_dense_replace", 0, least=0), config.get("qk_rope_head_dim")
    return replace(
        found, num_experts=config.get("n_routed_experts"), experts_per_token=config.get("num_experts_per_tok"),
        shared_ffn=width * config.get("n_shared_experts", 0, least=0),
        first_dense=first, dense_ffn=dense if first else 0, head_size=config.get("qk_nope_head_dim") + rope,
        latent=LatentAttention(
            q_rank=config.get("q_lora_rank", 0), kv_rank=config.get("kv_lora_rank"), rope_size=rope,
            value_size=config.get("v_head_dim"),
        ),
    )  # fmt: skip


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
            if base.head_size * base.num_heads == base.hidden and "head_size" not in numbers:  # else it is its own
                numbers["head_size"] = divided(base.name, hidden, heads)
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
    own = {key: numbers[key] for key in needed} | {"head_size": numbers.get("head_size")}
    name, source = f"{numbers['num_layers']} layers of {hidden}", "given by its numbers"
    if given.get("gated"):
        found = llama(name, source, **own, num_kv_heads=heads, ffn=numbers.get("ffn", 4 * hidden))
    else:
        found = gpt(name, source, **own)
    return replace(found, **numbers)
