# SPDX-License-Identifier: Apache-2.0
"""Constants of training steps: where they come from, how kernels take them, and what a file of the user's may say."""

from pathlib import Path

import pytest

from commbench.errors import InputError
from commbench.workload.operator import Matmul, Work
from commbench.workload.step_costs import read_step_costs
from commbench.workload.step_efficiency import step_efficiency

COSTS = read_step_costs()


def test_every_constant_says_where_it_comes_from() -> None:
    for names in COSTS.constants.values():
        for own in names.values():
            for one in own.values():
                assert one.provenance in ("measured", "fitted", "vendor", "assumed")
                assert one.source


def test_a_device_belongs_to_the_longest_type_that_its_name_begins_with() -> None:
    assert COSTS.device_key("grand-teton-h100-96gb") == "grand-teton-h100"
    assert COSTS.device_key("h100-sxm5-80gb") == "h100"
    assert COSTS.device_key("gb10-128gb") is None


def test_attention_goes_by_kernel_pass_and_head_size() -> None:
    a100 = COSTS.device("a100-sxm4-80gb")
    assert a100 is not None
    flash = step_efficiency(a100, "a100-sxm4-80gb", "bf16", "flash-1")
    forward, backward = (Work(flops=1, kernel=kernel) for kernel in ("flash", "flash-backward"))
    assert (flash.of(forward, core=True), flash.of(backward, core=True)) == (a100.flash_1, a100.flash_1_backward)
    plain = step_efficiency(a100, "a100-sxm4-80gb", "bf16", "unfused")
    even, odd = (Work(flops=1, kernel="batched", matmul=Matmul(2048, 2048, size, 8)) for size in (104, 108))
    assert plain.of(even, core=True) == pytest.approx(a100.odd_heads * plain.of(odd, core=True))


def test_products_go_by_measured_shape_and_far_ones_by_the_nearest() -> None:
    a100 = COSTS.device("a100-sxm4-80gb")
    assert a100 is not None
    matrix = step_efficiency(a100, "a100-sxm4-80gb", "bf16", "flash-2").matrix
    assert callable(matrix)
    assert matrix(Matmul(256, 256, 256)) < 0.2 < 0.6 < matrix(Matmul(4096, 8192, 8192))
    assert matrix(Matmul(4096, 8, 4096)) == matrix(Matmul(4096, 256, 4096))


def test_products_in_eight_bits_go_by_their_own_shapes_and_casts_by_the_device_alone() -> None:
    """Of H100, H200 and H800, one chip, the same table; no stack's memory passes slow a cast."""
    found = {}
    for name in ("h100-sxm5-80gb", "h200-sxm-141gb"):
        costs = COSTS.device(name)
        assert costs is not None
        own = step_efficiency(costs, name, "fp8", "flash-2", COSTS.stack("fsdp"))
        assert callable(own.matrix)
        assert own.casts == pytest.approx(costs.memory)
        assert own.memory == pytest.approx(costs.memory / COSTS.stack("fsdp").memory_passes, rel=1e-3)
        found[name] = own.matrix(Matmul(4096, 8192, 8192)) / costs.products_fp8
        assert own.matrix(Matmul(256, 256, 256)) < 0.1
    assert len({round(value, 9) for value in found.values()}) == 1
    assert 0.5 < found["h100-sxm5-80gb"] < 0.75


def test_blackwell_has_constants_and_says_what_they_are_made_of() -> None:
    for name in ("b200-sxm-180gb", "gb200-186gb"):
        words = COSTS.device_words(name, "flash-3", ("matrix", "attention", "memory"))
        assert "products 0.95 (assumed)" in words
        assert "flash 3 0.48 (measured)" in words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stack: {}", "stack is unknown; did you mean stacks?"),
        ("stacks: {megatron: {host: 1 ms}}", "stacks.megatron.host is unknown; did you mean host_"),
        ("stacks: {megatron: {host_pass: 1}}", "stacks.megatron.host_pass = 1: "),
        ("stacks: {megatron: {memory_passes: -1}}", "must be 0 or more"),
        ("stacks: {mine: {host_pass: 1 ms}}", "stacks.mine has no host_call, host_step"),
        ("stacks: {megatron: {host_pass: {value: 1 ms}}}", "give value, provenance (measured, fitted,"),
        ("stacks: {megatron: 1 ms}", "stacks.megatron must be a mapping"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml, line 1: ") as caught:
        read_step_costs(tmp_path / "mine.yaml")
    assert message in str(caught.value)


def test_a_file_names_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("stacks: {megatron: {host_pass: 2 ms}}")
    mine = read_step_costs(tmp_path / "mine.yaml")
    assert mine.stack("megatron").host_pass_s == 2e-3
    assert mine.stack("megatron").memory_passes == read_step_costs().stack("megatron").memory_passes
    assert mine.constants["stacks"]["megatron"]["host_pass_s"].provenance == "assumed"
