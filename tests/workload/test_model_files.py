# SPDX-License-Identifier: Apache-2.0
"""Models that are no preset: config.json of Hugging Face, and shapes by their numbers."""

import json
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.workload.model_files import model_from_shape, read_config
from commbench.workload.presets import get_model
from tests.workload.shapes import num_parameters

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip
BLOOM = {"model_type": "bloom", "n_layer": 70, "n_embd": 14336, "n_head": 112, "vocab_size": 250880}
FALCON = {
    "model_type": "falcon", "num_hidden_layers": 32, "hidden_size": 4544, "num_attention_heads": 71,
    "vocab_size": 65024, "multi_query": True, "bias": False,
}  # fmt: skip


def config(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(changes))
    return path


def test_a_config_gives_the_shape_of_the_preset(tmp_path: Path) -> None:
    assert num_parameters(read_config(config(tmp_path, **LLAMA))) == num_parameters(get_model("llama3-8b"))


@pytest.mark.parametrize(("given", "billions"), [(BLOOM, 176.2), (FALCON, 6.92)])
def test_published_parameter_counts_come_out(tmp_path: Path, given: dict[str, object], billions: float) -> None:
    assert num_parameters(read_config(config(tmp_path, **given))) / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mistral-7b", 7.24), ("qwen2.5-7b", 7.62), ("qwen2.5-72b", 72.7), ("qwen3-8b", 8.19), ("qwen3-32b", 32.8),
        ("gemma-2b", 2.51), ("gemma-7b", 8.54), ("bloom-176b", 176.2), ("opt-175b", 175), ("opt-66b", 66),
        ("mt-nlg-530b", 530), ("falcon-40b", 41.8), ("falcon-180b", 179), ("glm-130b", 130),
    ],
)  # fmt: skip
def test_presets_have_the_published_number_of_parameters(name: str, billions: float) -> None:
    assert num_parameters(get_model(name)) / 1e9 == pytest.approx(billions, rel=0.012)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma3"}, "layers that differ in their attention, which no shape here has"),
        ({"model_type": "lama"}, "model_type 'lama' is unknown; did you mean llama?"),
        ({"model_type": None}, "model_type is missing"),
        ({"intermediate_size": None}, "intermediate_size is missing"),
        ({"vocab_size": "many"}, "vocab_size = 'many' must be a whole number above 0"),
        ({"num_attention_heads": 33}, "hidden 4096 is not divisible by num_heads 33"),
    ],
)
def test_a_config_that_does_not_serve_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_config(config(tmp_path, **(LLAMA | changes)))
    assert message in str(caught.value)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"is no config\.json"):
        read_config(tmp_path / "config.json")


def test_a_model_by_its_numbers_is_the_preset_with_these() -> None:
    shape = {"num_layers": 24, "hidden": 2048, "num_heads": 16, "vocab": 50257, "sequence": 2048}
    assert num_parameters(model_from_shape(shape, None)) == num_parameters(get_model("gpt3-1.3b"))


def test_changed_numbers_take_what_follows_with_them() -> None:
    wide = model_from_shape({"hidden": 4096, "num_heads": 32}, get_model("gpt3-1.3b"))
    assert (wide.head_size, wide.num_kv_heads, wide.ffn) == (128, 32, 16384)
    assert wide.name == "gpt3-1.3b with hidden 4096, num_heads 32, head_size 128, num_kv_heads 32, ffn 16384"
