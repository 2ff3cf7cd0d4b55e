# SPDX-License-Identifier: Apache-2.0
"""Published model shapes, each with its source; tests hold them against published parameter counts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from commbench.errors import InputError, unknown
from commbench.workload.transformer import LatentAttention, Transformer

__all__ = ["MODELS", "divided", "get_model", "gpt", "llama"]


def gpt(
    name: str,
    source: str,
    *,
    num_layers: int,
    hidden: int,
    num_heads: int,
    vocab: int,
    sequence: int,
    head_size: int | None = None,
) -> Transformer:
    """A GPT as GPT-2 and Megatron-LM build it: MLP of 4 h, learned positions, biases, dropout, tied embedding.

    Raises:
        InputError: a size below 1, or heads that do not divide the width, of no ``head_size`` of their own.
    """
    return Transformer(
        name=name,
        source=source,
        num_layers=num_layers,
        hidden=hidden,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_size=divided(name, hidden, num_heads) if head_size is None else head_size,
        ffn=4 * hidden,
        vocab=vocab,
        sequence=sequence,
        positions=sequence,
        gated=False,
        biases=True,
        tied=True,
        dropout=True,
    )


def llama(
    name: str,
    source: str,
    *,
    num_layers: int,
    hidden: int,
    num_heads: int,
    num_kv_heads: int,
    ffn: int,
    vocab: int,
    sequence: int,
    head_size: int | None = None,
    tied: bool = False,
    num_experts: int = 1,
    experts_per_token: int = 1,
) -> Transformer:
    """A LLaMA or Mixtral: gated MLP, rotary positions, RMSNorm, no biases and no dropout.

    Raises:
        InputError: a size below 1, or heads that do not divide the width, of no ``head_size`` of their own.
    """
    return Transformer(
        name=name,
        source=source,
        num_layers=num_layers,
        hidden=hidden,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_size=divided(name, hidden, num_heads) if head_size is None else head_size,
        ffn=ffn,
        vocab=vocab,
        sequence=sequence,
        positions=0,
        gated=True,
        biases=False,
        tied=tied,
        dropout=False,
        num_experts=num_experts,
        experts_per_token=experts_per_token,
    )


def divided(name: str, hidden: int, num_heads: int) -> int:
    """The width of a head, where all of them together are as wide as the residual stream.

    Raises:
        InputError: the heads do not divide the width.
    """
    if num_heads < 1 or hidden % num_heads:
        raise InputError(
            f"model {name}: hidden {hidden} is not divisible by num_heads {num_heads}; or give --head-size"
        )
    return hidden // num_heads


_GPT2 = "Radford et al. 2019, table 2; openai/gpt-2 hparams.json (the names of Hugging Face)"
_GPT3 = "arXiv 2005.14165, table 2.1; vocabulary of GPT-2"
_GPT3_XL = f"{_GPT3}; 16 heads, because the 24 printed there times 128 do not give the width 2048"
_GPT3_13B = f"{_GPT3}; width 5120, because the 5140 printed there is not 40 heads times 128"
_KORTHIKANTI = "arXiv 2205.05198, table 3; vocabulary padded to 51200 (section 6)"
_LLAMA1 = "arXiv 2302.13971, table 2; MLP widths from the released params.json (2/3 of 4 h, rounded up to 256)"
_LLAMA2 = "arXiv 2307.09288, appendix A.2.1; huggingface.co/meta-llama config.json"
_LLAMA3 = "arXiv 2407.21783, table 3"
_LLAMA32 = "huggingface.co/meta-llama/Llama-3.2-1B and -3B, config.json"
_MIXTRAL = "arXiv 2401.04088, table 1"
_MIXTRAL22 = "huggingface.co/mistralai/Mixtral-8x22B-v0.1, config.json"

_MISTRAL = "huggingface.co/mistralai/Mistral-7B-v0.1, config.json; its sliding window is not modelled"
_QWEN25 = "arXiv 2412.15115; huggingface.co/Qwen config.json; sequences of the first stage; QKV biases left out"
_QWEN3 = "arXiv 2505.09388; huggingface.co/Qwen config.json; sequences of the first stage"
_GEMMA = "arXiv 2403.08295, table 1"
_BLOOM = "arXiv 2211.05100, table 3; vocabulary padded to 250880"
_OPT = "arXiv 2205.01068, table 1; vocabulary 50272 (huggingface.co/facebook config.json)"
_MTNLG = "arXiv 2201.11990, section 2; vocabulary padded to 51200"
_FALCON = "arXiv 2311.16867, table 16; huggingface.co/tiiuae config.json"
_GLM = "arXiv 2210.02414, table 11"

_NEMOTRON = "arXiv 2406.11704; NVIDIA/NeMo-Megatron-Launcher, launcher_scripts/conf/training/nemotron"

_DEEPSEEK2 = "arXiv 2405.04434, section 3.1.2; huggingface.co/deepseek-ai/DeepSeek-V2, config.json"
_DEEPSEEK3 = (
    "arXiv 2412.19437, section 4.2; huggingface.co/deepseek-ai/DeepSeek-V3, config.json; "
    "without its layer for multi-token prediction"
)
_QWEN3_MOE = "arXiv 2505.09388, table 2; huggingface.co/Qwen config.json; sequences of the first stage"
_LLAMA4 = (
    "huggingface.co/meta-llama Llama-4 config.json, its text part; sequences of one attention chunk: longer ones are "
    "counted as if every layer attended to all of it"
)

_GPT_ROWS = (  # name, source, layers, hidden, heads, vocabulary, sequence
    ("gpt2", _GPT2, 12, 768, 12, 50257, 1024),
    ("gpt2-medium", _GPT2, 24, 1024, 16, 50257, 1024),
    ("gpt2-large", _GPT2, 36, 1280, 20, 50257, 1024),
    ("gpt2-xl", _GPT2, 48, 1600, 25, 50257, 1024),
    ("gpt3-125m", _GPT3, 12, 768, 12, 50257, 2048),
    ("gpt3-350m", _GPT3, 24, 1024, 16, 50257, 2048),
    ("gpt3-760m", _GPT3, 24, 1536, 16, 50257, 2048),
    ("gpt3-1.3b", _GPT3_XL, 24, 2048, 16, 50257, 2048),
    ("gpt3-2.7b", _GPT3, 32, 2560, 32, 50257, 2048),
    ("gpt3-6.7b", _GPT3, 32, 4096, 32, 50257, 2048),
    ("gpt3-13b", _GPT3_13B, 40, 5120, 40, 50257, 2048),
    ("gpt3-175b", _GPT3, 96, 12288, 96, 50257, 2048),
    ("megatron-22b", _KORTHIKANTI, 48, 6144, 64, 51200, 2048),
    ("megatron-175b", _KORTHIKANTI, 96, 12288, 96, 51200, 2048),
    ("megatron-530b", _KORTHIKANTI, 105, 20480, 128, 51200, 2048),
    ("megatron-1t", _KORTHIKANTI, 128, 25600, 160, 51200, 2048),
    ("mt-nlg-530b", _MTNLG, 105, 20480, 128, 51200, 2048),
    ("opt-6.7b", _OPT, 32, 4096, 32, 50272, 2048),
    ("opt-13b", _OPT, 40, 5120, 40, 50272, 2048),
    ("opt-30b", _OPT, 48, 7168, 56, 50272, 2048),
    ("opt-66b", _OPT, 64, 9216, 72, 50272, 2048),
    ("opt-175b", _OPT, 96, 12288, 96, 50272, 2048),
    ("bloom-176b", _BLOOM, 70, 14336, 112, 250880, 2048),
    ("falcon-7b", _FALCON, 32, 4544, 71, 65024, 2048),
    ("falcon-40b", _FALCON, 60, 8192, 128, 65024, 2048),
    ("falcon-180b", _FALCON, 80, 14848, 232, 65024, 2048),
    ("nemotron-340b", _NEMOTRON, 96, 18432, 96, 256000, 4096),
)
_LLAMA_ROWS = (  # name, source, layers, hidden, heads, key-value heads, MLP width, vocabulary, sequence
    ("llama-7b", _LLAMA1, 32, 4096, 32, 32, 11008, 32000, 2048),
    ("llama-13b", _LLAMA1, 40, 5120, 40, 40, 13824, 32000, 2048),
    ("llama-33b", _LLAMA1, 60, 6656, 52, 52, 17920, 32000, 2048),
    ("llama-65b", _LLAMA1, 80, 8192, 64, 64, 22016, 32000, 2048),
    ("llama2-7b", _LLAMA2, 32, 4096, 32, 32, 11008, 32000, 4096),
    ("llama2-13b", _LLAMA2, 40, 5120, 40, 40, 13824, 32000, 4096),
    ("llama2-70b", _LLAMA2, 80, 8192, 64, 8, 28672, 32000, 4096),
    ("llama3-8b", _LLAMA3, 32, 4096, 32, 8, 14336, 128256, 8192),
    ("llama3-70b", _LLAMA3, 80, 8192, 64, 8, 28672, 128256, 8192),
    ("llama3-405b", _LLAMA3, 126, 16384, 128, 8, 53248, 128256, 8192),
    ("mistral-7b", _MISTRAL, 32, 4096, 32, 8, 14336, 32000, 8192),
    ("qwen2.5-7b", _QWEN25, 28, 3584, 28, 4, 18944, 152064, 4096),
    ("qwen2.5-14b", _QWEN25, 48, 5120, 40, 8, 13824, 152064, 4096),
    ("qwen2.5-32b", _QWEN25, 64, 5120, 40, 8, 27648, 152064, 4096),
    ("qwen2.5-72b", _QWEN25, 80, 8192, 64, 8, 29568, 152064, 4096),
    ("qwen3-8b", _QWEN3, 36, 4096, 32, 8, 12288, 151936, 4096),
    ("qwen3-14b", _QWEN3, 40, 5120, 40, 8, 17408, 151936, 4096),
    ("qwen3-32b", _QWEN3, 64, 5120, 64, 8, 25600, 151936, 4096),
    ("gemma-2b", _GEMMA, 18, 2048, 8, 1, 16384, 256000, 8192),
    ("gemma-7b", _GEMMA, 28, 3072, 16, 16, 24576, 256000, 8192),
    ("glm-130b", _GLM, 70, 12288, 96, 96, 32768, 150528, 2048),
)
_OTHERS = (
    llama(
        "llama3.2-1b", _LLAMA32, num_layers=16, hidden=2048, num_heads=32, num_kv_heads=8, ffn=8192,
        vocab=128256, sequence=8192, tied=True,
    ),
    llama(
        "llama3.2-3b", _LLAMA32, num_layers=28, hidden=3072, num_heads=24, num_kv_heads=8, ffn=8192,
        vocab=128256, sequence=8192, tied=True,
    ),
    llama(
        "mixtral-8x7b", _MIXTRAL, num_layers=32, hidden=4096, num_heads=32, num_kv_heads=8, ffn=14336,
        vocab=32000, sequence=32768, num_experts=8, experts_per_token=2,
    ),
    llama(
        "mixtral-8x22b", _MIXTRAL22, num_layers=56, hidden=6144, num_heads=48, num_kv_heads=8, ffn=16384,
        vocab=32000, sequence=65536, num_experts=8, experts_per_token=2,
    ),
    llama(
        "deepseek-v2", _DEEPSEEK2, num_layers=60, hidden=5120, num_heads=128, num_kv_heads=128, ffn=1536,
        vocab=102400, sequence=4096, num_experts=160, experts_per_token=6,
    ),
    llama(
        "deepseek-v3", _DEEPSEEK3, num_layers=61, hidden=7168, num_heads=128, num_kv_heads=128, ffn=2048,
        vocab=129280, sequence=4096, num_experts=256, experts_per_token=8,
    ),
    llama(
        "qwen3-30b-a3b", _QWEN3_MOE, num_layers=48, hidden=2048, num_heads=32, num_kv_heads=4, ffn=768,
        vocab=151936, sequence=4096, num_experts=128, experts_per_token=8,
    ),
    llama(
        "qwen3-235b-a22b", _QWEN3_MOE, num_layers=94, hidden=4096, num_heads=64, num_kv_heads=4, ffn=1536,
        vocab=151936, sequence=4096, num_experts=128, experts_per_token=8,
    ),
    llama(
        "llama4-scout", _LLAMA4, num_layers=48, hidden=5120, num_heads=40, num_kv_heads=8, ffn=8192,
        vocab=202048, sequence=8192, num_experts=16, experts_per_token=1,
    ),
    llama(
        "llama4-maverick", _LLAMA4, num_layers=48, hidden=5120, num_heads=40, num_kv_heads=8, ffn=8192,
        vocab=202048, sequence=8192, num_experts=128, experts_per_token=1,
    ),
)  # fmt: skip

_DEEPSEEK_ATTENTION = LatentAttention(q_rank=1536, kv_rank=512, rope_size=64, value_size=128)


_CHANGES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {  # where a model is not built like the others of its table
        "qwen3-32b": {"head_size": 128},
        "gemma-2b": {"head_size": 256, "tied": True},
        "gemma-7b": {"head_size": 256, "tied": True},
        "glm-130b": {"biases": True, "tied": True},
        "bloom-176b": {"positions": 0, "dropout": False},
        "falcon-7b": {"positions": 0, "dropout": False, "biases": False, "num_kv_heads": 1},
        "falcon-40b": {"positions": 0, "dropout": False, "biases": False, "num_kv_heads": 8},
        "falcon-180b": {"positions": 0, "dropout": False, "biases": False, "num_kv_heads": 8},
        "nemotron-340b": {"positions": 0, "dropout": False, "biases": False, "tied": False, "num_kv_heads": 8},
        "deepseek-v2": {  # 2 shared experts of 1536; a head's query is 128 and 64 rotated ones wide
            "head_size": 192, "latent": _DEEPSEEK_ATTENTION, "shared_ffn": 3072, "first_dense": 1, "dense_ffn": 12288,
        },
        "deepseek-v3": {
            "head_size": 192, "latent": _DEEPSEEK_ATTENTION, "shared_ffn": 2048, "first_dense": 3, "dense_ffn": 18432,
        },
        "qwen3-30b-a3b": {"head_size": 128},
        "qwen3-235b-a22b": {"head_size": 128},
        "llama4-scout": {"shared_ffn": 8192},
        "llama4-maverick": {"shared_ffn": 8192, "sparse_step": 2, "dense_ffn": 16384},
    }
)  # fmt: skip


def _all() -> dict[str, Transformer]:
    gpts = [
        gpt(name, source, num_layers=layers, hidden=hidden, num_heads=heads, vocab=vocab, sequence=sequence)
        for name, source, layers, hidden, heads, vocab, sequence in _GPT_ROWS
    ]
    llamas = [
        llama(
            name, source, num_layers=layers, hidden=hidden, num_heads=heads, num_kv_heads=kv_heads, ffn=ffn,
            vocab=vocab, sequence=sequence,
        )
        for name, source, layers, hidden, heads, kv_heads, ffn, vocab, sequence in _LLAMA_ROWS
    ]  # fmt: skip
    models = (*gpts, *llamas, *_OTHERS)
    return {model.name: replace(model, **_CHANGES.get(model.name, {})) for model in models}


MODELS: Mapping[str, Transformer] = MappingProxyType(_all())


def get_model(name: str) -> Transformer:
    """The model of that name, in any case.

    Raises:
        InputError: the name is unknown, or a folder; lists the known ones.
    """
    if name.lower() not in MODELS and Path(name).is_dir():
        raise InputError(f"model {name!r} is a folder; name the config.json in it, as in {Path(name) / 'config.json'}")
    if name.lower() not in MODELS:
        raise InputError(f"model {name!r} {unknown(name, MODELS)}")
    return MODELS[name.lower()]
