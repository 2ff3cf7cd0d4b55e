# SPDX-License-Identifier: Apache-2.0
"""The correctness check itself: exact in every dtype, and able to fail."""

import pytest

torch = pytest.importorskip("torch")

from commbench.live.check import count_wrong, fill_input  # noqa: E402  needs torch

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64)


def _sum(num_ranks: int, num_elements: int, dtype: "torch.dtype", order: int = 1) -> "torch.Tensor":
    """The ranks' inputs added one after the other in the dtype itself."""
    total = torch.zeros(num_elements, dtype=dtype)
    for rank in range(num_ranks)[::order]:
        row = torch.empty(num_elements, dtype=dtype)
        fill_input(row, rank, num_ranks)
        total += row
    return total


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_ranks", [1, 2, 7, 64, 300])
def test_sums_are_exact_in_any_order(dtype: "torch.dtype", num_ranks: int) -> None:
    for order in (1, -1):
        assert count_wrong("all-reduce", _sum(num_ranks, 20_000, dtype, order), num_ranks) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_wrong_element_counts(dtype: "torch.dtype") -> None:
    total = _sum(4, 1000, dtype)
    total[[3, 500, 999]] += 1
    assert count_wrong("all-reduce", total, 4) == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_ranks", [2, 64, 200])
def test_a_chunk_in_anothers_place_shows(dtype: "torch.dtype", num_ranks: int) -> None:
    total = _sum(num_ranks, 4096, dtype)
    for chunk in (1, 2, 64, 1024, 2048):
        moved = total.roll(chunk)
        assert count_wrong("all-reduce", moved, num_ranks) > 1000, chunk


def test_ranks_differ() -> None:
    rows = [torch.empty(1000) for _ in range(3)]
    for rank, row in enumerate(rows):
        fill_input(row, rank, 3)
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[1], rows[2])
