# SPDX-License-Identifier: Apache-2.0
"""Models that are no preset: config.json of Hugging Face, and shapes by their numbers."""

import json
from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.workload.model_files import model_from_shape, read_config
from commbench.workload.presets import MODELS, get_model
from commbench.workload.transformer import Transformer
from tests.workload.shapes import num_parameters

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip
BLOOM = {
    "model_type": "bloom", "n_layer": 70, "n_embd": 14336, "n_head": 112, "vocab_size": 250880, "seq_length": 2048,
}  # fmt: skip
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
    found = read_config(config(tmp_path, **given), sequence=2048)
    assert num_parameters(found) / 1e9 == pytest.approx(billions, rel=0.005)


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
        ({"num_attention_heads": 33}, "num_attention_heads = 33 must divide hidden_size 4096, or head_dim be given"),
        ({"num_key_value_heads": 5}, "config.json: model test_a_config_that_does_not_se"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings = 'false' must be true or false"),
        ({"max_position_embeddings": None}, "max_position_embeddings is missing; or give --sequence"),
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


HEADS_OF_THEIR_OWN = [name for name, one in MODELS.items() if one.head_size * one.num_heads != one.hidden]


@pytest.mark.parametrize("name", HEADS_OF_THEIR_OWN)
@pytest.mark.parametrize("given", [{"num_heads": 128}, {"hidden": 8192}, {"hidden": 8192, "num_heads": 128}], ids=str)
def test_a_head_size_of_its_own_stays(name: str, given: dict[str, int]) -> None:
    """As qwen3-32b's, whose 64 heads of 128 are wider than 5120: other heads do not make each of them smaller."""
    before = get_model(name)
    assert model_from_shape(given, before).head_size == before.head_size


def test_head_sizes_of_their_own_are_met() -> None:
    assert {"qwen3-32b", "gemma-7b", "deepseek-v3", "qwen3-235b-a22b"} <= set(HEADS_OF_THEIR_OWN)


@pytest.mark.parametrize("base", [None, get_model("gpt3-1.3b")], ids=["new", "changed"])
def test_a_head_size_that_is_given_lets_heads_not_divide_the_width(base: Transformer | None) -> None:
    """12 heads of 64 beside a width of 1000, in a new model and in a changed one."""
    shape = {"num_layers": 4, "hidden": 1000, "num_heads": 12, "head_size": 64, "vocab": 32000, "sequence": 1024}
    assert model_from_shape(shape, base).head_size == 64


def test_a_config_may_have_heads_that_do_not_divide_the_width(tmp_path: Path) -> None:
    """As gpt-oss has, 64 heads of 64 beside a width of 2880."""
    own = {"hidden_size": 2872, "num_attention_heads": 64, "head_dim": 64}
    assert read_config(config(tmp_path, **(LLAMA | own))).head_size == 64


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({"num_kv_heads": 71}, 1),  # as transformers writes falcon-7b, which has one
        ({"multi_query": False}, 71),
        ({"num_kv_heads": 71, "multi_query": False}, 71),
        ({"new_decoder_architecture": True, "num_attention_heads": 64, "num_kv_heads": 8}, 8),
    ],
)
def test_key_value_heads_of_falcon(tmp_path: Path, changes: dict[str, object], heads: int) -> None:
    """One head of keys for all (multi_query) unless it is of the new form, whatever num_kv_heads says."""
    found = read_config(config(tmp_path, **(FALCON | {"hidden_size": 4544} | changes)), sequence=2048)
    assert found.num_kv_heads == heads


def test_a_sequence_is_that_of_the_file_or_given(tmp_path: Path) -> None:
    assert read_config(config(tmp_path, **LLAMA), sequence=100).sequence == 8192
    assert read_config(config(tmp_path, **FALCON), sequence=100).sequence == 100


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "mistral", "sliding_window": 4096}, True),
        ({"model_type": "mistral", "sliding_window": None}, False),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, False),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True}, True),
    ],
)
def test_a_sliding_window_is_said_to_be_left_out(tmp_path: Path, changes: dict[str, object], told: bool) -> None:
    source = read_config(config(tmp_path, **(LLAMA | changes))).source
    assert ("its sliding window of 4096 tokens is not modelled" in source) is told


def test_a_folder_is_told_from_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; name the config\.json in it, as in .*/config\.json$"):
        get_model(str(tmp_path))
